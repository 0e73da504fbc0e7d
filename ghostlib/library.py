"""The commands of the library: what its user does with a network."""

from __future__ import annotations

import tempfile
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from ghostlib import errors, reproduction
from ghostlib.machine import require

app = typer.Typer(rich_markup_mode=None)

# The keys of deploy.export.FORMATS, stated here so that --help needs no library.
Format = Enum("Format", {name: name for name in ("onnx", "openvino", "executorch", "ncnn")}, type=str)
Name = Annotated[str, typer.Argument(help="a network's name; `ghostlib zoo` lists them")]
Names = Annotated[list[str], typer.Argument(help="of `ghostlib zoo`, timm/NAME, torchvision/NAME or module:function")]
Classes = Annotated[int, typer.Option(min=1, help="outputs of the classifier")]
Width = Annotated[float | None, typer.Option(min=0.01, max=100,
                                             help="channel multiplier; by default what the name says")]
Size = Annotated[int | None, typer.Option(min=1, help="px; by default the network's own")]


@app.command()
def zoo(match: Annotated[str, typer.Argument(help="show only names and rows that hold this text")] = "") -> None:
    """List the networks and the rows of the paper's Table 9 they stand behind."""
    from ghostlib.models import catalog

    rows: dict[str, list[str]] = {name: [] for name in catalog.ENTRIES}
    for row, name in catalog.rows().items():
        rows[name].append(row)
    found = {name: entry for name, entry in catalog.ENTRIES.items()
             if any(match.lower() in text.lower() for text in (name, *rows[name]))}
    if not found:
        catalog.find(match)  # which says what is near
    _show([{"name": name, "image (px)": entry.image_size, "width": entry.width or "fixed",
            "Table 9": ", ".join(rows[name])} for name, entry in found.items()])


@app.command()
def count(names: Names, image_size: Size = None) -> None:
    """Count parameters and multiply-accumulates of networks as they are deployed (folded)."""
    from ghostlib.deploy.count import count as counted
    from ghostlib.own.network import built

    records = []
    for name, (network, size) in built(names, image_size).items():
        found = counted(network, size)
        records.append({"name": name, "image (px)": size, "parameters (M)": _millions(found.params, 2),
                        "multiply-accumulates (M)": _millions(found.macs, 1)})
    _show(records)


@app.command("time")
def time_(names: Names,
          engine: Annotated[list[str] | None, typer.Option(help="'ONNX Runtime', OpenVINO, PyTorch or several")] = None,
          image_size: Size = None,
          threads: Annotated[list[int] | None, typer.Option(help="repeatable; by default 1, and all there are")] = None,
          rounds: Annotated[int, typer.Option(min=2, help="of 6 timed calls a network")] = 8) -> None:
    """Time networks on this machine's CPU: one image, float32, in interleaved rounds."""
    from ghostlib.deploy import latency
    from ghostlib.own.network import built

    engines = engine or tuple(latency.ENGINES)
    machine = latency.machine(engines)  # before minutes of timing, not after
    with tempfile.TemporaryDirectory() as folder:
        times = latency.benchmark(built(names, image_size), Path(folder), engines, threads, rounds)
    typer.echo(", ".join(f"{key}: {value}" for key, value in machine.items()))
    _show(times.round(2).to_dict("records"))


@app.command()
def convert(name: Name, source: Annotated[Path, typer.Argument(help="the authors', timm's or our own weights")],
            target: Annotated[Path, typer.Argument(help="the safetensors file to write")],
            ema: Annotated[bool, typer.Option("--ema", help="take the averaged weights of a checkpoint")] = False,
            fold: Annotated[bool, typer.Option("--fold", help="one convolution a site, as deployed")] = False,
            num_classes: Classes = 1000, width: Width = None) -> None:
    """Turn a checkpoint into ghostlib's safetensors."""
    from ghostlib.models import weights
    from ghostlib.own.weights import own_card

    if own_card(source):
        raise ValueError(f"{source} is ghostlib's safetensors, and tells how its images were scored, which what is "
                         "converted does not: give it to `ghostlib evaluate` and `ghostlib export` as it is")
    typer.echo(weights.convert(name, source, target, ema=ema, fold=fold, num_classes=num_classes, width=width))


@app.command()
def export(name: Name,
           form: Annotated[Format, typer.Argument(metavar="FORMAT", help="onnx, openvino, executorch or ncnn")],
           target: Annotated[Path, typer.Argument(help="the file to write")],
           weights_file: Annotated[Path | None, typer.Option("--weights", help="by default random")] = None,
           ema: Annotated[bool, typer.Option("--ema", help="take the averaged weights of a checkpoint")] = False,
           image_size: Size = None,
           num_classes: Annotated[int | None, typer.Option(min=1, help="outputs of the classifier; by default 1000, or "
                                                           "those of `ghostlib train`'s file")] = None,
           width: Width = None,
           tolerance: Annotated[float, typer.Option(min=0, help="how far the file's output may be from PyTorch's, as a "
                                                    "share of the largest")] = 1e-4) -> None:
    """Write the folded network for an inference engine, and check the file against PyTorch.

    NAME may be any network that `ghostlib train` trains, with random weights or its model.safetensors.

    For the engines of phones (executorch, ncnn) it also prints the commands that time the file on one.
    """
    from ghostlib.deploy import phone
    from ghostlib.deploy.agreement import enliven
    from ghostlib.deploy.export import FORMATS
    from ghostlib.models import catalog, weights
    from ghostlib.own import network as networks
    from ghostlib.own import weights as own

    if ema and weights_file is None:
        raise ValueError("--ema takes the averaged weights of a checkpoint: name it by --weights")
    if weights_file and (card := own.card_for(name, weights_file, ema, width, num_classes)):
        network, size = own.load(weights_file), image_size or card["image_size"]
    else:
        if weights_file is None:
            source = networks.find(name)
            size = image_size or source.image_size
            network = source.build(num_classes or 1000, {} if width is None else {"width": width}, size)
            if source.kind != "function":  # whose network may have weights that mean something
                enliven(network, size)
        else:
            size = image_size or catalog.find(name).image_size
            network, report = weights.open_network(name, weights_file, ema=ema, image_size=image_size, width=width,
                                                   num_classes=num_classes or 1000)
            typer.echo(report)
    path = FORMATS[form.value](network, target, size, tolerance=tolerance)
    typer.echo(f"{path}: agrees with PyTorch")
    if form in ("executorch", "ncnn"):
        typer.echo("\n".join(["To time it on a phone:", *phone.commands(form.value, path, size)]))


@app.command()
def evaluate(name: Annotated[str | None, typer.Argument(help="a network's name; `ghostlib zoo` lists them")] = None,
             weights_file: Annotated[Path | None, typer.Argument(metavar="WEIGHTS", help="the file to score")] = None,
             folder: Annotated[Path | None, typer.Argument(help="images in one folder a class, as ImageNet's val, or "
                                                           "tar shards of them")] = None,
             ema: Annotated[bool, typer.Option("--ema", help="take the averaged weights of a checkpoint")] = False,
             width: Width = None,
             batch_size: Annotated[int, typer.Option(min=1)] = 64,
             workers: Annotated[int | None, typer.Option(
                 help="processes that read images; by default none, with --published one less than CPUs")] = None,
             device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
             published: Annotated[bool, typer.Option(
                 "--published", help="score the public weights of Table 9's rows instead; go on where it stopped")]
             = False,
             data: Annotated[Path | None, typer.Option(
                 help="ImageNet, or its val, for --published; by default $IMAGENET_DIR or data/imagenet")] = None,
             weights_folder: Annotated[Path | None, typer.Option(
                 "--weights", help="files of weights for --published; what is not there is downloaded")] = None,
             rows: Annotated[list[str] | None, typer.Option(
                 help="a row of Table 9 or its network's name, for --published; may be repeated")] = None) -> None:
    """Score weights on a folder of images: top-1 and top-5.

    Size, crop and normalisation are the network's own; of the model.safetensors of `ghostlib train`, its training's.
    """
    if published:
        if name or ema or width is not None:
            raise ValueError("--published scores weights that it knows: give neither a network nor --ema or --width; "
                             "--rows chooses")
        require("repro", "pydantic", "tqdm", "pandas", "tabulate")
        from ghostlib.measures.published import workers as enough

        _check_device(device)
        reproduction.evaluate_published(data, weights_folder, rows or [], device=device, batch_size=batch_size,
                                        workers=enough() if workers is None else workers)
        return
    if name is None or weights_file is None or folder is None:
        raise ValueError("name a network, a file of weights and a folder of images, or give --published")
    if data or weights_folder or rows:
        raise ValueError("--data, --weights and --rows belong to --published")
    require("cli", "pydantic", "tqdm")  # training's, of which this uses the datasets and the scores
    import torch
    from timm.data import create_transform, resolve_data_config
    from torch.utils.data import DataLoader
    from tqdm import tqdm

    from ghostlib.models import weights
    from ghostlib.models.reparam import reparameterize
    from ghostlib.own import data as own_data
    from ghostlib.own import weights as own
    from ghostlib.training.evaluate import evaluate as score
    from ghostlib.training.views import Views

    _check_device(device)
    images, classes = own_data.one_part(folder)
    how: dict[str, Any] = {}
    if own.card_for(name, weights_file, ema, width):
        how, network = own.evaluated_as(weights_file, classes), own.load(weights_file)
    else:
        with errors.of_folder(folder):
            network, report = weights.open_network(name, weights_file, ema=ema, num_classes=len(classes), width=width)
        typer.echo(report)
        network = reparameterize(network)
    network = network.to(device)
    transform = create_transform(**resolve_data_config(how, model=network))
    loader = DataLoader(Views(images, transform, seed=0), batch_size, sampler=[(0, i) for i in range(len(images))],
                        num_workers=workers or 0)
    scores = score({name: network}, tqdm(loader, desc=name, unit="batch"), torch.device(device))
    typer.echo(f"{name} on {len(images)} images of {len(classes)} classes: "
               + ", ".join(f"{metric} {of[name]:.2f} %" if metric.startswith("top") else f"{metric} {of[name]:.4f}"
                           for metric, of in scores.items()))


@app.command(epilog="A value is in YAML: --set epochs=100 'crop_scale=[0.5,1]' teacher=null. Killed, the "
                    "same command goes on.")
def train(network: Annotated[str, typer.Argument(help="a network of `ghostlib zoo` (a GhostNetV3 is ghostnetv2_... "
                                                 "trained with branches), timm or torchvision (timm/NAME, "
                                                 "torchvision/NAME), or module:function, called with num_classes")],
          data: Annotated[Path, typer.Argument(help="images in one folder a class; a folder with train/ and val/ that "
                                               "hold such; or tar shards of WebDataset's form")],
          more: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="more of --set")] = None,
          set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="a setting of the recipe; "
                                                         "a key that is none lists them all")] = None,
          recipe: Annotated[Path | None, typer.Option(help="settings in a YAML file")] = None,
          teacher: Annotated[str | None, typer.Option(help="what an earlier training wrote, or timm's name")] = None,
          out: Annotated[Path | None, typer.Option(help="the folder to write; by default trained/NETWORK-DATA")] = None,
          device: Annotated[str, typer.Option(help="cpu, cuda, mps or auto")] = "auto",
          fresh: Annotated[bool, typer.Option("--fresh/--resume", help="begin again or go on")] = False) -> None:
    """Train a network on your images with the paper's strategy: branches, a teacher, its recipe, scaled to your data.

    What will be trained is shown first. With --set branches=0 teacher=null it is the same without them.
    """
    require("train", "accelerate", "pydantic", "tabulate", "tensorboard", "tqdm", "yaml")
    from ghostlib.own import settings
    from ghostlib.own import train as own

    if device != "auto":
        _check_device(device)
    layers = {f"--recipe {recipe}": settings.read_recipe(recipe)} if recipe else {}
    layers |= {"--set": settings.read_pairs([*(set_ or ()), *(more or ())])}
    own.train(network, data, layers | ({"--teacher": {"teacher": teacher}} if teacher else {}), out, device, fresh,
              typer.echo)


def _check_device(device: str) -> None:
    import torch

    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"--device {device}: PyTorch sees no CUDA device here; use --device cpu")
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:  # the latter where PyTorch was built without
        raise ValueError(f"--device {device}: PyTorch cannot compute on it here ({str(error).splitlines()[0]}); use "
                         "--device cpu") from error


def _millions(count: float, decimals: int) -> str:
    """A count in millions, of a small network with three digits."""
    return f"{count:.{decimals}f}" if count >= 1 else f"{count:.3g}"


def _show(records: list[dict[str, Any]]) -> None:
    require("cli", "tabulate")
    from tabulate import tabulate

    typer.echo(tabulate(records, headers="keys", disable_numparse=True))
