"""What the pages show, and that texts stay texts."""

import base64
import io
import re

import numpy as np
import pytest
from matplotlib.image import imread

from bundle.preparation.contours import Outline, tiles
from tests.preparation import fake
from tests.preparation.conftest import HOSTILE, KINDS
from tests.test_hostile_texts import Outline as Markup


def page(prepared, name):
    return (prepared / "out" / "scans" / f"{name}.html").read_text()


def picture(uri):
    return imread(io.BytesIO(base64.b64decode(uri.partition(",")[2])), format="webp").astype(int)


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
    assert text.count('class="thumbnail"') == 3
    assert "noise" in text


@pytest.mark.parametrize("flipped", [False, True], ids=["x grows", "x falls"])
def test_left_is_left_and_the_outline_is_where_the_mask_is(flipped):
    affine, radius = fake.affine_of(flipped), fake.brain()
    x = np.arange(fake.SHAPE[0])[:, None, None] + np.zeros(fake.SHAPE)
    right = (x < 26) if flipped else (x > 38)
    drawn = tiles(right * (radius < 0.8), affine, [Outline(radius < 1, (255, 255, 0))], radius < 1, 1.0)
    axial = picture(drawn[9]["image"])
    bright = np.argwhere(axial[:-8].min(-1) > 200)
    assert bright[:, 1].mean() > axial.shape[1] / 2 + 5
    line = np.argwhere((axial[:-8, :, 1] > 150) & (axial[:-8, :, 2] < 110))
    sides = line[:, 1].min(), line[:, 1].max()
    assert np.allclose(np.subtract(*sides[::-1]) * 0.9, 2 * 3 * 23 * np.sqrt(1 - 0.2**2), atol=9), "the mask is as wide"
    assert abs(np.mean(sides) - axial.shape[1] / 2) < 4
    assert [tile["ends"] for tile in drawn[::4]] == ["PA", "LR", "LR"]


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
    assert tab.locator("tbody tr:visible").count() == 1
    tab = show(folder / "scans" / "doubtful.html")
    printed = tab.pdf(prefer_css_page_size=True)
    assert len(re.findall(rb"/Type\s*/Page\b(?!s)", printed)) <= 3
