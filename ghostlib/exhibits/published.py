"""The published accuracies of Table 9 beside what the rows' public weights give on ImageNet's validation images."""

from __future__ import annotations

import pandas as pd

from ghostlib.exhibits.summarise import text
from ghostlib.measures import pretrained
from ghostlib.measures.published import COMMAND, IMAGES
from ghostlib.paper import numbers
from ghostlib.paper.numbers import TOP1, TOP5

TITLE = "Table 9's accuracies, and what the public weights of its rows give here."


def table(scored: pd.DataFrame) -> pd.DataFrame:
    """The table a reader looks at, as texts, a row for each of Table 9's.

    Args:
        scored: as `measures.published.read` gives it.
    """
    published, measured, records = numbers.table("table_9"), scored.set_index("row"), []
    for row, source in pretrained.sources().items():
        ours = measured[["top1", "top5"]].reindex([row]).iloc[0]
        records.append({
            "Row": row, "Weights": source.name or f"none: {source.none}",
            "By the network's authors": {True: "yes", False: "no"}[source.authors] if source.name else "—",
            "Their training": source.training or "—",
            f"{TOP1}: paper": text(published.loc[row, TOP1]), f"{TOP1}: here": text(ours["top1"], "{:.2f}"),
            f"{TOP5}: paper": text(published.loc[row, TOP5]), f"{TOP5}: here": text(ours["top5"], "{:.2f}")})
    return pd.DataFrame(records)


def document(scored: pd.DataFrame) -> str:
    """The table with what is to be known of it, in Markdown."""
    notes = [f"Of {IMAGES} images of ImageNet, as deployed: folded where a network folds. Size, crop and normalisation "
             "are those that timm, or torchvision, states for the weights.",
             "What is not by a network's authors was trained otherwise than they did, so that its accuracy need not be "
             "the printed one."]
    if scored.empty:
        notes.insert(0, f"Nothing was scored: ImageNet's validation images were not found. With them: `{COMMAND}`.")
    else:
        machines = ", ".join(f"{device} ({date})" for device, date in scored[["device", "date"]].drop_duplicates(
            ).itertuples(index=False))
        notes.append(f"Scored on: {machines}.")
    shown = table(scored).to_markdown(index=False, disable_numparse=True)
    return "\n".join([f"**{TITLE}**", "", shown, "", *(f"- {note}" for note in notes)]) + "\n"
