"""Who is meant by a participant id: what counts as the same person, and what only looks like it."""

from __future__ import annotations

import re

# BIDS writes these before an id in file names and, optionally, in tables.
BIDS_PREFIXES = {"participant_id": "sub-", "session_id": "ses-"}
_PREFIX = re.compile(r"^sub(?:[-_ ]|(?=\d))")


def without_prefix(name: str, value: str) -> str:
    """Return an id without its BIDS prefix (`sub-`, `ses-`).

    Args:
        name: the field, `participant_id` or `session_id`; other fields have no prefix.
        value: the id as written.

    Example:
        >>> without_prefix("session_id", "ses-02")
        '02'
    """
    return value.removeprefix(BIDS_PREFIXES.get(name, ""))


def person_of(participant_id: object) -> str:
    """The person that an id names: `sub-1`, `1` and the number 1 are one person, everywhere.

    Whatever is split, folded, averaged, held out or compared with the digests of a card goes by this.

    Args:
        participant_id: as a table, a datalist or a result states it; None is nobody.

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
