"""Times whole training steps of profiles' recipes on a GPU, as Python launches them and replayed as CUDA graphs.

Everything that a step does is in it, optimiser, averages and teacher too, but for the views, which are random numbers:

    PYTHONPATH=. python benchmarks/replay.py [PROFILE ...]

It prints the median of the steps, what that makes of images a second, and peak memory.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import torch
from accelerate import Accelerator

from ghostlib.training import distill
from ghostlib.training.arm import Arm
from ghostlib.training.build import build_network
from ghostlib.training.profile import Profile, kind_of, load_params, load_profile
from ghostlib.training.replay import ReplayedArm

RECIPES = ({"branches": 0, "teacher": None}, {"teacher": None}, {},
           {"branches": 0, "teacher": None, "optimizer": "rmsproptf"})
STEPS = 1_000  # of the schedule; fewer are timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("profiles", nargs="*", default=["fashion", "cifar100"], metavar="PROFILE")
    parser.add_argument("--steps", type=int, default=30, help="timed steps (default 30)")
    options = parser.parse_args()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    for name in options.profiles:
        profile = load_profile(name, load_params())
        for overrides in RECIPES:
            print("\n".join(lines(profile, overrides, options.steps)), flush=True)


def lines(profile: Profile, overrides: dict[str, object], steps: int) -> Iterator[str]:
    """How long a recipe's steps take, launched and replayed."""
    recipe = profile.resolve(overrides)
    recipe = recipe.model_copy(update={"ema_decay": recipe.ema_decays[0]})
    title = f"{profile.name}, {recipe.batch_size} × {profile.image_size} px, {profile.precision}: {kind_of(recipe)}"
    for way, arm_of in ("launched", Arm), ("replayed", ReplayedArm):
        seconds, peak = timed(profile, recipe, arm_of, steps)
        yield (f"{title:85} {way} {1e3 * seconds:7.1f} ms, {recipe.batch_size / seconds:7.0f} images/s, "
               f"peak {peak / 2**20:6.0f} MiB")


def timed(profile: Profile, recipe: object, arm_of: type[Arm], steps: int) -> tuple[float, int]:
    """Seconds of a step (the median) and the most bytes of memory that PyTorch took for it."""
    torch.manual_seed(0)
    network = _network(recipe, profile)
    teacher = None
    if recipe.teacher:
        stand_in = profile.resolve(profile.teachers[recipe.teacher].stand_in)
        teacher = distill.stand_in(_network(stand_in, profile.of_stand_in(recipe.teacher)))
    run = SimpleNamespace(recipe=recipe, profile=profile, seed=0, splits=None, key="timed")
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as folder:
        arm = arm_of(network, run, Path(folder), teacher)
        arm.begin(Accelerator(mixed_precision=profile.precision), STEPS)
        arm.begin_steps()
        views = torch.randn(recipe.batch_size, 3, profile.image_size, profile.image_size, device="cuda")
        views = views.contiguous(memory_format=torch.channels_last)
        labels = torch.randint(profile.num_classes, (recipe.batch_size,), device="cuda")
        taken = []
        for number in range(10 + steps):
            torch.cuda.synchronize()
            start = time.perf_counter()
            arm.step(number, 0, views, labels, labels, {})
            torch.cuda.synchronize()
            taken.append(time.perf_counter() - start)
    return statistics.median(taken[10:]), torch.cuda.max_memory_reserved()


def _network(recipe: object, profile: Profile) -> torch.nn.Module:
    return build_network(recipe, profile.num_classes, profile.width_scale, profile.image_size, profile.patch_size)


if __name__ == "__main__":
    main()
