"""Numbers of docs/evidence/reading.md: as its script prints them, and as simulations and SciPy give them."""

import importlib.util

import numpy as np
import pytest
from scipy.stats import norm, permutation_test

from bundle.metrics.classification import roc_auc
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def reading():
    spec = importlib.util.spec_from_file_location("reading", ROOT / "docs/site/reading.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def page():
    return (ROOT / "docs/evidence/reading.md").read_text()


def test_the_page_has_the_table_of_the_script(reading, page):
    assert reading.numbers() in page


def test_the_page_has_the_p_value_of_its_example(reading, page):
    patterns = 2 ** len(reading.DIFFERENCES)
    said = (
        f"Of the {patterns} ways to choose the signs, {round(reading.sign_flip(reading.DIFFERENCES) * patterns)} give"
    )
    assert said in " ".join(page.split())
    for difference in reading.DIFFERENCES:
        assert f"{difference:+.2f}".replace("-", "−") in page


def test_sign_flips_are_scipys_permutations_of_one_sample(reading):
    for seed in range(5):
        values = np.random.default_rng(seed).normal(0.4, 1, 7)
        found = permutation_test(
            (values,),
            lambda x, axis: np.abs(x.mean(axis=axis)),
            permutation_type="samples",
            vectorized=True,
            n_resamples=np.inf,
            alternative="greater",
        )
        assert reading.sign_flip(values) == pytest.approx(found.pvalue)


@pytest.mark.parametrize("auc", [0.6, 0.75, 0.9])
def test_two_normal_groups_have_the_auc_the_width_and_the_sensitivity(reading, auc):
    rng, people = np.random.default_rng(0), 80
    labels = np.repeat([0, 1], people)
    scores = rng.normal(size=(3000, 2 * people)) + reading.shift(auc) * labels
    found = roc_auc(labels, scores)
    assert found.mean() == pytest.approx(auc, abs=0.004)
    assert norm.ppf(0.975) * found.std() == pytest.approx(reading.half_width(auc, people), rel=0.1)
    caught = scores[:, labels == 1] > norm.ppf(0.9)
    assert caught.mean() == pytest.approx(reading.sensitivity(auc), abs=0.004)


def test_what_a_positive_answer_is_worth_is_counted(reading):
    ill, well = 20, 980
    found, wrong = ill * reading.sensitivity(0.75), well * 0.1
    assert reading.right_when_positive(0.75, 0.02) == pytest.approx(found / (found + wrong))
