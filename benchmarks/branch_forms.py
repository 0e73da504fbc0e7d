"""Times every form of the sum of a site's branches that a CPU takes on the shapes of GhostNetV3, and writes a table.

A step is forward and backward of one site; times are medians of interleaved rounds, in CPU seconds of one thread, or on
a GPU between events, without its kernels, which `benchmarks/gpu.py` times. The rule that chooses
(`ghostlib.models.branch_sum.choice`) was drawn from such tables.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ghostlib import gpu
from ghostlib.machine import device_name
from ghostlib.models import zoo
from ghostlib.models.branch_sum import choice
from ghostlib.models.branch_sum.lags import LagTaps
from ghostlib.models.branch_sum.small_maps import SmallMapTaps
from ghostlib.models.branch_sum.taps import PointwiseTaps
from ghostlib.models.rep_conv import RepConv

# Of one batch: images, side (px), width of the network.
SETTINGS = [(8, 224, 1.0), (16, 112, 1.0), (64, 64, 0.5), (64, 33, 0.455)]
SETTINGS_ON_GPU = [(256, 224, 1.0), (256, 112, 1.0)]
LARGEST_SMALL_MAP = 3_000_000  # what is not even tried
FORMS = (
    "1×1 sites can take the forms *covariance* or *columns*, depth-wise ones *lags* or *small map*; "
    "`ghostlib/models/branch_sum` describes them. Depth-wise sites of stride 2 have such a form only on small "
    "maps: on larger ones its covariance costs as much as it saves.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("file", type=Path, help="the Markdown file to write")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--bf16", action="store_true", help="under autocast to bfloat16")
    options = parser.parse_args()
    torch.set_num_threads(1)
    on_gpu = options.device == "cuda"
    arguments = " --device cuda" * on_gpu + " --bf16" * options.bf16
    lines = ["# The forms of the sum of branches, timed", "",
             ("Milliseconds of one site on a GPU" if on_gpu else "Milliseconds of CPU time of one site, one thread")
             + f", forward and backward, {'bfloat16' if options.bf16 else 'float32'}. *plain* is the convolution and "
             "its normalisation without branches (GhostNetV2 has these); *chosen* is what `form = \"auto\"` takes"
             f"{' without a kernel' if on_gpu else ''}. "
             f"Made by `python benchmarks/branch_forms.py {options.file}{arguments}`.", "", FORMS, "",
             f"{device_name(options.device)}, torch {torch.__version__}.", ""]
    for images, size, width in SETTINGS_ON_GPU if on_gpu else SETTINGS:
        lines += [f"## {images} × {size} px, width × {width:g}", "",
                  "| sites | convolution | map | plain | branches | covariance, lags | columns, small map | chosen |",
                  "|--:|---|--:|--:|--:|--:|--:|---|"]
        totals = Counter()
        found = sites(images, size, width).items()
        for (site, shape), count in tqdm(found, disable=None, desc=f"{images} × {size} px", unit="site"):
            x = torch.randn(shape, device=options.device)
            with mock.patch.object(gpu, "form_for", lambda *_: None):
                times = timed(site, x, options.rounds, options.bf16)
            chosen = "branches" if on_gpu else chosen_form(site, x)
            totals.update({"plain": count * times["plain"], "branches": count * times["branches"],
                           "chosen": count * times[chosen], "best": count * min(
                               value for form, value in times.items() if form != "plain")})
            first = times.get("covariance", times.get("lags"))
            second = times.get("columns", times.get("small map"))
            cells = [times["plain"], times["branches"], first, second]
            lines.append(f"| {count} | {describe(site)} | {shape[2]} | " + " | ".join(
                "–" if value is None else f"{value:.2f}" for value in cells) + f" | {chosen} |")
        lines += ["", "All of these sites: " + ", ".join(
            f"{name} {value:.0f} ms" for name, value in totals.items()) + ".", ""]
    options.file.write_text("\n".join(lines))


def sites(images: int, size: int, width: float) -> dict[tuple[RepConv, torch.Size], int]:
    """The distinct sites of the network with the shapes of their inputs, and how often each is there."""
    network = zoo.create("ghostnetv3_100", 10, width=width).to(memory_format=torch.channels_last).eval()
    found: dict[str, tuple[RepConv, torch.Size]] = {}
    counts = Counter()

    def see(site: RepConv, args: tuple[Tensor]) -> None:
        key = f"{describe(site)} {args[0].shape}"
        found.setdefault(key, (site, torch.Size((images, *args[0].shape[1:]))))
        counts[key] += 1

    for module in network.modules():
        if isinstance(module, RepConv):
            module.register_forward_pre_hook(see)
    with torch.no_grad():
        network(torch.randn(1, 3, size, size))
    for site, _ in found.values():
        site._forward_pre_hooks.clear()
    return {found[key]: count for key, count in counts.items()}


def describe(site: RepConv) -> str:
    """E.g. "3×3 depth-wise, 48, stride 2" or "16 → 24"."""
    conv = site.branches[0].conv
    if conv.groups == 1:
        return f"{conv.in_channels} → {conv.out_channels}"
    stride = f", stride {conv.stride[0]}" if conv.stride[0] > 1 else ""
    return f"{conv.kernel_size[0]}×{conv.kernel_size[0]} depth-wise, {conv.in_channels}{stride}"


def forms(site: RepConv, x: Tensor) -> dict[str, Callable[[], RepConv]]:
    """What can be timed for a site: name -> a context in which it takes that form."""
    conv = site.branches[0].conv
    if conv.groups == 1:
        return {"covariance": mock.patch.object(choice, "by_columns", lambda *_: False),
                "columns": mock.patch.object(choice, "by_columns", lambda *_: True)}
    found = {}
    if conv.kernel_size == (3, 3) and conv.stride == (1, 1):
        found["lags"] = mock.patch.object(choice, "depthwise_taps", lambda conv, x, form: LagTaps(conv))
    small = SmallMapTaps.of(conv, *x.shape[2:])
    if (small.taps * small.height * small.width) ** 2 <= LARGEST_SMALL_MAP:
        found["small map"] = mock.patch.object(choice, "depthwise_taps", lambda conv, x, form: small)
    return found


def timed(site: RepConv, x: Tensor, rounds: int, bf16: bool) -> dict[str, float]:
    """Form -> milliseconds of forward and backward."""
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    site = copy.deepcopy(site).to(x.device).train()
    plain = copy.deepcopy(site.branches[0])
    gradient = torch.randn_like(plain(x))
    times: dict[str, list[float]] = {}

    def step(network: nn.Module) -> None:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
            out = network(x)
        out.backward(gradient.to(out.dtype))

    def take(name: str, network: nn.Module) -> None:
        times.setdefault(name, []).append(milliseconds(partial(step, network), x.device))

    for _ in range(rounds + 2):
        take("plain", plain)
        site.form = "branches"
        take("branches", site)
        site.form = "exact"
        for name, context in forms(site, x).items():
            with context:
                take(name, site)
    return {name: sorted(values[2:])[rounds // 2] for name, values in times.items()}


def milliseconds(call: Callable[[], None], device: torch.device) -> float:
    """That a call takes: a CPU's time, or a GPU's between two events."""
    if device.type != "cuda":
        start = time.process_time()
        call()
        return 1e3 * (time.process_time() - start)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)


def chosen_form(site: RepConv, x: Tensor) -> str:
    """The name of the form that the rule takes."""
    conv = site.branches[0].conv
    taps = choice.taps_for(conv, x, len(site.norms), "auto", alone=True)
    if isinstance(taps, PointwiseTaps) and choice.by_columns(conv, len(site.norms)):
        return "columns"
    return {PointwiseTaps: "covariance", LagTaps: "lags", SmallMapTaps: "small map", type(None): "branches"}[type(taps)]


if __name__ == "__main__":
    main()
