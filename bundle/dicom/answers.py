"""The answers of a run as DICOM objects, for every scan that came as a DICOM series."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from bundle.dicom.answer import SIDES, Answer, Attribution, Preparation, Region
from bundle.dicom.from_prediction import answer_from, attribution_of
from bundle.dicom.objects import write_objects
from bundle.extras import require
from bundle.prediction.table import PredictionTable

logger = logging.getLogger(__name__)


def check_tools(wanted: bool) -> None:
    """Refuse before anything is computed when DICOM objects are wanted and cannot be written.

    Args:
        wanted: Whether they are.

    Raises:
        ValueError: When a library is not installed; says how to install it.
    """
    for module in ("pydicom", "highdicom", "fpdf") if wanted else ():
        require(module, "Writing answers as DICOM")


def write_answers(table: PredictionTable, folder: str | Path, wanted: bool = True) -> list[Path]:
    """Write the answer to each scan that came as a DICOM series, in a folder of its own; one that fails is named.

    Args:
        table: After its pages are written.
        folder: Folder that receives a folder for each scan.
        wanted: Whether anything is written.

    Returns:
        The files.
    """
    came = [place for place, record in enumerate(table.records) if record.get("series")] if wanted else []
    if wanted and not came:
        logger.warning("No scan came as a DICOM series, so no answer is written as DICOM.")
    written: list[Path] = []
    for place in came:
        record = table.records[place]
        try:
            written += write_objects(_answer(table, place), record["series"], Path(folder) / record["name"])
        except (ValueError, OSError) as error:
            logger.warning("The answer to %s was not written as DICOM: %s", record["name"], error)
    if written:
        logger.info("%d DICOM objects: %s", len(written), folder)
    return written


def _answer(table: PredictionTable, place: int) -> Answer:
    """The answer to one scan, with what its page shows."""
    record = table.records[place]
    row = {str(name): value for name, value in table.table.iloc[place].items()}
    page, made = table.shown.get(record["name"], {}), record["prepared"]
    return answer_from(
        row,
        table.model,
        table.scale,
        page=page,
        checks=table.checks[place],
        volumes={name: float(value) for name, value in made["volumes"].items()},
        regions=_regions(table, record["name"]),
        preparation=_preparation(made),
        attribution=_attribution(table, page),
    )


def _preparation(made: Mapping[str, Any]) -> Preparation | None:
    """How the map was made; None where it never was."""
    pipeline = made["pipeline"]
    if not pipeline:
        return None
    software = {str(name): str(version) for name, version in pipeline.get("software", {}).items()}
    return Preparation(
        str(pipeline["name"]), str(pipeline["version"]), made["status"], made["reasons"], software, made["measures"]
    )


def _regions(table: PredictionTable, name: str) -> list[Region]:
    rows = table.regions[table.regions["name"] == name]
    known = rows["z"].notna()
    return [
        Region(str(name), side if side in SIDES else "", float(ml), float(z) if there else None)
        for name, side, ml, z, there in zip(
            rows["region"], rows["side"], rows["volume_ml"], rows["z"], known, strict=True
        )
    ]


def _attribution(table: PredictionTable, page: Mapping[str, Any]) -> Attribution | None:
    """The map of where the network looked, in MNI space; None where there is none."""
    if not page.get("map_file"):
        return None
    image = nib.Nifti1Image.from_filename(table.answers.path / page["map_file"])
    values = np.asarray(image.dataobj, dtype=np.float32)
    return attribution_of(values, np.asarray(image.affine, float), page["method"], page["reading"], in_scanner=False)
