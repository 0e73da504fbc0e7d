"""Weights: read in whichever layout a GhostNet was published, written in one of our own.

    network = zoo.create("ghostnetv3_100")
    print(load(network, "ghostnetv3-1.0.pth.tar", ema=True))  # the authors' file, its averaged weights
    save(reparameterize(network), "deployed.safetensors")

A network has one of three forms, each with parameters that the others lack: plain (a normalisation behind every
convolution), in training form (branches) or folded (a bias). A file is loaded into a network of its own form; what
leads from one form to the next, `add_branches` or `reparameterize`, is applied to the network.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ghostlib.files import save_weights as save
from ghostlib.models import misfit
from ghostlib.models.misfit import Report, has_branches
from ghostlib.models.reparam import add_branches, reparameterize

# The branches of V3 as the authors' ghostnetv3.py (`bn`) and timm's ghostnet.py (`bn1`) name them, and as a `RepConv`
# in V2's place does. All other names are the same in the three, and in V1 and V2.
_V3_NAMES = {
    "primary_rpr_conv.": "primary_conv.0.branches.",
    "cheap_rpr_conv.": "cheap_operation.0.branches.",
    "cheap_rpr_scale.": "cheap_operation.0.scale.",
    "cheap_rpr_skip.": "cheap_operation.0.skip.",
    "dw_rpr_conv.": "conv_dw.branches.",
    "dw_rpr_scale.": "conv_dw.scale.",
    ".bn.": ".norm.",
    ".bn1.": ".norm.",
}
# What this library called the branch `scale` in its first version.
_OLD_SCALE = re.compile(r"(?<![^.])pointwise\.(?=(conv|norm)\.)")


__all__ = ["Report", "WeightsError", "convert", "is_deployed", "is_folded", "load", "open_network", "save"]


class WeightsError(ValueError):
    """A file whose weights cannot be read or do not fit; the network is as it was.

    Attributes:
        command: the same in words for the command line, which has options where Python has arguments.
        classes: how many the file's classifier has and the network's, where they differ in nothing else.
    """

    def __init__(self, message: str, command: str = "", classes: tuple[int, int] | None = None):
        super().__init__(message)
        self.command, self.classes = command or message, classes


def load(network: nn.Module, path: str | Path, *, ema: bool = False, strict: bool = True) -> Report:
    """Loads a file's weights into a network, in place; the file is known by what is in it, not by its name.

    It may be a safetensors or a PyTorch file, a state dict or a training checkpoint with one, written by this library,
    by timm or by the authors of GhostNet V1, V2 or V3. Nothing is unpickled but tensors and plain data.

    Args:
        network: of the file's form (see above).
        path: the file.
        ema: take the averaged weights, `state_dict_ema`, of a training checkpoint that holds both.
        strict: everything has to fit. Otherwise what fits is loaded, the network keeps its own for the rest, and the
            report names that; use it to keep another classifier.

    Raises:
        FileNotFoundError: there is no such file.
        WeightsError: it is torn, not a checkpoint, needs more than weights to be unpickled, lacks the averaged weights,
            has another form than the network, fits it nowhere or, if `strict`, not everywhere.
    """
    path = Path(path)
    layout, state = _in_our_names(_state_dict(_read(path), ema, path))
    own = network.state_dict()
    shapes = {name: (tuple(tensor.shape), tuple(own[name].shape)) for name, tensor in state.items() if name in own}
    fitting = {name: state[name] for name, (theirs, ours) in shapes.items() if theirs == ours}
    report = Report(
        form=f"{layout}{'in training form' if has_branches(state) else 'without branches'}{', averaged' * ema}",
        loaded=len(fitting),
        # A counter that no forward pass reads, and that files of before PyTorch 0.4.1 lack.
        missing=tuple(name for name in own if name not in state and not name.endswith("num_batches_tracked")),
        unexpected=tuple(name for name in state if name not in own),
        mismatched=tuple((name, theirs, ours) for name, (theirs, ours) in shapes.items() if theirs != ours))
    other_form = misfit.of_form(state, own)
    if other_form or not fitting or strict and not report.complete:
        remedy = misfit.of_another_network(state, own) or other_form or misfit.of_size(report)
        found = f"{path} does not fit this {type(network).__name__}. The file is {report}."
        raise WeightsError(f"{found} {remedy.python}", f"{found} {remedy.command}", remedy.classes)
    network.load_state_dict(fitting, strict=False)
    return report


def is_folded(path: str | Path, *, ema: bool = False) -> bool:
    """Whether a file was written from a folded network: only folding gives a depth-wise convolution a bias.

    (PiT's have one from the start, but folding leaves that network as it is.) Arguments and errors as for `load`.
    """
    state = _state_dict(_read(Path(path)), ema, Path(path))
    return any(name.removesuffix("weight") + "bias" in state for name, tensor in state.items()
               if tensor.ndim == 4 and tensor.shape[1] == 1)


def is_deployed(path: str | Path, *, ema: bool = False) -> bool:
    """Whether a file holds what `reparam.plain_state` gives: some normalisation adds a bias and does nothing else.

    Such a one has a variance of 1 − ε, which is 1 in half precision, and a bias, which a fresh one has not. Arguments
    and errors as for `load`.
    """
    state = _state_dict(_read(Path(path)), ema, Path(path))
    layers = [name.removesuffix("running_var") for name in state if name.endswith("running_var")]
    return any(_adds_a_bias(*(state.get(layer + kind) for kind in ("running_var", "running_mean", "weight", "bias")))
               for layer in layers)


def _adds_a_bias(variance: Tensor, mean: Tensor, weight: Tensor | None, bias: Tensor | None) -> bool:
    if not variance.numel() or not ((variance > 0.9) & (variance <= 1) & (variance == variance.flatten()[0])).all():
        return False
    if weight is None or bias is None:  # a normalisation without them subtracts it
        return len(variance) > 1 and bool(mean.any())
    return bool((weight == 1).all() and not mean.any() and bias.any())


def open_network(name: str, path: str | Path, *, ema: bool = False, **options: Any) -> tuple[nn.Module, Report]:
    """A network of the zoo in the form that a file has (plain, with its branches, or folded), with the file's weights.

    Args:
        name: of the network, see `zoo.names`.
        path: the file, see `load`.
        ema: the averaged weights of a training checkpoint.
        options: of `zoo.create`, e.g. `num_classes` for a file of other than 1000 classes.

    Raises:
        ValueError: an unknown network, or a file that does not fit it (`WeightsError`).
    """
    from ghostlib.models import zoo

    network = zoo.create(name, **options)
    _, state = _in_our_names(_state_dict(_read(Path(path)), ema, Path(path)))
    branched = has_branches(network.state_dict())
    if has_branches(state) and not branched:
        count = 1 + max((int(index) for name in state for index in re.findall(r"\bbranches\.(\d+)\.", name)), default=0)
        add_branches(network, count, *(any(f".{extra}." in name for name in state) for extra in ("scale", "skip")))
    elif is_folded(path, ema=ema):
        network = reparameterize(network if branched else add_branches(network, 1, scale=False, skip=False))
    return network, load(network, path, ema=ema)


def convert(name: str, source: str | Path, target: str | Path, *, ema: bool = False, fold: bool = False,
            **options: Any) -> Report:
    """Rewrites a file of any layout as our safetensors.

    Args:
        name: as for `open_network`, and so are `ema` and `options`.
        source: the file to read.
        target: the file to write.
        ema: the averaged weights of a training checkpoint.
        fold: one convolution a site, as deployed.
        options: of `zoo.create`.

    Raises:
        ValueError: as for `open_network`, or there is nothing to fold.
    """
    network, report = open_network(name, source, ema=ema, **options)
    if fold:
        names = network.state_dict().keys()
        if reparameterize(network).state_dict().keys() == names and not is_folded(source, ema=ema):
            found = f"{source} has no branches, so there is nothing to fold."
            raise WeightsError(f"{found} Convert it without fold.", f"{found} Leave out --fold.")
    save(network, target)
    return report


def _read(path: Path) -> Any:
    """A file's content: tensors, in whatever containers they were saved."""
    from safetensors.torch import load_file

    # timm's training script, which the authors' is made from, saves its arguments beside the weights: mere data, which
    # PyTorch before 2.5 cannot be told; there such a file is refused with the remedy.
    harmless = getattr(torch.serialization, "safe_globals", lambda names: nullcontext())
    with open(path, "rb") as file, harmless([argparse.Namespace]):
        try:
            if file.read(9)[8:] == b"{":  # safetensors: the header's length in eight bytes, then the header in JSON
                return load_file(path)
            file.seek(0)
            return torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # parsing a torn or foreign file can fail in any way
            raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> WeightsError:
    # So PyTorch names what it does not unpickle, since 2.4 and before.
    if needed := re.search(r"(?:GLOBAL|Unsupported class) (\S+)", str(error)):
        if needed[1].startswith("mmengine."):
            return WeightsError(
                f"{path} is a checkpoint of MMEngine's, whose records ({needed[1]}) are more than weights. "
                f"{misfit.OF_A_DETECTOR}")
        return WeightsError(
            f"{path} is more than weights: it needs {needed[1]}, and unpickling that could run any code. If you trust "
            "the file, write its weights into another one: content = torch.load(path, weights_only=False); torch.save("
            "{key: content[key] for key in content if key.startswith('state_dict')}, 'weights.pth'), or, if it is a "
            "whole network, torch.save(content.state_dict(), 'weights.pth').")
    return WeightsError(f"{path} cannot be read: it is torn, or neither a safetensors nor a PyTorch file. "
                        "Fetch or write it again.")


def _state_dict(content: Any, ema: bool, path: Path) -> dict[str, Tensor]:
    """The state dict that is asked for: the content itself, or what a training checkpoint holds under its key."""
    keys = list(content) if isinstance(content, Mapping) else []
    wanted = "state_dict_ema" if ema else "state_dict"
    if ema and wanted not in keys:
        found = f"{path} holds no {wanted!r}: there is one kind of weights in it."
        raise WeightsError(f"{found} Load it without ema.", f"{found} Leave out --ema.")
    state = content[wanted] if wanted in keys else content
    if not isinstance(state, Mapping) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        held = ", ".join(map(repr, keys[:5])) or f"a {type(content).__name__}"
        raise WeightsError(f"{path} holds no state dict, neither as a whole nor under {wanted!r}, but {held}. "
                           "Save the network's state_dict().")
    return dict(state)


def _in_our_names(state: Mapping[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """Whose names a state dict has, and the same tensors under the names that our network has for them."""
    from timm.models import clean_state_dict

    layout, renamed = "", {}
    state = clean_state_dict(state)  # without the prefix of a network wrapped for DDP
    sites = {name.partition("branches.")[0] for name in state if "branches." in name}
    for name, tensor in state.items():
        if name.endswith(("total_ops", "total_params")):  # left in the authors' files by a counter of operations
            continue
        if "_rpr_" in name:
            layout = "the authors' V3, " if ".bn." in name else layout or "timm's V3, "
            for theirs, ours in _V3_NAMES.items():
                name = name.replace(theirs, ours)
        if (old := _OLD_SCALE.search(name)) and name[:old.start()] in sites:  # and no layer of one's own
            name = _OLD_SCALE.sub("scale.", name)
        renamed[name] = tensor
    return layout, renamed
