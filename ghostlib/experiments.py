"""An experiment: the grid of runs behind one table or figure of the paper."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field

from ghostlib.config import Config, ConfigError, hint
from ghostlib.training.profile import Profile, load_params, load_profile
from ghostlib.training.recipe import Recipe, scaled_decay

if TYPE_CHECKING:
    import pandas as pd

    from ghostlib.runs.classifier import ClassifierRun

_EMA_DECAY = Recipe.model_fields["ema_decay"].default
# Of results in long format, a row a cell, seed and metric: runs/<experiment>.csv.
COLUMNS = ["experiment", "row", "column", "seed", "run", "metric", "value", "data", "settings"]
TOP1_METRIC, TOP5_METRIC = "test_top1", "test_top5"  # accuracies (%) of the averaged weights on the test images
LOSS_METRIC = "test_loss"  # their log-loss there (nats)
STEPS_METRIC = "steps"  # of the whole training
KEY = 8  # so many digits of a run's key tell it from the others in a table


def run_name(row: str, column: str | None = None, seed: int | None = None) -> str:
    """What a reader calls a cell or, with its seed, a run: `w/ ReP · 1.0× · seed 0`. A key tells nobody anything.

    Leave out the column where all cells share it: it tells none from the others.
    """
    return " · ".join(filter(None, [row, column, None if seed is None else f"seed {seed}"]))


class Grid(Config):
    """An experiment of experiments.yaml: overrides of the recipe for all cells, for a row and for a column.

    Attributes:
        profiles: at which alone it is run; at others it has no cells.
        seeds: how many of the profile's seeds it takes, the first ones.
    """

    profiles: tuple[str, ...] | None = None
    seeds: int | None = Field(None, ge=1)
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
    """The cells of one table or figure, or of an experiment of ours, at one profile's scale."""

    name: str
    profile: Profile
    cells: tuple[Cell, ...]
    seeds: tuple[int, ...]

    @classmethod
    def load(cls, name: str, profile: str | None = None, params: dict[str, Any] | None = None) -> Experiment:
        """The named experiment of experiments.yaml, at the named profile or at the one params.yaml chooses.

        Raises:
            ConfigError: an unknown experiment, profile, key or teacher, or a value out of range.
        """
        params = params or load_params()
        if name not in params["experiments"]:
            raise ConfigError(f"experiments.yaml: experiments: unknown experiment {name!r}; "
                              f"{hint(name, params['experiments'])}")
        chosen = load_profile(profile or params["profile"], params)
        where = f"experiments.yaml: experiments.{name}"
        grid = Grid.parse(params["experiments"][name], where)
        if "" in grid.rows or "" in grid.columns:
            raise ConfigError(f"{where}: a row or column has an empty name")
        if unknown := [profile for profile in grid.profiles or () if profile not in params["profiles"]]:
            raise ConfigError(f"{where}: profiles: unknown profile {unknown[0]!r}; "
                              f"{hint(unknown[0], params['profiles'])}")
        cells = tuple(
            Cell(row, column, chosen.resolve(grid.base, of_row, of_column, where=f"{where} ({row}, {column})"))
            for row, of_row in grid.rows.items() for column, of_column in grid.columns.items()
            if grid.profiles is None or chosen.name in grid.profiles)
        return cls(name, chosen, cells, chosen.seeds[:grid.seeds])

    def runs(self) -> Iterator[tuple[Cell, ClassifierRun]]:
        """Every cell with every seed. Cells may share a run."""
        from ghostlib.runs.classifier import ClassifierRun

        for cell in self.cells:
            for seed in self.seeds:
                label = f"{self.name} ({cell.row}, {cell.column}), seed {seed}"
                yield cell, ClassifierRun(cell.recipe, self.profile, seed, label)

    def overview(self, results: pd.DataFrame) -> pd.DataFrame:
        """One row a cell: its name, what it changes from the profile's final recipe, the key of its first seed's run.

        Args:
            results: of this experiment, with the columns `COLUMNS`.
        """
        import pandas as pd

        final, first = self.profile.resolve(), results[results["seed"] == self.seeds[0]]
        keys = first.groupby(["row", "column"])["run"].first()
        shared = len({cell.column for cell in self.cells}) == 1
        return pd.DataFrame([{
            "run": run_name(cell.row, None if shared else cell.column),
            "what it changes": ", ".join(f"{key} = {value}" for key, value in cell.recipe.model_dump().items()
                                         if value != getattr(final, key)) or "nothing",
            "key": keys[cell.row, cell.column][:KEY]} for cell in self.cells])

    def remarks(self, results: pd.DataFrame) -> list[str]:
        """What a reader of the results must know and cannot see in them.

        Args:
            results: of this experiment, with the columns `COLUMNS`.
        """
        steps = results[results["metric"] == STEPS_METRIC].groupby(["row", "column"])["value"].max()
        gone = {cell.column: round(steps[cell.row, cell.column]) for cell in self.cells
                if cell.recipe.ema_decay != _EMA_DECAY and (cell.row, cell.column) in steps  # not where it diverged
                and scaled_decay(cell.recipe.ema_decay, steps[cell.row, cell.column]) == 0}
        if not gone:
            return []
        return [f"A decay means a share of a training. In a training of {max(gone.values())} steps an average of "
                f"{' or '.join(gone)} spans less than one step: these are the last weights themselves."]
