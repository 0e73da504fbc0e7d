"""A gallery of a profile's results to browse without running anything: static HTML in results/<profile>/site/.

    index.html               the answer, then every exhibit in the paper's order, every claim, the errata
    notebooks/<name>.html    the executed notebooks
    report.html              the report, if there is one
    style.css, site.js       the looks; contents that stay in view, and the claims' filter
    charts.js, vega.js       Figures 1 and 5 that answer the pointer

Pages point to the profile's figures and tables by relative addresses, so they work from a disk and without a network,
as long as the folder stays in its place; without scripts all is there to read. The same results give the same bytes.
"""

from __future__ import annotations

import re
import shutil
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from ghostlib.evidence.quantities import number
from ghostlib.files import write_atomic
from ghostlib.paper.exhibits import label
from ghostlib.site import chapters, charts, markup, notebooks, pages, pictures
from ghostlib.site.chapters import Article
from ghostlib.site.pages import Page
from ghostlib.site.results import Results


def build(profile_folder: Path) -> Path:
    """Writes the site of results/<profile> anew.

    Args:
        profile_folder: results/<profile>, with whatever of it is there. The page tells what is not.

    Returns:
        The site's index.html.

    Raises:
        FileNotFoundError: the profile has no results at all.
        ValueError: one of its files is torn; the site is as it was.
    """
    results = Results(Path(profile_folder))
    final, site = results.folder / "site", results.folder / ".site.tmp"
    shutil.rmtree(site, ignore_errors=True)
    try:
        _write(results, site)
        shutil.rmtree(final, ignore_errors=True)
        site.rename(final)
    finally:
        shutil.rmtree(site, ignore_errors=True)
    return final / "index.html"


def _write(results: Results, site: Path) -> None:
    for name in ("style.css", "site.js", "charts.js"):
        write_atomic(site / name, resources.files(__package__).joinpath(name).read_bytes())
    order, shown = pages.in_order(results), pictures.find(results)
    drawn = {name: chart for name in chapters.articles()
             if (chart := charts.figure(name, results.folder, results.report.get("machine", {}).get("cpu", "")))}
    if drawn:
        write_atomic(site / "vega.js", charts.library())
    environment = _environment(results, order)

    def write(page: Page, template: str, **values: Any) -> None:
        at = order.index(page)
        html = environment.get_template(template).render(
            page=page, root="../" * page.address.count("/"), before=order[at - 1] if at else None,
            after=order[at + 1] if at + 1 < len(order) else None, **values)
        write_atomic(site / page.address, html)

    for page in order[1:]:
        source = results.folder / page.source
        try:
            body = markup.report(source, page.title) if source.suffix == ".md" else notebooks.body(
                source, page.title, shown, site / "notebooks")
        except ValueError as error:
            raise ValueError(f"{source} cannot be shown ({error}); take it from git, or run `dvc repro`, whose stage "
                             "writes it again") from error
        write(page, "page.html.j2", body=body, sections=markup.sections(body))
    write(order[0], "index.html.j2", chapters=chapters.in_order(), report=results.report, pictures=shown, charts=drawn,
          files={kind: results.files(kind) for kind in ("tables", "figures", "runs", "notebooks")})


def _environment(results: Results, order: list[Page]) -> jinja2.Environment:
    """Templates, and what they ask of the results."""
    def table(name: str) -> markup.Table | None:
        path = results.folder / "tables" / f"{name}.json"
        return markup.table(path) if path.exists() else None

    def data(article: Article) -> list[str]:
        """The addresses of the CSV files behind an exhibit."""
        stems = [f"tables/{name}" for name in article.tables or (article.drawn_from,)]
        stems += [f"runs/{name}" for name in (article.name, *article.notebooks)]
        return [f"../{stem}.csv" for stem in dict.fromkeys(stems) if (results.folder / f"{stem}.csv").exists()]

    environment = jinja2.Environment(loader=jinja2.PackageLoader(__package__), autoescape=True, trim_blocks=True,
                                     lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.globals |= {
        "results": results, "profile": results.folder.resolve().name, "profiles": pages.profiles(results),
        "pages": order, "notebook_pages": {page.source[len("notebooks/"):-len(".ipynb")]: page for page in order
                                           if page.source.endswith(".ipynb")},
        "paper_address": pages.PAPER, "authors_address": pages.AUTHORS,
        "table": table, "data": data}
    environment.filters |= {"label": label, "quantity": _quantity, "code": _code}
    return environment


def _quantity(value: float | None, unit: str | None) -> str:
    """A number of a claim, as the report has it."""
    return "—" if value is None else number(value, unit or "")


def _code(text: str) -> Markup:
    """Text with `code` in it."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))
