"""Index and pages in a real browser, Debian's Chromium: sorting, filtering, the viewer, the keyboard, phones, paper.

Accessibility is judged by axe-core, which a package on the index brings: nothing is loaded from a network.
"""

import re

import numpy as np
import pytest

from bundle.prediction.pages import render
from bundle.prediction.slices import GRID, Overlay, drawn
from tests.browser import assert_accessible, assert_nothing_is_cut
from tests.prediction.test_slices import PLACE, ball
from tests.test_hostile_texts import content

pytestmark = pytest.mark.long
PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="
A4_PAGE = rb"/Type\s*/Page\b(?!s)"


def kinds(folder):
    """The index, a page with an answer, warnings and pictures of full size, and one of a refused scan."""
    scans = folder / "scans"
    return [folder / "index.html", next(scans.glob("sub-of-full*")), scans / "broken.html"]


def column(tab, number):
    return tab.locator(".sortable tbody tr").evaluate_all(
        f"rows => rows.filter(r => !r.hidden).map(r => r.cells[{number}].textContent.trim())"
    )


# The index


def test_a_click_sorts_and_a_second_one_turns_round(pages, show):
    tab = show(pages / "index.html")
    for header, number, silent in (("probability", 2, ["", "cannot answer"]), ("distance", 5, [""])):
        button = tab.get_by_role("button", name=re.compile(header))
        button.click()
        rising = column(tab, number)
        count = len(rising) - len(silent)
        assert sorted(rising[count:]) == silent, "what has no value stays last"
        words = {"below 0.01": "0", "above 0.99": "1"}
        values = [float(words.get(text, text)) for text in rising[:count]]
        assert values == sorted(values)
        assert len(values) == count >= 3
        button.click()
        falling = column(tab, number)
        assert sorted(falling[count:]) == silent
        assert [float(words.get(text, text)) for text in falling[:count]] == values[::-1]
    assert tab.locator("[aria-sort=descending]").count() == 1
    assert tab.locator("thead th").count() == tab.locator("thead [aria-sort]").count()


def test_the_keyboard_alone_sorts_and_filters(pages, show):
    tab = show(pages / "index.html")
    before = column(tab, 0)
    tab.keyboard.press("Tab")  # the link to predictions.csv
    tab.keyboard.press("Tab")
    tab.keyboard.type("OF-FULL")
    assert len(column(tab, 0)) == 1
    assert tab.get_by_role("status").inner_text() == f"1 of {len(before)} scans are shown"
    for _ in "OF-FULL":
        tab.keyboard.press("Backspace")
    assert column(tab, 0) == before
    tab.keyboard.press("Tab")  # the verdicts
    tab.keyboard.type("refuse")
    assert column(tab, 0) == ["broken"]
    tab.keyboard.press("Home")
    tab.keyboard.press("Tab")  # the first header
    tab.keyboard.press("Enter")
    rising = column(tab, 0)
    tab.keyboard.press("Space")
    assert column(tab, 0) == rising[::-1]
    assert sorted(rising) == sorted(before)


def test_verdicts_sort_by_how_bad_they_are(pages, show):
    tab = show(pages / "index.html")
    tab.get_by_role("button", name="verdict").click()
    order = [text.split()[0] for text in column(tab, 1)]
    assert order == sorted(order, key=["pass", "warn", "refuse"].index)
    assert len(set(order)) > 1


def test_without_scripts_everything_is_there(pages, show):
    tab = show(pages / "index.html", java_script_enabled=False)
    assert tab.locator(".sortable tbody tr:visible").count() == 6
    assert tab.locator("form").is_hidden()
    assert tab.locator("button").count() == 0
    tab = show(next((pages / "scans").glob("sub-of-full*")), java_script_enabled=False)
    assert tab.locator(".montage img:visible").count() == 14
    assert tab.locator(".viewer").is_hidden()
    assert tab.get_by_text("where JavaScript is switched on").is_visible()


# The viewer


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """A page of a brain that is a ball at PLACE, with a map in another place."""
    path = tmp_path_factory.mktemp("known") / "page.html"
    overlay = Overlay.of(ball(GRID, (-39.0, -60.0, 24.0)), GRID, "unit", 1.0)
    path.write_text(render("scan.html", {**content(PIXEL), "brain": drawn(ball(GRID), GRID.matrix, overlay)}))
    return path


def bright(tab, colour="Math.min(r, g, b) > 220"):
    """Where a colour is in each canvas: pixels from the left and from the top, without scale bar and lines."""
    return tab.locator("canvas").evaluate_all(
        """canvases => canvases.map(canvas => {
            const {data, width, height} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            let [n, u, v] = [0, 0, 0];
            for (let i = 0; i < width * (height - 8); i++) {
                const [r, g, b] = data.slice(4 * i, 4 * i + 3);
                if (COLOUR) { n++; u += i % width; v += Math.floor(i / width); }
            }
            return n ? [u / n, v / n] : null;
        })""".replace("COLOUR", colour)
    )


def go_to(tab, place):
    for slider, mm in zip(tab.get_by_role("slider").all(), place, strict=True):
        slider.fill(str(mm))


def test_the_viewer_shows_each_place_where_it_is(known, show):
    tab = show(known)
    tab.locator(".viewer").wait_for(state="visible")
    assert tab.locator(".instead").count() == 0
    go_to(tab, PLACE)
    x, y, z = ((np.array(PLACE) - GRID.matrix[:3, 3]) / 1.5).tolist()
    width, height = GRID.shape[0], GRID.shape[2]
    expected = [(y, height - 1 - z), (x, height - 1 - z), (x, GRID.shape[1] - 1 - y)]
    assert np.allclose(bright(tab), expected, atol=1)
    assert x > width / 2, "the ball is on the right of the person, and of the picture"
    go_to(tab, (-39, -60, 24))
    assert bright(tab)[0] is None
    yellow = "r > 100 && b < 90"
    assert bright(tab, yellow)[0] is not None
    tab.get_by_label("show the map").uncheck()
    assert bright(tab, yellow) == [None, None, None]


def test_the_viewer_obeys_the_keyboard_and_the_mouse(known, show):
    tab = show(known)
    tab.locator(".viewer").wait_for(state="visible")
    go_to(tab, (0, 0, 0))
    axial = tab.get_by_role("slider", name=re.compile("Axial"))
    axial.focus()
    for _ in range(2):
        tab.keyboard.press("ArrowDown")
    assert axial.input_value() == "-3"
    assert axial.evaluate("slider => slider.ariaValueText") == "3 millimetres down"
    assert "Axial, z = −3 mm" in tab.locator(".planes").inner_text()
    assert tab.get_by_role("img", name="Axial slice at −3 mm").count() == 1
    canvas = tab.locator("canvas").nth(2)
    box = canvas.bounding_box()
    canvas.click(position={"x": box["width"] * 0.75, "y": box["height"] * 0.25})
    x, y, z = (float(slider.input_value()) for slider in tab.get_by_role("slider").all())
    assert 37 < x < 42
    assert 31 < y < 36
    assert z == -3


# Every page


def test_nothing_is_cut_on_a_phone(pages, show):
    for path in kinds(pages):
        assert_nothing_is_cut(show(path))


def test_a_page_of_a_scan_prints_on_two_sides(pages, show):
    for path in kinds(pages)[1:]:
        printed = show(path).pdf(prefer_css_page_size=True)
        assert 1 <= len(re.findall(A4_PAGE, printed)) <= 2, path.name
        assert re.search(rb"/MediaBox \[0 0 59[45][.\d]* 84[12][.\d]*\]", printed), "not A4"


def test_axe_finds_nothing_serious(pages, show):
    index, scan, refused = kinds(pages)
    for path, width in [(index, 1200), (index, 390), (scan, 1200), (scan, 390), (refused, 1200)]:
        tab = show(path, width, bypass_csp=True)  # axe is a script that the page does not know
        if path == scan:
            tab.locator(".viewer").wait_for(state="visible")
        assert_accessible(tab)
