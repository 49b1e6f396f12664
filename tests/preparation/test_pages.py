"""What the pages show, and that texts stay texts."""

import re

import numpy as np
import pytest

from bundle.preparation import contours
from bundle.preparation.contours import PIXEL, PLACES, Outline
from tests.preparation import fake
from tests.preparation.conftest import HOSTILE, KINDS
from tests.test_hostile_texts import Outline as Markup


def page(prepared, name):
    return (prepared / "out" / "scans" / f"{name}.html").read_text()


def test_a_page_shows_pictures_measures_and_what_made_it(prepared):
    text = page(prepared, "doubtful")
    assert text.count("data:image/webp") == 36
    assert text.count("data:image/png") == 2
    for said in (
        "Research use only",
        "look at the pictures first",
        "Something of it is warn.",
        "1,050 mL",
        "1,100 to 2,000 mL",
        "900 to 2,200 mL",
        "not measured",
        "fake 3",
        "The left side".lower(),
        "It is the only T1w scan.",
    ):
        assert said in text, said


def test_every_scan_has_a_page_that_says_what_became_of_it(prepared):
    for name in KINDS:
        text = page(prepared, name)
        assert ("There is no map" in text) == (name in ("crashes", "stopped", "raises", "refuses")), name
    assert "take the ending .failed off <code>failed/mwp1bad.nii.gz.failed</code>" in page(prepared, "bad")


def test_pages_are_small_and_let_nothing_else_run_or_load(prepared):
    for path in [prepared / "out" / "index.html", *(prepared / "out" / "scans").glob("*.html")]:
        text = path.read_text()
        assert len(text) < 500_000
        assert re.search(r'Content-Security-Policy" content="default-src &#39;none&#39;; img-src data:', text)
        assert text.count("<script") == (path.name == "index.html")
        assert HOSTILE not in text
        assert not [tag for tag in Markup(text).tags if any(name.startswith("on") for name in tag[1:])]
        assert all(src.startswith("data:") for src in re.findall(r'src="([^"]*)"', text))


def test_the_index_lists_every_scan(prepared):
    text = (prepared / "out" / "index.html").read_text()
    assert "8 scans: 1 ok, 1 warn, 5 fail, 1 refused" in text
    assert re.findall(r'href="scans/(\w+).html"', text) == sorted(KINDS)
    assert text.count('class="thumbnail"') == 4
    assert "noise" in text


@pytest.mark.parametrize("flipped", [False, True], ids=["x grows", "x falls"])
def test_left_is_left_and_the_outline_is_where_the_mask_is(flipped):
    affine, radius, yellow = fake.affine_of(flipped), fake.brain(), (255, 255, 0)
    x = np.arange(fake.SHAPE[0])[:, None, None] + np.zeros(fake.SHAPE)
    right = ((x < 26) if flipped else (x > 38)) & (radius < 0.8)
    drawn = list(contours._slices(right, affine, [Outline(radius < 1, yellow)], radius < 1, 1.0, PLACES, PIXEL))
    for axis, place, picture in drawn[4:]:  # coronal and axial
        bright = np.argwhere((picture[:-8] == 255).all(-1))[:, 1]
        assert bright.mean() > picture.shape[1] / 2 + 5, "the person's right is on the right"
        line = np.argwhere((picture == yellow).all(-1))[:, 1]
        at = place / {1: 84, 2: 63}[axis]  # of the half axes, mm
        assert np.isclose((line.max() - line.min()) * PIXEL, 2 * 69 * np.sqrt(1 - at**2), atol=7)
    assert [axis for axis, *_ in drawn] == [0] * 4 + [1] * 4 + [2] * 4


def test_a_scan_that_was_given_up_early_is_shown_as_it_is(prepared):
    text = page(prepared, "stopped")
    assert text.count("data:image/webp") == 12
    assert "Is this the T1w scan of a whole head, upright?" in text
    assert "data:image" not in page(prepared, "crashes")


def test_pages_in_a_browser(prepared, show):
    from tests.browser import assert_accessible, assert_nothing_is_cut

    folder = prepared / "out"
    for path in (folder / "index.html", folder / "scans" / "doubtful.html", folder / "scans" / "crashes.html"):
        assert_nothing_is_cut(show(path))
        assert_accessible(show(path, bypass_csp=True))
    tab = show(folder / "index.html")
    tab.get_by_role("button", name="status").click()
    order = [text.lower() for text in tab.locator("tbody .word").all_inner_texts()]
    assert order == sorted(order, key=["ok", "warn", "fail", "refused"].index)
    assert tab.get_by_role("button", name="picture").count() == 0
    tab.get_by_label("Status").select_option("refused")
    assert tab.locator(".sortable tbody tr:visible").count() == 1
    tab = show(folder / "scans" / "doubtful.html")
    printed = tab.pdf(prefer_css_page_size=True)
    assert len(re.findall(rb"/Type\s*/Page\b(?!s)", printed)) <= 3
