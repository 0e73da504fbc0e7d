"""Parameters and multiply-accumulates of every network of Tables 9 and 10, folded; the same for every profile."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from typing import TYPE_CHECKING

from ghostlib.measures import places
from ghostlib.models import catalog

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ["table", "row", "network", "image_size", "quantity", "measured"]


def measure(profile_name: str) -> None:
    """Counts every network once; writes one row per table, row and quantity, in millions."""
    import pandas as pd
    from tqdm import tqdm

    from ghostlib.machine import all_threads

    places_of_rows = _rows()
    networks = list(dict.fromkeys((name, size) for _, _, name, size in places_of_rows))
    # Tracing a network is a second of Python, so more processes help where threads do not: forks of one that has
    # imported what they need.
    forkserver = multiprocessing.get_context("forkserver")
    forkserver.set_forkserver_preload(["ghostlib.deploy.count", "ghostlib.models.zoo", "fvcore.nn"])
    with ProcessPoolExecutor(all_threads(), mp_context=forkserver) as pool:
        counts = list(tqdm(pool.map(_count, networks), desc="counting", unit="network", total=len(networks)))
    counted = dict(zip(networks, counts, strict=True))
    records = [(*row, quantity, counted[row[2:]][attribute]) for row in places_of_rows
               for quantity, attribute in _quantities(row[0])]
    places.write_csv(pd.DataFrame(records, columns=COLUMNS), places.runs_file(profile_name, "complexity"))


def _count(network: tuple[str, int]) -> dict[str, float]:
    """What `deploy.count` gives, by name: its own class would make the waiting process import PyTorch, too."""
    import torch

    from ghostlib.deploy.count import count
    from ghostlib.models import zoo

    torch.set_num_threads(1)
    name, size = network
    # Only transformers mind the size they are built for, and all of them are counted at that.
    return asdict(count(zoo.create(name), size))


def read(profile_name: str) -> pd.DataFrame:
    """What `measure` counted, with the columns `COLUMNS`."""
    path = places.runs_file(profile_name, "complexity")
    if why := _lacking(profile_name):
        places.announce(path, why)
        measure(profile_name)
    return places.read_csv(path)[COLUMNS]


def _lacking(profile_name: str) -> str:
    wanted = [(*row, quantity) for row in _rows() for quantity, _ in _quantities(row[0])]
    return places.lacking(places.runs_file(profile_name, "complexity"), wanted, COLUMNS[:-1],
                          "every network of Tables 9 and 10")


def _rows() -> list[tuple[str, str, str, int]]:
    """Table, row, network and side of the image (px) of everything that is counted."""
    return [*(("table_9", row, name, catalog.find(name).image_size) for row, name in catalog.rows().items()),
            *(("table_10", row, name, side) for row, (name, side) in catalog.backbones().items())]


def _quantities(table: str) -> list[tuple[str, str]]:
    """What the paper prints of a table's networks, and the name that `deploy.count` has for it."""
    return [(places.PARAMS, "params"), (places.MACS, "macs")] if table == "table_9" else [(places.MACS, "macs")]
