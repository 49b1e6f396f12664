"""Where the images of a cohort lie: their grids compared by headers alone, in words, and one grid for all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from bundle.files import replacing
from bundle.scans.grid import KNOWN_GRIDS, Array, Grid, to_grid
from bundle.scans.nifti import read_header, refusing
from bundle.scans.npy import open_array
from bundle.scans.scan import read_scan
from bundle.scans.volumes import VolumeError, squeezed

TOWARDS = {
    "L": "left", "R": "right", "A": "anterior", "P": "posterior", "S": "superior", "I": "inferior",
}  # fmt: skip
SHOWN_GRIDS = 4
SAME_SIZE = 0.01  # mm


def grid_of(path: str | Path) -> Grid | None:
    """The grid of an image, from its header; None for an array, which has no place of its own.

    Args:
        path: NIfTI, MGH, or `.npy`. An array of the shape of a known grid is taken to lie there (see `KNOWN_GRIDS`).

    Raises:
        VolumeError: the file is damaged, or holds no 3D volume.
    """
    file = Path(path)
    with refusing():
        if file.suffix == ".npy":
            shape = squeezed(open_array(file).shape)
            return next((grid for grid in KNOWN_GRIDS if grid.shape == shape), None)
        shape, affine = read_header(file)
        if len(squeezed(shape)) != 3:
            raise VolumeError(f"has shape {'×'.join(map(str, shape))}, expected a 3D map")
        return Grid.of(squeezed(shape), affine)


def grids_of(records: Sequence[Mapping[str, Any]], workers: int = 8) -> list[Grid | None]:
    """The grid of each record's image; None for an array of unknown place, and for what cannot be read.

    Args:
        records: Records of a datalist.
        workers: Threads that read headers.
    """

    def grid(record: Mapping[str, Any]) -> Grid | None:
        try:
            return grid_of(record["image"])
        except VolumeError:
            return None  # reading the image will say it

    with ThreadPoolExecutor(max(1, workers)) as pool:
        return list(pool.map(grid, records))


def grouped(grids: Iterable[Grid | None]) -> dict[Grid, list[int]]:
    """Which images share a grid, the largest group first, of equals one with CAT12's axes; those without are in none.

    Args:
        grids: Grids of `grids_of`.
    """
    groups: dict[Grid, list[int]] = {}
    for number, grid in enumerate(grids):
        if grid is not None:
            same = next((known for known in groups if known.is_same(grid.shape, grid.matrix)), grid)
            groups.setdefault(same, []).append(number)
    usual = nib.orientations.aff2axcodes(KNOWN_GRIDS[0].matrix)
    return dict(
        sorted(groups.items(), key=lambda item: (-len(item[1]), nib.orientations.aff2axcodes(item[0].matrix) != usual))
    )


def in_words(grid: Grid) -> str:
    """A grid as a person reads it: voxels, their size, axes, and where the first one lies.

    Example:
        >>> in_words(KNOWN_GRIDS[0])
        '121×145×121 voxels of 1.5×1.5×1.5 mm, axes towards left, anterior, superior, first voxel at (90, -126, -72) mm'
    """
    axes = ", ".join(TOWARDS[code] for code in nib.orientations.aff2axcodes(grid.matrix))
    place = ", ".join(f"{mm:g}" for mm in grid.matrix[:3, 3].round(2))
    return f"{grid}, axes towards {axes}, first voxel at ({place}) mm"


def difference(grid: Grid, usual: Grid, whose: str = "most images") -> str:
    """How a grid differs from another, in words.

    Args:
        grid: Grid of an image.
        usual: The other.
        whose: The other is.
    """
    said = []
    axes, usual_axes = (", ".join(TOWARDS[c] for c in nib.orientations.aff2axcodes(g.matrix)) for g in (grid, usual))
    if axes != usual_axes:
        said.append(f"its axes run towards {axes}, those of {whose} towards {usual_axes}")
    if str(grid) != str(usual):
        said.append(f"it has {grid}, {whose} have {usual}")
    if not said:
        apart = float(np.linalg.norm(grid.matrix[:3, 3] - usual.matrix[:3, 3]))
        said.append(f"its first voxel lies {apart:.1f} mm from that of {whose}")
    return " and ".join(said)


def is_only_moved(grid: Grid, target: Grid) -> bool:
    """Whether a grid differs from another by flipped or exchanged axes, by its offset and its extent alone."""
    steps = np.linalg.inv(target.matrix)[:3, :3] @ grid.matrix[:3, :3]
    return bool(
        np.allclose(np.abs(steps).sum(0), 1, atol=SAME_SIZE) and np.allclose(np.abs(steps).max(0), 1, atol=SAME_SIZE)
    )


def require_one_grid(records: Sequence[Mapping[str, Any]], what: str, workers: int = 8) -> None:
    """Refuse images that lie on several grids: a network would see the grid, and left as right.

    Headers alone are read; arrays (`.npy`) have no place and are compared by their shape when they are stacked.

    Args:
        records: Records of a datalist.
        what: Words that say whose they are, for the message.
        workers: Threads that read headers.

    Raises:
        ValueError: describes the grids, with an image of each, and says how to bring them onto one.
    """
    groups = grouped(grids_of(records, workers))
    if len(groups) < 2:
        return
    raise ValueError(
        f"The images of {what} lie on {len(groups)} grids, and a network can recognise them: {told(groups, records)}. "
        f"{_advice(groups)}"
    )


def told(groups: Mapping[Grid, Sequence[int]], records: Sequence[Mapping[str, Any]]) -> str:
    """The grids of a cohort in words, each with its number of images and an example."""
    said = [
        f"{len(rows)} image(s) with {in_words(grid)} (such as {Path(records[rows[0]]['image']).name})"
        for grid, rows in list(groups.items())[:SHOWN_GRIDS]
    ]
    more = f"; and {len(groups) - SHOWN_GRIDS} more grids" if len(groups) > SHOWN_GRIDS else ""
    return "; ".join(said) + more


def _advice(groups: Mapping[Grid, Sequence[int]]) -> str:
    first, *others = groups
    if all(is_only_moved(grid, first) for grid in others):
        return (
            "They differ by the direction of their axes, their offset and their extent alone: make the datalist with "
            "`cohort --regrid FOLDER`, or a cache with `cache`, which bring them onto the grid of most."
        )
    return "Their voxels differ in size or are turned: preprocess all images in one way, onto one grid."


def regridded(path: str | Path, grid: Grid) -> Array:
    """The values of an image on another grid, by its affine; exact where only axes, whole voxels and extent differ.

    Args:
        path: The image.
        grid: The target.

    Shape:
        output `grid.shape`, float32.

    Raises:
        VolumeError: as of `read_scan`.
    """
    scan = read_scan(Path(path), grid)
    return to_grid(scan.volume, scan.affine, grid)


def write_regridded(path: str | Path, grid: Grid, target: Path) -> None:
    """Write an image on another grid as NIfTI, whole or not at all.

    Args:
        path: The image.
        grid: The target's.
        target: The `.nii.gz` file.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as temporary:
        nib.save(nib.Nifti1Image(regridded(path, grid), grid.matrix), temporary)
