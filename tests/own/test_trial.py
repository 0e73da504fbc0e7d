"""What one step on a copy of the network shows before a training begins."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from ghostlib.models.reparam import add_branches, plain_state
from ghostlib.own import trial


class Net(nn.Module):
    """Of three classes, with a running centre and a layer that nothing uses."""

    def __init__(self, in_place: bool):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 4, 3, 2), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten(), nn.LazyLinear(3))
        self.body(torch.randn(2, 3, 16, 16))
        self.unused = nn.Linear(2, 2)
        self.in_place = in_place
        self.register_buffer("center", torch.zeros(3))
        self.register_buffer("cache", torch.zeros(1), persistent=False)

    def forward(self, images):
        answer = self.body(images)
        self.cache = answer.detach()  # which is in no file, and in no average
        if self.training:
            center = 0.9 * self.center + 0.1 * answer.detach().mean(0)
            if self.in_place:
                self.center.copy_(center)
            else:
                self.center = center
        return answer


def test_the_network_stays_as_it_was():
    network = Net(in_place=True).eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    drawn = torch.random.get_rng_state()
    trial.check(network, 16)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not network.training and all(parameter.grad is None for parameter in network.parameters())
    assert torch.equal(torch.random.get_rng_state(), drawn)


def test_a_buffer_that_is_replaced_is_named():
    with pytest.raises(ValueError, match=r"^center: the network puts another tensor .*self\.buffer\.copy_"):
        trial.check(Net(in_place=False), 16)


def test_a_network_that_needs_more_images_is_left_to_its_training():
    class Four(Net):
        def forward(self, images):
            assert not self.training or len(images) >= 4
            return super().forward(images)

    trial.check(Four(in_place=False), 16)


def test_parameters_without_a_gradient_are_named_where_several_processes_would_wait_for_it():
    network = Net(in_place=True)
    with pytest.raises(ValueError, match=r"^2 processes cannot train .*: unused\.weight, unused\.bias; leave them out"):
        trial.check(network, 16, processes=2)
    network.unused.requires_grad_(False)
    trial.check(network, 16, processes=2)


def test_shared_normalisation_that_would_drop_activations_is_refused():
    network = timm.create_model("mobilenetv3_small_050", num_classes=3)
    trial.check(network, 32)
    with pytest.raises(ValueError, match="sync_batchnorm = true: PyTorch's conversion .*leave it out"):
        trial.check(network, 32, sync_batchnorm=True)
    trial.check(Net(in_place=True), 16, sync_batchnorm=True)


class Folding(nn.Sequential):
    """It has a method of a name that folds elsewhere."""

    def __init__(self, fuse):
        super().__init__(nn.Conv2d(3, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.made = fuse

    def fuse(self):
        return self.made()


@pytest.mark.parametrize(("fuse", "told"), [
    (lambda: torch.cat([]), r"Sequential cannot be folded, .*Error: .*\): its Folding, by a method .*rename another"),
    (lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
     "Sequential computes something else when it is folded, by .*: its Folding")])
def test_a_method_that_folds_into_something_else_is_found_before_it_is_trained(fuse, told):
    with pytest.raises(ValueError, match=told):
        trial.check(nn.Sequential(Folding(fuse)), 16)


def test_rounding_where_fresh_branches_add_up_is_no_reason():
    network = timm.create_model("rexnet_150", num_classes=4)
    trial.check(add_branches(network, example_input=torch.randn(1, 3, 32, 32)), 32)


def test_a_fresh_normalisation_was_not_folded():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, eps=1e-8), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    nn.init.constant_(network[1].bias, 0.1)
    trial.check(network, 16)


def test_weights_that_were_folded_are_not_trained_on():
    network = add_branches(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    trial.check(network, 16)
    network.train()(torch.randn(4, 3, 16, 16))
    folded = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    trial.check(folded, 16)
    folded.load_state_dict(plain_state(network))
    with pytest.raises(ValueError, match="^1: this normalisation was folded, .*as those in ema.safetensors"):
        trial.check(folded, 16)
