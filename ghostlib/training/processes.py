"""What processes that train one network together have alike: its statistics, what is reported, where they stand."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import gather_object
from torch import Tensor, nn

from ghostlib.machine import world_size
from ghostlib.training.checkpoint import CheckpointError
from ghostlib.training.profile import Profile


def joined(device_type: str) -> PartialState:
    """This process among those that torchrun or `accelerate launch` started, or by itself; from then on "cuda" is its.

    They wait for each other up to a day: the first one may read all images, or wait for another command's run.

    Raises:
        ValueError: there are several, but on such a device Accelerate connects none.
    """
    state = PartialState(cpu=device_type == "cpu", timeout=timedelta(days=1))
    if state.num_processes != world_size():
        raise ValueError(f"{world_size()} processes were started (WORLD_SIZE), but on {state.device.type} they cannot "
                         "train together: take the device cpu or cuda, or start one, with WORLD_SIZE unset")
    return state


def with_shared_statistics(network: nn.Module, profile: Profile) -> nn.Module:
    """The network, its batch normalisations over all processes where the profile asks for that.

    Raises:
        ValueError: on a CPU, for which PyTorch has no such normalisation.
    """
    if not profile.sync_batchnorm:
        return network
    if profile.device_type != "cuda":
        raise ValueError(f"profile {profile.name!r}: sync_batchnorm is for GPUs, this trains on {profile.device_type}")
    return nn.SyncBatchNorm.convert_sync_batchnorm(network)


@torch.no_grad()
def share_statistics(network: nn.Module, accelerator: Accelerator) -> None:
    """Gives every process the mean of all processes' running statistics."""
    if accelerator.num_processes == 1:
        return
    buffers = [buffer for buffer in network.buffers() if buffer.is_floating_point()]
    if not buffers:
        return
    flat = accelerator.reduce(torch.cat([buffer.reshape(-1) for buffer in buffers]), "mean")
    torch._foreach_copy_(buffers, [part.view_as(buffer) for part, buffer in zip(
        flat.split([buffer.numel() for buffer in buffers]), buffers, strict=True)])


def mean(accelerator: Accelerator) -> Callable[[Tensor], Tensor]:
    """What takes the mean of a tensor over the processes."""
    return lambda values: accelerator.reduce(values, "mean")


def check_alike(value: int, what: str) -> None:
    """Sees that all processes have the same value.

    Raises:
        CheckpointError: they have not; their states are not on a path that all see.
    """
    if len(set(values := gather_object([value]))) > 1:
        raise CheckpointError(f"{what} are {values} in the {len(values)} processes; train in a folder that all of them "
                              "see")
