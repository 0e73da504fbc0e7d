"""The gallery: its pages hold together, tell what is there and what is not, and need nothing but themselves."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

from ghostlib.evidence.report import Report
from ghostlib.paper import claims, exhibits
from ghostlib.site import build, chapters, markup
from ghostlib.site.pages import AUTHORS, PAPER
from ghostlib.training.profile import load_params, load_profile
from tests.site.tiny import BADGE, CLAIMS, TITLE, Page, change_report, report_of

IN_THE_PAPER_S_ORDER = ["figure_1", "figure_2", "table_1", "table_2", "table_3", "table_4", "table_5", "table_6",
                        "table_7", "figure_3", "figure_4", "table_8", "table_9", "figure_5", "table_10"]


def test_every_notebook_and_the_report_have_a_page(pages):
    assert set(pages) == {"index.html", "report.html", "notebooks/table_1.html", "notebooks/comparison.html",
                          "notebooks/extra.html"}


def test_every_address_is_there(pages, site):
    for page in pages.values():
        for address in [*page.links, *page.loads]:
            if address.startswith(("https://", "data:")):
                continue
            file, fragment = urldefrag(address)
            target = (page.path.parent / unquote(file)).resolve() if file else page.path
            assert target.is_file() and target.is_relative_to(site.parent.resolve()), f"{page.path.name}: {address}"
            assert not fragment or fragment in Page(target).ids, f"{page.path.name}: {address}"


def test_nothing_is_loaded_from_elsewhere(pages, site):
    for page in pages.values():
        assert not [address for address in page.loads if re.match(r"(https?:)?//", address)]
    for name in ("style.css", "site.js", "charts.js"):
        assert not re.search(r"url\(|@import|https?:", (site / name).read_text(encoding="utf-8"))


def test_pages_say_their_language_and_title_and_their_headings_are_in_order(pages):
    for page in pages.values():
        assert page.language == "en" and "· tiny" in page.text
        assert page.headings[0] == 1 and page.headings.count(1) == 1
        assert all(after <= before + 1 for before, after in zip(page.headings, page.headings[1:], strict=False))
        assert len(page.ids) == len(set(page.ids))


def test_every_picture_says_what_it_shows(pages):
    assert dict(pages["index.html"].images) == {
        "../figures/figure_1.png": "Figure 1: Top-1 accuracy and CPU latency of compact networks. Exact: It says "
                                   "v3-counts. Not attempted: It says latency-mobile.",
        "../figures/table_1.png": f"Chart of {TITLE} Confirmed: It says reparam-helps."}
    curves, figure = pages["notebooks/table_1.html"].images
    assert curves == ("table_1-5-0.png", f"How they learned. {TITLE[:-1]}")
    assert figure == ("../../figures/table_1.png", f"Chart of {TITLE} Confirmed: It says reparam-helps.")
    assert pages["report.html"].images == [("../figures/table_1.png", "A chart")]


def test_a_picture_that_a_notebook_describes_is_described_so(folder):
    path = folder / "notebooks" / "comparison.ipynb"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    notebook["cells"][1]["outputs"][0]["metadata"] |= {"image/png": {"alt": "GhostNetV3 is on top"}}
    path.write_text(json.dumps(notebook), encoding="utf-8")
    build.build(folder)
    images = Page(folder / "site" / "notebooks" / "comparison.html").images
    assert images == [("../../figures/figure_1.png", "GhostNetV3 is on top")]


def test_vectors_are_shown_where_they_take_less_room_than_pixels(folder):
    (folder / "figures" / "table_1.svg").write_text("<svg/>", encoding="utf-8")
    (folder / "figures" / "figure_1.svg").write_text("<svg/>" + " " * 9999, encoding="utf-8")
    images = dict(Page(build.build(folder)).images)
    assert set(images) == {"../figures/table_1.svg", "../figures/figure_1.png"}


def test_a_phone_gets_the_narrow_form_of_a_picture_that_has_one(folder):
    (folder / "figures" / "table_1_narrow.svg").write_text('<svg viewBox="0 0 280.5 600"/>', encoding="utf-8")
    root = build.build(folder).parent
    for address, up in (("index.html", ".."), ("notebooks/table_1.html", "../..")):
        html = (root / address).read_text(encoding="utf-8")
        source, = re.findall(r"<source [^>]*>", html)
        assert dict(re.findall(r'(\w+)="([^"]*)"', source)) == {
            "media": "(max-width: 40rem)", "srcset": f"{up}/figures/table_1_narrow.svg",
            "width": "374", "height": "800"}
        assert re.search(r'<a [^>]*href="[./]*figures/table_1.png"[^>]*><picture>', html)


def test_pages_lead_to_the_one_before_and_after_and_to_other_profiles(folder):
    other = folder.parent / "other"
    shutil.copytree(folder, other)
    build.build(other)
    root = build.build(folder).parent
    order = ["index.html", "report.html", "notebooks/table_1.html", "notebooks/comparison.html", "notebooks/extra.html"]
    for i, address in enumerate(order):
        html = (root / address).read_text(encoding="utf-8")
        turned = {word: re.search(rf'rel="{word}" href="([^"]*)"', html) for word in ("prev", "next")}
        up = "../" * address.count("/")
        assert (turned["prev"] and turned["prev"][1]) == (up + order[i - 1] if i else None)
        assert (turned["next"] and turned["next"][1]) == (up + order[i + 1] if i < 4 else None)
        links = Page(root / address).links
        assert f"{up}../../other/site/index.html" in links and PAPER in links and AUTHORS in links


def test_code_is_folded_in_one_piece_above_what_it_shows(pages):
    html = pages["notebooks/table_1.html"].path.read_text(encoding="utf-8")
    folded = re.findall(r"<details.*?</details>", html, re.DOTALL)
    assert "In [" not in html and len(re.findall('class="highlight', html)) == len(folded[1:]) == 4
    assert all(fold.count("<summary>Code</summary>") == 1 for fold in folded[1:])  # the first is the page's contents


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
    assert "What held 2 of 6 claims: 1 about accuracy, 1 about sizes and operations." in text
    assert "What failed 1 of 6 claims: 1 about sizes and operations. It says detection-counts." in text
    assert "1 measured but not decided: 1 about accuracy. 1 not attempted: they need ImageNet" in text
    assert "Accuracies: 48 digits, seven seeds. They are not comparable" in text
    assert "Seven paired seeds decide. CPU times are of two sessions." in text and "80 % power are 0.8 points" in text
    assert "seven seeds; two epochs. The teachers are stand-ins. 2 trainings behind the tables" in text
    assert "Some CPU, 2 CPUs, Linux, with An Engine 1.0" in text


def test_the_bounded_claims_stand_under_their_margin(pages):
    text = " ".join(pages["index.html"].articles[""].split())
    assert ("What is within the margin of 0.5 points 1 of 6 claims: 1 about accuracy. "
            "It says three-branches-suffice.") in text


def test_a_verdict_by_few_seeds_has_their_number_wherever_it_is_shown(pages, folder):
    assert "seeds)" not in pages["index.html"].text
    told = report_of(CLAIMS)["claims"]
    change_report(folder, claims=[claim | {"seeds": 3 if claim["seeds"] else 0} for claim in told])
    text = " ".join(Page(build.build(folder)).text.split())
    assert text.count("✓ confirmed (3 seeds)") == 2 and text.count("confirmed (3 seeds)") == 3
    assert "inconclusive (" not in text and "bounded (" not in text


def test_a_claim_has_its_numbers_in_its_unit(pages):
    text = " ".join(pages["index.html"].text.split())
    assert "+1.50 +1.50 points +1.50 to +1.50 7 Because of that." in text
    assert "6.15 M 6.15 M" in text and "−0.50 points" in text


def test_a_claim_that_holds_with_a_but_says_so_wherever_it_is_listed(pages):
    texts = [" ".join(text.split()) for text in pages["index.html"].articles.values()]
    for listed in ("It says reparam-helps. But at a price.", "It says reparam-helps. (but at a price)"):
        assert sum(text.count(listed) for text in texts) == 1


def test_a_claim_of_ours_says_so_wherever_it_is_listed(pages, folder):
    assert "(our claim)" not in pages["index.html"].text
    first, *others = report_of(CLAIMS)["claims"]
    change_report(folder, claims=[first | {"claimed_by": "us"}, *others])
    text = " ".join(Page(build.build(folder)).text.split())
    assert text.count(f"{first['statement']} (our claim)") >= 1 and "Somewhere (our claim)" in text
    assert "Of 6 claims 1 are ours and not the paper’s" in text


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


@pytest.mark.parametrize(("cell", "told"), [
    *((number, ' class="number"') for number in ("−1.5", "77.17 ± 1.41", "4.9e-05", "48,000", "78.35 %", "2026-11-27")),
    ("00751eee", ""), ("12345678", "")])
def test_a_number_is_told_from_a_key_that_looks_like_one(cell, told):
    html = markup.tidy(f"<table><tbody><tr><td>{cell}</td></tr></tbody></table>", "", str)
    assert f"<td{told}>{cell}</td>" in html


def test_a_table_that_is_not_there_is_told(folder):
    (folder / "tables" / "table_1.json").unlink()
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


@pytest.mark.parametrize("name", ["notebooks/comparison.ipynb", "tables/table_1.json", "report.json",
                                  "tables/table_9.csv"])
def test_a_torn_file_is_named_and_the_pages_stay(folder, name):
    before = build.build(folder).read_bytes()
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:len(content) // 2])
    with pytest.raises(ValueError, match=f"{folder / name} (is torn|cannot be shown)"):
        build.build(folder)
    assert (folder / "site" / "index.html").read_bytes() == before
    (folder / name).write_bytes(content)
    assert build.build(folder).read_bytes() == before and not (folder / ".site.tmp").exists()


def test_a_half_written_file_is_not_listed(folder):
    (folder / "runs" / ".table_1.csv.99.tmp").write_text("row")
    assert ".tmp" not in build.build(folder).read_text(encoding="utf-8")


def test_a_profile_without_results_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="make repro PROFILE=nothing"):
        build.build(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


RESULTS = [runs.parent for runs in (Path(__file__).parents[2] / "results").glob("*/runs")]


@pytest.mark.parametrize("results", RESULTS, ids=lambda results: results.name)
def test_the_committed_results_have_pages_with_what_the_report_says(results, tmp_path):
    copy = tmp_path / results.name
    shutil.copytree(results, copy, ignore=shutil.ignore_patterns("site", "*.svg", "*.safetensors"))
    found = Report.gather(copy, load_profile(results.name, load_params()))
    found.write()
    page, (rule, known) = Page(build.build(copy)), claims.load()
    assert len([name for name in page.ids if name.startswith("claim-")]) == len(known)
    assert ("p (Holm)" in page.text) == (found.seeds[1] >= rule.significant_seeds)
