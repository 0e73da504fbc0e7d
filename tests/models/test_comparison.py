"""A network is left changed only if it computes what it did, and where nobody could see that, it is refused."""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ghostlib.models.rep_conv import RepConv
from ghostlib.models.reparam import add_branches


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@torch.jit.script
def half(x: Tensor) -> Tensor:
    return x * 0.5


@dataclass
class Answer:
    logits: Tensor


class Doubling(nn.Module):
    """Acts in training only."""

    def forward(self, x):
        return 2 * x if self.training else x


class Network(nn.Module):
    """A convolution and a fresh normalisation, which in evaluation mode hardly changes its input."""

    def __init__(self, use, between: nn.Module | None = None, last: nn.Module | None = None):
        super().__init__()
        self.use = use
        self.conv, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.between, self.last = between or nn.Identity(), last or nn.Identity()
        self.plain_list = [self.conv, self.norm]

    def forward(self, x):
        return self.last(self.use(self, x))


def in_order(net, x):
    return net.norm(net.between(net.conv(x)))


def past_numpy(net, x):
    y = net.conv(x)
    return net.norm(y) + torch.from_numpy(2 * y.numpy())


def past_a_script(net, x):
    y = net.conv(x)
    return net.norm(y) + half(y)


def scaled_down(net, x):
    y = net.conv(x)
    return x + 1e-4 * (net.norm(y) + half(y))


def by_a_list(net, x):
    for module in net.plain_list:
        x = module(x)
    return x


def with_another_shape(net, x):
    y = net.norm(net.conv(x))
    return y if isinstance(net.norm, nn.BatchNorm2d) else y[:, :2]


def with_another_number(net, x):
    y = net.norm(net.conv(x))
    return (y,) if isinstance(net.norm, nn.BatchNorm2d) else (y, y)


def by_an_attribute(net, x):
    return net.norm(net.conv(x)) * net.conv.out_channels


@pytest.mark.parametrize(("make", "reason"), [
    (lambda: Network(past_numpy), "by .* of the largest output"),
    (lambda: Network(past_a_script), "by .* of the largest output"),
    (lambda: Network(scaled_down), "by .* of the largest output"),
    (lambda: Network(in_order, between=Doubling()), "by .* of the largest output while training"),
    (lambda: Network(by_a_list), "conv runs 0 times"),
    (lambda: Network(with_another_shape), "outputs of other shapes"),
    (lambda: Network(with_another_number), "outputs of other shapes"),
    (lambda: Network(by_an_attribute), "AttributeError: .*out_channels.*"),
], ids=["numpy", "script", "layer scale", "training", "list", "shape", "number", "attribute"])
def test_what_running_cannot_show_is_found_by_comparing_and_undone(make, reason):
    network = make()
    conv, norm, before = network.conv, network.norm, copy.deepcopy(network.state_dict())
    with pytest.raises(ValueError, match=rf"one branch a site computes something else than before \({reason}\): "
                                         "it uses a convolution in a way that running it did not show"):
        add_branches(network)
    assert network.conv is conv and network.norm is norm and network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_behind_zeros_a_difference_is_seen_and_they_are_zeros_again():
    network = Network(past_a_script, last=nn.Conv2d(4, 2, 1))
    nn.init.zeros_(network.last.weight), nn.init.zeros_(network.last.bias)
    with pytest.raises(ValueError, match="by .* of the largest output"):
        add_branches(network)
    assert not network.last.weight.any() and not network.last.bias.any()


@pytest.mark.parametrize("gate", [
    nn.Parameter(torch.zeros(1).expand(1, 4, 1, 1)), nn.Parameter(torch.zeros(4, 4).to_sparse()),
    nn.Parameter(torch.zeros(1, dtype=torch.int64), requires_grad=False)], ids=["expanded", "sparse", "integer"])
def test_zeros_that_cannot_be_others_for_a_while_are_left_alone(gate):
    network = Network(in_order)
    network.gate = gate
    add_branches(network)
    assert isinstance(network.conv, RepConv) and network.conv.branches[0].norm.running_var.eq(1).all()


def test_a_gate_may_be_under_a_root():
    network = Network(lambda net, x: net.norm(net.conv(x)) + net.gate.sqrt())
    network.gate = nn.Parameter(torch.zeros(1))
    add_branches(network)
    assert network.gate.item() == 0


def test_masked_logits_are_no_difference():
    def masked(net, x):
        return net.norm(net.conv(x)).masked_fill(x > 0, -torch.inf)

    add_branches(network := Network(masked))
    assert isinstance(network.conv, RepConv)


@pytest.mark.parametrize("use", [
    lambda net, x: F.dropout(net.norm(net.conv(x)), training=True),
    lambda net, x: net.norm(net.conv(x)) * random.random()], ids=["torch's", "Python's"])
def test_a_network_may_draw_while_it_is_evaluated(use):
    add_branches(network := Network(use))
    assert isinstance(network.conv, RepConv)


def test_an_interruption_undoes_it_too():
    def use(net, x):
        if not isinstance(net.norm, nn.BatchNorm2d):
            raise KeyboardInterrupt
        return net.norm(net.conv(x))

    network = Network(use)
    conv, norm = network.conv, network.norm
    with pytest.raises(KeyboardInterrupt):
        add_branches(network)
    assert network.conv is conv and network.norm is norm and norm.running_mean.eq(0).all()


@pytest.mark.parametrize("use", [
    lambda net, x: Answer(net.norm(net.conv(x))), lambda net, x: net.norm(net.conv(x)).argmax(1),
    lambda net, x: net.norm(net.conv(x))[:0], lambda net, x: 0 * net.norm(net.conv(x)),
    lambda net, x: torch.full_like(net.norm(net.conv(x)), -torch.inf)],
    ids=["an object", "integers", "empty", "zeros", "infinities"])
def test_an_answer_that_shows_no_difference_is_refused(use):
    network = Network(use)
    with pytest.raises(ValueError, match="answers with no floating-point tensor"):
        add_branches(network)
    assert isinstance(network.norm, nn.BatchNorm2d)


def test_an_empty_tensor_in_an_answer_is_no_difference():
    add_branches(network := Network(lambda net, x: (y := net.norm(net.conv(x)), y[:0], x.argmax())))
    assert isinstance(network.conv, RepConv)


@pytest.mark.parametrize("last", [nn.Dropout(0.5), nn.BatchNorm2d(4)], ids=["dropout", "batch of 1"])
def test_a_network_that_differs_from_itself_while_it_trains_gets_branches(last):
    network = Network(in_order, last=last)
    before = copy.deepcopy(network.state_dict())
    torch.manual_seed(3)
    add_branches(network, example_input=torch.randn(1, 4, 1, 1))
    after = torch.rand(2)
    torch.manual_seed(3)
    torch.randn(1, 4, 1, 1), torch.randint(2**31, ())
    assert torch.equal(after, torch.rand(2)) and isinstance(network.conv, RepConv)
    for name in ("weight", "bias", "running_mean", "running_var"):
        assert torch.equal(getattr(network.conv.branches[0].norm, name), before[f"norm.{name}"])


@pytest.mark.parametrize(("use", "right"), [(in_order, True), (past_a_script, False)])
def test_a_network_that_wants_targets_while_it_trains_is_compared_in_evaluation(use, right):
    def with_targets(net, x, targets=None):
        assert targets is not None or not net.training
        return use(net, x)

    network = Network(with_targets)
    if right:
        assert isinstance(add_branches(network).conv, RepConv)
    else:
        with pytest.raises(ValueError, match="of the largest output"):
            add_branches(network)


def test_a_normalisation_whose_scale_is_0_hides_nothing():
    network = Network(lambda net, x: x + in_order(net, x), between=Doubling())
    nn.init.zeros_(network.norm.weight)
    with pytest.raises(ValueError, match="while training"):
        add_branches(network)
