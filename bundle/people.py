"""Who is one person: scans of one participant count once, whatever is estimated from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def person_of(participant_id: object) -> str:
    """The participant behind an id, which may or may not begin with BIDS' `sub-`.

    Example:
        >>> person_of("sub-01") == person_of("01")
        True
    """
    return str(participant_id).strip().removeprefix("sub-")


def person_codes(participant_ids: Sequence[Any]) -> NDArray[np.intp]:
    """A number for each participant, in the order of their first scans; a scan without an id is a person of its own.

    Shape:
        output (scans,).

    Example:
        >>> person_codes(["sub-1", "2", "1"]).tolist()
        [0, 1, 0]
    """
    names = [(person_of(name), -1) if str(name).strip() else ("", row) for row, name in enumerate(participant_ids)]
    return pd.factorize(pd.Series(names, dtype=object))[0]


def mean_of_each(values: NDArray[np.float64], people: NDArray[np.intp]) -> NDArray[np.float64]:
    """The mean of each person's scans.

    Args:
        values: of the scans.
        people: of `person_codes`.

    Shape:
        values (scans, …), people (scans,), output (persons, …).
    """
    if len(people) == (people.max(initial=-1) + 1):
        return values  # a scan each
    sums = np.zeros((people.max() + 1, *values.shape[1:]))
    np.add.at(sums, people, values)
    return sums / np.bincount(people).reshape(-1, *[1] * (values.ndim - 1))
