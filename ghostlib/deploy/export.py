"""Networks as files for inference engines, each executed and compared with PyTorch before it replaces anything.

    export.onnx(network, "ghostnetv3.onnx")              # ONNX Runtime
    export.openvino(network, "ghostnetv3.xml")           # OpenVINO: .xml and .bin
    export.executorch(network, "ghostnetv3.pte")         # ExecuTorch, its XNNPACK backend
    export.ncnn(network, "ghostnetv3.ncnn.param")        # ncnn: .ncnn.param and .ncnn.bin

Any network will do that makes one tensor of one image, by operations that the engine has; with the branches it trains
with or folded. The file is float32 and takes one image. That it agrees says little of a network that answers all images
alike, as some do before they are trained: of such a one there is a warning, and `enliven` is the remedy.
"""

from __future__ import annotations

import copy
import inspect
import os
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ghostlib.deploy.agreement import TOLERANCE, ExportError, answer, check_lively, compare, noise
from ghostlib.machine import require
from ghostlib.models.reparam import reparameterize

# What a format's file name ends with. OpenVINO and ncnn write a second file, .bin instead of .xml or .param.
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "executorch": ".pte", "ncnn": ".ncnn.param"}


def onnx(network: nn.Module, path: str | Path, image_size: int | Sequence[int] = 224,
         channels: int | None = None, tolerance: float = TOLERANCE) -> Path:
    """Writes a network for ONNX Runtime, folded and with the batch normalisations in the convolutions before them.

    Args:
        network: maps images (N, C, H, W) to one tensor, as to logits (N, classes). It is not changed: a copy is folded.
        path: the file, `.onnx`. It appears, or replaces an older one, only when it was found to agree.
        image_size: side S of the input (px), or height and width: the file takes (1, C, S, S) and nothing else.
        channels: C; by default what the network's first convolution reads, or 3 where it has none.
        tolerance: how far the file's output may be from the network's, as a share of the largest value in it.

    Returns:
        The path.

    Raises:
        ExportError: the network cannot be copied or has more than one output, or the engine cannot take it or answers
            something else.
        ModuleNotFoundError: onnx or ONNX Runtime is not installed.
        ValueError: the path has another format's suffix, or the network cannot take such images.
        OSError: the path cannot be written.
    """
    require("export", "onnx", "onnxruntime")
    return _export("onnx", network, path, image_size, channels, tolerance, _write_onnx, _run_onnx)


def openvino(network: nn.Module, path: str | Path, image_size: int | Sequence[int] = 224,
             channels: int | None = None, tolerance: float = TOLERANCE) -> Path:
    """Writes a network for OpenVINO as `.xml` and, beside it, `.bin`; otherwise as `onnx`.

    Raises:
        ModuleNotFoundError: OpenVINO, or onnx by way of which it is written, is not installed.
    """
    require("export", "onnx", "openvino")
    return _export("openvino", network, path, image_size, channels, tolerance, _write_openvino, _run_openvino)


def executorch(network: nn.Module, path: str | Path, image_size: int | Sequence[int] = 224,
               channels: int | None = None, tolerance: float = TOLERANCE) -> Path:
    """Writes a network for ExecuTorch on a CPU (XNNPACK) as `.pte`; otherwise as `onnx`.

    Raises:
        ModuleNotFoundError: executorch is not installed.
    """
    require("mobile", "executorch.exir")
    return _export("executorch", network, path, image_size, channels, tolerance, _write_executorch, _run_executorch)


def ncnn(network: nn.Module, path: str | Path, image_size: int | Sequence[int] = 224,
         channels: int | None = None, tolerance: float = TOLERANCE) -> Path:
    """Writes a network for ncnn as `.ncnn.param` and, beside it, `.ncnn.bin`; otherwise as `onnx`.

    Raises:
        ModuleNotFoundError: ncnn, its converter pnnx or onnx is not installed.
    """
    require("mobile", "ncnn", "pnnx", "onnx")
    return _export("ncnn", network, path, image_size, channels, tolerance, _write_ncnn, _run_ncnn)


FORMATS: dict[str, Callable[..., Path]] = {"onnx": onnx, "openvino": openvino, "executorch": executorch, "ncnn": ncnn}


# A writer returns the files it wrote, the one at `path` last; a runner returns the logits (1, classes).
Writer = Callable[[nn.Module, Tensor, Path], list[Path]]
Runner = Callable[[Path, np.ndarray], np.ndarray]


def _export(engine: str, network: nn.Module, path: str | Path, image_size: int | Sequence[int], channels: int | None,
            tolerance: float, write: Writer, run: Runner) -> Path:
    path = Path(path)
    if not path.name.endswith(SUFFIXES[engine]):
        raise ValueError(f"{path}: a file for {engine} is named *{SUFFIXES[engine]}")
    path.parent.mkdir(parents=True, exist_ok=True)
    # Some modules of timm fold in evaluation mode only.
    model = reparameterize(_copied(network).eval()).to("cpu", torch.float32).eval()
    image, other = noise(2, model, image_size, channels).split(1)
    expected = answer(model, image)
    check_lively(expected, answer(model, other), type(model).__name__)
    # Beside the path, so that the files only have to be renamed to be in place.
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder, \
            torch.no_grad(), warnings.catch_warnings():
        # Of the packages' own future, and of sizes becoming constants, which is what a static input means.
        warnings.simplefilter("ignore")
        try:
            files = write(model, image, Path(folder, path.name))
            actual = run(files[-1], image.numpy())
        except (ExportError, ModuleNotFoundError, OSError):
            raise
        except Exception as error:  # converters and engines fail in any way on what they do not know
            raise ExportError(f"{path} is not written: {engine} cannot take {type(model).__name__} "
                              f"({type(error).__name__}: {error})") from error
        compare(expected, actual, engine, path, tolerance)
        for file in files:
            os.replace(file, path.with_name(file.name))
    return path


def _copied(network: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(network)
    except (RuntimeError, TypeError) as error:
        hint = ("; of torch.nn.utils.weight_norm take remove_weight_norm, or parametrizations.weight_norm in its place"
                if "deepcopy protocol" in str(error) else "")
        raise ExportError(f"{type(network).__name__} cannot be copied ({error}){hint}") from error


class _WithoutIdleSlices(TorchFunctionMode):
    """A slice that keeps everything is the tensor itself. GhostNet's modules end in one, and engines would copy it."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if function is not Tensor.__getitem__ or result.shape != args[0].shape:
            return result
        parts = args[1] if isinstance(args[1], tuple) else (args[1],)
        return args[0] if all(isinstance(part, slice) for part in parts) else result


def _write_onnx(model: nn.Module, image: Tensor, path: Path) -> list[Path]:
    # The older of PyTorch's two exporters: a second instead of nine, and ONNX Runtime makes the same of its graph.
    # PyTorch before 2.5 has no other, and no argument that says which.
    older = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    with _WithoutIdleSlices():
        torch.onnx.export(model, (image,), str(path), input_names=["image"], output_names=["logits"], **older)
    return [path]


def _run_onnx(path: Path, image: np.ndarray) -> np.ndarray:
    from onnxruntime import InferenceSession

    return InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"image": image})[0]


def _write_openvino(model: nn.Module, image: Tensor, path: Path) -> list[Path]:
    from openvino import Core, save_model

    onnx_path, = _write_onnx(model, image, path.with_suffix(".onnx"))
    save_model(Core().read_model(onnx_path), path, compress_to_fp16=False)
    return [path.with_suffix(".bin"), path]


def _run_openvino(path: Path, image: np.ndarray) -> np.ndarray:
    from openvino import Core

    # Left to itself it computes in bfloat16 or float16 where the processor can.
    return Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(image)[0]


def _write_executorch(model: nn.Module, image: Tensor, path: Path) -> list[Path]:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    exported = torch.export.export(model, (image,))
    for node in exported.graph.nodes:
        # All that torch.export leaves of an idle slice. XNNPACK has no such operator: each would part two delegates.
        if node.target is torch.ops.aten.alias.default:
            node.replace_all_uses_with(node.args[0])
            exported.graph.erase_node(node)
    program = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()]).to_executorch()
    with open(path, "wb") as file:
        program.write_to_file(file)
    return [path]


def _run_executorch(path: Path, image: np.ndarray) -> np.ndarray:
    from executorch.runtime import Runtime

    method = Runtime.get().load_program(path).load_method("forward")
    return method.execute([torch.from_numpy(image)])[0].numpy()


def _write_ncnn(model: nn.Module, image: Tensor, path: Path) -> list[Path]:
    from pnnx import EXEC_PATH

    # By way of ONNX: from PyTorch's own trace, pnnx leaves the reshapes of transformers as layers that ncnn has not.
    onnx_path, = _write_onnx(model, image, path.with_suffix(".onnx"))
    binary, shape = path.with_suffix(".bin"), ",".join(map(str, image.shape))
    done = subprocess.run([EXEC_PATH, onnx_path.name, f"inputshape=[{shape}]f32", "fp16=0", f"ncnnparam={path.name}",
                           f"ncnnbin={binary.name}"], cwd=path.parent, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode or not path.exists():
        raise ExportError(f"pnnx cannot convert the network for ncnn (exit status {done.returncode}): "
                          f"{done.stdout[-500:]}")
    return [binary, path]


def _run_ncnn(path: Path, image: np.ndarray) -> np.ndarray:
    import ncnn

    net = ncnn.Net()
    for lossy in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
        setattr(net.opt, f"use_{lossy}", False)
    if net.load_param(str(path)) or net.load_model(str(path.with_suffix(".bin"))):
        raise ExportError("ncnn has no layer for something in the network (it names that on the standard error)")
    extractor = net.create_extractor()
    extractor.input("in0", ncnn.Mat(image[0]))
    failed, logits = extractor.extract("out0")
    if failed:
        raise ExportError(f"ncnn cannot run the network that it loaded (status {failed})")
    return np.array(logits)[None]
