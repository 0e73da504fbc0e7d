"""What is on record of every training beside its accuracies: its learning curve and its cost, as tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from ghostlib.runs.store import Job, Store

COSTS = ["run", "kind", "seconds", "device", "date"]


def curves(labelled: Iterable[tuple[dict[str, Any], Job]], columns: list[str], store: Store) -> pd.DataFrame:
    """One row per training and epoch; a training that is not in the store, or diverged, has none.

    Args:
        labelled: what tells each training from the others, and the training.
        columns: those labels, then what is known of an epoch.
        store: of the trainings.
    """
    import pandas as pd

    return pd.DataFrame([{**labels, **epoch} for labels, job in labelled
                         for epoch in (store.metrics(job) or {"history": []})["history"]], columns=columns)


def costs(kinds: Iterable[tuple[str, Job]], store: Store) -> pd.DataFrame:
    """One row per training that is in the store, with the columns `COSTS`: its kind, and what it cost."""
    import pandas as pd

    records = {job.key: {"run": job.key, "kind": kind, **cost} for kind, job in kinds if (cost := store.cost(job))}
    return pd.DataFrame(list(records.values()), columns=COSTS)
