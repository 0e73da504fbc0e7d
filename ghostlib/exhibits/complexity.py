"""Parameters and multiply-accumulates of every row of Tables 9 and 10, counted and held against the paper's."""

from __future__ import annotations

from importlib import resources

import pandas as pd
import yaml

from ghostlib.deploy.count import TOLERANCE, count
from ghostlib.models import catalog
from ghostlib.paper import numbers

PARAMS, MACS = "Params (M)", "FLOPs (M)"
COLUMNS = ["table", "row", "network", "image_size", "quantity", "paper", "measured", "difference", "reason"]
TITLES = {"complexity_9": "Parameters and multiply-accumulates of Table 9's networks, folded, counted here.",
          "complexity_10": "Multiply-accumulates of Table 10's backbones at the detectors' resolutions, counted here."}


def reasons() -> dict[str, dict[str, str]]:
    """Why a count differs from the paper's by more than `TOLERANCE`: row -> quantity -> reason."""
    text = resources.files(__package__).joinpath("differences.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def compare() -> pd.DataFrame:
    """Counts every row; one row per table, row and quantity, with the columns `COLUMNS`.

    `difference` is (measured - paper) / paper. `reason` is text where that exceeds the tolerance and we can say why.
    """
    from tqdm import tqdm

    from ghostlib.models import zoo

    asked = [("table_9", row, name, catalog.find(name).image_size) for row, name in catalog.rows().items()]
    asked += [("table_10", row, name, side) for row, (name, side) in catalog.backbones().items()]
    counted = {(name, size): None for _, _, name, size in asked}
    for name, size in tqdm(counted, desc="counting", unit="network"):
        # Only transformers mind the size they are built for, and all of them are counted at that.
        counted[name, size] = count(zoo.create(name), size)
    why, records = reasons(), []
    for table, row, name, size in asked:
        published = numbers.table(table).loc[row]
        for quantity, measured in ((PARAMS, counted[name, size].params), (MACS, counted[name, size].macs)):
            if quantity in published:
                difference = measured / published[quantity] - 1
                reason = why.get(row, {}).get(quantity, "") if abs(difference) > TOLERANCE else ""
                records.append((table, row, name, size, quantity, published[quantity], measured, difference, reason))
    return pd.DataFrame(records, columns=COLUMNS)


def flagged(comparison: pd.DataFrame) -> pd.DataFrame:
    """The rows of a comparison whose difference exceeds the tolerance."""
    return comparison[comparison["difference"].abs() > TOLERANCE]


def wide(comparison: pd.DataFrame) -> pd.DataFrame:
    """One table's comparison as a reader looks at it: the paper's count, ours and the difference, flagged with *."""
    def text(cell: pd.Series) -> pd.Series:
        flag = "*" if abs(cell["difference"]) > TOLERANCE else ""
        digits = 2 if cell.name[1] == PARAMS else 1
        return pd.Series({"paper": f"{cell['paper']:g}", "ours": f"{cell['measured']:.{digits}f}",
                          "difference": f"{100 * cell['difference']:+.1f} %{flag}"})
    cells = comparison.set_index(["row", "quantity"]).apply(text, axis=1)
    order = list(dict.fromkeys(comparison["quantity"]))
    table = cells.unstack("quantity").swaplevel(axis=1)
    return table.reindex(index=comparison["row"].unique(), columns=[
        (quantity, of) for quantity in order for of in ("paper", "ours", "difference")])


def notes(comparison: pd.DataFrame, name: str) -> list[str]:
    """What stands below the table `name` of `TITLES`: how it was counted, and a reason for every star."""
    table = name.replace("complexity", "table")
    starred = flagged(comparison[comparison["table"] == table])
    return ["Counted with fvcore: convolutions, linear layers and matrix products; re-parameterised networks folded; "
            "images of 224 px, MobileViT's of 256 px, Table 10's as its rows say.",
            f"*: differs from the paper's number by more than {100 * TOLERANCE:g} %.",
            *(f"{cell.row}, {cell.quantity}: {cell.reason or 'we do not know why.'}" for cell in starred.itertuples())]
