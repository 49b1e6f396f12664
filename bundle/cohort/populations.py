"""Populations: people who fulfil conditions, who alone take part, or are tested after training on all others."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from bundle.cohort.conditions import Condition, holds
from bundle.cohort.participants import CohortError
from bundle.people import person_of

logger = logging.getLogger(__name__)


def scans_where(records: Sequence[dict], conditions: Sequence[Condition]) -> list[dict]:
    """The scans that fulfil all of some conditions; of a person with several, those that do.

    Conditions are applied in their order, so that `age!=n/a` may stand before `age<14`.

    Args:
        records: Scans.
        conditions: Conditions; how many each leaves is logged.

    Raises:
        CohortError: a condition leaves nobody, or see `conditions.holds`.
    """
    left = list(records)
    for condition in conditions:
        kept = [record for record, fits in zip(left, holds(condition, left, records), strict=True) if fits]
        if not kept:
            raise CohortError(f"'{condition.text}' holds for none of {len(left)} scans, so nobody would be left.")
        logger.info("'%s' holds for %d of %d scans: %s", condition.text, len(kept), len(left), described(kept))
        left = kept
    return left


def hold_out_where(records: Sequence[dict], conditions: Sequence[Condition]) -> tuple[list[dict], list[dict]]:
    """Set aside, as a test, the scans that fulfil all of some conditions.

    A person with scans on both sides is tested: their other scans are in neither part, so that the parts share nobody
    and hold one population each; a warning counts them.

    Args:
        records: Scans.
        conditions: What holds for scans of the test.

    Returns:
        The rest, and the scans set aside; what is in each is logged.

    Raises:
        CohortError: one of them is empty, or has one label only while both are known; or see `conditions.holds`.
    """
    fits = [all(each) for each in zip(*(holds(condition, records) for condition in conditions), strict=True)]
    tested = [record for record, fit in zip(records, fits, strict=True) if fit]
    people = {person_of(record["participant_id"]) for record in tested}
    rest = [record for record in records if person_of(record["participant_id"]) not in people]
    words = " and ".join(f"'{condition.text}'" for condition in conditions)
    if between := len(records) - len(rest) - len(tested):
        logger.warning("%d scans left out: their participants have other scans where %s holds", between, words)
    sides = {f"tested, where {words} holds": tested, "trained on, where it does not": rest}
    for side, scans in sides.items():
        _refuse_one_sided(side, scans, records)
        logger.info("%s: %s", side[0].upper() + side[1:], described(scans))
    return rest, tested


def described(records: Sequence[Mapping[str, Any]]) -> str:
    """How many people some scans are of, their ages, and how many have which label.

    Args:
        records: Scans.

    Example:
        >>> described([{"participant_id": "1", "age": 9.0, "label": 1}])
        '1 people, age 9 to 9, 0 of label 0, 1 of label 1'
    """
    labels = {person_of(record["participant_id"]): record["label"] for record in records}
    text = f"{len(labels)} people"
    if ages := [record["age"] for record in records if record["age"] is not None]:
        text += f", age {min(ages):.4g} to {max(ages):.4g}"
    counts = [sum(label == value for label in labels.values()) for value in (0, 1)]
    return f"{text}, {counts[0]} of label 0, {counts[1]} of label 1" if any(counts) else text


def _refuse_one_sided(side: str, scans: Sequence[Mapping[str, Any]], records: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a side without people, or without one of the labels that there are."""
    if not scans:
        raise CohortError(f"Nobody would be {side}. Expected people on both sides; give another condition.")
    there, here = ({record["label"] for record in group} - {None} for group in (records, scans))
    if missing := sorted(there - here):
        raise CohortError(
            f"Nobody of label {missing[0]} would be {side}: {described(scans)}. Expected both labels on both sides; "
            "give another condition."
        )
