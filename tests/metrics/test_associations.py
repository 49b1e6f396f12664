"""How well a column tells the label, against double loops, SciPy, and what is known of chance."""

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from bundle.metrics.associations import (
    Association,
    by_level,
    by_number,
    cramers_v,
    cross_validated_number,
    enough,
    presence_p,
    transferred,
)

HALF = np.repeat([0, 1], 100)


def test_a_level_that_is_the_label_tells_it_all():
    told = by_level(["a"] * 100 + ["b"] * 100, HALF)
    assert (told.auc, told.balanced_accuracy, told.people) == (1, 1, 200)
    assert told.v == pytest.approx(1)
    assert told.p < 1e-20


def test_one_level_for_all_and_a_level_for_each_tell_nothing():
    for levels in (["a"] * 200, [f"s{i}" for i in range(200)]):
        told = by_level(levels, HALF)
        assert (told.auc, told.balanced_accuracy, told.v, told.p) == (0.5, 0.5, 0, 1)


def test_many_small_levels_of_chance_are_not_taken_for_knowledge():
    random = np.random.default_rng(0)
    told = [by_level(random.integers(40, size=200).tolist(), random.permutation(HALF)) for _ in range(200)]
    assert np.mean([t.auc for t in told]) == pytest.approx(0.5, abs=0.03)
    assert np.mean([t.v for t in told]) < 0.2  # without the correction: 0.44
    assert np.mean([t.p < 0.05 for t in told]) < 0.1


def test_half_of_the_people_at_telling_sites():
    levels = ["a"] * 50 + ["mixed"] * 100 + ["b"] * 50
    assert by_level(levels, HALF).auc == pytest.approx(0.875, abs=0.02)  # 1 − ½ · ½ · ½


def test_v_is_pearsons_without_the_correction_for_few_levels():
    random = np.random.default_rng(1)
    codes = np.where(random.random(5000) < 0.2, HALF.repeat(25), random.integers(2, size=5000))
    table = np.array([[np.sum((codes == c) & (HALF.repeat(25) == k)) for c in (0, 1)] for k in (0, 1)])
    found = chi2_contingency(table, correction=False)
    v, p = cramers_v(codes, HALF.repeat(25))
    assert v == pytest.approx(np.sqrt(found.statistic / 5000), abs=2e-3)
    assert np.log(p) == pytest.approx(np.log(found.pvalue), rel=1e-2)


def test_presence_is_the_same_test_for_many_features():
    random = np.random.default_rng(2)
    has = random.random((6, 200)) < random.random((6, 1))
    found = presence_p((has * HALF).sum(1).astype(float), has.sum(1).astype(float), 100, 200)
    for p, row in zip(found, has, strict=True):
        assert p == pytest.approx(cramers_v(row.astype(int), HALF)[1])
    assert presence_p(np.array([0.0, 100]), np.array([0.0, 200]), 100, 200).tolist() == [1, 1]


def test_a_number_counts_pairs():
    random = np.random.default_rng(3)
    values = random.integers(10, size=40) + np.repeat([0, 2], 20)
    labels = np.repeat([0, 1], 20)
    pairs = [(p > c) + (p == c) / 2 for p in values[labels == 1] for c in values[labels == 0]]
    told = by_number(values, labels)
    assert told.auc == pytest.approx(np.mean(pairs))
    assert told.p < 0.1
    assert by_number(-values, labels).auc == pytest.approx(1 - told.auc)
    assert by_number(np.ones(40), labels).p == 1


def test_the_direction_of_a_number_is_learned_elsewhere():
    assert cross_validated_number(-np.arange(200), HALF) == 1
    chance = [cross_validated_number(np.random.default_rng(i).random(200), HALF) for i in range(100)]
    assert np.mean(chance) < 0.52


def test_levels_are_carried_to_others_and_new_ones_say_nothing():
    assert isinstance(transferred(["a", "b"], [0, 1], ["a", "b"], [0, 1]), Association)
    assert transferred(["a", "b"] * 10, [0, 1] * 10, ["a", "b"] * 5, [0, 1] * 5).auc == 1
    assert transferred(["a", "b"] * 10, [0, 1] * 10, ["c", "d"] * 5, [0, 1] * 5).auc == 0.5


def test_how_many_are_enough():
    assert enough([0] * 5 + [1] * 5)
    assert not enough([0] * 50 + [1] * 4)
