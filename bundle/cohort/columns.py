"""Which column of a table is which of ours."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from bundle.cohort.participants import CohortError, say_codes
from bundle.cohort.words import ALIASES, canonical, is_missing, is_missing_code, plain_name
from bundle.hints import nearest, quoted

logger = logging.getLogger(__name__)

COLUMNS = ("participant_id", "session_id", "site", "age", "sex", "tiv", "label")
EXTRA_COLUMNS = ("split", "study")  # kept only where the user maps them
NOT_USED = "none"  # as a mapping: this column is not read, although it is there
_NAMES = ("participant_id", "session_id", "site", *EXTRA_COLUMNS)  # of people, visits, places and sections
_PLACES = ("site", "study")  # a person may be number 999; a site is not


def name_columns(
    cells: pd.DataFrame, columns: Mapping[str, str], table: Path, options: bool = True
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Find our columns in a table; those that are absent become empty.

    Args:
        cells: The table as text.
        columns: Our names → the table's, or `none`; others are looked up among their usual names.
        table: The file, for messages.
        options: Whether the command has options that name columns, for messages.

    Returns:
        Text under our names, and the mapping that was used.

    Raises:
        CohortError: a mapped column does not exist, two columns could be meant, or no column holds ids.
    """
    used = find_columns(cells, columns, COLUMNS, table, options)
    if "participant_id" not in used:
        advice = "name it with --participant-column NAME" if options else "name one of them participant_id"
        raise CohortError(
            f"The table {table} has no column of participant ids, only {quoted(cells.columns)}; {advice}."
        )
    logger.info("%s: columns used are %s", table, ", ".join(f"{ours} = '{theirs}'" for ours, theirs in used.items()))
    absent = [name for name in COLUMNS if name not in used]
    if absent:
        rest = quoted(name for name in cells if name not in used.values()) or "none"
        logger.info("%s: no column for %s; null in every row. Columns not used: %s", table, ", ".join(absent), rest)
    texts = pd.DataFrame({name: cells[source] for name, source in used.items()}, index=cells.index)
    texts = texts.assign(**dict.fromkeys(absent, ""))
    for name in (name for name in _NAMES if name in texts):  # "unknown" is nobody, and no site
        words = texts[name].map(canonical)
        codes = words.map(is_missing_code).astype(bool) & (name in _PLACES)
        say_codes(name, words[codes])
        texts[name] = texts[name].mask(codes | words.map(is_missing).astype(bool), "")
    return texts, used


def find_columns(
    cells: pd.DataFrame, columns: Mapping[str, str], names: Sequence[str], table: Path, options: bool = True
) -> dict[str, str]:
    """Our names → the table's, of those that are there.

    Args:
        cells: The table as text.
        columns: What the user maps.
        names: Keys of `words.ALIASES` to look up.
        table: The file, for messages.
        options: Whether the command has options that name columns, for messages.

    Raises:
        CohortError: a mapped column does not exist, or two columns could be meant.
    """
    ours = (*names, *EXTRA_COLUMNS)
    for name, source in columns.items():
        if name not in ours:
            raise CohortError(f"`columns` maps '{name}', which is none of ours{nearest(name, ours)}")
        if source not in cells and source != NOT_USED:
            near = nearest(str(source), cells.columns)
            raise CohortError(f"The table {table} has no column '{source}' for {name}{near}")
    advice = {name: f"say {option_of(name)} NAME" if options else "rename the columns" for name in names}
    used = {name: _usual(name, list(cells.columns), table, advice[name]) for name in names if name not in columns}
    found = {**used, **columns}
    return {name: source for name, source in found.items() if source in cells}


def require_columns(names: Iterable[str], there: Iterable[str], table: Path) -> None:
    """Refuse names that are no columns of a table.

    Args:
        names: Columns that are wanted, under the table's names.
        there: The columns that the table has.
        table: The file, for the message.

    Raises:
        CohortError: names the first that is missing.
    """
    known = [*there, *COLUMNS]
    for name in names:
        if name not in known:
            raise CohortError(f"The table {table} has no column '{name}'{nearest(name, known)}")


def option_of(name: str) -> str:
    """The option of `cohort` that names a column.

    Example:
        >>> option_of("participant_id")
        '--participant-column'
    """
    return f"--{name.removesuffix('_id')}-column"


def _usual(name: str, there: Sequence[str], table: Path, advice: str) -> str:
    by_alias: dict[str, list[str]] = {}
    for column in there:
        by_alias.setdefault(plain_name(column), []).append(column)
    found = [by_alias[alias] for alias in ALIASES[name] if alias in by_alias]
    if not found:
        return ""
    if len(found[0]) > 1:
        raise CohortError(
            f"The table {table} has the columns {quoted(found[0])} for {name}, and it cannot be told which is meant; "
            f"{advice}."
        )
    others = [column for columns in found[1:] for column in columns]
    if others:
        sentence = "%s: %s is read from '%s', and not from %s; if that is wrong, %s"
        logger.warning(sentence, table, name, found[0][0], quoted(others), advice)
    return found[0][0]
