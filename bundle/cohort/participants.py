"""What a table of participants says: its columns, ids, ages, sexes and diagnoses, row by row."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bundle.hints import nearest, quoted

logger = logging.getLogger(__name__)

# Our name → names it goes by in tables; earlier ones win, case is ignored.
ALIASES = {
    "participant_id": ("participant_id", "participant", "subject_id", "subject"),
    "session_id": ("session_id", "session", "ses"),
    "site": ("siteXacq", "site", "site_id", "center", "centre"),
    "age": ("age", "age_years"),
    "sex": ("sex", "gender"),
    "tiv": ("tiv", "tiv_ml", "etiv"),
    "label": ("label", "diagnosis", "dx"),
}
EXTRA_COLUMNS = ("split", "study")  # kept only where the user maps them
CONTROL_WORDS = frozenset(["control", "controls", "healthy", "healthy control", "healthy controls", "hc", "cn"])
TIV_RANGE = (100.0, 5000.0)  # mL: tells millilitres from litres and from cubic millimetres
_SEX_WORDS = {"f": "F", "female": "F", "m": "M", "male": "M"}
_MISSING = ("", "n/a", "na", "nan", "null")
_NUMBER = r"[+-]?(?:[0-9]{1,300}\.?[0-9]{0,300}|\.[0-9]{1,300})(?:[eE][+-]?[0-9]{1,9})?"
_UNSAFE = "contains a path separator, '..' or a control character; rename it"
_PRINTED = 20
_ADVICE = "Correct them, or leave these scans out with --skip-invalid."

Faults = list[tuple[int, str]]  # (row, sentence)


@dataclass(frozen=True)
class Problem:
    """One reason why one scan cannot be used; an empty string where something is not known."""

    participant_id: str
    session_id: str
    image: str
    reason: str


class CohortError(ValueError):
    """Refusal of a table, of its scans or of a datalist.

    Args:
        problems: a sentence, or the problems, which the message then lists by subject.
        advice: what to do about the problems.

    Attributes:
        problems: all of them, also those that the message leaves out.
    """

    def __init__(self, problems: str | Sequence[Problem], advice: str = _ADVICE) -> None:
        self.problems = [] if isinstance(problems, str) else list(problems)
        super().__init__(problems if isinstance(problems, str) else _listed(self.problems, advice))


def read_table(path: Path) -> pd.DataFrame:
    """Read a table as text: ids keep their zeros, missing values are empty strings.

    Args:
        path: a tab-, comma- or semicolon-separated file with a header, in UTF-8.

    Raises:
        CohortError: there is no such table, or it is damaged, empty or has a column twice.
    """
    if not path.is_file():
        raise CohortError(f"The table {path} does not exist; give a .tsv or .csv file.")
    try:
        cells = _parsed(path)
    except ValueError as error:  # pandas' and Unicode's errors are ValueErrors
        raise CohortError(
            f"The table {path} cannot be read ({' '.join(str(error).split())}); save it again."
        ) from error
    names = [str(name).strip() for name in cells.iloc[0]]
    twice = [name for name, count in Counter(names).items() if count > 1 and name]
    if twice:
        raise CohortError(f"The table {path} has several columns {quoted(twice)}; rename them.")
    cells = cells.iloc[1:].set_axis(names, axis=1).apply(lambda column: column.str.strip())
    cells = cells.mask(cells.apply(lambda column: column.str.lower().isin(_MISSING)), "")
    cells = cells[(cells != "").any(axis=1)].reset_index(drop=True)
    if cells.empty:
        raise CohortError(f"The table {path} has no rows below its header; expected one per scan.")
    return cells


def _parsed(path: Path) -> pd.DataFrame:
    with path.open(encoding="utf-8-sig") as file:
        header = file.readline()
    separator = "\t" if "\t" in header else max(",;", key=header.count)
    options: dict[str, Any] = {"header": None, "dtype": str, "keep_default_na": False}
    # Not compressed, whatever its name ends in: a small archive may unpack to anything.
    cells = pd.read_csv(path, sep=separator, encoding="utf-8-sig", compression=None, **options)
    return cells.fillna("").astype(object)


def name_columns(cells: pd.DataFrame, columns: Mapping[str, str], table: Path) -> tuple[pd.DataFrame, dict[str, str]]:
    """Find our columns in a table; those that are absent become empty.

    Args:
        cells: the table as text.
        columns: our names → the table's; others are looked up among their usual names.
        table: the file, for messages.

    Returns:
        Text under our names, and the mapping that was used.

    Raises:
        CohortError: a mapped column does not exist, or no column holds ids.
    """
    ours = (*ALIASES, *EXTRA_COLUMNS)
    for name, source in columns.items():
        if name not in ours:
            raise CohortError(f"`columns` maps '{name}', which is none of ours{nearest(name, ours)}")
        if source not in cells:
            near = nearest(str(source), cells.columns)
            raise CohortError(f"The table {table} has no column '{source}' for {name}{near}")
    used = {**_usual(list(cells.columns)), **columns}
    if "participant_id" not in used:
        raise CohortError(
            f"The table {table} has no column of participant ids, only {quoted(cells.columns)}; "
            "name it with columns={'participant_id': …}."
        )
    logger.info("%s: columns used are %s", table, used)
    absent = [name for name in ALIASES if name not in used]
    if absent:
        logger.info("%s: no column for %s; null in every row", table, ", ".join(absent))
    texts = pd.DataFrame({name: cells[source] for name, source in used.items()})
    return texts.assign(**dict.fromkeys(absent, "")), used


def _usual(found: Sequence[str]) -> dict[str, str]:
    exact = {name.lower(): name for name in reversed(found)}
    usual: dict[str, str] = {}
    for name, aliases in ALIASES.items():
        source = next((exact[a.lower()] for a in aliases if a.lower() in exact), None)
        if source is not None:
            usual[name] = source
    return usual


def id_faults(participants: pd.Series, sessions: pd.Series) -> Faults:
    """Find ids that are missing, unsafe in a path, repeated, or written in two ways.

    Args:
        participants: the column of participant ids.
        sessions: the column of session ids, empty where there is none.
    """
    named = participants != ""
    faults = [(i, f"row {i + 1} has no participant_id; give it one") for i in _where(~named)]
    for name, ids in (("participant_id", participants), ("session_id", sessions)):
        unsafe = ids.str.contains(r"[/\\\x00-\x1f\x7f]|\.\.", regex=True)
        faults += [(i, f"{name} '{ids[i]}' {_UNSAFE}") for i in _where(unsafe)]
    person = participants[named].str.removeprefix("sub-")
    scan = person + "\0" + sessions[named].str.removeprefix("ses-")
    for _, rows in scan[scan.duplicated(keep=False)].groupby(scan):
        numbers = ", ".join(str(row + 1) for row in rows.index)
        advice = "keep one row per scan, or map the column of sessions to session_id"
        sentence = f"rows {numbers} have the same participant and session; {advice}"
        faults += [(int(row), sentence) for row in rows.index]
    mixed = participants[named].groupby(person).transform("nunique") > 1
    how = "is written with and without 'sub-' in this table; write it in one way"
    return faults + [(i, f"participant_id '{participants[i]}' {how}") for i in _where(mixed)]


def numbers(
    name: str, texts: pd.Series, limits: tuple[float, float], unit: str, advice: str
) -> tuple[pd.Series, Faults]:
    """Read a column of numbers; empty means unknown.

    Args:
        name: what the numbers are, for messages.
        texts: the column.
        limits: lowest and highest plausible value.
        unit: unit of the values and limits.
        advice: what to do about a value that is refused.

    Returns:
        Values (NaN = unknown or refused) and faults.
    """
    numeric = texts.str.fullmatch(_NUMBER).astype(bool)
    values = pd.to_numeric(texts.where(numeric, None)).astype(float)
    outside = values.notna() & ~values.between(*limits)
    span = f"{limits[0]:g}–{limits[1]:g} {unit}"
    unread = _where(~numeric & (texts != ""))
    faults = [(i, f"{name} '{texts[i]}' is not a number; {advice}") for i in unread]
    faults += [(i, f"{name} {texts[i]} is outside {span}; {advice}") for i in _where(outside)]
    return values, faults


def sexes(texts: pd.Series, sex_values: Mapping[str, str] | None) -> tuple[pd.Series, Faults]:
    """Read a column of sexes as F and M; codes need a mapping, because 1 means both in practice.

    Args:
        texts: the column.
        sex_values: code → "F" or "M", beside the words female, male, F and M.

    Returns:
        Values (null = unknown or refused) and faults.

    Raises:
        CohortError: the mapping leads to something other than F and M.
    """
    words = {_canonical(k): _SEX_WORDS.get(str(v).lower()) for k, v in (sex_values or {}).items()}
    if None in words.values():
        raise CohortError(f"sex_values must lead to 'F' or 'M', found {dict(sex_values or {})}.")
    values = texts.map(lambda text: {**_SEX_WORDS, **words}.get(_canonical(text)))
    unread = _where((texts != "") & values.isna())
    advice = "write F, M or n/a, or say what it means with sex_values={'1': 'M', '2': 'F'}"
    return values, [(i, f"sex '{texts[i]}' is not understood; {advice}") for i in unread]


def labels(texts: pd.Series, label_values: Mapping[str, int] | None, column: str) -> tuple[pd.Series, Faults]:
    """Read a column of diagnoses as 0 (control) and 1 (patient).

    Args:
        texts: the column.
        label_values: diagnosis → 0 or 1; None takes 0 and 1 as they are, the usual words for
            controls as 0, and exactly one other word as 1.
        column: its name in the table, for messages; empty when there is none.

    Returns:
        Values (null = unknown or refused) and faults.

    Raises:
        CohortError: it cannot be told which diagnosis is which.
    """
    words = texts.map(_canonical)
    if label_values is None:
        codes = _guessed(sorted(set(words) - {""}), column)
    else:
        codes = {_canonical(word): code for word, code in label_values.items()}
    if not set(codes.values()) <= {0, 1} or (label_values is not None and not column):
        raise CohortError(
            f"label_values {label_values} must lead a column of diagnoses to 0 (control) and 1 "
            f"(patient); the column is '{column}'. Map it with columns={{'label': …}}."
        )
    values = words.map(codes.get)
    unread = _where((texts != "") & values.isna())
    known = quoted(codes)
    advice = "add it to label_values or leave the row out"
    return values, [(i, f"diagnosis '{texts[i]}' is not among {known}; {advice}") for i in unread]


def _guessed(words: list[str], column: str) -> dict[str, int]:
    if set(words) <= {"0", "1"}:
        return {"0": 0, "1": 1}
    others = [word for word in words if word not in CONTROL_WORDS]
    unclear = [word for word in others if word == "none" or word.isdigit()]
    if len(others) > 1 or unclear:
        raise CohortError(
            f"The column '{column}' holds {len(words)} diagnoses, {quoted(words[:_PRINTED])}, and it "
            "cannot be told which are controls and which patients; say it with "
            f"label_values={{'control': 0, {others[0]!r}: 1}}."
        )
    return dict.fromkeys(CONTROL_WORDS, 0) | dict.fromkeys(others, 1)


def _canonical(text: object) -> str:
    word = str(text).strip().lower()
    return word.removesuffix(".0") if word.removesuffix(".0").isdigit() else word


def _where(mask: pd.Series) -> list[int]:
    return [int(row) for row in mask.index[mask.astype(bool)]]


def _listed(problems: Sequence[Problem], advice: str) -> str:
    scans: dict[str, list[str]] = {}
    for problem in problems:
        name = " ".join(filter(None, (problem.participant_id, problem.session_id)))
        scans.setdefault(name or "(no id)", []).append(problem.reason)
    lines = [f"  {name}: {'; '.join(reasons)}." for name, reasons in scans.items()]
    if len(lines) > _PRINTED:
        lines[_PRINTED:] = [f"  … and {len(lines) - _PRINTED} more."]
    head = f"{len(problems)} problem(s) in {len(scans)} scan(s):"
    return "\n".join([head, *lines, advice])
