"""Scans as they come: maps are taken as they are, T1w scans, DICOM and archives are prepared first."""

from __future__ import annotations

import atexit
import logging
import math
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bundle.cohort.modality import modality_of_datalist
from bundle.cohort.sheet import ENDINGS as TABLES
from bundle.hints import quoted
from bundle.prediction.listing import list_scans, named
from bundle.preparation.archives import is_archive
from bundle.preparation.dicom_headers import is_dicom
from bundle.preparation.made import POOR, made_of, rated
from bundle.preparation.outcome import OK, Head, Refusal
from bundle.preparation.outcome import WARN as STATE_WARN
from bundle.preparation.output import SCANS
from bundle.preparation.record import Record
from bundle.preparation.rows import one_head, prepare_rows, prepare_side_by_side
from bundle.preparation.sources import find_heads
from bundle.scans.contract import PASS, REFUSE, WARN, Check
from bundle.scans.grid import KNOWN_GRIDS, REFERENCE, Grid, templates, to_grid
from bundle.scans.made_by import EMBEDDED, UNKNOWN, pipeline_of
from bundle.scans.map_names import is_beside_map, scan_of, sources_of
from bundle.scans.measures import correlation
from bundle.scans.modality import GREY_MATTER, Modality
from bundle.scans.placement import grid_of
from bundle.scans.scan import ENDINGS, Scan, ScanError, find_scans, read_scan
from bundle.scans.volumes import VolumeError

MOST = 10.0  # every value of a grey-matter map lies below, and the white matter of a T1w scan above
ALIKE = 0.6  # correlation with the template of grey matter from which on an image may be a map, as in `scans.limits`
COARSE = Grid.of((40, 48, 40), [[-4.5, 0, 0, 87.75], [0, 4.5, 0, -123.75], [0, 0, 4.5, -69.75], [0, 0, 0, 1]])
FOLDER = "prepared"  # of the answers, where maps are kept
LISTS = (*TABLES, ".json")
SEVERAL = (
    "{source} does not say which files belong to one scan, but the model reads {kind.plural}, of which a scan has "
    "several ({files}). Give a datalist; one is made by `cohort --modality {kind.option} --images PATTERN --channels "
    "PATTERN`."
)
logger = logging.getLogger(__name__)


def needs_preparation(path: str | Path, modality: Modality = GREY_MATTER) -> bool:
    """Whether a file is an image as a scanner gives it, a DICOM file or an archive, and no map.

    What cannot be read is no such file: the contract says what is wrong with it.

    Args:
        path: Path of the file.
        modality: Modality of the maps; images are told from grey-matter maps by their values, and from no others.
    """
    file = Path(path)
    if file.suffix == ".npy" or not file.is_file():
        return file.is_dir()
    if not file.name.lower().endswith(ENDINGS):
        return True
    if modality != GREY_MATTER:
        return False
    try:
        if pipeline_of(file) not in (UNKNOWN, EMBEDDED) or grid_of(file) in KNOWN_GRIDS:
            return False
        scan = read_scan(file, REFERENCE)
        return bool(scan.volume.max() > MOST) and not _is_rescaled_map(scan)
    except (VolumeError, ScanError):
        return False


def _is_rescaled_map(scan: Scan) -> bool:
    """Whether an image has large values and is grey matter in MNI space all the same: the contract says so."""
    volume = to_grid(scan.volume, scan.affine, COARSE)
    fit = {name: correlation(volume, known) for name, known in templates(COARSE).items()}
    return fit["grey matter"] > ALIKE and fit["grey matter"] > max(fit["T1w"], fit["white matter"])


@dataclass(frozen=True)
class Incoming:
    """How scans that are no maps become maps before they are predicted.

    Attributes:
        folder: Folder that keeps the maps, and from which they are taken the next time.
        pipeline: `ants` or `deepmriprep`.
        series: Number of the DICOM series to take where there are several; None: by the rules.
        work: Work, for what is unpacked and converted; it is gone when the program ends.
    """

    folder: Path
    pipeline: str
    series: int | None
    work: Path

    def record(self, known: Mapping[str, Any], made: Record, head: Head | None) -> dict[str, Any]:
        """A record of a scan that was prepared, or could not be.

        Args:
            known: What is known of the person, as of `list_scans`.
            made: Made of the preparation.
            head: The scan; None where there was none.
        """
        place = self.folder / (made.map["file"] if made.is_usable else f"{SCANS}/{made.name}.html")
        own = head is not None and not head.image.is_relative_to(self.work)  # else its path may name the patient
        tiv = made.volumes.get("tiv", math.nan) if math.isnan(known["tiv"]) else known["tiv"]
        return {
            **known,
            "image": str(place) if made.is_usable else "",
            "file": str(head.image) if head is not None and own else str(place),
            "tiv": tiv,
            "series": None if head is None else head.series,
            "prepared": asdict(made),
            "prepared_page": str(self.folder / SCANS / f"{made.name}.html"),
        }


def incoming_scans(
    source: str | Path,
    images: str | None = None,
    prepared: str | Path = FOLDER,
    prepared_only: bool = False,
    pipeline: str = "ants",
    series: int | None = None,
    modality: Modality = GREY_MATTER,
) -> list[dict[str, Any]]:
    """Which scans to predict, as maps: what is none is prepared first, where the model reads grey matter.

    Args:
        source: Source; see `list_scans`; also a DICOM file, a `.zip` or `.tar` archive, or a folder that holds such.
        images: Images; see `list_scans`.
        prepared: Folder that keeps the maps.
        prepared_only: Refuse scans that are no maps.
        pipeline: `ants` or `deepmriprep`.
        series: Number of the DICOM series to take where there are several; None: by the rules.
        modality: Modality that the model reads; of another one than grey matter every scan has to be a map.

    Returns:
        Records of `list_scans`, those of maps as of `described`. Those of prepared scans also have `file` (what the
        table says in place of the map), `series` (folder of the DICOM files, or None) and `prepared` (the record of the
        preparation); `image` is empty where there is no map.

    Raises:
        ValueError: When there is no scan, a datalist is of another modality, or scans are no maps and `prepared_only`
            is set.
    """
    _require_modality(Path(source), modality)
    if modality != GREY_MATTER:
        return _maps_alone(Path(source), images, modality)
    work = Path(tempfile.mkdtemp(prefix="yaware_incoming_"))
    atexit.register(shutil.rmtree, work, ignore_errors=True)
    incoming = Incoming(Path(prepared), pipeline, series, work)
    place = Path(source)
    if images or (place.is_file() and place.suffix.lower() in LISTS):
        return [described(record) for record in _of_list(list_scans(place, images), incoming, prepared_only)]
    return named([described(record) for record in _of_place(place, incoming, prepared_only)])


def _require_modality(source: Path, modality: Modality) -> None:
    if source.suffix.lower() != ".json" or not source.is_file():
        return
    own = modality_of_datalist(source)
    if own != modality:
        raise ValueError(
            f"{source} holds {own.plural}, but the model reads {modality.plural}. Give a model of {own.plural}, or a "
            f"datalist of {modality.plural}."
        )


def _maps_alone(source: Path, images: str | None, modality: Modality) -> list[dict[str, Any]]:
    """Records of maps of another modality than grey matter, of which nothing is prepared here."""
    if modality.channels and source.suffix.lower() != ".json":
        raise ValueError(SEVERAL.format(source=source, kind=modality, files=", ".join(modality.channels)))
    if not source.is_dir() and needs_preparation(source, modality) and source.suffix.lower() not in LISTS:
        raise ValueError(
            f"{source} is no image file; the model reads {modality.plural}. Make one first: only grey-matter maps are "
            "made here."
        )
    others = may_name_a_patient(source) if source.is_dir() else False
    if others:
        logger.warning(
            f"{source} also holds DICOM files or archives, which are left out: the model reads {modality.plural}."
        )
    return list_scans(source, images)


def described(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record of a map with what files beside it say: `tiv`, where nothing else does, and `made`, for its check.

    Args:
        record: Training record of `list_scans`, or of a scan that was prepared, which is left as it is.
    """
    path = Path(record["image"])
    if record.get("prepared") or not record["image"] or not scan_of(path):
        return dict(record)
    made = made_of(path)
    tiv = made.volumes.get("tiv", math.nan) if math.isnan(record["tiv"]) else record["tiv"]
    said = {"by": "" if made.pipeline == UNKNOWN else made.by, "rated": rated(made), "doubts": list(made.doubts)}
    return {**record, "tiv": tiv, "made": said}


def may_name_a_patient(source: str | Path) -> bool:
    """Whether a file or a folder holds DICOM files or archives, whose paths often are a patient's name.

    Args:
        source: Source; see `incoming_scans`.
    """
    place = Path(source)
    files = place.rglob("*") if place.is_dir() else [place]
    others = (path for path in files if path.is_file() and not path.name.lower().endswith((*ENDINGS, *LISTS)))
    return any(is_archive(path.name) or is_dicom(path) for path in others)


def counted(source: str | Path, images: str | None = None) -> str:
    """How many scans there are, in words; nothing is unpacked, converted or prepared.

    Args:
        source: Source; see `incoming_scans`.
        images: Images; see `list_scans`.
    """
    place = Path(source)
    listed = list_scans(place, images) if not place.is_dir() or any(find_scans(place)) else []
    if place.is_dir():
        listed = _without_doubles(listed)[0]
    raw = sum(needs_preparation(record["image"]) for record in listed)
    said = [f"{len(listed)}" + (f", {raw} of which would be prepared" if raw else "")]
    others = [path for path in sorted(place.rglob("*")) if path.is_file() and not path.name.lower().endswith(ENDINGS)]
    if packed := sum(is_archive(path.name) for path in others):
        said.append(f"{packed} archive(s)")
    if series := sum(is_dicom(path) for path in others if not is_archive(path.name)):
        said.append(f"{series} DICOM files")
    return " and ".join(said)


def _of_place(place: Path, incoming: Incoming, prepared_only: bool) -> list[dict[str, Any]]:
    """Records of everything in a file, a folder or an archive."""
    listed = list_scans(place) if not place.is_dir() or any(find_scans(place)) else []
    listed, left = _without_doubles(listed)
    maps = [record for record in listed if not needs_preparation(record["image"])]
    if not place.is_dir() and maps:
        return maps
    known = [*(Path(record["image"]) for record in maps), *left]
    heads, refusals = find_heads([place], incoming.work, incoming.series, known)
    _require_maps([*heads, *refusals], prepared_only)
    if not maps and not heads:
        raise ValueError(" ".join(f"{refusal.name}: {refusal.reason}" for refusal in refusals))
    made = prepare_side_by_side(heads, refusals, incoming.folder, incoming.pipeline)
    every = zip([*heads, *[None] * len(refusals)], made, strict=True)
    unknown = {"age": math.nan, "sex": "", "tiv": math.nan}
    return [
        *maps,
        *(
            incoming.record({"participant_id": record.participant_id or record.name, **unknown}, record, head)
            for head, record in every
        ),
    ]


def _without_doubles(listed: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], set[Path]]:
    """Without what maps make needless: the scans that they were made from, and other outputs of their pipelines."""
    paths = [Path(record["image"]) for record in listed]
    maps = [path for path in paths if scan_of(path)]
    scans = {(path.parent, scan_of(path)) for path in maps}
    outputs = {path for path in paths if is_beside_map(path, scans)}
    sources = {Path(path) for path in sources_of([path for path in paths if path not in outputs], maps)}
    if sources:
        logger.info(
            "%d scans are left out, because their maps are there; `prepare --again` makes maps of them.", len(sources)
        )
    if outputs:
        logger.info("%d images are left out: a pipeline wrote them beside its maps.", len(outputs))
    left = outputs | sources
    return [record for record, path in zip(listed, paths, strict=True) if path not in left], left


def _of_list(listed: Sequence[Mapping[str, Any]], incoming: Incoming, prepared_only: bool) -> list[dict[str, Any]]:
    """Records of the rows of a table; a row names one scan."""
    raw = {record["name"]: Path(record["image"]) for record in listed if needs_preparation(record["image"])}
    found = {name: one_head(name, place, incoming.work, incoming.series) for name, place in raw.items()}
    _require_maps(list(found.values()), prepared_only)
    made = prepare_rows(found, incoming.folder, incoming.pipeline)
    heads = {name: each for name, each in found.items() if isinstance(each, Head)}
    return [
        incoming.record(record, made[name], heads.get(name)) if (name := record["name"]) in made else dict(record)
        for record in listed
    ]


def _require_maps(others: Sequence[Head | Refusal], prepared_only: bool) -> None:
    if prepared_only and others:
        raise ValueError(
            f"{len(others)} scan(s) are no grey-matter maps ({quoted(each.name for each in others)}), and "
            "--prepared_only was given. Prepare them first (`prepare SCANS --output DIR`), or leave it out."
        )


def preparation_check(record: Mapping[str, Any]) -> Check | None:
    """What the preparation of a scan found, as one of its checks; None where nothing is known of it.

    Args:
        record: Training record of `incoming_scans`.
    """
    made = record.get("prepared")
    if not made:
        return _check_of_others(record.get("made"))
    verdict = {OK: PASS, STATE_WARN: WARN}.get(made["status"], REFUSE)
    by = _pipeline(record)
    measured = f"{made['status']}, by {by}" if by else made["status"]
    reason = " ".join(made["reasons"]) or ("" if verdict == PASS else "See the page of the preparation.")
    return Check("preparation", measured, "ok", "quality control of the preparation", verdict, reason)


def _check_of_others(made: Mapping[str, Any] | None) -> Check | None:
    """What the pipeline that made a map says of it; a pipeline that reports nothing is no fault."""
    if not made or not (made["by"] or made["doubts"]):
        return None
    measured = ", ".join(filter(None, [made["by"] or "by an unknown pipeline", made["rated"]]))
    limit = f"a rating of at most {POOR:g}" if made["rated"] else ""
    verdict = WARN if made["doubts"] else PASS
    return Check("preparation", measured, limit, "what lies beside the map", verdict, " ".join(made["doubts"]))


def preparations(records: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Columns of a table: the `pipeline` that made each map, and what its quality control here found, if it did.

    Args:
        records: Records of `list_scans` or `incoming_scans`.
    """
    return {
        "pipeline": [_pipeline(record) for record in records],
        "preparation": [record["prepared"]["status"] if record.get("prepared") else "" for record in records],
    }


def _pipeline(record: Mapping[str, Any]) -> str:
    """Name and version of the pipeline that made a map; empty where there is no map."""
    if not record.get("prepared"):
        return pipeline_of(record["image"])
    made = record["prepared"]["pipeline"]
    return f"{made.get('name', '')} {made.get('version', '')}".strip()
