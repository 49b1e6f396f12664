"""Where the slices of a DICOM series lie: one gapless stack, or a sentence that says what is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bundle.preparation.dicom_headers import Slice

SAME_DIRECTION = 1e-3  # of the cosines of a series' slices
SAME_MM = 0.02  # positions that are closer are the same
UNEVEN = 0.05  # of the distance between slices
THICKEST = 1.5  # mm
_SAME_IN_ALL = {
    "Rows": "sizes", "Columns": "sizes", "PixelSpacing": "voxel sizes", "EchoTime": "echo times",
    "InversionTime": "inversion times", "DiffusionBValue": "diffusion weightings", "SOPClassUID": "kinds of objects",
    "Modality": "modalities", "RescaleSlope": "scalings", "RescaleIntercept": "scalings",
    "PixelRepresentation": "types of numbers",
}  # fmt: skip


def stack_fault(slices: Sequence[Slice]) -> str:
    """What is wrong with the stack that slices form; empty where it is one gapless volume.

    Args:
        slices: Slices of one series, in any order.
    """
    if len(slices) == 1:
        return "it holds a single slice; give the folder with all slices of the series"
    if broken := sum(not one.whole for one in slices):
        return f"{broken} of its {len(slices)} files are cut off; export it again"
    if mixed := _mixed(slices):
        return mixed
    places = [one.numbers("ImagePositionPatient", 3) for one in slices]
    directions = [one.numbers("ImageOrientationPatient", 6) for one in slices]
    if not all(places) or not all(directions) or not slices[0].numbers("PixelSpacing", 2):
        return "its files do not say where the slices lie; export it again"
    cosines = np.array(directions)
    if np.abs(cosines - cosines[0]).max() > SAME_DIRECTION:
        return "its slices have several orientations, expected one stack"
    return _positions_fault(np.array(places), cosines[0]) or _count_fault(slices)


def spacing_of(slices: Sequence[Slice]) -> float:
    """Distance between neighbouring slices of a faultless stack, mm."""
    along = _along(np.array([one.numbers("ImagePositionPatient", 3) for one in slices]), _direction(slices[0]))
    return float(np.median(np.diff(np.sort(along))))


def corners_of(slices: Sequence[Slice]) -> NDArray[np.float64]:
    """Centres of the voxels at the corners of a faultless stack, mm, RAS as in NIfTI.

    Shape:
        output (8, 3).
    """
    first = slices[0]
    turned = np.array(first.numbers("ImageOrientationPatient", 6)).reshape(2, 3)
    rows, columns = first.numbers("PixelSpacing", 2)
    sides = np.array([(first.number("Columns") or 1) - 1, (first.number("Rows") or 1) - 1]) * [columns, rows]
    places = np.array([one.numbers("ImagePositionPatient", 3) for one in slices])
    along = _along(places, _direction(first))
    ends = places[[along.argmin(), along.argmax()]]
    corners = [
        end + i * sides[0] * turned[0] + j * sides[1] * turned[1] for end in ends for i in (0, 1) for j in (0, 1)
    ]
    return np.array(corners) * [-1, -1, 1]


def _mixed(slices: Sequence[Slice]) -> str:
    for keyword, what in _SAME_IN_ALL.items():
        if len({one.text(keyword) for one in slices}) > 1:
            return f"it is mixed: its slices have several {what}, expected one volume"
    return ""


def _direction(one: Slice) -> NDArray[np.float64]:
    """The normal of a slice."""
    turned = np.array(one.numbers("ImageOrientationPatient", 6)).reshape(2, 3)
    return np.cross(turned[0], turned[1])


def _along(places: NDArray[np.float64], direction: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where slices lie along their normal, mm."""
    return places @ direction


def _positions_fault(places: NDArray[np.float64], cosines: NDArray[np.float64]) -> str:
    """Slices that are missing, doubled, uneven or sheared."""
    normal = np.cross(cosines[:3], cosines[3:])
    along = places @ normal
    order = np.argsort(along)
    steps = np.diff(along[order])
    if (steps < SAME_MM).any():
        return _doubled(np.round(along / SAME_MM / 2).tolist())
    usual = float(np.median(steps))
    missing = round(float((steps / usual).round().sum())) - len(steps)
    if missing:
        return f"{missing} slices are missing between others ({len(along)} are there); export it again"
    if np.abs(steps - usual).max() > UNEVEN * usual:
        return "its slices lie at uneven distances, expected even ones"
    beside = places - np.outer(along, normal)
    if np.abs(beside - beside[0]).max() > 1:
        return "its slices are shifted against each other (sheared), expected a straight stack"
    return ""


def _doubled(places: Sequence[float]) -> str:
    times = set(Counter(places).values())
    if len(times) == 1:
        return f"it is a series of {times.pop()} volumes (4D), expected one"
    return "several slices lie at the same place, others do not: slices are doubled, or another volume is incomplete"


def _count_fault(slices: Sequence[Slice]) -> str:
    """Slices that are missing at an end, where the scanner says how many there were."""
    stated = {one.number("ImagesInAcquisition") for one in slices} - {None}
    if len(stated) == 1 and (count := int(stated.pop() or 0)) > len(slices):
        return f"{count - len(slices)} of {count} slices are missing; export it again"
    return ""
