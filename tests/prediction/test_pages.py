"""Pages as files: what they weigh, what they may load, and what they say of a map."""

import re

import pytest

from bundle.pages.page import SHARED
from bundle.prediction.maps import METHODS, TARGETS, meaning
from bundle.prediction.pages import TEMPLATES
from tests.prediction.conftest import FULL_SIZE

pytestmark = pytest.mark.long


def test_every_page_is_smaller_than_half_a_megabyte(pages):
    sizes = {page.name: page.stat().st_size for page in [pages / "index.html", *(pages / "scans").iterdir()]}
    assert len(sizes) == 7
    assert max(sizes.values()) < 500_000
    assert next(size for name, size in sizes.items() if name.startswith(FULL_SIZE[:20])) > 200_000, "the worst case"


def test_a_page_lets_nothing_else_run_or_load(pages):
    for page in [pages / "index.html", *(pages / "scans").iterdir()]:
        text = page.read_text()
        policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', text)[1].replace("&#39;", "'")
        assert policy.startswith("default-src 'none'; img-src data:;")
        assert "unsafe" not in policy
        script = SHARED / "table.js" if page.name == "index.html" else TEMPLATES / "viewer.js"
        assert re.findall(r"<script>(.*?)</script>", text, re.DOTALL) == [script.read_text().rstrip("\n")]
        assert not re.search(r"<[a-z][^>]* (style|on[a-z]+)=", text)


def test_a_page_says_how_to_read_its_pictures(pages):
    text = next((pages / "scans").glob("sub-of-full*")).read_text()
    for said in ("the left side of a picture is the left side of the person", "30 mm long", "MNI coordinates"):
        assert said in text
    assert "arbitrary units" in text
    assert "holds all values, without threshold and mask" in text
    linked = re.search(r'href="(\.\./maps/[^"]+)"', text)[1]
    assert (pages / "scans" / linked).is_file()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("method", METHODS)
def test_every_map_has_a_sentence_and_a_unit(method, target):
    read = meaning(method, target, "dementia", 216.0)
    assert "dementia" in read.sentence
    assert (read.factor is None) == (method != "occlusion")
    if method == "occlusion":
        assert "about 36 mm" in read.sentence
        assert ("percentage points" in read.unit) == (target == "class")
        assert read.factor == (100.0 if target == "class" else 1.0)
