"""The page as a PDF: what its text says, in which order, on how many pages."""

import shutil
import subprocess

import pytest

from bundle.dicom.answer import REFUSED
from bundle.dicom.document import document
from bundle.prediction.judgement import CANNOT, NOT_CALIBRATED
from tests.dicom.examples import REASON, given, network, without

needs_pdftotext = pytest.mark.skipif(
    shutil.which("pdftotext") is None, reason="needs pdftotext: Debian's poppler-utils"
)


def text_of(content):
    """The text of a PDF, as Poppler reads it; pages end with a form feed."""
    found = subprocess.run(["pdftotext", "-layout", "-", "-"], input=content, capture_output=True, check=True)
    return found.stdout.decode()


@pytest.fixture(scope="module")
def page(brain):
    return document(given(brain=brain))


def test_it_is_a_small_pdf(page):
    assert page.startswith(b"%PDF-")
    assert len(page) < 500_000


@needs_pdftotext
def test_every_page_begins_with_research_use_only(page):
    pages = text_of(page).split("\f")[:-1]
    assert len(pages) > 1
    assert all(one.lstrip().startswith("Research use only. Not a medical device.") for one in pages)


@needs_pdftotext
def test_it_says_what_the_page_says(page):
    text = " ".join(text_of(page).split())
    for said in (
        *("Probability of Alzheimer's disease: 0.83 ± 0.02 over", "T1 contrast is 0.18", "78-year-old (± 5 years)"),
        *("6 years older", "percentile 61", "1,512 mL", "superior temporal", "−1.8", "antspyx 0.6.3", "0.97"),
        *("86 % of those with Alzheimer's disease", "the left side of a picture is the left side of the person"),
        *("It is no map of the disease", "percentage points", "z = −60 mm", "5e884898da28"),
    ):
        assert said in text


@needs_pdftotext
@pytest.mark.parametrize("state", [NOT_CALIBRATED, CANNOT, REFUSED])
def test_without_an_answer_it_has_no_probability_but_the_reason(state):
    text = " ".join(text_of(document(without(state))).split())
    assert "Probability of" not in text
    assert "0.83" not in text
    said = {
        NOT_CALIBRATED: "no probability (not calibrated: 48 subjects)",
        CANNOT: REASON,
        REFUSED: "REFUSE: The model",
    }
    assert said[state] in text


@needs_pdftotext
def test_a_demonstration_says_what_it_is_and_strange_names_break_nothing():
    strange = network(name="a\x00b\ud800", classes=("control", "Ω-disease ≤ 5 \\ <b>"), warning="a phantom, no people")
    text = text_of(document(given(model=strange, called="control", headline="below 0.01", probability=0.004)))
    assert "The model is a demonstration. It was trained on this: a phantom, no people" in text
    assert "Ω-disease ≤ 5 \\ <b>" in text
