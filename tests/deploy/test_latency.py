"""Timing: interleaved rounds; engines that run the very network."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest
import torch
from torch import nn

from ghostlib.deploy import export, latency
from ghostlib.models import zoo
from ghostlib.models.reparam import RepConv, add_branches
from tests import needs


class Clock:
    """A clock that only calls advance."""

    def __init__(self, monkeypatch):
        self.now, self.order = 0.0, []
        monkeypatch.setattr(latency.time, "perf_counter", lambda: self.now)

    def call(self, name, durations):
        durations = iter(durations)

        def run():
            self.order.append(name)
            self.now += next(durations) / 1e3
        return run


def test_rounds_are_interleaved_and_the_first_call_of_each_is_not_counted(monkeypatch):
    clock, told = Clock(monkeypatch), []
    times = latency.measure({"a": clock.call("a", [99, 1, 2, 99, 3, 4]), "b": clock.call("b", [99, 5, 6, 99, 7, 8])},
                            rounds=2, calls_a_round=2, report=told.append)
    assert times["a"] == pytest.approx([1, 2, 3, 4]) and times["b"] == pytest.approx([5, 6, 7, 8])
    rounds = [clock.order[:6], clock.order[6:]]
    assert all(sorted(of) == ["a"] * 3 + ["b"] * 3 and of in (sorted(of), sorted(of, reverse=True)) for of in rounds)
    assert sum(told) == 12


def test_the_order_changes_from_round_to_round_and_is_the_same_for_everyone():
    def order():
        called = []
        latency.measure({i: (lambda i=i: called.append(i)) for i in range(6)}, rounds=3, calls_a_round=1)
        return [tuple(called[12 * r:12 * (r + 1)]) for r in range(3)]
    assert len(set(order())) == 3 and order() == order()


def test_the_percentiles_are_of_all_calls():
    times = np.concatenate([np.full(10, 0.001), np.arange(11.0, 92.0), np.full(10, 1e6)])
    found = latency.summary(np.random.default_rng(0).permutation(times))
    assert found == {"median_ms": 51.0, "p10_ms": 11.0, "p90_ms": 91.0, "calls": 101}
    assert latency.summary(np.concatenate([times, np.full(20, 1e6)]))["p90_ms"] == 1e6


def test_one_call_is_its_own_percentiles():
    assert latency.summary(np.array([3.0])) == {"median_ms": 3.0, "p10_ms": 3.0, "p90_ms": 3.0, "calls": 1}


def test_every_engine_times_the_exported_network(tmp_path):
    needs.packages("joblib", "pandas", "tqdm", "onnx", *latency.ENGINES.values())
    networks = {"net:work/a": (zoo.create("shufflenetv2_100"), 64)}
    table = latency.benchmark(networks, tmp_path, threads=[1], rounds=2)
    assert list(table["engine"]) == list(latency.ENGINES) and list(table.columns) == latency.COLUMNS
    assert (table["calls"] == 2 * latency.CALLS).all() and (table["median_ms"] > 0).all()
    assert (table["p10_ms"] <= table["median_ms"]).all() and (table["median_ms"] <= table["p90_ms"]).all()
    assert set(table["network"]) == {"net:work/a"} and set(table["image_size"]) == {64}
    assert len(list(tmp_path.glob("*.onnx"))) == 1


def test_every_engine_has_the_threads_it_is_given_and_full_precision(monkeypatch, tmp_path):
    needs.packages("onnxruntime", "openvino")
    import onnxruntime
    import openvino

    network = nn.Conv2d(3, 4, 1).eval()
    file = export.onnx(network, tmp_path / "a.onnx", 8)
    given = {}
    session, compiled = onnxruntime.InferenceSession, openvino.Core.compile_model

    def start(file, options, providers):
        given["ONNX Runtime"] = options.intra_op_num_threads, options.inter_op_num_threads, providers
        return session(file, options, providers=providers)

    def compile_model(core, model, device, config):
        given["OpenVINO"] = device, config["INFERENCE_NUM_THREADS"], config["INFERENCE_PRECISION_HINT"]
        return compiled(core, model, device, config)

    monkeypatch.setattr(onnxruntime, "InferenceSession", start)
    monkeypatch.setattr(openvino.Core, "compile_model", compile_model)
    for engine in ("ONNX Runtime", "OpenVINO"):
        latency.prepare(engine, network, file, 8, threads=3)
    assert given == {"ONNX Runtime": (3, 1, ["CPUExecutionProvider"]), "OpenVINO": ("CPU", 3, "f32")}


def test_pytorch_times_the_folded_network_in_evaluation_mode_and_sets_its_threads_for_that_alone(tmp_path):
    needs.packages("joblib", "pandas", "tqdm")
    network, seen = add_branches(nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4))), []
    network.register_forward_hook(lambda module, args, output: seen.append((
        sum(isinstance(site, RepConv) for site in module.modules()), module.training, torch.is_inference(output),
        torch.get_num_threads())))
    before = torch.get_num_threads()
    latency.benchmark({"a": (network.train(), 8)}, tmp_path, ["PyTorch"], [before + 1], rounds=1)
    assert set(seen[1:]) == {(0, False, True, before + 1)} and torch.get_num_threads() == before


def test_an_interrupted_benchmark_leaves_the_threads_as_they_were(tmp_path, monkeypatch):
    needs.packages("joblib", "pandas", "tqdm")

    def interrupted(*given, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr(latency, "measure", interrupted)
    before = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt):
        latency.benchmark({"a": (nn.Conv2d(3, 4, 1), 8)}, tmp_path, ["PyTorch"], [before + 1])
    assert torch.get_num_threads() == before


def test_images_have_the_channels_and_the_size_that_a_network_takes(tmp_path):
    needs.packages("joblib", "pandas", "tqdm")
    latency.benchmark({"grey": (nn.Conv2d(1, 4, 1), 8)}, tmp_path, ["PyTorch", "ONNX Runtime"], [1], rounds=1)
    with pytest.raises(ValueError, match="GhostNet cannot take an image of 16 px and 3 channels"):
        latency.benchmark({"a": (zoo.create("ghostnetv2_050"), 16)}, tmp_path, ["PyTorch"], [1])


@pytest.mark.parametrize(("options", "message"), [
    ({"engines": ["TVM"]}, "unknown engine 'TVM'; known: ONNX Runtime, OpenVINO, PyTorch"),
    ({"threads": [1, 0]}, "threads must be at least 1, got 0")])
def test_a_mistake_is_named_before_anything_is_exported(options, message, tmp_path):
    needs.packages("joblib", "pandas", "tqdm", *latency.ENGINES.values())
    with pytest.raises(ValueError, match=message):
        latency.benchmark({"a": (nn.Conv2d(3, 4, 1), 8)}, tmp_path, **options)
    assert not list(tmp_path.iterdir())


def test_what_times_and_is_not_there_is_named_with_what_installs_it(monkeypatch, tmp_path):
    needs.packages("joblib", "pandas", "tqdm")
    monkeypatch.setitem(sys.modules, "openvino", None)  # which makes its import fail
    with pytest.raises(ModuleNotFoundError, match=r"needs openvino .*: pip install 'ghostlib\[export\]'"):
        latency.benchmark({"a": (nn.Conv2d(3, 4, 1), 8)}, tmp_path, ["OpenVINO"])
    assert not list(tmp_path.iterdir())


def test_the_machine_is_described():
    needs.packages("joblib", *latency.ENGINES.values())
    found = latency.machine()
    assert set(found) == {"cpu", "cpus", "system", "engines", "date"} and all(found.values())
    assert not set(found) & set(latency.COLUMNS)  # they become columns of the same file
    assert all(engine in found["engines"] for engine in latency.ENGINES)


def test_engines_that_are_not_used_need_not_be_there_and_may_have_other_names(monkeypatch):
    needs.packages("joblib", "onnxruntime")
    monkeypatch.setitem(sys.modules, "openvino", None)  # which makes its import fail
    assert latency.machine(["PyTorch"])["engines"].startswith("PyTorch ")
    with pytest.raises(ModuleNotFoundError, match="openvino"):
        latency.machine()

    def unknown(name):  # onnxruntime-gpu is imported as onnxruntime, too
        raise PackageNotFoundError(name)

    monkeypatch.setattr(latency, "version", unknown)
    assert latency.machine(["ONNX Runtime"])["engines"] == f"ONNX Runtime {sys.modules['onnxruntime'].__version__}"
