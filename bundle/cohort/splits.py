"""Who goes into which section: by share, by site, by column or by list, and never a participant into two."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from bundle.cohort.columns import option_of
from bundle.cohort.words import canonical
from bundle.hints import nearest, quoted
from bundle.people import folded, person_of, spelt_apart

logger = logging.getLogger(__name__)

AGE_BINS = 5
# The words tables use. OpenBHB: internal_test holds seen sites, external_test unseen ones.
SPLIT_WORDS = {
    "train": "training",
    "training": "training",
    "val": "validation",
    "validation": "validation",
    "internal_test": "validation",
    "test": "test",
    "external_test": "test",
}
_BINNED = ("age", "tiv")


def split_by_participant(
    records: Sequence[dict],
    fractions: Mapping[str, float],
    *,
    seed: int,
    stratify: Sequence[str] = ("label", "sex", "site", "age"),
) -> dict[str, list[dict]]:
    """Divide participants into sections that resemble each other.

    Participants are dealt one by one, in an order drawn from the seed, each to the section where
    people like them are most lacking. "Like them" means: the same value of one stratification
    column, or the same values of the first column and another one (age by diagnosis, …). Numbers
    are binned by quantiles. Sections have the sizes asked for, counted in participants and rounded.

    Args:
        records: Scans; all of a participant's go to one section. Their order has no influence.
        fractions: Section → share of the participants; the shares add up to 1.
        seed: Seed of the order.
        stratify: Keys of the records, the most important first.

    Returns:
        Section → records, in the order they came.

    Raises:
        ValueError: shares do not add up, a column is unknown, or a section would be empty.

    Source:
        Minimisation: Pocock and Simon, Biometrics 31 (1975), 103–115.

    Example:
        >>> people = [{"participant_id": f"sub-{i}", "label": i % 2} for i in range(10)]
        >>> split = split_by_participant(people, {"a": 0.8, "b": 0.2}, seed=0, stratify=["label"])
        >>> sorted(person["label"] for person in split["b"])
        [0, 1]
    """
    people: defaultdict[str, list[dict]] = defaultdict(list)
    for record in records:
        people[_person(record)].append(record)
    names = sorted(people)
    sizes = _section_sizes(len(names), fractions)
    _require_known_columns(records, stratify)
    strata = _strata([people[name] for name in names], stratify)
    rng = np.random.default_rng(seed)
    assigned = _dealt(strata, np.array(list(sizes.values())), rng)
    section_of = {name: list(sizes)[k] for name, k in zip(names, assigned, strict=True)}
    sections: dict[str, list[dict]] = {section: [] for section in sizes}
    for record in records:
        sections[section_of[_person(record)]].append(record)
    return sections


def hold_out_sites(
    records: Sequence[dict], sites: Sequence[str], *, column: str = "site"
) -> tuple[list[dict], list[dict]]:
    """Set whole sites aside, as an external test or to leave a data set out of a task.

    Scans that participants of these sites have elsewhere are in neither part, so that the parts
    share nobody; a warning counts them.

    Args:
        records: Scans.
        sites: The values to set aside.
        column: Key of the records, such as `site` or `study`.

    Returns:
        The rest, and the scans of the sites set aside.

    Raises:
        ValueError: no scan has one of these values, or the rest would have one that differs from it in spelling alone.

    Example:
        >>> rest, abide = hold_out_sites(records, ["ABIDE"], column="study")  # doctest: +SKIP
    """
    wanted = {str(site) for site in sites}
    there = {str(r[column]) for r in records if r.get(column) not in (None, "")}
    if not there:
        raise ValueError(
            f"The {column} of every scan is unknown, so {quoted(sorted(wanted))} cannot be set aside; name the column "
            f"of the table that holds it: {option_of(column)} NAME."
        )
    for value in sorted(wanted - there):
        raise ValueError(f"No scan has {column} '{value}'{nearest(value, there)}")
    _refuse_other_spellings(wanted, there, column)
    held_out = [r for r in records if str(r.get(column)) in wanted]
    gone = {_person(r) for r in held_out}
    rest = [r for r in records if _person(r) not in gone]
    between = len(records) - len(rest) - len(held_out)
    if between:
        logger.warning("%d scans left out: their participants were also held out", between)
    unknown = sum(r.get(column) in (None, "") for r in rest)
    if unknown:
        logger.warning("%d scans of unknown %s stay in the rest", unknown, column)
    return rest, held_out


def _refuse_other_spellings(wanted: set[str], there: set[str], column: str) -> None:
    """Refuse to set aside one spelling of a site or study and to leave another in the rest."""
    apart = [group for group in spelt_apart(there) if 0 < len(wanted & set(group)) < len(group)]
    if apart:
        raise ValueError(
            f"{_equated(apart)} differ in spelling alone: with {quoted(sorted(wanted))} only some spellings of a "
            f"{column} would be set aside, and the others would stay. Write each {column} in one way in the table, or "
            "name all of its spellings."
        )


def say_spellings(records: Sequence[Mapping[str, Any]]) -> None:
    """Warn of sites and studies that differ in spelling alone, and are several for whatever goes by them.

    Args:
        records: Scans.
    """
    for column, what in (("site", "site(s)"), ("study", "study(ies)")):
        if apart := spelt_apart(record.get(column) for record in records):
            sentence = "%d %s are spelt in several ways, which are taken for different ones: %s. Write each in one way."
            logger.warning(sentence, len(apart), what, _equated(apart))


def _equated(groups: Iterable[Sequence[str]]) -> str:
    return quoted(" = ".join(group) for group in groups)


def hold_out_people(records: Sequence[dict], tested: Sequence[Mapping[str, Any]], source: str) -> list[dict]:
    """Leave out everybody whom another datalist tests on, with all their scans, and say how many they were.

    Args:
        records: Scans.
        tested: The test section of the other datalist.
        source: Name of the datalist, for messages.

    Raises:
        ValueError: nobody is tested there, somebody there has no id, or nobody would be left.
    """
    people = {_person(record) for record in tested}
    if not people:
        raise ValueError(f"The test section of {source} is empty, so nobody can be held out; give another datalist.")
    rest = [record for record in records if _person(record) not in people]
    met = {_person(record) for record in records} & people
    logger.info(
        "%d scans of %d participants were left out: these are among the %d participants that %s tests on",
        len(records) - len(rest),
        len(met),
        len(people),
        source,
    )
    _say_if_alike({_person(record) for record in rest}, people, source)
    if not met:
        logger.warning("Nobody of the test section of %s is in this table: are the ids written in one way?", source)
    if not rest:
        raise ValueError(f"{source} tests on everybody of this table, so nobody is left.")
    return rest


def _say_if_alike(rest: Iterable[str], people: Iterable[str], source: str) -> None:
    """Warn of ids that differ only in zeros, case or prefix from those held out."""
    spelt = {folded(person): person for person in people}
    alike = [f"{person} = {spelt[folded(person)]}" for person in sorted(rest) if folded(person) in spelt]
    if alike:
        sentence = "%d participant(s) stay, whose ids differ from those that %s tests on in spelling alone: %s"
        logger.warning(sentence, len(alike), source, quoted(alike))


def split_by_column(
    records: Sequence[dict],
    column: str = "split",
    names: Mapping[str, str | None] | None = None,
) -> dict[str, list[dict]]:
    """Use the split that a table brings along, such as OpenBHB's.

    Args:
        records: Scans with the key `column`.
        column: Key of the records that holds the split.
        names: Value → section, or None to leave these scans out; case is ignored. Default: `SPLIT_WORDS`.

    Returns:
        Section → records, in the order they came.

    Raises:
        ValueError: a scan has no value, a value has no section, or a participant would be in two sections.
    """
    names = SPLIT_WORDS if names is None else names
    section_of = {canonical(name): section for name, section in names.items()}
    if empty := [r for r in records if r.get(column) in (None, "")]:
        people = quoted(dict.fromkeys(str(r.get("participant_id")) for r in empty))
        raise ValueError(
            f"The column '{column}' is empty for {len(empty)} of {len(records)} scans, of {people}; write one of "
            f"{quoted(names)} there, or leave their rows out of the table."
        )
    unknown = sorted({str(r[column]) for r in records if canonical(r[column]) not in section_of})
    if unknown:
        raise ValueError(
            f"The column '{column}' holds {quoted(unknown)}, expected {quoted(names)}; write these words in the table, "
            "or leave these rows out of it."
        )
    sections: dict[str, list[dict]] = {s: [] for s in names.values() if s is not None}
    for record in records:
        section = section_of[canonical(record[column])]
        if section is not None:
            sections[section].append(record)
    assert_disjoint(sections)
    return {section: found for section, found in sections.items() if found}


def split_by_lists(records: Sequence[dict], lists: Mapping[str, Sequence[str]]) -> dict[str, list[dict]]:
    """Put the participants on each list into its section.

    Args:
        records: Scans.
        lists: Section → participant ids, with or without `sub-`.

    Returns:
        Section → records, in the order they came.

    Raises:
        ValueError: a participant is on two lists, or has a scan but no list, or the reverse.
    """
    section_of: dict[str, str] = {}
    for section, ids in lists.items():
        for person in map(person_of, ids):
            other = section_of.setdefault(person, section)
            if other != section:
                raise ValueError(f"Participant '{person}' is on the lists '{other}' and '{section}'.")
    alone = sorted({_person(record) for record in records} ^ set(section_of))
    if alone:
        raise ValueError(f"Scans and lists must name the same participants; {quoted(alone)} are in only one.")
    return {s: [r for r in records if section_of[_person(r)] == s] for s in lists}


def assert_disjoint(sections: Mapping[str, Sequence[dict]]) -> None:
    """Refuse sections that share a participant or an image.

    Args:
        sections: Section → records; ids count as the same with and without `sub-`.

    Raises:
        ValueError: two sections share somebody, or somebody has no id so that nobody can tell.

    Example:
        >>> assert_disjoint({"training": [{"participant_id": "1"}], "test": []})
    """
    people = {name: {_person(r) for r in found} for name, found in sections.items()}
    images = {name: {str(r["image"]) for r in found if r.get("image")} for name, found in sections.items()}
    for what, members in (("participant", people), ("image", images)):
        shared = [
            f"'{a}' and '{b}' share {len(both)} {what}(s): {quoted(sorted(both))}"
            for a, b in combinations(members, 2)
            if (both := members[a] & members[b])
        ]
        if shared:
            raise ValueError(f"Sections must not overlap, but {'; '.join(shared)}. Split by participant again.")


def _person(record: Mapping[str, Any]) -> str:
    person = person_of(record.get("participant_id"))
    if not person:
        raise ValueError(
            f"The scan {record.get('image')} has no participant_id, so overlap between sections "
            "cannot be ruled out; give every scan its participant."
        )
    return person


def _require_known_columns(records: Sequence[dict], columns: Sequence[str]) -> None:
    there = {key for record in records for key in record}
    for column in columns:
        if column not in there:
            raise ValueError(f"No scan has '{column}' to stratify by{nearest(column, there)}")


def _section_sizes(n: int, fractions: Mapping[str, float]) -> dict[str, int]:
    shares = np.array(list(fractions.values()), dtype=float)
    if not np.all(shares >= 0) or not math.isclose(shares.sum(), 1, abs_tol=1e-6):
        raise ValueError(f"Shares of the sections must add up to 1, found {dict(fractions)}.")
    exact = shares * n
    # The rounding keeps 0.1 * 30 = 3.0000000000000004 from claiming a remainder.
    sizes = np.floor(np.round(exact, 9)).astype(int)
    largest = np.argsort(-np.round(exact - sizes, 9), kind="stable")
    sizes[largest[: n - sizes.sum()]] += 1
    for section, share, size in zip(fractions, shares, sizes, strict=True):
        if share > 0 and size == 0:
            raise ValueError(
                f"Section '{section}' would be empty: {share:g} of {n} participants is less than "
                "one; raise its share or leave it out."
            )
    return dict(zip(fractions, sizes.tolist(), strict=True))


def _strata(people: Sequence[Sequence[dict]], columns: Sequence[str]) -> np.ndarray:
    """Number the groups everybody belongs to: (people, groups each), int."""
    levels = [_levels([_value(scans, name) for scans in people], name) for name in columns]
    pairs = [list(zip(levels[0], other, strict=True)) for other in levels[1:]]
    groups = [["everybody"] * len(people), *levels, *pairs]
    codes: dict[tuple[int, Any], int] = {}
    table = [[codes.setdefault((i, group), len(codes)) for group in column] for i, column in enumerate(groups)]
    return np.array(table, dtype=int).reshape(len(groups), len(people)).T


def _value(scans: Sequence[dict], name: str) -> Any:
    # One value a person, whatever the order of the scans: the first visit's age, patient if ever.
    known = [scan[name] for scan in scans if scan.get(name) is not None]
    known = [value for value in known if value == value]  # NaN is unknown, too
    if not known:
        return None
    return max(known) if name == "label" else min(known)


def _levels(values: Sequence[Any], name: str) -> list[Any]:
    known = [value for value in values if value is not None]
    if name not in _BINNED or not known:
        return list(values)
    edges = np.quantile(known, np.linspace(0, 1, AGE_BINS + 1)[1:-1])
    return [None if v is None else int(np.searchsorted(edges, v)) for v in values]


def _dealt(strata: np.ndarray, sizes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Deal people to sections: each to the one that lacks most in the groups they belong to."""
    shares = sizes / max(1, sizes.sum())
    lacking = np.zeros((strata.max(initial=0) + 1, len(sizes)))  # expected minus actual, so far
    left = sizes.copy()
    assigned = np.empty(len(strata), dtype=int)
    for person in rng.permutation(len(strata)):
        groups = strata[person]
        lacking[groups] += shares
        need = lacking[groups].sum(axis=0) + 1e-6 * rng.random(len(sizes))
        section = int(np.where(left > 0, need, -np.inf).argmax())
        lacking[groups, section] -= 1
        left[section] -= 1
        assigned[person] = section
    return assigned
