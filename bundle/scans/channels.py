"""Scans of several files, one for each channel, that have to lie on one grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bundle.scans.grid import Grid
from bundle.scans.nifti import VolumeError
from bundle.scans.npy import open_array
from bundle.scans.placement import grid_of, in_words
from bundle.scans.volumes import squeezed

Place = Grid | tuple[int, ...]  # where a volume lies, or the shape of an array, which has no affine


def channels_fault(image: str | Path, others: Sequence[str | None]) -> str | None:
    """What is wrong with where the further channels of a scan lie, by headers alone; None where nothing is.

    Args:
        image: File of the first channel.
        others: Files of the others; None, or nothing, where one is missing.
    """
    for path in filter(None, others):
        try:
            found = other_grid([image, path], [_place_of(image), _place_of(path)])
        except VolumeError:
            continue  # reading the image will say it
        if found:
            return found
    return None


def _place_of(path: str | Path) -> Place:
    return squeezed(open_array(Path(path)).shape) if str(path).endswith(".npy") else grid_of(path) or ()


def other_grid(files: Sequence[str | Path], places: Sequence[Place]) -> str | None:
    """A sentence on two channels of a scan that lie on different grids; None where they lie on one.

    Args:
        files: Both files.
        places: Grid of each, or its shape where it has no affine.
    """
    one, other = places
    if isinstance(one, Grid) and isinstance(other, Grid):
        if one.is_same(other.shape, other.matrix):
            return None
        words = [in_words(one), in_words(other)]
    else:
        shapes = [place.shape if isinstance(place, Grid) else place for place in places]
        if shapes[0] == shapes[1]:
            return None
        words = ["×".join(map(str, shape)) + " voxels" for shape in shapes]
    return (
        f"The channels of a scan lie on different grids: {files[0]} has {words[0]}, but {files[1]} has {words[1]}. "
        "Preprocess both onto one grid."
    )
