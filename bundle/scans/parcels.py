"""Regions of an atlas on the grid of images: labels of voxels, of a file or grown from published centres."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from bundle.hints import quoted
from bundle.scans.grid import Grid, templates
from bundle.scans.placement import in_words
from bundle.scans.scan import read_scan

REACH = 25.0  # mm from a centre to the last voxel of its parcel
GREY = 0.2  # of the template, above which a voxel belongs to a parcel
BRAIN = 0.5  # of the template's mask, from which a voxel belongs to the brain
LARGEST_LABEL = 2**24  # whole numbers up to here are exact in float32, in which scans are read
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parcels:
    """An atlas on a grid.

    Attributes:
        labels: Region of each voxel, from 1; 0: of none.
        names: Name of region 1, 2, …

    Shape:
        labels (D, H, W).
    """

    labels: NDArray[np.int32]
    names: tuple[str, ...]


def parcels_on(grid: Grid, atlas: str | Path | None = None) -> Parcels:
    """The regions of an atlas on a grid.

    Args:
        grid: Grid of the images, in MNI space.
        atlas: File of whole-numbered labels in MNI space; None: `grown_parcels`.

    Raises:
        ValueError: see `read_parcels`.
    """
    return grown_parcels(grid) if atlas is None else read_parcels(Path(atlas), grid)


@lru_cache(maxsize=4)
def grown_parcels(grid: Grid) -> Parcels:
    """Three hundred parcels of grey matter: a voxel belongs to the nearest published centre within 25 mm.

    Args:
        grid: Grid of the images, in MNI space.

    Raises:
        ValueError: the grid has grey matter of fewer than two centres.

    Source:
        Centres: Seitzman et al., NeuroImage 206 (2020), as in nilearn. Grey matter: Fonov et al., 2009, as in nilearn.
    """
    from nilearn.datasets import fetch_coords_seitzman_2018

    atlas = fetch_coords_seitzman_2018()
    inside = np.flatnonzero(templates(grid)["grey matter"] > GREY)
    places = apply_affine(grid.matrix, np.stack(np.unravel_index(inside, grid.shape), axis=-1))
    away, nearest = cKDTree(np.asarray(atlas.rois[["x", "y", "z"]])).query(places, distance_upper_bound=REACH)
    near = np.isfinite(away)
    labels = np.zeros(grid.shape, np.int32)
    labels.flat[inside[near]] = nearest[near] + 1
    names = [f"{net} {part} {k}" for k, (net, part) in enumerate(zip(atlas.networks, atlas.regions, strict=True), 1)]
    return _present(labels, np.arange(1, len(names) + 1), names, grid, "the parcels grown from 300 published centres")


@lru_cache(maxsize=4)
def read_parcels(path: Path, grid: Grid) -> Parcels:
    """The regions of a file of labels, each voxel of the grid that of the nearest voxel of the file.

    Args:
        path: NIfTI file of whole-numbered labels in MNI space; 0 is no region.
        grid: Grid of the images, in MNI space.

    Raises:
        ValueError: the file cannot be read, holds other than whole numbers, or has fewer than two regions where the
            images lie.
    """
    values, there = _on_grid(path, grid)
    present = np.unique(values)
    if present.min() < 0 or present.max() > LARGEST_LABEL or not np.array_equal(present, np.rint(present)):
        odd = present[(present < 0) | (present > LARGEST_LABEL) | (present != np.rint(present))]
        raise ValueError(
            f"The atlas {path} holds {odd[0]:g}, expected whole numbers from 0: each voxel has the number of its "
            "region, or 0. Give a file of labels, not one of probabilities or intensities."
        )
    regions = present[present > 0].astype(np.int64)
    if len(regions) < 2:
        raise ValueError(f"The atlas {path} has {len(regions)} region, expected at least 2; give another file.")
    labels = np.where(there > 0, np.searchsorted(regions, there) + 1, 0).astype(np.int32)
    return _present(labels, np.arange(1, len(regions) + 1), [f"region {n}" for n in regions], grid, f"the atlas {path}")


@lru_cache(maxsize=4)
def brain_on(grid: Grid, mask: Path | None = None) -> NDArray[np.bool_]:
    """The voxels of a grid that lie in a mask.

    Args:
        grid: Grid of the images, in MNI space.
        mask: NIfTI file in MNI space whose voxels above 0 are kept; None: the brain mask of the MNI152 template.

    Shape:
        output `grid.shape`.

    Raises:
        ValueError: the file cannot be read, or keeps nothing where the images lie.

    Source:
        Fonov et al., 2009, as in nilearn.
    """
    inside = templates(grid)["brain"] >= BRAIN if mask is None else _on_grid(mask, grid)[1] > 0
    if not inside.any():
        name = "The brain mask of the MNI152 template" if mask is None else f"The mask {mask}"
        raise ValueError(
            f"{name} has no voxel where the images lie ({in_words(grid)}). Give a mask in the space of the images."
        )
    return np.asarray(inside)


def _on_grid(path: Path, grid: Grid) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The values of a file, and on a grid the nearest of them to each voxel, 0 outside the file."""
    if path.suffix == ".npy":
        raise ValueError(f"{path} is an array, of which nothing says where it lies; give a NIfTI file.")
    try:
        scan = read_scan(path, grid)
    except ValueError as error:
        raise ValueError(f"{path} cannot be used: {error}") from error
    across = np.linalg.inv(scan.affine) @ grid.matrix
    index = np.moveaxis(np.indices(grid.shape, dtype=np.float32), 0, -1)
    nearest = np.rint(apply_affine(across, index)).astype(np.int64)
    inside = ((nearest >= 0) & (nearest < scan.volume.shape)).all(-1)
    there = np.zeros(grid.shape, np.float32)
    there[inside] = scan.volume[tuple(nearest[inside].T)]
    return scan.volume, there


def _present(labels: NDArray[np.int32], regions: NDArray, names: list[str], grid: Grid, what: str) -> Parcels:
    """An atlas without the regions that have no voxel on the grid."""
    voxels = np.bincount(labels.ravel(), minlength=len(regions) + 1)[1:]
    kept = np.flatnonzero(voxels)
    if len(kept) < 2:
        raise ValueError(
            f"Of {what}, {len(kept)} region(s) of {len(names)} have a voxel where the images lie ({in_words(grid)}), "
            "expected at least 2. Atlas and images have to be in MNI space."
        )
    if len(kept) < len(names):
        lost = [names[k] for k in np.flatnonzero(voxels == 0)]
        logger.warning(
            f"{len(lost)} region(s) of {what} have no voxel where the images lie: {quoted(lost)} are left out."
        )
    number = np.zeros(len(names) + 1, np.int32)
    number[kept + 1] = np.arange(1, len(kept) + 1)
    return Parcels(number[labels], tuple(names[k] for k in kept))
