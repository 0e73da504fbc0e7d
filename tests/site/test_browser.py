"""The pages as a reader has them: on a phone and a desk, light and dark, with and without scripts, by any input."""

from __future__ import annotations

import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.site import browser, tiny

pytestmark = pytest.mark.skipif(browser.EXECUTABLE is None, reason="neither chromium nor google-chrome is on the PATH")

AXE = Path(find_spec("axe_core_python").origin).with_name("axe.min.js")
COMMITTED = Path(__file__).parents[2] / "results" / "digits" / "site"
PAGES = sorted(COMMITTED.rglob("*.html"))
LOOKS = [(width, scheme) for width in (390, 1280) for scheme in ("light", "dark")]
BETWEEN = (620, 769, 1024)  # a small window, a tablet both ways

FITS = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
SHOWN = ("Promise.all([...document.images].map(image => { image.loading = 'eager'; return image.decode(); }))"
         ".then(() => true, () => false)")
BRIGHTNESS = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]"
# What sticks would hide from axe what it scrolls to.
ACCESSIBLE = ("(document.head.insertAdjacentHTML('beforeend', '<style>* { position: static !important }</style>'),"
              "axe.run({ resultTypes: ['violations'], preload: false }).then(found => found.violations"
              ".filter(each => ['serious', 'critical'].includes(each.impact))"
              ".map(each => [each.id, each.nodes[0].html.slice(0, 200)])))")
DRAWN = ("new Promise((done, late) => { document.querySelector('figure:has([data-chart])').scrollIntoView();"
         "const look = setInterval(() => document.querySelector('.drawn') && (clearInterval(look), done(true)), 20);"
         "setTimeout(late, 20000); })")
AT = "document.querySelector('figure:has([data-chart])').getBoundingClientRect().y"


@pytest.fixture(scope="module")
def chromium():
    with browser.browser() as page:
        yield page


def told(page: browser.Browser) -> str:
    """What it says of itself that it should not."""
    return " ".join([*page.errors, *(url for url in page.requests if not url.startswith(("file:", "data:", "about:")))])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(COMMITTED).as_posix())
def test_a_committed_page_fits_a_phone_and_a_desk_and_loads_nothing_from_elsewhere(chromium, page):
    chromium.open(page)
    for width, scheme in LOOKS:
        chromium.look(width, scheme)
        assert chromium.ask(FITS), f"{width} px"
        assert (chromium.ask(BRIGHTNESS) > 128) == (scheme == "light")
    for width in BETWEEN:
        chromium.look(width, "light")
        assert chromium.ask(FITS), f"{width} px"
    assert chromium.ask(SHOWN) and not told(chromium)


def test_the_committed_pages_take_less_than_5_mb_with_the_pictures_they_show():
    if not PAGES:
        pytest.skip("no pages are committed")
    shown = {(page.path.parent / address).resolve() for page in map(tiny.Page, PAGES) for address, _ in page.images}
    files = shown | {path.resolve() for path in COMMITTED.rglob("*") if path.is_file()}
    assert sum(path.stat().st_size for path in files) < 5e6


@pytest.mark.parametrize("address", ["index.html", "report.html", "notebooks/table_1.html"])
def test_pages_can_be_read_by_all(chromium, site, address):
    chromium.look(390, "light")
    chromium.open(site / address)
    chromium.ask(AXE.read_text(encoding="utf-8") + "; 0")
    if address == "index.html":
        chromium.ask(DRAWN)
    for width, scheme in ((390, "light"), (1280, "dark")):
        chromium.look(width, scheme)
        assert chromium.ask(FITS) and chromium.ask(ACCESSIBLE) == []
    chromium.ask("document.querySelector('main').insertAdjacentHTML('beforeend',"
                 "'<p style=\"color: #777; background: #555\">hardly seen</p>')")
    assert [name for name, _ in chromium.ask(ACCESSIBLE)] == ["color-contrast"]
    assert not told(chromium)


@pytest.mark.parametrize("address", ["report.html", "notebooks/comparison.html"])
def test_a_committed_page_can_be_read_by_all(chromium, address):
    if COMMITTED / address not in PAGES:
        pytest.skip("no pages are committed")
    chromium.look(390, "dark")
    chromium.open(COMMITTED / address)
    chromium.ask(AXE.read_text(encoding="utf-8") + "; 0")
    assert chromium.ask(ACCESSIBLE) == []


def test_the_first_page_opens_without_what_it_needs_only_further_down(chromium):
    """On an idle machine it then opens in a fraction of a second, which a test on a busy one could not hold it to."""
    if not PAGES:
        pytest.skip("no pages are committed")
    chromium.look(1280, "light")
    chromium.open(COMMITTED / "index.html")
    names = [Path(url).name for url in chromium.requests
             if url.startswith("file:") and not url.endswith((".svg", ".png"))]
    assert sorted(names) == ["charts.js", "index.html", "site.js", "style.css"]
    assert sum((COMMITTED / name).stat().st_size for name in names) < 5e5


SEEN = "[...document.querySelectorAll('.verdicts tbody')].filter(claim => claim.offsetHeight).map(claim => claim.id)"
TYPED = ("(field => {{ field.value = '{}'; field.dispatchEvent(new Event('input', {{ bubbles: true }})); }})"
         "(document.getElementById('words'))")


def test_claims_are_found_by_verdict_author_and_words_and_sorted(chromium, site):
    chromium.look(1280, "light")
    chromium.open(site / "index.html")
    assert len(chromium.ask(SEEN)) == 6
    chromium.ask(TYPED.format("says HELPS"))
    assert chromium.ask(SEEN) == ["claim-reparam-helps"]
    assert chromium.ask("document.querySelector('.filter output').textContent") == "1 of 6 claims"
    chromium.ask("document.querySelector('.filter [type=reset]').click(); new Promise(done => setTimeout(done, 50))")
    assert len(chromium.ask(SEEN)) == 6
    chromium.ask("document.querySelector('.filter [value=contradicted]').click()")
    assert chromium.ask(SEEN) == ["claim-detection-counts"]
    chromium.ask("location.hash = '#claim-v3-counts'; new Promise(done => setTimeout(done, 100))")
    assert "claim-v3-counts" in chromium.ask(SEEN)  # an address shows its claim, whatever was chosen
    chromium.ask("document.querySelector('a[data-verdict=\"not attempted\"]').click()")
    assert chromium.ask(SEEN) == ["claim-latency-mobile"]
    chromium.ask("document.querySelector('.filter [type=reset]').click(); (order => { order.value = 'verdict';"
                 "order.dispatchEvent(new Event('change')); })(document.getElementById('order'));"
                 "new Promise(done => setTimeout(done, 50))")
    chromium.ask("(by => { by.value = 'us'; by.dispatchEvent(new Event('input', { bubbles: true })); })"
                 "(document.getElementById('by'))")
    assert chromium.ask(SEEN) == []


def test_claims_are_a_table_on_a_desk_and_cards_on_a_phone_and_never_scroll(chromium, site):
    chromium.open(site / "index.html")
    shape = ("[getComputedStyle(document.querySelector('.verdicts')).display,"
             "document.querySelector('.verdicts').closest('.box') === null]")
    for width, display in ((390, "block"), (1280, "table")):
        chromium.look(width, "light")
        assert chromium.ask(shape) == [display, True]


def test_contents_stay_in_view_and_fold_on_a_phone(chromium, site):
    top = ("(document.documentElement.style.scrollBehavior = 'auto', scrollTo(0, 2000),"
           "Math.round(document.querySelector('.contents').getBoundingClientRect().top))")
    for width, opened in ((390, False), (1280, True)):
        chromium.look(width, "light")
        chromium.open(site / "index.html")
        assert chromium.ask("document.querySelector('.contents details').open") == opened
        assert chromium.ask(top) == 0


def test_without_scripts_every_claim_and_picture_is_shown(chromium, site):
    chromium.look(390, "light")
    chromium.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        chromium.open(site / "index.html")
    finally:
        chromium.call("Emulation.setScriptExecutionDisabled", value=False)
    assert len(chromium.ask(SEEN)) == 6 and chromium.ask("document.querySelector('.filter').hidden")
    assert chromium.ask("document.querySelector('.static').offsetHeight") > 0
    assert chromium.ask("document.querySelector('.contents details').open")


def test_who_goes_to_a_figure_stays_there_while_its_chart_is_drawn(chromium):
    chromium.look(1280, "light")
    chromium.open(COMMITTED / "index.html")
    chromium.ask("document.documentElement.style.scrollBehavior = 'auto'")
    chromium.ask(DRAWN)
    assert 0 <= chromium.ask(AT) < 100


def test_a_chart_tells_a_network_and_leaves_out_a_family_and_changes_its_axis(chromium, site):
    chromium.look(1280, "light")
    chromium.open(site / "index.html")
    chromium.ask("document.documentElement.style.scrollBehavior = 'auto'")
    chromium.ask(DRAWN)
    assert chromium.ask("document.querySelector('#figure_1 .static').offsetHeight") == 0
    # These pages' pictures are of no height, so that what follows them moves.
    chromium.ask("document.querySelector('#figure_1 figure').scrollIntoView()")
    place = ("(path => { const box = path.getBoundingClientRect(); return [box.x + box.width / 2, box.y +"
             "box.height / 2]; })(document.querySelector('#figure_1 [aria-roledescription=point]'))")
    told_of = "document.querySelector('#vg-tooltip-element.visible')?.textContent ?? ''"
    deadline = time.monotonic() + 10
    x, y = chromium.ask(place)
    for step in (-3, 0):
        chromium.call("Input.dispatchMouseEvent", type="mouseMoved", x=x + step, y=y)
    while not (text := chromium.ask(told_of)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert "GhostNetV3 1.0×" in text and "paper (i7-8700): 7.8 · here: 10.1" in text
    points = "document.querySelectorAll('#figure_1 [aria-roledescription=point]').length"
    ticks = "document.querySelector('#figure_1 .role-axis-label').textContent"
    before, logarithmic = chromium.ask(points), chromium.ask(ticks)
    settled = "new Promise(done => setTimeout(done, 500))"
    chromium.ask("document.querySelector('#figure_1 .legend [type=checkbox]').click(); " + settled)
    assert before == 4 + 4 + 3 and chromium.ask(points) == before - 3 * 2  # two widths of GhostNetV3 in three panels
    chromium.ask("[...document.querySelectorAll('#figure_1 [type=radio]')].pop().click(); " + settled)
    assert chromium.ask(ticks) != logarithmic
    # However fast it is clicked, what is asked for last is drawn, once a panel.
    chromium.ask("for (let i = 0; i < 5; i++) document.querySelector('#figure_1 .legend [type=checkbox]').click()")
    deadline = time.monotonic() + 10
    while chromium.ask(points) != before and time.monotonic() < deadline:
        time.sleep(0.02)
    chromium.ask(settled)
    assert chromium.ask(points) == before
    assert chromium.ask("[...document.querySelectorAll('#figure_1 .plot')].map(of => of.querySelectorAll('svg').length)"
                        ) == [1, 1, 1]
    assert not told(chromium)
