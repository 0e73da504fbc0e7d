"""A tiny profile's results, of which some are there and some are not, and what a test asks of their pages."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pandas as pd
import PIL.Image

from ghostlib.exhibits import tables
from ghostlib.paper import claims
from ghostlib.paper.numbers import CPU, MACS, MOBILE, TOP1

TITLE = "Table 1: GhostNetV2 at three widths, trained with and without re-parameterization."
CLAIMS = [("reparam-helps", "accuracy", "table_1", "confirmed", 1.5, "points"),
          ("three-branches-peak", "accuracy", "table_2", "inconclusive", -0.5, "points"),
          ("three-branches-suffice", "accuracy", "table_4", "bounded", 0.1, "points"),
          ("v3-counts", "sizes and operations", "table_9", "exact", 6.15, "M"),
          ("detection-counts", "sizes and operations", "table_10", "contradicted", 400.0, "M"),
          ("latency-mobile", "CPU time", "table_9", "not attempted", None, "")]
BADGE = {"exact": "=", "confirmed": "✓", "bounded": "±", "contradicted": "✗", "inconclusive": "?",
         "not attempted": "–"}
# Of Table 9, as `comparison.compare` gives it: the accuracy of the third was not measured here.
NETWORKS = [(row, quantity, paper, ours) for row, *values in (
                ("GhostNetV3 1.0×", (7.8, 10.1), (168.0, 167.4), (14.5, None), (77.1, 95.0)),
                ("GhostNetV3 1.6×", (18.9, 22.3), (415.0, 414.2), (38.6, None), (80.4, 96.4)),
                ("MobileOne-S1", (16.4, 12.0), (825.0, 823.9), (30.0, None), (75.9, None)),
                ("MobileNetV2 1.0× + ours", (7.9, 7.1), (300.0, 300.8), (12.0, None), (75.0, 93.1)))
            for quantity, (paper, ours) in zip((CPU, MACS, MOBILE, TOP1), values, strict=True)]


def png(width: int = 60, height: int = 40) -> bytes:
    stream = io.BytesIO()
    PIL.Image.new("RGB", (width, height), "white").save(stream, "png", dpi=(150, 150))
    return stream.getvalue()


def cell(source: str, mime: str | None = None, data: str = "", **metadata: str) -> nbformat.NotebookNode:
    shown = nbformat.v4.new_output("display_data", {mime: data, "text/plain": "plain"}, metadata=metadata)
    return nbformat.v4.new_code_cell(source, outputs=[shown] if mime else [])


def wide_table(columns: int) -> pd.DataFrame:
    header = pd.MultiIndex.from_product([[f"{width}.0×" for width in range(columns)], ["paper", "ours"]])
    return pd.DataFrame([["76.1", "73.89"] * columns], index=["w/ ReP"], columns=header)


def report_of(claimed: list[tuple]) -> dict:
    """What report.json holds of these claims, as far as the pages read it."""
    subjects = {subject: [claim for claim in claimed if claim[1] == subject] for subject in claims.SUBJECTS}
    counts = {subject: {verdict: sum(claim[3] == verdict for claim in found) for verdict in BADGE} | {"all": len(found)}
              for subject, found in {**subjects, "all": claimed}.items()}
    told = [dict(id=name, statement=f"It says {name}.", place="Somewhere", claimed_by="the paper", subject=subject,
                 exhibit=exhibit, comparison="", paper=ours, ours=ours, low=ours, high=ours, unit=unit,
                 seeds=7 * (unit == "points"), sessions=0, p=None, verdict=verdict,
                 but="at a price" if verdict == "confirmed" else "",
                 beside="but at a price" if verdict == "confirmed" else "", reason="Because of `that`.", caveat="")
            for name, subject, exhibit, verdict, ours, unit in claimed]
    return {"profile": "tiny", "scale": "48 digits, seven seeds; two epochs", "in_short": "48 digits, seven seeds",
            "certainty": ["Seven paired seeds decide.", "CPU times are of two sessions."],
            "teachers": "The teachers are stand-ins.",
            "on_imagenet": False, "seeds": {"values": [0], "fewest": 7, "most": 7},
            "detectable": {"least": 0.8, "median": 0.8, "most": 0.8}, "rule": claims.load()[0].model_dump(),
            "verdicts": counts, "claims": told, "errata": [{"place": "§1", "sentence": "It says `a` and b."}],
            "trainings": 2, "sessions": {"2026-01-02-a": "Some CPU", "2026-01-02-b": "Another CPU"},
            "machine": {"cpu": "Some CPU", "cpus": "2", "system": "Linux", "engines": "An Engine 1.0",
                                        "date": "2026-01-02"}}


def change_report(folder: Path, **changes) -> None:
    path = folder / "report.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def write(folder: Path) -> None:
    """A profile where Table 1 and Figure 1 were run, with a notebook that no exhibit names and a report."""
    for kind in ("notebooks", "figures", "runs"):
        (folder / kind).mkdir(parents=True)
    picture = base64.b64encode(png()).decode()
    text = nbformat.v4.new_markdown_cell
    ablation = [text("# One experiment, run again"), cell("story", "text/markdown", f"# {TITLE}\n\n- a note"),
                text("## The runs\n\nSee [the table](../tables/table_1.csv), [all](comparison.ipynb)."),
                cell("overview", "text/html", "<style>b {}</style>" + wide_table(20).to_html()),
                text("## How they learned"), cell("curves", "image/png", picture),
                cell("figures.show(figure, folder, name)\n" + "x" * 200, "image/png", picture, figure="table_1")]
    comparison = [text("# Networks compared"), cell("drawn", "image/png", picture, figure="figure_1")]
    for name, cells in {"table_1": ablation, "comparison": comparison, "extra": [text("# More")]}.items():
        nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "notebooks" / f"{name}.ipynb")
    for name in ("table_1", "figure_1"):
        (folder / "figures" / f"{name}.png").write_bytes(png())
    notes = ["Measured at: 48 digits.", "On the paper: a <b> & a `note`."]
    tables.write_document(wide_table(20), folder / "tables", "table_1", TITLE, notes)
    wide_table(20).to_csv(folder / "tables" / "table_1.csv")
    pd.DataFrame(NETWORKS, columns=["row", "quantity", "paper", "measured"]).to_csv(
        folder / "tables" / "table_9.csv", index=False)
    pd.DataFrame([("1.0×", "a")], columns=["column", "run"]).to_csv(folder / "runs" / "table_1.csv", index=False)
    (folder / "report.json").write_text(json.dumps(report_of(CLAIMS)), encoding="utf-8")
    pd.DataFrame(CLAIMS).to_csv(folder / "tables" / "claims.csv")
    (folder / "report.md").write_text("# Report\n\n## Words\n\n![A chart](figures/table_1.png)\n\n"
                                      "[Its notebook](notebooks/table_1.ipynb)\n", encoding="utf-8")


class Page(HTMLParser):
    """What a test asks of a page."""

    def __init__(self, path: Path):
        super().__init__()
        self.path, self.ids, self.links, self.loads, self.images, self.headings = path, [], [], [], [], []
        self.articles, self.text, self.language, self._within, self._tag = {"": ""}, "", "", "", ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values, self._tag = dict(attributes), tag
        self.ids += [values["id"]] if "id" in values else []
        self.language = values["lang"] if tag == "html" else self.language
        self.links += [values["href"]] if tag == "a" else []
        self.loads += [values[key] for key in ("src", "srcset", "data") if key in values]
        self.loads += [values["href"]] if tag == "link" else []
        self.images += [(values["src"], values.get("alt"))] if tag == "img" else []
        self.headings += [int(tag[1])] if re.fullmatch("h[1-6]", tag) else []
        if tag == "article":
            self._within = values["id"]
            self.articles[self._within] = ""

    def handle_endtag(self, tag: str) -> None:
        self._within, self._tag = "" if tag == "article" else self._within, ""

    def handle_data(self, data: str) -> None:
        if self._tag == "script":
            return
        self.text += data
        self.articles[self._within] += data
