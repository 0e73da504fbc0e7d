"""How a batch is split: over the processes that train together, and into passes where a device's memory is short."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class Split:
    """A process's part of every batch.

    A batch is dealt in its order into equal slots: those of the first process's passes, the second's, and so on. So
    whichever images are in a batch does not depend on how it is split, nor do their views.

    Attributes:
        batch: images of all processes together, a step.
        passes: forward and backward passes of a process a step; their gradients add up.
        rank: of this process.
        processes: how many there are.

    Raises:
        ValueError: the batch cannot be split evenly.
    """

    batch: int
    passes: int = 1
    rank: int = 0
    processes: int = 1

    def __post_init__(self) -> None:
        slots = self.processes * self.passes
        if self.batch % slots:
            raise ValueError(f"a batch of {self.batch} images cannot be split evenly into {self.processes} processes × "
                             f"{self.passes} passes; take a batch_size that {slots} divides, or other processes")

    @property
    def size(self) -> int:
        """Images of a pass."""
        return self.batch // (self.processes * self.passes)

    @property
    def slots(self) -> range:
        """Those of this process's passes, among all of the batch's."""
        return range(self.rank * self.passes, (self.rank + 1) * self.passes)

    def part(self, batch: Sequence[Item], slot: int) -> Sequence[Item]:
        """The slot's part of a batch."""
        return batch[slot * self.size:(slot + 1) * self.size]


def largest_pass(share: int, most: int | None = None, attempt: Callable[[int], None] = lambda images: None,
                 pairs: bool = False) -> int:
    """The most images that a pass of a share of a batch takes, of those numbers that divide it.

    Args:
        share: a process's part of a batch.
        most: more are not tried.
        attempt: makes a pass of so many images; if they are too many it runs out of memory, and fewer are tried.
        pairs: whether a pass must be even, as Mixup and CutMix want it.

    Raises:
        ValueError: no number of images is allowed.
        RuntimeError: not even one image fits.
    """
    from accelerate.utils import find_executable_batch_size

    sizes = [size for size in range(share, 0, -1)
             if share % size == 0 and size <= (most or share) and not (pairs and size % 2)]
    if not sizes:
        raise ValueError(f"a process's {share} images of a batch cannot be split into even passes of at most "
                         f"{most or share}, and Mixup and CutMix pair images; take another batch_size or pass_images")
    smaller = iter([*sizes[1:], 0])

    @find_executable_batch_size(starting_batch_size=sizes[0], reduce_batch_size_fn=lambda: next(smaller))
    def tried(size: int) -> int:
        attempt(size)
        return size

    return tried()
