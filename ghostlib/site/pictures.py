"""The pictures of a profile's results: which file a page shows, how large, and what it shows, in words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import PIL.Image

from ghostlib.exhibits.style import NARROW
from ghostlib.site import chapters
from ghostlib.site.results import Results

PHOTOGRAPHS = {"detections"}  # shows images, whose colours are not to be turned for a dark page
# What pictures show that are no exhibit of the paper.
_OTHERS = {
    "claims": "Each claimed difference of accuracies, the paper's beside ours with its interval",
    "detections": "Scenes with their objects, and what the detector on each backbone finds in them",
}
_FEW = 3  # claims of which a text still tells each


@dataclass(frozen=True)
class Picture:
    """A picture of results/<profile>/figures.

    Attributes:
        address: in results/<profile>.
        width: in CSS pixels, 96 an inch.
        height: likewise.
        finding: what it shows and what came out, for one who does not see it.
        kind: `chart` or `photograph`.
        narrow: its form for phones, if it has one: address, width and height.
    """

    address: str
    width: int
    height: int
    finding: str
    kind: str
    narrow: tuple[str, int, int] | None = None


def find(results: Results) -> dict[str, Picture]:
    """Every picture that is an exhibit's or has words in `_OTHERS`, by its name."""
    known = {**_OTHERS, **{name: article.description for name, article in chapters.articles().items()}}
    return {path.stem: _picture(path, _finding(path.stem, known[path.stem], results))
            for path in results.files("figures", ".png") if path.stem in known}


def _picture(path: Path, finding: str) -> Picture:
    """The vectors instead of the pixels where these take more room, as those of a chart do."""
    with PIL.Image.open(path) as image:
        dots = image.info.get("dpi", (96, 96))[0]  # an inch
        width, height = (round(size * 96 / dots) for size in image.size)
    vectors = path.with_suffix(".svg")
    narrow = path.with_name(f"{path.stem}{NARROW}.svg")
    kind = "photograph" if path.stem in PHOTOGRAPHS else "chart"
    if vectors.exists() and vectors.stat().st_size < path.stat().st_size:
        path = vectors
    return Picture(f"figures/{path.name}", width, height, finding, kind, _narrow(narrow) if narrow.exists() else None)


def _narrow(path: Path) -> tuple[str, int, int]:
    """The address and the size of a picture of vectors, whose unit is a point, 72 an inch."""
    width, height = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', path.read_text(encoding="utf-8")).groups()
    return f"figures/{path.name}", round(float(width) * 96 / 72), round(float(height) * 96 / 72)


def _finding(name: str, shown: str, results: Results) -> str:
    """What a picture shows, and the verdicts on the claims that it bears on."""
    if name == "claims":
        claims = results.claims
    else:
        article = chapters.articles().get("table_10" if name == "detections" else name)
        claims = [claim for claim in results.claims if claim["exhibit"] in (article.name, article.drawn_from)]
    return ". ".join(filter(None, (shown.rstrip("."), _verdicts(claims)))) + "."


def _verdicts(claims: list[dict[str, Any]]) -> str:
    """Few claims with their verdicts, or how many got which."""
    if len(claims) <= _FEW:
        return " ".join(f"{claim['verdict'].capitalize()}: {claim['statement']}" for claim in claims).rstrip(".")
    counts: dict[str, int] = {}
    for claim in sorted(claims, key=lambda claim: list(type(claim["verdict"])).index(claim["verdict"])):
        counts[claim["verdict"]] = counts.get(claim["verdict"], 0) + 1
    return f"Of its {len(claims)} claims " + ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
