"""The paper's recipe and what it builds: optimiser, schedule, augmentation, network."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.optim import create_optimizer_v2
from torch import nn

from ghostlib.config import ConfigError
from ghostlib.models.reparam import RepConv
from ghostlib.training.build import build_mixup, build_network, build_optimizer, build_scheduler
from ghostlib.training.recipe import (
    PAPER_ITERATIONS,
    Recipe,
    scaled_decay,
)

steady = settings(max_examples=50, deadline=None, derandomize=True)

# What the paper says, by section; what it leaves open is as the comments in the recipe say.
PAPER = dict(
    network="ghostnetv2_130", branches=3, scale=True,  # §5.1
    teacher="BEiTv2-B", alpha=0.5, tau=1.0,  # §5.2
    optimizer="lamb", batch_size=2048, epochs=600, lr=0.005, momentum=0.9, weight_decay=0.05,
    schedule="cosine", min_lr=0.0, ema_decay=0.9999, ema_decays=(0.99, 0.999, 0.9999, 0.99995, 0.99999),  # §5.3
    auto_augment="randaugment", mixup=0.0, cutmix=0.0)  # §5.4
OPEN = dict(
    skip=True, branch_gamma="one", branch_norm_lr="whole", dropout=0.0, lr_scale=1.0, max_grad_norm=1.0,
    warmup=5 / 600, warmup_lr=1e-6, step_interval=2.4 / 450, step_rate=0.973, rand_magnitude=9, erasing=0.25,
    label_smoothing=0.0, crop_scale=(0.08, 1.0), hflip=0.5)


class Branched(nn.Module):
    """A 1×1 site of two branches and a 3×3 depth-wise one of four: two, the 1×1 one, the BN-only one."""

    def __init__(self):
        super().__init__()
        self.narrow = RepConv(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4), branches=2)
        self.wide = RepConv(nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False), nn.BatchNorm2d(4), branches=2)
        self.norm = nn.BatchNorm2d(4)


class Tiny(nn.Module):
    """A matrix, a convolution and every kind of one-dimensional parameter."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)
        self.scale = nn.Parameter(torch.ones(()))
        self.frozen = nn.Parameter(torch.ones(2, 2), requires_grad=False)


# -- values


def test_the_defaults_are_the_papers_and_nothing_else():
    assert Recipe().model_dump() == {**PAPER, **OPEN}


def test_a_recipe_cannot_be_changed():
    recipe = Recipe()
    with pytest.raises(ValueError, match="frozen"):
        recipe.lr = 1.0
    assert recipe.lr == 0.005


@pytest.mark.parametrize(("wrong", "right"), [
    ("epoch", "epochs"), ("learning_schedule", "schedule"), ("weight_decy", "weight_decay"), ("ema_dcay", "ema_decay"),
    ("Tau", "tau"), ("batchsize", "batch_size"), ("mix_up", "mixup"), ("randmagnitude", "rand_magnitude")])
def test_an_unknown_key_proposes_the_nearest(wrong, right):
    with pytest.raises(ConfigError, match=f"unknown key {wrong!r}; did you mean {right!r}"):
        Recipe.parse({wrong: 1})


@pytest.mark.parametrize(("key", "value", "allowed"), [
    ("branches", -1, "greater than or equal to 0"), ("branches", 2.5, "integer"),
    ("dropout", 1.0, "less than 1"), ("dropout", -0.1, "greater than or equal to 0"),
    ("alpha", 1.1, "less than or equal to 1"), ("alpha", -0.1, "greater than or equal to 0"),
    ("tau", 0, "greater than 0"),
    ("optimizer", "adam", "'lamb', 'rmsproptf' or 'sgd'"),
    ("batch_size", 1, "greater than or equal to 2"), ("epochs", 0, "greater than or equal to 1"),
    ("lr", 0, "greater than 0"), ("lr", math.nan, "finite"), ("lr", math.inf, "finite"),
    ("weight_decay", math.inf, "finite"), ("lr_scale", -1, "greater than 0"),
    ("momentum", 1, "less than 1"), ("weight_decay", -0.05, "greater than or equal to 0"),
    ("max_grad_norm", 0, "greater than 0"),
    ("schedule", "cosine_0", "'cosine' or 'step'"),
    ("min_lr", -1e-5, "greater than or equal to 0"), ("warmup", 5, "less than or equal to 1"),
    ("warmup_lr", -1, "greater than or equal to 0"), ("step_interval", 2.4, "less than or equal to 1"),
    ("step_interval", 0, "greater than 0"), ("step_rate", 1.1, "less than or equal to 1"),
    ("step_rate", 0, "greater than 0"),
    ("ema_decay", 1.0, "less than 1"), ("ema_decays", (), "at least 1 item"),
    ("auto_augment", "trivial", "'randaugment' or 'autoaugment'"),
    ("rand_magnitude", 4, "greater than or equal to 5"), ("rand_magnitude", 7.5, "integer"),
    ("rand_magnitude", 11, "less than or equal to 10"),
    ("erasing", 25, "less than or equal to 1"), ("mixup", -0.2, "greater than or equal to 0"),
    ("cutmix", -1, "greater than or equal to 0"), ("label_smoothing", 2, "less than or equal to 1"),
    ("hflip", -0.5, "greater than or equal to 0")])
def test_an_impossible_value_names_its_key_and_what_is_allowed(key, value, allowed):
    with pytest.raises(ConfigError) as error:
        Recipe.parse({key: value}, "params.yaml: recipe")
    line = next(line for line in str(error.value).splitlines() if f" {key} = " in line)
    assert line.startswith(f"params.yaml: recipe: {key} = {value!r}: ") and allowed in line


@pytest.mark.parametrize(("values", "told"), [
    (dict(ema_decay=0.5), "ema_decay = 0.5 is not among the tracked ema_decays"),
    (dict(ema_decays=[0.9]), "ema_decay = 0.9999 is not among"),
    (dict(crop_scale=[0.5, 0.2]), r"crop_scale = \(0.5, 0.2\) must be \(least, most\)"),
    (dict(crop_scale=[0, 0]), "crop_scale"),
    (dict(batch_size=7, mixup=0.2), "batch_size = 7 must be even"),
    (dict(batch_size=7, cutmix=1.0), "batch_size = 7 must be even"),
    (dict(network="ghostnetv2_120"), "network = 'ghostnetv2_120' is unknown; known: .*ghostnetv2_130"),
    (dict(network="ghostnetv3_130"), "'ghostnetv3_130': name the network that is deployed, 'ghostnetv2_130'")])
def test_values_that_contradict_each_other_are_named(values, told):
    with pytest.raises(ConfigError, match=told):
        Recipe.parse(values)


def test_an_odd_batch_is_fine_without_mixup():
    assert Recipe.parse({"batch_size": 7}).batch_size == 7


@pytest.mark.parametrize(("values", "label"), [
    ({}, "rand-m9-mstd0.5"), ({"rand_magnitude": 5}, "rand-m5-mstd0.5"),
    ({"auto_augment": "autoaugment"}, "original"), ({"auto_augment": None}, None)])
def test_augmentation_is_named_as_timm_names_it(values, label):
    assert Recipe(**values).augmentation == label


@pytest.mark.parametrize("values", [{}, {"rand_magnitude": 5}, {"rand_magnitude": 10}], ids=str)
def test_timm_understands_the_magnitude_of_the_label(values):
    from timm.data.auto_augment import rand_augment_transform

    recipe = Recipe(**values)
    transform = rand_augment_transform(recipe.augmentation, {})
    assert {op.magnitude for op in transform.ops} == {recipe.rand_magnitude}
    assert {op.magnitude_std for op in transform.ops} == {0.5}


# -- learning rate


def test_the_effective_rate_at_the_papers_batch_is_the_papers():
    assert Recipe().effective_lr == 5e-3


@given(lr=st.floats(1e-5, 1), scale=st.floats(0.1, 50), batch=st.integers(2, 8192))
@steady
def test_the_effective_rate_goes_with_the_square_root_of_the_batch(lr, scale, batch):
    recipe = Recipe(lr=lr, lr_scale=scale, batch_size=batch)
    assert recipe.effective_lr == pytest.approx(lr * scale * math.sqrt(batch / 2048))
    quadruple = recipe.model_copy(update={"batch_size": 4 * batch})
    assert quadruple.effective_lr == pytest.approx(2 * recipe.effective_lr)


def rates(recipe: Recipe, iterations: int, at: list[int]) -> list[float]:
    optimizer = build_optimizer(recipe, Tiny())
    scheduler = build_scheduler(recipe, optimizer, iterations)
    found = []
    for i in at:
        scheduler.step_update(i)
        (rate,) = {group["lr"] for group in optimizer.param_groups}
        found.append(rate)
    return found


def cosine(i: int, iterations: int, most: float, least: float) -> float:
    return least + (most - least) * (1 + math.cos(math.pi * i / iterations)) / 2


@pytest.mark.parametrize("min_lr", [0.0, 1e-5, 1e-3])
def test_the_cosine_begins_at_the_rate_passes_the_mean_and_ends_at_the_minimum(min_lr):
    recipe = Recipe(min_lr=min_lr, warmup=0)
    first, middle, last = rates(recipe, 1000, [0, 500, 1000])
    assert first == pytest.approx(5e-3)
    assert middle == pytest.approx((5e-3 + min_lr) / 2)
    assert last == min_lr


@pytest.mark.parametrize(("change", "factor"), [({"lr_scale": 20}, 20), ({"batch_size": 512}, 0.5),
                                                ({"lr_scale": 20, "batch_size": 8192}, 40)], ids=str)
@pytest.mark.parametrize("schedule", ["cosine", "step"])
def test_batch_and_profile_scale_every_rate_of_the_schedule_alike(schedule, change, factor):
    options = dict(schedule=schedule, min_lr=1e-4, warmup=0.1, warmup_lr=1e-6)
    at = [0, 50, 100, 500, 999, 1000]
    plain, scaled = (rates(Recipe(**options, **of), 1000, at) for of in ({}, change))
    assert scaled == pytest.approx([factor * rate for rate in plain])
    assert Recipe(**change).rate_scale == pytest.approx(factor)


@given(iterations=st.integers(10, 5000), share=st.floats(0, 1), warmup=st.floats(0, 0.5),
       min_lr=st.sampled_from([0.0, 1e-5, 1e-3]), batch=st.sampled_from([64, 2048]))
@steady
def test_every_rate_is_the_warm_ups_or_the_cosines(iterations, share, warmup, min_lr, batch):
    recipe = Recipe(warmup=warmup, min_lr=min_lr, batch_size=batch, warmup_lr=1e-4)
    i = round(share * (iterations - 1))
    until = round(warmup * iterations)
    (rate,) = rates(recipe, iterations, [i])
    peak = recipe.effective_lr
    first, least = (peak / recipe.lr * rate for rate in (1e-4, min_lr))
    expected = first + (peak - first) * i / until if i < until else cosine(i, iterations, peak, least)
    assert rate == pytest.approx(expected, rel=1e-9)


def test_the_warm_up_rises_evenly_from_its_first_rate():
    found = rates(Recipe(warmup=0.1, warmup_lr=1e-3), 100, [*range(11)])
    assert found[0] == pytest.approx(1e-3) and found[10] == pytest.approx(cosine(10, 100, 5e-3, 0))
    assert [b - a for a, b in zip(found[:9], found[1:10], strict=True)] == pytest.approx([4e-4] * 9)


def test_the_papers_warm_up_is_five_of_600_epochs():
    rising = rates(Recipe(), PAPER_ITERATIONS, [0, 5 * 626 - 1, 5 * 626])
    assert rising[0] == pytest.approx(1e-6) and 0.998 * 5e-3 < rising[1] < 5e-3
    assert rising[2] == pytest.approx(cosine(5, 600, 5e-3, 0))


def test_a_rate_does_not_depend_on_the_updates_before():
    recipe = Recipe(warmup=0.1)
    forwards = rates(recipe, 100, [*range(100)])
    assert rates(recipe, 100, [*reversed(range(100))]) == forwards[::-1]


def test_the_step_schedule_decays_once_an_interval():
    recipe = Recipe(schedule="step", step_interval=0.1, step_rate=0.5, warmup=0)
    found = rates(recipe, 1000, [0, 99, 101, 550, 999])
    assert found == pytest.approx([5e-3 * 0.5**k for k in (0, 0, 1, 5, 9)])


def test_the_step_interval_is_a_share_of_the_training():
    recipe = Recipe(schedule="step", step_interval=0.25, warmup=0)
    shares = [0, 0.2, 0.3, 0.6, 0.9]
    short, long = (rates(recipe, n, [round(n * share) for share in shares]) for n in (100, 4000))
    assert short == long and len(set(short)) == 4


def test_the_default_step_schedule_decays_187_times():
    recipe = Recipe(schedule="step", warmup=0)  # 450 epochs by 2.4 are 187.5 intervals
    assert rates(recipe, 45_000, [44_999]) == pytest.approx([5e-3 * 0.973**187])


def test_the_step_schedule_ends_at_the_minimum_too():
    recipe = Recipe(schedule="step", step_interval=0.25, step_rate=0.1, min_lr=1e-4, warmup=0.1, warmup_lr=1e-5)
    assert rates(recipe, 100, [0, 10, 30, 60, 90]) == pytest.approx([1e-5, 5e-3, 5e-4, 1e-4, 1e-4])


def test_the_step_schedule_warms_up_too():
    recipe = Recipe(schedule="step", step_interval=0.5, step_rate=0.5, warmup=0.1, warmup_lr=0)
    # The intervals count from the beginning, not from the end of the warm-up.
    assert rates(recipe, 100, [0, 5, 10, 49, 51]) == pytest.approx([0, 2.5e-3, 5e-3, 5e-3, 2.5e-3])


# -- averaging


def test_the_papers_decays_stay_in_a_run_as_long_as_the_papers():
    assert PAPER_ITERATIONS == 375_600
    for decay in Recipe().ema_decays:
        assert scaled_decay(decay, 375_600) == pytest.approx(decay, abs=1e-15)


@given(decay=st.floats(0, 0.999999), iterations=st.integers(1, 10**7))
@steady
def test_a_scaled_decay_averages_over_the_same_share_of_the_run(decay, iterations):
    scaled = scaled_decay(decay, iterations)
    assert 0 <= scaled < 1
    share = 1 / (1 - decay) / 375_600
    if scaled > 0:
        assert 1 / (1 - scaled) / iterations == pytest.approx(share, rel=1e-6)
    else:
        assert share * iterations <= 1 + 1e-9  # less than one step


@given(decay=st.floats(0, 0.99999), more=st.floats(0, 0.99999), iterations=st.integers(1, 10**6))
@steady
def test_scaling_keeps_the_order_of_decays(decay, more, iterations):
    low, high = sorted((decay, more))
    assert scaled_decay(low, iterations) <= scaled_decay(high, iterations)


def test_a_decay_of_less_than_one_step_is_no_average():
    # 60 steps: one of the paper's averages over 375,600 / 60 = 6,260 of its own
    assert scaled_decay(0.99, 60) == scaled_decay(0.999, 60) == scaled_decay(1 - 1 / 6259, 60) == 0
    assert scaled_decay(1 - 1 / 6261, 60) > 0


@pytest.mark.parametrize(("decay", "iterations", "expected"), [
    (0.9999, 3756, 0.99), (0.99999, 3756, 0.999), (0.99, 3756, 0.0), (0.99995, 37_560, 0.9995)])
def test_scaled_decays_of_short_runs(decay, iterations, expected):
    assert scaled_decay(decay, iterations) == pytest.approx(expected, abs=1e-12)


# -- optimiser


@pytest.mark.parametrize("name", ["lamb", "rmsproptf", "sgd"])
def test_one_dimensional_parameters_are_not_decayed(name):
    model = Tiny()
    optimizer = build_optimizer(Recipe(optimizer=name, weight_decay=0.07), model)
    decay_of = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    found = {key: decay_of.get(id(p)) for key, p in model.named_parameters()}
    assert found == {"conv.weight": 0.07, "head.weight": 0.07, "conv.bias": 0, "norm.weight": 0, "norm.bias": 0,
                     "head.bias": 0, "scale": 0, "frozen": None}


@pytest.mark.parametrize("name", ["lamb", "sgd"])
def test_without_gradients_a_step_shrinks_only_matrices(name):
    model = Tiny()
    before = {key: p.detach().clone() for key, p in model.named_parameters()}
    optimizer = build_optimizer(Recipe(optimizer=name, lr=0.1, weight_decay=0.5), model)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for key, parameter in model.named_parameters():
        if key in ("conv.weight", "head.weight"):
            assert parameter.norm() < 0.99 * before[key].norm()
        else:
            assert torch.equal(parameter, before[key])


def test_branches_and_their_normalisations_are_optimised_too():
    network = build_network(Recipe(network="ghostnetv2_100"), 3, width_scale=0.1)
    optimizer = build_optimizer(Recipe(), network)
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in network.parameters()}
    for group in optimizer.param_groups:
        assert {p.ndim > 1 for p in group["params"]} == {group["weight_decay"] > 0}


def test_the_optimisers_get_the_recipes_numbers():
    lamb = build_optimizer(Recipe(momentum=0.8, batch_size=512, max_grad_norm=2.0), Tiny())
    assert type(lamb).__name__ == "Lamb"
    for group in lamb.param_groups:
        assert (group["lr"], group["betas"], group["eps"]) == (pytest.approx(2.5e-3), (0.8, 0.999), 1e-6)
        assert group["max_grad_norm"] == 2.0
    sgd = build_optimizer(Recipe(optimizer="sgd", momentum=0.8), Tiny()).param_groups[0]
    assert (sgd["momentum"], sgd["nesterov"]) == (0.8, True)
    rmsprop = build_optimizer(Recipe(optimizer="rmsproptf", momentum=0.8), Tiny())
    assert type(rmsprop).__name__ == "RMSpropTF"
    assert (rmsprop.param_groups[0]["momentum"], rmsprop.param_groups[0]["eps"]) == (0.8, 1e-3)


@pytest.mark.parametrize("name", ["lamb", "rmsproptf", "sgd"])
def test_every_optimiser_reduces_a_loss(name):
    torch.manual_seed(0)
    model, x = nn.Linear(4, 1), torch.randn(32, 4)
    optimizer = build_optimizer(Recipe(optimizer=name, lr=0.02, weight_decay=0), model)
    losses = []
    for _ in range(20):
        loss = (model(x) - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


# -- mixing and network


def test_there_is_no_mixup_where_the_recipe_has_none():
    assert build_mixup(Recipe(), 10) is None


@pytest.mark.parametrize("values", [{"mixup": 0.2}, {"cutmix": 1.0}, {"mixup": 0.2, "cutmix": 1.0}], ids=str)
def test_mixed_targets_are_probabilities_smoothed_as_the_recipe_says(values):
    torch.manual_seed(0)
    mixup = build_mixup(Recipe(label_smoothing=0.1, **values), 5)
    views, targets = mixup(torch.randn(4, 3, 8, 8), torch.arange(4))
    assert (mixup.mixup_alpha, mixup.cutmix_alpha) == (values.get("mixup", 0), values.get("cutmix", 0))
    assert views.shape == (4, 3, 8, 8) and targets.shape == (4, 5)
    torch.testing.assert_close(targets.sum(1), torch.ones(4))
    assert targets.min().item() == pytest.approx(0.1 / 5)


def test_a_recipe_builds_its_network_in_training_form():
    network = build_network(Recipe(branches=2, scale=False, skip=False), 4, width_scale=0.1)
    found = [module for module in network.modules() if isinstance(module, RepConv)]
    assert found and all(len(site.branches) == 2 for site in found)
    assert all(site.scale is None and site.skip is None for site in found)
    assert network.classifier.out_features == 4 and network.drop_rate == 0


def test_zero_branches_build_the_deployed_network():
    assert not any(isinstance(m, RepConv) for m in build_network(Recipe(branches=0), 4, width_scale=0.1).modules())


def test_a_width_scale_multiplies_the_width_of_the_name():
    def size(width: str, scale: float) -> int:
        network = build_network(Recipe(network=f"ghostnetv2_{width}", branches=0), 4, scale)
        return sum(parameter.numel() for parameter in network.parameters())

    assert size("160", 0.25) == size("100", 0.4) == size("050", 0.8)
    assert size("160", 0.25) > size("100", 0.25)


def test_a_recipe_builds_transformers_for_an_image_size_but_without_branches():
    recipe = Recipe(network="deit_tiny", branches=0, dropout=0.1)
    network = build_network(recipe, 4, 0.1, image_size=33, patch_size=11)
    assert network.pos_embed.shape[1] == 10
    with pytest.raises(ValueError, match="nothing to add branches to"):
        build_network(Recipe(network="deit_tiny"), 4, 0.1)


# -- parallel normalisations


def test_a_shared_gamma_begins_at_one_over_the_root_of_the_branches():
    sites = {}
    for gamma in ("one", "shared"):
        network = build_network(Recipe(network="ghostnetv2_100", branch_gamma=gamma), 10, 0.25)
        sites[gamma] = [site for site in network.modules() if isinstance(site, RepConv)]
    assert {len(site.norms) for site in sites["shared"]} == {3, 4, 5}
    for shared, one in zip(sites["shared"], sites["one"], strict=True):
        for norm, other in zip(shared.norms, one.norms, strict=True):
            torch.testing.assert_close(norm.weight, other.weight / math.sqrt(len(shared.norms)))


def test_a_shared_rate_of_parallel_normalisations_is_the_others_divided_by_their_number():
    network, recipe = Branched(), Recipe(branch_norm_lr="shared", warmup=0)
    optimizer = build_optimizer(recipe, network)
    build_scheduler(recipe, optimizer, 100).step_update(50)
    rates = {id(parameter): group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    assert len(rates) == len(list(network.parameters()))
    whole = rates[id(network.norm.weight)]
    assert whole == pytest.approx(recipe.effective_lr / 2)
    for site, branches in ((network.narrow, 2), (network.wide, 4)):
        assert len(site.norms) == branches
        assert {rates[id(parameter)] for norm in site.norms for parameter in norm.parameters()} == {whole / branches}
        assert rates[id(site.branches[1].conv.weight)] == whole


def test_whole_rates_leave_two_groups():
    assert [group["weight_decay"] for group in build_optimizer(Recipe(), Branched()).param_groups] == [0.0, 0.05]


@pytest.mark.parametrize("network", ["deit_tiny", "ghostnetv2_100"])
def test_what_is_decayed_is_what_timm_decays(network):
    recipe = Recipe(network=network, branches=0, teacher=None)
    model = build_network(recipe, 4, 0.1, image_size=33, patch_size=11)
    ours, timms = (build_optimizer(recipe, model), create_optimizer_v2(model, "lamb", weight_decay=0.05))
    decayed = [{id(p) for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
               for optimizer in (ours, timms)]
    assert decayed[0] == decayed[1] and 0 < len(decayed[0]) < len(list(model.parameters()))
