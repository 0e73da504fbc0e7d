"""The pages of a profile's results in the order in which they are read, and what leads from one to the next."""

from __future__ import annotations

from dataclasses import dataclass

from ghostlib.site import chapters
from ghostlib.site.results import Results

PAPER = "https://arxiv.org/abs/2404.11202"
AUTHORS = "https://github.com/huawei-noah/Efficient-AI-Backbones"


@dataclass(frozen=True)
class Page:
    """One page.

    Attributes:
        address: in the site.
        title: its heading.
        name: what it is called where there is little room.
        source: the file that it shows, in results/<profile>; empty for the first page.
    """

    address: str
    title: str
    name: str
    source: str = ""


def in_order(results: Results) -> list[Page]:
    """The first page, the report if there is one, the notebooks of the exhibits in the paper's order, the others."""
    pages = [Page("index.html", "Reproducing GhostNetV3", "Overview")]
    report = results.folder / "report.md"
    if report.exists():
        title = report.read_text(encoding="utf-8").splitlines()[0].lstrip("# ").replace("`", "")
        pages.append(Page("report.html", title, "Report", report.name))
    there = {path.stem: path for path in results.files("notebooks", ".ipynb")}
    labels = chapters.notebook_labels()
    for name in sorted(there, key=lambda name: list(labels).index(name) if name in labels else len(labels)):
        title = chapters.notebook_title(name)
        pages.append(Page(f"notebooks/{name}.html", title, labels.get(name, title), f"notebooks/{name}.ipynb"))
    return pages


def profiles(results: Results) -> dict[str, str]:
    """Every profile that has pages -> the address of their index beside this profile's site; this one has none."""
    this = results.folder.resolve()
    others = [path.parts[-3] for path in this.parent.glob("*/site/index.html")]
    addresses = {name: f"../../{name}/site/index.html" for name in others} | {this.name: ""}
    return dict(sorted(addresses.items()))
