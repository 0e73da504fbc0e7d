"""Which convolutions of a network can be trained with branches: seen by running it once, not read off its names.

    print(survey(network))     # every convolution: a site, or why not

A site is a 1×1 or depth-wise convolution whose output goes into one batch normalisation and nowhere else.
"""

from __future__ import annotations

import difflib
import inspect
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from timm.layers import BatchNormAct2d
from timm.layers.norm_act import SyncBatchNormAct
from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize

from ghostlib.models.flow import Flow, example_for
from ghostlib.models.rep_conv import RepConv

# The convolutions that GhostNetV3 leaves alone: the DFC attention branch, the shortcut and the last 1×1 convolution.
# In a backbone of timm's the names of the outer two levels are one: blocks_9.
GHOSTNET_EXCLUDE = ("*short_conv.*", "*shortcut.*", "*blocks[._]9.*")
# By their classes' names, since every author of a GhostNet writes his own.
_GHOSTNET_BLOCKS = {"GhostNet", "GhostBottleneck", "GhostModuleV2"}
# What timm's own multi-branch blocks (MobileOne, RepVGG, RepViT) fold themselves by.
FOLDS = ("fuse", "reparameterize", "switch_to_deploy")
# Their classes' names, since some of these modules take seconds to import.
_WRAPPERS = {"DistributedDataParallel", "FullyShardedDataParallel", "OptimizedModule"}
# Subclasses may do more than normalise and, of timm's, activate.
_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm, BatchNormAct2d, SyncBatchNormAct)


@dataclass(frozen=True)
class Site:
    """A convolution with the batch normalisation behind it, by their names in the network."""

    conv: str
    norm: str


@dataclass(frozen=True)
class Survey:
    """Every convolution of a network.

    Attributes:
        sites: those that can have branches, in the order they are registered.
        unfit: the name of each that is no 1×1 or depth-wise convolution to be expanded by itself -> why.
        unused: the name of each that would fit but for what becomes of its output -> why.
        answer: what the network answered; None if nothing fits, for then it is not run.
    """

    sites: tuple[Site, ...]
    unfit: dict[str, str]
    unused: dict[str, str]
    answer: Any = field(default=None, repr=False, compare=False)

    @property
    def skipped(self) -> dict[str, str]:
        """Every convolution that is no site -> why."""
        return self.unfit | self.unused

    def __str__(self) -> str:
        reasons = Counter(self.skipped.values())
        examples = {reason: name for name, reason in reversed(self.skipped.items())}
        lines = [f"{len(self.sites)} sites, {len(self.skipped)} other convolutions"]
        return "\n".join([*lines, *(f"  {count} × {reason} (e.g. {examples[reason]})"
                                    for reason, count in reasons.most_common())])


def survey(model: nn.Module, exclude: Sequence[str] | None = None, example_input: Any = None,
           inside: bool = False) -> Survey:
    """Looks at every convolution of a network. The network stays as it is.

    Args:
        model: any network.
        exclude: names to leave alone, as shell patterns: of convolutions, or of modules with all that is in them. By
            default nothing, but for GhostNets what the authors leave alone (`GHOSTNET_EXCLUDE`).
        example_input: what the network is run on once, in evaluation mode: a tensor, or a tuple of all its arguments.
            By default noise of the shape that timm's configuration of the network names, else of 224 px.
        inside: look also into modules that fold themselves (those with a method of `FOLDS`).

    Raises:
        ValueError: `exclude` is a string, or holds a pattern that matches no convolution; or the network cannot be run,
            or is wrapped already, by DistributedDataParallel or `torch.compile`.
    """
    names, classes = _names(model), {type(module).__name__ for module in model.modules()}
    if wrappers := sorted(classes & _WRAPPERS):
        raise ValueError(f"the network is wrapped already, by {wrappers[0]}, which would not see what changes in it: "
                         "add branches first, and wrap it afterwards")
    if exclude is None:
        exclude = GHOSTNET_EXCLUDE if classes & _GHOSTNET_BLOCKS else ()
    else:
        _check_patterns(type(model).__name__, [name for aliases in names.values() for name in aliases], exclude)
    excluded = {conv for conv, aliases in names.items() if any(_matches(name, exclude) for name in aliases)}
    selfmade = {inner for module in folding_themselves(model) for inner in module.modules()}
    unfit, tied = {}, _tied(model)
    for conv, (name, *_) in names.items():
        if conv in excluded:
            unfit[name] = "it is excluded"
        elif conv in selfmade and not inside:
            unfit[name] = "it is inside a module that folds itself"
        elif conv in tied:
            unfit[name] = "it shares its weights with another module"
        elif reason := _unfit(conv):
            unfit[name] = reason
    fitting = {aliases[0]: conv for conv, aliases in names.items() if aliases[0] not in unfit}
    if not fitting:
        return Survey((), unfit, {})
    flow = Flow.of(model, example_for(model) if example_input is None else example_input)
    norms = {name: _norm_behind(conv, flow, conv in selfmade, tied) for name, conv in fitting.items()}
    return Survey(tuple(Site(name, flow.names[norm]) for name, norm in norms.items() if isinstance(norm, nn.Module)),
                  unfit, {name: reason for name, reason in norms.items() if isinstance(reason, str)}, flow.answer)


def folding_themselves(model: nn.Module) -> Iterator[nn.Module]:
    """The modules below the network itself that have a way of their own to fold."""
    return (module for module in model.modules() if module is not model and own_fold(module))


def own_fold(module: nn.Module) -> Callable[[], Any] | None:
    """A module's own way to fold; None for one without, and for a `RepConv`."""
    for fold in () if isinstance(module, RepConv) else FOLDS:
        method = getattr(type(module), fold, None)  # not of the module, which may have a child of that name
        if callable(method):
            given = list(inspect.signature(method).parameters.values())[1:]
            # Another `fuse` brings feature maps together.
            if not any(p.kind is p.VAR_POSITIONAL or p.kind is not p.VAR_KEYWORD and (
                    p.default is p.empty or p.default is None) for p in given):
                return getattr(module, fold)
    return None


def _names(model: nn.Module) -> dict[_ConvNd, list[str]]:
    """Every convolution -> its names, those of a module before those of its children; no branches of a `RepConv`."""
    names = defaultdict(list)
    for parent_name, parent in _outside_rep_convs(model):
        for child_name, child in parent._modules.items():
            if isinstance(child, _ConvNd):
                names[child].append(f"{parent_name}.{child_name}".lstrip("."))
    return dict(names)


def _outside_rep_convs(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    if not isinstance(module, RepConv):
        yield name, module
        for child_name, child in module._modules.items():
            if child is not None:
                yield from _outside_rep_convs(child, f"{name}.{child_name}".lstrip("."))


def _tied(model: nn.Module) -> set[nn.Module]:
    """The modules that have a parameter in common with another module: expanded, each would learn its own."""
    owners = defaultdict(set)
    for module in model.modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                owners[parameter].add(module)
    return {module for modules in owners.values() if len(modules) > 1 for module in modules}


def _unfit(conv: _ConvNd) -> str:
    """Why a convolution is no site whatever comes behind it; empty where that decides."""
    if not isinstance(conv, nn.Conv2d):
        return f"it is a {type(conv).__name__}"
    if alteration := _alteration(conv):
        return f"it {alteration}"
    if type(conv).forward is not nn.Conv2d.forward or type(conv)._conv_forward is not nn.Conv2d._conv_forward:
        return f"a {type(conv).__name__} does more than convolve"
    if conv.kernel_size != (1, 1) and not conv.groups == conv.in_channels > 1:
        return "it is neither 1×1 nor depth-wise"
    return ""


def _norm_behind(conv: nn.Module, flow: Flow, selfmade: bool, tied: set[nn.Module]) -> nn.Module | str:
    """The batch normalisation that alone takes the output of a convolution, or why there is none."""
    if flow.calls[conv] != 1:
        return f"it runs {flow.calls[conv]} times" if flow.calls[conv] else "it does not run"
    consumers = list(dict.fromkeys(flow.consumers[conv]))
    norm, *others = consumers or ["nothing"]
    if others or not isinstance(norm, nn.BatchNorm2d | nn.SyncBatchNorm):
        told = (other if isinstance(other, str) else type(other).__name__ for other in consumers)
        return f"its output goes to {', '.join(told) or 'nothing'}"
    if alteration := _alteration(norm):
        return f"its normalisation {alteration}"
    if type(norm) not in _NORMS:
        return f"a {type(norm).__name__} may do more than normalise"
    if norm in tied:
        return "its normalisation shares its weights with another module"
    if not any(parameter.requires_grad for parameter in (*conv.parameters(), *norm.parameters())):
        return "nothing of it learns (requires_grad)"
    if flow.calls[norm] != 1:
        return "its normalisation runs several times"
    if norm.running_mean is None:
        return "its normalisation keeps no running statistics, so it cannot be folded"
    if selfmade and any(not isinstance(child, nn.Identity) for child in norm.children()):
        return "its normalisation activates, inside a module that folds itself"
    return norm


def _alteration(module: nn.Module) -> str:
    """Why a module may do more than its class does; empty where it does not."""
    if (parametrize.is_parametrized(module) or module._forward_pre_hooks or module._forward_hooks
            or module._backward_pre_hooks or module._backward_hooks):
        return "is parametrised or has hooks"
    return "has a forward of its own" if "forward" in vars(module) else ""


def _matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a pattern matches a name or that of a module around it."""
    return any(fnmatchcase(around, pattern) for around in _with_parents(name) for pattern in patterns)


def _with_parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:depth]) for depth in range(len(parts), 0, -1)]


def _check_patterns(model: str, names: Sequence[str], exclude: Sequence[str]) -> None:
    if isinstance(exclude, str):
        raise ValueError(f"exclude = {exclude!r} is one string; write exclude=[{exclude!r}]")
    for pattern in exclude:
        if not any(_matches(name, [pattern]) for name in names):
            known = {around for name in names for around in _with_parents(name)}
            near = difflib.get_close_matches(pattern, sorted(known), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"exclude: {pattern!r} matches no convolution in {model}, nor a module with any{hint}")
