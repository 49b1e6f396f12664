"""Who is one person, by their ids; and what counts each person once, however many scans they have."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

# BIDS writes these before an id in file names and, optionally, in tables.
BIDS_PREFIXES = {"participant_id": "sub-", "session_id": "ses-"}
_PREFIX = re.compile(r"^sub(?:[-_ ]|(?=\d))")


def without_prefix(name: str, value: str) -> str:
    """Return an id without its BIDS prefix (`sub-`, `ses-`).

    Args:
        name: The field, `participant_id` or `session_id`; other fields have no prefix.
        value: The id as written.

    Example:
        >>> without_prefix("session_id", "ses-02")
        '02'
    """
    return value.removeprefix(BIDS_PREFIXES.get(name, ""))


def person_of(participant_id: object) -> str:
    """The person that an id names: `sub-1`, `1` and the number 1 are one person, everywhere.

    Whatever is split, folded, averaged, held out or compared with the digests of a card goes by this.

    Args:
        participant_id: Id, as a table, a datalist or a result states it; None is nobody.

    Example:
        >>> {person_of(name) for name in ("sub-1", "1", 1)}
        {'1'}
        >>> person_of(None)
        ''
    """
    return "" if participant_id is None else without_prefix("participant_id", str(participant_id))


def folded(participant_id: object) -> str:
    """A person without what people vary: another prefix, case, zeros before a number, and `.0` after it.

    Two persons of one folded id may be the same; only people can tell.

    Example:
        >>> {folded(name) for name in ("sub-1", "SUB-01", "sub_001", "1", "sub1", "1.0")}
        {'1'}
    """
    core = _PREFIX.sub("", person_of(participant_id).strip().casefold())
    return re.sub(r"(?<!\d)0+(?=\d)", "", re.sub(r"^(\d+)\.0$", r"\1", core))


def spelt_apart(names: Iterable[object]) -> list[list[str]]:
    """Names of people, sites or studies that differ in spelling alone, as `folded` compares them.

    Args:
        names: Names, in any number; what is unknown (None or empty) is left out.

    Returns:
        Groups of two or more spellings, sorted.

    Example:
        >>> spelt_apart(["UCLA", "NYU", "ucla", "1", "01", "1.0", "UCLA"])
        [['01', '1', '1.0'], ['UCLA', 'ucla']]
    """
    spellings: dict[str, list[str]] = {}
    for name in sorted({str(name) for name in names if name not in (None, "")}):
        spellings.setdefault(folded(name), []).append(name)
    return [group for group in spellings.values() if len(group) > 1]


def person_codes(participant_ids: Sequence[Any]) -> NDArray[np.intp]:
    """A number for each participant, in the order of their first scans; a scan without an id is a person of its own.

    Shape:
        output (scans,).

    Example:
        >>> person_codes(["sub-1", "2", "1"]).tolist()
        [0, 1, 0]
    """
    names = [(person_of(name), -1) if person_of(name) else ("", row) for row, name in enumerate(participant_ids)]
    return pd.factorize(pd.Series(names, dtype=object))[0]


def mean_of_each(values: NDArray[np.float64], people: NDArray[np.intp]) -> NDArray[np.float64]:
    """The mean of each person's scans.

    Args:
        values: Values of the scans.
        people: People of `person_codes`.

    Shape:
        values (scans, …), people (scans,), output (persons, …).
    """
    if len(people) == (people.max(initial=-1) + 1):
        return values  # a scan each
    sums = np.zeros((people.max() + 1, *values.shape[1:]))
    np.add.at(sums, people, values)
    return sums / np.bincount(people).reshape(-1, *[1] * (values.ndim - 1))
