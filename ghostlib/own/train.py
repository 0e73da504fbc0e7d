"""`ghostlib train`: plan it, show the plan, train, and leave weights that load by one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import extract_model_from_parallel
from filelock import FileLock, Timeout
from safetensors.torch import load_file
from tabulate import tabulate
from torch import nn

from ghostlib.config import ConfigError
from ghostlib.files import write_atomic
from ghostlib.machine import world_size
from ghostlib.own import card, data, network, normalisation, settings, trial, weights
from ghostlib.own.log import Log
from ghostlib.own.plan import FILE, Plan, images_of_a_pass
from ghostlib.own.teacher import load_teacher
from ghostlib.runs.shared import joined
from ghostlib.training import loop
from ghostlib.training.split import largest_pass

RESULTS = "results.json"
_LEAST_PASS = 8  # images of one
# All that a training writes, which --fresh removes; what says that it is a training's goes last.
WRITTEN = (RESULTS, "recipe.yaml", "README.md", "config.json", "classes.txt", "progress.csv", "tensorboard", "states",
           "weights.safetensors", "ema.safetensors", weights.FILE, FILE)


def train(name: str, place: Path, layers: dict[str, dict[str, Any]], folder: Path | None = None, device: str = "auto",
          fresh: bool = False, show: Callable[[str], None] = print) -> dict[str, Any]:
    """Trains a network on images with the paper's strategy, or goes on; a finished training is only told of.

    Started in several processes, by torchrun or `accelerate launch`, these share every batch; the first one writes and
    shows.

    Args:
        name: of the network, see `network.find`.
        place: of the images, see `data.load`.
        layers: settings, see `settings.parse`.
        folder: gets the weights and what belongs to them; by default trained/NETWORK-DATA.
        device: "cpu", "cuda", "mps" or "auto".
        fresh: remove what an earlier training left in the folder.
        show: is told the plan, the result and how to load the weights.

    Returns:
        "top1" and "top5" in %, and "lines", which load the weights.

    Raises:
        ValueError: a network, image, setting or teacher that cannot be, or a folder that holds another training.
        NonFiniteLoss: it diverged.
    """
    plan, trained, teacher, rows = prepare(name, place, layers, folder, device)
    processes = joined(plan.device)  # this one, or those that torchrun started
    if not processes.is_main_process:
        return _train(plan, trained, teacher, rows, processes, fresh, lambda text: None)
    with _locked(plan.folder):
        return _train(plan, trained, teacher, rows, processes, fresh, show)


def _train(plan: Plan, trained: nn.Module, teacher: Any, rows: list[tuple[str, str]], processes: PartialState,
           fresh: bool, show: Callable[[str], None]) -> dict[str, Any]:
    if processes.is_main_process:  # it reads all images once, for which the others wait
        _check_own(plan.folder)
        if fresh:
            remove(plan.folder)
        plan.check_folder()
        data.check(plan.data, plan.folder)
        plan.claim()
    processes.wait_for_everyone()
    show(tabulate(rows, tablefmt="plain"))
    file = plan.folder / RESULTS
    if file.exists():
        show("This training has ended; --fresh begins it again.")
    elif processes.is_main_process:
        with Log(plan, plan.folder) as log:
            metrics = loop.train(trained, plan, plan.folder, teacher, log)
            scores = {metric: of[str(plan.recipe.ema_decay)] for metric, of in metrics["test"].items()}
            log.top1(scores["top1"])
        # Without what makes it compute in half precision, which is for training.
        trained = extract_model_from_parallel(trained, keep_fp32_wrapper=False).cpu()
        trained.load_state_dict(load_file(plan.folder / "ema.safetensors"))
        weights.save_model(trained, plan.folder / weights.FILE, card.contents(plan))
        lines = card.write(plan, rows, scores)
        write_atomic(file, json.dumps({"top1": scores["top1"], "top5": scores["top5"], "lines": lines}, indent=1))
        shutil.rmtree(plan.folder / "states", ignore_errors=True)
    else:
        loop.train(trained, plan, plan.folder, teacher)
    processes.wait_for_everyone()
    result = json.loads(file.read_text(encoding="utf-8"))
    part = "test" if plan.data.tested else "validation"
    show(f"\n{len(plan.splits.test)} {part} images: top-1 {result['top1']:.2f} %, top-5 {result['top5']:.2f} %. "
         f"{plan.folder} holds the weights and a model card; to load them:\n\n{result['lines']}")
    return result


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds the lock on a folder, which the operating system opens where a process is killed.

    Raises:
        ConfigError: another process has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise ConfigError(f"{folder}: another process trains there; wait for it, or name another folder with --out"
                          ) from None
    try:
        yield
    finally:
        lock.release()


def prepare(name: str, place: Path, layers: dict[str, dict[str, Any]], folder: Path | None, device: str,
            ) -> tuple[Plan, nn.Module, Any, list[tuple[str, str]]]:
    """The plan, the network in its training form, its teacher or None, and the plan's rows; nothing is written."""
    source, device = network.find(name), device_of(device)
    asked = settings.parse(source, layers, train_images=settings.LARGEST_BATCH * settings.LEAST_STEPS)
    images = data.load(place, asked.held_out)
    recipe = settings.parse(source, layers, len(images.splits.train))
    if recipe.batch_size > (number := len(images.splits.train)):
        raise ConfigError(f"batch_size = {recipe.batch_size}: {place} has {number} images to train on, less than one "
                          f"batch; give --set batch_size={settings.batch_for(number)}, or leave it out")
    _check_possible(recipe, device)
    _check_passes(recipe, device)
    teacher, identity, called = None, None, None
    if recipe.teacher and recipe.alpha:
        teacher, identity, called = load_teacher(recipe.teacher, images.classes, recipe.image_size)
    plan = Plan(source, recipe, images, place, device, identity,
                folder or Path("trained", f"{str(source).replace('/', '-').replace(':', '.')}-{place.resolve().stem}"))
    if plan.folder.resolve() == place.resolve():
        raise ConfigError(f"{plan.folder} holds the images, beside which a training may write no classes.txt; name "
                          "another folder with --out")
    if plan.folder.resolve().is_relative_to(place.resolve()) and not images.named:
        raise ConfigError(f"{plan.folder} lies in {place}, where it would be taken for a class the next time; name "
                          "another folder with --out")
    torch.manual_seed(recipe.seed)  # of the initial weights; every draw of the training itself is addressed
    built = source.build(len(images.classes), recipe.options, recipe.image_size, recipe.dropout, recipe.pretrained)
    network.check(built, len(images.classes), recipe.image_size)
    deployed_millions = network.millions(built)
    normalisation.convert(built, plan.normalisation)
    if recipe.branches:
        network.add_branches(built, recipe, recipe.image_size, recipe.exclude, recipe.inside, recipe.keeps_function)
    trial.check(built, recipe.image_size, world_size(), recipe.sync_batchnorm)
    return plan, built, teacher, plan.rows(built, deployed_millions, called)


def _check_possible(recipe: settings.Settings, device: str) -> None:
    """Refuses what can never be trained here, before a folder is claimed for it.

    Raises:
        ConfigError: processes cannot share the batch evenly, or the device lacks what is asked for.
    """
    size, processes = recipe.batch_size, world_size()
    if size % processes:
        least = processes * (2 if recipe.mixup or recipe.cutmix else 1)  # these pair images
        near = max(least, size - size % least)
        raise ConfigError(f"batch_size = {size}: {processes} processes share a batch evenly; give --set "
                          f"batch_size={near}")
    if recipe.sync_batchnorm and device != "cuda":
        raise ConfigError(f"sync_batchnorm = true is for GPUs, and this trains on {device}; leave it out")
    if recipe.precision == "fp16" and device == "cpu":
        raise ConfigError("precision = fp16 is for GPUs, and this trains on cpu; take bf16, or leave it out")


def _check_own(folder: Path) -> None:
    """Sees that nobody else's files would be overwritten or removed.

    Raises:
        ConfigError: the folder is no training's, and holds files of names that a training writes.
    """
    if not (folder / FILE).exists() and (others := [name for name in WRITTEN if (folder / name).exists()]):
        raise ConfigError(f"{folder} holds {' and '.join(others)}, which no training there wrote and this one would "
                          "overwrite; name another folder with --out")


def _check_passes(recipe: settings.Settings, device: str) -> None:
    """Refuses a batch that is taken only in passes of a few images, fewer than were asked for.

    Raises:
        ConfigError: these are all that batch normalisation would see.
    """
    size, share = images_of_a_pass(recipe, device), recipe.batch_size // world_size()
    most, pairs = recipe.pass_images or loop.CPU_PASS, bool(recipe.mixup or recipe.cutmix)

    def enough(batch: int) -> bool:
        return not (pairs and batch % 2) and largest_pass(batch, most, pairs=pairs) >= min(batch, most, _LEAST_PASS)

    if size is not None and size < (wanted := min(share, most, _LEAST_PASS)):
        near = next(batch for batch in range(share, 0, -1) if enough(batch)) * world_size()
        other = next(images for images in range(wanted, share + 1)
                     if share % images == 0 and not (pairs and images % 2))
        raise ConfigError(f"batch_size: at most {most} images are taken at a time (pass_images), in equal passes, and "
                          f"for {share} these are of {size}, too few for batch normalisation; give --set "
                          f"batch_size={near}, or pass_images={other}")


def device_of(wanted: str) -> str:
    """The device that "auto" stands for: a GPU where PyTorch sees one.

    Raises:
        ConfigError: it is one of several GPUs, or nothing that trains.
    """
    if wanted not in ("auto", "cpu", "cuda", "mps"):
        raise ConfigError(f"--device {wanted}: a training takes auto, cpu, cuda or mps; the environment variable "
                          "CUDA_VISIBLE_DEVICES says which GPU, e.g. CUDA_VISIBLE_DEVICES=1")
    if wanted != "auto":
        return wanted
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def remove(folder: Path) -> None:
    """Removes what a training writes, and nothing else that may be in its folder."""
    for name in (*data.WHOLE, *WRITTEN):
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
