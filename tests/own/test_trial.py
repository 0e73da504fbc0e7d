"""What one step on a copy of the network shows before a training begins."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

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
