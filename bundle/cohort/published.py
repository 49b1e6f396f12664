"""Published splits: a list of participants with their sections, or a rule that gives everybody the same sections."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bundle.cohort.columns import name_columns
from bundle.cohort.participants import CohortError
from bundle.cohort.sheet import read_table
from bundle.cohort.splits import SPLIT_WORDS, assert_disjoint
from bundle.cohort.words import canonical
from bundle.files import SECTIONS, read_json, write_text
from bundle.hints import quoted
from bundle.people import folded

UNITS = ("number", "institution")  # what goes into one section as a whole
_COLUMNS = ("section", "split")  # of a list, the first that it has
_DIGITS = 13  # of a hexadecimal digest: 52 bits, which a float holds exactly


@dataclass(frozen=True)
class Rule:
    """A section for every participant, by the digest of an id or of a site; nothing is drawn.

    The digest of `salt:unit` is a number from 0 to 1, and the sections divide that range in their order.

    Attributes:
        salt: Text before the unit; another salt gives another split.
        unit: `number`, the last number in an id (50002 of sub-0050002, 295 of 002_S_0295), or `institution`, a site
            without the number of its sample (UCLA of UCLA_1).
        shares: Section → expected share of the units; they add up to 1.
    """

    salt: str
    unit: str
    shares: Mapping[str, float]

    def section(self, participant_id: object, site: object = None) -> str:
        """The section of a participant.

        Args:
            participant_id: Id, in any spelling that keeps its number.
            site: Site where the scan was made; needed for the unit `institution`.

        Raises:
            CohortError: the id has no number, or the site is not known.

        Example:
            >>> rule = Rule("abide1", "number", {"training": 0.6, "validation": 0.2, "test": 0.2})
            >>> {rule.section(name) for name in ("sub-0050002", "50002", 50002)}
            {'training'}
        """
        unit = _number(participant_id) if self.unit == "number" else _institution(site, participant_id)
        digest = hashlib.sha256(f"{self.salt}:{unit}".encode()).hexdigest()
        place, limit = int(digest[:_DIGITS], 16) / 16**_DIGITS, 0.0
        for section, share in self.shares.items():
            limit += share
            if place < limit:
                return section
        return section


def read_rule(path: Path) -> Rule:
    """Read the rule of a split.

    Args:
        path: A JSON file with `rule`, such as `configs/splits/adni.json`.

    Raises:
        CohortError: the file holds no rule of a known form.
    """
    content = read_json(path, "The rule ")
    stated = content.get("rule") if isinstance(content, dict) else None
    if not isinstance(stated, dict) or set(stated) != {"salt", "unit", "shares"}:
        raise CohortError(f"{path} holds no rule of a split; expected `rule` with salt, unit and shares.")
    shares = stated["shares"]
    numbers = list(shares.values()) if isinstance(shares, dict) else []
    if not all(isinstance(n, (int, float)) and n > 0 for n in numbers) or abs(sum(numbers) - 1) > 1e-9:
        raise CohortError(f"{path}: the shares must be above 0 and add up to 1, found {shares}.")
    if stated["unit"] not in UNITS or not isinstance(stated["salt"], str) or set(shares) - set(SECTIONS):
        raise CohortError(
            f"{path}: expected a unit among {quoted(UNITS)}, a text as salt and sections among {quoted(SECTIONS)}, "
            f"found {stated}."
        )
    return Rule(**stated)


def split_by_file(records: Sequence[dict], path: Path) -> dict[str, list[dict]]:
    """Divide scans as a published file says.

    Args:
        records: Scans.
        path: A rule (.json), or a table with `participant_id` and `section` or `split` in the words of `SPLIT_WORDS`;
            ids are matched whatever their prefix, case and leading zeros.

    Returns:
        Section → records, in the order they came.

    Raises:
        CohortError: a participant has no section in the file, or the file contradicts itself.
    """
    if path.suffix == ".json":
        rule = read_rule(path)
        found = [rule.section(record.get("participant_id"), record.get("site")) for record in records]
    else:
        listed = _read_list(path)
        absent = sorted({str(r["participant_id"]) for r in records if folded(r.get("participant_id")) not in listed})
        if absent:
            raise CohortError(
                f"{path} gives no section to {quoted(absent)}, and nobody is put into one by guessing; leave their "
                "rows out of the table, or give the split of this dataset."
            )
        found = [listed[folded(record["participant_id"])] for record in records]
    sections: dict[str, list[dict]] = {name: [] for name in SECTIONS}
    for record, section in zip(records, found, strict=True):
        sections[section].append(record)
    assert_disjoint(sections)
    return {section: members for section, members in sections.items() if members}


def write_split(table: Path, rule: Path, output: Path, columns: Mapping[str, str]) -> dict[str, int]:
    """Write the list that a rule makes of a table: the same bytes from every table of the same participants.

    Args:
        table: Participants, and sites where the rule needs them; see `read_table`.
        rule: Rule; see `read_rule`.
        output: The table to write (.tsv): participant_id (its number), site where the table has one, section.
        columns: Our names → the table's, where it does not use the common ones.

    Returns:
        Section → participants.

    Raises:
        CohortError: two rows of one participant lead to different lines.
    """
    texts, used = name_columns(read_table(table), columns, table)
    known = read_rule(rule)
    rows = pd.DataFrame({"participant_id": texts["participant_id"].map(_number)})
    if "site" in used:
        rows["site"] = texts["site"]
    rows["section"] = [known.section(*pair) for pair in zip(texts["participant_id"], texts["site"], strict=True)]
    rows = rows.drop_duplicates().sort_values("participant_id", key=lambda column: column.astype(int))
    twice = rows.loc[rows["participant_id"].duplicated(), "participant_id"]
    if len(twice):
        raise CohortError(f"The table {table} has {quoted(twice)} at several sites; give a table with a row for each.")
    write_text(output, rows.to_csv(sep="\t", index=False, lineterminator="\n"))
    return {str(section): int(count) for section, count in rows["section"].value_counts().items()}


def _read_list(path: Path) -> dict[str, str]:
    cells = read_table(path)
    column = next((name for name in _COLUMNS if name in cells), None)
    if column is None or "participant_id" not in cells:
        raise CohortError(
            f"{path} is no list of a split; expected the columns participant_id and section, found {quoted(cells)}."
        )
    section_of = {canonical(word): section for word, section in SPLIT_WORDS.items()}
    unknown = sorted({word for word in cells[column] if canonical(word) not in section_of})
    if unknown:
        raise CohortError(f"{path} has the sections {quoted(unknown)}, expected {quoted(SPLIT_WORDS)}.")
    listed: dict[str, str] = {}
    for name, word in zip(cells["participant_id"], cells[column], strict=True):
        section = section_of[canonical(word)]
        if listed.setdefault(folded(name), section) != section:
            raise CohortError(f"{path} puts participant '{name}' into two sections.")
    return listed


def _number(participant_id: Any) -> str:
    """The last number in an id, without leading zeros.

    Example:
        >>> [_number(name) for name in ("sub-0050002", "002_S_0295", 10159)]
        ['50002', '295', '10159']
    """
    found = re.findall(r"\d+", re.sub(r"\.0$", "", str(participant_id)))
    if not found:
        raise CohortError(f"The participant '{participant_id}' has no number in its id, which the split goes by.")
    return str(int(found[-1]))


def _institution(site: Any, participant_id: Any) -> str:
    """A site without the number of its sample.

    Example:
        >>> [_institution(site, "1") for site in ("UCLA_1", "MAX_MUN", "ABIDEII-NYU_2")]
        ['ucla', 'max_mun', 'abideii-nyu']
    """
    if site is None or not str(site).strip():
        raise CohortError(f"The participant '{participant_id}' has no site, which the split goes by; add the column.")
    return re.sub(r"_\d+$", "", str(site).strip().casefold())
