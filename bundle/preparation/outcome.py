"""What goes into a preparation and what comes out of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

OK, WARN, FAIL = STATES = ("ok", "warn", "fail")
TISSUES = ("tiv", "gm", "wm", "csf")  # keys of `Outcome.volumes`


@dataclass(frozen=True)
class Made:
    """A grey-matter map that is there already.

    Attributes:
        path: The map.
        name: Unique and safe as a file name.
        pipeline: What made it, such as `CAT12`; `unknown` where nothing says it.
        version: Version of the pipeline; empty where nothing says it.
        volumes: mL of `TISSUES`, those that are known.
        quality: The pipeline's own ratings by name.
        remarks: Sentences on what is missing or unusual.
        doubts: Sentences on what may be wrong with it, such as a poor rating.
    """

    path: Path
    name: str
    pipeline: str
    version: str = ""
    volumes: Mapping[str, float] = field(default_factory=dict)
    quality: Mapping[str, float] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    @property
    def by(self) -> str:
        """Pipeline and version."""
        return f"{self.pipeline} {self.version}".strip()


@dataclass(frozen=True)
class Head:
    """One T1w scan to prepare, or a map that was made of one and is taken as it is.

    Attributes:
        name: Unique and safe as a file name; no patient's name, id or date is in it.
        image: NIfTI or MGH file that is read; of a DICOM series the one that it was converted to.
        source: Source where the scan was found, as the user gave it.
        participant_id: BIDS label with `sub-`, or "".
        session_id: BIDS label with `ses-`, or "".
        series: Folder that holds the files of the chosen DICOM series and nothing else; None for other files.
        remarks: Sentences on how the scan was found and chosen.
        made: What is known of the map that `image` is; None for a T1w scan.
    """

    name: str
    image: Path
    source: Path
    participant_id: str = ""
    session_id: str = ""
    series: Path | None = None
    remarks: tuple[str, ...] = ()
    made: Made | None = None


@dataclass(frozen=True)
class Refusal:
    """An input that cannot be prepared.

    Attributes:
        name: How tables and messages call it.
        source: Source where it was found.
        reason: A sentence: what was found, what was expected, what to do.
    """

    name: str
    source: Path
    reason: str


@dataclass(frozen=True)
class Layers:
    """What a page of quality control draws.

    Attributes:
        affine: 4 × 4, index → mm, of the native volumes.
        brain: (X, Y, Z) T1w in the brain, bias corrected, about 1 = white matter.
        mask: (X, Y, Z) bool.
        gm: (X, Y, Z) probability of grey matter.
        wm: (X, Y, Z) probability of white matter.
        warped_gm: Grey matter on `scans.grid.REFERENCE`, not modulated.
        template_gm: The template's, on the same grid.
    """

    affine: NDArray[np.float64]
    brain: NDArray[np.float32]
    mask: NDArray[np.bool_]
    gm: NDArray[np.float32]
    wm: NDArray[np.float32]
    warped_gm: NDArray[np.float32]
    template_gm: NDArray[np.float32]


@dataclass(frozen=True)
class Outcome:
    """What became of one T1w scan.

    Attributes:
        status: `ok`, `warn` or `fail`.
        reasons: Sentences behind `warn` and `fail`.
        measures: Values of quality control by name, see `quality.LIMITS`; only those that were reached.
        volumes: mL of `TISSUES`; empty where the preparation stopped before they were known.
        map: (121, 145, 121) modulated grey matter on `scans.grid.REFERENCE`; None where there is none.
        layers: What a page draws; None where the preparation stopped early.
        pipeline: `name`, `version`, and `software` with its versions.
        seconds: CPU seconds of each step.
    """

    status: str
    reasons: tuple[str, ...]
    measures: Mapping[str, float]
    volumes: Mapping[str, float]
    map: NDArray[np.float32] | None
    layers: Layers | None
    pipeline: Mapping[str, Any]
    seconds: Mapping[str, float] = field(default_factory=dict)


Backend = Callable[[nib.spatialimages.SpatialImage], Outcome]
