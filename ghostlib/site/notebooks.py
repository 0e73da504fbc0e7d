"""An executed notebook as a piece of a page: its text and outputs, with the code folded above each output."""

from __future__ import annotations

import base64
import functools
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import PIL.Image
from bs4 import BeautifulSoup
from markupsafe import Markup

from ghostlib.files import write_atomic
from ghostlib.site import markup
from ghostlib.site.pictures import Picture

if TYPE_CHECKING:
    from nbconvert import HTMLExporter
    from nbformat import NotebookNode


def body(path: Path, title: str, pictures: Mapping[str, Picture], image_folder: Path) -> Markup:
    """The notebook without prompts and without its title.

    A picture whose output names a figure of the profile, as `figures.show` has it, is taken from there; the others are
    written to `image_folder`. What a picture shows is said by the notebook, or else by the figure, or else by the
    heading above it.

    Args:
        path: results/<profile>/notebooks/<name>.ipynb; its page is two folders further down, in site/notebooks/.
        title: the heading of its page. A heading of the notebook that says the same is left out.
        pictures: the profile's figures by name.
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
            said = output.metadata.get("image/png", {}).get("alt")
            if picture := pictures.get(output.metadata.get("figure")):
                source, description = f"../{picture.address}", said or picture.finding
            else:
                name, description = f"{path.stem}-{number}-{index}.png", said or f"{heading}. {title}"
                write_atomic(image_folder / name, _smaller(base64.b64decode(output.data["image/png"])))
                source = f"../site/notebooks/{name}"
            output.metadata |= {"filenames": {"image/png": source}, "image/png": {"alt": description}}
    document.cells = _with_code_together(document.cells)
    html, _ = _exporter().from_notebook_node(document)
    return markup.tidy(_with_narrow(_folded(html), pictures), title,
                       lambda link: markup.moved(link, "notebooks", "site/notebooks"))


def _with_code_together(cells: list[NotebookNode]) -> list[NotebookNode]:
    """Code that shows nothing goes to the code below it, so that what is folded is one piece."""
    together: list[NotebookNode] = []
    for cell in cells:
        above = together[-1] if together else None
        if cell.cell_type == "code" and above and above.cell_type == "code" and not above.outputs:
            cell.source = f"{above.source.rstrip()}\n\n{cell.source}"
            together.pop()
        together.append(cell)
    return together


def _folded(html: str) -> str:
    soup = BeautifulSoup(html, "html.parser")
    for code in soup.select("div.input"):
        fold, summary = soup.new_tag("details", attrs={"class": "code"}), soup.new_tag("summary")
        summary.string = "Code"
        code.wrap(fold).insert(0, summary)
    return str(soup)


def _with_narrow(html: str, pictures: Mapping[str, Picture]) -> str:
    """Beside each picture its form for phones, where it has one."""
    soup = BeautifulSoup(html, "html.parser")
    for image in soup.find_all("img"):
        if (picture := pictures.get(Path(image["src"]).stem)) and picture.narrow:
            address, width, height = picture.narrow
            image.wrap(soup.new_tag("picture")).insert(0, soup.new_tag("source", attrs={
                "media": "(max-width: 40rem)", "srcset": f"../{address}", "width": width, "height": height}))
    return str(soup)


def _smaller(png: bytes) -> bytes:
    """The same picture in 256 colours, which are enough for a chart and take a third of the room."""
    stream = io.BytesIO()
    with PIL.Image.open(io.BytesIO(png)) as image:
        white = PIL.Image.new("RGB", image.size, "white")
        shown = image.convert("RGBA")
        white.paste(shown, mask=shown)
        white.quantize(256).save(stream, "png", optimize=True)
    return min(stream.getvalue(), png, key=len)


@functools.cache
def _exporter() -> HTMLExporter:
    from nbconvert import HTMLExporter

    return HTMLExporter(template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True)
