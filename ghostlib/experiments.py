"""An experiment: the grid of runs behind one table or figure of the paper, and what came out as a long data frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ghostlib.config import Config, ConfigError
from ghostlib.runs import engines
from ghostlib.runs.store import Run, Store, stand_in_run
from ghostlib.training.profile import Profile, load_params, load_profile
from ghostlib.training.recipe import Recipe, scaled_decay

if TYPE_CHECKING:
    import pandas as pd

_EMA_DECAY = Recipe.model_fields["ema_decay"].default
COLUMNS = ["experiment", "row", "column", "seed", "run", "metric", "value", "data"]


class Grid(Config):
    """An experiment as params.yaml writes it: overrides of the recipe for all cells, for a row and for a column."""

    base: dict[str, Any] = {}
    rows: dict[str, dict[str, Any]]
    columns: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Cell:
    """One cell of a table, or one point of a figure."""

    row: str
    column: str
    recipe: Recipe


@dataclass(frozen=True)
class Experiment:
    """The cells of one table or figure at one profile's scale."""

    name: str
    profile: Profile
    cells: tuple[Cell, ...]

    @classmethod
    def load(cls, name: str, profile: str | None = None, params: dict[str, Any] | None = None) -> Experiment:
        """The named experiment of params.yaml, at the named profile or at the one params.yaml chooses.

        Raises:
            ConfigError: an unknown experiment, profile, key or teacher, or a value out of range.
        """
        params = params or load_params()
        if name not in params["experiments"]:
            raise ConfigError(f"params.yaml: experiments: unknown experiment {name!r}; known: "
                              f"{', '.join(params['experiments'])}")
        chosen = load_profile(profile or params["profile"], params)
        where = f"params.yaml: experiments.{name}"
        spec = Grid.parse(params["experiments"][name], where)
        cells = tuple(
            Cell(row, column, chosen.resolve(spec.base, of_row, of_column, where=f"{where} ({row}, {column})"))
            for row, of_row in spec.rows.items() for column, of_column in spec.columns.items())
        return cls(name, chosen, cells)

    def runs(self) -> Iterator[tuple[Cell, Run]]:
        """Every cell with every seed. Cells may share a run."""
        for cell in self.cells:
            for seed in self.profile.seeds:
                yield cell, Run(cell.recipe, self.profile, seed)

    def overview(self) -> pd.DataFrame:
        """One row a cell: its run's key (of the first seed) and what it changes from the profile's final recipe."""
        import pandas as pd

        final, first = self.profile.resolve(), self.profile.seeds[0]
        return pd.DataFrame([{"row": cell.row, "column": cell.column, "run": run.key, "changes": ", ".join(
            f"{key} = {value}" for key, value in cell.recipe.model_dump().items() if value != getattr(final, key))}
            for cell, run in self.runs() if run.seed == first])

    def remarks(self) -> list[str]:
        """What a reader of the results must know and cannot see in them."""
        gone = {cell.column: run.steps for cell, run in self.runs()
                if scaled_decay(cell.recipe.ema_decay, run.steps) == 0 and cell.recipe.ema_decay != _EMA_DECAY}
        if not gone:
            return []
        return [f"A decay means a share of a training. In one of {max(gone.values())} steps {', '.join(gone)} average "
                "over less than one step: these are the last weights themselves."]

    def run(self, workers: int | None = None, store: Store | None = None) -> pd.DataFrame:
        """Trains what is not in the store yet; returns the results as `results` does."""
        store = store or Store()
        engines.run([run for _, run in self.runs()], workers=workers, store=store, title=self.name)
        return self.results(store)

    def results(self, store: Store | None = None) -> pd.DataFrame:
        """One row per cell, seed and metric, with the columns `COLUMNS`; accuracies in %.

        `test_top1` and its like are of the weights averaged with the cell's `ema_decay`; `..._raw` of the last ones.
        """
        import pandas as pd

        store, records = store or Store(), []
        for cell, run in self.runs():
            metrics = store.metrics(run)
            for metric, value in _reported(metrics, str(cell.recipe.ema_decay)):
                records.append((self.name, cell.row, cell.column, run.seed, run.key, metric, value, run.data))
        return pd.DataFrame(records, columns=COLUMNS)

    def curves(self, store: Store | None = None) -> pd.DataFrame:
        """Loss and accuracy (%) on the training views, one row per cell, seed and epoch."""
        import pandas as pd

        store = store or Store()
        return pd.DataFrame([{"row": cell.row, "column": cell.column, "seed": run.seed, **epoch}
                             for cell, run in self.runs() for epoch in store.metrics(run)["history"]])


def train_all(profile: Profile, params: dict[str, Any], store: Store | None = None) -> dict[str, Run]:
    """Trains every run that some experiment asks for at the profile's scale, in one grid that keeps all cores busy.

    Returns:
        The stand-in teachers' runs, by the teacher of the paper they stand for.
    """
    teachers = {name: stand_in_run(profile, name) for name, teacher in profile.teachers.items() if teacher.stand_in}
    asked = [run for name in params["experiments"] for _, run in Experiment.load(name, profile.name, params).runs()]
    engines.run([*teachers.values(), *asked], store=store, title=profile.name)
    return teachers


def _reported(metrics: dict[str, Any], decay: str) -> Iterator[tuple[str, float]]:
    for part in ("test", "val"):
        for metric, of in metrics[part].items():
            yield f"{part}_{metric}", of[decay]
            yield f"{part}_{metric}_raw", of["raw"]
