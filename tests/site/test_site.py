"""The gallery: its pages hold together, tell what is there and what is not, and need nothing but themselves."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import nbformat
import pandas as pd
import PIL.Image
import pytest

from ghostlib.evidence.report import Report
from ghostlib.exhibits import tables
from ghostlib.paper import claims, exhibits
from ghostlib.site import build, chapters
from ghostlib.training.profile import load_params, load_profile
from tests.site import browser

IN_THE_PAPER_S_ORDER = ["figure_1", "figure_2", "table_1", "table_2", "table_3", "table_4", "table_5", "table_6",
                        "table_7", "figure_3", "figure_4", "table_8", "table_9", "figure_5", "table_10"]
TITLE = "Table 1: GhostNetV2 at three widths, trained with and without re-parameterization."
CLAIMS = [("reparam-helps", "accuracy", "table_1", "confirmed", 1.5, "points"),
          ("three-branches-peak", "accuracy", "table_2", "inconclusive", -0.5, "points"),
          ("three-branches-suffice", "accuracy", "table_4", "bounded", 0.1, "points"),
          ("v3-counts", "sizes and operations", "table_9", "exact", 6.15, "M"),
          ("detection-counts", "sizes and operations", "table_10", "contradicted", 400.0, "M"),
          ("latency-mobile", "CPU time", "table_9", "not attempted", None, "")]
BADGE = {"exact": "=", "confirmed": "✓", "bounded": "±", "contradicted": "✗", "inconclusive": "?",
         "not attempted": "–"}


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
                 but="at a price" if verdict == "confirmed" else "", reason="Because of `that`.", caveat="")
            for name, subject, exhibit, verdict, ours, unit in claimed]
    return {"profile": "tiny", "scale": "48 digits, seven seeds", "teachers": "The teachers are stand-ins.",
            "on_imagenet": False, "seeds": {"values": [0], "fewest": 7, "most": 7},
            "detectable": {"least": 0.8, "median": 0.8, "most": 0.8}, "rule": claims.load()[0].model_dump(),
            "verdicts": counts, "claims": told, "errata": [{"place": "§1", "sentence": "It says `a` and b."}],
            "trainings": 2, "sessions": {"2026-01-02-a": "Some CPU", "2026-01-02-b": "Another CPU"},
            "machine": {"cpu": "Some CPU", "cpus": "2", "system": "Linux", "engines": "An Engine 1.0",
                                        "date": "2026-01-02"}}


def change_report(folder: Path, **changes) -> None:
    path = folder / "report.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


@pytest.fixture
def folder(tmp_path) -> Path:
    """A profile where Table 1 and Figure 1 were run, with a notebook that no exhibit names and a report."""
    folder = tmp_path / "results" / "tiny"
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
    pd.DataFrame([("1.0×", "a")], columns=["column", "run"]).to_csv(folder / "runs" / "table_1.csv", index=False)
    (folder / "report.json").write_text(json.dumps(report_of(CLAIMS)), encoding="utf-8")
    pd.DataFrame(CLAIMS).to_csv(folder / "tables" / "claims.csv")
    (folder / "report.md").write_text("# Report\n\n## Words\n\n![A chart](figures/table_1.png)\n\n"
                                      "[Its notebook](notebooks/table_1.ipynb)\n", encoding="utf-8")
    return folder


class Page(HTMLParser):
    """What a test asks of a page."""

    def __init__(self, path: Path):
        super().__init__()
        self.path, self.ids, self.links, self.loads, self.images, self.headings = path, [], [], [], [], []
        self.articles, self.text, self.language, self._within = {"": ""}, "", "", ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
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
        self._within = "" if tag == "article" else self._within

    def handle_data(self, data: str) -> None:
        self.text += data
        self.articles[self._within] += data


@pytest.fixture
def pages(folder) -> dict[str, Page]:
    """By the address in the site."""
    root = build.build(folder).parent
    return {path.relative_to(root).as_posix(): Page(path) for path in sorted(root.rglob("*.html"))}


def test_every_notebook_and_the_report_have_a_page(pages):
    assert set(pages) == {"index.html", "report.html", "notebooks/table_1.html", "notebooks/comparison.html",
                          "notebooks/extra.html"}


def test_every_address_is_there(pages, folder):
    for page in pages.values():
        for address in [*page.links, *page.loads]:
            if address.startswith(("https://", "data:")):
                continue
            file, fragment = urldefrag(address)
            target = (page.path.parent / unquote(file)).resolve() if file else page.path
            assert target.is_file() and target.is_relative_to(folder.resolve()), f"{page.path.name}: {address}"
            assert not fragment or fragment in Page(target).ids, f"{page.path.name}: {address}"


def test_nothing_is_loaded_from_elsewhere(pages, folder):
    for page in pages.values():
        assert not [address for address in page.loads if re.match(r"(https?:)?//", address)]
        assert "<script" not in page.path.read_text(encoding="utf-8")
    assert not re.search(r"url\(|@import", (folder / "site" / "style.css").read_text(encoding="utf-8"))


def test_pages_say_their_language_and_title_and_their_headings_are_in_order(pages):
    for page in pages.values():
        assert page.language == "en" and "· tiny" in page.text
        assert page.headings[0] == 1 and page.headings.count(1) == 1
        assert all(after <= before + 1 for before, after in zip(page.headings, page.headings[1:], strict=False))
        assert len(page.ids) == len(set(page.ids))


def test_every_picture_says_what_it_shows(pages):
    assert dict(pages["index.html"].images) == {
        "../figures/figure_1.png": "Figure 1: Top-1 accuracy and CPU latency of compact networks",
        "../figures/table_1.png": f"Chart of {TITLE[:-1]}"}
    curves, figure = pages["notebooks/table_1.html"].images
    assert curves == ("table_1-5-0.png", f"How they learned. {TITLE[:-1]}")
    assert figure == ("../../figures/table_1.png", f"Chart of {TITLE[:-1]}")
    assert pages["report.html"].images == [("../figures/table_1.png", "A chart")]


def test_only_pictures_that_are_nowhere_else_are_copied(folder):
    build.build(folder)
    assert [path.name for path in folder.glob("site/**/*.png")] == ["table_1-5-0.png"]


def test_a_notebook_s_own_links_lead_to_the_same_files(pages):
    assert {"../../tables/table_1.csv", "comparison.html"} <= set(pages["notebooks/table_1.html"].links)
    assert "notebooks/table_1.html" in pages["report.html"].links


def test_exhibits_are_in_the_order_of_the_paper_s_sections(pages):
    assert [name for name in pages["index.html"].ids if name in IN_THE_PAPER_S_ORDER] == IN_THE_PAPER_S_ORDER
    sections = {article.name: chapter.number for chapter in chapters.in_order() for article in chapter.articles}
    assert sections == {name: exhibit.section for name, exhibit in exhibits.load().items()}


@pytest.mark.parametrize("name, title", [
    ("table_1", TITLE[:-1]), ("comparison", "Table 9: Compact networks compared by size"), ("latency", "CPU latency"),
    ("detection", "Table 10: "), ("architecture", "Figure 2: "), ("report", "What became of the paper's claims")])
def test_a_notebook_has_the_title_of_what_it_shows(name, title):
    assert chapters.notebook_title(name).startswith(title)


@pytest.mark.parametrize("exhibit, badges", [
    ("table_1", ["confirmed"]), ("table_2", ["inconclusive"]), ("table_3", []), ("table_10", ["contradicted"]),
    ("table_4", ["bounded"]),
    ("table_9", ["exact", "not attempted"])])
def test_an_exhibit_has_the_verdicts_of_the_claims_tested_there(pages, exhibit, badges):
    text = pages["index.html"].articles[exhibit]
    assert [verdict for verdict in BADGE if f"{BADGE[verdict]} {verdict}" in text] == badges


def test_the_summary_tells_counts_scale_seeds_and_machine(pages):
    text = " ".join(pages["index.html"].articles[""].split())
    assert all(f"1 {sign} {verdict}" in text for verdict, sign in BADGE.items())
    assert "48 digits, seven seeds. The teachers are stand-ins. 2 trainings behind the tables" in text
    assert "7 paired seeds" in text
    assert "80 % power are 0.8 points" in text and "Some CPU, 2 CPUs, Linux, with An Engine 1.0" in text
    assert "Times are of 2 sessions on Some CPU, Another CPU." in text


def test_the_bounded_claims_stand_under_their_margin(pages):
    text = " ".join(pages["index.html"].articles[""].split())
    assert "What makes less than 0.5 points of difference here ± bounded It says three-branches-suffice." in text


def test_a_verdict_by_few_seeds_has_their_number_wherever_it_is_shown(pages, folder):
    assert "seeds)" not in pages["index.html"].text
    told = report_of(CLAIMS)["claims"]
    change_report(folder, claims=[claim | {"seeds": 3 if claim["seeds"] else 0} for claim in told])
    text = " ".join(Page(build.build(folder)).text.split())
    assert text.count("✓ confirmed (3 seeds)") == 3 and "inconclusive (" not in text and "bounded (" not in text


def test_a_claim_has_its_numbers_in_its_unit(pages):
    text = " ".join(pages["index.html"].text.split())
    assert "+1.50 +1.50 points +1.50 to +1.50 7 Because of that." in text
    assert "6.15 6.15 M" in text and "−0.50 points" in text


def test_a_claim_that_holds_with_a_but_says_so_wherever_it_is_listed(pages):
    texts = [" ".join(text.split()) for text in pages["index.html"].articles.values()]
    assert sum(text.count("✓ confirmed It says reparam-helps. But at a price.") for text in texts) == 2


def test_a_claim_of_ours_says_so_wherever_it_is_listed(pages, folder):
    assert "(ours)" not in pages["index.html"].text
    first, *others = report_of(CLAIMS)["claims"]
    change_report(folder, claims=[first | {"claimed_by": "us"}, *others])
    text = " ".join(Page(build.build(folder)).text.split())
    assert text.count(f"{first['statement']} (ours)") >= 1 and "Somewhere (ours)" in text
    assert "1 of them ours and not the paper's" in text


def test_there_is_a_column_of_p_only_where_some_claim_has_one(pages, folder):
    assert "p (Holm)" not in pages["index.html"].text
    told = report_of(CLAIMS)["claims"]
    change_report(folder, claims=[told[0] | {"p": 0.0123}, *told[1:]])
    text = " ".join(Page(build.build(folder)).text.split())
    assert "p (Holm)" in text and "+1.50 to +1.50 7 0.012 Because" in text and "−0.50 to −0.50 7 — Because" in text


def test_a_table_is_shown_under_two_headers_with_its_notes(folder):
    build.build(folder)
    html = (folder / "site" / "index.html").read_text(encoding="utf-8")
    assert '<th colspan="2" scope="colgroup">0.0×</th>' in html
    assert '<th scope="row">w/ ReP</th><td class="number">76.1</td>' in html.replace("\n", "")
    assert "On the paper: a &lt;b&gt; &amp; a <code>note</code>." in html


def test_a_table_that_an_older_version_wrote_is_linked_and_not_read(folder):
    (folder / "tables" / "table_1.json").unlink()
    text = Page(build.build(folder)).articles["table_1"]
    assert "Table 1: tables/table_1.md" in " ".join(text.split()) and "76.1" not in text
    (folder / "tables" / "table_1.md").unlink()
    assert "Table 1: not run at this scale." in Page(build.build(folder)).articles["table_1"]


def test_no_words_of_a_table_a_cell_or_a_claim_s_place_are_read(folder):
    path = folder / "notebooks" / "comparison.ipynb"
    source = json.loads(path.read_text(encoding="utf-8"))
    source["cells"][1]["source"] = 'figures.write(figure, folder, "table_1")'
    path.write_text(json.dumps(source), encoding="utf-8")
    for document in (folder / "tables").glob("*.md"):
        document.write_text("- Measured at: the moon.\n", encoding="utf-8")
    change_report(folder, claims=[claim | {"place": "Table 7"} for claim in report_of(CLAIMS)["claims"]])
    page = Page(build.build(folder))
    assert "the moon" not in page.text and "It says" not in page.articles["table_7"]
    assert "It says v3-counts." in page.articles["table_9"]
    images = Page(folder / "site" / "notebooks" / "comparison.html").images
    assert [address for address, _ in images] == ["../../figures/figure_1.png"]


def test_what_was_not_run_is_told(pages, folder):
    articles = pages["index.html"].articles
    for name in set(IN_THE_PAPER_S_ORDER) - {"table_1", "figure_1", "figure_5"}:
        label = name.replace("_", " ").capitalize()
        assert f"{label}: not run at this scale." in articles[name]
    assert "not run" not in articles["table_1"] + articles["figure_1"]
    change_report(folder, machine={}, sessions={}, detectable={}, seeds={"values": [0], "fewest": 0, "most": 0})
    assert "Latencies: not run at this scale." in Page(build.build(folder)).text
    for path in (folder / "report.json", folder / "report.md"):
        path.unlink()
    text = Page(build.build(folder)).text
    assert "Claims and verdicts: not run at this scale." in text and "Latencies: not run at this scale." in text
    assert not (folder / "site" / "report.html").exists()


def test_one_seed_is_called_no_evidence(folder):
    change_report(folder, seeds={"values": [0], "fewest": 1, "most": 1}, detectable={})
    assert "Accuracies: one seed." in Page(build.build(folder)).text


def test_the_same_results_give_the_same_bytes_and_no_page_outlives_its_notebook(folder):
    def content() -> dict[str, bytes]:
        return {path.relative_to(folder).as_posix(): path.read_bytes()
                for path in (folder / "site").rglob("*") if path.is_file()}

    build.build(folder)
    first = content()
    build.build(folder)
    assert content() == first
    (folder / "notebooks" / "extra.ipynb").unlink()
    build.build(folder)
    assert set(first) - set(content()) == {"site/notebooks/extra.html"}


def test_a_profile_without_results_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="make repro PROFILE=nothing"):
        build.build(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


RESULTS = [runs.parent for runs in (Path(__file__).parents[2] / "results").glob("*/runs")]


@pytest.mark.parametrize("results", RESULTS, ids=lambda results: results.name)
def test_the_committed_results_have_pages_with_what_the_report_says(results, tmp_path):
    copy = tmp_path / results.name
    shutil.copytree(results, copy, ignore=shutil.ignore_patterns("site", "*.svg", "*.safetensors"))
    Report.gather(copy, load_profile(results.name, load_params())).write()
    page = Page(build.build(copy))
    assert len([name for name in page.ids if name.startswith("claim-")]) == len(claims.load()[1])
    assert "p (Holm)" not in page.text  # fewer than six seeds


@pytest.mark.skipif(browser.EXECUTABLE is None, reason="neither chromium nor google-chrome is on the PATH")
def test_pages_load_without_errors_and_fit_a_phone_and_a_desk_in_light_and_dark(pages, tmp_path):
    fits = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    shown = ("Promise.all([...document.images].map(image => { image.loading = 'eager'; return image.decode() }))"
             ".then(() => true, () => false)")
    scrolls = "[...document.querySelectorAll('.box')].some(box => box.scrollWidth > box.clientWidth)"
    background = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]"
    with browser.browser(tmp_path / "browser") as visit:
        for address, page in pages.items():
            for width in (360, 1280):
                for scheme in ("light", "dark"):
                    where = f"{address}, {width} px, {scheme}"
                    seen = visit(page.path, width, scheme, fits, shown, scrolls, background)
                    fit, all_shown, scrolled, brightness = seen.values
                    assert not seen.errors, f"{where}: {seen.errors}"
                    assert all(url.startswith(("file:", "data:")) for url in seen.requests), f"{where}: {seen.requests}"
                    assert fit and all_shown, where
                    assert scrolled or address not in ("index.html", "notebooks/table_1.html"), where
                    assert (brightness > 128) == (scheme == "light"), where
