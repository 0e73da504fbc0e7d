"""Times training steps of GhostNetV3 on a GPU, finds the largest batches, and holds its exact form to the branches.

Needs what the library itself needs and nothing else, and under ten minutes, of which some go into compiling kernels:

    PYTHONPATH=. python benchmarks/gpu.py

It prints, for timm's V2, timm's V3 and ghostlib's V3 branch by branch and in its exact form, in bfloat16 and float32:
the time of a step as it is called, and of one that is replayed as a CUDA graph, which no host slows down; peak memory;
and, by the peaks of two batches, the largest one that fits into a given memory. On top stand the largest differences
between the forms.
"""

from __future__ import annotations

import argparse
import copy
import gc
import time
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from training_step import BASE, batch, networks

from ghostlib.models import zoo
from ghostlib.models.rep_conv import RepConv

GIB = 2**30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=int, default=256, help="images a step (default 256)")
    parser.add_argument("--size", type=int, default=224, help="side of the image, px (default 224)")
    parser.add_argument("--steps", type=int, default=10, help="timed steps (default 10)")
    parser.add_argument("--memory", type=float, default=16, help="GiB for the largest batch (default 16)")
    parser.add_argument("--precisions", nargs="+", default=["bfloat16", "float32"], choices=["bfloat16", "float32"],
                        help="which to time (default both)")
    parser.add_argument("--no-check", action="store_true", help="time only; most of the check is compiling kernels")
    parser.add_argument("--kernels", help="a file to write what each network's step spends the GPU's time on")
    options = parser.parse_args()
    on_gpu = options.device.startswith("cuda")
    name = torch.cuda.get_device_name(options.device) if on_gpu else options.device
    print(f"{name}, torch {torch.__version__}")

    if not options.no_check:
        check(torch.device(options.device))
    precisions = [getattr(torch, name) for name in options.precisions]
    for precision in precisions:
        print(f"\n{precision}, {options.batch} × {options.size} px")
        base: list[float] = []
        for name, network in networks().items():
            network.to(options.device)
            seconds, peak = timed(network, options, precision)
            found = [seconds, *([replayed(network, options, precision)] if on_gpu else [])]
            base = base or found  # V2 comes first
            line = ", ".join(f"{what} {1e3 * value:.1f} ms, {value / of_base:.2f} × {BASE}" for what, value, of_base in
                             zip(("step", "replayed"), found, base, strict=False))
            if on_gpu:
                line += f", peak {peak / GIB:.2f} GiB, largest batch in {options.memory:g} GiB "
                line += str(largest_batch(network, options, precision, peak))
            print(f"{name:29} {line}", flush=True)
            network.cpu()
    # Last of all: once a profiler has been attached, everything that the host launches after it takes longer.
    for precision, (name, network) in product(precisions, networks().items() if options.kernels else ()):
        write_kernels(options.kernels, f"{precision} {name}", network.to(options.device), options, precision)
        network.cpu()


def check(device: torch.device) -> None:
    """Prints how far both forms are from the branches in float64, at the worst of V3's sites, on this device."""
    network = zoo.create("ghostnetv3_100", 10).to(memory_format=torch.channels_last).train()
    inputs: dict[str, tuple[RepConv, Tensor]] = {}

    def see(site: RepConv, args: tuple[Tensor]) -> None:
        inputs[f"{site.branches[0].conv} {args[0].shape}"] = site, args[0].detach()

    hooks = [site.register_forward_pre_hook(see) for site in network.modules() if isinstance(site, RepConv)]
    network(torch.randn(4, 3, 96, 96).contiguous(memory_format=torch.channels_last))
    for hook in hooks:
        hook.remove()
    truths = {key: _outcome(*inputs[key], "branches", torch.float64, device) for key in inputs}
    for precision in (torch.float32, torch.bfloat16):
        for form in ("branches", "exact"):
            errors = [_errors(_outcome(*inputs[key], form, precision, device), truths[key]) for key in inputs]
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


def replayed(network: nn.Module, options: argparse.Namespace, precision: torch.dtype) -> float:
    """Seconds of a step of a CUDA graph: what the GPU needs if it never waits for the host."""
    views, labels = batch(options.batch, options.size, device=options.device)
    stream = torch.cuda.Stream()  # a capture wants its first steps to have been on a stream of their own
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            _step(network, views, labels, precision)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        _step(network, views, labels, precision)
    graph.replay()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(options.steps):
        graph.replay()
    torch.cuda.synchronize()
    seconds = (time.perf_counter() - start) / options.steps
    network.zero_grad()
    return seconds


def largest_batch(network: nn.Module, options: argparse.Namespace, precision: torch.dtype, peak: int) -> int:
    """The most images whose step stays below the memory, from the peaks of two batches: memory is linear in images.

    Trying would be surer, and takes minutes: libraries choose their kernels anew for every size.
    """
    views, labels = batch(options.batch // 2, options.size, device=options.device)
    _reset(options.device)
    _step(network, views, labels, precision)
    network.zero_grad()
    an_image = (peak - torch.cuda.max_memory_allocated()) / (options.batch - options.batch // 2)
    return int(options.batch + (options.memory * GIB - peak) / an_image)


def write_kernels(path: str, title: str, network: nn.Module, options: argparse.Namespace,
                  precision: torch.dtype) -> None:
    """Appends the kernels of a step that take the most of the GPU's time."""
    views, labels = batch(options.batch, options.size, device=options.device)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        _step(network, views, labels, precision)
        torch.cuda.synchronize()
    events = sorted(profile.key_averages(), key=lambda event: -event.self_device_time_total)
    with open(path, "a", encoding="utf-8") as file:
        print(title, *(f"{event.self_device_time_total / 1e3:9.3f} ms {event.count:5d} × {event.key[:110]}"
                       for event in events[:30]), sep="\n", file=file)


def _step(network: nn.Module, views: Tensor, labels: Tensor, precision: torch.dtype) -> None:
    network.zero_grad()
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
