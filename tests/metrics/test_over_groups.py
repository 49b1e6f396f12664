"""What goes over groups: sign flips against a naive enumeration, intervals against SciPy, weighted resamples."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from bundle.metrics.over_groups import mean_over_groups, sign_flip_p, weighted_resamples
from bundle.metrics.resampling import Resamples, bootstrap_auc


def naive_sign_flips(differences):
    """All patterns of signs, one by one."""
    found = abs(sum(differences) / len(differences))
    means = [abs(sum(s * d for s, d in zip(signs, differences, strict=True)) / len(differences))
             for signs in product((1, -1), repeat=len(differences))]  # fmt: skip
    return sum(mean > found or abs(mean - found) < 1e-12 for mean in means) / len(means)


@pytest.mark.parametrize("groups", [1, 2, 5, 9])
def test_sign_flips_equal_a_naive_enumeration(groups):
    rng = np.random.default_rng(groups)
    for shift in (0.0, 0.3, 2.0):
        differences = rng.normal(shift, 1, groups)
        assert sign_flip_p(differences) == naive_sign_flips(differences.tolist())


def test_sign_flips_equal_scipy():
    differences = np.random.default_rng(3).normal(0.4, 1, 10)
    found = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    )
    assert sign_flip_p(differences) == pytest.approx(found.pvalue, abs=1e-12)


def test_ties_and_zeros_count_as_at_least_as_far():
    assert sign_flip_p([0.1, 0.2, 0.3]) == 0.25
    assert sign_flip_p([0.0, 0.0, 0.0]) == 1
    assert sign_flip_p([0.1] * 3 + [0.3]) == naive_sign_flips([0.1] * 3 + [0.3])
    assert sign_flip_p([-0.3, -0.2, -0.1]) == sign_flip_p([0.1, 0.2, 0.3])


def test_many_groups_are_sampled_from_a_seed():
    differences = np.random.default_rng(0).normal(0.35, 1, 17)
    exact = np.mean([
        abs(np.dot(signs, differences)) >= abs(differences.sum()) - 1e-9 for signs in product((1, -1), repeat=17)
    ])  # fmt: skip
    assert sign_flip_p(differences, seed=1) == sign_flip_p(differences, seed=1)
    assert sign_flip_p(differences, seed=1) != sign_flip_p(differences, seed=2)
    assert sign_flip_p(differences) == pytest.approx(exact, abs=0.01)
    assert sign_flip_p(np.ones(30), patterns=99) == 0.01  # the pattern found counts, too


def test_unknown_differences_are_refused():
    for differences in ([], [0.1, np.nan]):
        with pytest.raises(ValueError, match="at least one difference, each known"):
            sign_flip_p(differences)


def test_the_interval_over_groups_is_students():
    values = np.random.default_rng(1).normal(0.7, 0.1, 8)
    found = mean_over_groups(values)
    low, high = stats.t.interval(0.95, 7, values.mean(), stats.sem(values))
    assert found == pytest.approx((values.mean(), values.std(ddof=1), low, high))
    assert mean_over_groups([0.5, 1.0], (0, 1))[2:] == (0, 1)
    assert np.isnan(mean_over_groups([0.6])[1:]).all()


def test_weighted_resamples_are_the_weighted_mean_of_each():
    rng = np.random.default_rng(0)
    labels = [rng.permutation([0] * 12 + [1] * 8) for _ in range(3)]
    scores = [rng.normal(size=(2, 20)) + of_group for of_group in labels]
    parts = [bootstrap_auc(y, s, resamples=50, seed=g) for g, (y, s) in enumerate(zip(labels, scores, strict=True))]
    found = weighted_resamples(parts, [1, 2, 1])
    for r in range(50):
        for name in ("subjects", "draws"):
            one, two, three = (getattr(part, name)[r] for part in parts)
            assert getattr(found, name)[r] == pytest.approx(0.25 * one + 0.5 * two + 0.25 * three)
    assert weighted_resamples(parts, np.ones(3)).freedom == 3  # a seed more than one in each of three groups
    one = weighted_resamples([Resamples(np.ones(5), np.zeros(5), np.ones(5), 0)] * 2, [1, 1])
    assert one.samples.tolist() == [1] * 5
