"""Times training steps of GhostNetV3 on a GPU, finds the largest batches, and holds the exact form to the branches.

Needs what the library itself needs and nothing else, and under ten minutes:

    PYTHONPATH=. python benchmarks/gpu.py

It prints, for timm's V2, timm's V3 and ghostlib's V3 in its two forms, in float32 and bfloat16: time of a step, peak
memory, and the largest batch that fits into a given memory; and on top the largest differences between the two forms.
"""

from __future__ import annotations

import argparse
import copy
import gc
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from training_step import BASE, batch, networks, set_form

from ghostlib.models import zoo
from ghostlib.models.rep_conv import RepConv

GIB = 2**30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=int, default=256, help="images a step (default 256)")
    parser.add_argument("--size", type=int, default=224, help="side of the image, px (default 224)")
    parser.add_argument("--steps", type=int, default=20, help="timed steps (default 20)")
    parser.add_argument("--memory", type=float, default=16, help="GiB for the largest batch (default 16)")
    options = parser.parse_args()
    device = torch.device(options.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    print(f"{name}, torch {torch.__version__}")

    check(device)
    for precision in (torch.float32, torch.bfloat16):
        print(f"\n{precision}, {options.batch} × {options.size} px")
        found, base = networks(), None
        set_form(found["ghostlib's"], "exact")
        for name, network in found.items():
            network.to(device)
            seconds, peak = timed(network, options, precision)
            base = base or seconds  # V2 comes first
            largest = largest_batch(network, options, precision) if device.type == "cuda" else 0
            print(f"{name:29} {1e3 * seconds:8.1f} ms a step, {seconds / base:.2f} × {BASE}, "
                  f"peak {peak / GIB:5.2f} GiB, largest batch in {options.memory:g} GiB: {largest}", flush=True)
            network.cpu()


def check(device: torch.device) -> None:
    """Prints how far both forms are from the branches in float64, at the worst of V3's sites, on this device."""
    network = zoo.create("ghostnetv3_100", 10).train()
    inputs: dict[RepConv, Tensor] = {}
    hooks = [site.register_forward_pre_hook(lambda site, args: inputs.__setitem__(site, args[0].detach()))
             for site in network.modules() if isinstance(site, RepConv)]
    network(torch.randn(4, 3, 224, 224))
    for hook in hooks:
        hook.remove()
    truths = {site: _outcome(site, x, "branches", torch.float64, device) for site, x in inputs.items()}
    for precision in (torch.float64, torch.float32, torch.bfloat16):
        for form in ("branches", "exact"):
            errors = [_errors(_outcome(site, x, form, precision, device), truths[site]) for site, x in inputs.items()]
            output, by_input, by_parameters = map(max, zip(*errors, strict=True))
            print(f"{str(precision):15} {form:8} against float64: output off by {output:.1e}, gradients by the input "
                  f"{by_input:.1e}, by parameters {by_parameters:.1e}", flush=True)


def _outcome(site: RepConv, x: Tensor, form: str, precision: torch.dtype, device: torch.device) -> list[Tensor]:
    """Output, gradient by the input, and all gradients by parameters in one."""
    dtype = torch.float64 if precision == torch.float64 else torch.float32
    site = copy.deepcopy(site).to(device, dtype)
    site.form = form
    x = x.to(device, dtype).detach().requires_grad_()
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == torch.bfloat16):
        y = site(x)
    y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(0)).to(device, y.dtype))
    parameters = torch.cat([parameter.grad.double().flatten() for parameter in site.parameters()])
    return [y.detach().double().cpu(), x.grad.double().cpu(), parameters.cpu()]


def _errors(actual: list[Tensor], expected: list[Tensor]) -> list[float]:
    """Norms of the differences, of the norm of what is expected."""
    return [float((a - e).norm() / e.norm()) for a, e in zip(actual, expected, strict=True)]


def timed(network: nn.Module, options: argparse.Namespace, precision: torch.dtype) -> tuple[float, int]:
    """Seconds of a step (the median) and bytes of peak memory."""
    views, labels = batch(options.batch, options.size, device=options.device)
    for _ in range(5):
        _step(network, views, labels, precision)
    _reset(options.device)
    seconds = []
    for _ in range(options.steps):
        _wait(options.device)
        start = time.perf_counter()
        _step(network, views, labels, precision)
        _wait(options.device)
        seconds.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated() if options.device.startswith("cuda") else 0
    network.zero_grad()
    return sorted(seconds)[len(seconds) // 2], peak


def largest_batch(network: nn.Module, options: argparse.Namespace, precision: torch.dtype) -> int:
    """The most images, to a sixteenth, whose step stays below the memory."""
    low, high = 0, 64
    while _fits(network, high, options, precision):
        low, high = high, 2 * high
    while high - low > max(1, high // 16):
        middle = (low + high) // 2
        low, high = (middle, high) if _fits(network, middle, options, precision) else (low, middle)
    return low


def _fits(network: nn.Module, images: int, options: argparse.Namespace, precision: torch.dtype) -> bool:
    _reset(options.device)
    try:
        _step(network, *batch(images, options.size, device=options.device), precision)
    except torch.cuda.OutOfMemoryError:
        return False
    finally:
        network.zero_grad()
    return torch.cuda.max_memory_allocated() <= options.memory * GIB


def _step(network: nn.Module, views: Tensor, labels: Tensor, precision: torch.dtype) -> None:
    with torch.autocast(views.device.type, precision, enabled=precision != torch.float32):
        loss = F.cross_entropy(network(views), labels)
    loss.backward()


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def _reset(device: str) -> None:
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


if __name__ == "__main__":
    main()
