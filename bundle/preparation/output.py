"""What a folder of prepared scans holds: maps with a record beside each, pages, and tables of all scans."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bundle.files import replacing, sha256, write_json, write_text
from bundle.preparation.outcome import TISSUES, Head
from bundle.preparation.record import Record, read_record
from bundle.scans.grid import REFERENCE

VOLUMES, QUALITY, INDEX, SCANS, FAILED = "tiv.tsv", "qc.tsv", "index.html", "scans", "failed"
SPACE = "_space-MNI152NLin2009cAsym_label-GM_desc-modulated_probseg"
SET_ASIDE = ".failed"  # behind the name of a map that failed: no reader of scans takes it
UNKNOWN = "n/a"  # as BIDS writes it
MNI = 4  # NIfTI's code of an affine that leads into MNI space
_BIDS_NAME = re.compile(r"(sub-[A-Za-z0-9]+)(_ses-[A-Za-z0-9]+)?((?:_[a-z]+-[A-Za-z0-9+]+)*)(?:_[A-Za-z0-9]+)?")
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,150}")
_NOT_BIDS = [VOLUMES, QUALITY, INDEX, SCANS, FAILED]


@dataclass(frozen=True)
class Folder:
    """A folder of prepared scans.

    Attributes:
        path: Path of the folder.
        bids: Whether maps lie as BIDS derivatives, `sub-X/[ses-Y/]anat/…`, or side by side as `mwp1NAME.nii.gz`.
    """

    path: Path
    bids: bool = False

    def map_of(self, name: str, *, failed: bool = False) -> Path:
        """Where the map of a scan lies; one that failed lies where nothing reads it by accident."""
        if failed:
            return self.path / FAILED / f"mwp1{name}.nii.gz{SET_ASIDE}"
        if not self.bids:
            return self.path / f"mwp1{name}.nii.gz"
        subject, session, entities = _parts(name)
        folder = self.path / subject / session.removeprefix("_") / "anat"
        return folder / f"{subject}{session}{entities}{SPACE}.nii.gz"

    def record_of(self, name: str, *, failed: bool = False) -> Path:
        """Where the record of a scan lies."""
        return Path(str(self.map_of(name, failed=failed)).removesuffix(SET_ASIDE).removesuffix(".nii.gz") + ".json")

    def page_of(self, name: str) -> Path:
        """Where the page of a scan lies."""
        return self.path / SCANS / f"{name}.html"

    def thumbnail_of(self, name: str) -> Path:
        """Where the small picture of a scan lies."""
        return self.path / SCANS / f"{name}.webp"

    def require_names(self, heads: Sequence[Head]) -> None:
        """Refuse names that are no names of files, that BIDS has no place for, or that would share one file.

        A folder that holds maps in the other order is refused, too.

        Raises:
            ValueError: Names the scan.
        """
        if Folder(self.path, not self.bids)._maps():
            here, option = ("side by side", "--no-bids") if self.bids else ("as BIDS derivatives", "--bids")
            raise ValueError(
                f"{self.path} holds maps {here}, and tables list maps of one order alone; give {option}, or another "
                "--output."
            )
        places: dict[str, str] = {}
        for name in (head.name for head in heads):
            if not _SAFE_NAME.fullmatch(name):
                raise ValueError(f"'{name}' cannot be a file name; expected letters, digits, '.', '_', '+' and '-'.")
            if self.bids and not _BIDS_NAME.fullmatch(name):
                raise ValueError(
                    f"'{name}' is no BIDS name such as sub-01_ses-1, so BIDS derivatives have no place for it; give "
                    "--no-bids, or rename the scan."
                )
            other = places.setdefault(str(self.map_of(name)).casefold(), name)
            if other is not name:
                raise ValueError(
                    f"The maps of '{other}' and '{name}' would be one file; prepare them into different folders."
                )

    def kept(self, head: Head, pipeline: dict[str, Any]) -> Record | None:
        """The record of a scan that need not be prepared again; else None.

        Args:
            head: The scan.
            pipeline: What its record has to say of the pipeline.
        """
        for failed in (False, True):
            record = read_record(self.record_of(head.name, failed=failed))
            if record is None or not pipeline or not pipeline.items() <= dict(record.pipeline).items():
                continue
            if record.input.get("sha256") != sha256(head.image):
                continue
            whole = not record.map or _is_whole(self.path / record.map["file"], record.map["sha256"])
            if whole and self.page_of(head.name).is_file():
                return record
        return None

    def clear(self, name: str) -> None:
        """Remove what lies there of a scan, its record first."""
        for failed in (False, True):
            self.record_of(name, failed=failed).unlink(missing_ok=True)
            self.map_of(name, failed=failed).unlink(missing_ok=True)
        self.page_of(name).unlink(missing_ok=True)
        self.thumbnail_of(name).unlink(missing_ok=True)

    def save_map(self, name: str, volume: NDArray[np.float32], description: str, *, failed: bool) -> dict[str, str]:
        """Write a map, and say its `file` and `sha256`.

        Args:
            name: Name of the scan.
            volume: Modulated grey matter.
            description: Sentence that says, for the header.
            failed: Whether it is set aside.

        Shape:
            volume `REFERENCE.shape`.
        """
        image = nib.Nifti1Image(np.asarray(volume, dtype=np.float32), REFERENCE.matrix)
        image.set_sform(REFERENCE.matrix, MNI)
        image.set_qform(REFERENCE.matrix, MNI)
        image.header.set_xyzt_units("mm")
        image.header["descrip"] = description.encode("ascii", "replace")[:79]
        path = self.map_of(name, failed=failed)
        with replacing(path) as temporary:
            temporary.write_bytes(gzip.compress(image.to_bytes(), mtime=0))  # without the time: same map, same file
        return {"file": path.relative_to(self.path).as_posix(), "sha256": sha256(path)}

    def records(self) -> list[Record]:
        """Of all scans that lie there, by name."""
        paths = [*self._maps(), *(self.path / FAILED).glob("mwp1*.json")]
        return sorted(filter(None, map(read_record, paths)), key=lambda record: record.name)

    def _maps(self) -> list[Path]:
        """What says something of a map that can be used."""
        return list(self.path.glob(f"sub-*/**/*{SPACE}.json" if self.bids else "mwp1*.json"))

    def write_tables(self, records: Sequence[Record]) -> None:
        """Write `tiv.tsv`, of scans with a map, and `qc.tsv`, of all."""
        rows = [_row(record) for record in records if record.is_usable]
        _write(pd.DataFrame(rows, columns=["participant_id", "session_id", "name", *TISSUES]), self.path / VOLUMES)
        ahead = ["participant_id", "session_id", "name", "status", "reasons", *TISSUES]
        measures = dict.fromkeys(n for record in records for n in record.measures if n not in ahead)
        quality = [
            {**record.measures, **_row(record), "status": record.status, "reasons": " | ".join(record.reasons)}
            for record in records
        ]
        _write(pd.DataFrame(quality, columns=[*ahead, *measures]), self.path / QUALITY)

    def describe(self, pipeline: dict[str, Any]) -> None:
        """Say what BIDS asks of a folder of derivatives, where it is one."""
        if not self.bids:
            return
        made_by = {"Name": pipeline.get("name", "prepare"), "Version": pipeline.get("version", "unknown")}
        description = {"Name": "Modulated grey matter of T1w scans", "BIDSVersion": "1.10.0"}
        made = {"DatasetType": "derivative", "GeneratedBy": [made_by]}
        write_json(self.path / "dataset_description.json", {**description, **made})
        write_text(self.path / ".bidsignore", "".join(f"{name}\n" for name in _NOT_BIDS))


def is_bids(heads: Iterable[Head]) -> bool:
    """Whether all scans lie as BIDS wants it: `sub-X/[ses-Y/]anat/sub-X…`."""
    return all(_lies_as_bids(head) for head in heads)


def _lies_as_bids(head: Head) -> bool:
    if head.made is not None or not _BIDS_NAME.fullmatch(head.name):  # not every map is known to lie in `SPACE`
        return False
    subject, session, _ = _parts(head.name)
    folders = [folder for folder in (subject, session.removeprefix("_"), "anat") if folder]
    return list(head.image.absolute().parent.parts[-len(folders) :]) == folders


def _parts(name: str) -> tuple[str, str, str]:
    """Subject, session and further entities of a BIDS name, the latter two with `_` before them, or empty."""
    named = _BIDS_NAME.fullmatch(name)
    assert named is not None, name
    return named[1], named[2] or "", named[3]


def _is_whole(path: Path, digest: str) -> bool:
    return path.is_file() and sha256(path) == digest


def _row(record: Record) -> dict[str, Any]:
    ids = {"participant_id": record.participant_id, "session_id": record.session_id, "name": record.name}
    return {**{name: text or UNKNOWN for name, text in ids.items()}, **record.volumes}


def _write(table: pd.DataFrame, path: Path) -> None:
    write_text(path, table.to_csv(index=False, sep="\t", na_rep=UNKNOWN, float_format="%.5g"))
