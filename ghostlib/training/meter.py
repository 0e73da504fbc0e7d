"""Loss, accuracy and speed of an epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from ghostlib.training.progress import NonFiniteLoss, Progress


class Meter:
    """Takes in an epoch's steps and reports them; it reads values only now and then, since that waits for the device.

    Args:
        steps: of the whole training.
        report: called with the progress at every reading.
        every: passes between readings.
        mean: of values (P, 2) over the processes that train together; they read at the same passes.
        processes: how many these are.
    """

    def __init__(self, steps: int, report: Callable[[Progress], None], every: int,
                 mean: Callable[[Tensor], Tensor] = lambda values: values, processes: int = 1):
        self.steps, self.report, self.every, self.mean, self.processes = steps, report, every, mean, processes
        self.pending: list[tuple[int, Tensor, Tensor]] = []
        self.loss, self.passes, self.right, self.images = 0.0, 0, 0.0, 0
        self.start, self.images_before = time.perf_counter(), 0

    def state(self) -> dict[str, float]:
        """What a meter of the same epoch goes on from, once all is read."""
        assert not self.pending
        return {"loss": self.loss, "passes": self.passes, "right": self.right, "images": self.images}

    def resume(self, state: dict[str, float]) -> None:
        """Goes on from another's `state`."""
        self.loss, self.passes, self.right = state["loss"], state["passes"], state["right"]
        self.images = self.images_before = state["images"]

    def add(self, step: int, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Takes in a pass of a step: its loss (), logits (N, K) and labels (N,).

        Raises:
            NonFiniteLoss: a loss is NaN or infinite.
        """
        self.pending.append((step, loss, (logits.argmax(-1) == labels).sum()))
        self.images += len(labels)
        if len(self.pending) >= self.every:
            self._look()

    def close(self) -> dict[str, float]:
        """Mean loss and accuracy (%) of the whole epoch."""
        self._look()
        return {"loss": self.loss / self.passes, "accuracy": 100 * self.right / self.images}

    def _look(self) -> None:
        if not self.pending:
            return
        values = torch.stack([torch.stack([loss.float(), right.float()]) for _, loss, right in self.pending])
        for (step, _, _), (loss, right) in zip(self.pending, self.mean(values).tolist(), strict=True):
            if not math.isfinite(loss):
                raise NonFiniteLoss(f"the loss is {loss} at step {step + 1} of {self.steps}")
            self.loss += loss
            self.passes += 1
            self.right += right
        last = self.pending[-1][0]
        self.pending = []
        speed = self.processes * (self.images - self.images_before) / (time.perf_counter() - self.start)
        self.progress = Progress(last + 1, self.steps, loss, 100 * self.right / self.images, speed)
        self.report(self.progress)
