"""An audit of datalists: who is there twice, what else tells the diagnosis, and which values cannot be meant."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from bundle.cohort.confounds import confound_findings, name_findings
from bundle.cohort.datalist import load_sections
from bundle.cohort.duplicates import (
    image_findings,
    overlap_findings,
    participant_findings,
    people,
    site_findings,
    weights_findings,
)
from bundle.cohort.finding import Finding
from bundle.cohort.quantities import AGE_UNITS, likely_units
from bundle.cohort.regrid import grid_findings
from bundle.files import write_json, write_text
from bundle.hints import quoted
from bundle.people import folded

SEVERITIES = {"error": "Errors", "warning": "Warnings", "note": "Notes"}
AGES = (0.0, 110.0)  # years


def audit(
    datalist: Path,
    others: Sequence[Path] = (),
    weights: Sequence[Path] = (),
    read_images: bool = True,
    workers: int = 4,
) -> list[Finding]:
    """Everything that would make results on a datalist wrong, may do so, or should be reported with them.

    Args:
        datalist: Datalist of images, or of cached volumes.
        others: Datalists that must not share participants with it.
        weights: Encoders or classifiers whose cards say on whom they were trained.
        read_images: Compare images by their voxels; a copy that was changed in any way is not recognised.
        workers: Threads that read images.

    Returns:
        Findings, errors first.

    Raises:
        CohortError: a datalist is missing or damaged.
        ValueError: a card is damaged, or belongs to other weights.
    """
    threads = workers if read_images else None
    sections = {path: load_sections(path) for path in (datalist, *others)}
    table = people(sections[datalist], threads)
    findings = [*participant_findings(table), *site_findings(table), *image_findings(table)]
    if read_images:
        findings += grid_findings(sections[datalist], workers)
    for path in others:
        findings += overlap_findings(table, people(sections[path], threads), str(path))
    for path in weights:
        findings += weights_findings(table, path)
    findings += [*section_findings(table), *value_findings(table)]
    findings += [*confound_findings(table), *name_findings(table, datalist.absolute().parent)]
    return sorted(findings, key=lambda finding: list(SEVERITIES).index(finding.severity))


def section_findings(table: pd.DataFrame) -> Iterator[Finding]:
    """Sections in which a class is missing, or that are of a single site."""
    has_patients = bool((table["label"] == 1).any())
    for section, rows in table.groupby("section", sort=False):
        classes = sorted({int(label) for label in rows["label"]} & {0, 1})
        if has_patients and classes != [0, 1]:
            there = {0: "only controls", 1: "only patients"}[classes[0]] if classes else "no diagnoses"
            yield Finding(
                "warning", "classes", f"{section} has {there}; a classifier needs both, in every section. Split again."
            )
        sites = set(rows["site"]) - {""}
        if len(set(map(folded, sites))) == 1:
            sentence = f"{section} has a single site, {quoted(sites)}: nothing there shows whether a result holds "
            yield Finding("warning", "sites", sentence + "elsewhere. Test on other sites too.")


def value_findings(table: pd.DataFrame) -> Iterator[Finding]:
    """Ages that are unknown where they are needed or cannot be years, and columns that never change."""
    has_patients = bool((table["label"] == 1).any())
    pretraining = table[table["section"] == ("" if has_patients else "training")]
    unknown = pretraining[pretraining["age"].isna()]
    if len(unknown):
        sentence = (
            f"{len(unknown)} of {len(pretraining)} scans of training are of unknown age: in y-Aware pretraining each "
            "has only its own second view as a positive. Find the ages, or leave the scans out."
        )
        yield Finding("warning", "ages", sentence, participants=tuple(unknown["participant_id"]))
    yield from _odd_ages(table[table["age"].notna()])
    for column in ("age", "sex", "tiv"):
        values = table[column][table[column].notna() & (table[column] != "")]
        if len(values) > 1 and values.nunique() == 1:
            sentence = (
                f"{column} is {values.iloc[0]} in all {len(values)} scans where it is known; is it the right column?"
            )
            yield Finding("warning", "constant", sentence)


def _odd_ages(known: pd.DataFrame) -> Iterator[Finding]:
    odd = known[~known["age"].between(*AGES)]
    if odd.empty:
        return
    median = known["age"].median()
    if median > AGES[1]:
        units = likely_units(float(median), AGES[1])
        divisors = " or ".join(f"{AGE_UNITS[unit]:.5g}" for unit in units)
        again = f"Or make the datalist again with `cohort --age-unit {units[0]}`"
        again += f" (or {units[1]})." if len(units) > 1 else "."
        looks = " or ".join(units)
        sentence = f"Half of the ages are above {median:g}: they look like {looks}. Divide them by {divisors}. {again}"
    else:
        examples = [f"{row.participant_id} is {row.age:g}" for row in odd.head(5).itertuples()]
        more = ", …" if len(odd) > len(examples) else ""
        sentence = (
            f"{len(odd)} age(s) are outside {AGES[0]:g}–{AGES[1]:g} years ({', '.join(examples)}{more}); correct them."
        )
    yield Finding("warning", "ages", sentence, participants=tuple(odd["participant_id"]))


def write_findings(path: Path, findings: Sequence[Finding]) -> None:
    """Write a table of findings, with everybody concerned: JSON by its ending, else tab-separated.

    Args:
        path: The file to write.
        findings: Findings of `audit`.
    """
    rows = [asdict(finding) for finding in findings]
    if path.suffix == ".json":
        write_json(path, {"findings": rows})
        return
    columns = list(Finding.__dataclass_fields__)
    table = pd.DataFrame([{**row, "participants": "; ".join(row["participants"])} for row in rows], columns=columns)
    write_text(path, table.to_csv(index=False, sep="\t"))


def say(findings: Sequence[Finding]) -> None:
    """Write findings to standard output, the gravest first, and count them."""
    for severity, heading in SEVERITIES.items():
        said = [f"  {f.check}: {f.sentence}" for f in findings if f.severity == severity]
        if said:
            sys.stdout.write("\n".join([f"{heading}:", *said]) + "\n\n")
    counts = Counter(finding.severity for finding in findings)
    sys.stdout.write(", ".join(f"{counts[name]} {name}(s)" for name in SEVERITIES) + "\n")
