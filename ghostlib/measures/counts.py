"""Parameters and multiply-accumulates of every network of Tables 9 and 10, folded; the same for every profile."""

from __future__ import annotations

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

    from ghostlib.deploy.count import count
    from ghostlib.models import zoo

    places_of_rows = _rows()
    counted = dict.fromkeys((name, size) for _, _, name, size in places_of_rows)
    for name, size in tqdm(counted, desc="counting", unit="network"):
        # Only transformers mind the size they are built for, and all of them are counted at that.
        counted[name, size] = count(zoo.create(name), size)
    records = [(*row, quantity, getattr(counted[row[2:]], attribute)) for row in places_of_rows
               for quantity, attribute in _quantities(row[0])]
    places.write_csv(pd.DataFrame(records, columns=COLUMNS), places.runs_file(profile_name, "complexity"))


def read(profile_name: str) -> pd.DataFrame:
    """What `measure` counted, with the columns `COLUMNS`."""
    path = places.runs_file(profile_name, "complexity")
    if why := _lacking(profile_name):
        places.announce(path, why)
        measure(profile_name)
    return places.read_csv(path)[COLUMNS]


def _lacking(profile_name: str) -> str:
    path = places.runs_file(profile_name, "complexity")
    if not path.exists():
        return "does not exist"
    there = set(places.read_csv(path)[COLUMNS[:-1]].itertuples(index=False, name=None))
    wanted = {(*row, quantity) for row in _rows() for quantity, _ in _quantities(row[0])}
    return "" if there == wanted else "does not hold every network of Tables 9 and 10"


def _rows() -> list[tuple[str, str, str, int]]:
    """Table, row, network and side of the image (px) of everything that is counted."""
    return [*(("table_9", row, name, catalog.find(name).image_size) for row, name in catalog.rows().items()),
            *(("table_10", row, name, side) for row, (name, side) in catalog.backbones().items())]


def _quantities(table: str) -> list[tuple[str, str]]:
    """What the paper prints of a table's networks, and the name that `deploy.count` has for it."""
    return [(places.PARAMS, "params"), (places.MACS, "macs")] if table == "table_9" else [(places.MACS, "macs")]
