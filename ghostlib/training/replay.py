"""The passes of an arm on a GPU as CUDA graphs: a step is launched at once, not kernel by kernel.

A step of a small network is thousands of kernels of a few microseconds each, and Python takes longer to launch them
than the GPU to compute them. Nothing that `loop` computes depends on this module, so a CPU's keys do not cover it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from inspect import signature
from typing import Any

import torch
from accelerate.utils import AutocastKwargs
from torch import Tensor, nn

from ghostlib.training.arm import Arm
from ghostlib.training.profile import Profile

# Memory may be pinned for the next batches meanwhile, by another thread. Older PyTorch cannot allow for that.
_ALONE = {"capture_error_mode": "thread_local"}
_MODE = _ALONE if _ALONE.keys() <= signature(torch.cuda.make_graphed_callables).parameters.keys() else {}
# Numbers in a batch of views (512 images of 64 px have six million). More keep a GPU busy as they are, and a recording
# keeps all its activations, of each arm that a process trains.
_MOST = 2**23


def arm_of(profile: Profile) -> type[Arm]:
    """What a profile's runs are trained as."""
    return ReplayedArm if profile.device_type == "cuda" else Arm


class ReplayedArm(Arm):
    """An arm whose forward and backward pass are recorded in its first step, and replayed in every one after it.

    The optimiser, the averages and the teacher are not part of that. A step is called as `Arm` says where it cannot be
    recorded: on a CPU, where several processes or passes make an update, where PyTorch compiles it, and with batches
    that are large. A network must do the same operations in every step and must not wait for the GPU to choose among
    them; one that does wait goes on unrecorded, with a warning.
    """

    recorded: Replayed | None = None
    tried = False

    def step(self, number: int, slot: int, views: Tensor, *others: Any) -> None:
        if not self.tried and self._recordable(views):
            self.tried = True
            autocast = partial(self.accelerator.autocast, AutocastKwargs(cache_enabled=False))
            try:
                self.model = self.recorded = record(Replayed(self.network, autocast), views)
            except (RuntimeError, AssertionError) as error:
                said = (str(error) or repr(error)).splitlines()[0][:200]
                warnings.warn(f"run {self.run.key}: its steps on the GPU are launched kernel by kernel, since they "
                              f"could not be recorded: {said}", stacklevel=2)
        super().step(number, slot, views, *others)

    def deploy(self) -> None:
        self.model, self.recorded = self.network, None  # with the memory of the recording
        super().deploy()

    def _recordable(self, views: Tensor) -> bool:
        # A second pass would overwrite the gradients that it is to add to.
        return (views.is_cuda and views.numel() <= _MOST and len(self.split.slots) * self.split.processes == 1
                and not self.run.profile.compile and bool(_MODE or not self.run.profile.workers))


class Replayed(nn.Module):
    """A network as `record` takes it: without what Accelerate wraps around its forward pass, in float32 at the end.

    Args:
        network: on the GPU.
        autocast: makes the context of its precision, which must not keep cast weights from one pass to the next. The
            backward pass is outside of it, as it is where steps are launched.
    """

    def __init__(self, network: nn.Module, autocast: Callable[[], AbstractContextManager]):
        super().__init__()
        self.network, self.autocast = network, autocast

    def forward(self, views: Tensor) -> Tensor:
        """(N, 3, H, W) -> logits (N, K)."""
        with self.autocast():
            return type(self.network).forward(self.network, views).float()


def record(model: Replayed, views: Tensor) -> Replayed:
    """Records the passes of a network in training mode; from then on calling it replays them.

    Some passes are tried first. They leave no gradients, and the running statistics are put back.

    Args:
        model: called with views of the same shape only.
        views: (N, 3, H, W), as it will be called with.

    Raises:
        RuntimeError: the passes wait for the GPU, or its memory does not suffice for a recording.
    """
    # PyTorch says so of every recording: its gradients come from a stream of their own.
    warnings.filterwarnings("ignore", "The AccumulateGrad node's stream does not match", UserWarning)
    before = [buffer.clone() for buffer in model.buffers()]
    model.train()
    try:
        _try(model, views)
        return torch.cuda.make_graphed_callables(model, (views.clone(),), allow_unused_input=True, **_MODE)
    finally:
        if views.is_cuda:
            torch.cuda.synchronize()  # the passes were on streams of their own
        model.zero_grad()
        with torch.no_grad():
            for buffer, kept in zip(model.buffers(), before, strict=True):
                buffer.copy_(kept)


def _try(model: Replayed, views: Tensor) -> None:
    """A pass that raises where it waits for the GPU: a recording that fails would leave PyTorch in disorder."""
    model(views).sum().backward()  # what is done only once, such as compiling kernels, may wait
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        model(views).sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode(mode)
