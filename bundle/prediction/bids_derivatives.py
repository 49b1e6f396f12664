"""Answers as BIDS derivatives: files of each scan in the folders of participants, and a table and an index of all."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from bundle.files import replacing, write_json, write_text
from bundle.hints import quoted
from bundle.prediction.answer import model_facts
from bundle.prediction.bids_dataset import DESCRIPTION, BidsScan
from bundle.prediction.incoming import FOLDER as PREPARED
from bundle.prediction.output import INDEX, MAPS, REGIONS, SCANS, TABLE, TEXTS
from bundle.prediction.pages import index_page
from bundle.prediction.table import Model, PredictionTable
from bundle.preparation.output import Folder
from bundle.preparation.record import read_record

BIDS_VERSION = "1.10.0"
PREDICTION, REGIONAL = "_desc-yaware_prediction.tsv", "_desc-yaware_regions.tsv"
ALL, ALL_REGIONS = "predictions.tsv", "regions.tsv"  # of all participants
UNKNOWN = "n/a"
_WORDS = (*TEXTS, "session_id", "verdict", "reasons", "answer", "calibration", "nearest_training_ages")
_NOT_BIDS = (f"*{PREDICTION}", f"*{REGIONAL}", ALL, ALL_REGIONS, INDEX, f"{SCANS}/", f"{MAPS}/", f"{PREPARED}/")
_NAME = "Predictions of a classifier of grey-matter maps"
_README = f"""# {_NAME}

Research use only. Not a medical device.

`sub-*/[ses-*/]anat/*{PREDICTION}` is the answer to one scan, and `*{REGIONAL}` its regions. Where the T1w scan was
prepared here, the grey-matter map lies beside them. `{SCANS}/` holds a page per scan, `{MAPS}/` where the network
looked, and `{PREPARED}/` the pages of the preparation. The group level writes `{ALL}`, `{ALL_REGIONS}` and `{INDEX}`.
"""


def describe(output: Path, version: str) -> None:
    """Write what BIDS asks of a folder of derivatives.

    Args:
        output: Output of the derivatives.
        version: Version of this program.
    """
    made = {"DatasetType": "derivative", "GeneratedBy": [{"Name": "brain-mri-yaware", "Version": version}]}
    write_json(output / DESCRIPTION, {"Name": _NAME, "BIDSVersion": BIDS_VERSION, **made})
    write_text(output / ".bidsignore", "".join(f"{name}\n" for name in _NOT_BIDS))
    write_text(output / "README.md", _README)


def write_scans(scans: Sequence[BidsScan], dataset: Path, answers: Path, output: Path) -> None:
    """Bring the answers of `predict` into the folders of participants; files of other participants stay as they are.

    Args:
        scans: Scans, in the order of the table that was predicted.
        dataset: Dataset that they are from; the tables name files from there.
        answers: Folder that `predict` wrote.
        output: Output of the derivatives.
    """
    rows = pd.read_csv(answers / TABLE, dtype=str, keep_default_na=False)
    regions = pd.read_csv(answers / REGIONS, sep="\t", dtype=str, keep_default_na=False)
    for scan, (_, row) in zip(scans, rows.iterrows(), strict=True):
        own = regions[regions["file"] == row["file"]]
        place = Folder(output, bids=True).map_of(scan.name).parent / scan.name
        about = {
            "participant_id": scan.participant_id,
            "session_id": scan.session_id,
            "file": _seen_from(scan, dataset),
        }
        for table, ending in ((row.to_frame().T, PREDICTION), (own, REGIONAL)):
            known = table.drop(columns="session_id", errors="ignore").assign(**about)
            _write(known[[*about, *(name for name in known if name not in about)]], Path(f"{place}{ending}"))
        _copy_map(answers / PREPARED, row["name"], scan.name, output)
    for part in (SCANS, MAPS, f"{PREPARED}/{SCANS}"):
        for path in sorted((answers / part).glob("*")):
            _copy(path, output / part / path.name)


def _seen_from(scan: BidsScan, dataset: Path) -> str:
    """Where a scan lies in its dataset; of a map that lies elsewhere, its name."""
    path, top = scan.path.absolute(), dataset.absolute()
    return path.relative_to(top).as_posix() if path.is_relative_to(top) else path.name


def _copy_map(prepared: Path, name: str, bids_name: str, output: Path) -> None:
    """Copy the map of a scan that was prepared here, with its record."""
    source, target = Folder(prepared), Folder(output, bids=True)
    record = read_record(source.record_of(name))
    if record is None or not record.map:
        return
    place = target.map_of(bids_name)
    _copy(source.map_of(name), place)
    file = place.relative_to(output).as_posix()
    replace(record, name=bids_name, map={**record.map, "file": file}).write(target.record_of(bids_name))


def _copy(source: Path, target: Path) -> None:
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)


def _write(table: pd.DataFrame, path: Path) -> None:
    write_text(path, table.replace("", UNKNOWN).to_csv(sep="\t", index=False, na_rep=UNKNOWN))


def write_group(output: Path, model: Model) -> int:
    """Write the table, the regions and the index of all participants who have answers.

    Args:
        output: Output of the derivatives.
        model: Model that gave the answers.

    Returns:
        How many scans there are.

    Raises:
        ValueError: There is no answer, or one of another model.
    """
    paths = sorted(output.glob(f"sub-*/**/anat/*{PREDICTION}"))
    if not paths:
        raise ValueError(
            f"{output} holds no answer of a participant (sub-*/[ses-*/]anat/*{PREDICTION}); run the level "
            "`participant` first, with the same output folder."
        )
    table = _joined(paths)
    _require_model(table, model, output)
    _write(table, output / ALL)
    _write(_joined(sorted(output.glob(f"sub-*/**/anat/*{REGIONAL}"))), output / ALL_REGIONS)
    rows = [_with_page(row, output) for row in table.to_dict("records")]
    facts = model_facts(model)
    write_text(output / INDEX, index_page(rows, facts, PredictionTable([], model, output), ALL))
    return len(rows)


def _joined(paths: Sequence[Path]) -> pd.DataFrame:
    """Tables below each other; words that are not known are empty, and numbers NaN."""
    words = dict.fromkeys(_WORDS, str)
    options: dict[str, Any] = {"sep": "\t", "keep_default_na": False, "na_values": [UNKNOWN], "dtype": words}
    table = pd.concat([pd.read_csv(path, **options) for path in paths], ignore_index=True)
    return table.assign(**{name: table[name].fillna("") for name in _WORDS if name in table})


def _require_model(table: pd.DataFrame, model: Model, output: Path) -> None:
    others = table.loc[table["model_sha256"] != model.sha256]
    if len(others):
        raise ValueError(
            f"{output} holds {len(others)} answers of {quoted(sorted(set(others['model'])))} that are not of the model "
            f"{model.path} (sha256 {model.sha256[:12]}…). Answers of two models do not go into one table: give the "
            "--model of the level `participant`, or predict these participants again."
        )


def _with_page(row: Mapping[Any, Any], output: Path) -> dict[str, Any]:
    """A row of the index, which names the scan."""
    page = f"{SCANS}/{row['name']}.html"
    known = {str(name): value for name, value in row.items()}
    return {**known, "participant_id": row["name"], "page": page if (output / page).is_file() else ""}
