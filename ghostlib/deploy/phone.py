"""How an exported file is timed on an Android phone: the commands, after the makers' documentation."""

from __future__ import annotations

import shlex
from importlib.metadata import version
from pathlib import Path

from ghostlib.machine import require

_NDK = "-DCMAKE_TOOLCHAIN_FILE=$ANDROID_NDK/build/cmake/android.toolchain.cmake -DCMAKE_BUILD_TYPE=Release"
# The package that wrote the file: the engine on the phone is best built from the same version.
_CONVERTERS = {"executorch": "executorch", "ncnn": "pnnx"}
# For each phone engine: how its makers build what times a file, where that ends up, and how it is called.
_TOOLS = {
    "executorch": ([
        "git clone --recurse-submodules --branch v{version} https://github.com/pytorch/executorch",
        f"cd executorch && cmake . --preset android-arm64-v8a -B cmake-out-android {_NDK} -DANDROID_PLATFORM=android-26"
        " -DEXECUTORCH_BUILD_XNNPACK=ON -DEXECUTORCH_BUILD_EXECUTOR_RUNNER=ON"
        " -DEXECUTORCH_BUILD_EXTENSION_EVALUE_UTIL=ON -DEXECUTORCH_BUILD_EXTENSION_RUNNER_UTIL=ON"
        # The times are log lines, and Android's own log is not what adb shell shows.
        " -DEXECUTORCH_ENABLE_LOGGING=ON -DEXECUTORCH_PAL_DEFAULT=posix",
        "cmake --build cmake-out-android --target executor_runner --parallel && cd .."],
        "executorch/cmake-out-android/executor_runner", "--model_path={name} --num_executions=51 --cpu_threads=1"),
    "ncnn": ([
        "git clone --recurse-submodules --branch {version} https://github.com/Tencent/ncnn",
        f"cmake -S ncnn -B ncnn/build-android {_NDK} -DANDROID_ABI=arm64-v8a -DANDROID_PLATFORM=android-21"
        " -DNCNN_BUILD_BENCHMARK=ON -DNCNN_VULKAN=OFF",
        "cmake --build ncnn/build-android --target benchncnn --parallel"],
        # Runs, threads, the fast cores only, no GPU, ten seconds to cool down first; width, height and channels.
        "ncnn/build-android/benchmark/benchncnn", "50 1 2 -1 1 param={name} 'shape=[{size},{size},3]'"),
}


def commands(engine: str, path: str | Path, image_size: int = 224) -> list[str]:
    """Shell lines that time a file on one core of an Android phone; those that begin with # say what they need.

    ExecuTorch's `executor_runner` prints the milliseconds of every run; the first warms up. ncnn's `benchncnn` warms up
    by itself and prints minimum, maximum and mean; it takes the layers from the `.param` file, fills the weights with
    zeros, and computes in float16 where the phone can.

    Args:
        engine: "executorch" or "ncnn".
        path: what the function of that name wrote.
        image_size: the side of its input (px).

    Raises:
        ModuleNotFoundError: what wrote the file is not installed here.
        ValueError: another engine.
    """
    if engine not in _TOOLS:
        raise ValueError(f"no tool to time {engine} on a phone; there is one for {' and one for '.join(_TOOLS)}")
    require("mobile", _CONVERTERS[engine])
    build, built, arguments = _TOOLS[engine]
    tool, arguments = Path(built).name, arguments.format(name=shlex.quote(Path(path).name), size=image_size)
    run = f"cd /data/local/tmp && chmod +x {tool} && ./{tool} {arguments}"
    return [f"# Needs adb, a phone with USB debugging on, Android's NDK at $ANDROID_NDK and, built here once, {tool}:",
            *(f"#   {line.replace('{version}', version(_CONVERTERS[engine]))}" for line in build),
            shlex.join(["adb", "push", built, str(path), "/data/local/tmp/"]), shlex.join(["adb", "shell", run])]
