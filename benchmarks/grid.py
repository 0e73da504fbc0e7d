"""Times grids of small runs of the digits profile in ways that should differ, in under four minutes on two cores.

- Four distilled arms together, with exact sums, and one by one, branch by branch: CPU seconds of one core.
- Two commands at one store, a worker each, and one command with one worker: seconds.
- A Ray cluster of two CPUs that is there already, and two workers of the local engine: seconds.

Every way starts in a process of its own; teacher, data and imports of that process are at hand when the clock starts,
those of workers are not. One by one is not what the project once did: what has become faster in either way is in both.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time

from ghostlib.models.rep_conv import RepConv
from ghostlib.runs import engines
from ghostlib.runs.classifier import ClassifierRun
from ghostlib.runs.store import Store
from ghostlib.training.profile import Profile, load_params, load_profile

CORES = 2
# How many processes begin at a time, their engine, and its workers.
GRIDS = {"one command": (1, "local", 1), "two commands": (2, "local", 1), "local engine": (1, "local", CORES),
         "Ray engine": (1, "ray", CORES)}
ARMS = ("together", "alone")
# What is divided by what, and what is asked of it.
RATIOS = {("together", "alone"): "", ("one command", "two commands"): "; at least 1.8 is asked",
          ("Ray engine", "local engine"): "; at most 1.15 is asked"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=16, help="of a grid (16)")
    parser.add_argument("--epochs", type=int, default=1, help="of a run of a grid (1)")
    parser.add_argument("--arms", type=int, default=4, help="that are trained together, or not (4)")
    parser.add_argument("--only", nargs="+", choices=[*ARMS, *GRIDS], default=[*ARMS, *GRIDS], metavar="WAY",
                        help=f"of {', '.join([*ARMS, *GRIDS])}")
    parser.add_argument("--begin", nargs=2, metavar=("WAY", "STORE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.begin:
        way, store = options.begin
        print(*(arms(way, options.arms, Store(store)) if way in ARMS else
                grid(way, options.runs, options.epochs, Store(store))))
        return
    taken = {}
    for way in options.only:
        taken[way] = seconds(way, sys.argv[1:])
        print(f"{way:13} {taken[way]:6.1f} s{' of a CPU' * (way in ARMS)}", flush=True)
    for (one, other), asked in RATIOS.items():
        if {one, other} <= taken.keys():
            print(f"{one} ÷ {other}: {taken[one] / taken[other]:.2f}{asked}")


def seconds(way: str, arguments: list[str]) -> float:
    """From the first process's begin to the last one's end, in a store of their own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, *arguments, "--begin", way, folder]
        started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
                   for _ in range(GRIDS[way][0] if way in GRIDS else 1)]
        said = [process.communicate()[0] for process in started]
        if any(process.returncode for process in started):
            raise SystemExit(f"{way} failed")
        begins, ends = zip(*(map(float, text.split()[-2:]) for text in said), strict=True)
        return max(ends) - min(begins)


def small() -> Profile:
    """The digits profile with a third of its images and teachers of an epoch."""
    profile = load_profile("digits", load_params())
    teachers = {name: teacher.model_copy(update={"stand_in": {**teacher.stand_in, "epochs": 1}})
                for name, teacher in profile.teachers.items()}
    return profile.model_copy(update={"train_images": 400, "teachers": teachers})


def grid(way: str, runs: int, epochs: int, store: Store) -> tuple[float, float]:
    """Begin and end (seconds since 1970) of a grid whose runs are of different seeds, so that none share anything."""
    profile, (_, engine, workers) = small(), GRIDS[way]
    recipe = profile.resolve({"epochs": epochs, "teacher": None, "branches": 0})
    jobs = [ClassifierRun(recipe, profile, seed) for seed in range(runs)]
    [job.key for job in jobs]  # which reads the data
    cluster = None
    if engine == "ray":
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args={
            "num_cpus": workers, "include_dashboard": False, "include_log_monitor": False, "no_monitor": True})
        os.environ["RAY_ADDRESS"] = cluster.address
    try:
        begin = time.time()
        engines.run(jobs, engine, workers, store, way)
        return begin, time.time()
    finally:
        if cluster:
            cluster.shutdown()


def arms(way: str, number: int, store: Store) -> tuple[float, float]:
    """CPU seconds of this process before and after its arms."""
    profile = small()
    runs = [ClassifierRun(profile.resolve({"epochs": 1, "teacher": "ResNet-101", "alpha": 0.5 + step / 20}), profile, 0)
            for step in range(number)]
    RepConv.form = "auto" if way == "together" else "branches"
    store.ensure(runs[0].teacher_run)
    runs[0].network()
    begin = time.process_time()
    if way == "together":
        for _, error in store.ensure_together(runs, lambda job, progress: None):
            if error is not None:
                raise error
    else:
        for run in runs:
            store.ensure(run)
    return begin, time.process_time()


if __name__ == "__main__":
    main()
