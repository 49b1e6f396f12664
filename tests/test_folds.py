"""Folds and draws: nobody on both sides, every class in each, the same for any order of the rows."""

import doctest

import numpy as np
import pytest

from bundle import folds
from bundle.folds import group_folds, nested_draws


def test_the_examples_in_the_docstrings_run():
    assert doctest.testmod(folds).failed == 0


def people(n, sessions=1, patients=0.3):
    names = np.repeat([f"p{i}" for i in range(n)], sessions)
    labels = np.repeat((np.arange(n) < patients * n).astype(int), sessions)
    return labels, names


def test_draws_are_nested_stratified_and_whole():
    labels, names = people(100, sessions=2)
    draws = nested_draws(labels, names, [60, 10, 30], 5, seed=0)
    assert set(draws) == {(s, d) for s in (10, 30, 60) for d in range(5)}
    for draw in range(5):
        small, middle, large = (draws[size, draw] for size in (10, 30, 60))
        assert set(small) < set(middle) < set(large)
        assert [len(set(names[rows])) for rows in (small, middle, large)] == [10, 30, 60]
        assert [len(rows) for rows in (small, middle, large)] == [20, 60, 120]
        assert [labels[rows].mean() for rows in (small, middle, large)] == pytest.approx([0.3] * 3)


def test_draws_depend_on_seed_and_draw_but_not_on_row_order():
    labels, names = people(50)
    draws = nested_draws(labels, names, [20], 2, seed=0)
    order = np.random.default_rng(1).permutation(50)
    again = nested_draws(labels[order], names[order], [20], 2, seed=0)
    assert set(names[draws[20, 1]]) == set(names[order][again[20, 1]])
    assert set(draws[20, 0]) != set(draws[20, 1])
    assert set(draws[20, 0]) != set(nested_draws(labels, names, [20], 1, seed=1)[20, 0])


@pytest.mark.parametrize(("size", "patients"), [(51, 0.3), (10, 0.02), (0, 0.3)])
def test_a_draw_that_is_too_large_or_misses_a_class_is_refused(size, patients):
    labels, names = people(50, patients=patients)
    with pytest.raises(ValueError, match=f"{size} participants cannot be drawn"):
        nested_draws(labels, names, [size], 1, seed=0)


@pytest.mark.parametrize("labels", [[0, -1], [0, float("nan")], [0]])
def test_unknown_labels_are_refused(labels):
    with pytest.raises(ValueError, match="leave rows of unknown label out"):
        group_folds(labels, ["a", "b"], 2, seed=0)


def test_folds_cover_everybody_once_without_dividing_anybody():
    labels, names = people(47, sessions=2)
    folds = group_folds(labels, names, 5, seed=0)
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(94))
    for train, test in folds:
        assert not set(names[train]) & set(names[test])
        assert len(train) + len(test) == 94
        assert abs(len(set(names[test])) - 47 / 5) < 1
        assert abs(labels[test].sum() / 2 - 15 / 5) <= 1


def test_folds_depend_on_the_seed_but_not_on_row_order():
    labels, names = people(40)
    order = np.random.default_rng(1).permutation(40)
    first = group_folds(labels, names, 4, seed=0)
    again = group_folds(labels[order], names[order], 4, seed=0)
    assert [set(names[t]) for _, t in first] == [set(names[order][t]) for _, t in again]
    other = group_folds(labels, names, 4, seed=1)
    assert set(first[0][1]) != set(other[0][1])


@pytest.mark.parametrize("n_folds", [1, 16])
def test_more_folds_than_people_of_a_label_are_refused(n_folds):
    with pytest.raises(ValueError, match=f"{n_folds} folds cannot be made: label"):
        group_folds(*people(50), n_folds, seed=0)
