"""What a training reports, whatever it trains: where it stands, and that it diverged."""

from __future__ import annotations

from dataclasses import dataclass


class NonFiniteLoss(ArithmeticError):
    """The loss became NaN or infinite; no state was saved that holds such weights."""


@dataclass(frozen=True)
class Progress:
    """Where a training stands."""

    step: int
    steps: int
    loss: float
    accuracy: float  # share of the views of this epoch that the network got right, %; NaN where there is none
    images_per_second: float
    val_top1: float | None = None  # on the validation images, %; where they were scored after this step
