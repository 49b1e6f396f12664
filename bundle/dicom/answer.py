"""What the DICOM objects say of a scan, as plain values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.prediction.judgement import CANNOT, GIVEN, NOT_CALIBRATED

REFUSED = "refused"
STATES = (GIVEN, NOT_CALIBRATED, CANNOT, REFUSED)
SIDES = ("left", "right", "")


@dataclass(frozen=True)
class Network:
    """The model that answered.

    Attributes:
        name: Name of the model.
        version: Version of the weights, or "".
        sha256: Sha256 of the weights, hexadecimal.
        intended_use: What the model is for.
        classes: Names of the control and of the patient class.
        warning: What a demonstration model says of itself, or "".
        facts: Further names and values of what is known of the model.
    """

    name: str
    version: str
    sha256: str
    intended_use: str
    classes: tuple[str, str]
    warning: str = ""
    facts: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class OperatingPoint:
    """From which number on a scan is called a patient's, and what that is worth on the validation.

    Attributes:
        probability: Calibrated probability from which on a scan is called a patient's; None = not calibrated.
        sensitivity: Share of the validation's patients who were called right; None = unknown.
        specificity: Share of the others who were called right; None = unknown.
        prevalence: Share of patients among those who are scanned.
        ppv: Positive predictive value at that prevalence; None = unknown.
        npv: Negative predictive value at that prevalence; None = unknown.
        people: People, in the validation.
    """

    probability: float | None
    sensitivity: float | None
    specificity: float | None
    prevalence: float
    ppv: float | None
    npv: float | None
    people: int


@dataclass(frozen=True)
class BrainAge:
    """The age that a brain looks like.

    Attributes:
        years: The estimate.
        error: Mean absolute error of such estimates in healthy people, years.
        gap: Years more than in healthy people of the same age; None = unknown.
    """

    years: float
    error: float
    gap: float | None = None


@dataclass(frozen=True)
class Region:
    """The volume of a named region.

    Attributes:
        name: Name of the region, without its side.
        side: One of `SIDES`; "" for a region of both sides, or none.
        millilitres: Millilitres of grey matter in it.
        z: Standard deviations from what is expected at that age, sex and head size; None = unknown.
    """

    name: str
    side: str
    millilitres: float
    z: float | None = None


@dataclass(frozen=True)
class Attribution:
    """Where the network looked.

    Attributes:
        values: (X, Y, Z), in `unit`.
        affine: 4 × 4, index → mm, RAS as in NIfTI.
        unit: What the values are, in words.
        ucum: The unit in UCUM: `%`, `1`, or `[arb'U]` for arbitrary units.
        method: Its name, such as `occlusion`.
        explanation: A sentence: how high and low values are read.
        in_scanner: Whether the coordinates are those of the scanner in the DICOM series; otherwise they are MNI's.
    """

    values: NDArray[np.float32]
    affine: NDArray[np.float64]
    unit: str
    ucum: str
    method: str
    explanation: str
    in_scanner: bool


@dataclass(frozen=True)
class Preparation:
    """How the map was made from the scan, and what its quality control found.

    Attributes:
        name: Name of the pipeline.
        version: Version of the pipeline.
        status: `ok`, `warn` or `fail`.
        reasons: Sentences behind `warn` and `fail`.
        software: Versions of what the pipeline uses, by name.
        measures: Values of quality control, by name.
    """

    name: str
    version: str
    status: str
    reasons: Sequence[str] = ()
    software: Mapping[str, str] = field(default_factory=dict)
    measures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Chart:
    """A picture of the page.

    Attributes:
        image: PNG or WebP as a data URI.
        caption: What it shows.
    """

    image: str
    caption: str


@dataclass(frozen=True)
class Answer:
    """Everything that the objects say of one scan.

    Attributes:
        scan: Its name on the pages; no patient's name, id or date is in it.
        model: Model that answered.
        state: One of `STATES`.
        headline: The answer in a few words, as the page shows it first.
        verdict: `pass`, `warn` or `refuse`.
        reasons: Sentences behind the verdict.
        called: Name of the class that the scan is called; "" where it is called none.
        probability: Calibrated probability of the patient class; None unless the answer is given.
        uncertainty: Standard deviation of the probability over slightly changed copies of the scan; None = unknown.
        operating_point: None where the model cannot answer.
        brain_age: None where it is unknown or the model cannot answer.
        distance_percentile: Distance percentile of the distance from the training subjects, 0 to 100; None = unknown.
        volumes: mL of `tiv`, `gm`, `wm` and `csf`, as far as they are known.
        regions: Volumes of regions.
        preparation: None where the map was given and not prepared here.
        attribution: None where nothing is explained.
        checks: What was checked: `name`, `measured`, `limit`, `verdict` and `source` of each.
        charts: Pictures of where the scan stands among others.
        brain: Slices as `prediction.slices.drawn` gives them; empty = none.

    Raises:
        ValueError: When the values contradict each other, such as a probability without an answer.
    """

    scan: str
    model: Network
    state: str
    headline: str
    verdict: str
    reasons: Sequence[str] = ()
    called: str = ""
    probability: float | None = None
    uncertainty: float | None = None
    operating_point: OperatingPoint | None = None
    brain_age: BrainAge | None = None
    distance_percentile: float | None = None
    volumes: Mapping[str, float] = field(default_factory=dict)
    regions: Sequence[Region] = ()
    preparation: Preparation | None = None
    attribution: Attribution | None = None
    checks: Sequence[Mapping[str, str]] = ()
    charts: Sequence[Chart] = ()
    brain: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problem = self._contradiction()
        if problem:
            raise ValueError(f"The answer to {self.scan} contradicts itself: {problem}. Nothing is written of it.")

    @property
    def is_answered(self) -> bool:
        """Whether the scan is called one class or the other."""
        return self.state in (GIVEN, NOT_CALIBRATED)

    @property
    def disease(self) -> str:
        """Name of the patient class."""
        return self.model.classes[1]

    def _contradiction(self) -> str:
        """What is wrong, or nothing."""
        if self.state not in STATES:
            return f"its state is '{self.state}', expected one of {', '.join(STATES)}"
        if (self.probability is None) == (self.state == GIVEN):
            return f"its state is '{self.state}', and its probability {self.probability}"
        if self.probability is not None and not 0 <= self.probability <= 1:
            return f"its probability is {self.probability}, expected 0 to 1"
        if (self.called in self.model.classes) != self.is_answered:
            return f"its state is '{self.state}', and it is called '{self.called}'"
        if not self.is_answered and (self.operating_point or self.brain_age or self.attribution):
            return f"its state is '{self.state}', and it has an operating point, an age or a map all the same"
        if self.state == REFUSED and self.distance_percentile is not None:
            return "it was refused, and it has a distance from the training subjects all the same"
        numbers = [*self.volumes.values(), *(region.millilitres for region in self.regions)]
        return "" if all(map(math.isfinite, numbers)) else "a volume is no number"
