"""The learning rates of a profile: what each kind of recipe reaches at each rate, which is best and which is used."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ghostlib.exhibits.figures import sentence
from ghostlib.exhibits.style import PLAIN, STRATEGY, grid
from ghostlib.exhibits.summarise import text
from ghostlib.measures import rates
from ghostlib.training.profile import Profile

TITLE = "Learning rates chosen on validation images."
_COLUMNS = 4  # panels beside one another
_UPRIGHT = 6  # rates whose numbers fit below a panel as they are


def table(trained: pd.DataFrame, profile: Profile) -> pd.DataFrame:
    """The table a reader looks at, as texts, a row a kind.

    Args:
        trained: as `measures.rates.read` gives it, here and below.
        profile: whose rates they are.
    """
    compared = rates.beside_frozen(trained, profile)
    return pd.DataFrame({
        "Kind of recipe": compared.index, "Rates": compared["tried"], "Best": [*map(text, compared["lr_scale"])],
        "Validation top-1 (%)": [text(row.val_top1, "{:.2f}", row.sd) for row in compared.itertuples()],
        "In experiments.yaml": [*map(text, compared["frozen"])],
        "Best at an edge": [{True: "yes", False: "no"}.get(at_edge, "—") for at_edge in compared["at_edge"]]})


def document(trained: pd.DataFrame, profile: Profile) -> str:
    """The table with what is to be known of it, in Markdown; one sentence where the profile chooses no rates."""
    if profile.tune is None:
        return f"**{TITLE}**\n\n{rates.given(profile)}\n"
    first, *others = profile.tune.seeds
    spread = "; ± is their standard deviation" if others else ""
    further = (f". All rates are tried with seed {first}, and with the others those that it leaves at most "
               f"{rates.CLOSE:g} points below the best; of these the best is taken" if others else "")
    notes = [f"Measured at: {profile.scale}.", "A rate is `lr_scale`, the factor on every learning rate of a recipe.",
             "A kind is network family, optimiser, branches or not, teacher or not. Of its recipes that one is trained "
             "which differs least from the final one, with seeds that measure nothing else: "
             f"{', '.join(map(str, profile.tune.seeds))}{further}.",
             f"Best is the highest mean over the seeds, of equal ones the lower rate{spread}. A rate at which a seed "
             "diverged is not chosen.",
             f"Where the best{' or one of these' if others else ''} lies at an edge, the grid goes on beyond it, at "
             f"most {rates.FURTHER} times. Beyond a best rate that still does, a better one may lie."]
    shown = table(trained, profile).to_markdown(index=False, disable_numparse=True)
    return "\n".join([f"**{TITLE}**", "", shown, "", *(f"- {note}" for note in notes)]) + "\n"


def figure(trained: pd.DataFrame, profile: Profile) -> Figure:
    """Mean validation top-1 against the rate, a panel a kind and a dot a seed; the best is marked."""
    if profile.tune is None:
        return sentence(rates.given(profile))
    kinds, best = trained["kind"].unique(), rates.chosen(trained)["lr_scale"]
    across = min(_COLUMNS, len(kinds))
    down = -(-len(kinds) // across)
    with plt.rc_context(grid()):
        # Each panel has an axis of its own: it shows at which rate a kind is best, not which kind is better.
        panels, axes = plt.subplots(down, across, figsize=(2.7 * across + 0.5, 2.2 * down + 0.7), squeeze=False,
                                    layout="constrained")
        for axis, kind in zip(axes.flat, kinds, strict=False):
            _panel(axis, trained[trained["kind"] == kind], best.get(kind))
            axis.set_title(kind, loc="left", fontsize=8)
        for axis in axes.flat[len(kinds):]:
            axis.set_visible(False)
        panels.supxlabel("lr_scale", fontsize=9)
        panels.supylabel("validation top-1 (%)", fontsize=9)
        panels.suptitle(f"{TITLE} A dot a seed, the line their mean, a star the best.", x=0.01, ha="left", fontsize=9)
    plt.close(panels)
    return panels


def _panel(axis: Axes, of_kind: pd.DataFrame, best: float | None) -> None:
    tried = sorted(of_kind["lr_scale"].unique())
    of_rate = of_kind.groupby("lr_scale")["val_top1"]
    means = of_rate.mean().where(of_rate.count() == of_rate.size())  # the line ends where a seed diverged
    line, mark = STRATEGY.color, PLAIN.color
    axis.plot(range(len(tried)), means, color=line)
    axis.scatter(of_kind["lr_scale"].map(tried.index), of_kind["val_top1"], color=line, s=14, alpha=0.5)
    if best is not None:
        axis.scatter(tried.index(best), means[best], color=mark, marker="*", s=110, zorder=3)
    crowded = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if len(tried) > _UPRIGHT else {}
    axis.set_xticks(range(len(tried)), [f"{rate:g}" for rate in tried], **crowded)
    axis.grid(axis="x", visible=False)
