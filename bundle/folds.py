"""Who trains and who tests: draws, folds and sites of an evaluation, none of which divides a participant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np


def nested_draws(
    labels: Sequence[int] | np.ndarray,
    participants: Sequence[str],
    sizes: Sequence[int],
    n_draws: int,
    seed: int,
) -> dict[tuple[int, int], np.ndarray]:
    """Draw training sets of growing size, stratified by label; within a draw each holds the smaller.

    Args:
        labels: label of every row, 0 or 1 (or more classes).
        participants: participant of every row; drawn whole.
        sizes: numbers of participants. With several scans a participant, rows are more.
        n_draws: number of independent draws.
        seed: seed; the order of the rows has no influence on who is drawn.

    Returns:
        (size, draw) → ascending indices of rows.

    Raises:
        ValueError: a size exceeds the participants there are, or would miss a class.

    Example:
        >>> draws = nested_draws([0, 1, 0, 1], ["a", "b", "c", "d"], [2, 4], 1, seed=0)
        >>> set(draws[2, 0]) <= set(draws[4, 0])
        True
    """
    names, row_person, person_label = _persons(labels, participants)
    draws = {}
    for draw in range(n_draws):
        order = _stratified_order(person_label, np.random.default_rng([seed, draw]))
        for size in sizes:
            chosen = order[:size]
            missing = set(person_label) - set(person_label[chosen])
            if not 0 < size <= len(names) or missing:
                counts = dict(sorted(Counter(person_label.tolist()).items()))
                raise ValueError(
                    f"{size} participants cannot be drawn so that every label is among them: there "
                    f"are {len(names)}, by label {counts}; choose other sizes."
                )
            draws[size, draw] = np.flatnonzero(np.isin(row_person, chosen))
    return draws


def group_folds(
    labels: Sequence[int] | np.ndarray, participants: Sequence[str], n_folds: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Make folds for cross-validation, stratified by label and grouped by participant.

    Args:
        labels: label of every row, 0 or 1 (or more classes).
        participants: participant of every row; never divided.
        n_folds: number of folds, at least 2.
        seed: seed; the order of the rows has no influence.

    Returns:
        For every fold the ascending indices of its training and of its test rows.

    Raises:
        ValueError: a label has fewer participants than there are folds.

    Example:
        >>> folds = group_folds([0, 1, 0, 1], ["a", "b", "c", "d"], 2, seed=0)
        >>> [len(test) for _, test in folds]
        [2, 2]
    """
    names, row_person, person_label = _persons(labels, participants)
    for label, count in sorted(Counter(person_label.tolist()).items()):
        if n_folds < 2 or count < n_folds:
            raise ValueError(
                f"{n_folds} folds cannot be made: label {label} has {count} participants, and at "
                "least 2 folds with one of each label are needed; choose fewer folds."
            )
    # Label after label, so that every run of n_folds people is spread over all folds.
    shuffled = np.random.default_rng(seed).permutation(len(names))
    order = shuffled[np.argsort(person_label[shuffled], kind="stable")]
    fold_of = np.empty(len(names), dtype=int)
    fold_of[order] = np.arange(len(names)) % n_folds
    rows = fold_of[row_person]
    return [(np.flatnonzero(rows != k), np.flatnonzero(rows == k)) for k in range(n_folds)]


def _persons(
    labels: Sequence[int] | np.ndarray, participants: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return sorted names, each row's place among them, and each person's label."""
    values = np.asarray(labels)
    people = np.array([str(name).removeprefix("sub-") for name in participants], dtype=str)
    if values.shape != people.shape or not np.isin(values, range(100)).all():
        raise ValueError(
            f"Labels must be 0, 1, … for each of {len(people)} rows, found shape {values.shape} with "
            f"values {np.unique(values)[:10].tolist()}; leave rows of unknown label out."
        )
    names, row_person = np.unique(people, return_inverse=True)
    person_label = np.zeros(len(names), dtype=int)
    np.maximum.at(person_label, row_person, values.astype(int))  # patient if ever
    return names, row_person, person_label


def _stratified_order(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Order people at random so that every beginning holds each label in proportion."""
    shuffled = rng.permutation(len(labels))
    place = np.empty(len(labels))
    for label in np.unique(labels):
        members = shuffled[labels[shuffled] == label]
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
    return np.argsort(place, kind="stable")
