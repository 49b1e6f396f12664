"""Who trains and who tests: draws, folds and sites of an evaluation, none of which divides a participant."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from bundle.cohort.splits import assert_disjoint
from bundle.hints import quoted
from bundle.people import person_of, spelt_apart

logger = logging.getLogger(__name__)

_FINEST = 10**6  # denominator to which a share is read, so that 0.2 is one in five


class Trial(NamedTuple):
    """One fit and what it is tested on.

    Attributes:
        n: Training participants, as tables show them.
        draw: Trials of one draw together score every test subject once.
        train: Rows of a pool of records.
        test: Other rows of it.
    """

    n: int
    draw: int
    train: np.ndarray
    test: np.ndarray


def require_diagnoses(records: Sequence[Mapping[str, Any]], where: str) -> np.ndarray:
    """The labels of records, each 0 (control) or 1 (patient), and both there.

    Args:
        records: Records of a datalist.
        where: Name of the task and section, for the message.

    Raises:
        ValueError: labels are missing, or there are one, three or more classes; nobody is left out in silence.

    Example:
        >>> require_diagnoses([{"label": 0}, {"label": 1}], "schizophrenia").tolist()
        [0, 1]
    """
    labels = np.array([float(-1 if r.get("label") is None else r["label"]) for r in records])
    unknown = [r.get("participant_id") for r, label in zip(records, labels, strict=True) if not label >= 0]
    if unknown:
        raise ValueError(
            f"{len(unknown)} of {len(records)} records of {where} have no label: {quoted(unknown)}. Give each 0 "
            "(control) or 1 (patient), or leave these records out of the datalist."
        )
    counts = {f"{label:g}": int(count) for label, count in sorted(Counter(labels.tolist()).items())}
    if set(counts) != {"0", "1"}:
        number = {0: "is empty", 1: "has one class"}.get(len(counts), f"has {len(counts)} classes")
        raise ValueError(
            f"{where} {number}, by label {counts}, but two are needed, 0 (control) and 1 (patient); build the datalist "
            "with a diagnosis column, and with --label-values for the two diagnoses that are meant."
        )
    return labels.astype(int)


def draw_trials(
    train: Sequence[Mapping[str, Any]],
    test: Sequence[Mapping[str, Any]],
    sizes: Sequence[int],
    n_draws: int,
    seed: int,
    task: str = "the task",
) -> list[Trial]:
    """Learning curves: nested draws of N training participants, all tested on the same subjects.

    Args:
        train: Records that are drawn from.
        test: Records of the test set; together the pool is `[*train, *test]`.
        sizes: Numbers N of training participants.
        n_draws: Draws of each.
        seed: Seed; see `nested_draws`.
        task: Name of the task, for messages.

    Raises:
        ValueError: see `require_diagnoses` and `nested_draws`.
    """
    labels = require_diagnoses(train, f"'training' of {task}")
    require_diagnoses(test, f"'test' of {task}")
    rows = len(train) + np.arange(len(test))
    draws = nested_draws(labels, [r["participant_id"] for r in train], sizes, n_draws, seed)
    return [Trial(n, draw, chosen, rows) for (n, draw), chosen in draws.items()]


def fold_trials(
    records: Sequence[Mapping[str, Any]], n_folds: int, repeats: int, seed: int, task: str = "the task"
) -> list[Trial]:
    """Repeated k-fold cross-validation, stratified by label and grouped by participant; a repeat is a draw.

    Args:
        records: The pool.
        n_folds: At least 2.
        repeats: How often the pool is divided anew.
        seed: Seed of the divisions.
        task: Name of the task, for messages.

    Raises:
        ValueError: see `require_diagnoses` and `group_folds`.
    """
    labels = require_diagnoses(records, task)
    people = [r["participant_id"] for r in records]
    divisions = [group_folds(labels, people, n_folds, [seed, repeat]) for repeat in range(repeats)]
    n = min(_participants(people, train) for folds in divisions for train, _ in folds)
    return [Trial(n, draw, train, test) for draw, folds in enumerate(divisions) for train, test in folds]


def site_trials(records: Sequence[Mapping[str, Any]], task: str = "the task") -> list[Trial]:
    """Leave one site out: every subject is scored by a model that saw nobody of the site, nor themselves elsewhere.

    Args:
        records: The pool, each with a known site.
        task: Name of the task, for messages.

    Raises:
        ValueError: a site is unknown, there is one site, or without one of them a class would be missing.
    """
    labels = require_diagnoses(records, task)
    people = np.array([person_of(r["participant_id"]) for r in records])
    sites = np.array([str(r.get("site") or "") for r in records])
    names = sorted(set(sites))
    if "" in names:
        unknown = [p for p, site in zip(people, sites, strict=True) if not site]
        raise ValueError(f"The site of {quoted(unknown)} in {task} is unknown, so it cannot be left out; fill it in.")
    if len(names) < 2:
        raise ValueError(f"Leaving one site out needs two, but {task} has {quoted(names)}; use folds instead.")
    for spellings in spelt_apart(names):
        logger.warning(
            f"The sites {quoted(spellings)} of {task} differ in spelling alone: while one is tested, another trains. "
            "Write them in one way."
        )
    trials = [(np.flatnonzero(~np.isin(people, people[sites == s])), np.flatnonzero(sites == s)) for s in names]
    for site, (train, test) in zip(names, trials, strict=True):
        _require_both(labels[train], site, task)
        if len(set(labels[test])) < 2:
            kind = "controls" if labels[test][0] == 0 else "patients"
            logger.warning(f"Site '{site}' of {task} has {kind} only: it has no ROC-AUC of its own.")
    n = min(_participants(people, train) for train, _ in trials)
    return [Trial(n, 0, train, test) for train, test in trials]


def with_validation(
    training: list[dict],
    validation: list[dict],
    share: float,
    size: int | None = None,
    draw: int = 0,
    seed: int = 0,
    task: str = "the task",
) -> dict[str, list[dict]]:
    """Training and validation records of a task, the latter from the former where the datalist has none.

    Args:
        training: The datalist's section.
        validation: The datalist's section, which may be empty.
        share: Share of the training participants that validate, where it is.
        size: Participants drawn from `training` first, those who validate included; None takes all.
        draw: Number of the draw of this size; the same as a probe's.
        seed: Seed of draws and division.
        task: Name of the task, for messages.

    Returns:
        `training` and `validation`, both with both labels.

    Raises:
        ValueError: see `require_diagnoses`, `nested_draws` and `hold_out_share`; the share is not in (0, 0.5]; or a
            scan has no participant.
    """
    assert_disjoint({"training": training})
    labels = require_diagnoses(training, f"'training' of {task}")
    people = [r["participant_id"] for r in training]
    rows = (
        np.arange(len(training)) if size is None else nested_draws(labels, people, [size], draw + 1, seed)[size, draw]
    )
    if validation:
        require_diagnoses(validation, f"'validation' of {task}")
        return {"training": [training[row] for row in rows], "validation": validation}
    if not 0 < share <= 0.5:
        raise ValueError(f"`validation_share` is in (0, 0.5], but {share} was given.")
    train, held = hold_out_share(labels[rows], [people[row] for row in rows], share, [seed, draw])
    return {"training": [training[row] for row in rows[train]], "validation": [training[row] for row in rows[held]]}


def _require_both(labels: np.ndarray, site: str, task: str) -> None:
    if set(labels) != {0, 1}:
        kind = "controls" if set(labels) == {0} else "patients" if len(labels) else "nobody"
        raise ValueError(
            f"Without site '{site}', {task} has {kind} only to train on: the diagnosis cannot be told from the site. "
            "Use folds, or add sites that have both."
        )


def _participants(people: Sequence[str] | np.ndarray, rows: np.ndarray) -> int:
    return len({person_of(people[row]) for row in rows})


def nested_draws(
    labels: Sequence[int] | np.ndarray,
    participants: Sequence[str],
    sizes: Sequence[int],
    n_draws: int,
    seed: int,
) -> dict[tuple[int, int], np.ndarray]:
    """Draw training sets of growing size, stratified by label; within a draw each holds the smaller.

    Args:
        labels: Label of every row, 0 or 1 (or more classes).
        participants: Participant of every row; drawn whole.
        sizes: Numbers of participants. With several scans a participant, rows are more.
        n_draws: Number of independent draws.
        seed: Seed; the order of the rows has no influence on who is drawn.

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


def people_drawn(records: list[dict], size: int | None, seed: int) -> list[dict]:
    """Records of `size` participants, drawn by nothing but who they are; a larger draw holds a smaller.

    Args:
        records: Records with participant_id.
        size: Number of participants; None takes all.
        seed: Seed; the order of the records has no influence on who is drawn.

    Raises:
        ValueError: when there are fewer participants, or a scan has none.
    """
    if size is None:
        return records
    people = [record["participant_id"] for record in records]
    assert_disjoint({"the section": records})
    found = len({person_of(name) for name in people})
    if not 0 < size <= found:
        raise ValueError(f"`size` is {size}, but the section has {found} participants; draw at most as many.")
    rows = nested_draws(np.zeros(len(records), dtype=int), people, [size], 1, seed)[size, 0]
    return [records[row] for row in rows]


def group_folds(
    labels: Sequence[int] | np.ndarray, participants: Sequence[str], n_folds: int, seed: int | Sequence[int]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Make folds for cross-validation, stratified by label and grouped by participant.

    Args:
        labels: Label of every row, 0 or 1 (or more classes).
        participants: Participant of every row; never divided.
        n_folds: Number of folds, at least 2.
        seed: One number or several; the order of the rows has no influence.

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
    order = _by_label(person_label, seed)  # so that every run of n_folds people is spread over all folds
    fold_of = np.empty(len(names), dtype=int)
    fold_of[order] = np.arange(len(names)) % n_folds
    rows = fold_of[row_person]
    return [(np.flatnonzero(rows != k), np.flatnonzero(rows == k)) for k in range(n_folds)]


def hold_out_share(
    labels: Sequence[int] | np.ndarray, participants: Sequence[str], share: float, seed: int | Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Set a share of the participants aside, of each label as nearly that share as whole people allow.

    Args:
        labels: Label of every row, 0 or 1 (or more classes).
        participants: Participant of every row; never divided.
        share: Share of the participants, in (0, 0.5]; of 1/k it is the first of `group_folds` with k folds.
        seed: One number or several; the order of the rows has no influence.

    Returns:
        Ascending indices of the rows that are left, and of those set aside; both have every label.

    Raises:
        ValueError: a label has so few participants that none of them might be set aside.

    Example:
        >>> rest, held = hold_out_share([0, 1] * 10, [f"p{i}" for i in range(20)], 0.4, seed=0)
        >>> len(rest), len(held)
        (12, 8)
    """
    names, row_person, person_label = _persons(labels, participants)
    part = max(Fraction(share).limit_denominator(_FINEST), Fraction(1, _FINEST))
    needed = math.ceil(1 / part)
    for label, count in sorted(Counter(person_label.tolist()).items()):
        if count < needed:
            raise ValueError(
                f"A share of {share:g} cannot be held out: label {label} has {count} participants, and at least "
                f"{needed} are needed for one of them to be; give a larger share, or people in section 'validation'."
            )
    # p of every q people, evenly spread; where p is 1, every q-th.
    held = np.empty(len(names), dtype=bool)
    held[_by_label(person_label, seed)] = np.arange(len(names)) * part.numerator % part.denominator < part.numerator
    return np.flatnonzero(~held[row_person]), np.flatnonzero(held[row_person])


def _by_label(person_label: np.ndarray, seed: int | Sequence[int]) -> np.ndarray:
    """Order people at random, label after label."""
    shuffled = np.random.default_rng(seed).permutation(len(person_label))
    return shuffled[np.argsort(person_label[shuffled], kind="stable")]


def _persons(
    labels: Sequence[int] | np.ndarray, participants: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return sorted names, each row's place among them, and each person's label."""
    values = np.asarray(labels)
    people = np.array([person_of(name) for name in participants], dtype=str)
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
