"""A BIDS dataset as a BIDS App finds it: whose T1w scans it holds, and which maps were made of them."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from bundle.cohort.columns import find_columns
from bundle.cohort.sheet import read_table
from bundle.files import read_json
from bundle.hints import nearest, quoted
from bundle.people import person_of
from bundle.preparation.images import labels_of
from bundle.scans.map_names import scan_of
from bundle.scans.names import stem_of
from bundle.scans.scan import find_scans

DESCRIPTION = "dataset_description.json"
_PARTICIPANT, _T1W = re.compile(r"sub-[A-Za-z0-9]+"), re.compile(r"sub-(?!.*_space-).*_T1w\.nii(\.gz)?")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BidsScan:
    """A T1w scan of a dataset, or the map that was made of it.

    Attributes:
        path: Path of the scan, or of the map.
        name: BIDS entities without the suffix, such as `sub-01_ses-1_run-2`.
        participant_id: Id with `sub-`.
        session_id: Session id with `ses-`, or "".
    """

    path: Path
    name: str
    participant_id: str
    session_id: str

    @classmethod
    def of(cls, path: Path, stem: str) -> BidsScan:
        """Of a file, and the name of the T1w scan without its ending."""
        return cls(path, stem.removesuffix("_T1w"), *labels_of(stem))


def require_dataset(dataset: Path) -> None:
    """Refuse a folder that is no BIDS dataset by its description.

    Raises:
        ValueError: Names the folder, and what is missing.
    """
    path = dataset / DESCRIPTION
    if not path.is_file():
        raise ValueError(
            f"{dataset} has no {DESCRIPTION}, so it is no BIDS dataset. Give the folder that holds it and the folders "
            "sub-*, or --skip-bids-validation."
        )
    content = read_json(path, "The description ")
    known = content if isinstance(content, dict) else {}
    if missing := [name for name in ("Name", "BIDSVersion") if not known.get(name)]:
        raise ValueError(
            f"{path} has no {quoted(missing)}, which BIDS requires. Add it, or give --skip-bids-validation."
        )


def scans_of(
    dataset: Path,
    participants: Collection[str] = (),
    sessions: Collection[str] = (),
    derivatives: Sequence[Path] = (),
    without: Path | None = None,
) -> list[BidsScan]:
    """The scans of a dataset, one for each T1w image; where a map of it is there, the map.

    Args:
        dataset: Folder of the folders `sub-*`.
        participants: Labels, with or without `sub-`; none: everybody.
        sessions: Labels, with or without `ses-`; none: all.
        derivatives: Folders in which maps are looked for, to any depth.
        without: Folder whose maps are left out, because they are those of this program.

    Returns:
        Scans in the order of their names.

    Raises:
        ValueError: A label is not there, nobody has a scan, or a scan has several maps.
    """
    raw = [BidsScan.of(path, stem_of(path.name)) for path in sorted(dataset.glob("sub-*/**/anat/*")) if _is_t1w(path)]
    maps = _maps([dataset, *derivatives], without)
    found = {scan.name: scan for scan in [*raw, *maps]}
    people = {path.name for path in dataset.glob("sub-*") if path.is_dir() and _PARTICIPANT.fullmatch(path.name)}
    people |= {scan.participant_id for scan in found.values()}
    chosen = _chosen("sub-", "participant", participants, people, dataset)
    scans = [scan for scan in found.values() if scan.participant_id in chosen]
    if sessions:
        wanted = _chosen("ses-", "session", sessions, {scan.session_id for scan in scans}, dataset)
        scans = [scan for scan in scans if scan.session_id in wanted]
    if lacking := sorted(chosen - {scan.participant_id for scan in scans}):
        logger.warning("%d participants have neither a T1w scan nor a map: %s.", len(lacking), quoted(lacking))
    if not scans:
        raise ValueError(
            f"{dataset} holds no T1w scan (sub-*/[ses-*/]anat/sub-*_T1w.nii.gz) of those that were asked for, and no "
            "grey-matter map of them was found in its derivatives; look at the names of the files."
        )
    return sorted(scans, key=lambda scan: scan.name)


def _is_t1w(path: Path) -> bool:
    return path.is_file() and _T1W.fullmatch(path.name) is not None


def _maps(places: Sequence[Path], without: Path | None) -> list[BidsScan]:
    """Maps with BIDS names, one for each scan."""
    found: dict[str, BidsScan] = {}
    for place in places:
        for path in find_scans(place) if place.is_dir() else ():
            stem = scan_of(PurePosixPath(path.relative_to(place).as_posix()))
            if not _PARTICIPANT.match(stem) or (without is not None and path.resolve().is_relative_to(without)):
                continue
            scan = BidsScan.of(path, stem)
            other = found.setdefault(scan.name, scan)
            if other.path.resolve() != path.resolve():
                raise ValueError(
                    f"{scan.name} has two maps, {other.path} and {path}, and it cannot be told which to take. Give the "
                    "folder of one pipeline with --derivatives FOLDER."
                )
    return list(found.values())


def _chosen(prefix: str, what: str, labels: Collection[str], there: Collection[str], dataset: Path) -> set[str]:
    """Labels that were asked for, with their prefix; all where none were."""
    wanted = {f"{prefix}{label.removeprefix(prefix)}" for label in labels}
    for label in sorted(wanted - set(there)):
        raise ValueError(f"{dataset} has no {what} {label}{nearest(label, sorted(filter(None, there)))}")
    return wanted or set(there)


def table_of(scans: Sequence[BidsScan], dataset: Path) -> pd.DataFrame:
    """A table for `predict`: a row per scan, with age, sex and head size as the dataset's participants.tsv writes them.

    Args:
        scans: Scans of `scans_of`.
        dataset: Dataset whose they are.
    """
    rows = pd.DataFrame(
        {"file": [str(scan.path.absolute()) for scan in scans], "participant_id": [scan.name for scan in scans]}
    )
    path = dataset / "participants.tsv"
    if not path.is_file():
        return rows
    cells = read_table(path)
    used = find_columns(cells, {}, ("participant_id", "age", "sex", "tiv"), path, options=False)
    if "participant_id" not in used:
        return rows
    by_person = cells.set_index(cells[used.pop("participant_id")].map(person_of))
    known = by_person[~by_person.index.duplicated()].reindex([person_of(scan.participant_id) for scan in scans])
    return rows.assign(**{column: known[column].fillna("").to_numpy() for column in used.values()})
