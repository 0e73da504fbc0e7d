"""Times ten distilled arms of the digits profile: together with exact sums, and one by one, branch by branch.

CPU seconds of one core, teacher and data at hand, in turns; every start in a process of its own. One by one is not
what the project once did: what has become faster in either way is in both.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time

from ghostlib.models.rep_conv import RepConv
from ghostlib.runs.classifier import ClassifierRun
from ghostlib.runs.store import Store
from ghostlib.training.profile import load_params, load_profile

WAYS = ("together", "alone")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        print(seconds(options.way, options.epochs))
        return
    taken: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(options.rounds):
        for way in WAYS:
            said = subprocess.run([sys.executable, __file__, "--way", way, "--epochs", str(options.epochs)], check=True,
                                  stdout=subprocess.PIPE, text=True)
            taken[way].append(float(said.stdout.split()[-1]))
    best = {way: min(values) for way, values in taken.items()}
    for way, values in taken.items():
        print(f"{way:9} {', '.join(f'{value:.1f}' for value in values)} s")
    print(f"together ÷ alone {best['together'] / best['alone']:.2f}")


def seconds(way: str, epochs: int) -> float:
    """CPU seconds of the ten."""
    profile = load_profile("digits", load_params())
    runs = [ClassifierRun(profile.resolve({"epochs": epochs, "teacher": "ResNet-101", "alpha": alpha, "tau": tau}),
                          profile, seed=0)
            for alpha in (0.5, 0.6, 0.7, 0.8, 0.9) for tau in (1.0, 2.0)]
    RepConv.form = "auto" if way == "together" else "branches"
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        store.ensure(runs[0].teacher_run)
        runs[0].network()
        start = time.process_time()
        if way == "together":
            for _, error in store.ensure_together(runs, lambda job, progress: None):
                if error is not None:
                    raise error
        else:
            for run in runs:
                store.ensure(run)
        return time.process_time() - start


if __name__ == "__main__":
    main()
