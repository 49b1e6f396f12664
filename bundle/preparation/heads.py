"""A T1w head as it lies on disk, and what it cannot be, before anything costs time."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from bundle.scans.grid import KNOWN_GRIDS, REFERENCE
from bundle.scans.nifti import VolumeError, read_header
from bundle.scans.scan import ENDINGS, read_scan
from bundle.scans.volumes import squeezed

ENDINGS_OF_HEADS = tuple(ending for ending in ENDINGS if ending != ".npy")
LEAST_VOXELS = 32  # along an axis
LONGEST_EDGE = 3.05  # mm
FIELD_OF_VIEW = (100.0, 500.0)  # mm along an axis
MODULATED = 5.0  # grey matter per voxel: maps reach 4.6
AIR = -500.0  # Hounsfield units; bone and tissue lie above
AIR_SHARE = 0.02  # of the voxels of a CT, at least
PREPARED = re.compile(r"^(mwp|wp|mwc|wc|smwp|smwc)[1-3]")
GIVE_IT = "give it to `yaware predict`"


def open_head(path: Path) -> Any:
    """Open a T1w head and look at it.

    Args:
        path: NIfTI (`.nii`, `.nii.gz`, or a pair) or MGH (`.mgh`, `.mgz`).

    Returns:
        nibabel's image: one volume of float32.

    Raises:
        VolumeError: The sentence names the file, what was found, what was expected and what to do.
    """
    try:
        if path.name.lower().endswith(".npy"):
            raise VolumeError("is an array without an affine, so where it lies is not known; give a NIfTI file")
        if path.is_file() and path.stat().st_size and path.name.lower().endswith(ENDINGS):
            _require_one_volume(read_header(path)[0])
        scan = read_scan(path, REFERENCE)
        check_head(scan.volume, scan.affine, path.name)
    except VolumeError as error:
        raise VolumeError(f"{path.name}: {error}".rstrip(".") + ".") from error
    image = nib.Nifti1Image(scan.volume, scan.affine)
    image.header.set_xyzt_units("mm", "sec")
    return image


def check_image(image: Any) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Values and affine of an opened head, axes towards right, anterior, superior.

    Args:
        image: nibabel's.

    Raises:
        VolumeError: As of `open_head`, without the file's name.
    """
    _require_one_volume(image.shape)
    affine = np.asarray(image.affine, float)
    values = np.asarray(image.dataobj, np.float32).reshape(squeezed(image.shape))
    check_head(values, affine)
    turned = nib.as_closest_canonical(nib.Nifti1Image(values, affine))
    return np.asarray(turned.dataobj, np.float32), np.asarray(turned.affine, float)


def check_head(values: NDArray[np.float32], affine: NDArray[np.float64], name: str = "") -> None:
    """Refuse what cannot be a T1w head.

    Args:
        values: (X, Y, Z).
        affine: 4 × 4, index → mm.
        name: Name of the file, which may tell a prepared map.

    Raises:
        VolumeError: What was found, what was expected, what to do.
    """
    _require_place(values.shape, affine)
    _require_values(values)
    _require_no_map(values, affine, name)


def _require_one_volume(shape: tuple[int, ...]) -> None:
    plain = squeezed(tuple(shape))
    if len(plain) > 3:
        raise VolumeError(
            f"holds {int(np.prod(plain[3:]))} volumes ({_times(plain)}), expected one: it may be a functional or "
            "diffusion series; give the T1w scan"
        )
    if len(plain) < 3 or min(plain) < LEAST_VOXELS:
        raise VolumeError(
            f"has {_times(shape)} voxels, expected three axes of at least {LEAST_VOXELS}: it may be a localiser or a "
            "single slice; give the 3D T1w scan"
        )


def _require_place(shape: tuple[int, ...], affine: NDArray[np.float64]) -> None:
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-6:
        raise VolumeError("has an affine that is not invertible, so voxels have no size; convert it again")
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    field = sizes * np.asarray(shape)
    if sizes.max() > LONGEST_EDGE:
        raise VolumeError(
            f"has voxels of {_times(sizes)} mm, expected at most {LONGEST_EDGE:.0f} mm: slices this thick hide the "
            "cortex; give the 3D T1w scan with about 1 mm"
        )
    if field.min() < FIELD_OF_VIEW[0] or field.max() > FIELD_OF_VIEW[1]:
        low, high = FIELD_OF_VIEW
        raise VolumeError(
            f"covers {_times(field)} mm, expected {low:.0f} to {high:.0f} mm along each axis: the voxel size in the "
            "header may be wrong, or the head cut; convert it again"
        )


def _require_values(values: NDArray[np.float32]) -> None:
    bad = values.size - int(np.count_nonzero(np.isfinite(values)))
    if bad:
        raise VolumeError(f"has {bad} of {values.size} voxels that are NaN or infinite; convert it again")
    low, high = float(values.min()), float(values.max())
    if low == high:
        raise VolumeError(f"has the value {low:g} in every voxel; convert it again")
    if low <= AIR and np.count_nonzero(values <= AIR) > AIR_SHARE * values.size:
        raise VolumeError(
            f"has values from {low:,.0f}, as a CT has (Hounsfield units), expected a T1w scan; give the MRI"
        )


def _require_no_map(values: NDArray[np.float32], affine: NDArray[np.float64], name: str) -> None:
    on_grid = any(grid.is_same(values.shape, affine) for grid in KNOWN_GRIDS)
    same_size = any(values.shape == grid.shape for grid in KNOWN_GRIDS)
    small = float(values.min()) >= 0 and float(values.max()) <= MODULATED
    if small and (on_grid or same_size or PREPARED.match(name.lower())):
        raise VolumeError(f"is already a grey-matter map (values up to {values.max():.2g}); {GIVE_IT}")
    if on_grid:
        raise VolumeError(
            "lies on the grid of prepared maps: a head that was warped to the template has lost its volumes; give the "
            "T1w scan as it came from the scanner"
        )


def _times(sizes: Any) -> str:
    return "×".join(f"{round(float(n), 2):g}" for n in sizes)
