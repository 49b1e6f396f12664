"""Conditions on scans, such as `age<14`: a column of the table, a comparison and a value."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bundle.cohort.columns import COLUMNS
from bundle.cohort.participants import CohortError
from bundle.cohort.quantities import numbers
from bundle.cohort.words import SEX_WORDS, canonical, is_missing
from bundle.hints import nearest, quoted
from bundle.people import folded, person_of, without_prefix

_SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": operator.ne,
    "==": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}
_ORDERED = ("<=", ">=", "<", ">")
# Columns whose values are names and no numbers, and the form in which each is compared.
_NAMES: dict[str, Callable[[str], str]] = {
    "participant_id": person_of,
    "session_id": lambda text: canonical(without_prefix("session_id", text)),
    "site": lambda text: folded(canonical(text)),
    "study": lambda text: folded(canonical(text)),
    "sex": lambda text: SEX_WORDS.get(canonical(text), canonical(text)),
}
_PART = re.compile(
    rf"\s*(?P<column>[^<>=!]*[^<>=!\s])\s*(?P<sign>{'|'.join(_SIGNS)})\s*(?P<value>[^<>=!]*[^<>=!\s])\s*"
)
_FORM = "Expected a column, a comparison (<, <=, >, >=, =, !=) and a value, such as 'age<14' or 'age<12 or age>=16'"


@dataclass(frozen=True)
class Part:
    """One comparison.

    Attributes:
        column: Name of the column: one of a datalist's, however it was written, or of the table's.
        sign: One of <, <=, >, >=, =, ==, !=.
        value: What is compared with, as written; `n/a` stands for unknown.
    """

    column: str
    sign: str
    value: str

    @property
    def of_unknown(self) -> bool:
        """Whether it asks if a value is known."""
        return is_missing(canonical(self.value))


@dataclass(frozen=True)
class Condition:
    """Comparisons of which at least one has to hold.

    Attributes:
        text: The condition, as written.
        parts: The comparisons, which the text joins by `or`.
    """

    text: str
    parts: tuple[Part, ...]

    @property
    def columns(self) -> list[str]:
        """Names of the columns that it reads, each once."""
        return list(dict.fromkeys(part.column for part in self.parts))


def condition_of(text: str) -> Condition:
    """Read a condition.

    Args:
        text: `age<14`, `sex=F`, `iq!=n/a`; several joined by `or`.

    Raises:
        ValueError: it is none, or compares by < or > with what is no number.

    Example:
        >>> condition_of("age < 12 or age>=16").parts[1]
        Part(column='age', sign='>=', value='16')
    """
    parts = []
    for piece in re.split(r"\s+or\s+", text):
        found = _PART.fullmatch(piece)
        if found is None:
            raise ValueError(f"'{text}' is no condition. {_FORM}.")
        part = Part(**{**found.groupdict(), "column": _ours(found["column"])})
        if part.sign in _ORDERED and math.isnan(_number(part.value)):
            raise ValueError(f"'{text}' compares by {part.sign} with '{part.value}', which is no number. {_FORM}.")
        parts.append(part)
    return Condition(text.strip(), tuple(parts))


def _ours(column: str) -> str:
    """Our name, of a column that differs from it in case alone: `Age` is in years as `age` is, whatever the table's."""
    return column.lower() if column.lower() in COLUMNS else column


def holds(
    condition: Condition, records: Sequence[Mapping[str, Any]], among: Sequence[Mapping[str, Any]] | None = None
) -> list[bool]:
    """Whether a condition holds, scan by scan.

    Ages are in years, whatever the unit of the table, head sizes in mL, labels 0 and 1, sexes in any word of
    `SEX_WORDS`, participants with or without their prefix; any other column has what the table says.

    Args:
        condition: What is asked.
        records: Scans of `read_cohort`, with the columns of the condition.
        among: Scans of which one has to have a value that is asked for by = or !=, where they are more than `records`.

    Raises:
        CohortError: there is no such column; the value of a scan is unknown or no number, so that nobody can tell; or
            no scan has the value that is asked for by = or !=, so that it may be a misspelt one.
    """
    for part in condition.parts:
        _refuse_nobodys(part, condition, records if among is None else among)
    answers = [_answers(part, condition, records) for part in condition.parts]
    return [any(each) for each in zip(*answers, strict=True)]


def _answers(part: Part, condition: Condition, records: Sequence[Mapping[str, Any]]) -> list[bool]:
    texts = _texts(part, condition, records)
    known = ~texts.map(canonical).map(is_missing).astype(bool)
    if part.of_unknown:
        return list(known if part.sign == "!=" else ~known)
    values, wanted = _compared(part, texts)
    unclear = ~known | values.isna()
    if unclear.any():
        _refuse_unclear(part, condition, [r for r, wrong in zip(records, unclear, strict=True) if wrong])
    return [bool(_SIGNS[part.sign](value, wanted)) for value in values]


def _texts(part: Part, condition: Condition, records: Sequence[Mapping[str, Any]]) -> pd.Series:
    there = {str(name) for record in records for name in record}
    if records and part.column not in there:
        raise CohortError(f"'{condition.text}' asks for a column '{part.column}'{nearest(part.column, there)}")
    return pd.Series(["" if r[part.column] is None else str(r[part.column]) for r in records], dtype=object)


def _compared(part: Part, texts: pd.Series) -> tuple[pd.Series, Any]:
    """The values of a column, NaN where one is no number, and what they are compared with."""
    number = _number(part.value)
    if part.sign in _ORDERED or not (math.isnan(number) or part.column in _NAMES):
        return numbers(part.column, texts, (-math.inf, math.inf), "", "")[0], number
    form = _NAMES.get(part.column, canonical)
    return texts.map(form), form(part.value)


def _refuse_nobodys(part: Part, condition: Condition, records: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a value that no scan has: `sex!=mael` would keep everybody, and after an `or` it would do nothing."""
    if part.sign in _ORDERED or part.of_unknown:
        return
    texts = _texts(part, condition, records)
    values, wanted = _compared(part, texts)
    if records and not (values == wanted).any():
        there = sorted(set(texts[~texts.map(canonical).map(is_missing).astype(bool)]))
        raise CohortError(
            f"'{condition.text}' asks for {part.column} '{part.value}', which no scan has{nearest(part.value, there)}"
        )


def _refuse_unclear(part: Part, condition: Condition, records: Sequence[Mapping[str, Any]]) -> None:
    people = list(dict.fromkeys(str(record["participant_id"]) for record in records))
    texts = dict.fromkeys(_texts(part, condition, records))
    said = quoted(text for text in texts if not is_missing(canonical(text)))
    found = f", but {said}, which is no number or a code for unknown" if said else ""
    raise CohortError(
        f"Nobody can tell whether '{condition.text}' holds for {len(records)} scan(s) of {quoted(people)}: their "
        f"{part.column} is not known{found}. Correct the table, or leave out scans of unknown {part.column} with "
        f"--where '{part.column}!=n/a' before any other condition."
    )


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan
