"""Numbers of a table, ages in years and head sizes, as people and scanners write them."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from bundle.cohort.participants import CohortError, Faults, say_codes
from bundle.cohort.words import canonical, is_missing, is_missing_code, unit_of
from bundle.hints import quoted

logger = logging.getLogger(__name__)

AGE_UNITS = {"years": 1.0, "months": 12.0, "weeks": 365.25 / 7, "days": 365.25}  # so many make a year
AGE_RANGE = (0.0, 120.0)  # years
ANOTHER_UNIT = 0.1  # share of ages beyond the range from which on the column is taken to be in another unit
TIV_RANGE = (100.0, 5000.0)  # mL: tells millilitres from litres and from cubic millimetres
_MILLILITRES = "give millilitres (FreeSurfer writes mm³: divide by 1000), or n/a"
YEARS = "write years as a number such as 25.5, DICOM's 025Y, 89+, or n/a"
_NUMBER = r"[+-]?(?:[0-9]{1,300}[.,]?[0-9]{0,300}|[.,][0-9]{1,300})(?:[eE][+-]?[0-9]{1,9})?"
_DICOM = re.compile(r"([0-9]{1,4})([YMWD])", re.IGNORECASE)
_PER_YEAR = {unit[0]: count for unit, count in AGE_UNITS.items()}
_TOP_CODED = re.compile(r"(?:[>≥]=?\s*([0-9]{1,3})|([0-9]{1,3})\s*\+)")


def require_plausible(records: Iterable[Mapping[str, Any]], where: str) -> None:
    """Refuse ages and head sizes that nobody has: they are codes, or in another unit.

    Args:
        records: Records with `age` (years) and `tiv` (mL); NaN is unknown.
        where: Words that say where they stand, for the message.

    Raises:
        CohortError: Says how many there are, and the first.
    """
    for name, (low, high), unit in (("age", AGE_RANGE, "years"), ("tiv", TIV_RANGE, "mL")):
        values = [record[name] for record in records]
        if odd := [value for value in values if not math.isnan(value) and not low <= value <= high]:
            raise CohortError(
                f"{where}: {len(odd)} of {len(values)} scans have {name} outside of {low:g} to {high:g} {unit}, the "
                f"first {odd[0]:g}. A code for unknown, or another unit, would be taken for {unit}; correct them, or "
                "leave them empty."
            )


def numbers(
    name: str, texts: pd.Series, limits: tuple[float, float], unit: str, advice: str
) -> tuple[pd.Series, Faults]:
    """Read a column of numbers, with a point or a comma before the decimals; empty means unknown.

    Args:
        name: What the numbers are, for messages.
        texts: The column.
        limits: Lowest and highest plausible value.
        unit: Unit of the values and limits.
        advice: What to do about a value that is refused.

    Returns:
        Values (NaN = unknown or refused) and faults.
    """
    values, unread = _read(_known(name, texts, unit))
    return _within(name, texts, values, unread, limits, f"{limits[0]:g}–{limits[1]:g} {unit}", advice)


def head_sizes(texts: pd.Series) -> tuple[pd.Series, Faults]:
    """Read a column of total intracranial volumes, mL.

    Args:
        texts: The column.

    Returns:
        Values (NaN = unknown or refused) and faults.
    """
    return numbers("tiv", texts, TIV_RANGE, "mL", _MILLILITRES)


def ages(
    texts: pd.Series,
    limits: tuple[float, float] = AGE_RANGE,
    unit: str = "",
    column: str = "age",
    advice: str = YEARS,
    other_unit: str = "give the unit with --age-unit",
) -> tuple[pd.Series, Faults]:
    """Read a column of ages as years.

    Numbers, DICOM's ages (`072Y`, `006M`), and ages that are coded at the top (`89+`, which is read as 89, with a
    warning). Missing codes such as -4 and 999 are unknown.

    Args:
        texts: The column.
        limits: Lowest and highest plausible age, years.
        unit: Unit of plain numbers, among `AGE_UNITS`; empty: years, and a column that speaks of others is refused.
        column: Name of the column.
        advice: What to do about an age that is refused.
        other_unit: What to do about a column in another unit than years.

    Returns:
        Years (NaN = unknown or refused) and faults.

    Raises:
        CohortError: the unit is unknown, or the column is not in years and nobody said in what.
    """
    if unit not in ("", *AGE_UNITS):
        raise CohortError(f"An age is in {', '.join(AGE_UNITS)}, but '{unit}' was given.")
    if not unit and unit_of(column):
        raise CohortError(f"The name of the column '{column}' speaks of {unit_of(column)}, not of years; {other_unit}.")
    known = _known("age", texts, unit or "years")
    plain, unread = _read(known.map(_without_mark))
    values = plain / AGE_UNITS[unit or "years"]
    dicom = known.map(_of_dicom)
    values = values.where(dicom.isna(), dicom)
    unread = [row for row in unread if pd.isna(dicom[row])]
    _require_years(values[values.notna()], unit, column, limits, other_unit)
    if unit not in ("", "years"):  # three decimals, or thousands
        unread += _rows(known.str.fullmatch(r"[0-9]+,[0-9]{3}"))
        values[unread] = float("nan")
    _say_top_coded(known, column)
    return _within("age", texts, values, unread, limits, f"{limits[0]:g}–{limits[1]:g} years", advice)


def likely_units(age: float, oldest: float = AGE_RANGE[1]) -> list[str]:
    """The units, one or two, that an age which is too high for years may be in.

    Args:
        age: A typical age, in the unit that is asked for.
        oldest: Highest plausible age, years.

    Example:
        >>> likely_units(400), likely_units(2000), likely_units(9000)
        (['months', 'weeks'], ['weeks', 'days'], ['days'])
    """
    fitting = [unit for unit, count in AGE_UNITS.items() if unit != "years" and age <= oldest * count]
    return fitting[:2] or ["days"]


def _known(name: str, texts: pd.Series, unit: str) -> pd.Series:
    """The column without what stands for unknown, with a warning that counts codes."""
    words = texts.map(canonical)
    codes = words.map(is_missing_code)
    if unit != "years":  # 999 months is an age, and 999 mL a head
        codes &= words.str.startswith("-")
    say_codes(name, words[codes])
    return texts.mask(codes | words.map(is_missing), "")


def _read(texts: pd.Series) -> tuple[pd.Series, list[int]]:
    numeric = texts.str.fullmatch(_NUMBER).astype(bool)
    values = pd.to_numeric(texts.where(numeric, None).str.replace(",", ".")).astype(float)
    return values, _rows(~numeric & (texts != ""))


def _within(
    name: str,
    texts: pd.Series,
    values: pd.Series,
    unread: Sequence[int],
    limits: tuple[float, float],
    span: str,
    advice: str,
) -> tuple[pd.Series, Faults]:
    faults = [(i, f"{name} '{texts[i]}' is not a number; {advice}") for i in unread]
    outside = _rows(values.notna() & ~values.between(*limits))
    return values, faults + [(i, f"{name} {texts[i]} is outside {span}; {advice}") for i in outside]


def _of_dicom(text: str) -> float:
    found = _DICOM.fullmatch(text)
    return int(found[1]) / _PER_YEAR[found[2].lower()] if found else float("nan")


def _without_mark(text: str) -> str:
    found = _TOP_CODED.fullmatch(text)
    return (found[1] or found[2]) if found else text


def _say_top_coded(known: pd.Series, column: str) -> None:
    words = known[known.map(lambda text: bool(_TOP_CODED.fullmatch(text)))]
    if len(words):
        stated = quoted(sorted(set(words)))
        logger.warning("%d age(s) in '%s' are coded at the top, %s: the number is taken", len(words), column, stated)


def _require_years(values: pd.Series, unit: str, column: str, limits: tuple[float, float], advice: str) -> None:
    """Refuse a column of which too much is beyond a human age: the rest would be wrong, too."""
    beyond = values[values > limits[1]]
    if unit == "years" or len(beyond) <= ANOTHER_UNIT * len(values) or len(beyond) < 2:
        return
    meant = " or ".join(likely_units(float(beyond.median()), limits[1]))
    if unit:
        raise CohortError(
            f"The ages in '{column}' are not in {unit}: {len(beyond)} of {len(values)} are above {limits[1]:g} years."
        )
    raise CohortError(
        f"{len(beyond)} of {len(values)} ages in '{column}' are above {limits[1]:g}, the highest {beyond.max():g}: "
        f"they look like {meant}, not years; {advice} {meant}."
    )


def _rows(mask: pd.Series) -> list[int]:
    return [int(row) for row in mask.index[mask.astype(bool)]]
