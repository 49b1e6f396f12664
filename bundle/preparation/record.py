"""What is kept of one scan that was prepared, as JSON beside its map: by what, how well, and from which file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from bundle.files import read_json, sha256, write_json
from bundle.preparation.outcome import FAIL, STATES, Head, Outcome, Refusal

FORMAT = 1
REFUSED = "refused"  # an input that was never prepared
STATUSES = (*STATES, REFUSED)
DESCRIPTION = {"Description": "Modulated grey matter: probability times the change of volume. Values above 1 occur."}
ABOUT_THE_MAP = {
    **DESCRIPTION,
    "SpatialReference": "MNI152NLin2009cAsym",
    "SkullStripped": True,
    "Manual": False,
}


@dataclass(frozen=True)
class Record:
    """What is known of one scan; nothing of it names a patient or a place on a disk.

    Attributes:
        name: Unique in a folder, and safe as a file name.
        status: One of `STATUSES`.
        reasons: Sentences behind `warn`, `fail` and `refused`.
        participant_id: BIDS label with `sub-`, or "".
        session_id: BIDS label with `ses-`, or "".
        remarks: Sentences on how the scan was found and chosen.
        input: `sha256` of the file that was read.
        pipeline: `name`, `version`, `software`, `settings` and `threads`, of a map that was taken `report` (a digest of
            what its pipeline reports) in place of the latter three; empty where nothing was computed.
        measures: Values of quality control by name.
        volumes: mL by tissue.
        seconds: CPU seconds of each step.
        map: `file`, relative to the folder, and its `sha256`; empty where there is none.
        format: Format of this record.
    """

    name: str
    status: str
    reasons: tuple[str, ...] = ()
    participant_id: str = ""
    session_id: str = ""
    remarks: tuple[str, ...] = ()
    input: Mapping[str, str] = field(default_factory=dict)
    pipeline: Mapping[str, Any] = field(default_factory=dict)
    measures: Mapping[str, float] = field(default_factory=dict)
    volumes: Mapping[str, float] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    map: Mapping[str, str] = field(default_factory=dict)
    format: int = FORMAT

    @classmethod
    def of(cls, head: Head, outcome: Outcome) -> Record:
        """The record of a scan whose preparation came to an end; its map is not known yet."""
        parts = ("status", "reasons", "measures", "volumes", "seconds", "pipeline")
        said = {name: getattr(outcome, name) for name in parts}
        return cls(**_about(head), **said, input={"sha256": sha256(head.image)})

    @classmethod
    def of_failure(cls, head: Head, sentence: str) -> Record:
        """The record of a scan whose preparation did not come to an end."""
        return cls(**_about(head), status=FAIL, reasons=(sentence,))

    @classmethod
    def of_refusal(cls, refusal: Refusal) -> Record:
        """The record of an input that cannot be prepared."""
        return cls(refusal.name, REFUSED, (refusal.reason,))

    @property
    def is_usable(self) -> bool:
        """Whether there is a map that models may read."""
        return self.status not in (FAIL, REFUSED)

    @property
    def is_taken(self) -> bool:
        """Whether another pipeline has made the map, which was taken as it is."""
        return "report" in self.pipeline

    def write(self, path: Path) -> None:
        """Write the record as JSON; one beside a map also says what BIDS asks of a derivative."""
        about = {} if not self.map else ABOUT_THE_MAP if not self.is_taken else DESCRIPTION
        write_json(path, {**asdict(self), **about})


def read_record(path: Path) -> Record | None:
    """The record that a file holds; None where it is missing, damaged, or no record of this format.

    Args:
        path: JSON of `Record.write`.
    """
    try:
        content = read_json(path)
    except ValueError:
        return None
    names = {entry.name for entry in fields(Record)}
    if not isinstance(content, dict) or content.get("format") != FORMAT or not names <= set(content):
        return None
    known = {name: content[name] for name in names}
    lists = all(isinstance(known[name], list) for name in ("reasons", "remarks"))
    maps = ("input", "pipeline", "measures", "volumes", "seconds", "map")
    if not lists or not all(isinstance(known[name], dict) for name in maps) or known["status"] not in STATUSES:
        return None
    return Record(**{**known, "reasons": tuple(known["reasons"]), "remarks": tuple(known["remarks"])})


def _about(head: Head) -> dict[str, Any]:
    return {name: getattr(head, name) for name in ("name", "participant_id", "session_id", "remarks")}
