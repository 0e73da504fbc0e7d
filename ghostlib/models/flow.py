"""A network seen at work: what it answers, and where the output of each of its convolutions goes."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten


class Flow(TorchFunctionMode):
    """One run of a network in evaluation mode.

    Attributes:
        names: of every module.
        calls: how often each module ran.
        consumers: of each convolution's output, in their order: normalisations as modules, all others by name.
        answer: of the network.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.names = {module: name for name, module in model.named_modules()}
        self.calls: Counter[nn.Module] = Counter()
        self.consumers: dict[nn.Module, list[nn.Module | str]] = defaultdict(list)
        self.answer: Any = None
        self._running: list[nn.Module] = []  # from the outside in
        self._outputs: dict[int, tuple[Tensor, nn.Module]] = {}  # the tensor too, lest another one gets its id

    @classmethod
    def of(cls, model: nn.Module, example_input: Any) -> Flow:
        """Runs the network on the example; errors as for `run`."""
        flow = cls(model)
        hooks = [hook for module in model.modules() for hook in (
            module.register_forward_pre_hook(flow._enter), module.register_forward_hook(flow._leave))]
        try:
            with flow:
                flow.answer = run(model, example_input)
        finally:
            for hook in hooks:
                hook.remove()
        for tensor in tensors_of(flow.answer):
            flow._consume(tensor, "the output of the network")
        flow._outputs.clear()
        return flow

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        # A look at a shape is no use of the tensor; an assignment to a part of it returns nothing, and is one.
        if tensors_of(result) or function is Tensor.__setitem__:
            running = self._running[-1] if self._running else None
            is_norm = isinstance(running, nn.modules.batchnorm._BatchNorm)
            user = running if is_norm else getattr(function, "__name__", str(function))
            for tensor in tensors_of((args, kwargs)):
                self._consume(tensor, user)
        return result

    def _consume(self, tensor: Tensor, user: nn.Module | str) -> None:
        if id(tensor) in self._outputs:
            self.consumers[self._outputs[id(tensor)][1]].append(user)

    def _enter(self, module: nn.Module, args: Any) -> None:
        self._running.append(module)
        self.calls[module] += 1

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        self._running.pop()
        if isinstance(module, nn.Conv2d) and isinstance(output, Tensor):
            self._outputs[id(output)] = output, module


def run(model: nn.Module, example_input: Any, training: bool = False) -> Any:
    """What the network answers; modes, buffers and the random generators stay as they are.

    Args:
        model: any network.
        example_input: a batch as it takes it, or a tuple of all its arguments.
        training: in training mode, but for the normalisations: these would need a larger batch.

    Raises:
        ValueError: it cannot take the example; the message says what to do.
    """
    modes = {module: module.training for module in model.modules()}
    buffers = [(module, name, buffer, buffer.clone()) for module in modes
               for name, buffer in module._buffers.items() if buffer is not None]
    inputs = example_input if isinstance(example_input, tuple) else (example_input,)
    try:
        with torch.no_grad(), torch.random.fork_rng(_cuda_devices(model)), _python_generator_kept():
            model.train(training)
            for module in modes:
                if isinstance(module, nn.modules.batchnorm._NormBase):
                    module.training = False  # itself; what it holds, such as timm's activations and drops, trains
            return model(*inputs)
    except Exception as error:  # a network can fail in any way on what is not for it
        shapes = ", ".join(str(tuple(value.shape)) for value in inputs if isinstance(value, Tensor))
        raise ValueError(f"{type(model).__name__} cannot be run on an input of shape {shapes}, which must show where "
                         f"each convolution's output goes ({type(error).__name__}: {error}); pass example_input, a "
                         "batch as the network takes it") from error
    finally:
        model.train(modes[model])  # where a network of its own keeps something while it is evaluated, it drops that
        for module, mode in modes.items():
            module.training = mode
        for module, name, buffer, before in buffers:
            module._buffers[name] = buffer
            if not torch.equal(buffer, before):
                buffer.copy_(before)


@contextmanager
def _python_generator_kept() -> Iterator[None]:
    """Some networks draw the depth of a step from it."""
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)


def example_for(model: nn.Module, side: int | None = None) -> Tensor:
    """Noise of the shape that timm's configuration of a network names, else of 224 px, or of `side` px."""
    config = getattr(model, "pretrained_cfg", None) or getattr(model, "default_cfg", None) or {}
    config = config if isinstance(config, dict) else config.to_dict()
    first = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    read = first.in_channels if first else 3
    channels, *size = config.get("input_size") or (read, 224, 224)
    # Built for images of other channels, it has the same configuration. A stem behind a rearrangement of 2×2 or 4×4
    # pixels into channels reads more than the image has.
    if read not in (4 * channels, 16 * channels):
        channels = read
    size = (side, side) if side else size
    noise = torch.randn(1, channels, *size, generator=torch.Generator().manual_seed(0))
    like = first.weight if first else next(model.parameters())
    return noise.to(like.device, like.dtype)


def tensors_of(values: Any) -> list[Tensor]:
    """The tensors in tuples, lists and dicts, in their order."""
    leaves = [values] if isinstance(values, Tensor) else tree_flatten(values)[0]
    return [value for value in leaves if isinstance(value, Tensor)]


def _cuda_devices(model: nn.Module) -> list[int]:
    return sorted({tensor.device.index for tensor in model.parameters() if tensor.device.type == "cuda"})
