"""Any network by name: of this library, of timm, of torchvision, or a function of yours."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import inspect
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from torch import Tensor, nn
from torchvision import models as torchvision_models

from ghostlib.models import catalog, reparam, zoo
from ghostlib.models.flow import run
from ghostlib.models.rep_conv import RepConv


@dataclass(frozen=True)
class Source:
    """Where a network comes from.

    Attributes:
        kind: whose it is.
        name: there; `module:function` of a function.
    """

    kind: Literal["zoo", "timm", "torchvision", "function"]
    name: str

    @property
    def code(self) -> str | None:
        """16 hexadecimal digits of the meaning of a function's module; None of others, which a version tells."""
        if self.kind != "function":
            return None
        from ghostlib.runs.digest import meaning

        try:
            source = meaning(inspect.getsource(importlib.import_module(self.name.partition(":")[0])))
        except (OSError, TypeError):  # compiled
            return None
        return hashlib.sha256(source.encode()).hexdigest()[:16]

    @property
    def image_size(self) -> int:
        """px of the images that it is made for, as far as that is known; else 224."""
        if self.kind == "zoo":
            return catalog.find(self.name).image_size
        if self.kind != "timm":
            return 224
        try:
            known = timm.get_pretrained_cfg(self.name)
        except RuntimeError as error:
            raise ValueError(f"{self}: timm has no such weights ({error}); name the network without a dot") from error
        return known.input_size[-1] if known else 224

    def __str__(self) -> str:
        return self.name if self.kind in ("zoo", "function") else f"{self.kind}/{self.name}"

    def build(self, num_classes: int, options: dict[str, Any], image_size: int | None = None,
              dropout: float = 0.0, pretrained: bool = False) -> nn.Module:
        """A network as it is deployed, freshly initialised or, of timm's, with the weights that timm downloads.

        Args:
            num_classes: outputs of the classifier.
            options: arguments of whatever builds it, e.g. {"width": 0.5} in the zoo and {"drop_rate": 0.1} in timm.
            image_size: px; the zoo's transformers are built for one size.
            dropout: in front of the classifier.
            pretrained: timm's networks only.

        Raises:
            ValueError: there are no weights to begin with, whoever builds it refuses the arguments, or a function
                returns something else than a network.
        """
        if pretrained and self.kind != "timm":
            raise ValueError(f"pretrained = true: of {self} no weights can be fetched; name a network of timm's that "
                             "has some (timm.list_models(pretrained=True)), as timm/NAME. Of a function that returns a "
                             "trained network --set preserve=true keeps what it computes")
        if dropout:
            options = {"drop_rate" if self.kind == "timm" else "dropout": dropout, **options}
        try:
            if self.kind == "zoo":
                return zoo.create(self.name, num_classes, **{"image_size": image_size, **options})
            if self.kind == "timm":
                return timm.create_model(self.name, pretrained=pretrained, num_classes=num_classes, **options)
            if self.kind == "torchvision":
                return torchvision_models.get_model(self.name, weights=None, num_classes=num_classes, **options)
            function = _function(self.name)
            _check_arguments(function, {"num_classes": num_classes, **options})
        except (TypeError, RuntimeError) as error:  # the latter where timm has no such weights
            raise ValueError(f"{self} cannot be built with num_classes = {num_classes} and options = {options}: "
                             f"{error}") from error
        network = function(num_classes=num_classes, **options)  # of an error in it the traceback says more
        if not isinstance(network, nn.Module):
            raise ValueError(f"{self} must return a network, a torch.nn.Module, and returned a "
                             f"{type(network).__name__}")
        return network


def find(text: str) -> Source:
    """What a name or `module:function` stands for: the zoo's first, then timm's, then torchvision's.

    `timm/NAME` and `torchvision/NAME` say whose is meant where several have a network of that name.

    Raises:
        ValueError: nobody knows it (with the nearest names), or there is no such function.
    """
    if text.startswith(("hf-hub:", "local-dir:")):
        raise ValueError(f"{text}: of the Hub's networks name the architecture, as timm/NAME; `ghostlib train` begins "
                         "with its weights where --set pretrained=true")
    if ":" in text:
        _function(text)
        return Source("function", text)
    known = {"zoo": zoo.names(), "timm": timm.list_models(), "torchvision": torchvision_models.list_models(
        module=torchvision_models)}
    owner, _, name = text.rpartition("/")
    for kind, names in known.items():
        # What stands behind a dot is the tag of timm's weights.
        if owner in ("", kind) and (name.partition(".")[0] if kind == "timm" else name) in names:
            return Source(kind, name)
    near = [*difflib.get_close_matches(name, known["zoo"], n=1),
            *difflib.get_close_matches(name, sorted({name for names in known.values() for name in names}), n=3)]
    hint = f"; did you mean {' or '.join(map(repr, dict.fromkeys(near)))}?" if near else "."
    raise ValueError(f"unknown network {text!r}{hint} `ghostlib zoo` lists ours, timm.list_models() timm's; one of "
                     "your own is module:function")


def built(names: Sequence[str], image_size: int | None = None) -> dict[str, tuple[nn.Module, int]]:
    """Networks as they are deployed, of 1000 classes and with random weights, each with the side of its images (px).

    Raises:
        ValueError: nobody knows one, or it cannot be built so.
    """
    torch.manual_seed(0)
    sources = list(map(find, names))
    return {name: (source.build(1000, {}, image_size or source.image_size), image_size or source.image_size)
            for name, source in zip(names, sources, strict=True)}


def example(image_size: int) -> Tensor:
    """Noise like one image, (1, 3, side, side)."""
    return torch.randn(1, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))


def check(network: nn.Module, num_classes: int, image_size: int) -> None:
    """Sees that a network is a classifier of so many classes on images of that size, evaluating and training.

    Raises:
        ValueError: it is none, or cannot take the images.
    """
    for training in (False, True):
        try:
            answer = run(network, example(image_size), training)
        except ValueError as error:
            raise ValueError(f"{type(network).__name__} cannot take an RGB image of {image_size} px "
                             f"({error.__cause__}); give another --set image_size=..., or build it for this one, as "
                             f"timm's transformers are by --set options={{img_size: {image_size}}}") from error
        if not isinstance(answer, Tensor) or answer.shape != (1, num_classes):
            found = f"logits of shape {tuple(answer.shape)}" if isinstance(answer, Tensor) else type(answer).__name__
            raise ValueError(f"{type(network).__name__} answers one image with {found}{' in training' * training}, and "
                             f"not with logits (1, {num_classes}); build it so by --set options={{...}}, e.g. "
                             "{aux_logits: false} of torchvision's, or by a function of yours")


def add_branches(network: nn.Module, recipe: Any, image_size: int, exclude: Sequence[str] | None = None,
                 inside: bool = False, preserve: bool = False) -> nn.Module:
    """The network in the recipe's training form, in place; see `reparam.add_branches` for the arguments.

    Raises:
        ValueError: it has no place for branches, or is to keep its function and begin with another; the message says
            what to do.
    """
    if preserve and recipe.branch_gamma == "shared":
        raise ValueError("pretrained = true and preserve = true keep the function of the weights, and branch_gamma = "
                         "shared changes it; leave one out")
    try:
        reparam.add_branches(network, recipe.branches, recipe.scale, recipe.skip, exclude, inside=inside,
                             preserve=preserve, example_input=example(image_size))
    except ValueError as error:
        raise ValueError(f"{error}\nTo train it as it is: --set branches=0") from error
    if recipe.branch_gamma == "shared":
        with torch.no_grad():
            for site in network.modules():
                for norm in site.norms if isinstance(site, RepConv) else ():
                    if norm.weight is not None:
                        norm.weight.mul_(len(site.norms)**-0.5)
    return network


def millions(network: nn.Module) -> float:
    """Parameters (M)."""
    return sum(parameter.numel() for parameter in network.parameters()) / 1e6


def sites(network: nn.Module) -> int:
    """How many convolutions have branches."""
    return sum(isinstance(module, RepConv) for module in network.modules())


def _check_arguments(function: Any, arguments: dict[str, Any]) -> None:
    """Raises a TypeError where a function does not take these; of some that are compiled nobody can tell."""
    try:
        signature = inspect.signature(function, follow_wrapped=False)
    except ValueError:
        return
    signature.bind(**arguments)


def _function(text: str) -> Any:
    module, _, name = text.partition(":")
    if (here := str(Path.cwd())) not in sys.path:  # a console script does not look there
        sys.path.insert(0, here)
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        raise ValueError(f"{text}: {error}; the module is looked for in {here} and among what is installed") from error
    if not callable(found):
        raise ValueError(f"{text}: {module} has no function {name!r}; write it as def {name or 'network'}(num_classes)")
    return found
