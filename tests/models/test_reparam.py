"""Re-parameterisation: the folded network is the trained one, with one convolution a site."""

from __future__ import annotations

import copy
import re

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load, save
from timm.models.ghostnet import GhostNet, _create_ghostnet
from torch import Tensor, nn

from ghostlib.models import zoo
from ghostlib.models.rep_conv import RepConv
from ghostlib.models.reparam import add_branches, load_plain, plain_state, reparameterize
from ghostlib.models.sites import GHOSTNET_EXCLUDE, survey
from tests import needs

CLASSES = 10

# Each kind writes its convolutions differently: named pairs, Sequential in Sequential, a split, a BN that activates.
NETWORKS = {
    "ghostnetv2": (lambda: zoo.create("ghostnetv2_100", CLASSES, 0.25), 33),
    "mobilenetv2": (lambda: zoo.create("mobilenetv2_100", CLASSES, 0.25), 33),
    "shufflenetv2": (lambda: zoo.create("shufflenetv2_100", CLASSES, 0.25), 33),
    "efficientnet_b0": (lambda: timm.create_model("efficientnet_b0", num_classes=CLASSES), 40),
}
# As above, but shallow: for tests that look at more than outputs.
GHOST_STAGES = [[[3, 16, 16, 0, 1]], [[3, 48, 24, 0, 2]], [[5, 72, 40, 0.25, 2]], [[5, 120, 40, 0.25, 1]]]
SMALL = {
    "ghostnetv2": (lambda: GhostNet(GHOST_STAGES, CLASSES, width=0.5, drop_rate=0, version="v2"), 33),
    "test_efficientnet": (lambda: timm.create_model("test_efficientnet", num_classes=CLASSES), 48),
}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def views_of(size: int, n: int = 4) -> Tensor:
    """Noise of another colour for each image: means over the pixels, too, differ between them."""
    return torch.randn(n, 3, size, size) + 2 * torch.randn(n, 3, 1, 1)


@torch.no_grad()
def unsettle(network: nn.Module, views: Tensor, least_var: float = 0.3) -> nn.Module:
    """Gives every BN affine parameters and statistics of its own; returns the network in evaluation mode.

    The statistics are those of what reaches the BN, disturbed, so that activations stay of order one in any depth.
    Variances are at least `least_var`: a channel that hardly varies would be blown up, rounding errors and all.
    """
    def disturb(norm: nn.BatchNorm2d, inputs: tuple[Tensor]) -> None:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, 0, 0.3)
        var, mean = torch.var_mean(inputs[0], (0, 2, 3), correction=0)
        norm.running_mean.copy_(mean + 0.3 * var.sqrt() * torch.randn_like(mean))
        norm.running_var.copy_(torch.empty_like(var).uniform_(0.5, 2).mul_(var).clamp_(min=least_var))

    hooks = [norm.register_forward_pre_hook(disturb) for norm in network.modules() if isinstance(norm, nn.BatchNorm2d)]
    network.eval()(views)
    for hook in hooks:
        hook.remove()
    return network


def train(network: nn.Module, views: Tensor) -> nn.Module:
    """A step of SGD; returns the network in evaluation mode, with the BN statistics of the new weights."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.02)
    F.cross_entropy(network(views), torch.arange(len(views)) % CLASSES).backward()
    optimizer.step()
    with torch.no_grad():
        network(views)
    return network.eval()


def millions(network: nn.Module) -> float:
    return sum(parameter.numel() for parameter in network.parameters()) / 1e6


def repconvs(network: nn.Module) -> dict[str, RepConv]:
    return {name: module for name, module in network.named_modules() if isinstance(module, RepConv)}


def assert_not_trivial(outputs: Tensor) -> None:
    """The outputs differ between inputs by far more than the tolerance they are compared with."""
    assert outputs.isfinite().all() and outputs.std(0).mean() > 0.02


# -- whole networks


@pytest.mark.parametrize("prepare", [unsettle, train], ids=["perturbed", "trained"])
@pytest.mark.parametrize("name", NETWORKS)
def test_folding_does_not_change_the_outputs_of(name, prepare):
    make, size = NETWORKS[name]
    views = views_of(size)
    # EfficientNet is deep enough to blow a channel of small variance up more than float32 can bear.
    least_var = {"least_var": 1.0} if name == "efficientnet_b0" and prepare is unsettle else {}
    network = prepare(add_branches(make()), views, **least_var)
    with torch.no_grad():
        exact, before = copy.deepcopy(network).double(), network(views)
        folded = reparameterize(network)
        assert folded is network and not repconvs(folded)
        assert_not_trivial(before)
        # In float32 rounding moves a logit by some of its own size: EfficientNet's are of order 10.
        torch.testing.assert_close(folded(views), before, atol=1e-4 * max(1, before.abs().max().item()), rtol=0)
        expected = exact(views.double())  # without rounding errors there is no difference to speak of
        torch.testing.assert_close(reparameterize(exact)(views.double()), expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_one_branch_without_extras_is_the_original_network(name):
    make, size = NETWORKS[name]
    views = views_of(size)
    original = unsettle(make(), views, least_var=0.02)
    expected = original(views)
    expanded = add_branches(copy.deepcopy(original), branches=1, scale=False, skip=False)
    assert repconvs(expanded)
    assert_not_trivial(expected)
    torch.testing.assert_close(expanded(views), expected, atol=1e-5, rtol=0)
    assert millions(expanded) == millions(original)


def test_the_activation_of_a_normalisation_follows_the_sum_of_the_branches():
    network = add_branches(SMALL["test_efficientnet"][0]())
    block = next(block for stage in network.blocks for block in stage if type(block).__name__ == "InvertedResidual")
    assert isinstance(block.conv_pw, RepConv) and isinstance(block.bn1, nn.SiLU)
    assert isinstance(block.conv_dw, RepConv) and isinstance(block.bn2, nn.SiLU)
    assert isinstance(block.conv_pwl, RepConv) and isinstance(block.bn3, nn.Identity)
    assert not any(type(module) is not nn.BatchNorm2d and isinstance(module, nn.BatchNorm2d)
                   for site in repconvs(network).values() for module in site.modules())


def test_a_normalisation_with_activation_keeps_its_function_and_its_numbers():
    norm = timm.layers.BatchNormAct2d(4, eps=0.1, momentum=0.03, act_layer=nn.SiLU)
    network, x = nn.Sequential(nn.Conv2d(4, 4, 1), norm), torch.randn(2, 4, 3, 3)
    network.train()(x)
    expected = network.eval()(x)
    site = add_branches(network, 1)[0]
    assert (site.branches[0].norm.eps, site.branches[0].norm.momentum) == (0.1, 0.03)
    assert site.branches[0].norm.num_batches_tracked == 1
    torch.testing.assert_close(network(x), expected)


def test_a_drop_inside_a_normalisation_is_kept_before_its_activation():
    norm = timm.layers.BatchNormAct2d(4, act_layer=nn.SiLU, drop_layer=lambda: nn.Dropout(0.5))
    network = add_branches(nn.Sequential(nn.Conv2d(4, 4, 1), norm))
    assert [type(module) for module in network[1]] == [nn.Dropout, nn.SiLU]


@torch.no_grad()
def test_timms_synchronised_normalisation_with_activation_stays_synchronised():
    norm = timm.layers.BatchNormAct2d(4, eps=0.1, act_layer=nn.SiLU, drop_layer=lambda: nn.Dropout(0.5))
    class Group:
        def __deepcopy__(self, memo):
            raise TypeError("cannot pickle 'torch._C._distributed_c10d.ProcessGroup' object")

    group = Group()
    network, x = nn.Sequential(nn.Conv2d(4, 4, 1), norm).eval(), torch.randn(2, 4, 3, 3)
    expected = network(x)
    synchronised = timm.layers.convert_sync_batchnorm(network, group).eval()  # older releases of timm forget the mode
    add_branches(synchronised, preserve=True)
    for branch in network[0].branches:
        assert type(branch.norm) is nn.SyncBatchNorm and (branch.norm.process_group, branch.norm.eps) == (group, 0.1)
    assert [type(module) for module in network[1]] == [nn.Dropout, nn.SiLU]
    torch.testing.assert_close(network(x), expected)
    assert plain_state(network)["1.weight"].shape == (4,)


@pytest.mark.parametrize(("name", "training", "folded"), [
    ("ghostnetv3_050", 3.40, 2.85), ("ghostnetv3_100", 8.13, 6.15),
    ("ghostnetv3_130", 12.22, 8.95), ("ghostnetv3_160", 17.28, 12.38)])
def test_parameter_counts_in_training_and_folded(name, training, folded):
    network = zoo.create(name)
    assert round(millions(network), 2) == training
    assert round(millions(reparameterize(network)), 2) == folded


# -- timm's own GhostNetV3


def our_name(timms: str) -> str:
    """timm's name of a GhostNetV3 tensor in our words."""
    for pattern, ours in ((r"primary_rpr_conv\.(\d)\.", r"primary_conv.0.branches.\1."),
                          (r"cheap_rpr_conv\.(\d)\.", r"cheap_operation.0.branches.\1."),
                          (r"dw_rpr_conv\.(\d)\.", r"conv_dw.branches.\1."),
                          (r"cheap_rpr_scale\.", "cheap_operation.0.scale."),
                          (r"dw_rpr_scale\.", "conv_dw.scale."),
                          (r"cheap_rpr_skip\.", "cheap_operation.0.skip."),
                          (r"((?:branches\.\d|scale)\.)bn1\.", r"\1norm.")):
        timms = re.sub(pattern, ours, timms)
    return timms


@needs.timms_v3
def test_the_sites_of_ghostnetv3_are_timms():
    theirs, ours = timm.create_model("ghostnetv3_100"), zoo.create("ghostnetv3_100")
    site_of = {"primary_rpr_conv": "primary_conv.0", "cheap_rpr_conv": "cheap_operation.0", "dw_rpr_conv": "conv_dw"}
    expected = set()
    for name, module in theirs.named_modules():
        parent, _, last = name.rpartition(".")
        if last in site_of and len(module):  # timm leaves an empty dw_rpr_conv where the stride is 1
            expected.add(f"{parent}.{site_of[last]}")
    assert len(expected) > 60 and set(repconvs(ours)) == expected
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())


@needs.timms_v3
@torch.no_grad()
def test_with_timms_weights_ghostnetv3_computes_what_timms_does():
    theirs = _create_ghostnet("ghostnetv3_100", width=0.25, version="v3", num_classes=CLASSES, drop_rate=0.0)
    views = views_of(33)
    expected = unsettle(theirs, views)(views)
    ours = zoo.create("ghostnetv3_100", CLASSES, 0.25).eval()
    ours.load_state_dict({our_name(name): tensor for name, tensor in theirs.state_dict().items()}, strict=True)
    assert_not_trivial(expected)
    torch.testing.assert_close(ours(views), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(reparameterize(ours)(views), expected, atol=1e-4, rtol=0)


@torch.no_grad()
def test_timms_own_branched_networks_are_folded_too():
    network = timm.create_model("mobileone_s0", num_classes=CLASSES).double()
    views = views_of(32, n=2).double()
    before, parameters = unsettle(network, views)(views), millions(network)
    assert_not_trivial(before)
    torch.testing.assert_close(reparameterize(network)(views), before, atol=1e-6, rtol=0)
    assert millions(network) < 0.6 * parameters


def test_what_folds_itself_is_not_expanded():
    with pytest.raises(ValueError, match="MobileOne|ByobNet.* nothing to add"):
        add_branches(timm.create_model("mobileone_s0", num_classes=CLASSES))


# -- the folded network


@torch.no_grad()
def test_folding_twice_changes_nothing():
    make, size = SMALL["ghostnetv2"]
    views = views_of(size)
    once = reparameterize(unsettle(add_branches(make()), views))
    modules, outputs = dict(once.named_modules()), once(views)
    twice = reparameterize(once)
    assert dict(twice.named_modules()) == modules  # the very objects
    assert torch.equal(twice(views), outputs)


@pytest.mark.parametrize("name", SMALL)
def test_a_folded_network_still_trains(name):
    make, size = SMALL[name]
    views = views_of(size)
    network = unsettle(add_branches(make()), views)
    folded_sites = list(repconvs(network))
    reparameterize(network)
    with torch.no_grad():
        before = network(views)
    train(network, views)
    for site in folded_sites:
        conv = network.get_submodule(site)
        assert type(conv) is nn.Conv2d and conv.weight.requires_grad and conv.bias.requires_grad
        assert conv.weight.grad.abs().max() > 0 and conv.bias.grad.abs().max() > 0
    with torch.no_grad():
        assert (network(views) - before).abs().max() > 1e-3


def test_folding_keeps_the_mode_of_training():
    network = add_branches(nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)))
    assert reparameterize(copy.deepcopy(network).train())[0].training
    assert not reparameterize(copy.deepcopy(network).eval())[0].training


@pytest.mark.parametrize("folded", [False, True], ids=["training form", "folded"])
@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_a_copy_is_equal_and_independent(name, folded):
    make, size = SMALL[name]
    views = views_of(size)
    network = unsettle(add_branches(make()), views)
    if folded:
        reparameterize(network)
    expected = network(views)
    twin = copy.deepcopy(network)
    assert torch.equal(twin(views), expected)
    for tensor in twin.state_dict().values():
        tensor.zero_()
    reparameterize(twin)
    assert torch.equal(network(views), expected) and bool(repconvs(network)) is not folded


@pytest.mark.parametrize("folded", [False, True], ids=["training form", "folded"])
@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_weights_survive_safetensors(name, folded):
    make, size = SMALL[name]
    views = views_of(size)
    form = reparameterize if folded else nn.Identity()
    network = form(unsettle(add_branches(make()), views))
    other = form(add_branches(make()).eval())
    assert not torch.equal(other(views), network(views))
    other.load_state_dict(load(save(network.state_dict())), strict=True)
    assert torch.equal(other(views), network(views))


# -- what is expanded


def test_branch_0_is_the_original_convolution_and_normalisation():
    conv, norm = nn.Conv2d(4, 8, 1), nn.BatchNorm2d(8)
    site = RepConv(conv, norm, branches=3)
    assert site.branches[0].conv is conv and site.branches[0].norm is norm


def test_networks_of_one_seed_share_every_weight_they_both_have():
    def build(*options) -> dict[str, Tensor]:
        torch.manual_seed(3)
        network = zoo.create("ghostnetv2_100", CLASSES, 0.1)
        return (add_branches(network, *options) if options else network).state_dict()

    full, deployed = build(3, True, True), build()
    for options in ((1, True, True), (2, True, False), (3, False, True), (1, False, False)):
        fewer = build(*options)
        assert fewer.keys() < full.keys()
        assert all(torch.equal(tensor, full[name]) for name, tensor in fewer.items()), options
    # The last had no added branch: what it holds is the deployed network, under the names of branch 0.
    convs = {name.replace(".branches.0.conv", ""): tensor for name, tensor in fewer.items() if ".norm." not in name}
    assert len(fewer) == len(deployed) and convs.keys() < deployed.keys()
    assert all(torch.equal(tensor, deployed[name]) for name, tensor in convs.items())


def test_networks_of_different_seeds_differ_in_their_added_branches():
    original = SMALL["test_efficientnet"][0]()
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        states.append(add_branches(copy.deepcopy(original)).state_dict())
    for name in states[0]:
        if name.endswith((".scale.conv.weight", ".branches.1.conv.weight", ".branches.2.conv.weight")):
            assert not torch.equal(states[0][name], states[1][name]), name
        else:
            assert torch.equal(states[0][name], states[1][name]), name


def test_a_sites_seed_alone_decides_its_added_weights():
    conv, norm = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8)
    one, same, other = (RepConv(conv, norm, seed=seed).state_dict() for seed in (4, 4, 5))
    assert all(torch.equal(tensor, same[name]) for name, tensor in one.items())
    assert not torch.equal(one["scale.conv.weight"], other["scale.conv.weight"])
    assert not torch.equal(one["branches.1.conv.weight"], other["branches.1.conv.weight"])


def test_sites_of_one_network_have_seeds_of_their_own():
    network = add_branches(nn.Sequential(*[module for _ in range(3) for module in (
        nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8))]))
    drawn = [site.scale.conv.weight for site in repconvs(network).values()]
    assert len(drawn) == 3 and not torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[1], drawn[2])


def test_the_1x1_branch_begins_as_pytorch_initialises_it():
    torch.manual_seed(0)
    site = RepConv(nn.Conv2d(4096, 4096, 3, padding=1, groups=4096), nn.BatchNorm2d(4096), seed=1)
    weights, pytorchs = site.scale.conv.weight, nn.Conv2d(4096, 4096, 1, groups=4096).weight
    for of in (torch.Tensor.mean, torch.Tensor.std, torch.Tensor.min, torch.Tensor.max):
        torch.testing.assert_close(of(weights.detach()), of(pytorchs.detach()), atol=0.05, rtol=0)


def test_adding_branches_draws_as_often_whatever_is_added():
    following = []
    for options in ((1, False, False), (3, True, True), (5, False, True)):
        network = SMALL["test_efficientnet"][0]()
        torch.manual_seed(0)
        add_branches(network, *options)
        following.append(torch.rand(3))
    assert torch.equal(following[0], following[1]) and torch.equal(following[0], following[2])


def test_further_branches_have_other_weights_of_the_same_distribution():
    conv = nn.Conv2d(16, 16, 1)
    first, *others = (branch.conv.weight.flatten() for branch in RepConv(conv, nn.BatchNorm2d(16), branches=3).branches)
    assert len(others) == 2
    for weights in (*others,):
        assert not torch.equal(weights, first) and torch.equal(weights.sort()[0], first.sort()[0])
    assert not torch.equal(*others)


def test_normalisations_of_further_branches_start_afresh():
    norm = nn.BatchNorm2d(4, eps=1e-3, momentum=0.03)
    nn.init.constant_(norm.weight, 7)
    norm.running_mean.fill_(5)
    site = RepConv(nn.Conv2d(4, 4, 3, padding=1, groups=4), norm, branches=2)
    for fresh in (site.branches[1].norm, site.scale.norm, site.skip):
        assert (fresh.eps, fresh.momentum) == (1e-3, 0.03)
        assert fresh.weight.eq(1).all() and fresh.running_mean.eq(0).all() and fresh.running_var.eq(1).all()
    assert norm.weight.eq(7).all() and norm.running_mean.eq(5).all()


class PickyConv(nn.Conv2d):
    """A convolution that does more than convolve, as TensorFlow's padding does."""

    def forward(self, x):
        return super().forward(F.pad(x, (0, 1, 0, 1)))


@pytest.mark.parametrize(("conv", "norm"), [
    (nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)),  # dense 3×3
    (nn.Conv2d(1, 1, 3), nn.BatchNorm2d(1)),  # one group of one channel is dense
    (PickyConv(4, 4, 1), nn.BatchNorm2d(4)),
    (nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)),
    (nn.Conv2d(4, 4, 1), nn.GroupNorm(1, 4)),
    (nn.Conv2d(4, 4, 1), nn.ReLU()),
    (nn.Linear(4, 4), nn.BatchNorm1d(4)),
], ids=["dense3x3", "one-channel", "subclass", "no-statistics", "groupnorm", "no-norm", "linear"])
def test_a_network_with_nothing_to_expand_is_refused(conv, norm):
    with pytest.raises(ValueError, match="Sequential has no 1×1 or depth-wise convolution .* nothing to add"):
        add_branches(nn.Sequential(conv, norm))


@pytest.mark.parametrize("again", [nn.Identity(), reparameterize], ids=["expanded", "folded"])
@pytest.mark.parametrize("name", ["ghostnetv2", "mobilenetv2", "shufflenetv2"])
def test_a_network_is_expanded_only_once(name, again):
    network = again(add_branches(NETWORKS[name][0]()))
    with pytest.raises(ValueError, match="expanded or folded before"):
        add_branches(network)


@pytest.mark.parametrize("branches", [0, -1])
def test_fewer_than_one_branch_is_refused(branches):
    network = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
    with pytest.raises(ValueError, match=f"at least 1, got {branches}"):
        add_branches(network, branches)
    assert not repconvs(network)
    with pytest.raises(ValueError, match=f"at least 1, got {branches}"):
        RepConv(*network, branches)


@pytest.mark.parametrize("branches", [1, 2, 5])
def test_every_site_gets_as_many_branches_as_asked_for(branches):
    found = repconvs(add_branches(NETWORKS["mobilenetv2"][0](), branches, scale=False, skip=False))
    assert found and all(len(site.branches) == branches for site in found.values())
    assert all(site.scale is None and site.skip is None for site in found.values())


def test_excluded_names_are_left_alone():
    make = NETWORKS["mobilenetv2"][0]
    everything = set(repconvs(add_branches(make())))
    kept = set(repconvs(add_branches(make(), exclude=["features.1.*", "features.?.conv.1.0"])))
    assert kept == {name for name in everything if not re.fullmatch(r"features\.1\..*|features\..\.conv\.1\.0", name)}
    assert 0 < len(kept) < len(everything)
    with pytest.raises(ValueError, match="nothing to add"):
        add_branches(make(), exclude=["*"])


def test_only_ghostnets_have_modules_left_alone_by_default():
    make = NETWORKS["ghostnetv2"][0]
    default, everything = repconvs(add_branches(make())), repconvs(add_branches(make(), exclude=()))
    left_alone = set(everything) - set(default)
    assert {name.split(".")[-2] for name in left_alone} == {"short_conv", "shortcut", "0"}
    assert {name for name in left_alone if name.split(".")[-2] == "0"} == {"blocks.9.0.conv"}
    assert set(repconvs(add_branches(make(), exclude=GHOSTNET_EXCLUDE))) == set(default)


def test_a_network_whose_backbone_has_branches_gets_them_in_its_head_too():
    """As a detector made of `zoo.features` and layers of one's own; those of the backbone stay as they are."""
    backbone = GhostNet(GHOST_STAGES, CLASSES, width=0.5, drop_rate=0, version="v2")
    head = nn.Sequential(nn.Conv2d(CLASSES, 8, 1, bias=False), nn.BatchNorm2d(8))
    network = nn.ModuleDict({"backbone": add_branches(backbone, 2), "head": head})
    network.forward = lambda x: network["head"](network["backbone"](x)[:, :, None, None])
    before = [site for site in network.modules() if isinstance(site, RepConv)]
    add_branches(network, 3, example_input=views_of(33))
    after = [site for site in network.modules() if isinstance(site, RepConv)]
    assert after[:-1] == before and after[-1] is network["head"][0] and len(after[-1].branches) == 3
    unsettle(network, views_of(33))
    expected = network(views := views_of(33))
    torch.testing.assert_close(reparameterize(network)(views), expected, rtol=1e-4, atol=1e-4)


def test_a_branch_is_not_itself_a_site():
    network = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
    add_branches(network, exclude=["2"])
    assert [site.conv for site in survey(network).sites] == ["2"]


# -- pretrained and plain weights


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_branches_may_preserve_the_function_of_a_pretrained_network(name, training):
    make, size = SMALL[name]
    views = views_of(size)
    original = unsettle(make(), views).double()
    network = add_branches(copy.deepcopy(original), preserve=True)
    expected, actual = (net.train(training)(views.double()) for net in (original, network))
    assert_not_trivial(expected)
    torch.testing.assert_close(actual, expected, atol=1e-10, rtol=0)
    torch.testing.assert_close(reparameterize(network.eval())(views.double()), original.eval()(views.double()),
                               atol=1e-9, rtol=0)


def test_branches_that_preserve_the_function_learn():
    make, size = SMALL["ghostnetv2"]
    network = train(add_branches(make(), preserve=True), views_of(size))
    for site in repconvs(network).values():
        assert site.branches[1].norm.weight.abs().max() > 0


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_plain_weights_load_into_a_branched_network_and_branched_ones_into_a_plain(name):
    make, size = SMALL[name]
    views = views_of(size).double()
    plain, branched = unsettle(make(), views.float()).double(), add_branches(make()).double().eval()
    expected = plain(views)
    assert_not_trivial(expected)
    load_plain(branched, plain.state_dict())
    torch.testing.assert_close(branched(views), expected, atol=1e-10, rtol=0)

    other = unsettle(add_branches(make()), views.float()).double()
    again = make().double().eval()
    again.load_state_dict(plain_state(other), strict=True)
    torch.testing.assert_close(again(views), other(views), atol=1e-9, rtol=0)
    wrapped = nn.Sequential(other)  # as a part of something larger
    inside = nn.Sequential(make().double()).eval()
    inside.load_state_dict(plain_state(wrapped), strict=True)
    torch.testing.assert_close(inside(views), other(views), atol=1e-9, rtol=0)


def test_plain_weights_that_do_not_fit_are_refused():
    network = add_branches(nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)))
    with pytest.raises(RuntimeError, match="branches.0.norm.weight"):
        load_plain(network, {"0.weight": torch.zeros(4, 4, 1, 1)})


def test_frozen_parameters_stay_frozen_and_so_are_their_branches():
    network = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1),
                            nn.BatchNorm2d(4))
    network[0].requires_grad_(False)
    network[1].eval()
    add_branches(network)
    convs = [branch.conv for branch in network[0].branches]
    assert not any(parameter.requires_grad for conv in convs for parameter in conv.parameters())
    assert not any(module.training for module in network[0].modules() if isinstance(module, nn.BatchNorm2d))
    assert all(parameter.requires_grad for parameter in network[2].parameters())


def test_of_what_nothing_learns_is_left_alone():
    """With or without γ and β."""
    network = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, affine=False),
                            nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
    network[:4].requires_grad_(False)
    add_branches(network)
    assert [isinstance(module, RepConv) for module in network] == [False] * 4 + [True, False]
