"""The long form, `python -m tests.faults 300`: as many faults, of all kinds in turn, and docs/faults.md about them."""

from __future__ import annotations

import platform
import shutil
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from tabulate import tabulate
from tqdm import tqdm

from ghostlib.files import write_atomic
from ghostlib.machine import cpu_name
from tests.faults.case import Outcome, Whole
from tests.faults.kinds import GRACE, KINDS, LOST_RANK, strike

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"
TEXT = """# Faults

`make faults N={number}` strikes {number} tiny trainings (48 digits, 2 epochs of 3 steps, a state on disk after every \
step), each with a fault whose moment and place a seed draws. Then the same command is started again, undisturbed, and \
what it leaves is compared with an undisturbed training, byte for byte: weights, averages and metrics. Made on {date} \
in {minutes:.0f} minutes on {cpu}, Python {python}, PyTorch {torch}. {good} of {number} faults were survived in the \
same bits, with a message wherever somebody was left to give one, and nothing left behind but what the last section \
lists.

{table}

- *In the writing of a file*: when half of it is written, when it is whole under another name, or when it has its own. \
It may be any of the files of a training, states or final ones. A *full disk* refuses at the same places.
- *A torn state*: the newest, or the two there are, end at any byte. *A flipped bit* is in the digest, the archive's \
header, the structure, a tensor or the archive's directory.
- *Of the command* or *of a process that trains*: a command has such processes below it. SIGTERM goes to the command, \
Ctrl-C to all; within {grace:.0f} s the command and all below it have ended.
- *Two commands at once* want the same training; every other time the first is killed meanwhile.

`tests/faults/test_faults.py` injects at least one fault of each kind but the last; it is in the suite.

## What is not noticed, and what stays

- Only states carry a digest. A bit that flips in the weights of a *finished* training is not noticed, and one in its \
metrics.json only if the file is no longer JSON. To train the run again, remove its folder.
- After `kill -9` of a command, one folder `pymp-...` of Python's with a dead socket stays in TMPDIR.
- A training that is killed after its last file, before its states are removed, keeps these beside it.
- Processes that load data notice the end of the one they load it for after up to five seconds.
"""


def main(number: int) -> int:
    """Returns how many faults were not survived as they should be."""
    common, rare = [kind for kind in KINDS if kind != LOST_RANK], number // 50
    plan = [(common[i % len(common)], i // len(common)) for i in range(number - rare)]
    plan += [(LOST_RANK, seed) for seed in range(rare)]
    start, outcomes = time.perf_counter(), []
    with TemporaryDirectory() as folder:
        whole = Whole(Path(folder))
        for kind, seed in tqdm(plan, unit="fault"):
            outcome = strike(kind, seed, whole, struck := Path(folder, "struck"))
            outcomes.append(outcome)
            if not outcome.good:
                tqdm.write(str(outcome))
            shutil.rmtree(struck)
    table = table_of(outcomes)
    print(table)
    good = sum(outcome.good for outcome in outcomes)
    write_atomic(PAGE, TEXT.format(
        number=number, good=good, table=table, date=time.strftime("%Y-%m-%d"), cpu=cpu_name(), grace=GRACE,
        minutes=(time.perf_counter() - start) / 60, python=platform.python_version(), torch=torch.__version__))
    return number - good


def table_of(outcomes: list[Outcome]) -> str:
    """A row a kind: how many were injected, and how many of them ended in each of the ways they should."""
    rows = []
    for kind in KINDS:
        if of_kind := [outcome for outcome in outcomes if outcome.kind == kind]:
            told = [outcome.told for outcome in of_kind if outcome.told is not None]
            rows.append([kind, len(of_kind), *(sum(getattr(outcome, way) for outcome in of_kind)
                                               for way in ("survived", "equal", "tidy")), sum(told) if told else "—"])
    return tabulate(rows, ["fault", "injected", "survived", "same bits", "nothing left", "told"], tablefmt="github")


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])) > 0)
