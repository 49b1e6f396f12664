"""What a table of participants says: ids, sexes and diagnoses, row by row, and how it is refused."""

from __future__ import annotations

import logging
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bundle.cohort.words import (
    CONTROL_WORDS,
    EXCLUDED_WORDS,
    OTHER_SEXES,
    SEX_WORDS,
    UNCLEAR_WORDS,
    canonical,
    is_missing,
    is_missing_code,
    is_number,
    plain_name,
)
from bundle.hints import quoted
from bundle.people import person_of, without_prefix

logger = logging.getLogger(__name__)

UNKNOWN = "n/a"  # to what an option leads a word that says nothing
_UNSAFE = "contains a path separator, '..' or a control character; rename it"
_PRINTED = 20
_ADVICE = "Correct them, or leave these scans out with --skip-invalid."
_BECAME: dict[object, str] = {0: "0 (control)", 1: "1 (patient)", None: "unknown"}

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
        problems: A sentence, or the problems, which the message then lists by subject.
        advice: What to do about the problems.

    Attributes:
        problems: All of them, also those that the message leaves out.
    """

    def __init__(self, problems: str | Sequence[Problem], advice: str = _ADVICE) -> None:
        self.problems = [] if isinstance(problems, str) else list(problems)
        super().__init__(problems if isinstance(problems, str) else _listed(self.problems, advice))


def id_faults(participants: pd.Series, sessions: pd.Series) -> Faults:
    """Find ids that are missing, unsafe in a path, repeated, or written in two ways.

    Args:
        participants: The column of participant ids.
        sessions: The column of session ids, empty where there is none.
    """
    named = participants != ""
    faults = [(i, f"row {i + 1} has no participant_id; give it one") for i in _where(~named)]
    for name, ids in (("participant_id", participants), ("session_id", sessions)):
        unsafe = ids.str.contains(r"[/\\\x00-\x1f\x7f]|\.\.", regex=True)
        faults += [(i, f"{name} '{ids[i]}' {_UNSAFE}") for i in _where(unsafe)]
    person = participants[named].map(person_of)
    for rows in _repeated(person, sessions[named]):
        listed = ", ".join(str(row + 1) for row in rows)
        advice = "keep one row per scan, or name the column of sessions with --session-column"
        faults += [(row, f"rows {listed} have the same participant and session; {advice}") for row in rows]
    mixed = participants[named].groupby(person).transform("nunique") > 1
    how = "is written with and without 'sub-' in this table; write it in one way"
    return faults + [(i, f"participant_id '{participants[i]}' {how}") for i in _where(mixed)]


def refuse_ids_of_several_sites(participants: pd.Series, sessions: pd.Series, sites: pd.Series) -> None:
    """Refuse a table in which sites have numbered their participants alike: nobody can tell who is one person.

    Args:
        participants: The column of participant ids.
        sessions: The column of session ids, empty where there is none.
        sites: The column of sites, empty where unknown.

    Raises:
        CohortError: once for the table, when rows of one participant and session have different sites.
    """
    named = participants[participants != ""]
    repeated = _repeated(named.map(person_of), sessions[named.index])
    alike = [rows for rows in repeated if len(set(sites[rows]) - {""}) > 1]
    if alike:
        first = alike[0][0]
        raise CohortError(
            f"{len(alike)} participant_id(s) stand at several sites, without a session that tells the scans apart; the "
            f"first is '{participants[first]}' at {quoted(dict.fromkeys(sites[alike[0]]))}. If these are different "
            f"people, put the site in front of every id, such as '{sites[first]}_{participants[first]}'. If one person "
            "was scanned at several sites, name the column of sessions with --session-column."
        )


def _repeated(people: pd.Series, sessions: pd.Series) -> list[list[int]]:
    """Rows of one person and session, where there are several."""
    scan = people + "\0" + sessions.map(lambda text: without_prefix("session_id", text))
    groups = scan[scan.duplicated(keep=False)].groupby(scan)
    return [[int(row) for row in rows.index] for _, rows in groups]


def sexes(
    texts: pd.Series, sex_values: Mapping[str, str | None] | None, column: str = "sex", options: bool = True
) -> tuple[pd.Series, Faults]:
    """Read a column of sexes as F and M; codes need a mapping, because 1 means both in practice.

    Args:
        texts: The column.
        sex_values: Code → "F", "M" or None (unknown), beside the words of `SEX_WORDS`; BIDS's O is unknown.
        column: Name of the column; in Spanish M alone may be mujer or masculino.
        options: Whether the command has an option `--sex-values`, for messages.

    Returns:
        Values (null = unknown or refused) and faults.

    Raises:
        CohortError: the mapping leads to something other than F and M, or a letter could mean both.
    """
    stated = _stated(sex_values or {}, "sex_values")
    mapped = {word: None if sex is None else SEX_WORDS.get(canonical(sex)) for word, sex in stated.items()}
    if any(sex is None and stated[word] is not None for word, sex in mapped.items()):
        raise CohortError(f"sex_values must lead to 'F' or 'M' (or n/a), found {dict(sex_values or {})}.")
    words = texts.map(canonical)
    _refuse_letters(set(words) - set(mapped), column, options)
    unknown = {word for word in words if word in OTHER_SEXES or is_missing(word) or is_missing_code(word)}
    known = SEX_WORDS | dict.fromkeys(unknown) | mapped
    values = words.map(known.get).astype(object)
    _say_counts(column, texts, words, known)
    advice = "write F, M or n/a"
    if options:
        advice += f", or say what it means: --sex-values {{}}=?, where ? is F, M or {UNKNOWN}"
    unread = _where(~words.isin(list(known)))
    return values, [(i, f"sex '{texts[i]}' is not understood; {advice.format(shlex.quote(texts[i]))}") for i in unread]


def _refuse_letters(words: set[str], column: str, options: bool) -> None:
    """Refuse letters that are one sex in one language and the other, or none, in another."""
    mujer = plain_name(column) in ("sexo", "genero") and "m" in words and "f" not in words
    for letters, found, meanings, given in (
        ("H and M", {"h", "m"} <= words, "hombre and mujer, or homme and male", "H=M M=F, or H=M M=M"),
        ("M, and no F", mujer, "mujer, or masculino", "M=F, or M=M"),
        ("U and D", {"u", "d"} <= words, "uomo and donna, or unknown and diverse", "U=M D=F, or U=n/a D=n/a"),
    ):
        if found:
            raise CohortError(
                f"The column '{column}' holds {letters}: {meanings}? "
                + (f"Say which, with --sex-values {given}." if options else "Write F, M or n/a there.")
            )


def labels(texts: pd.Series, label_values: Mapping[str, int | None] | None, column: str) -> tuple[pd.Series, Faults]:
    """Read a column of diagnoses as 0 (control) and 1 (patient).

    Args:
        texts: The column.
        label_values: Diagnosis → 0, 1 or None (unknown). Without it 0 and 1 are taken as they are, known words for
            controls are 0, and one other word beside them is 1; whatever else there is, is refused. What stands for
            unknown (n/a, -4, excluded, …) is unknown, with and without it.
        column: Name of the column, for messages; empty when there is none.

    Returns:
        Values (null = unknown or refused) and faults.

    Raises:
        CohortError: it cannot be told which diagnosis is which.
    """
    words = texts.map(canonical)
    unknown = {word for word in set(words) if is_missing(word) or is_missing_code(word) or word in EXCLUDED_WORDS}
    guess = label_values is None
    codes = _guessed(texts, words, unknown, column) if guess else _stated(label_values or {}, "label_values")
    if not set(codes.values()) <= {0, 1, None} or not (guess or column):
        raise CohortError(
            f"label_values {dict(label_values or {})} must lead a column of diagnoses to 0 (control) and 1 (patient); "
            f"the column is '{column}'. Name it with --label-column NAME."
        )
    known = dict.fromkeys(unknown) | codes
    values = words.map(known.get).astype(object)
    _say_counts(column, texts, words, known)
    advice = "add it to --label-values, or leave these rows out"
    stated = quoted(codes)
    return values, [
        (i, f"diagnosis '{texts[i]}' is not among {stated}; {advice}") for i in _where(~words.isin(list(known)))
    ]


def _guessed(texts: pd.Series, words: pd.Series, unknown: set[str], column: str) -> dict[str, int | None]:
    there = sorted(set(words) - unknown)
    ours = there == ["1"] and column.lower() == "label" and "-1" not in unknown  # -1 and 1 are two classes elsewhere
    if there in ([], ["0"], ["0", "1"]) or ours:
        return {"0": 0, "1": 1}
    controls = [word for word in there if word in CONTROL_WORDS]
    others = [word for word in there if word not in CONTROL_WORDS]
    unclear = [word for word in others if word in UNCLEAR_WORDS or is_number(word)]
    if len(others) > 1 or unclear or (others and not controls):
        spelt = {word: texts[words == word].iloc[0] for word in there}
        counts = ", ".join(f"'{spelt[word]}' ({(words == word).sum()})" for word in there[:_PRINTED])
        given = " ".join(shlex.quote(f"{spelt[word]}={'0' if word in controls else '?'}") for word in there[:_PRINTED])
        raise CohortError(
            f"The column '{column}' holds {len(there)} diagnoses, by rows {counts}, and it cannot be told "
            f"which are controls and which patients; say it with --label-values {given}, where ? is 0 (control), 1 "
            f"(patient) or {UNKNOWN} (unknown), or leave the column unread with --label-column none."
        )
    return {**dict.fromkeys(controls, 0), **dict.fromkeys(others, 1)}


def _stated(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What a mapping says of each word; words that are compared as one must lead to one value."""
    stated: dict[str, Any] = {}
    for word, value in values.items():
        if stated.setdefault(canonical(word), value) != value:
            raise CohortError(f"{name} leads '{canonical(word)}' to {stated[canonical(word)]} and to {value}.")
    return stated


def _say_counts(column: str, texts: pd.Series, words: pd.Series, meanings: Mapping[str, object]) -> None:
    """Log how many rows each word has, and what it became."""
    spelt = texts.groupby(words).first()
    counts = {word: count for word, count in Counter(words).items() if word in meanings}
    said = [
        f"{quoted([spelt[word]])} in {count} row(s): {_BECAME.get(meanings[word], meanings[word])}"
        for word, count in counts.items()
    ]
    if any(spelt[word] for word in counts):
        logger.info("What the words of '%s' became: %s", column, "; ".join(said))


def say_codes(name: str, codes: pd.Series) -> None:
    """Warn of codes that are taken as unknown, each with the number of its rows.

    Args:
        name: The column, as ours.
        codes: The codes of the rows that have one, as `canonical` gives them.
    """
    if len(codes):
        stated = ", ".join(f"{word} in {count} row(s)" for word, count in Counter(codes).items())
        logger.warning("%s %s: taken as a code for unknown", name, stated)


def _where(mask: pd.Series) -> list[int]:
    return [int(row) for row in mask.index[mask.astype(bool)]]


def _listed(problems: Sequence[Problem], advice: str) -> str:
    scans: dict[str, list[str]] = {}
    for problem in problems:
        name = " ".join(filter(None, (problem.participant_id, problem.session_id)))
        scans.setdefault(name or "(no id)", []).append(problem.reason)
    lines = [f"  {name}: {'; '.join(dict.fromkeys(reasons))}." for name, reasons in scans.items()]
    if len(lines) > _PRINTED:
        lines[_PRINTED:] = [f"  … and {len(lines) - _PRINTED} more."]
    head = f"{len(problems)} problem(s) in {len(scans)} scan(s):"
    return "\n".join([head, *lines, advice])
