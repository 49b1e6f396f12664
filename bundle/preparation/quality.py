"""Quality control: what is measured of a preparation, where it should lie, and what it may mean when it does not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from bundle.preparation.outcome import FAIL, OK, STATES, WARN

INF = math.inf


@dataclass(frozen=True)
class Limit:
    """Where a measure should lie.

    Attributes:
        label: The measure as the subject of a sentence.
        unit: Its unit, or "".
        fail: Lowest and highest value that is accepted.
        warn: Lowest and highest value that passes without a word.
        low: What a value below may mean.
        high: What a value above may mean.
        digits: Decimals that are shown.
    """

    label: str
    unit: str
    fail: tuple[float, float]
    warn: tuple[float, float]
    low: str
    high: str
    digits: int = 2


_POSITION = "the head may be cropped, upside down, or badly registered"
_CONTRAST = "the image may be no T1w scan (T2w, FLAIR, CT), or noisy"
_SIZE = "the voxel size in the header may be wrong"

# docs/howto/preparation.md, Quality control, says which scans these limits were set and tested on.
LIMITS: Mapping[str, Limit] = {
    "voxel_size": Limit(
        "the longest edge of a voxel", "mm", (-INF, 3.05), (-INF, 1.6), "", "the slices are thick: volumes are rough"
    ),
    "brain_volume": Limit(
        "the volume inside the skull", "mL", (900, 2200), (1100, 2000),
        f"the head may be cropped, or of a child; {_SIZE}", f"the brain may not have been found; {_SIZE}", 0,
    ),
    "mask_on_border": Limit(
        "the share of the brain on the border of the image", "", (-INF, 0.002), (-INF, 0.0003),
        "", "a part of the brain may be cut off", 4,
    ),
    "affine_determinant": Limit(
        "the volume of the brain over that of the template", "", (0.45, 1.25), (0.55, 1.10),
        _SIZE, f"{_POSITION}, or {_SIZE}",
    ),
    "zoom_least": Limit("the smallest zoom to the template", "", (0.65, INF), (0.75, INF), _SIZE, ""),
    "zoom_most": Limit("the largest zoom to the template", "", (-INF, 1.35), (-INF, 1.20), "", _SIZE),
    "anisotropy": Limit(
        "the ratio of the largest to the smallest zoom", "", (-INF, 1.32), (-INF, 1.25),
        "", f"{_SIZE} along one axis, or {_POSITION}",
    ),
    "rotation": Limit(
        "the rotation to the template", "degrees", (-INF, 60), (-INF, 45), "", "the axes in the header may be wrong", 0
    ),
    "mask_dice": Limit(
        "the overlap of the brain mask with the template's (Dice)", "", (0.93, INF), (0.95, INF), _POSITION, "", 3
    ),
    "t1_contrast": Limit(
        "the contrast of white and grey matter, (WM − GM) / WM,", "", (0.15, INF), (0.20, INF), _CONTRAST, ""
    ),
    "csf_to_gm": Limit(
        "the brightness of CSF over that of grey matter", "", (-INF, 0.90), (-INF, 0.80),
        "", f"{_CONTRAST}, or {_POSITION}",
    ),
    "contrast_to_noise": Limit(
        "the contrast of grey and white matter over their noise", "", (1.7, INF), (2.3, INF), _CONTRAST, ""
    ),
    "gm_share": Limit(
        "the share of grey matter in the brain's volume", "", (0.28, 0.62), (0.33, 0.55),
        "the tissues may be confused", "the tissues may be confused",
    ),
    "wm_share": Limit(
        "the share of white matter in the brain's volume", "", (0.18, 0.50), (0.23, 0.45),
        "the tissues may be confused", "the tissues may be confused",
    ),
    "warped_mask_dice": Limit(
        "the overlap of the warped brain mask with the template's (Dice)", "", (0.93, INF), (0.95, INF),
        _POSITION, "", 3,
    ),
    "template_likeness": Limit(
        "the correlation of warped grey matter with the template's", "", (0.60, INF), (0.70, INF), _POSITION, ""
    ),
    "folded": Limit(
        "the share of the template's brain where the warp folds", "", (-INF, 0.001), (-INF, 0.0001),
        "", "the warp is unreliable there", 5,
    ),
    "modulation_error": Limit(
        "the difference of the map's total from the grey matter of the head, as a share,", "",
        (-INF, 0.02), (-INF, 0.005), "", "grey matter was lost or added by the warp", 4,
    ),
}  # fmt: skip


def grade(measures: Mapping[str, float]) -> tuple[str, tuple[str, ...]]:
    """Status, and a sentence for each measure that is not as expected, the worst first.

    Args:
        measures: Values by the names of `LIMITS`; of the others nothing is said.

    Example:
        >>> grade({"brain_volume": 1400.0})
        ('ok', ())
    """
    found = [(verdict_of(name, value), name, value) for name, value in measures.items() if name in LIMITS]
    bad = sorted((row for row in found if row[0] != OK), key=lambda row: -STATES.index(row[0]))
    return (bad[0][0] if bad else OK), tuple(_sentence(name, value, verdict) for verdict, name, value in bad)


def verdict_of(name: str, value: float) -> str:
    """`ok`, `warn` or `fail`; a value that is no number fails.

    Args:
        name: Name of `LIMITS`.
        value: Value, in its unit.
    """
    limit = LIMITS[name]
    if not limit.fail[0] <= value <= limit.fail[1]:
        return FAIL
    return OK if limit.warn[0] <= value <= limit.warn[1] else WARN


def expected(name: str, verdict: str = WARN) -> str:
    """Where a measure should lie, in words: `at least 0.955`, `1,100 to 2,000 mL`.

    Args:
        name: Name of `LIMITS`.
        verdict: Verdict which of the two limits: `warn` or `fail`.
    """
    limit = LIMITS[name]
    low, high = limit.fail if verdict == FAIL else limit.warn
    unit = f" {limit.unit}" if limit.unit else ""
    if math.isinf(low):
        return f"at most {_short(high)}{unit}"
    return f"at least {_short(low)}{unit}" if math.isinf(high) else f"{_short(low)} to {_short(high)}{unit}"


def _sentence(name: str, value: float, verdict: str) -> str:
    limit = LIMITS[name]
    label = limit.label[0].upper() + limit.label[1:]
    if not math.isfinite(value):
        return f"{label} could not be measured: {limit.low or limit.high}."
    edges = limit.fail if verdict == FAIL else limit.warn
    unit = f" {limit.unit}" if limit.unit else ""
    meaning = limit.low if value < edges[0] else limit.high
    return f"{label} is {value:,.{limit.digits}f}{unit}, expected {expected(name, verdict)}: {meaning}."


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:g}"
