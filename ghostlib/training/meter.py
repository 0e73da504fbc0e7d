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
        every: steps between readings.
    """

    def __init__(self, steps: int, report: Callable[[Progress], None], every: int):
        self.steps, self.report, self.every = steps, report, every
        self.pending: list[tuple[int, Tensor, Tensor]] = []
        self.losses: list[float] = []
        self.right, self.images, self.start = 0.0, 0, time.perf_counter()

    def add(self, step: int, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Takes in one step's loss (), logits (N, K) and labels (N,).

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
        return {"loss": sum(self.losses) / len(self.losses), "accuracy": 100 * self.right / self.images}

    def _look(self) -> None:
        if not self.pending:
            return
        values = torch.stack([torch.stack([loss.float(), right.float()]) for _, loss, right in self.pending]).tolist()
        for (step, _, _), (loss, right) in zip(self.pending, values, strict=True):
            if not math.isfinite(loss):
                raise NonFiniteLoss(f"the loss is {loss} at step {step + 1} of {self.steps}")
            self.losses.append(loss)
            self.right += right
        last = self.pending[-1][0]
        self.pending = []
        speed = self.images / (time.perf_counter() - self.start)
        self.report(Progress(last + 1, self.steps, self.losses[-1], 100 * self.right / self.images, speed))
