"""Notebooks and Markdown as pieces of HTML that fit a page of the site: no scripts, no styles of their own."""

from __future__ import annotations

import base64
import functools
import posixpath
import re
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from bs4 import BeautifulSoup, Tag
from markupsafe import Markup

if TYPE_CHECKING:
    from nbconvert import HTMLExporter

_HEADINGS = ["h1", "h2", "h3", "h4", "h5", "h6"]
_NUMBER = re.compile(r"[+−-]?\d[\d.,e-]*( ?%| ±.*| \(.*\))?\*?|—|NaN")


def notebook(path: Path, title: str, figures: dict[str, str], image_folder: Path) -> Markup:
    """An executed notebook: its text, code and outputs, without prompts.

    A picture that a cell writes with `figures.write` is taken from the profile's figures; the others are written to
    `image_folder`.

    Args:
        path: results/<profile>/notebooks/<name>.ipynb; its page is two folders further down, in site/notebooks/.
        title: the heading of its page. A heading of the notebook that says the same is left out.
        figures: the name of each of the profile's figures -> what it shows.
        image_folder: results/<profile>/site/notebooks.
    """
    import nbformat

    document = nbformat.read(path, as_version=4)
    heading = ""
    for number, cell in enumerate(document.cells):
        if cell.cell_type == "markdown":
            heading = next(iter(re.findall(r"^#+ (.+)$", cell.source, re.MULTILINE)), heading)
        for index, output in enumerate(cell.get("outputs", [])):
            if "image/png" not in output.get("data", {}):
                continue
            source, description = _written_figure(cell.source, path.stem, figures)
            if not source:
                name, description = f"{path.stem}-{number}-{index}.png", f"{heading}. {title}"
                (image_folder / name).write_bytes(base64.b64decode(output.data["image/png"]))
                source = f"../site/notebooks/{name}"
            output.metadata |= {"filenames": {"image/png": source}, "image/png": {"alt": description}}
    html, _ = _exporter().from_notebook_node(document)
    return tidy(html, title, lambda link: _moved(link, "notebooks", "site/notebooks"))


def report(path: Path, title: str) -> Markup:
    """results/<profile>/report.md; its page is in site/."""
    return tidy(_markdown(path), title, lambda link: _moved(link, "", "site"))


def table(path: Path, title: str) -> tuple[Markup, Markup]:
    """A document as `tables.write_document` writes it: its table, and the list of its notes (empty if it has none).

    Args:
        path: of the Markdown file.
        title: the heading above it. The document's own is left out if it says the same.
    """
    soup = BeautifulSoup(_markdown(path), "html.parser")
    caption = soup.strong.get_text() if soup.strong else title
    for element in soup.find_all("table"):
        _two_levels(element)
    notes = soup.ul.extract() if soup.ul else ""
    shown = [] if _plain(caption) == _plain(title) else [_new("p", caption)]
    return tidy("".join(map(str, [*shown, *soup.find_all("table")])), caption), Markup(str(notes))


def tidy(html: str, title: str, move: Callable[[str], str] = str) -> Markup:
    """Makes foreign HTML fit a page whose only h1 is `title`.

    Headings go one level down and skip none, tables get the roles of their cells and a box to scroll in, pictures a
    link to themselves, and styles go.

    Args:
        html: of a notebook or of a Markdown file.
        title: of the page.
        move: a relative address there -> the same on the page.
    """
    soup = BeautifulSoup(html, "html.parser")
    for element in soup.select("style, script, a.anchor-link"):
        element.decompose()
    above, heading = [], title  # the levels, there, of the headings that hold the next one
    for element in soup.find_all([*_HEADINGS, "table", "pre"]):
        if element.name == "pre":
            element["tabindex"] = "0"  # what scrolls must be reachable with the keyboard
        elif element.name == "table":
            _box(soup, element, heading)
        elif _plain(element.get_text()) == _plain(title):
            element.decompose()
        else:
            level, heading = element.name, element.get_text()
            above = [*(other for other in above if other < level), level]
            element.name = f"h{min(len(above) + 1, 6)}"
    for element in soup.select("a[href], img[src]"):
        attribute = "href" if element.name == "a" else "src"
        element[attribute] = move(element[attribute])
    for image in soup.find_all("img"):
        image["loading"] = "lazy"
        if image.find_parent("a") is None:
            image.wrap(soup.new_tag("a", href=image["src"]))
    return Markup(str(soup).strip())


@functools.cache
def _exporter() -> HTMLExporter:
    from nbconvert import HTMLExporter

    return HTMLExporter(template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True)


def _markdown(path: Path) -> str:
    from nbconvert.filters import markdown2html

    return markdown2html(path.read_text(encoding="utf-8"))


def _written_figure(source: str, stem: str, figures: dict[str, str]) -> tuple[str, str]:
    """The address, seen from the notebook, and the description of the figure that a cell writes, if it is there."""
    call = re.search(r"figures\.write\([^\n]*, (?:\"(\w+)\"|experiment)\)", source)
    name = call and (call[1] or stem)
    return (f"../figures/{name}.png", figures[name]) if name in figures else ("", "")


def _moved(link: str, folder: str, page_folder: str) -> str:
    """A relative address in a file of `folder` as a page in `page_folder` needs it; a notebook is its page."""
    if re.match(r"[a-z]+:|#|/", link):
        return link
    address = posixpath.normpath(posixpath.join(folder, link))
    if page := re.fullmatch(r"notebooks/(\w+)\.ipynb", address):
        address = f"site/notebooks/{page[1]}.html"
    return posixpath.relpath(address, page_folder)


def _two_levels(table: Tag) -> None:
    """Headers `1.0×: paper`, `1.0×: ours` become `1.0×` above `paper` and `ours`."""
    texts = [cell.get_text().partition(": ") for cell in table.thead.find_all("th")]
    upper, lower = Tag(name="tr"), Tag(name="tr")
    for above, group in groupby(texts, key=lambda parts: parts[0]):
        below = [parts[2] for parts in group]
        upper.append(_new("th", above))
        if len(below) > 1:
            upper.contents[-1]["colspan"] = str(len(below))
        for text in below:
            lower.append(_new("th", text))
    table.thead.tr.replace_with(upper)
    if any(parts[2] for parts in texts):
        upper.insert_after(lower)
    for row in table.tbody.find_all("tr"):
        row.td.name = "th"


def _box(soup: BeautifulSoup, table: Tag, heading: str) -> None:
    """Says which cells are headers, and of what; leaves the looks to the site; and lets a wide table scroll."""
    for element in [table, *table.find_all(True)]:
        element.attrs = {key: value for key, value in element.attrs.items() if key in ("colspan", "rowspan")}
    for row in table.select("thead tr:not(:first-child)"):
        if not any(cell.get_text().strip() for cell in row.find_all("th")[1:]):
            row.decompose()  # pandas gives the name of an index a row of its own
    for cell in table.find_all(["th", "td"]):
        text = cell.get_text().strip()
        if cell.name == "td" or not text:
            cell.name = "td"  # an empty header is none
            if _NUMBER.fullmatch(text):
                cell["class"] = "number"
        elif cell.find_parent("thead"):
            cell["scope"] = "colgroup" if cell.has_attr("colspan") else "col"
        else:
            cell["scope"] = "row"
    for header, cell in zip(table.select("thead tr:last-of-type > *"), table.select("tbody tr:first-of-type > *"),
                            strict=False):
        if "number" in cell.get("class", ""):
            header["class"] = "number"
    table.wrap(soup.new_tag("div", attrs={"class": "box", "tabindex": "0", "role": "region", "aria-label": heading}))


def _new(name: str, text: str) -> Tag:
    element = Tag(name=name)
    element.string = text
    return element


def _plain(text: str) -> str:
    return text.strip().rstrip(".").casefold()
