"""Slices of a brain with a map over them: tiles that can be printed, and sprites from which the viewer draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from numpy.typing import NDArray

from bundle.pages.pictures import Pixels, webp
from bundle.scans.grid import Grid, templates, to_grid

Volume = NDArray[np.float32]
STEP = 1.5  # mm, of CAT12's grid, whose voxels these are; x grows with the index: left is left
GRID = Grid.of((105, 129, 109), [[STEP, 0, 0, -78], [0, STEP, 0, -111], [0, 0, STEP, -72], [0, 0, 0, 1]])
HEIGHTS = range(-60, 73, 12)  # mm, of the axial tiles
WITHOUT_MAP = (27.0, -21.0, -15.0)  # mm, where the slices pass when there is no map: the right hippocampus
COLOURED = 90.0  # percentile of a map's absolute values in the brain beyond which it is coloured
OPACITY = 0.65
BAR = 20  # voxels, 30 mm
SPRITE_COLUMNS = 10
# How sprites are encoded: with the effort beyond which they take twice the time and are hardly smaller.
SCAN: dict[str, Any] = {"quality": 55, "method": 2}
MAP: dict[str, Any] = {"lossless": True, "quality": 20}  # the quality of what is lossless is effort
# Okabe & Ito's vermilion and blue, told apart by colour-blind readers. A few steps keep a sprite small.
WARM = LinearSegmentedColormap.from_list("warm", ["#D55E00", "#F0E442"], N=12)
COLD = LinearSegmentedColormap.from_list("cold", ["#0072B2", "#9EE8FF"], N=12)


@dataclass(frozen=True)
class Overlay:
    """A map as it is drawn.

    Attributes:
        values: Values on `GRID`, in `unit`; 0 outside the brain.
        unit: What the values are, in words.
        threshold: Absolute values from it on are coloured.
        strongest: The largest absolute value, at which the colours end.
    """

    values: Volume
    unit: str
    threshold: float
    strongest: float

    @classmethod
    def of(cls, found: Volume, grid: Grid, unit: str, factor: float | None) -> Overlay:
        """A map inside the brain.

        Args:
            found: The map.
            grid: Grid on which it lies.
            unit: What the drawn values are, in words.
            factor: Factor, from the values of the map to `unit`; None makes the strongest value 100.

        Shape:
            found `grid.shape`.
        """
        brain = templates(GRID)["brain"] > 0.5
        values = np.where(brain, to_grid(found, grid.matrix, GRID), 0)
        peak = float(np.abs(values).max()) or 1.0
        shares = (values / peak).round(4)  # so that a plateau, as coarse maps have, is one value
        strongest = 100.0 if factor is None else factor * peak
        threshold = float(np.percentile(np.abs(shares[brain]), COLOURED)) * strongest
        return cls((shares * strongest).astype(np.float32), unit, threshold, strongest)

    @property
    def place(self) -> tuple[float, float, float]:
        """Where the map is strongest, mm; the middle one of several such places."""
        strength = np.abs(self.values)
        places = np.argwhere(strength == strength.max())
        index = places[np.square(places - places.mean(0)).sum(1).argmin()]
        x, y, z = (GRID.matrix @ [*index, 1])[:3]
        return float(x), float(y), float(z)

    @property
    def is_coloured(self) -> NDArray[np.bool_]:
        """Which voxels are coloured."""
        return self._is_strong(self.values)

    def _is_strong(self, values: Volume) -> NDArray[np.bool_]:
        strength = np.abs(values)
        return (strength > 0) & (strength >= self.threshold * (1 - 1e-6))

    @property
    def is_signed(self) -> bool:
        """Whether the map says what speaks against, too."""
        return bool(self.values.min() < 0)

    def colours(self, values: Volume) -> Pixels:
        """RGBA of values in `unit`; what is not coloured is transparent."""
        pixels, is_strong = np.zeros((*values.shape, 4), np.uint8), self._is_strong(values)
        strong = values[is_strong]
        strength = ((np.abs(strong) - self.threshold) / ((self.strongest - self.threshold) or 1)).clip(0, 1)
        coloured = np.where((strong < 0)[..., None], COLD(strength), WARM(strength))
        coloured[..., 3] = OPACITY
        pixels[is_strong] = (coloured * 255).round().astype(np.uint8)
        return pixels


def drawn(scan: Volume, affine: NDArray[np.float64], overlay: Overlay | None) -> dict[str, Any]:
    """Everything that a page shows of a brain: `tiles`, `locators`, `viewer`, and the `bar` of a map.

    Args:
        scan: A map of the brain.
        affine: 4 × 4, index → mm in MNI space.
        overlay: A map over it.
    """
    grey = _grey(to_grid(scan, affine, GRID))
    colours = None if overlay is None else overlay.colours(overlay.values)
    place = WITHOUT_MAP if overlay is None else overlay.place
    x, y = _indices(place)[:2]
    return {
        "tiles": [
            {"label": f"z = {_mm(z)}", "image": _tile(grey, colours, 2, _indices((0, 0, z))[2])} for z in HEIGHTS
        ],
        "locators": [
            {"label": f"x = {_mm(place[0])}", "image": _tile(grey, colours, 0, x), "ends": "PA"},
            {"label": f"y = {_mm(place[1])}", "image": _tile(grey, colours, 1, y), "ends": "LR"},
        ],
        "viewer": {**_viewer(place), "scan": _sprite(grey, **SCAN)}
        | ({} if colours is None else {"map": _sprite(colours, **MAP)}),
        "bar": {} if overlay is None else _bar(overlay),
    }


def _indices(place: tuple[float, float, float]) -> list[int]:
    return [round(float(i)) for i in (np.linalg.inv(GRID.matrix) @ [*place, 1])[:3]]


def _mm(value: float) -> str:
    """Millimetres with the sign of typographers."""
    return f"{value:g} mm".replace("-", "−")


def _grey(scan: Volume) -> Pixels:
    """RGB, white where a hundredth of the brain's voxels is brighter."""
    inside = scan[scan > scan.max() / 100]
    white = float(np.percentile(inside, 99)) if inside.size else 1.0
    return np.repeat((scan / white * 255).clip(0, 255).astype(np.uint8)[..., None], 3, axis=-1)


def _blended(grey: Pixels, colours: Pixels | None) -> Pixels:
    if colours is None:
        return grey
    share = colours[..., 3:] / np.float32(255)
    return ((1 - share) * grey + share * colours[..., :3]).round().astype(np.uint8)


def _plane(volume: Pixels, axis: int, index: int) -> Pixels:
    """A slice as rows of a picture: its second axis points upwards."""
    return np.take(volume, index, axis).swapaxes(0, 1)[::-1]


def _tile(grey: Pixels, colours: Pixels | None, axis: int, index: int) -> str:
    """A slice with a scale bar; the heights of the axial tiles are dotted on the others. A data URI."""
    picture = _blended(_plane(grey, axis, index), None if colours is None else _plane(colours, axis, index)).copy()
    if axis != 2:
        rows = [len(picture) - 1 - _indices((0, 0, z))[2] for z in HEIGHTS]
        picture[rows, ::6] = 150
    picture[-5:-3, 4 : 4 + BAR] = 255
    return webp(picture, quality=75)


def _sprite(volume: Pixels, **encoding: Any) -> str:
    """All axial slices in one picture, from the lowest, row by row. A data URI."""
    planes = [_plane(volume, 2, z) for z in range(GRID.shape[2])]
    height, width, depth = planes[0].shape
    rows = -(-len(planes) // SPRITE_COLUMNS)
    sheet = np.zeros((rows * SPRITE_COLUMNS, height, width, depth), np.uint8)
    sheet[: len(planes)] = planes
    sheet = sheet.reshape(rows, SPRITE_COLUMNS, height, width, depth).swapaxes(1, 2)
    return webp(sheet.reshape(rows * height, SPRITE_COLUMNS * width, depth), **encoding)


def _viewer(place: tuple[float, float, float]) -> dict[str, Any]:
    """Where the sliders of the viewer begin and end, mm."""
    names = (("x", "Sagittal", "PA"), ("y", "Coronal", "LR"), ("z", "Axial", "LR"))
    first, steps = GRID.matrix[:3, 3], np.array(GRID.shape) - 1
    axes = [
        {"name": name, "plane": plane, "ends": ends, "low": f"{low:g}", "high": f"{low + STEP * n:g}", "at": f"{at:g}"}
        for (name, plane, ends), low, n, at in zip(names, first, steps, place, strict=True)
    ]
    return {"axes": axes, "step": STEP, "columns": SPRITE_COLUMNS, "bar": BAR}


def _bar(overlay: Overlay) -> dict[str, Any]:
    """The colours of a map's values, with its threshold and its ends in words."""
    low = -overlay.strongest if overlay.is_signed else 0.0
    values = np.linspace(low, overlay.strongest, 320, dtype=np.float32)[None].repeat(12, axis=0)
    colours = _blended(np.full((*values.shape, 3), 90, np.uint8), overlay.colours(values))
    sign = "±" if overlay.is_signed else ""
    brain = np.count_nonzero(templates(GRID)["brain"] > 0.5)
    return {
        "image": webp(colours, lossless=True),
        "low": f"−{_digits(overlay.strongest)}" if overlay.is_signed else "0",
        "high": ("+" if overlay.is_signed else "") + _digits(overlay.strongest),
        "threshold": sign + _digits(overlay.threshold),
        "share": f"{100 * np.count_nonzero(overlay.is_coloured) / brain:.0f} %",
        "unit": overlay.unit,
    }


def _digits(value: float) -> str:
    """Two digits that count, without powers of ten."""
    return np.format_float_positional(value, precision=2, fractional=False, trim="-")
