"""What tells who a patient is: found in a text however it is written, and kept out of names and messages."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping

NAMES = (
    *("PatientName", "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName", "ReferringPhysicianName"),
    *("PerformingPhysicianName", "OperatorsName", "RequestingPhysician", "InstitutionName"),
)
IDS = ("PatientID", "OtherPatientIDs", "AccessionNumber", "IssuerOfPatientID", "AdmissionID")
DATES = (
    *("PatientBirthDate", "StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate", "AcquisitionDateTime"),
    *("InstanceCreationDate", "PerformedProcedureStepStartDate"),
)
WHO = NAMES + IDS + DATES  # attributes whose values are looked for
LONGEST = 40  # characters of a description
_SHORT = 3  # letters up to which a secret has to be a word of its own
_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "å": "aa", "ø": "oe", "æ": "ae"})


def secrets_of(tags: Mapping[str, Iterable[str]]) -> frozenset[str]:
    """Words and numbers that tell who a patient is, in lower case, without accents and signs.

    Args:
        tags: Values of attributes by keyword; those in `WHO` are used.
    """
    found: set[str] = set()
    for keyword in NAMES:
        for value in tags.get(keyword, ()):
            found |= {form for word in _words(value) for form in _forms(word)} | _forms(value)
    for keyword in IDS:
        for value in tags.get(keyword, ()):
            found |= _forms(value) | {digits for digits in re.findall(r"\d+", value) if len(digits) > _SHORT}
    for keyword in DATES:
        for value in tags.get(keyword, ()):
            found |= _dates(value)
    return frozenset(found - {""})


def mentions(text: str, secrets: Iterable[str]) -> bool:
    """Whether a text holds one of the secrets, however it is written.

    Args:
        text: Such as the name of a folder.
        secrets: Secrets of `secrets_of`.

    Example:
        >>> mentions("Müller, Eva 3T", secrets_of({"PatientName": ["Mueller^Eva"]}))
        True
        >>> mentions("T1w Levante", secrets_of({"PatientName": ["Mueller^Eva"]}))
        False
    """
    words = {form for word in _words(text) for form in _forms(word)}
    joined = _forms(text)
    return any(
        secret in words if len(secret) <= _SHORT else any(secret in form for form in joined) for secret in secrets
    )


def description_of(text: str, secrets: Iterable[str]) -> str:
    """What may be printed of a series' description: at most 40 plain characters, and nothing with a secret in it.

    Args:
        text: Text, as the scanner wrote it.
        secrets: Secrets of `secrets_of`.

    Example:
        >>> description_of("t1 mprage (sag)", [])
        't1_mprage_sag'
    """
    if mentions(text, secrets):
        return ""
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", text).strip("_")[:LONGEST]


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[\W_]+", text) if word]


def _forms(text: str) -> set[str]:
    """A text in lower case without accents and signs, with and without umlauts written out."""
    lower = unicodedata.normalize("NFC", text).casefold()
    spelt = (lower, lower.translate(_UMLAUTS))
    return {re.sub(r"[\W_]+", "", _without_accents(form)) for form in spelt}


def _without_accents(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))


def _dates(value: str) -> set[str]:
    """A date as 20240229, in the orders and lengths in which people write it."""
    digits = re.sub(r"\D", "", value)[:8]
    if len(digits) < 8:
        return set()
    year, month, day = digits[:4], digits[4:6], digits[6:]
    orders = {year + month + day, day + month + year, month + day + year}
    return orders | {year[2:] + month + day, day + month + year[2:], month + day + year[2:]}
