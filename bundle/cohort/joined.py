"""Two datalists, one of each modality, joined by person and session: who has both maps, and who lacks one."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bundle.cohort.datalist import METADATA_COLUMNS, RECORD_KEYS, add_metadata, load_sections
from bundle.cohort.folds import people_drawn
from bundle.cohort.participants import CohortError
from bundle.hints import nearest, quoted
from bundle.people import person_of, without_prefix

FIRST, SECOND = "image", "second_image"  # keys of a joined record; an empty text where the map is lacking
KEYS = (("participant_id", "session_id"), ("participant_id", "session_id", "site"))
LEAST = 2  # people with both maps in a section: across modalities, too, somebody is told from somebody
APART = 1.0  # years; ages of one scan may be rounded
NAMED = 5  # people of a message
Sections = Mapping[str, Sequence[Mapping[str, Any]]]
logger = logging.getLogger(__name__)


def load_joined_section(
    datalist: str | Path,
    second_datalist: str | Path,
    section: str,
    metadata_columns: Sequence[str] = (),
    size: int | None = None,
    seed: int = 0,
) -> list[dict]:
    """Read one section of two datalists, one of each modality, as one list of people's sessions.

    A record is that of `load_section`, with the first modality's map as `image` and the second's as `second_image`, an
    empty text where there is none. What one datalist does not know is taken from the other.

    Args:
        datalist: Datalist of the first modality.
        second_datalist: Datalist of the second modality.
        section: `training`, `validation` or `test`.
        metadata_columns: Columns among `age`, `sex`, `site`, `tiv`, stacked as `metadata`.
        size: Participants drawn from the section; see `people_drawn`. None takes all.
        seed: Seed of that draw.

    Raises:
        CohortError: as of `join`; or fewer than two people of the section have both maps.
        ValueError: a metadata column is unknown, or `size` exceeds the participants.
    """
    for name in metadata_columns:
        if name not in METADATA_COLUMNS:
            raise ValueError(f"No metadata column '{name}'{nearest(name, METADATA_COLUMNS)}")
    names = f"{datalist} and {second_datalist}"
    if Path(datalist).resolve() == Path(second_datalist).resolve():
        raise CohortError(f"Both modalities name the datalist {datalist}; give one datalist for each.")
    joined = join(
        load_sections(Path(datalist), cached=False), load_sections(Path(second_datalist), cached=False), names
    )
    sites = sorted({r["site"] for records in joined.values() for r in records} - {""})
    items = joined.get(section, [])
    both = {person_of(r["participant_id"]) for r in items if r[FIRST] and r[SECOND]}
    if len(both) < LEAST:
        raise CohortError(
            f"In the section '{section}' of {names}, people who have both maps: {len(both)}; expected at least "
            f"{LEAST}, since somebody is told from somebody else. Split both by one list (`cohort --split`), or leave "
            "a modality out."
        )
    if metadata_columns:
        add_metadata(items, metadata_columns, sites)
    found = people_drawn(items, size, seed)
    counts = Counter((bool(r[FIRST]), bool(r[SECOND])) for r in found)
    logger.info(
        f"{section}: {counts[True, True]} session(s) with both modalities, {counts[True, False]} with the first "
        f"alone, {counts[False, True]} with the second alone."
    )
    return found


def join(first: Sections, second: Sections, names: str) -> dict[str, list[dict]]:
    """Join the sections of two datalists, one of each modality.

    Scans belong together by participant_id and session_id, with and without their BIDS prefixes, and by site where
    ids alone are ambiguous. Ages may differ by less than a year, since some tables round them.

    Args:
        first: Records of each section, as of `load_sections`.
        second: Those of the other modality.
        names: Words that name both, for messages.

    Returns:
        Section → joined records; those of the first modality in their order, then those of the second alone.

    Raises:
        CohortError: an image is in both; a session has two maps of one modality; nobody is in both; somebody is in
            different sections; or age, sex, site or label disagree.
    """
    _refuse_shared_images(first, second, names)
    key = _key_of(first, second, names)
    pairs = _pairs(first, second, key)
    if not pairs:
        raise CohortError(_nobody(first, second, names))
    _refuse_other_sections(first, second, names)
    _refuse_disagreement(list(pairs.values()), names)
    return {name: list(_of_section(first.get(name, ()), second.get(name, ()), key)) for name in {**first, **second}}


def of_modality(records: Sequence[Mapping[str, Any]], key: str) -> list[dict]:
    """The records that have a map of one modality, with it as their `image`.

    Args:
        records: Joined records.
        key: `FIRST` or `SECOND`.
    """
    return [{**record, FIRST: record[key]} for record in records if record[key]]


def with_both(sections: Sections) -> dict[str, list[dict]]:
    """Those of each section who have both maps.

    Args:
        sections: Joined records, as of `join`.
    """
    return {name: [dict(r) for r in found if r[FIRST] and r[SECOND]] for name, found in sections.items()}


# The join

Key = Callable[[Mapping[str, Any]], tuple[str, ...]]


def _key_of(first: Sections, second: Sections, names: str) -> Key:
    """What tells the sessions of each datalist apart: ids, or else ids and site."""
    for columns in KEYS:

        def key(record: Mapping[str, Any], columns: tuple[str, ...] = columns) -> tuple[str, ...]:
            return tuple(without_prefix(name, str(record[name])) for name in columns)

        repeated = [k for part in (first, second) for k, n in Counter(map(key, _all(part))).items() if n > 1]
        if not repeated:
            return key
    who = quoted(sorted({" ".join(filter(None, found)) for found in repeated})[:NAMED])
    raise CohortError(
        f"In {names} several maps of one modality have the same participant_id, session_id and site ({who}), so that "
        "it cannot be told which map belongs to which of the other modality. Give every session its own session_id, "
        "and put the study into the ids where several studies use the same."
    )


def _all(sections: Sections) -> Iterator[Mapping[str, Any]]:
    for records in sections.values():
        yield from records


def _pairs(first: Sections, second: Sections, key: Key) -> dict[tuple[str, ...], tuple[Mapping, Mapping]]:
    there = {key(record): record for record in _all(second)}
    return {key(record): (record, there[key(record)]) for record in _all(first) if key(record) in there}


def _of_section(first: Sequence[Mapping], second: Sequence[Mapping], key: Key) -> Iterator[dict]:
    there = {key(record): record for record in second}
    for record in first:
        other = there.pop(key(record), None)
        yield {**record, SECOND: ""} if other is None else _merged(record, other)
    for record in there.values():
        yield {**record, FIRST: "", SECOND: record[FIRST]}


def _merged(record: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """One record of two maps; what the first does not know is the second's."""
    filled = {name: record[name] if _is_known(record[name]) else other[name] for name in RECORD_KEYS}
    return {**other, **record, **filled, FIRST: record[FIRST], SECOND: other[FIRST]}


def _is_known(value: Any) -> bool:
    return value not in ("", -1) and not (isinstance(value, float) and math.isnan(value))


# What is refused


def _refuse_shared_images(first: Sections, second: Sections, names: str) -> None:
    shared = sorted({str(r[FIRST]) for r in _all(first)} & {str(r[FIRST]) for r in _all(second)})
    if shared:
        raise CohortError(
            f"{names} share {len(shared)} image(s), such as {shared[0]}: a map would be compared with itself. Give a "
            "datalist of each modality."
        )


def _nobody(first: Sections, second: Sections, names: str) -> str:
    people = [{person_of(r["participant_id"]) for r in _all(part)} for part in (first, second)]
    if both := people[0] & people[1]:
        person = min(both)
        sessions = [
            quoted(sorted({str(r["session_id"]) for r in _all(part) if person_of(r["participant_id"]) == person}))
            for part in (first, second)
        ]
        return (
            f"No session is in both {names}: {len(both)} people are, but in other sessions ('{person}' in "
            f"{sessions[0]} and in {sessions[1]}). Give both maps of a visit the same session_id."
        )
    return (
        f"Nobody is in both {names}: their participant_ids, such as {quoted(sorted(people[0])[:2])} and "
        f"{quoted(sorted(people[1])[:2])}, have none in common. Give a person the same participant_id in both."
    )


def _refuse_other_sections(first: Sections, second: Sections, names: str) -> None:
    places: dict[str, set[str]] = {}
    for part in (first, second):
        for name, records in part.items():
            for record in records:
                places.setdefault(person_of(record["participant_id"]), set()).add(name)
    moved = sorted(person for person, sections in places.items() if len(sections) > 1)
    if moved:
        raise CohortError(
            f"People in different sections of {names}: {len(moved)}, such as '{moved[0]}' in "
            f"{' and '.join(sorted(places[moved[0]]))}: they would be trained on and tested. Make both datalists with "
            "one list of sections (`cohort --split`)."
        )


def _refuse_disagreement(pairs: Sequence[tuple[Mapping, Mapping]], names: str) -> None:
    for name in ("age", "sex", "site", "label"):
        wrong = [(a, b) for a, b in pairs if _differ(name, a[name], b[name])]
        if wrong:
            told = "; ".join(f"'{a['participant_id']}' {a[name]} and {b[name]}" for a, b in wrong[:NAMED])
            what = "ages differ by a year or more" if name == "age" else f"{name} differs"
            raise CohortError(
                f"In {len(wrong)} of {len(pairs)} sessions that are in both {names}, the {what}: {told}. These may be "
                "other people of the same id; correct the tables, or put the study into the ids."
            )


def _differ(name: str, one: Any, other: Any) -> bool:
    if not (_is_known(one) and _is_known(other)):
        return False
    return abs(one - other) >= APART if name == "age" else one != other
