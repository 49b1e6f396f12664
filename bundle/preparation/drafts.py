"""What was found, before it has a name: a head, or the reason why it is none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bundle.preparation.dicom_series import Series
from bundle.preparation.outcome import Made


@dataclass(frozen=True)
class Draft:
    """A scan, or a refusal, that has no name yet.

    Attributes:
        wanted: How it would be called; empty where its own name may tell who the patient is.
        place: Place where it lies, for telling it from others of the same name; it is not written anywhere.
        source: Source, as the user gave it.
        reason: Sentence on why it is no head; empty for a head.
        image: File of a head.
        series: DICOM series of a head, in place of `image`.
        participant_id: BIDS label with `sub-`, or "".
        session_id: BIDS label with `ses-`, or "".
        remarks: Sentences on how it was found.
        made: What is known of the map that `image` is; None for a T1w scan.
    """

    wanted: str
    place: str
    source: Path
    reason: str = ""
    image: Path | None = None
    series: Series | None = None
    participant_id: str = ""
    session_id: str = ""
    remarks: tuple[str, ...] = ()
    made: Made | None = None
