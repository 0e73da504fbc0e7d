"""The kinds of faults: each strikes a tiny training, which the same command then ends as if nothing had happened."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil

from tests.faults import children
from tests.faults.case import Case, Outcome, Whole
from tests.faults.children import AtFile, Fail

ROOT = Path(__file__).parents[2]
GRACE = 20.0  # s; schedulers give 30 between SIGTERM and SIGKILL
DIGEST = 32  # bytes at the beginning of a state
NEXT = "the same command goes on from"

Kind = Callable[[Case], bool | None]
KINDS: dict[str, Kind] = {}


def kind(name: str) -> Callable[[Kind], Kind]:
    def named(strike: Kind) -> Kind:
        KINDS[name] = strike
        return strike
    return named


def strike(name: str, seed: int, whole: Whole, folder: Path) -> Outcome:
    """Injects a fault of a kind, whose moments and places the seed draws, and looks at what is left."""
    outcome, case = Outcome(name, seed), Case(whole, folder, f"{name}, {seed}")
    try:
        outcome.told = KINDS[name](case)
        code, wanted = case.end(), whole.of_two if name == LOST_RANK else whole.content
        outcome.survived = code == 0
        outcome.equal = case.content() == wanted
        outcome.tidy = not case.half_written()
    except AssertionError as error:
        outcome.note = str(error)
    if not outcome.good:
        outcome.note = f"{outcome.note} {case.heard()[-500:]}".strip()
    return outcome


# -- killed


@kind("kill -9 at a random moment")
def killed(case: Case) -> None:
    moment = case.rng.random() * case.whole.seconds
    while True:
        child = case.start()
        child.join(moment)
        child.kill()
        child.join()
        if child.exitcode:
            return
        case.clear()  # it had ended
        moment *= 0.8


@kind("kill -9 in the writing of a file")
def killed_at_file(case: Case) -> None:
    code = case.train(AtFile(case.rng.randint(1, 11), case.rng.choice(AtFile.PLACES), children.kill))
    assert code == -signal.SIGKILL, f"exit status {code}"


@kind("kill -9 of the command")
def killed_command(case: Case) -> None:
    child = case.command()
    trains = below(child.pid)
    child.kill()
    child.join()
    gone(trains)


@kind("kill -9 of a process that trains")
def killed_worker(case: Case) -> bool:
    while True:
        child = case.command()
        for trains in below(child.pid):
            trains.kill()
        child.join()
        if child.exitcode:
            break
        case.clear()  # it had trained all
    assert child.exitcode == 1, f"exit status {child.exitcode}"
    return f"killed by signal 9; {NEXT} its last state" in case.heard()


def interrupted(case: Case, number: int, send: Callable[[int, int], None]) -> bool:
    """A signal that asks a command to end; within the grace period it has, and nothing of it is left."""
    while True:
        child = case.command()
        trains = below(child.pid)
        if child.is_alive():
            send(child.pid, number)
        child.join(GRACE)
        if child.exitcode:
            break
        assert child.exitcode == 0, "it did not end"
        case.clear()  # it had trained all
    assert child.exitcode == 128 + number, f"exit status {child.exitcode}"
    gone(trains)
    heard = case.heard()
    return heard.endswith(f"interrupted: {NEXT} the last state\n") and "Traceback" not in heard


def below(pid: int) -> list[psutil.Process]:
    """The processes that one has started, directly or not; none where it has ended."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=GRACE)
    assert not alive, f"{len(alive)} processes are left"


# A scheduler asks the command, a terminal all that is in the foreground.
KINDS["SIGTERM"] = partial(interrupted, number=signal.SIGTERM, send=os.kill)
KINDS["Ctrl-C"] = partial(interrupted, number=signal.SIGINT, send=os.killpg)


# -- disks


@kind("a torn state")
def torn(case: Case) -> bool:
    case.begin()
    for state in case.states()[-case.rng.choice((1, 1, 2)):]:  # the newest, or both
        content = state.read_bytes()
        state.write_bytes(content[:int(case.rng.random() * len(content))])
    return said_torn(case)


@kind("a flipped bit in a state")
def flipped(case: Case) -> bool:
    case.begin()
    state = case.states()[-1]
    flip(state, case.rng.choice(list(regions(state))), case.rng)
    return said_torn(case)


def said_torn(case: Case) -> bool:
    assert case.end() == 0, "it did not end"
    return "is torn (its digest does not fit)" in case.heard()


def regions(state: Path) -> dict[str, tuple[int, int]]:
    """The parts of a state's file: name -> its first byte and the one after its last."""
    with zipfile.ZipFile(state) as archive:  # which passes over what stands before it
        entries = sorted(archive.infolist(), key=lambda entry: entry.header_offset)
        starts = [entry.header_offset for entry in entries]
        last = archive.start_dir
    pickled, tensor = entries[0], max(entries, key=lambda entry: entry.file_size)
    after = starts[starts.index(tensor.header_offset) + 1]
    return {"digest": (0, DIGEST), "header": (starts[0], starts[0] + 30),
            "structure": (starts[0] + 64, starts[0] + 64 + pickled.file_size // 2),
            "tensor": (after - tensor.file_size // 2, after), "directory": (last, state.stat().st_size)}


def flip(file: Path, region: str, rng: random.Random) -> None:
    content = bytearray(file.read_bytes())
    content[rng.randrange(*regions(file)[region])] ^= 1 << rng.randrange(8)
    file.write_bytes(content)


@kind("a full disk")
def full(case: Case) -> bool:
    number = case.rng.choice((errno.ENOSPC, errno.EDQUOT))
    code = case.train(AtFile(case.rng.randint(1, 11), case.rng.choice(AtFile.PLACES), Fail(number)))
    assert code == 1, f"exit status {code}"
    return os.strerror(number) in case.heard() and str(case.root / case.run.key) in case.heard()


@kind("a read-only folder")
def read_only(case: Case) -> bool:
    if case.rng.random() < 0.5:
        case.begin()
    code = case.train(children.ReadOnly(case.root))
    assert code == 1, f"exit status {code}"
    return os.strerror(errno.EROFS) in case.heard() and str(case.root) in case.heard()


# -- surroundings


@kind("a clock that jumps")
def clock(case: Case) -> None:
    code = case.train(children.JumpingClock(case.rng.randrange(2**32)))
    assert code == 0, f"exit status {code}"


@kind("a user without home and name")
def nobody(case: Case) -> None:
    code = case.train(children.nobody)
    assert code == 0, f"exit status {code}"


@kind("two commands at once")
def two(case: Case) -> None:
    first = case.start()
    time.sleep(case.rng.random() * case.whole.seconds / 2)
    second = case.start()
    if case.rng.random() < 0.5:
        first.join(case.rng.random() * case.whole.seconds / 2)
        first.kill()
    for child in (first, second):
        child.join()
    assert second.exitcode == 0 and first.exitcode in (0, -signal.SIGKILL), f"{first.exitcode}, {second.exitcode}"


# -- several processes: half a minute each, so in the long form only

LOST_RANK = "kill -9 of one of two processes"


def torchrun(case: Case) -> subprocess.Popen:
    with open(case.said, "a") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m",
             "tests.faults.rank", case.root], cwd=ROOT, stdout=said, stderr=said,
            env=os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(case.root.parent)})


@kind(LOST_RANK)
def lost_rank(case: Case) -> None:
    if not case.whole.of_two:
        assert torchrun(case).wait() == 0, "undisturbed it did not end"
        case.whole.of_two = case.content()
        case.clear()
    while True:
        agent, states = torchrun(case), case.rng.randint(1, 2)
        while len(case.states()) < states and agent.poll() is None:
            time.sleep(0.02)
        time.sleep(case.rng.random() * case.whole.seconds / 2)
        if ranks := below(agent.pid):
            case.rng.choice(ranks).kill()
        gone(ranks)
        if agent.wait():
            break
        case.clear()  # it had trained all
    assert torchrun(case).wait() == 0, "it did not go on"
