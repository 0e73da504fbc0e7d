"""Which convolutions of a network can be trained with branches: seen by running it once, not read off its names.

    print(survey(network))     # every convolution: a site, or why not

A site is a 1×1 or depth-wise convolution whose output goes into one batch normalisation and nowhere else.
"""

from __future__ import annotations

import difflib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten

from ghostlib.models.rep_conv import RepConv

# The convolutions that GhostNetV3 leaves alone: the DFC attention branch, the shortcut and the last 1×1 convolution.
GHOSTNET_EXCLUDE = ("*.short_conv.*", "*.shortcut.*", "blocks.9.*")
# What timm's own multi-branch blocks (MobileOne, RepVGG, RepViT) fold themselves by.
FOLDS = ("fuse", "reparameterize", "switch_to_deploy")


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
    """

    sites: tuple[Site, ...]
    unfit: dict[str, str]
    unused: dict[str, str]

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
        exclude: names of modules to leave alone, as shell patterns. By default nothing, but for GhostNets what
            the authors leave alone (`GHOSTNET_EXCLUDE`).
        example_input: what the network is run on once, in evaluation mode: a tensor, or a tuple of all its arguments.
            By default noise of the shape that timm's configuration of the network names, else of 224 px.
        inside: look also into modules that fold themselves (those with a method of `FOLDS`).

    Raises:
        ValueError: `exclude` is a string, or holds a pattern that matches nothing; or the network cannot be run.
    """
    if exclude is None:
        exclude = GHOSTNET_EXCLUDE if type(model).__name__ == "GhostNet" else ()
    else:
        _check_patterns(model, exclude)
    convs = dict(_convolutions(model))
    selfmade = () if inside else tuple(_folding_themselves(model))
    unfit = {name: reason for name, conv in convs.items() if (reason := _unfit(name, conv, exclude, selfmade))}
    fitting = {name: conv for name, conv in convs.items() if name not in unfit}
    if not fitting:
        return Survey((), unfit, {})
    flow = _Flow.of(model, example_input)
    norms = {name: flow.norm_behind(conv) for name, conv in fitting.items()}
    return Survey(tuple(Site(name, flow.names[norm]) for name, norm in norms.items() if isinstance(norm, nn.Module)),
                  unfit, {name: reason for name, reason in norms.items() if isinstance(reason, str)})


def run(model: nn.Module, example_input: Any) -> Any:
    """What the network answers in evaluation mode; modes, buffers and the random generator stay as they are.

    Raises:
        ValueError: it cannot take the example; the message says what to do.
    """
    modes = {module: module.training for module in model.modules()}
    inputs = example_input if isinstance(example_input, tuple) else (example_input,)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            return model.eval()(*inputs)
    except Exception as error:  # a network can fail in any way on what is not for it
        shapes = ", ".join(str(tuple(value.shape)) for value in inputs if isinstance(value, Tensor))
        raise ValueError(f"{type(model).__name__} cannot be run on an input of shape {shapes}, which must show where "
                         f"each convolution's output goes ({type(error).__name__}: {error}); pass example_input, a "
                         "batch as the network takes it") from error
    finally:
        for module, mode in modes.items():
            module.training = mode


def example_for(model: nn.Module) -> Tensor:
    """Noise of the shape that timm's configuration of a network names, else of 224 px."""
    config = getattr(model, "pretrained_cfg", None) or getattr(model, "default_cfg", None) or {}
    config = config if isinstance(config, dict) else config.to_dict()
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    shape = config.get("input_size") or (first.in_channels, 224, 224)
    noise = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    return noise.to(first.weight.device, first.weight.dtype)


class _Flow(TorchFunctionMode):
    """Where the output of each convolution goes while a network runs."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.names = {module: name for name, module in model.named_modules()}
        self.calls: Counter[nn.Module] = Counter()
        self.consumers: dict[nn.Module, list[nn.Module | str]] = defaultdict(list)
        self.running: list[nn.Module] = []  # from the outside in
        self.outputs: dict[int, tuple[Tensor, nn.Module]] = {}  # the tensor too, lest another one gets its id

    @classmethod
    def of(cls, model: nn.Module, example_input: Any) -> _Flow:
        """Runs the network on the example."""
        flow = cls(model)
        hooks = [hook for module in model.modules() for hook in (
            module.register_forward_pre_hook(flow._enter), module.register_forward_hook(flow._leave))]
        try:
            with flow:
                answer = run(model, example_for(model) if example_input is None else example_input)
        finally:
            for hook in hooks:
                hook.remove()
        for tensor in tensors_of(answer):
            flow._consume(tensor, "the output of the network")
        flow.outputs.clear()
        return flow

    def norm_behind(self, conv: nn.Module) -> nn.Module | str:
        """The batch normalisation that alone takes the output of a convolution, or why there is none."""
        if self.calls[conv] != 1:
            return f"it runs {self.calls[conv]} times" if self.calls[conv] else "it does not run"
        consumers = list(dict.fromkeys(self.consumers[conv]))
        norm, *others = consumers or ["nothing"]
        if others or not isinstance(norm, nn.BatchNorm2d | nn.SyncBatchNorm):
            told = (other if isinstance(other, str) else type(other).__name__ for other in consumers)
            return f"its output goes to {', '.join(told) or 'nothing'}"
        if self.calls[norm] != 1:
            return "its normalisation runs several times"
        if norm.running_mean is None:
            return "its normalisation keeps no running statistics, so it cannot be folded"
        return norm

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if tensors_of(result):  # a look at a shape is no use of the tensor
            running = self.running[-1] if self.running else None
            is_norm = isinstance(running, nn.modules.batchnorm._BatchNorm)
            user = running if is_norm else getattr(function, "__name__", str(function))
            for tensor in tensors_of((args, kwargs)):
                self._consume(tensor, user)
        return result

    def _consume(self, tensor: Tensor, user: nn.Module | str) -> None:
        if id(tensor) in self.outputs:
            self.consumers[self.outputs[id(tensor)][1]].append(user)

    def _enter(self, module: nn.Module, args: Any) -> None:
        self.running.append(module)
        self.calls[module] += 1

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        self.running.pop()
        if isinstance(module, nn.Conv2d) and isinstance(output, Tensor):
            self.outputs[id(output)] = output, module


def _convolutions(model: nn.Module) -> Iterator[tuple[str, nn.Conv2d]]:
    """Every convolution once, those of a module before those of its children; not the branches of a `RepConv`."""
    seen = set()
    for parent_name, parent in _outside_rep_convs(model):
        for child_name, child in parent.named_children():
            if isinstance(child, nn.Conv2d) and child not in seen:
                seen.add(child)
                yield f"{parent_name}.{child_name}".lstrip("."), child


def _outside_rep_convs(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    if not isinstance(module, RepConv):
        yield name, module
        for child_name, child in module.named_children():
            yield from _outside_rep_convs(child, f"{name}.{child_name}".lstrip("."))


def _folding_themselves(model: nn.Module) -> Iterator[str]:
    """The modules below the network itself that have a way of their own to fold."""
    return (name for name, module in model.named_modules()
            if name and not isinstance(module, RepConv) and any(hasattr(module, fold) for fold in FOLDS))


def _unfit(name: str, conv: nn.Conv2d, exclude: Sequence[str], selfmade: tuple[str, ...]) -> str:
    """Why a convolution is no site whatever comes behind it; empty where that decides."""
    if any(fnmatchcase(name, pattern) for pattern in exclude):
        return "it is excluded"
    if any(name.startswith(f"{module}.") for module in selfmade):
        return "it is inside a module that folds itself"
    if parametrize.is_parametrized(conv) or conv._forward_pre_hooks or conv._forward_hooks:
        return "its weight is parametrised or it has hooks"
    if type(conv).forward is not nn.Conv2d.forward or type(conv)._conv_forward is not nn.Conv2d._conv_forward:
        return f"a {type(conv).__name__} does more than convolve"
    if conv.kernel_size != (1, 1) and not conv.groups == conv.in_channels > 1:
        return "it is neither 1×1 nor depth-wise"
    return ""


def _check_patterns(model: nn.Module, exclude: Sequence[str]) -> None:
    if isinstance(exclude, str):
        raise ValueError(f"exclude = {exclude!r} is one string; write exclude=[{exclude!r}]")
    names = [name for name, _ in model.named_modules() if name]
    for pattern in exclude:
        if not any(fnmatchcase(name, pattern) for name in names):
            near = difflib.get_close_matches(pattern, names, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"exclude: {pattern!r} matches no module of {type(model).__name__}{hint}")


def tensors_of(values: Any) -> list[Tensor]:
    """The tensors in tuples, lists and dicts, in their order."""
    return [value for value in tree_flatten(values)[0] if isinstance(value, Tensor)]
