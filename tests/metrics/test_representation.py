import doctest
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score

from bundle.metrics import answers, classification, clinic, representation, resampling
from bundle.metrics.classification import roc_auc
from bundle.metrics.representation import (
    age_errors,
    alignment,
    effective_rank,
    openbhb_score,
    site_balanced_accuracy,
    uniformity,
    whitening,
)

RNG = np.random.default_rng(0)


def test_alignment_and_uniformity_equal_their_formulas():
    view_1, view_2 = torch.randn(2, 9, 4, generator=torch.Generator().manual_seed(0)).double()
    a, b = F.normalize(view_1, dim=1), F.normalize(view_2, dim=1)
    assert alignment(view_1, view_2).item() == pytest.approx(
        sum((a[i] - b[i]).norm() ** 2 for i in range(9)).item() / 9
    )
    pairs = [math.exp(-2 * (a[i] - a[k]).norm() ** 2) for i in range(9) for k in range(i)]
    assert uniformity(view_1).item() == pytest.approx(math.log(sum(pairs) / len(pairs)))


def test_alignment_and_uniformity_of_collapse():
    collapsed = torch.ones(8, 3)
    assert alignment(collapsed, collapsed).item() == 0
    assert uniformity(collapsed).item() == pytest.approx(0, abs=1e-6)


def test_effective_rank_counts_the_used_dimensions():
    basis = torch.eye(6)[:4].repeat(5, 1)
    spread = torch.cat([basis, -basis])
    assert effective_rank(spread).item() == pytest.approx(4, abs=1e-4)
    assert effective_rank(torch.outer(torch.arange(10.0), torch.ones(6))).item() == pytest.approx(1, abs=1e-2)


def test_roc_auc_equals_scikit_learn_with_ties_and_along_the_last_axis():
    labels = RNG.integers(0, 2, 60)
    scores = RNG.integers(0, 10, (3, 60)) + labels
    expected = [roc_auc_score(labels, s) for s in scores]
    assert roc_auc(labels, scores) == pytest.approx(expected)
    with pytest.raises(ValueError, match="needs both classes, but 0 patients and 3 controls"):
        roc_auc([0, 0, 0], [1, 2, 3])


def test_age_errors_find_a_linear_age_and_leave_out_unknown_ones():
    embedding = RNG.normal(size=(120, 8))
    ages = 50 + 10 * embedding[:, 0] + RNG.normal(size=120)
    ages[:20] = np.nan
    errors = age_errors(embedding, ages)
    assert errors.shape == (100,)
    assert errors.mean() < 1.5
    assert age_errors(RNG.normal(size=(120, 8)), ages).mean() > 5


def test_site_is_read_where_it_is_written_and_not_elsewhere():
    sites = np.array(["a", "b", "c"] * 30 + ["rare"] * 2)
    readable = np.eye(4)[np.unique(sites, return_inverse=True)[1]] + 0.1 * RNG.normal(size=(92, 4))
    assert site_balanced_accuracy(readable, sites) > 0.95
    assert site_balanced_accuracy(RNG.normal(size=(92, 4)), sites) < 0.55
    with pytest.raises(ValueError, match="two sites with 5 people"):
        site_balanced_accuracy(readable, ["a"] * 92)


def four_scans_each(n=60):
    """An embedding that knows who somebody is and nothing else, four scans a person."""
    people = np.repeat(np.arange(n), 4)
    return RNG.normal(size=(n, 60))[people] + 0.05 * RNG.normal(size=(4 * n, 60)), people


def test_several_scans_of_a_person_teach_nothing_of_their_own_age():
    embedding, people = four_scans_each()
    ages = RNG.uniform(20, 80, 60)[people]
    grouped, one_by_one = age_errors(embedding, ages, people), age_errors(embedding, ages)
    assert grouped.shape == (60,)
    assert grouped.mean() > 13  # the spread: nothing is known
    assert one_by_one.mean() < 10


def test_several_scans_of_a_person_do_not_tell_their_site():
    embedding, people = four_scans_each()
    sites = np.array(["a", "b"])[RNG.integers(0, 2, 60)][people]
    assert site_balanced_accuracy(embedding, sites, people) < 0.7
    assert site_balanced_accuracy(embedding, sites) > 0.8
    with pytest.raises(ValueError, match="two sites with 5 people"):
        site_balanced_accuracy(embedding[:32], np.repeat(["a", "b"], 16), people[:32])


def test_a_scan_each_is_what_it_was_without_persons():
    embedding, ages = RNG.normal(size=(50, 5)), RNG.uniform(20, 80, 50)
    ages[[3, 7]] = np.nan
    assert age_errors(embedding, ages, np.arange(50)).tolist() == age_errors(embedding, ages).tolist()


def test_the_challenge_score_is_that_of_its_paper():
    assert openbhb_score(0.5, 4.0) == pytest.approx(math.exp(0.3 * math.log(0.5)) * 4.0)


def test_examples_in_the_docstrings_run():
    for part in (answers, classification, clinic, representation, resampling):
        assert doctest.testmod(part).failed == 0


def test_the_length_of_a_whitened_difference_is_its_mahalanobis_distance():
    random = np.random.default_rng(0)
    known, difference = random.normal(size=(40, 6)) @ random.normal(size=(6, 6)), random.normal(size=6)
    covariance = np.cov(known.T)
    expected = np.sqrt(difference @ np.linalg.inv(covariance) @ difference)
    assert np.linalg.norm(whitening(covariance) @ difference) == pytest.approx(expected)


def test_directions_in_which_nothing_varies_count_nothing():
    covariance = np.outer([1.0, 2.0, 0.0], [1.0, 2.0, 0.0])  # of two points on a line
    assert np.linalg.norm(whitening(covariance) @ [1.0, 2.0, 5.0]) == pytest.approx(1)
    assert not whitening(np.zeros((3, 3))).any()
