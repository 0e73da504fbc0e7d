"""Tables and Markdown as pieces of HTML that fit a page of the site: no scripts, no styles of their own."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from itertools import count, groupby
from pathlib import Path
from typing import NamedTuple

from bs4 import BeautifulSoup, Tag
from markupsafe import Markup, escape

from ghostlib.files import read_json
from ghostlib.site.pictures import PHOTOGRAPHS

_HEADINGS = ["h1", "h2", "h3", "h4", "h5", "h6"]
_SENTENCE = 80  # letters of a cell that is to be read and needs room
_KEY = r"(?![0-9a-f]{8}$)"  # of a run, shortened: neither "00751eee" nor "12345678" is a number
_NUMBER = re.compile(_KEY + r"[+−-]?\d[\d.,e-]*( ?%| ±.*| \(.*\))?\*?|—|NaN")


def report(path: Path, title: str) -> Markup:
    """results/<profile>/report.md; its page is in site/."""
    from nbconvert.filters import markdown2html

    html = markdown2html(path.read_text(encoding="utf-8"))
    return tidy(html, title, lambda link: moved(link, "", "site"))


class Table(NamedTuple):
    """A table of the results: what it is called, as HTML, and what is noted to it."""

    title: str
    body: Markup
    notes: list[str]


def table(path: Path) -> Table:
    """A table as `tables.write_document` writes it into a JSON file."""
    content = read_json(path)
    groups = groupby(content["columns"], lambda levels: levels[0])
    upper = [(above, [below for _, below in group]) for above, group in groups]
    header = [[("", 1), *((above, len(below)) for above, below in upper)]]
    if any(lower for _, below in upper for lower in below):
        header.append([("", 1), *((lower, 1) for _, below in upper for lower in below)])
    rows = [[f"<th>{escape(label)}</th>", *(f"<td>{escape(cell)}</td>" for cell in cells)]
            for label, cells in zip(content["index"], content["rows"], strict=True)]
    html = f"<table><thead>{''.join(map(_header, header))}</thead><tbody>{''.join(map(_row, rows))}</tbody></table>"
    return Table(content["title"].rstrip("."), tidy(html, content["title"]), content["notes"])


def tidy(html: str, title: str, move: Callable[[str], str] = str) -> Markup:
    """Makes foreign HTML fit a page whose only h1 is `title`.

    Headings go one level down, skip none and can be linked to, tables get the roles of their cells and a box to scroll
    in, pictures a link to themselves, and styles go.

    Args:
        html: of a notebook or of a Markdown file.
        title: of the page.
        move: a relative address there -> the same on the page.
    """
    soup = BeautifulSoup(html, "html.parser")
    for element in soup.select("style, script, a.anchor-link"):
        element.decompose()
    above, heading = [], title  # the levels, there, of the headings that hold the next one
    used = {"main", ""}  # the page's own
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
            element["id"] = _unused(re.sub(r"\W+", "-", heading.casefold()).strip("-"), used)
    for element in soup.select("a[href], img[src], source[srcset]"):
        attribute = {"a": "href", "img": "src", "source": "srcset"}[element.name]
        element[attribute] = move(element[attribute])
    for image in soup.find_all("img"):
        image["loading"] = "lazy"
        image["class"] = "photograph" if Path(image["src"]).stem in PHOTOGRAPHS else "chart"
        if image.find_parent("a") is None:
            (image.find_parent("picture") or image).wrap(soup.new_tag("a", href=image["src"]))
    return Markup(str(soup).strip())


def sections(body: Markup) -> list[tuple[str, str]]:
    """The address and the text of each heading of the second level, of what `tidy` gives."""
    return [(heading["id"], heading.get_text()) for heading in BeautifulSoup(body, "html.parser").find_all("h2")]


def moved(link: str, folder: str, page_folder: str) -> str:
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
            elif len(text) > _SENTENCE:
                cell["class"] = "prose"
        elif cell.find_parent("thead"):
            cell["scope"] = "colgroup" if cell.has_attr("colspan") else "col"
        else:
            cell["scope"] = "row"
    for header, cell in zip(table.select("thead tr:last-of-type > *"), table.select("tbody tr:first-of-type > *"),
                            strict=False):
        if "number" in cell.get("class", ""):
            header["class"] = "number"
    table.wrap(soup.new_tag("div", attrs={"class": "box", "tabindex": "0", "role": "region", "aria-label": heading}))


def _unused(name: str, used: set[str]) -> str:
    """The name, or with the first number that makes it new; it is used from now on."""
    free = name if name not in used else next(f"{name}-{i}" for i in count(2) if f"{name}-{i}" not in used)
    used.add(free)
    return free


def _plain(text: str) -> str:
    return text.strip().rstrip(".").casefold()
