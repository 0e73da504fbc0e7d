"""Where a training stands: a bar with the time that is left, a CSV and TensorBoard's scalars."""

from __future__ import annotations

import csv
import statistics
from pathlib import Path

from tqdm import tqdm

from ghostlib.files import write_atomic
from ghostlib.own.plan import Plan
from ghostlib.training.progress import Progress

COLUMNS = ("step", "loss", "accuracy", "rate", "images_per_second", "val_top1", "top1")
LINES = 2000  # about so many a training: more tell nothing more, and an epoch of ImageNet has thousands of steps


class Log:
    """Shows and writes a training's progress; with it as a context, the files are closed whatever happens.

    `accuracy` is of augmented views, in %, of the epoch so far; `val_top1` of the weights as they are after an epoch,
    `top1` of those that are kept. `loss` is of a step, the mean over its passes that were read. A training that goes on
    repeats some steps: what was written of them is replaced.

    Args:
        plan: the training.
        folder: gets progress.csv and tensorboard/.
    """

    def __init__(self, plan: Plan, folder: Path):
        from torch.utils.tensorboard import SummaryWriter

        self.file, self.board = folder / "progress.csv", folder / "tensorboard"
        self.open_board, self.writer, self.plan = SummaryWriter, None, plan
        self.scheduler, self.every, self.written = plan.scheduler(), max(1, plan.steps // LINES), 0
        self.passes: list[Progress] = []  # of the step that is not yet written

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *error: object) -> None:
        if self.writer:
            self._write()
            self.bar.close()
            self.writer.close()
            self.stream.close()

    def __call__(self, progress: Progress) -> None:
        """Takes in where the training stands."""
        step = progress.step
        if self.writer is None:
            self._begin(step)
        if progress.val_top1 is not None:
            self._write()
            self._scored(step, "val_top1", progress.val_top1)
            return
        if self.passes and self.passes[0].step != step:
            self._write()
        self.passes.append(progress)
        self.bar.set_postfix(loss=f"{progress.loss:.3f}", accuracy=f"{progress.accuracy:.1f} %", refresh=False)
        self.bar.update(step - self.bar.n)

    def top1(self, value: float) -> None:
        """Takes in the result, in %."""
        steps = self.plan.steps
        if self.writer is None:  # all steps were behind it, and it was killed while it was scored
            self._begin(steps + 1)
        self._write()
        self._scored(steps, "top1", value)

    def _write(self) -> None:
        """Writes the step that ended, if a line is due."""
        passes, self.passes = self.passes, []
        if not passes or passes[-1].step - self.written < self.every and passes[-1].step < passes[-1].steps:
            return
        last, loss = passes[-1], statistics.fmean(progress.loss for progress in passes)
        self.written = last.step
        self.scheduler.step_update(last.step - 1)
        rate = self.scheduler.optimizer.param_groups[0]["lr"]
        self.rows.writerow([last.step, f"{loss:.6g}", f"{last.accuracy:.4g}", f"{rate:.6g}",
                            f"{last.images_per_second:.4g}", "", ""])
        self.stream.flush()
        for name, value in (("train/loss", loss), ("train/accuracy", last.accuracy), ("rate", rate)):
            self.writer.add_scalar(name, value, last.step)

    def _scored(self, step: int, name: str, value: float) -> None:
        self.rows.writerow([step, *(f"{value:.4g}" if column == name else "" for column in COLUMNS[1:])])
        self.stream.flush()
        self.writer.add_scalar(name, value, step)

    def _begin(self, step: int) -> None:
        """Opens the files, without what they hold of this step and later ones."""
        kept = []
        if self.file.exists():
            with open(self.file, newline="", encoding="utf-8") as stream:
                kept = [row for row in csv.reader(stream) if row and row[0].isdigit() and int(row[0]) < step]
        write_atomic(self.file, "".join(",".join(row) + "\n" for row in (COLUMNS, *kept)))
        self.stream = open(self.file, "a", newline="", encoding="utf-8")
        self.rows = csv.writer(self.stream, lineterminator="\n")
        self.writer = self.open_board(str(self.board), purge_step=step)
        self.bar = tqdm(total=self.plan.steps, initial=min(step, self.plan.steps) - 1, unit="step",
                        desc=str(self.plan.source), dynamic_ncols=True)
