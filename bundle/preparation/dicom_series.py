"""DICOM series of one study: listed, and the T1w scan among them chosen by rule, or asked for."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from bundle.preparation.dicom_contrast import Fault, contrast_fault, why_taken
from bundle.preparation.dicom_geometry import spacing_of, stack_fault
from bundle.preparation.dicom_headers import Slice
from bundle.preparation.privacy import description_of

SHOWN = 20  # series that a message lists


@dataclass(frozen=True)
class Series:
    """Files of one series of one patient, each once.

    Attributes:
        slices: Headers of its files.
        secrets: Words and numbers that tell who the patients of the source are.
        copies: Files that were left out, because they are byte for byte the same as others.
        is_shared: Whether another patient has files of the same series.
    """

    slices: tuple[Slice, ...]
    secrets: frozenset[str]
    copies: int = 0
    is_shared: bool = False

    @cached_property
    def number(self) -> int | None:
        """The scanner's number."""
        stated = self.slices[0].number("SeriesNumber")
        return None if stated is None or not math.isfinite(stated) else int(stated)

    @cached_property
    def label(self) -> str:
        """How messages call it: its number, and what may be printed of its description."""
        said = description_of(self.slices[0].text("SeriesDescription"), self.secrets)
        name = "series without a number" if self.number is None else f"series {self.number}"
        return f"{name} ({said})" if said else name

    @cached_property
    def stack(self) -> str:
        """What is wrong with where its slices lie; empty where nothing is."""
        return stack_fault(self.slices)

    @cached_property
    def fault(self) -> Fault | None:
        """Why it is not taken as T1w scan; None where it is a candidate."""
        if self.is_shared:
            return Fault("its files name several patients")
        spacing = None if self.stack else spacing_of(self.slices)
        found = contrast_fault(self.slices[0], spacing)
        return found if (found and found.is_final) or not self.stack else Fault(self.stack)


@dataclass(frozen=True)
class Choice:
    """What became of a study.

    Attributes:
        series: The one to prepare; None where there is none, or a question.
        reason: Sentences on why there is none.
        remarks: Sentences on how it was chosen.
    """

    series: Series | None
    reason: str = ""
    remarks: tuple[str, ...] = ()


def studies_of(slices: Iterable[Slice], secrets: frozenset[str]) -> list[list[Series]]:
    """Group headers: a list for each study of each patient, of series in the order of their numbers.

    Args:
        slices: Headers of files of one source.
        secrets: Words and numbers that tell who the patients are.
    """
    studies: dict[tuple[str, str], dict[str, list[Slice]]] = {}
    for one in slices:
        study = studies.setdefault((one.patient, one.text("StudyInstanceUID")), {})
        study.setdefault(one.text("SeriesInstanceUID"), []).append(one)
    patients = {(uid, patient) for (patient, _), study in studies.items() for uid in study}
    owners = Counter(uid for uid, _ in patients)
    return [
        sorted((_once(files, secrets, uid != "" and owners[uid] > 1) for uid, files in study.items()), key=_order)
        for study in studies.values()
    ]


def choose(study: Sequence[Series], wanted: int | None = None) -> Choice:
    """Choose the T1w scan of a study.

    Args:
        study: Its series.
        wanted: Number of the series that the user asks for; None leaves it to the rules.
    """
    if wanted is not None:
        return _asked_for(study, wanted)
    good = [series for series in study if series.fault is None]
    if len(good) > 1:
        return Choice(None, f"Several series are T1w scans: {_listed(good)}. {_how(good)}")
    if good:
        return Choice(good[0], remarks=(_taken(good[0]), *_others(study, good[0]), *_copies(good[0])))
    doubtful = [series for series in study if series.fault and not series.fault.is_final]
    if len(study) == 1:
        return Choice(None, f"The {study[0].label} is not taken: {_why(study[0])}.{_settle(doubtful)}")
    reasons = "; ".join(f"{series.label}: {_why(series)}" for series in study[:SHOWN])
    more = f"; and {len(study) - SHOWN} more" if len(study) > SHOWN else ""
    none = f"None of {len(study)} series is a T1w scan that can be prepared"
    return Choice(None, f"{none}: {reasons}{more}.{_settle(doubtful)}")


def _asked_for(study: Sequence[Series], wanted: int) -> Choice:
    found = [series for series in study if series.number == wanted]
    if not found:
        return Choice(None, f"It has no series {wanted}; it has {_listed(study)}. Give one of these with `--series`.")
    if len(found) > 1:
        return Choice(None, f"{len(found)} series have the number {wanted}; give the folder of the one that is meant.")
    series = found[0]
    if series.fault and series.fault.is_final:
        return Choice(None, f"The {series.label} cannot be prepared: {_why(series)}.")
    doubt = f", although {_why(series)}" if series.fault else ""
    said = f"The {series.label} was asked for with `--series {wanted}`{doubt}."
    return Choice(series, remarks=(said, *_others(study, series), *_copies(series)))


def _once(files: Sequence[Slice], secrets: frozenset[str], is_shared: bool) -> Series:
    """A series in which files that are the same, byte for byte, stand once."""
    uids = [one.text("SOPInstanceUID") for one in files]
    if len(set(uids)) == len(uids):
        return Series(tuple(files), secrets, is_shared=is_shared)
    seen: dict[tuple[str, str], Slice] = {}
    for uid, one in zip(uids, files, strict=True):
        seen.setdefault((uid, hashlib.sha256(one.path.read_bytes()).hexdigest()), one)
    return Series(tuple(seen.values()), secrets, len(files) - len(seen), is_shared)


def _order(series: Series) -> tuple[float, str]:
    number = float("inf") if series.number is None else float(series.number)
    return number, series.slices[0].text("SeriesInstanceUID")


def _why(series: Series) -> str:
    return series.fault.reason if series.fault else "it is a T1w scan"


def _listed(several: Sequence[Series]) -> str:
    more = f", and {len(several) - SHOWN} more" if len(several) > SHOWN else ""
    return ", ".join(f"{series.label}, {len(series.slices)} files" for series in several[:SHOWN]) + more


def _how(several: Sequence[Series]) -> str:
    numbers = [series.number for series in several]
    if None in numbers or len(set(numbers)) < len(numbers):
        return "Their numbers do not tell them apart: give the folder of the one that is meant."
    return f"Say which one is meant, such as with `--series {numbers[0]}`."


def _settle(doubtful: Sequence[Series]) -> str:
    if not doubtful or doubtful[0].number is None:
        return ""
    return f" If it is a T1w scan without contrast agent all the same, say so with `--series {doubtful[0].number}`."


def _taken(series: Series) -> str:
    return f"The {series.label} was taken: {why_taken(series.slices[0], spacing_of(series.slices))}."


def _others(study: Sequence[Series], taken: Series) -> tuple[str, ...]:
    """One sentence on the series that were not taken."""
    others = [series for series in study if series is not taken]
    if not others:
        return ()
    said = "; ".join(f"{series.label}: {_why(series)}" for series in others[:SHOWN])
    more = f"; and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
    return (f"Not taken: {said}{more}.",)


def _copies(series: Series) -> tuple[str, ...]:
    return (f"{series.copies} files are copies of others and were read once.",) if series.copies else ()
