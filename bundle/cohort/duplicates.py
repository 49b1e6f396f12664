"""Who is in a datalist twice: by id, by spellings of an id or a site, by image, in other datalists or in weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from bundle.cohort.finding import Finding
from bundle.cohort.overlap import id_digest, image_digests
from bundle.cohort.words import canonical, is_missing, is_missing_code
from bundle.networks.cards import read_card
from bundle.people import folded, person_of, spelt_apart

NAMED = 5  # of those concerned, in a sentence
_SPLIT = "Split by participant again (`python -m bundle cohort`)."


def people(sections: Mapping[str, Sequence[Mapping]], workers: int | None) -> pd.DataFrame:
    """One row per scan of a datalist, with what identifies it.

    Args:
        sections: Sections of `cohort.load_sections`.
        workers: Threads that read the images; None: they are not read, only a cache's digests are known.

    Returns:
        The records' columns, `section`, `person`, `folded`, `digest` and `fault` (empty where unknown, or none).
    """
    records = [{**record, "section": name} for name, found in sections.items() for record in found]
    columns = ["section", "participant_id", "image", "site", "age", "sex", "tiv", "label"]
    table = pd.DataFrame(records, columns=columns)
    table["participant_id"] = table["participant_id"].astype(str)
    table["person"], table["folded"] = table["participant_id"].map(person_of), table["participant_id"].map(folded)
    known = [record.get("image_digest") or "" for record in records], [""] * len(records)
    digests, faults = known if workers is None else image_digests(records, workers)
    table["digest"], table["fault"] = pd.Series(digests, dtype=object), pd.Series(faults, dtype=object)
    return table


def participant_findings(table: pd.DataFrame) -> list[Finding]:
    """The same participant in two sections, under one id or spelt in two ways; scans without an id."""
    findings = []
    nameless = table[table["person"] == ""]
    if len(nameless):
        what = f"{len(nameless)} scan(s) have no participant_id, so that nobody can tell who is in two sections"
        findings += [
            _finding(
                "error",
                "ids",
                what,
                _each(Path(image).name for image in nameless["image"]),
                "Give every scan its participant.",
            )
        ]
    known = table[table["person"] != ""]
    shared = known[known.groupby("person")["section"].transform("nunique") > 1]
    if len(shared):
        what = f"{shared['person'].nunique()} participant(s) are in two sections"
        findings += [_finding("error", "participants", what, _groups(shared, "person"), _SPLIT)]
    spelt = known[known.groupby("folded")["person"].transform("nunique") > 1]
    if len(spelt):
        what = f"{spelt['folded'].nunique()} id(s) are spelt in two ways and may be the same people"
        advice = "If they are, write them in one way and split again."
        findings += [_finding("warning", "spellings", what, _groups(spelt, "folded"), advice)]
    return findings + _contradictions(known)


def site_findings(table: pd.DataFrame) -> list[Finding]:
    """Sites that differ in spelling alone, and codes that stand for an unknown site."""
    findings = []
    sites = table["site"].astype(str)
    if apart := spelt_apart(sites):
        parts = {name: ", ".join(dict.fromkeys(table["section"][sites == name])) for group in apart for name in group}
        named = [[f"{name} ({parts[name]})" for name in group] for group in apart]
        what = f"{len(apart)} site(s) are spelt in several ways, which are taken for different ones"
        advice = "Write each in one way and split again: whoever holds one out trains on the other."
        findings += [_finding("warning", "sites", what, named, advice)]
    words = {name: canonical(name) for name in set(sites) - {""}}
    codes = sites[sites.isin([name for name, word in words.items() if is_missing(word) or is_missing_code(word)])]
    if len(codes):
        what = f"{len(codes)} scan(s) have a code for unknown as their site"
        advice = "Write null there: it would be one site."
        findings += [_finding("warning", "sites", what, _each(sorted(set(codes))), advice)]
    return findings


def image_findings(table: pd.DataFrame) -> list[Finding]:
    """Images that cannot be used, and the same image twice: by its voxels where these were read, else by its path."""
    findings = []
    bad = table[table["fault"] != ""]
    if len(bad):
        sentences = [f"{row.participant_id}: {row.fault}" for row in bad.itertuples()]
        what = f"{len(bad)} image(s) cannot be used"
        findings += [_finding("error", "images", what, _each(sentences), "Correct them or leave them out.")]
    content = table["digest"].where(table["digest"] != "", "path " + table["image"])
    twice = table.assign(content=content)[content.duplicated(keep=False)]
    straddling = twice.groupby("content")["section"].transform("nunique") > 1
    advice = "One image is one person: find out whose it is, and leave the other scan out."
    for severity, rows, where in (
        ("error", twice[straddling], "in two sections"),
        ("warning", twice[~straddling], "within a section"),
    ):
        if len(rows):
            what = f"{rows['content'].nunique()} image(s) are there more than once, {where}"
            findings += [_finding(severity, "duplicates", what, _groups(rows, "content"), advice)]
    return findings


def overlap_findings(table: pd.DataFrame, other: pd.DataFrame, name: str) -> list[Finding]:
    """Who is also in another datalist: an error where one tests on whom the other trains, else a warning.

    Args:
        table: Table of `people`.
        other: Table of `people`, of the other datalist.
        name: Name of the other datalist, for the sentence.
    """
    findings = []
    for key, by in (("person", "participant id"), ("digest", "image")):
        columns = [key, "participant_id", "section"]
        left, right = (t.loc[t[key] != "", columns].drop_duplicates() for t in (table, other))
        both = left.merge(right, on=key, suffixes=("", "_other"))
        apart = both["section"] != both["section_other"]
        for severity, rows, advice in (
            ("error", both[apart], f"One trains on them, the other tests on them: leave them out.{_if_others(key)}"),
            ("warning", both[~apart], f"Harmless unless results of the two are called independent.{_if_others(key)}"),
        ):
            pairs = [
                [f"{r.participant_id} ({r.section})", f"{r.participant_id_other} ({r.section_other})"]
                for r in rows.itertuples()
            ]
            if pairs:
                where = "another" if severity == "error" else "the same"
                what = f"{rows[key].nunique()} participant(s) are by {by} also in {where} section of {name}"
                findings += [_finding(severity, "overlap", what, pairs, advice)]
    return findings


def weights_findings(table: pd.DataFrame, weights: str | Path) -> list[Finding]:
    """Who is known to weights by the digests in their card: an error in sections that test."""
    known = read_card(weights).get("fingerprints")
    if known is None:
        sentence = f"{weights} has no card that says on whom it was trained: overlap with it cannot be seen."
        return [Finding("warning", "pretraining", sentence)]
    ids = [id_digest({"participant_id": name}) for name in table["participant_id"]]
    met = {"participant id": pd.Series(ids, table.index).isin(known.get("participants", ()))}
    met["image"] = table["digest"].isin(known.get("images", ()))
    findings = []
    for by, there in met.items():
        tests = table["section"] != "training"
        for severity, rows, advice in (
            ("error", table[there & tests], "Results on them would be too good: leave them out of one of the two."),
            ("warning", table[there & ~tests], "Train on them, but do not cross-validate over them."),
        ):
            if len(rows):
                what = f"{rows['person'].nunique()} participant(s) were by {by} in the training of {weights}"
                names = _each(_named(rows).drop_duplicates())
                findings += [_finding(severity, "pretraining", what, names, advice)]
    return findings


def _contradictions(known: pd.DataFrame) -> list[Finding]:
    findings = []
    for column, unknown in (("sex", ""), ("label", -1)):
        stated = known[known[column] != unknown]
        odd = stated[stated.groupby("person")[column].transform("nunique") > 1]
        if len(odd):
            what = f"{odd['person'].nunique()} participant(s) have scans of different {column}"
            names = _each(odd.drop_duplicates("person")["participant_id"])
            findings += [_finding("warning", "contradictions", what, names, "Correct it, or say why it changed.")]
    return findings


def _finding(severity: str, check: str, what: str, groups: Sequence[Sequence[str]], advice: str) -> Finding:
    """A finding that names the first few of those concerned; a group is written `a = b`."""
    shown = "; ".join(_first(group, " = ") for group in groups[:NAMED])
    more = f"; … and {len(groups) - NAMED} more" if len(groups) > NAMED else ""
    everybody = tuple(" = ".join(group) for group in groups)
    return Finding(severity, check, f"{what}: {shown}{more}. {advice}", participants=everybody)


def _first(group: Sequence[str], separator: str) -> str:
    more = [f"… ({len(group)} in all)"] if len(group) > NAMED else []
    return separator.join([*group[:NAMED], *more])


def _groups(rows: pd.DataFrame, key: str) -> list[list[str]]:
    """Those who share a key, each with the section."""
    named = pd.DataFrame({"key": rows[key], "name": _named(rows)})
    return named.groupby("key", sort=False)["name"].agg(list).tolist()


def _named(rows: pd.DataFrame) -> pd.Series:
    return rows["participant_id"] + " (" + rows["section"] + ")"


def _each(names: Iterable[object]) -> list[list[str]]:
    return [[str(name)] for name in names]


def _if_others(key: str) -> str:
    return " If only ids coincide, put the study into them." if key == "person" else ""
