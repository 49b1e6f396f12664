import numpy as np
import pytest

from bundle.metrics.classification import roc_auc
from bundle.metrics.resampling import bootstrap_auc, bootstrap_mean, decision_intervals, holm, interval

RNG = np.random.default_rng(0)


@pytest.mark.long
def test_bootstrap_interval_covers_the_true_auc_as_often_as_it_says():
    truth, covered = 0.7602, 0  # Φ(1 / √2)
    labels = np.repeat([0, 1], 60)
    for repeat in range(100):
        scores = np.random.default_rng(repeat).normal(size=120) + labels
        low, high = interval(bootstrap_auc(labels, scores, resamples=200, seed=repeat).samples)
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
    found = bootstrap_auc(labels, scores, 50, seed=7)
    uncorrected = found.subjects + found.draws * np.sqrt(max(1, draws - 1) / draws)
    assert uncorrected == pytest.approx(np.array(expected), abs=1e-12)


def test_a_bootstrap_of_one_class_is_refused():
    with pytest.raises(ValueError, match="ROC-AUC needs both classes, but 0 patients and 4 controls"):
        bootstrap_auc([0, 0, 0, 0], [0.1, 0.2, 0.3, 0.4])


def test_bootstrap_is_paired_between_methods_by_its_seed():
    labels, scores = np.repeat([0, 1], 40), RNG.normal(size=(5, 80)) + np.repeat([0, 1], 40)
    same = bootstrap_auc(labels, scores, 50, seed=3) - bootstrap_auc(labels, 2 * scores + 1, 50, seed=3)
    assert np.abs(same.samples).max() == 0
    assert same.p_value(0.0) == 1
    other = bootstrap_auc(labels, scores, 50, seed=3) - bootstrap_auc(labels, scores, 50, seed=4)
    assert np.abs(other.samples).max() > 0


def test_more_draws_narrow_the_interval_when_draws_differ():
    labels = np.repeat([0, 1], 500)
    quality = RNG.normal(1.0, 0.5, size=(20, 1))
    scores = quality * labels + RNG.normal(size=(20, 1000))
    widths = [np.ptp(interval(bootstrap_auc(labels, scores[:n], 300).samples)) for n in (5, 20)]
    assert widths[1] < widths[0]


def test_bootstrap_mean_has_the_standard_error():
    values = RNG.normal(size=400)
    assert bootstrap_mean(values, 2000).std() == pytest.approx(values.std() / 20, rel=0.1)


def few_draws(seed, draws=5, spread=0.6):
    """Scores of two methods that are equally good on average, and whose draws differ much in how good they are."""
    rng = np.random.default_rng(seed)
    labels, subject = np.repeat([0, 1], 100), rng.normal(size=200)
    quality = 0.7 + spread * rng.normal(size=(2, draws, 1))
    return labels, quality * labels + subject + 0.5 * rng.normal(size=(2, draws, 200))


@pytest.mark.long
def test_five_draws_that_differ_are_no_finding_and_their_interval_covers():
    truth = 0.6566  # mean of Φ(quality / √2.5) over the draws
    wrong, covered, uncorrected = [], [], []
    for seed in range(160):
        labels, (one, other) = few_draws(seed)
        a, b = (bootstrap_auc(labels, scores, 200) for scores in (one, other))
        wrong.append((a - b).p_value(roc_auc(labels, one).mean() - roc_auc(labels, other).mean()) < 0.05)
        for samples, kept in ((a.samples, covered), (a.subjects + np.sqrt(4 / 5) * a.draws, uncorrected)):
            low, high = interval(samples)
            kept.append(low <= truth <= high)
    assert np.mean(wrong) <= 0.08
    assert 0.91 <= np.mean(covered) <= 0.99
    assert np.mean(uncorrected) < 0.91


def test_the_part_of_the_draws_has_the_variance_of_a_mean_of_few():
    labels, (scores, _) = few_draws(0)
    aucs = roc_auc(labels, scores)
    assert bootstrap_auc(labels, scores, 4000).draws.std() == pytest.approx(aucs.std(ddof=1) / np.sqrt(5), rel=0.1)


def test_holm_equals_its_definition():
    p_values = [0.01, 0.04, 0.03, 0.005, 0.9]
    expected = {}
    largest = 0.0
    for rank, p in enumerate(sorted(p_values)):
        largest = max(largest, min(1, p * (len(p_values) - rank)))
        expected[p] = largest
    assert holm(p_values).tolist() == pytest.approx([expected[p] for p in p_values])


def test_intervals_of_decisions_are_wilsons_and_a_bootstraps():
    found = decision_intervals(0.9, 0.75, 40, 80)
    for name, share, count in (("sensitivity", 0.9, 40), ("specificity", 0.75, 80)):
        z, n = 1.959963985, count
        middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
        assert found[name] == pytest.approx((middle - half, middle + half), abs=1e-6)
    rng = np.random.default_rng(1)
    patients, controls = np.repeat([1, 0], [36, 4]), np.repeat([1, 0], [60, 20])
    means = [(rng.choice(patients, 40).mean() + rng.choice(controls, 80).mean()) / 2 for _ in range(5000)]
    assert found["balanced_accuracy"] == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.01)
