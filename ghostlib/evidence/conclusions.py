"""What a notebook begins with: its title and, of each claim that it tests, three lines that conclude.

They say what the verdicts say, which report.json holds (`ghostlib verdicts PROFILE` writes it); nothing is judged here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ghostlib.evidence.claim_tables import CAUSES, TITLES
from ghostlib.evidence.quantities import number, weakness, with_interval
from ghostlib.files import read_json
from ghostlib.measures import places
from ghostlib.paper import claims, exhibits, numbers

_OWN = {"causes": CAUSES}  # a notebook of an experiment of ours
_UNTRIED = "not attempted"


def opening(notebook: str, profile_name: str) -> str:
    """Markdown: the title of an executed notebook and, right below it, what came out.

    Args:
        notebook: its stem in results/<profile>/notebooks, e.g. `table_1`, `comparison` or `latency`.
        profile_name: whose results.
    """
    path, report = _path(profile_name), _report(profile_name)
    absent = (f"What came out is not judged yet: `{path}` is not there. `ghostlib verdicts {profile_name}`, in the "
              "repository's root, judges what is measured and writes it.")
    return "\n\n".join([f"# {title(notebook)}", *(_paragraphs(notebook, report) if report else [absent])])


def title(notebook: str) -> str:
    """Of the first exhibit that the notebook shows, or of what it counts, times or searches."""
    shown, others = _shown(notebook), TITLES | _OWN
    if not shown and notebook not in others:
        raise ValueError(f"{notebook!r} is no table or figure of the paper: an experiment of your own has a notebook "
                         "of its own")
    return shown[0].heading if shown else others[notebook]


def finding(exhibit: str, profile_name: str) -> str:
    """A picture of an exhibit in words, for a reader who does not see it: what it is of and what was found.

    Args:
        exhibit: of the paper, e.g. `table_1`.
        profile_name: whose results.
    """
    found = [claim for claim in _report(profile_name).get("claims", ()) if claim["exhibit"] == exhibit]
    own = [claim for claim in found if claim["experiment"] == exhibit] or found  # Figures 1 and 5 are tested elsewhere
    said = [f"{claim['verdict'].capitalize()}: {claim['statement']}" for claim in own]
    return " ".join([f"{exhibits.find(exhibit).heading.rstrip('.')}.", *said])


def _path(profile_name: str) -> Path:
    return places.folder(profile_name) / "report.json"


def _report(profile_name: str) -> dict[str, Any]:
    """What is judged; empty if nothing is."""
    path = _path(profile_name)
    return read_json(path) if path.exists() else {}


def _paragraphs(notebook: str, report: dict[str, Any]) -> Iterator[str]:
    """How many claims have which verdict, each claim's lines in the order of verdicts, and where the others are."""
    order, about = list(report["verdicts"]["all"]), _about(notebook, report["claims"])
    tested = sorted((claim for claim in about if notebook in _notebooks(claim)),
                    key=lambda claim: order.index(claim["verdict"]))
    if len(tested) > 1:
        verdicts = [claim["verdict"] for claim in tested]
        counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(verdicts))
        trained = any(claim["seeds"] for claim in tested)  # what is counted or timed has no scale
        scale = f", at the scale of `{report['profile']}`" if trained else ""
        yield (f"**{len(tested)} claims are tested here{scale}: {counts}.** *Measured* has the weakest comparison of a "
               "claim, which decides.")
    for claim in tested:
        yield _lines(claim, report["rule"]["confidence"])
    if elsewhere := [claim for claim in about if claim not in tested]:
        links = {f"[{TITLES[claim['experiment']]}]({claim['experiment']}.ipynb)": None for claim in elsewhere}
        more = "1 more claim" if len(elsewhere) == 1 else f"{len(elsewhere)} more claims"
        yield f"Concluded where it is tested: {more} about {_shown(notebook)[0].label}, in {', '.join(links)}."
    if not about:
        yield "No claim of the paper is tested here."


def _lines(claim: dict[str, Any], confidence: float) -> str:
    """The claim, what came out, and why it is decided or is not."""
    ours = ", our claim" if claim["claimed_by"] == "us" else ""
    decided = claim["verdict"] not in ("inconclusive", _UNTRIED)
    # What else a reader must know to weigh a verdict, where there is one to weigh.
    why = claim["reason"] if decided else claim["reason"].removesuffix(claim["caveat"]).strip()
    return "  \n".join([f"**Claim** ({claim['place']}{ours}): {claim['statement']}",
                        f"**Measured:** {_measured(claim, confidence)}",
                        f"**{claim['verdict'].capitalize()}{weakness(claim['verdict'], claim['but'])}:** {why}"])


def _measured(claim: dict[str, Any], confidence: float) -> str:
    """The comparison that decides: ours with its interval and how many seeds or sessions it is of, and the paper's."""
    if claim["verdict"] == _UNTRIED:
        return "nothing."
    values = (claim[key] for key in ("paper", "ours", "low", "high"))
    paper, ours, low, high = (math.nan if value is None else value for value in values)
    unit = f" {claim['unit']}" if claim["unit"].startswith("points") else ""
    of = [f"{claim[what]} {what if claim[what] > 1 else what[:-1]}" for what in ("seeds", "sessions") if claim[what]]
    if claim["seeds"] == 1:
        of.append("so no interval")
    if not math.isnan(low):
        of.insert(0, f"{100 * confidence:g} % interval")
    within = f" ({', '.join(of)})" if of else ""
    printed = "prints no such number" if math.isnan(paper) else f"has {number(paper, claim['unit'])}"
    return f"{claim['comparison']}: {with_interval(ours, low, high, claim['unit'])}{unit}{within}; the paper {printed}."


def _about(notebook: str, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The claims that a notebook tests, and those about what it shows."""
    shown = {exhibit.name for exhibit in _shown(notebook)}
    return [claim for claim in found if notebook in _notebooks(claim) or claim["exhibit"] in shown]


def _notebooks(claim: dict[str, Any]) -> set[str]:
    """Where a claim is concluded: where it is tested and, if its exhibit has no numbers of its own, where that is."""
    experiment = claim["experiment"]
    found = {experiment if experiment in TITLES else exhibits.find(experiment).notebook}
    if claim["exhibit"] not in numbers.load():
        found.add(exhibits.find(claim["exhibit"]).notebook)
    compared = {cell[0] for known in claims.load()[1] if known.id == claim["id"] for pair in known.better
                for cell in (pair.cell, pair.than)}
    return found | (compared & set(_OWN))


def _shown(notebook: str) -> list[exhibits.Exhibit]:
    """The exhibits of the paper in a notebook."""
    return [exhibit for exhibit in exhibits.load().values() if exhibit.notebook == notebook]
