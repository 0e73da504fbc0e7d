"""Notebooks and Markdown as pieces of HTML that fit a page of the site: no scripts, no styles of their own."""

from __future__ import annotations

import base64
import functools
import json
import posixpath
import re
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from bs4 import BeautifulSoup, Tag
from markupsafe import Markup, escape

from ghostlib.files import write_atomic

if TYPE_CHECKING:
    from nbconvert import HTMLExporter

_HEADINGS = ["h1", "h2", "h3", "h4", "h5", "h6"]
_NUMBER = re.compile(r"[+−-]?\d[\d.,e-]*( ?%| ±.*| \(.*\))?\*?|—|NaN")


def notebook(path: Path, title: str, figures: dict[str, str], image_folder: Path) -> Markup:
    """An executed notebook: its text, code and outputs, without prompts.

    A picture whose output names a figure of the profile, as `figures.show` has it, is taken from there; the others are
    written to `image_folder`.

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
            name = output.metadata.get("figure")
            if name in figures:
                source, description = f"../figures/{name}.png", figures[name]
            else:
                name, description = f"{path.stem}-{number}-{index}.png", f"{heading}. {title}"
                write_atomic(image_folder / name, base64.b64decode(output.data["image/png"]))
                source = f"../site/notebooks/{name}"
            output.metadata |= {"filenames": {"image/png": source}, "image/png": {"alt": description}}
    html, _ = _exporter().from_notebook_node(document)
    return tidy(html, title, lambda link: _moved(link, "notebooks", "site/notebooks"))


def report(path: Path, title: str) -> Markup:
    """results/<profile>/report.md; its page is in site/."""
    from nbconvert.filters import markdown2html

    html = markdown2html(path.read_text(encoding="utf-8"))
    return tidy(html, title, lambda link: _moved(link, "", "site"))


def table(path: Path, title: str) -> tuple[Markup, list[str]]:
    """A table as `tables.write_document` writes it, and its notes.

    Args:
        path: of the JSON file.
        title: the heading above it. The table's own is left out if it says the same.
    """
    content = json.loads(path.read_bytes())
    groups = groupby(content["columns"], lambda levels: levels[0])
    upper = [(above, [below for _, below in group]) for above, group in groups]
    header = [[("", 1), *((above, len(below)) for above, below in upper)]]
    if any(lower for _, below in upper for lower in below):
        header.append([("", 1), *((lower, 1) for _, below in upper for lower in below)])
    rows = [[f"<th>{escape(label)}</th>", *(f"<td>{escape(cell)}</td>" for cell in cells)]
            for label, cells in zip(content["index"], content["rows"], strict=True)]
    html = f"<table><thead>{''.join(map(_header, header))}</thead><tbody>{''.join(map(_row, rows))}</tbody></table>"
    caption = "" if _plain(content["title"]) == _plain(title) else f"<p>{escape(content['title'])}</p>"
    return tidy(caption + html, content["title"]), content["notes"]


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


def _moved(link: str, folder: str, page_folder: str) -> str:
    """A relative address in a file of `folder` as a page in `page_folder` needs it; a notebook is its page."""
    if re.match(r"[a-z]+:|#|/", link):
        return link
    address = posixpath.normpath(posixpath.join(folder, link))
    if page := re.fullmatch(r"notebooks/(\w+)\.ipynb", address):
        address = f"site/notebooks/{page[1]}.html"
    return posixpath.relpath(address, page_folder)


def _header(cells: list[tuple[str, int]]) -> str:
    return _row([f'<th colspan="{columns}">{escape(text)}</th>' if columns > 1 else f"<th>{escape(text)}</th>"
                 for text, columns in cells])


def _row(cells: list[str]) -> str:
    return f"<tr>{''.join(cells)}</tr>"


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


def _plain(text: str) -> str:
    return text.strip().rstrip(".").casefold()
