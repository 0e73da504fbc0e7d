"""The passes of an arm on a GPU as CUDA graphs: a step is launched at once, not kernel by kernel.

A step of a small network is thousands of kernels of a few microseconds each, and Python takes longer to launch them
than the GPU to compute them. Nothing that `loop` computes depends on this module, so a CPU's keys do not cover it.
"""

from __future__ import annotations

import warnings
from inspect import signature
from typing import Any

import torch
from accelerate.utils import AutocastKwargs
from torch import Tensor, nn

from ghostlib.training.arm import Arm

# Elsewhere in the process, memory may be pinned for the next batches meanwhile. Older PyTorch cannot allow for that.
_ALONE = {"capture_error_mode": "thread_local"}
_MODE = _ALONE if _ALONE.keys() <= signature(torch.cuda.make_graphed_callables).parameters.keys() else {}


class ReplayedArm(Arm):
    """An arm whose forward and backward pass are recorded in its first step, and replayed in every one after it.

    The optimiser, the averages and the teacher are not part of that. A step is called as `Arm` says where it cannot be
    recorded: on a CPU, where several processes or passes make an update, or where PyTorch compiles it. A network must
    do the same operations in every step and must not wait for the GPU to choose among them; one that does wait goes on
    unrecorded, with a warning.
    """

    recorded: Replayed | None = None

    def step(self, number: int, slot: int, views: Tensor, *others: Any) -> None:
        if self.recorded is None and self._recordable(views):
            self.recorded = Replayed(self.network)
            try:
                record(self.recorded, views, self.accelerator.autocast(AutocastKwargs(cache_enabled=False)))
                self.model = self.recorded
            except (RuntimeError, AssertionError) as error:
                warnings.warn(f"run {self.run.key}: its steps on the GPU are launched kernel by kernel, since they "
                              f"could not be recorded: {str(error).splitlines()[0][:200]}", stacklevel=2)
        super().step(number, slot, views, *others)

    def _recordable(self, views: Tensor) -> bool:
        # A second pass would overwrite the gradients that it is to add to.
        return views.is_cuda and len(self.split.slots) * self.split.processes == 1 and not self.run.profile.compile


class Replayed(nn.Module):
    """A network as `record` takes it: without what Accelerate wraps around its forward pass, in float32 at the end."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, views: Tensor) -> Tensor:
        """(N, 3, H, W) -> logits (N, K)."""
        return type(self.network).forward(self.network, views).float()


def record(model: Replayed, views: Tensor, autocast: Any) -> None:
    """Records the passes of a network in training mode; from then on calling it replays them.

    PyTorch tries a few passes first. They leave no gradients, and the running statistics are put back.

    Args:
        model: on the GPU; called with views of the same shape only.
        views: (N, 3, H, W), as it will be called with.
        autocast: the context of its precision, which must not keep cast weights from one pass to the next.

    Raises:
        RuntimeError: the passes wait for the GPU, or its memory does not suffice for a recording.
    """
    # PyTorch says so of every recording: its gradients come from a stream of their own.
    warnings.filterwarnings("ignore", "The AccumulateGrad node's stream does not match", UserWarning)
    before = [buffer.clone() for buffer in model.buffers()]
    model.train()
    try:
        with autocast:
            torch.cuda.make_graphed_callables(model, (views.clone(),), allow_unused_input=True, **_MODE)
    finally:
        with torch.no_grad():
            for buffer, kept in zip(model.buffers(), before, strict=True):
                buffer.copy_(kept)
