"""Folds and draws: nobody on both sides, every class in each, the same for any order of the rows."""

import doctest

import numpy as np
import pytest

from bundle.cohort import folds
from bundle.cohort.folds import (
    draw_trials,
    fold_trials,
    group_folds,
    hold_out_share,
    nested_draws,
    people_drawn,
    require_diagnoses,
    site_trials,
    with_validation,
)


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


def records(labels, sites=None):
    sites = ["a"] * len(labels) if sites is None else sites
    return [
        {"participant_id": f"sub-{i}", "label": label, "site": site}
        for i, (label, site) in enumerate(zip(labels, sites, strict=True))
    ]


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ([0, 1, -1, None], "2 of 4 records of the task have no label: 'sub-2', 'sub-3'"),
        ([0, 1, float("nan")], "1 of 3 records of the task have no label: 'sub-2'"),
        ([0, 0], r"the task has one class, by label \{'0': 2\}, but two are needed"),
        ([0, 1, 2], r"the task has 3 classes, by label \{'0': 1, '1': 1, '2': 1\}"),
        ([1, 2], r"the task has 2 classes, by label \{'1': 1, '2': 1\}"),
        ([], "the task is empty"),
    ],
)
def test_labels_that_are_no_diagnosis_get_their_sentence(labels, reason):
    with pytest.raises(ValueError, match=reason):
        require_diagnoses(records(labels), "the task")


def test_learning_curves_test_everybody_of_the_test_set_each_time():
    trials = draw_trials(records([0, 1] * 20), records([0, 1] * 5), [10, 20], 3, seed=0)
    assert [(t.n, t.draw) for t in trials] == [(n, d) for d in range(3) for n in (10, 20)]
    assert all(t.test.tolist() == list(range(40, 50)) for t in trials)
    assert all(t.train.max() < 40 and len(t.train) == t.n for t in trials)


def test_repeated_folds_divide_anew_and_test_everybody_once():
    trials = fold_trials(records([0, 0, 1] * 10), 3, 4, seed=0)
    assert len(trials) == 12
    tested = [[set(t.test) for t in trials if t.draw == draw] for draw in range(4)]
    assert all(sorted(set().union(*folds)) == list(range(30)) for folds in tested)
    assert len({tuple(map(tuple, map(sorted, folds))) for folds in tested}) == 4
    assert all(not set(t.train) & set(t.test) for t in trials)
    assert {t.n for t in trials} == {20}


def test_fewer_subjects_than_folds_are_refused():
    with pytest.raises(ValueError, match="5 folds cannot be made: label 1 has 2 participants"):
        fold_trials(records([0] * 10 + [1] * 2), 5, 1, seed=0)


def test_a_site_is_left_out_with_all_scans_of_its_participants():
    pool = records([0, 1, 0, 1, 0, 1], "aabbcc")
    pool.append({"participant_id": "0", "label": 0, "site": "b"})  # participant 0 of site a, elsewhere
    trials = site_trials(pool)
    assert [t.test.tolist() for t in trials] == [[0, 1], [2, 3, 6], [4, 5]]
    assert [t.train.tolist() for t in trials] == [[2, 3, 4, 5], [1, 4, 5], [0, 1, 2, 3, 6]]


def test_a_site_with_one_class_is_said_and_tested_all_the_same(caplog):
    assert len(site_trials(records([0, 1, 0, 0, 0, 1], "aabbcc"), "schizophrenia")) == 3
    assert "Site 'b' of schizophrenia has controls only: it has no ROC-AUC of its own" in caplog.text


def test_spellings_of_a_site_that_is_left_out_are_said(caplog):
    site_trials(records([0, 1] * 3, ["a", "a", "A", "A", "b", "b"]), "schizophrenia")
    assert "The sites 'A', 'a' of schizophrenia differ in spelling alone: while one is tested" in caplog.text


@pytest.mark.parametrize(
    ("labels", "sites", "reason"),
    [
        ([0, 1], "aa", "Leaving one site out needs two, but the task has 'a'"),
        ([0, 1, 0, 1], ["a", "a", "", None], "The site of '2', '3' in the task is unknown"),
        ([0, 0, 1, 1], "aabb", "Without site 'a', the task has patients only to train on"),
    ],
)
def test_sites_that_cannot_be_left_out_get_their_sentence(labels, sites, reason):
    with pytest.raises(ValueError, match=reason):
        site_trials(records(labels, list(sites)))


def test_validation_comes_out_of_the_subjects_that_a_probe_would_draw():
    pool = records([0, 1] * 50)
    sections = with_validation(pool, [], 0.2, size=40, draw=2, seed=5)
    assert {name: len(found) for name, found in sections.items()} == {"training": 32, "validation": 8}
    drawn = nested_draws([r["label"] for r in pool], [r["participant_id"] for r in pool], [40], 3, 5)[40, 2]
    both = {r["participant_id"] for r in [*sections["training"], *sections["validation"]]}
    assert both == {pool[row]["participant_id"] for row in drawn}
    assert sum(r["label"] for r in sections["validation"]) == 4


def test_a_validation_section_is_used_as_it_is():
    sections = with_validation(records([0, 1] * 10), records([0, 1]), 0.2)
    assert [len(found) for found in sections.values()] == [20, 2]
    with pytest.raises(ValueError, match="'validation' of the task has one class"):
        with_validation(records([0, 1] * 10), records([0]), 0.2)


@pytest.mark.parametrize("share", [0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 1 / 3, 0.4, 0.45, 0.5])
def test_the_share_that_validates_is_the_one_asked_for(share):
    labels, names = people(97, sessions=2, patients=0.31)
    rest, held = hold_out_share(labels, names, share, seed=[3, 1])
    assert sorted([*rest, *held]) == list(range(194))
    assert not set(names[rest]) & set(names[held])
    for label in (0, 1):
        everybody = len(set(names[labels == label]))
        assert abs(len(set(names[held][labels[held] == label])) - share * everybody) < 1
    order = np.random.default_rng(1).permutation(194)
    again = hold_out_share(labels[order], names[order], share, seed=[3, 1])[1]
    assert set(names[order][again]) == set(names[held])


@pytest.mark.parametrize("folds", [2, 3, 5, 7, 10])
def test_one_of_so_many_is_the_first_fold(folds):
    labels, names = people(50)
    train, test = group_folds(labels, names, folds, seed=[0, 0])[0]
    rest, held = hold_out_share(labels, names, 1 / folds, seed=[0, 0])
    assert (rest.tolist(), held.tolist()) == (train.tolist(), test.tolist())


def test_a_share_of_too_few_is_refused_and_of_enough_has_both_labels():
    pool = records([0] * 20 + [1] * 3)
    with pytest.raises(ValueError, match=r"share of 0.3 cannot be held out: label 1 has 3 participants.* 4 "):
        with_validation(pool, [], 0.3)
    sections = with_validation(pool, [], 0.4)
    assert [sum(r["label"] for r in found) for found in sections.values()] in ([1, 2], [2, 1])


def test_scans_without_a_participant_are_no_training():
    nameless = [{**record, "participant_id": "", "image": "x.nii"} for record in records([0, 1] * 10)]
    with pytest.raises(ValueError, match=r"The scan x\.nii has no participant_id"):
        with_validation(nameless, [], 0.2)
    with pytest.raises(ValueError, match=r"The scan x\.nii has no participant_id"):
        people_drawn(nameless, 5, 0)


def test_a_share_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"`validation_share` is in \(0, 0.5\], but 0.7 was given"):
        with_validation(records([0, 1] * 10), [], 0.7)
