"""Slices of a volume with outlines over them, left on the left, in three planes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, zoom

from bundle.pages.pictures import Pixels, webp, webp_file

Volume = NDArray[np.float32]
PIXEL, SMALL_PIXEL = 0.8, 2.0  # mm, of a page and of an index
MARGIN = 12.0  # mm, around what is shown
BAR_MM = 30
PLACES = (
    (0.15, 0.36, 0.64, 0.85),
    (0.15, 0.38, 0.62, 0.85),
    (0.2, 0.4, 0.6, 0.8),
)  # of each plane, as shares of the extent
ENDS = ("PA", "LR", "LR")  # what lies on the left and on the right of a sagittal, coronal and axial slice
NAMES = "xyz"
ENCODING = {"quality": 62, "use_sharp_yuv": True}  # of WebP; thin lines keep their colours


@dataclass(frozen=True)
class Outline:
    """Where a value reaches a half, in a colour.

    Attributes:
        values: Probability, or a mask.
        colour: RGB, 0 to 255.
    """

    values: NDArray
    colour: tuple[int, int, int]


def tiles(
    volume: NDArray, affine: NDArray[np.float64], outlines: Sequence[Outline], around: NDArray[np.bool_], white: float
) -> list[dict[str, str]]:
    """Slices in three planes: `image` (a data URI), `label` (mm) and `ends`.

    Args:
        volume: What is drawn in grey.
        affine: 4 × 4, index → mm.
        outlines: Drawn over it.
        around: What the slices pass through.
        white: Value that is drawn white.

    Shape:
        volume, the outlines' values and around (X, Y, Z).
    """
    drawn = _slices(volume, affine, outlines, around, white, PLACES, PIXEL)
    return [
        {
            "image": webp(picture, **ENCODING),
            "label": f"{NAMES[axis]} = {place:.0f} mm".replace("-", "−"),
            "ends": ENDS[axis],
        }
        for axis, place, picture in drawn
    ]


def middle(
    volume: NDArray, affine: NDArray[np.float64], outlines: Sequence[Outline], around: NDArray[np.bool_], white: float
) -> bytes:
    """One small axial slice, as a WebP file; arguments as of `tiles`."""
    ((_, _, picture),) = _slices(volume, affine, outlines, around, white, ((), (), (0.5,)), SMALL_PIXEL)
    return webp_file(picture, **ENCODING)


def _slices(
    volume: NDArray,
    affine: NDArray[np.float64],
    outlines: Sequence[Outline],
    around: NDArray[np.bool_],
    white: float,
    places: Sequence[Sequence[float]],
    pixel: float,
) -> Iterator[tuple[int, float, Pixels]]:
    """Axis, place in mm, and picture of each slice."""
    turn = nib.orientations.io_orientation(affine)
    space = affine @ nib.orientations.inv_ornt_aff(turn, volume.shape)
    grey, shown = (nib.orientations.apply_orientation(v, turn) for v in (volume, around))
    lines = [Outline(nib.orientations.apply_orientation(o.values, turn), o.colour) for o in outlines]
    sizes = np.linalg.norm(space[:3, :3], axis=0)
    box = _box(shown, sizes)
    for axis, shares in enumerate(places):
        first, last = _extent(shown, axis)
        for share in shares:
            index = round(first + share * (last - first))
            centre = np.where(np.arange(3) == axis, index, np.array(shown.shape) / 2)
            flat = [_plane(values, axis, index, box, sizes / pixel) for values in (grey, *(o.values for o in lines))]
            picture = _drawn(flat[0] / white, [(v, o.colour) for v, o in zip(flat[1:], lines, strict=True)])
            picture[-5:-3, 4 : 4 + round(BAR_MM / pixel)] = 255
            yield axis, float((space @ [*centre, 1])[axis]), picture


def _extent(shown: NDArray[np.bool_], axis: int) -> tuple[int, int]:
    """First and last index that holds something."""
    inside = np.flatnonzero(shown.any(axis=tuple(other for other in range(3) if other != axis)))
    return (int(inside[0]), int(inside[-1])) if inside.size else (0, shown.shape[axis] - 1)


def _box(shown: NDArray[np.bool_], sizes: NDArray[np.float64]) -> list[slice]:
    """What is shown with its margin, along each axis."""
    margins = np.ceil(MARGIN / sizes).astype(int)
    extents = [_extent(shown, axis) for axis in range(3)]
    return [slice(max(0, low - m), high + m + 1) for (low, high), m in zip(extents, margins, strict=True)]


def _plane(values: NDArray, axis: int, index: int, box: Sequence[slice], factors: NDArray[np.float64]) -> Volume:
    """A slice as rows of a picture, its second axis upwards, in pixels of one size."""
    across = [other for other in range(3) if other != axis]
    flat = np.take(values, index, axis)[tuple(box[other] for other in across)].astype(np.float32)
    fine = zoom(flat, [float(factors[other]) for other in across], order=1, grid_mode=True, mode="nearest")
    return fine.swapaxes(0, 1)[::-1]


def _drawn(grey: Volume, lines: Sequence[tuple[Volume, tuple[int, int, int]]]) -> Pixels:
    """Grey from 0 to 1, with a line in its colour where values reach a half."""
    picture = np.repeat((grey * 255).clip(0, 255).astype(np.uint8)[..., None], 3, axis=-1)
    for values, colour in lines:
        inside = values > 0.5
        picture[inside & ~binary_erosion(inside, border_value=1)] = colour
    return picture
