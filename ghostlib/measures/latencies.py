"""CPU latency of every network of Table 9 on this machine; independent of the profile.

One run is a session. Sessions differ by more than the calls within one, so that verdicts are over several, which lie in
results/sessions (`make sessions` adds some).
"""

from __future__ import annotations

import string
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from ghostlib.config import ConfigError, check_keys, read_yaml
from ghostlib.measures import places
from ghostlib.measures.beside import AT_224
from ghostlib.models import catalog

if TYPE_CHECKING:
    import pandas as pd

SESSIONS = places.RESULTS / "sessions"

def measure(profile_name: str) -> None:
    """Times every network, as `_time` does, into runs/latency.csv of the profile."""
    places.write_csv(_time(), places.runs_file(profile_name, "latency"))


def session() -> None:
    """Times every network, as `_time` does, into results/sessions/<date>-<letter>.csv, the first that is free."""
    times = _time()
    letters = map("".join, product(["", *string.ascii_lowercase], string.ascii_lowercase))  # a to z, then aa to zz
    files = (SESSIONS / f"{times['date'].iloc[0]}-{letter}.csv" for letter in letters)
    places.write_csv(times, next(path for path in files if not path.exists()))


def _time() -> pd.DataFrame:
    """Every network with the engines that one deploys with, then with PyTorch: a row for each setting.

    Raises:
        ValueError: params.yaml does not say in how many rounds.
    """
    import pandas as pd
    import torch

    from ghostlib.deploy.latency import benchmark, machine
    from ghostlib.models import zoo

    rounds = _rounds()
    torch.manual_seed(0)
    networks = {name: (zoo.create(name), catalog.find(name).image_size) for name in _networks()}
    networks |= {name: (zoo.create(catalog.deployed()[row]), 224) for row, name in AT_224.items()}
    with TemporaryDirectory() as exports:
        deployed = benchmark(networks, Path(exports), ["ONNX Runtime", "OpenVINO"], rounds=rounds)
        # Nobody deploys with it: one thread will do.
        eager = benchmark(networks, Path(exports), ["PyTorch"], threads=[1], rounds=rounds)
    return pd.concat([deployed, eager]).assign(**machine())


def read(profile_name: str) -> pd.DataFrame:
    """What `measure` timed: a row per network, engine and number of threads, and on each the machine.

    In how many rounds it was timed is not looked at; the pipeline times again where params.yaml changes that.
    """
    path = places.runs_file(profile_name, "latency")
    if why := _lacking(path):
        places.announce(path, why)
        measure(profile_name)
    return places.read_csv(path)


def _lacking(path: Path) -> str:
    if not path.exists():
        return "does not exist"
    from ghostlib.deploy.latency import ENGINES

    timed = places.read_csv(path)
    if absent := [engine for engine in ENGINES if engine not in set(timed["engine"])]:
        return f"lacks {', '.join(absent)}"
    # What was timed before 2026-11-29 has nothing beside Table 9.
    wanted = {*_networks(), *({*AT_224.values()} & {*timed["network"]})}
    missing = [network for _, times in timed.groupby(["engine", "threads"])
               for network in wanted - set(times["network"])]
    return f"lacks {', '.join(sorted(set(missing)))}" if missing else ""


def _networks() -> list[str]:
    return list(dict.fromkeys(catalog.deployed().values()))


def _rounds() -> int:
    """Read here and not by `load_params`: how a training is configured is nothing that times depend on."""
    settings = (read_yaml(Path("params.yaml")) or {}).get("latency") or {}
    check_keys(settings, ["rounds"], "params.yaml: latency")
    if not isinstance(rounds := settings.get("rounds"), int) or rounds < 2:
        raise ConfigError(f"params.yaml: latency.rounds = {rounds!r} must be a whole number from 2 on")
    return rounds
