"""Sites are seen by running a network, and whatever names and order suggest, its function never changes silently."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

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


@pytest.mark.parametrize(("use", "reason"), [
    (with_relu_between, "its output goes to relu"), (pre_activation, "its output goes to the output of the network"),
    (with_a_second_user, "its output goes to BatchNorm2d, add"), (twice, "it runs 2 times"),
    (norm_twice, "its normalisation runs several times"), (in_place, "its output goes to mul_, BatchNorm2d"),
    (out_and_in, "its output goes to BatchNorm2d, the output of the network"), (lambda net, x: x, "it does not run"),
], ids=["relu", "pre-activation", "second user", "twice", "norm twice", "in place", "output", "idle"])
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


def test_what_running_cannot_show_is_found_by_comparing_and_undone():
    def use(net, x):
        y = net.conv(x)
        return net.norm(y) + torch.from_numpy(2 * y.numpy())  # NumPy's part of it nobody sees

    network = Functional(use)
    conv, norm = network.conv, network.norm
    with pytest.raises(ValueError, match="one branch a site computes something else than before"):
        add_branches(network)
    assert network.conv is conv and network.norm is norm


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


@torch.no_grad()
def test_modules_that_fold_themselves_are_skipped_with_the_reason_or_looked_into():
    network = timm.create_model("repvit_m0_9", num_classes=4).eval()
    assert "it is inside a module that folds itself" in survey(network).unfit.values()
    x = torch.randn(1, 3, 64, 64)
    expected = network(x)
    add_branches(network, inside=True, preserve=True, example_input=x)
    assert sum(isinstance(module, RepConv) for module in network.modules()) > 50
    torch.testing.assert_close(network(x), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(reparameterize(network)(x), expected, atol=1e-3, rtol=1e-3)
    assert not any(isinstance(module, RepConv) for module in network.modules())


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
    assert survey(network).unfit == {"0": "its weight is parametrised or it has hooks"}


@pytest.mark.parametrize(("exclude", "message"), [
    ("features", "exclude = 'features' is one string; write exclude="),
    (["1.con"], "exclude: '1.con' matches no module of Sequential; did you mean '1.conv'"),
    (["zzz*"], r"exclude: 'zzz\*' matches no module of Sequential$")])
def test_an_exclude_that_cannot_be_meant_is_an_error(exclude, message):
    network = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Sequential())
    network[1].add_module("conv", nn.Conv2d(4, 4, 1))
    with pytest.raises(ValueError, match=message):
        add_branches(network, exclude=exclude)


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
