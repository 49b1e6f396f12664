"""What a volume must be before a network sees it, with limits from anatomy and from the training cohort."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bundle.scans.grid import REFERENCE, Array, Grid, to_grid
from bundle.scans.limits import Limit, limits_of
from bundle.scans.made_by import EMBEDDED, UNKNOWN, is_same_pipeline, pipeline_of
from bundle.scans.measures import MEAN, correlation, measure, pattern, sides
from bundle.scans.modality import Modality, modality_of
from bundle.scans.profile import LEFT_RIGHT, LEVELS, check_profile, modality_of_profile, of_each_channel
from bundle.scans.scan import Scan, ScanError, read_scan

PASS, WARN, REFUSE = "pass", "warn", "refuse"
VERDICTS = (PASS, WARN, REFUSE)
UNLIKE_SD = 4.0  # robust standard deviations from the training median beyond which a scan is unlike it
FAR = 0.1  # of a correlation: maps that are less like the training maps than the least of these by more are refused
ENOUGH = 20  # training scans from which on the least of them says something


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
        others: Volumes of further channels, of a modality that has several; None where a file is missing or cannot be
            read. All else is of the first channel.
    """

    checks: tuple[Check, ...]
    volume: Array | None = None
    measures: Mapping[str, float] | None = None
    scan: Scan | None = None
    others: tuple[Array | None, ...] = ()

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
            alone, on the first of the modality's grids.
        modality: Modality, or what a datalist states of it, where there is no profile; a profile says its own.

    Raises:
        ValueError: when the profile is damaged, or its modality is another one.
    """

    def __init__(self, profile: Mapping[str, Any] | None = None, modality: Any = None) -> None:
        self.profile = dict(profile or {})
        check_profile(self.profile)
        self.modality = self._modality(modality)
        usual = next(iter(self.modality.grids), REFERENCE)
        self.grid = Grid.from_card(self.profile["grid"]) if "grid" in self.profile else usual
        each = of_each_channel(self.profile, self.modality) if self.modality.channels else []
        names = self.modality.channels
        self.channels = [Contract(own or None, name) for own, name in zip(each, names, strict=True)]

    def _modality(self, stated: Any) -> Modality:
        if not self.profile:
            return modality_of(stated, "The contract")
        own = modality_of_profile(self.profile)
        if stated is not None and modality_of(stated, "The contract") != own:
            raise ValueError(f"The model was trained on {own.plural}; it cannot examine a {stated}.")
        return own

    def examine(self, path: str | Path, channels: Sequence[str | None] = ()) -> Examination:
        """Look at one scan; never raises for what is in its files.

        Args:
            path: Path; see `scan.read_scan`.
            channels: Files of the further channels, of a modality that has several; each is looked at as its own
                modality says.
        """
        if not self.channels:
            return self._examine(path)
        files = [path, *channels, *[None] * (len(self.channels) - 1 - len(channels))]
        found = [
            own.examine(file) if file else Examination((own.missing(bool(self.profile)),))
            for own, file in zip(self.channels, files, strict=True)
        ]
        named = [
            replace(check, name=f"{own.modality.words}: {check.name}")
            for own, seen in zip(self.channels, found, strict=True)
            for check in seen.checks
        ]
        first, *others = found
        checks = (*named, *_on_one_grid(found, self.channels))
        return replace(first, checks=checks, others=tuple(seen.volume for seen in others))

    def missing(self, trained: bool) -> Check:
        """What is said of a scan without a file of this channel.

        Args:
            trained: Whether a model is to read the scan, and not only anatomy looks at it.
        """
        count = self.profile.get("missing", 0)
        if trained and not count:
            reason = "the scan has no file of it, and all training scans had one; leave the scan out, or find the file"
            return Check("file", "", "", "the training scans", REFUSE, reason)
        known = f"; the model takes 0 in its place, as of {count} training scan(s)" if trained else ""
        return Check("file", "", "", "the datalist", WARN, f"the scan has no file of it{known}")

    def _examine(self, path: str | Path) -> Examination:
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
        measures, limits = measure(volume, self.grid, self.modality), limits_of(self.modality)
        checks = [_judge(name, measures[name], limits[name]) for name in limits]
        checks += self._pattern(volume, measures)
        if all(check.verdict != REFUSE for check in checks):
            checks += [*self._sides(volume, measures), *self._likeness(measures), *self._pipeline(path)]
        return Examination((readable, *notes, *checks), volume, measures, scan)

    def _sides(self, volume: Array, measures: dict[str, float]) -> list[Check]:
        """Compare left with right as they differ in the training cohort: brains are not symmetric."""
        cohort = self.profile.get("sides")
        if not cohort:
            return []
        measures[LEFT_RIGHT] = likeness = correlation(sides(volume, self.grid), np.array(cohort))
        levels = dict(zip(LEVELS, self.profile["measures"][LEFT_RIGHT], strict=True))
        mirrored = likeness < levels[0.5] and -likeness > levels[50.0]
        reason = "left and right look exchanged; check the orientation of the image" if mirrored else ""
        limit, source = f"at least {levels[0.5]:.2f}", "asymmetry of the training scans"
        return [Check(LEFT_RIGHT, f"{likeness:.2f} correlation", limit, source, WARN if mirrored else PASS, reason)]

    def _pattern(self, volume: Array, measures: dict[str, float]) -> list[Check]:
        """Whether a map is high and low where the training maps are: another kind of map is not."""
        mean, cells = self.profile.get("pattern"), pattern(volume, self.grid)
        if not mean:
            return []
        if len(mean) != len(cells):
            return [
                Check(MEAN, "", "", "the card", WARN, "The card's mean map does not fit its grid; restore the card.")
            ]
        measures[MEAN] = found = correlation(cells, np.array(mean))
        least = self.profile["measures"][MEAN][0] - FAR
        enough = self.profile.get("scans", 0) >= ENOUGH
        verdict = (REFUSE if enough else WARN) if found < least else PASS
        reason = f"this does not look like a {self.modality.words} of the training; is it another kind of map?"
        limit, source = f"at least {least:.2f}", "the mean of the training maps, and the least of them"
        return [Check(MEAN, f"{found:.2f} correlation", limit, source, verdict, reason if found < least else "")]

    def _likeness(self, measures: Mapping[str, float]) -> list[Check]:
        known = self.profile.get("measures", {})
        names = [*limits_of(self.modality), MEAN]
        return [_compare(name, measures[name], known[name]) for name in names if name in known and name in measures]

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


def _on_one_grid(found: Sequence[Examination], channels: Sequence[Contract]) -> list[Check]:
    """Whether the channels of a scan lie where the first does: a network takes them for the same places."""
    checks = []
    scans = [(own.modality.words, seen.scan) for own, seen in zip(channels, found, strict=True) if seen.scan]
    for words, scan in scans[1:]:
        (usual, first), own = scans[0], Grid.of(scan.volume.shape, scan.affine)
        same = own.is_same(first.volume.shape, first.affine)
        said = f"the {words} has {own}, the {usual} {Grid.of(first.volume.shape, first.affine)}"
        reason = "" if same else f"{said}, or lies elsewhere; preprocess both onto one grid"
        checks.append(Check(f"{words}: grid", "", "", "the affines", PASS if same else REFUSE, reason))
    return checks


def _other_pipeline(found: str, usual: str) -> str:
    made = "it is not known which pipeline made this map" if found == UNKNOWN else f"this map was made by {found}"
    return f"{made}, those of the training by {usual}; maps of two pipelines differ, so judge the answer with care"


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
