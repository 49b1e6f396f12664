import doctest
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score

from bundle.metrics import classification, representation, resampling
from bundle.metrics.classification import calibration_error, decisions, operating_point, reliability, roc_auc
from bundle.metrics.representation import (
    age_errors,
    alignment,
    effective_rank,
    openbhb_score,
    site_balanced_accuracy,
    uniformity,
)
from bundle.metrics.resampling import bootstrap_auc, bootstrap_mean, holm, interval

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
    with pytest.raises(ValueError, match="two sites with 5 subjects"):
        site_balanced_accuracy(readable, ["a"] * 92)


@pytest.mark.long
def test_bootstrap_interval_covers_the_true_auc_as_often_as_it_says():
    truth, covered = 0.7602, 0  # Φ(1 / √2)
    labels = np.repeat([0, 1], 60)
    for repeat in range(100):
        scores = np.random.default_rng(repeat).normal(size=120) + labels
        low, high = interval(bootstrap_auc(labels, scores, resamples=200, seed=repeat))
        covered += low <= truth <= high
    assert 88 <= covered <= 100


@pytest.mark.parametrize(("draws", "n"), [(1, 25), (5, 40), (12, 30)])
def test_bootstrap_gives_the_digits_of_resampling_one_after_the_other(draws, n):
    rng = np.random.default_rng(draws)
    labels = np.tile([1, 0, 0], n)[:n]
    scores = rng.normal(size=(draws, n)).round(1)  # with ties
    rng, expected = np.random.default_rng(7), []
    controls, patients = np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)
    for _ in range(50):
        subjects = np.concatenate([rng.choice(controls, len(controls)), rng.choice(patients, len(patients))])
        drawn = rng.integers(draws, size=draws)
        expected.append(roc_auc(labels[subjects], scores[np.ix_(drawn, subjects)]).mean())
    assert bootstrap_auc(labels, scores, 50, seed=7).tolist() == expected


def test_a_bootstrap_of_one_class_is_refused():
    with pytest.raises(ValueError, match="ROC-AUC needs both classes, but 0 patients and 4 controls"):
        bootstrap_auc([0, 0, 0, 0], [0.1, 0.2, 0.3, 0.4])


def test_bootstrap_is_paired_between_methods_by_its_seed():
    labels, scores = np.repeat([0, 1], 40), RNG.normal(size=(5, 80)) + np.repeat([0, 1], 40)
    same = bootstrap_auc(labels, scores, 50, seed=3) - bootstrap_auc(labels, 2 * scores + 1, 50, seed=3)
    assert np.abs(same).max() == 0
    assert np.abs(bootstrap_auc(labels, scores, 50, seed=3) - bootstrap_auc(labels, scores, 50, seed=4)).max() > 0


def test_more_draws_narrow_the_interval_when_draws_differ():
    labels = np.repeat([0, 1], 500)
    quality = RNG.normal(1.0, 0.5, size=(20, 1))
    scores = quality * labels + RNG.normal(size=(20, 1000))
    widths = [np.ptp(interval(bootstrap_auc(labels, scores[:n], 300))) for n in (5, 20)]
    assert widths[1] < widths[0]


def test_bootstrap_mean_has_the_standard_error():
    values = RNG.normal(size=400)
    assert bootstrap_mean(values, 2000).std() == pytest.approx(values.std() / 20, rel=0.1)


def by_hand(labels, probabilities, threshold):
    called = [p >= threshold for p in probabilities]
    sensitivity = sum(c for c, y in zip(called, labels, strict=True) if y) / sum(labels)
    specificity = sum(not c for c, y in zip(called, labels, strict=True) if not y) / (len(labels) - sum(labels))
    return sensitivity, specificity


LABELS = RNG.integers(0, 2, 60).tolist()
PROBABILITIES = np.clip(0.35 * np.array(LABELS) + 0.65 * RNG.random(60), 0, 1).round(2).tolist()


def test_decisions_are_counted():
    sensitivity, specificity = by_hand(LABELS, PROBABILITIES, 0.5)
    expected = {"sensitivity": sensitivity, "specificity": specificity}
    expected["balanced_accuracy"] = (sensitivity + specificity) / 2
    assert decisions(LABELS, PROBABILITIES, 0.5) == pytest.approx(expected)


def test_operating_points_are_the_best_of_their_rule():
    grid = [by_hand(LABELS, PROBABILITIES, t) for t in np.linspace(0, 1.001, 2003)]
    youden = sum(by_hand(LABELS, PROBABILITIES, operating_point(LABELS, PROBABILITIES)))
    assert youden == pytest.approx(max(map(sum, grid)))
    sensitivity, specificity = by_hand(LABELS, PROBABILITIES, operating_point(LABELS, PROBABILITIES, "sensitivity=0.9"))
    assert sensitivity >= 0.9
    assert specificity == pytest.approx(max(b for a, b in grid if a >= 0.9))
    sensitivity, specificity = by_hand(LABELS, PROBABILITIES, operating_point(LABELS, PROBABILITIES, "specificity=0.8"))
    assert specificity >= 0.8
    assert sensitivity == pytest.approx(max(a for a, b in grid if b >= 0.8))
    assert operating_point(LABELS, PROBABILITIES, "probability=0.3") == 0.3


@pytest.mark.parametrize("rule", ["best", "sensitivity", "sensitivity=2", "specificity=x", "youden=1", "probability"])
def test_another_operating_point_is_refused(rule):
    with pytest.raises(ValueError, match=f"but '{rule}' was given"):
        operating_point(LABELS, PROBABILITIES, rule)


def test_calibration_error_equals_its_definition():
    expected = 0.0
    for k in range(10):
        inside = [(y, p) for y, p in zip(LABELS, PROBABILITIES, strict=True) if min(int(p * 10), 9) == k]
        if inside:
            gap = abs(np.mean([y for y, _ in inside]) - np.mean([p for _, p in inside]))
            expected += gap * len(inside) / len(LABELS)
    assert calibration_error(LABELS, PROBABILITIES) == pytest.approx(expected)
    assert reliability(LABELS, PROBABILITIES)["n"].sum() == 60
    truth = RNG.random(20_000)
    assert calibration_error(RNG.random(20_000) < truth, truth) < 0.02


def test_holm_equals_its_definition():
    p_values = [0.01, 0.04, 0.03, 0.005, 0.9]
    expected = {}
    largest = 0.0
    for rank, p in enumerate(sorted(p_values)):
        largest = max(largest, min(1, p * (len(p_values) - rank)))
        expected[p] = largest
    assert holm(p_values).tolist() == pytest.approx([expected[p] for p in p_values])


def test_the_challenge_score_is_that_of_its_paper():
    assert openbhb_score(0.5, 4.0) == pytest.approx(math.exp(0.3 * math.log(0.5)) * 4.0)


def test_examples_in_the_docstrings_run():
    assert all(doctest.testmod(part).failed == 0 for part in (classification, representation, resampling))


def test_platt_finds_slope_and_intercept_and_cannot_run_away():
    random = np.random.default_rng(0)
    log_odds = random.normal(0, 2, 20_000)
    labels = random.random(20_000) < 1 / (1 + np.exp(-(0.5 * log_odds - 1)))
    slope, intercept = classification.platt(labels.astype(int), 1 / (1 + np.exp(-log_odds)))
    assert (slope, intercept) == pytest.approx((0.5, -1), abs=0.05)
    separated = classification.platt([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9])
    assert 0 < classification.calibrated([0.5], *separated)[0] < 1
    assert classification.calibrated([0.9], *separated)[0] < 0.85  # smoothed targets: 3/4 with two patients


def test_platt_of_a_classifier_worse_than_chance_is_the_share_of_patients():
    slope, intercept = classification.platt([1, 1, 1, 0, 0, 0], [0.1, 0.2, 0.3, 0.7, 0.8, 0.9])
    assert slope == 0
    assert classification.calibrated([0.01, 0.99], slope, intercept) == pytest.approx([0.5, 0.5])
