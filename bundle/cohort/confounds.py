"""What other than the image tells the diagnosis: the site, age, sex, head size, what is unknown, and file names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from bundle.cohort.finding import Finding
from bundle.cohort.telltales import telltales
from bundle.metrics.associations import Association, by_level, by_number, enough, transferred
from bundle.metrics.resampling import holm
from bundle.people import folded

NOTABLE_AUC, NOTABLE_P = 0.6, 0.01
NUMBERS = {"age": ("older", "younger"), "tiv": ("of larger head size", "of smaller head size")}
LEVELS = ("site", "sex")
WORDS = {"site": "the site", "sex": "sex", "age": "age", "tiv": "head size (TIV)"}
ADVICE = {
    "site": "A network that recognises the site knows the diagnosis: balance the diagnoses within each site, and hold "
    "whole sites out for testing (`cohort --test-sites`, `probe --protocol sites`).",
    "other": "A network that reads it knows this much of the diagnosis: match the groups, report this number beside "
    "the result, or remove it from the features (`probe --adjust`).",
    "unknown": "Whether this is known depends on the diagnosis: find out why before you use this column.",
    "names": "A network does not read names. But scans with other names were often acquired or processed in another "
    "way, which a network does see: find out why.",
}


@dataclass(frozen=True)
class _Told:
    """One column that was compared with the label: where, how well it tells, and what to say of it."""

    check: str
    where: str
    association: Association
    detail: str
    advice: str


def confound_findings(table: pd.DataFrame) -> list[Finding]:
    """How well each known column tells the label, in each section and from training to the others.

    A warning needs a ROC-AUC of `NOTABLE_AUC` and a p value below `NOTABLE_P` after Holm's correction for all that
    were looked at; the other numbers are notes. A participant counts once, with the first scan of a section.

    Args:
        table: Table of `duplicates.people`.
    """
    known = _people(table)
    told = [t for section, rows in known.groupby("section", sort=False) for t in _section(f"In {section}", rows)]
    told += _transfers(known)
    corrected = holm([t.association.p for t in told])
    return [_worded(t, float(p)) for t, p in zip(told, corrected, strict=True)] + _unseen_sites(known)


def name_findings(table: pd.DataFrame, folder: Path) -> list[Finding]:
    """Whether file names or ids tell the label, over all sections.

    Args:
        table: Table of `duplicates.people`.
        folder: Folder of the datalist; what lies above it is the same for all.
    """
    known = _people(table).drop_duplicates("person")
    if not enough(known["label"]):
        return []
    paths = [Path(os.path.relpath(image, folder)).as_posix() for image in known["image"]]
    found, tried = telltales(paths, known["participant_id"].tolist(), known["label"].tolist(), NOTABLE_P)
    notable = [t for t in found if t.association.auc >= NOTABLE_AUC]
    if not notable:
        return [Finding("note", "file names", f"Of {tried} features of names and ids none predicts the label.")]
    fact = "Names predict the label: {0} has a cross-validated ROC-AUC of {1:.2f}, {2} corrected for {3} features."
    return [
        Finding(
            "warning",
            "file names",
            f"{fact.format(t.feature, t.association.auc, _p(t.association.p), tried)} {ADVICE['names']}",
            round(t.association.auc, 4),
            t.association.p,
        )
        for t in notable
    ]


def _people(table: pd.DataFrame) -> pd.DataFrame:
    """Those of known label, each once a section; what is unknown is NaN, and a site is one however it is spelt."""
    known = table[table["label"].isin((0, 1))].drop_duplicates(["section", "person"])
    known = known.assign(site=known["site"].map(folded))
    return known.assign(**{name: known[name].astype(object).mask(known[name] == "") for name in LEVELS})


def _section(where: str, rows: pd.DataFrame) -> Iterator[_Told]:
    for name in (*LEVELS, *NUMBERS):
        there = rows[rows[name].notna()]
        if there[name].nunique() > 1 and enough(there["label"]):
            yield _column(where, name, there)
        if 0 < len(there) < len(rows) and enough(rows["label"]):
            told = by_level(rows[name].isna().tolist(), rows["label"])
            yield _Told("unknown values", f"{where} whether {name} is known", told, "", ADVICE["unknown"])


def _column(where: str, name: str, rows: pd.DataFrame) -> _Told:
    if name in NUMBERS:
        return _numbered(where, name, by_number(rows[name], rows["label"]))
    told = by_level(rows[name].tolist(), rows["label"])
    detail = f"cross-validated; balanced accuracy {told.balanced_accuracy:.2f}, Cramér's V {told.v:.2f}"
    if name == "site":
        mixed = rows.groupby("site")["label"].nunique()
        detail += f"; {(mixed > 1).sum()} of {len(mixed)} sites have both diagnoses"
    return _Told(name, f"{where} {WORDS[name]} alone", told, detail, ADVICE["site" if name == "site" else "other"])


def _numbered(where: str, name: str, told: Association) -> _Told:
    """A number tells the label by being higher or lower; which, is said in words."""
    detail = f"patients are {NUMBERS[name][told.auc < 0.5]}"
    return _Told(
        name, f"{where} {WORDS[name]} alone", replace(told, auc=max(told.auc, 1 - told.auc)), detail, ADVICE["other"]
    )


def _worded(told: _Told, p: float) -> Finding:
    notable = told.association.auc >= NOTABLE_AUC and p < NOTABLE_P
    detail = f"; {told.detail}" if told.detail else ""
    auc = told.association.auc
    fact = f"{told.where} predicts the label with a ROC-AUC of {auc:.2f} ({_p(p)}{detail})."
    sentence = f"{fact} {told.advice}" if notable else fact
    return Finding("warning" if notable else "note", told.check, sentence, round(auc, 4), p)


def _transfers(known: pd.DataFrame) -> Iterator[_Told]:
    """What is learned of each column in training, told in the other sections."""
    training = known[known["section"] == "training"]
    for section, rows in known[known["section"] != "training"].groupby("section", sort=False):
        for name in (*LEVELS, *NUMBERS):
            old, new = training[training[name].notna()], rows[rows[name].notna()]
            if enough(old["label"]) and enough(new["label"]) and (name != "site" or _shared_sites(old, new)):
                yield _transfer(f"From training to {section}", name, old, new)


def _transfer(where: str, name: str, old: pd.DataFrame, new: pd.DataFrame) -> _Told:
    advice = "A result there has to be clearly better than this to say anything of the image."
    if name in NUMBERS:
        told = by_number(new[name], new["label"])
        flipped = by_number(old[name], old["label"]).auc < 0.5
        told = replace(told, auc=1 - told.auc if flipped else told.auc)
    else:
        told = transferred(old[name].tolist(), old["label"], new[name].tolist(), new["label"])
    return _Told(name, f"{where} {WORDS[name]} alone", told, "", advice)


def _unseen_sites(known: pd.DataFrame) -> list[Finding]:
    """Sections that share no site with training: what training teaches of sites does not help there."""
    parts = {str(name): rows[rows["site"].notna()] for name, rows in known.groupby("section", sort=False)}
    training = parts.pop("training", None)
    if training is None or training.empty:
        return []
    said = "No site of {} is in training: what training teaches of sites does not help there."
    apart = [name for name, rows in parts.items() if len(rows) and not _shared_sites(training, rows)]
    return [Finding("note", "site", said.format(name)) for name in apart]


def _shared_sites(old: pd.DataFrame, new: pd.DataFrame) -> bool:
    return bool(set(old["site"]) & set(new["site"]))


def _p(p: float) -> str:
    return "p < .001" if p < 0.001 else f"p = {p:.3f}"
