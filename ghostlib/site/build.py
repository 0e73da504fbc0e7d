"""A gallery of a profile's results to browse without running anything: static HTML in results/<profile>/site/.

    index.html               the summary, then every exhibit in the paper's order, every claim, the errata
    notebooks/<name>.html    the executed notebooks
    report.html              the report, if there is one

Pages point to the profile's figures and tables by relative addresses, so they work from a disk and without a network,
as long as the folder stays in its place. The same results give the same bytes.
"""

from __future__ import annotations

import re
import shutil
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import PIL.Image
from markupsafe import Markup, escape

from ghostlib.files import write_atomic
from ghostlib.paper.exhibits import label
from ghostlib.site import chapters, markup
from ghostlib.site.chapters import Article
from ghostlib.site.results import Results

# What pictures show that are no exhibit of the paper.
_DESCRIPTIONS = {
    "claims": "Each claimed difference of accuracies, the paper's beside ours with its interval",
    "detections": "Scenes with their objects, and what the detector on each backbone finds in them",
}


def build(profile_folder: Path) -> Path:
    """Writes the site of results/<profile> anew.

    Args:
        profile_folder: results/<profile>, with whatever of it is there. The page tells what is not.

    Returns:
        The site's index.html.

    Raises:
        FileNotFoundError: the profile has no results at all.
    """
    results = Results(Path(profile_folder))
    site = results.folder / "site"
    shutil.rmtree(site, ignore_errors=True)
    write_atomic(site / "style.css", resources.files(__package__).joinpath("style.css").read_bytes())
    environment = _environment(results)

    def write(address: str, template: str, **values: Any) -> None:
        html = environment.get_template(template).render(root="../" * address.count("/"), **values)
        write_atomic(site / address, html)

    pages = {path.stem: chapters.notebook_title(path.stem) for path in results.files("notebooks", ".ipynb")}
    described = _DESCRIPTIONS | {name: article.description for name, article in chapters.articles().items()}
    descriptions = {path.stem: described[path.stem] for path in results.files("figures", ".png")
                    if path.stem in described}
    for name, title in pages.items():
        body = markup.notebook(results.folder / "notebooks" / f"{name}.ipynb", title, descriptions, site / "notebooks")
        write(f"notebooks/{name}.html", "page.html.j2", title=title, body=body, source=f"../../notebooks/{name}.ipynb")
    report = results.folder / "report.md"
    if report.exists():
        write("report.html", "page.html.j2", title="Report", body=markup.report(report, "Report"),
              source="../report.md")
    write("index.html", "index.html.j2", title="Reproducing GhostNetV3", chapters=chapters.in_order(), pages=pages,
          has_report=report.exists(), report=results.report,
          files={kind: results.files(kind) for kind in ("tables", "figures", "runs", "notebooks")})
    return site / "index.html"


def _environment(results: Results) -> jinja2.Environment:
    """Templates, and what they ask of the results."""
    def pictures(article: Article) -> list[tuple[str, int, int]]:
        """The address and the size (CSS pixels, 96 an inch) of an exhibit's picture, if there is one."""
        path = results.folder / "figures" / f"{article.name}.png"
        if not path.exists():
            return []
        with PIL.Image.open(path) as image:
            dots = image.info.get("dpi", (96, 96))[0]  # an inch
            return [(f"../figures/{path.name}", *(round(size * 96 / dots) for size in image.size))]

    def table(name: str, title: str) -> tuple[Markup, list[str]] | None:
        path = results.folder / "tables" / f"{name}.json"
        return markup.table(path, title) if path.exists() else None

    def document(name: str) -> str:
        """The address of a table's Markdown file, where an older version wrote that alone."""
        path = results.folder / "tables" / f"{name}.md"
        return f"../tables/{path.name}" if path.exists() else ""

    def data(article: Article) -> list[str]:
        """The addresses of the CSV files behind an exhibit."""
        stems = [f"tables/{name}" for name in article.tables or (article.drawn_from,)]
        stems += [f"runs/{name}" for name in (article.name, *article.notebooks)]
        return [f"../{stem}.csv" for stem in dict.fromkeys(stems) if (results.folder / f"{stem}.csv").exists()]

    environment = jinja2.Environment(loader=jinja2.PackageLoader(__package__), autoescape=True, trim_blocks=True,
                                     lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.globals |= {"results": results, "profile": results.folder.resolve().name,
                            "pictures": pictures, "table": table, "document": document, "data": data}
    environment.filters |= {"label": label, "quantity": _quantity, "code": _code}
    return environment


def _quantity(value: float | None, unit: str | None) -> str:
    """A number of a claim: a difference with its sign, a count, ratio or correlation to four digits."""
    if value is None:
        return "—"
    return (f"{value:+.2f}" if unit in ("points", "points a point") else f"{value:.4g}").replace("-", "−")


def _code(text: str) -> Markup:
    """Text with `code` in it."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))
