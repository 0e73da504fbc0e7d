"""Figures 1 and 5 as charts that answer the pointer: Vega-Lite, drawn from the table that the static pictures draw.

As there, filled is an accuracy that was measured here, hollow a published one.

A page holds a figure's rows once and a specification a panel; charts.js gives these the rows of the families that are
switched on, the latency axis that is asked for, and the colours of the reader's light or dark page.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.colors import to_hex, to_rgb

from ghostlib.exhibits.comparison import RIVAL, WEIGHTS_TOP1
from ghostlib.exhibits.panels import WITH, Panel, family, panels
from ghostlib.exhibits.style import FAMILIES
from ghostlib.measures import places
from ghostlib.paper.numbers import CPU, MACS, MOBILE, PARAMS, TOP1

SOURCE = "table_9"  # whose CSV file, as `comparison.compare` gives it, the figures draw
# A marker of the static pictures -> Vega's name of the shape.
_SHAPES = {"o": "circle", "s": "square", "^": "triangle-up", "D": "diamond", "P": "cross", "v": "triangle-down",
           ">": "triangle-right", "<": "triangle-left"}
# What the pointer tells of a network: a quantity -> its column here, whose name Vega-Lite must not read as a path, and
# how it is written.
_TOLD = {PARAMS: ("params", "{:.2f}"), MACS: ("macs", "{:.0f}"), CPU: ("cpu", "{:.1f}"), MOBILE: ("mobile", "{:.1f}"),
         TOP1: ("top1", "{:.1f}"), RIVAL: ("rival", "{:.1f}"), WEIGHTS_TOP1: ("weights", "{:.1f}")}


def figure(name: str, folder: Path, machine: str) -> dict[str, Any] | None:
    """All that charts.js needs to draw `figure_1` or `figure_5`; None for another exhibit, or without Table 9.

    Args:
        name: of the exhibit.
        folder: results/<profile>.
        machine: the processor that our latencies were measured on.
    """
    path = folder / "tables" / f"{SOURCE}.csv"
    if name not in ("figure_1", "figure_5") or not path.exists():
        return None
    compared = places.read_csv(path)
    profile = folder.resolve().name
    shown = panels(name, compared, machine, profile)
    rows = _rows(compared, shown, profile)
    return {"rows": rows.astype(object).where(rows.notna(), None).to_dict("records"),
            "families": [{"name": name, "light": mark.color, "dark": _lighter(mark.color),
                          "shape": _SHAPES[mark.marker]} for name, mark in FAMILIES.items()],
            "panels": [{"title": panel.title, "spec": _specification(panel, rows)} for panel in shown]}


def library() -> str:
    """Vega, Vega-Lite and vega-embed as one script, which gives the page `vegaEmbed`."""
    import altair as alt
    import vl_convert

    version = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    return f"(() => {{{vl_convert.javascript_bundle(vl_version=version)}}})();\n"  # its names are not the page's


def _rows(compared: pd.DataFrame, shown: list[Panel], profile: str) -> pd.DataFrame:
    """A row a network: its family, what to call it, the panels' values, and as texts what the pointer tells."""
    values = compared.set_index(["row", "quantity"]).reindex(columns=["paper", "measured", "low", "high"])
    names = list(compared["row"].unique())
    rows = pd.DataFrame({"title": names}, index=names)
    rows[["family", "label"]] = [family(name) for name in names]
    # Whose colour the outline has: the strategy's where it trained another network than its own.
    rows["outline"] = rows["family"].mask(rows["label"].str.endswith(WITH), next(iter(FAMILIES)))
    for quantity, source in {place for panel in shown for place in (panel.x, panel.y)}:
        rows[_column(quantity, source)] = values[source].xs(quantity, level="quantity").reindex(names)
    for name in ("low", "high"):  # of our latencies, where the table has them
        rows[name] = values[name].xs(CPU, level="quantity").reindex(names)
    here = f"here ({profile})"
    for quantity, (column, form) in _TOLD.items():
        if quantity in compared["quantity"].to_numpy():
            both = values.xs(quantity, level="quantity").reindex(names).itertuples()
            theirs, ours = {TOP1: ("paper (ImageNet)", here), RIVAL: ("paper", here),
                            CPU: ("paper (i7-8700)", "here")}.get(quantity, ("paper", "here"))
            rows[column] = [_told(form, {theirs: row.paper, ours: row.measured}) for row in both]
    return rows.reset_index(drop=True)


def _told(form: str, values: Mapping[str, float]) -> str:
    return " · ".join(f"{whose}: {form.format(value)}" for whose, value in values.items() if pd.notna(value)) or "—"


def _column(quantity: str, source: str) -> str:
    return f"{_TOLD[quantity][0]}_{source}"


def _specification(panel: Panel, rows: pd.DataFrame) -> Mapping[str, Any]:
    """A panel in Vega-Lite, without its rows, which charts.js gives it under the name `rows`."""
    import altair as alt

    x, y = _column(*panel.x), _column(*panel.y)
    shown = rows.dropna(subset=[x, y])
    families = list(FAMILIES)
    whiskers = panel.x == (CPU, "measured") and rows["low"].notna().any()
    least, most = shown[x].min(), shown[x].max()
    if whiskers:
        least, most = min(least, shown["low"].min()), max(most, shown["high"].max())
    horizontal = alt.X(x, type="quantitative", title=panel.x_label, axis=alt.Axis(tickCount=6, format="~g"),
                       scale=alt.Scale(type="log", domain=[_round(least * 0.84), _round(most * 1.14)], nice=False))
    span = shown[y].max() - shown[y].min()
    vertical = alt.Y(y, type="quantitative", title=panel.y_label, axis=alt.Axis(tickCount=6),
                     scale=alt.Scale(domain=[_round(shown[y].min() - span / 14), _round(shown[y].max() + span / 14)],
                                     nice=False, zero=False))
    colors = alt.Scale(domain=families, range="category")
    color = alt.Color("family", type="nominal", legend=None, scale=colors)
    shape = alt.Shape("family", type="nominal", legend=None,
                      scale=alt.Scale(domain=families, range=[_SHAPES[mark.marker] for mark in FAMILIES.values()]))
    inside = {"fill": alt.value("transparent")} if panel.y[1] == "paper" else {
        "fill": alt.Fill("family", type="nominal", legend=None, scale=colors)}
    told = [alt.Tooltip("title", type="nominal"),
            *(alt.Tooltip(column, type="nominal", title=quantity) for quantity, (column, _) in _TOLD.items()
              if column in rows.columns)]
    near = alt.selection_point(name="near", on="pointerover", clear="pointerout", nearest=True, empty=False)
    base = alt.Chart(alt.NamedData("rows")).transform_filter(f"isValid(datum.{x}) && isValid(datum.{y})")
    ghosts = base.transform_filter("test(/^GhostNet/, datum.family)")
    lines = ghosts.mark_line(strokeWidth=1.2, opacity=0.6, aria=False).encode(horizontal, vertical, color)
    points = base.mark_point(strokeWidth=1.7).encode(
        horizontal, vertical, shape, tooltip=told, **inside,
        stroke=alt.Stroke("outline", type="nominal", legend=None, scale=colors),
        size=alt.condition(near, alt.value(190), alt.value(75)), description=alt.Description("title", type="nominal"),
    ).add_params(near).properties(name="points")
    names = base.transform_filter("datum.family == 'GhostNetV3'").mark_text(
        dx=-6, dy=-13, fontWeight=600, aria=False).encode(horizontal, vertical, color, text="label:N")
    spans = base.transform_filter("isValid(datum.low)").mark_rule(opacity=0.4, aria=False).encode(
        alt.X("low:Q"), vertical, color, x2="high:Q")
    layers = [lines, *([spans] if whiskers else []), names, points]
    chart = alt.layer(*layers).properties(width="container", height=300)
    # Without checking it against Vega-Lite's schema, which takes most of a page's time: the tests do that.
    return chart.to_dict(validate=False) | {"autosize": {"type": "fit-x", "contains": "padding"}}


def _lighter(color: str) -> str:
    """A colour for a dark page, half way to white."""
    return to_hex([(1 + value) / 2 for value in to_rgb(color)])


def _round(value: float) -> float:
    """Four digits, so that the last of a float's does not change a page."""
    return float(f"{value:.4g}")
