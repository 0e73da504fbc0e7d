"""Latency of one image on this machine's CPU, after the benchmark that came with MobileOne.

Models are timed in rounds, so that a machine that warms up or is disturbed is unfair to none; the first call of a model
in a round is not counted. MobileOne's benchmark makes 20 rounds of 50 calls, trims every round and takes means; here
there are fewer calls, in another order each round, and the median and percentiles of all of them. Files of before
2026-11-26, and of that day's first session, hold percentiles of what was left when the fastest and the slowest tenth of
the calls had been taken away; the median is the same either way.
"""

from __future__ import annotations

import datetime
import platform
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from ghostlib.deploy.agreement import forward, noise
from ghostlib.deploy.export import onnx
from ghostlib.machine import all_threads, cpu_name, require
from ghostlib.models.reparam import reparameterize

if TYPE_CHECKING:
    import pandas as pd

# Calls of one round share what disturbs it, so that rounds tell more than calls. Of 14 rounds of 20 calls, timed while
# the machine had other work, these 48 gave ratios of latency.yaml that were off by 2.3 %; 5 rounds of 20 calls gave
# 1.9 %, 5 rounds of 10 calls 2.2 %. Sessions differ by more.
ROUNDS, CALLS = 8, 6

ENGINES = {"ONNX Runtime": "onnxruntime", "OpenVINO": "openvino", "PyTorch": "torch"}
COLUMNS = ["network", "image_size", "engine", "threads", "median_ms", "p10_ms", "p90_ms", "calls"]

Call = Callable[[], object]


def prepare(engine: str, network: nn.Module, onnx_file: Path | None, image_size: int, threads: int) -> Call:
    """A call that runs the network once, on one random image (1, C, S, S) in float32.

    Args:
        engine: one of `ENGINES`.
        network: folded and in evaluation mode.
        onnx_file: the same network, exported (for the others).
        image_size: S, in px.
        threads: how many the engine may use. PyTorch has one number for the process: `measure` at once what
            was prepared with one number.
    """
    image = noise(1, network, image_size)
    if engine == "PyTorch":
        torch.set_num_threads(threads)
        # Channels last is the layout in which PyTorch's convolutions are fastest on a CPU.
        network = network.to(memory_format=torch.channels_last)
        image = image.contiguous(memory_format=torch.channels_last)
        return lambda: _infer(network, image)
    pixels = image.numpy()
    if engine == "ONNX Runtime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        session = onnxruntime.InferenceSession(onnx_file, options, providers=["CPUExecutionProvider"])
        feed = {session.get_inputs()[0].name: pixels}
        return lambda: session.run(None, feed)
    import openvino

    compiled = openvino.Core().compile_model(str(onnx_file), "CPU", {
        "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"})
    request = compiled.create_infer_request()
    return lambda: request.infer([pixels])


def measure(calls: Mapping[Any, Call], rounds: int = ROUNDS, calls_a_round: int = CALLS,
            report: Callable[[int], None] = lambda calls: None) -> dict[Any, np.ndarray]:
    """Times each call `rounds` × `calls_a_round` times, interleaved.

    Args:
        calls: name -> what to time.
        rounds: through all of them, in an order drawn anew (and the same for everyone) each round.
        calls_a_round: timed calls in a row, after one that is not timed.
        report: told how many calls were made since it was last told.

    Returns:
        name -> milliseconds (rounds · calls_a_round,), in the order they were taken.
    """
    times: dict[Any, list[float]] = {name: [] for name in calls}
    order = np.random.default_rng(0)
    for _ in range(rounds):
        for name in (list(calls)[i] for i in order.permutation(len(calls))):
            call = calls[name]
            call()
            for _ in range(calls_a_round):
                start = time.perf_counter()
                call()
                times[name].append(1e3 * (time.perf_counter() - start))
            report(calls_a_round + 1)
    return {name: np.array(taken) for name, taken in times.items()}


def summary(times: np.ndarray) -> dict[str, float]:
    """Median, 10th and 90th percentile (ms) of the times (n,), one or more."""
    p10, median, p90 = np.percentile(times, [10, 50, 90])
    return {"median_ms": median, "p10_ms": p10, "p90_ms": p90, "calls": len(times)}


def benchmark(networks: Mapping[str, tuple[nn.Module, int]], folder: Path, engines: Sequence[str] = tuple(ENGINES),
              threads: Sequence[int] | None = None, rounds: int = ROUNDS) -> pd.DataFrame:
    """Exports networks and times them with every engine and number of threads, folded, in evaluation mode.

    Weights do not change the time, so that random ones will do.

    Args:
        networks: by name, each with the side (px) of its images; folded in place.
        folder: for the exported files.
        engines: some of `ENGINES`.
        threads: numbers of threads; by default one, and all this process may use.
        rounds: see `measure`.

    Returns:
        One row per network, engine and number of threads: `COLUMNS`.

    Raises:
        ModuleNotFoundError: an engine, or what exports for it, is not installed.
        ValueError: an unknown engine, a number of threads below 1, or a network that cannot take its images.
    """
    check_engines(engines)
    require("export", "joblib", "pandas", "tqdm")
    import pandas as pd
    from tqdm import tqdm

    threads = threads or sorted({1, all_threads()})
    if min(threads) < 1:
        raise ValueError(f"threads must be at least 1, got {min(threads)}")
    # Some modules of timm fold in evaluation mode only.
    networks = {name: (reparameterize(network.eval()).eval(), size) for name, (network, size) in networks.items()}
    for network, size in networks.values():
        forward(network, noise(1, network, size))  # which says what it cannot take
    files = {} if set(engines) == {"PyTorch"} else _export(networks, folder)
    records = []
    with _keeping_threads(), tqdm(total=len(engines) * len(threads) * len(networks) * rounds * (CALLS + 1),
                                  unit="call", unit_scale=True, mininterval=0.5) as bar:
        for engine in engines:
            for count in threads:
                bar.set_description(f"{engine}, threads: {count}")
                calls = _prepared(engine, networks, files, count)
                for name, times in measure(calls, rounds, report=bar.update).items():
                    records.append({"network": name, "image_size": networks[name][1], "engine": engine,
                                    "threads": count, **summary(times)})
    return pd.DataFrame(records)[COLUMNS]


def machine(engines: Sequence[str] = tuple(ENGINES)) -> dict[str, str]:
    """What is measured on: times of two machines are never compared. Errors as for `check_engines`."""
    check_engines(engines)
    require("export", "joblib")
    return {"cpu": cpu_name(), "cpus": str(all_threads()), "system": f"{platform.system()} {platform.machine()}",
            "engines": ", ".join(f"{engine} {_version(ENGINES[engine])}" for engine in engines),
            "date": datetime.date.today().isoformat()}


def check_engines(engines: Sequence[str]) -> None:
    """Looks for engines before anything is timed with them.

    Raises:
        ModuleNotFoundError: one is not installed.
        ValueError: one is none of `ENGINES`.
    """
    if unknown := [engine for engine in engines if engine not in ENGINES]:
        raise ValueError(f"unknown engine {unknown[0]!r}; known: {', '.join(ENGINES)}")
    require("export", *(ENGINES[engine] for engine in engines))


def _version(module: str) -> str:
    try:
        return version(module)
    except PackageNotFoundError:  # another build of it, onnxruntime-gpu, has another name
        return str(getattr(import_module(module), "__version__", "of unknown version"))


def _export(networks: Mapping[str, tuple[nn.Module, int]], folder: Path) -> dict[str, Path]:
    from tqdm import tqdm

    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():  # of weights that are not trained, which take as long
        warnings.filterwarnings("ignore", ".* answers two images alike")
        return {name: onnx(network, folder / f"{number}.onnx", size)  # a name may hold what no file's may
                for number, (name, (network, size)) in enumerate(tqdm(networks.items(), "export to ONNX",
                                                                      unit="model"))}


@contextmanager
def _keeping_threads() -> Iterator[None]:
    """PyTorch's number of threads is the process's: also where timing is interrupted, it is what it was."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _prepared(engine: str, networks: Mapping[str, tuple[nn.Module, int]], files: Mapping[str, Path],
              threads: int) -> dict[str, Call]:
    """A call for each network."""
    def call(name: str) -> Call:
        network, size = networks[name]
        return prepare(engine, network, files.get(name), size, threads)

    if engine == "PyTorch":  # its number of threads holds in the thread that sets it
        return {name: call(name) for name in networks}
    with ThreadPoolExecutor(all_threads()) as pool:  # the others compile their files without Python's lock
        return dict(zip(networks, pool.map(call, networks), strict=True))


@torch.inference_mode()
def _infer(network: nn.Module, image: torch.Tensor) -> torch.Tensor:
    return network(image)
