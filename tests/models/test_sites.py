"""Sites are seen by running a network, and whatever names and order suggest, its function never changes silently."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from ghostlib.models import zoo
from ghostlib.models.flow import example_for
from ghostlib.models.rep_conv import RepConv
from ghostlib.models.reparam import add_branches, reparameterize
from ghostlib.models.sites import survey


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def pair(channels: int = 4) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    norm = nn.BatchNorm2d(channels)
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    nn.init.normal_(norm.bias)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    return nn.Conv2d(channels, channels, 1), norm


class Functional(nn.Module):
    """A convolution and the normalisation registered behind it, used in whatever way."""

    def __init__(self, use):
        super().__init__()
        self.use = use
        self.conv, self.norm = pair()

    def forward(self, x):
        return self.use(self, x)


def with_relu_between(net, x):
    return net.norm(F.relu(net.conv(x)))


def pre_activation(net, x):
    return net.conv(F.relu(net.norm(x)))


def with_a_second_user(net, x):
    y = net.conv(x)
    return net.norm(y) + y


def twice(net, x):
    return net.norm(net.conv(net.conv(x)))


def norm_twice(net, x):
    return net.norm(net.norm(net.conv(x)))


def out_and_in(net, x):
    y = net.conv(x)
    return net.norm(y), y


def in_place(net, x):
    y = net.conv(x)
    y.mul_(2)
    return net.norm(y)


def assigned(net, x):
    y = net.conv(x)
    y[:, :, 0] = 0
    return net.norm(y)


def assigned_a_tensor(net, x):
    y = net.conv(x)
    y[:, :, 0] = x[:, :, 1]
    return net.norm(y)


@pytest.mark.parametrize(("use", "reason"), [
    (with_relu_between, "its output goes to relu"), (pre_activation, "its output goes to the output of the network"),
    (with_a_second_user, "its output goes to BatchNorm2d, add"), (twice, "it runs 2 times"),
    (norm_twice, "its normalisation runs several times"), (in_place, "its output goes to mul_, BatchNorm2d"),
    (assigned, "its output goes to __setitem__, BatchNorm2d"),
    (assigned_a_tensor, "its output goes to __setitem__, BatchNorm2d"),
    (out_and_in, "its output goes to BatchNorm2d, the output of the network"), (lambda net, x: x, "it does not run"),
], ids=["relu", "pre-activation", "second user", "twice", "norm twice", "in place", "assigned",
        "assigned a tensor", "output", "idle"])
def test_a_convolution_whose_output_is_used_otherwise_is_refused_by_name_and_left_alone(use, reason):
    network = Functional(use)
    assert survey(network).unused == {"conv": reason}
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(ValueError, match=f"Functional has no .*nothing to add branches to(.|\n)*{reason}.*conv"):
        add_branches(network)
    assert network.state_dict().keys() == before.keys() and network.training


def test_registration_order_does_not_matter():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm2, self.norm1 = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
            self.conv1, self.conv2 = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)

        def forward(self, x):
            return self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))

    network = Backwards()
    assert [(site.conv, site.norm) for site in survey(network).sites] == [("conv1", "norm1"), ("conv2", "norm2")]
    x = torch.randn(2, 3, 8, 8)
    expected = network.eval()(x)
    torch.testing.assert_close(add_branches(network, preserve=True)(x), expected)


@torch.no_grad()
def test_a_block_with_two_parents_is_changed_in_both_or_not_at_all():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Sequential(*pair())
            self.b = nn.ModuleDict({"again": self.a})

        def forward(self, x):
            return self.b["again"](x)

    network, x = Shared().eval(), torch.randn(1, 4, 5, 5)
    expected = network(x)
    add_branches(network, preserve=True)
    assert isinstance(network.a[0], RepConv) and network.b["again"] is network.a
    torch.testing.assert_close(network(x), expected)
    torch.testing.assert_close(reparameterize(network)(x), expected)

    class Split(nn.Module):
        """The convolution and its normalisation stand in lists of their own, and the convolution once more."""

        def __init__(self):
            super().__init__()
            conv, norm = pair()
            self.convs, self.norms, self.alias = nn.ModuleList([conv]), nn.ModuleList([norm]), conv

        def forward(self, x):
            return self.norms[0](self.alias(x))

    network = Split().eval()
    expected = network(x)
    add_branches(network, preserve=True)
    assert network.alias is network.convs[0] and isinstance(network.alias, RepConv)
    torch.testing.assert_close(network(x), expected)


@torch.no_grad()
def test_synchronised_normalisations_get_synchronised_branches_and_fold():
    network, x = nn.Sequential(*pair()), torch.randn(2, 4, 6, 6)
    add_branches(nn.SyncBatchNorm.convert_sync_batchnorm(network).eval())
    norms = [module for module in network[0].modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert len(norms) == 3 and all(type(norm) is nn.SyncBatchNorm for norm in norms)
    expected = network(x)
    torch.testing.assert_close(reparameterize(network)(x), expected)


def test_partial_coverage_is_told():
    with pytest.warns(UserWarning, match=r"EfficientNet gets branches at 14 of 122 .*(.|\n)* its output goes to cat"):
        add_branches(timm.create_model("mixnet_s", num_classes=4), example_input=torch.randn(1, 3, 64, 64))


@pytest.mark.parametrize("conv", [
    nn.Conv2d(4, 8, 1, groups=2), nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4),
    type("Conv", (nn.Conv2d,), {})(4, 4, 1), nn.Conv2d(4, 8, 3, padding=1, groups=4)],
    ids=["grouped 1×1", "dilated", "subclass", "multiplier"])
@torch.no_grad()
def test_unusual_sites_are_covered_and_fold(conv):
    network, x = nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels)), torch.randn(2, 4, 9, 9)
    add_branches(network)
    network.train()(x)
    expected = network.eval()(x)
    torch.testing.assert_close(reparameterize(network)(x), expected, atol=1e-5, rtol=1e-5)
    assert type(network[0]) is nn.Conv2d


def test_a_parametrised_weight_is_refused_with_the_reason():
    network = nn.Sequential(parametrizations.weight_norm(nn.Conv2d(4, 4, 1)), nn.BatchNorm2d(4))
    assert survey(network).unfit == {"0": "it is parametrised or has hooks"}


def test_modules_that_share_their_weights_are_left_alone():
    network = nn.Sequential(*pair(), *pair(), *pair(), *pair())
    network[2].weight, network[7].weight = network[0].weight, network[5].weight
    tied = "shares its weights with another module"
    assert survey(network).skipped == {"0": f"it {tied}", "2": f"it {tied}", "4": f"its normalisation {tied}",
                                       "6": f"its normalisation {tied}"}


def test_convolutions_of_other_dimensions_are_told_of():
    network = nn.Sequential(nn.ConvTranspose2d(4, 4, 1), nn.BatchNorm2d(4), nn.Flatten(2), nn.Conv1d(4, 4, 1))
    assert survey(network).unfit == {"0": "it is a ConvTranspose2d", "3": "it is a Conv1d"}


def test_a_network_that_is_wrapped_already_is_refused():
    with pytest.raises(ValueError, match="wrapped already, by OptimizedModule, .*add branches first"):
        survey(torch.compile(nn.Sequential(*pair())))
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        with pytest.raises(ValueError, match="wrapped already, by DistributedDataParallel, .*add branches first"):
            survey(nn.parallel.DistributedDataParallel(nn.Sequential(*pair())))
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize(("exclude", "message"), [
    ("features", "exclude = 'features' is one string; write exclude="),
    (["1.con"], "exclude: '1.con' matches no convolution in Sequential.*; did you mean '1.conv'"),
    (["2"], "exclude: '2' matches no convolution in Sequential, nor a module with any"),  # a module without
    (["zzz*"], r"exclude: 'zzz\*' matches no convolution in Sequential, nor a module with any$")])
def test_an_exclude_that_cannot_be_meant_is_an_error(exclude, message):
    network = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Sequential(), nn.ReLU())
    network[1].add_module("conv", nn.Conv2d(4, 4, 1))
    with pytest.raises(ValueError, match=message):
        add_branches(network, exclude=exclude)


@pytest.mark.parametrize("pattern", ["block", "blo*", "block.0", "*.inner", "other"])
def test_a_modules_name_excludes_all_convolutions_in_it_under_any_of_its_names(pattern):
    network = nn.Sequential()
    network.add_module("block", nn.Sequential(nn.Sequential()))
    network.block[0].add_module("inner", nn.Sequential(*pair()))
    network.add_module("rest", nn.Sequential(*pair()))
    network.rest.other = network.block[0].inner
    network.rest.forward = lambda x: network.rest[1](network.rest[0](x))
    if pattern == "other":
        pattern = "rest.other"
    found = survey(network, exclude=[pattern])
    assert found.unfit == {"block.0.inner.0": "it is excluded"} and [site.conv for site in found.sites] == ["rest.0"]


def changed(change):
    conv, norm = pair()
    return nn.Sequential(conv, change(norm) or norm)


@pytest.mark.parametrize(("norm", "reason"), [
    (lambda norm: norm.register_forward_pre_hook(lambda module, x: None) and None,
     "its normalisation is parametrised or has hooks"),
    (lambda norm: norm.register_full_backward_hook(lambda *x: None) and None,
     "its normalisation is parametrised or has hooks"),
    (lambda norm: parametrize.register_parametrization(norm, "weight", nn.Softplus()) and None,
     "its normalisation is parametrised or has hooks"),
    (lambda norm: setattr(norm, "forward", lambda x: 2 * x), "its normalisation has a forward of its own"),
    (lambda norm: timm.layers.split_batchnorm.SplitBatchNorm2d(4, num_splits=2),
     "a SplitBatchNorm2d may do more than normalise")],
    ids=["hook", "backward hook", "parametrised", "forward", "subclass"])
def test_a_normalisation_that_may_do_more_is_refused_with_the_reason(norm, reason):
    network = changed(norm)
    assert [message for message in survey(network).unused.values()
            if not message.startswith("its output goes to")] == [reason]


def test_a_convolution_with_a_forward_of_its_own_is_refused_with_the_reason():
    network = nn.Sequential(*pair())
    network[0].forward = lambda x: 2 * x
    assert survey(network).unfit == {"0": "it has a forward of its own"}


def test_noise_has_the_channels_of_a_network_built_for_other_images():
    for channels in (1, 4):
        network = timm.create_model("mobilenetv3_small_050", in_chans=channels, num_classes=4)
        assert survey(network).sites and example_for(network).shape == (1, channels, 224, 224)
    stem = nn.Sequential(nn.PixelUnshuffle(4), nn.Conv2d(48, 4, 1), nn.BatchNorm2d(4))
    stem.default_cfg = {"input_size": (3, 64, 64)}
    assert example_for(stem).shape == (1, 3, 64, 64)


@pytest.mark.parametrize("make", [
    lambda: zoo.features("ghostnetv2_100"), lambda: nn.Sequential(zoo.create("ghostnetv2_100", 4)),
    lambda: zoo.create("ghostnetv2_100", 4).blocks[3], lambda: zoo.create("ghostnetv2_100", 4).blocks[3][0].ghost1],
    ids=["backbone", "wrapped", "stage", "module"])
def test_what_the_authors_leave_alone_is_left_alone_in_a_part_of_a_ghostnet_too(make):
    network = make()
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    found = survey(network, example_input=torch.randn(1, first.in_channels, 64, 64))
    assert found.sites and not any("short" in site.conv or "blocks.9" in site.conv for site in found.sites)
    assert "it is excluded" in found.unfit.values()


def test_a_backbone_of_v2_with_branches_is_the_backbone_of_v3():
    network = add_branches(zoo.features("ghostnetv2_100"), example_input=torch.randn(1, 3, 64, 64))
    assert ({name: tensor.shape for name, tensor in network.state_dict().items()}
            == {name: tensor.shape for name, tensor in zoo.features("ghostnetv3_100").state_dict().items()})


def test_a_network_that_cannot_be_run_on_what_is_made_up_asks_for_an_example():
    class TwoInputs(Functional):
        def forward(self, x, y):
            return self.norm(self.conv(x + y))

    network, x = TwoInputs(None), torch.randn(1, 4, 5, 5)
    with pytest.raises(ValueError, match=r"TwoInputs cannot be run on .*\(1, 4, 224, 224\).*pass example_input"):
        add_branches(network)
    assert isinstance(add_branches(network, example_input=(x, x)).conv, RepConv)


def test_looking_leaves_modes_statistics_and_the_random_generator_alone():
    network = nn.Sequential(*pair(), nn.Dropout(0.5)).train()
    network[1].eval()
    before = copy.deepcopy(network.state_dict())
    torch.manual_seed(3)
    survey(network)
    after = torch.rand(2)
    torch.manual_seed(3)
    assert torch.equal(after, torch.rand(2))
    assert [module.training for module in network] == [True, False, True]
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_what_a_network_counts_or_keeps_while_it_is_evaluated_is_put_back_or_dropped():
    class Counting(Functional):
        def __init__(self):
            super().__init__(lambda net, x: net.norm(net.conv(x)))
            self.register_buffer("in_place", torch.zeros(()))
            self.register_buffer("anew", torch.zeros(()))
            self.cache = None

        def train(self, mode=True):
            self.cache = None if mode else self.cache
            return super().train(mode)

        def forward(self, x):
            self.in_place += 1
            self.anew = self.anew + 1
            self.cache = self.cache if self.training else x
            return super().forward(x)

    network = Counting()
    buffers = network.in_place, network.anew
    add_branches(network)
    assert (network.in_place, network.anew) == (0, 0) and network.cache is None
    assert network.in_place is buffers[0] and network.anew is buffers[1]
