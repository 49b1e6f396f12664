"""What holds of every page of ours in a real browser. Accessibility is judged by axe-core, which a package brings."""

import pytest

QUIET = ["no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking"]
QUIET += ["disable-component-update", "disable-sync"]


def assert_nothing_is_cut(tab):
    """Nothing is wider than a phone or a tablet."""
    for width in (360, 390, 768):
        tab.set_viewport_size({"width": width, "height": 700})
        assert tab.evaluate("document.documentElement.scrollWidth") <= width, tab.url
        shown = tab.locator("th, td, img, canvas, p, li, input, figcaption").evaluate_all(
            """all => all.filter(e => e.checkVisibility())
            .map(e => [e.getBoundingClientRect().right, e.scrollWidth - e.clientWidth])"""
        )
        assert max(right for right, _ in shown) <= width, tab.url
        assert max(over for _, over in shown) <= 1, f"{tab.url}: a text is wider than its cell"


def assert_accessible(tab):
    """axe finds nothing serious."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python").Axe()
    found = axe.run(tab).response
    assert len(found["passes"]) > 10, "axe did run"
    bad = [(v["id"], v["nodes"][0]["html"]) for v in found["violations"] if v["impact"] in ("serious", "critical")]
    assert bad == [], tab.url
