"""Why a file of weights does not fit a network, and what to do about that, in Python and from the command line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

# The branches of a `RepConv`, and of timm's MobileOne and RepVGG blocks.
_BRANCH = re.compile(r"\b(branches\.\d+\.(conv|norm)|conv_kxk)\.")
# What follows a layer in the name of one of its tensors, in any of its forms.
_BEHIND_A_LAYER = re.compile(
    r"\.((branches|conv_kxk)\.\d+|conv_1x1|conv_scale|identity|reparam_conv|scale|skip)\..*|\.[^.]+$")

OF_A_DETECTOR = ('MMEngine itself loads the backbone in it: init_cfg=dict(type="Pretrained", checkpoint=..., '
                 'prefix="backbone.") in place of weights=.')


@dataclass(frozen=True)
class Report:
    """What a file holds and what of it fits a network, under the network's names.

    Attributes:
        form: what the file was recognised as, e.g. "the authors' V3, in training form".
        loaded: the number of tensors that fit.
        missing: names that the network has and the file lacks.
        unexpected: names that the file has and the network lacks.
        mismatched: names that both have, with the shape in the file and the shape in the network.
    """

    form: str
    loaded: int
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = ()

    @property
    def complete(self) -> bool:
        """Whether the file holds what the network does, neither less nor more."""
        return not (self.missing or self.unexpected or self.mismatched)

    def __str__(self) -> str:
        differences = {
            "missing": self.missing, "unexpected": self.unexpected,
            "of another shape": [f"{name}: {theirs} for {ours}" for name, theirs, ours in self.mismatched]}
        return "; ".join([f"{self.form}: {self.loaded} tensors fit", *(
            f"{len(names)} {what} ({', '.join([*names[:3], '...'][:len(names)])})"
            for what, names in differences.items() if names)])


class Remedy(NamedTuple):
    """What to do.

    Attributes:
        python: in Python.
        command: from the command line.
        classes: how many the file's classifier has and the network's, where they differ in nothing else.
    """

    python: str
    command: str
    classes: tuple[int, int] | None = None


def has_branches(names: Iterable[str]) -> bool:
    """Whether some tensor belongs to a branch."""
    return any(map(_BRANCH.search, names))


def of_another_network(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Remedy | None:
    """What to do where file and network share less than half of their layers, which no two forms of one network do."""
    theirs, ours = ({_BEHIND_A_LAYER.sub("", name) for name in names} for names in (state, own))
    if 2 * len(theirs & ours) >= min(len(theirs), len(ours)):
        return None
    if any(name.startswith("backbone.") for name in theirs):
        return Remedy(words := f"It is a detector's file. {OF_A_DETECTOR}", words)
    return Remedy("It is another network's file: most of its layers have no such name here. Create the network that it "
                  "was written from.",
                  "It is another network's file: most of its layers have no such name here. Name the network that it "
                  "was written from; `ghostlib zoo` lists them.")


def of_form(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Remedy | None:
    """What to do where file and network have different forms; nothing where they have the same."""
    match has_branches(state), has_branches(own):
        case True, False:
            return Remedy("Load it into the network in training form (zoo.create('ghostnetv3_...'), or add_branches), "
                          "and reparameterize that.",
                          "Name the network in training form (ghostnetv3_100 for ghostnetv2_100); --fold folds it.")
        case False, True:
            return Remedy("The network has branches, the file has none. If the file is plain, load it into the plain "
                          "network (zoo.create('ghostnetv2_...'), say) and add_branches to that; if folded, "
                          "reparameterize first.",
                          "The network has branches, the file has none. Name the plain network, as ghostnetv2_100 for "
                          "ghostnetv3_100: folded, the two are the same.")
    # Only folding gives a bias to a convolution that has none.
    biases = {name.removesuffix("weight") + "bias" for name in state.keys() & own.keys() if state[name].ndim == 4}
    if biases & (state.keys() - own.keys()):
        words = "The file is folded, the network plain: reparameterize(add_branches(network)) first."
        return Remedy(words, words)
    if biases & (own.keys() - state.keys()):
        words = ("The network is folded, the file plain. Load it into the plain network (zoo.create('ghostnetv2_...'), "
                 "say), and fold that: reparameterize(add_branches(network, branches=1, scale=False, skip=False)).")
        return Remedy(words, words)
    return None


def of_size(report: Report) -> Remedy:
    """What to do about a file of the network's own form that does not fit it."""
    layers = {name.rpartition(".")[0] for name, _, _ in report.mismatched}
    same_inputs = all(theirs and ours and theirs[1:] == ours[1:] for _, theirs, ours in report.mismatched)
    # One layer alone that differs in its outputs alone: every other layer has something behind it that would differ.
    if len(layers) == 1 and same_inputs and not report.missing and not report.unexpected:
        _, (theirs, *_), (ours, *_) = report.mismatched[0]
        found = f"Its classifier has {theirs} classes, the network's {ours}"
        return Remedy(f"{found}: create the network with num_classes={theirs}, or keep the network's own classifier "
                      "with strict=False.", f"{found}: give --num-classes {theirs}.", (theirs, ours))
    return Remedy("Create the network as the file's was: by the same name, with the same width and number of branches.",
                  "Name the network that the file was written from, with its --width.")
