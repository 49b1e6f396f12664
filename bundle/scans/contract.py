"""What a volume must be before a network sees it, with limits from anatomy and from the training cohort."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bundle.scans.grid import REFERENCE, TISSUES, Array, Grid, templates, to_grid
from bundle.scans.made_by import EMBEDDED, UNKNOWN, is_same_pipeline, pipeline_of
from bundle.scans.scan import Scan, ScanError, read_scan

PASS, WARN, REFUSE = "pass", "warn", "refuse"
VERDICTS = (PASS, WARN, REFUSE)
LEVELS = (0.0, 0.5, 2.5, 10.0, 25.0, 50.0, 75.0, 90.0, 97.5, 99.5, 100.0)  # percentiles that a card keeps
UNLIKE_SD = 4.0  # robust standard deviations from the training median beyond which a scan is unlike it
PROFILED = 500  # training scans that are measured for a card
SIDES = (6, 8, 6)  # cells in which the two halves of a brain are compared
INF = math.inf
ZERO = 0.01  # grey-matter density below which a voxel is background
CAT12 = "give the T1w itself to `prepare`, or preprocess it with CAT12 and give mri/mwp1*.nii"


@dataclass(frozen=True)
class Limit:
    """Where a measure must lie.

    Attributes:
        unit: Unit of the measure.
        refuse: Lowest and highest value that a grey-matter map can have.
        warn: Lowest and highest value that is usual.
        source: Words that say where the limits come from.
        low: What to do about a value that is too low.
        high: What to do about a value that is too high.
    """

    unit: str
    refuse: tuple[float, float]
    warn: tuple[float, float]
    source: str
    low: str
    high: str


LIMITS = {
    "lowest value": Limit(
        "", (-0.1, 0.3), (-0.02, 0.05), "a density is not negative",
        f"negative values are no grey matter (a CT, or a z-scored map?); {CAT12}",
        "there is no background; give the whole map, not a cut-out",
    ),
    "highest value": Limit(
        "", (0.3, 6.0), (0.5, 3.0), "modulated density is a probability times a change of volume",
        "the values are too small for grey matter; do not rescale the map",
        f"the values are those of a raw or rescaled image, not of grey matter; {CAT12}",
    ),
    "background": Limit(
        "% of voxels", (30.0, 97.0), (50.0, 92.0), "grey matter fills a tenth to a third of the MNI box",
        f"too few voxels are empty, as in an image with skull or with noise; {CAT12}",
        f"almost all voxels are empty; the map is cut off or lies elsewhere; {CAT12}",
    ),
    "grey matter": Limit(
        "mL", (250.0, 1300.0), (350.0, 1100.0), "adults have 400 to 900 mL; templates used as images about 1,000 mL",
        "is the map complete, and neither rescaled nor in another unit?",
        "is the map rescaled, or modulated twice?",
    ),
    "outside the brain": Limit(
        "% of the sum", (-INF, 12.0), (-INF, 6.0), "the MNI152 brain mask (nilearn)",
        "", f"there is signal where no brain is: skull, or not in MNI space; {CAT12}",
    ),
    "likeness to grey matter": Limit(
        "correlation", (0.5, INF), (0.6, INF), "the MNI152 grey-matter template; 0.5 is usual quality control",
        f"the map does not fit the template: another tissue, another space, or turned; {CAT12}", "",
    ),
    "likeness to another tissue": Limit(
        "more than to grey matter (correlation)", (-INF, 0.0), (-INF, -0.03), "the MNI152 templates (nilearn)",
        "", f"the image looks like white matter or a T1w, not like grey matter; {CAT12}",
    ),
    "plateau": Limit(
        "% of grey matter at the highest value", (-INF, INF), (-INF, 1.0),
        "probabilities are 1 in many voxels, modulated values vary",
        "", "many voxels share the highest value: is the map unmodulated (wp1), or clipped?",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Check:
    """One thing looked at.

    Attributes:
        name: What was looked at.
        measured: Measured value, with its unit.
        limit: Range in which the value should lie.
        source: Words that say where the limit comes from.
        verdict: Pass, warn or refuse.
        reason: What to do, when not passed.
    """

    name: str
    measured: str
    limit: str
    source: str
    verdict: str
    reason: str = ""

    def __str__(self) -> str:
        """Verdict and reason in a sentence."""
        found = f" is {self.measured}, expected {self.limit}" if self.limit else ""
        return f"{self.name}{found}: {self.reason}" if self.reason else f"{self.name}{found}."


@dataclass(frozen=True)
class Examination:
    """Everything that was found of one scan.

    Attributes:
        checks: Checks in the order they were made; reading stops at the first that makes the others impossible.
        volume: Volume on the model's grid, (D, H, W) float32; None when the scan cannot be read.
        measures: Name → value of everything measured on it.
        scan: Scan, as it lies on disk.
    """

    checks: tuple[Check, ...]
    volume: Array | None = None
    measures: Mapping[str, float] | None = None
    scan: Scan | None = None

    @property
    def verdict(self) -> str:
        """The worst of all checks."""
        return max((check.verdict for check in self.checks), key=VERDICTS.index)

    @property
    def reasons(self) -> list[str]:
        """Sentences of all checks that were not passed, the worst first."""
        open_ = [check for check in self.checks if check.verdict != PASS]
        return [str(check) for check in sorted(open_, key=lambda c: -VERDICTS.index(c.verdict))]


class Contract:
    """Examines scans before a network sees them.

    Args:
        profile: What `profile` measured of the training cohort, from a model's card; None examines against anatomy
            alone, on the 1.5 mm reference grid.

    Raises:
        ValueError: when the profile is damaged.
    """

    def __init__(self, profile: Mapping[str, Any] | None = None) -> None:
        self.profile = dict(profile or {})
        _check_profile(self.profile)
        self.grid = Grid.from_card(self.profile["grid"]) if "grid" in self.profile else REFERENCE

    def examine(self, path: str | Path) -> Examination:
        """Look at one scan; never raises for what is in the file.

        Args:
            path: Path; see `scan.read_scan`.
        """
        try:
            scan = read_scan(Path(path), self.grid)
        except ScanError as error:
            return Examination((Check(error.check, "", "", "the file", REFUSE, str(error)),))
        volume = to_grid(scan.volume, scan.affine, self.grid)
        readable = Check("file", "readable, 3D, finite", "", "the file", PASS)
        notes = [Check("orientation", "", "", "the header", WARN if "disagree" in n else PASS, n) for n in scan.notes]
        if volume.max() <= volume.min():
            away = "No voxel lies in the model's field of view; is the image in MNI space?"
            return Examination((readable, *notes, Check("orientation", "", "", "the affine", REFUSE, away)))
        measures = measure(volume, self.grid)
        checks = [_judge(name, measures[name], LIMITS[name]) for name in LIMITS]
        if all(check.verdict != REFUSE for check in checks):
            checks += [*self._sides(volume, measures), *self._likeness(measures), *self._pipeline(path)]
        return Examination((readable, *notes, *checks), volume, measures, scan)

    def _sides(self, volume: Array, measures: dict[str, float]) -> list[Check]:
        """Compare left with right as they differ in the training cohort: brains are not symmetric."""
        cohort = self.profile.get("sides")
        if not cohort:
            return []
        measures["left and right"] = likeness = correlation(_sides(volume, self.grid), np.array(cohort))
        levels = dict(zip(LEVELS, self.profile["measures"]["left and right"], strict=True))
        mirrored = likeness < levels[0.5] and -likeness > levels[50.0]
        reason = "left and right look exchanged; check the orientation of the image" if mirrored else ""
        limit, source = f"at least {levels[0.5]:.2f}", "asymmetry of the training scans"
        return [
            Check("left and right", f"{likeness:.2f} correlation", limit, source, WARN if mirrored else PASS, reason)
        ]

    def _likeness(self, measures: Mapping[str, float]) -> list[Check]:
        known = self.profile.get("measures", {})
        return [_compare(name, measures[name], known[name]) for name in LIMITS if name in known]

    def _pipeline(self, path: str | Path) -> list[Check]:
        """Whether a map was made as those of the training; a phantom's are, or are not, for other reasons."""
        trained, found = self.profile.get("pipelines", {}), pipeline_of(path)
        if not set(trained) - {UNKNOWN} or EMBEDDED in (*trained, found):
            return []
        usual = ", ".join(f"{name} ({count})" for name, count in trained.items())
        is_known = found != UNKNOWN and any(is_same_pipeline(found, name) for name in trained)
        reason = "" if is_known else _other_pipeline(found, usual)
        verdict = WARN if reason else PASS
        return [Check("pipeline", found, usual, "the training scans", verdict, reason)]


def _other_pipeline(found: str, usual: str) -> str:
    made = "it is not known which pipeline made this map" if found == UNKNOWN else f"this map was made by {found}"
    return f"{made}, those of the training by {usual}; maps of two pipelines differ, so judge the answer with care"


def _check_profile(profile: Mapping[str, Any]) -> None:
    measures, sides = profile.get("measures", {}), profile.get("sides")
    if not isinstance(measures, Mapping):
        raise ValueError("The card's profile of the training scans holds no measures; restore the card.")
    wrong = [str(name) for name, row in measures.items() if not _are_numbers(row, len(LEVELS))]
    pipelines = profile.get("pipelines", {})
    if not isinstance(pipelines, Mapping) or not all(type(count) is int for count in pipelines.values()):
        wrong.append("pipelines")
    if sides and not ("left and right" in measures and _are_numbers(sides, math.prod(SIDES) // 2)):
        wrong.append("sides")
    if wrong:
        raise ValueError(f"The card's profile of the training scans is damaged ({', '.join(wrong)}); restore the card.")


def _are_numbers(row: Any, count: int) -> bool:
    plain = isinstance(row, list) and all(type(value) in (int, float) for value in row)
    return plain and len(row) == count and all(abs(value) < 1e30 for value in row)  # also no NaN


def measure(volume: Array, grid: Grid) -> dict[str, float]:
    """What is measured of a volume on a grid: one number for each of `LIMITS`, in its unit."""
    known = templates(grid)
    total = float(volume.sum(dtype=np.float64))
    top, matter = float(volume.max()), int(np.count_nonzero(volume > ZERO))
    fits = {name: correlation(volume, known[name]) for name in TISSUES}
    other = max(fits["white matter"], fits["T1w"])
    outside = float(volume[known["brain"] <= 0].sum(dtype=np.float64))
    return {
        "lowest value": float(volume.min()),
        "highest value": top,
        "background": 100 * float((np.abs(volume) < ZERO).mean()),
        "grey matter": total * grid.voxel_ml,
        "outside the brain": 100 * outside / total if total > 0 else 100.0,
        "likeness to grey matter": fits["grey matter"],
        "likeness to another tissue": other - fits["grey matter"],
        "plateau": 100 * int(np.count_nonzero(volume > 0.995 * top)) / max(1, matter),
    }


def profile(records: Sequence[Mapping[str, Any]], seed: int = 0) -> dict[str, Any]:
    """Measure a training cohort for the card of its model.

    Args:
        records: Records of a datalist; beyond 500, as many are drawn.
        seed: Seed of the draw.

    Returns:
        `grid` of the scans, percentiles of every measure (`levels`, `measures`), `sides` (how left and right differ on
        average), `pipelines` that made them, with numbers, and `scans`, the number measured.

    Raises:
        ValueError: when a scan cannot be read, or lies on another grid than the first.
    """
    drawn = np.random.default_rng(seed).permutation(len(records))[:PROFILED]
    grid: Grid | None = None
    rows, sides = [], []
    for index in sorted(drawn):
        path = Path(records[index]["image"])
        try:
            scan = read_scan(path, grid or REFERENCE)
        except ScanError as error:
            raise ValueError(f"{path}: {error}") from error
        grid = grid or Grid.of(scan.volume.shape, scan.affine)
        if not grid.is_same(scan.volume.shape, scan.affine):
            found = Grid.of(scan.volume.shape, scan.affine)
            raise ValueError(f"{path} has {found}, but other training scans have {grid}; bring all onto one grid.")
        rows.append(measure(scan.volume, grid))
        sides.append(_sides(scan.volume, grid))
    assert grid is not None
    rows = [{**row, "left and right": r} for row, r in zip(rows, _own_likeness(np.stack(sides)), strict=True)]
    levels = {name: np.percentile([row[name] for row in rows], LEVELS).round(5).tolist() for name in rows[0]}
    average = np.mean(sides, axis=0).round(5).tolist()
    made_by = Counter(pipeline_of(records[index]["image"]) for index in sorted(drawn))
    measured = {"levels": list(LEVELS), "measures": levels, "sides": average}
    return {"grid": grid.card, "scans": len(rows), "pipelines": dict(made_by.most_common()), **measured}


def _own_likeness(sides: Array) -> list[float]:
    """Likeness of each scan's asymmetry to the mean of the others."""
    if len(sides) < 2:
        return [1.0] * len(sides)
    others = (sides.sum(0) - sides) / (len(sides) - 1)
    return [correlation(own, other) for own, other in zip(sides, others, strict=True)]


def _sides(volume: Array, grid: Grid) -> Array:
    """Right minus left, in coarse cells of the half of the box."""
    import torch

    half = torch.as_tensor(np.ascontiguousarray(volume))[None]
    cells = torch.nn.functional.adaptive_avg_pool3d(half, SIDES)[0].numpy()
    difference = (cells - cells[::-1])[: SIDES[0] // 2].ravel()
    return difference if grid.matrix[0, 0] < 0 else -difference


def correlation(a: Array, b: Array) -> float:
    """Pearson's correlation of two arrays of one shape; 0 where one of them is constant."""
    a, b = a.ravel() - a.mean(), b.ravel() - b.mean()
    norm = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / norm if norm > 0 else 0.0


def _judge(name: str, value: float, limit: Limit) -> Check:
    verdict = PASS
    for level, (low, high) in ((WARN, limit.warn), (REFUSE, limit.refuse)):
        verdict = verdict if low <= value <= high else level
    reason = "" if verdict == PASS else (limit.low if value < limit.warn[0] else limit.high)
    return Check(name, f"{_number(value)} {limit.unit}".strip(), _range(*limit.warn), limit.source, verdict, reason)


def _compare(name: str, value: float, percentiles: Sequence[float]) -> Check:
    """Warn of a value outside 99 % of the training scans that is also many robust standard deviations away."""
    levels = dict(zip(LEVELS, percentiles, strict=True))
    middle, spread = levels[50.0], max((levels[75.0] - levels[25.0]) / 1.349, 1e-3 * max(1.0, abs(levels[50.0])))
    low, high = min(levels[0.5], middle - UNLIKE_SD * spread), max(levels[99.5], middle + UNLIKE_SD * spread)
    unlike = not low <= value <= high
    away = abs(value - middle) / spread
    reason = f"unlike the training scans ({away:.0f} robust SD away); judge the answer with care" if unlike else ""
    percentile = float(np.interp(value, percentiles, LEVELS))
    measured = f"{_number(value)} (percentile {percentile:.0f} of the training scans)"
    return Check(
        f"{name}, training", measured, _range(low, high), "the training scans", WARN if unlike else PASS, reason
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _range(low: float, high: float) -> str:
    if math.isinf(low):
        return f"at most {_number(high)}"
    return f"at least {_number(low)}" if math.isinf(high) else f"{_number(low)} to {_number(high)}"
