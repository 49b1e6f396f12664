"""Which image belongs to which row of a table, and what is wrong with an image file."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.volumeutils import apply_read_scaling
from tqdm import tqdm

from bundle.scans.nifti import MOST_VOXELS, VolumeError, open_image, refusing, require_limits, unpacking
from bundle.scans.npy import open_array

Ends = tuple[tuple[float, float], tuple[float, float]]  # where the lowest and the highest value have to lie
Opened = tuple[tuple[int, ...], np.dtype, Callable[[], np.ndarray]]  # shape, type and what reads the values


def read_volume(path: Path, expected_shape: Sequence[int] | None = None) -> np.ndarray:
    """Read one 3D volume from a NIfTI or .npy file, with its scaling applied.

    Args:
        path: A `.nii`, `.nii.gz` or `.npy` file.
        expected_shape: Voxels along each axis; None accepts every 3D shape.

    Shape:
        (D, H, W); stored axes of length one, as in OpenBHB's (1, 1, 121, 145, 121), are squeezed.

    Raises:
        VolumeError: the file is missing or damaged, or holds no 3D volume of the expected shape.
    """
    with refusing():
        return _values((_open_npy if path.suffix == ".npy" else _open_nifti)(path), expected_shape)


def values_of(image: Any) -> np.ndarray:
    """The values of an opened image, as of `read_volume`."""
    with refusing():
        return _values(_opened(image), None)


def _values(opened: Opened, expected_shape: Sequence[int] | None) -> np.ndarray:
    shape, dtype, read = opened
    return read().reshape(_plain_shape(shape, dtype, expected_shape))


def _plain_shape(shape: tuple[int, ...], dtype: np.dtype, expected_shape: Sequence[int] | None) -> tuple[int, ...]:
    """The three axes of a volume, unless its header alone says that it cannot be used."""
    plain = squeezed(shape)
    _require_shape(shape, plain, expected_shape)
    if not np.issubdtype(dtype, np.integer) and not np.issubdtype(dtype, np.floating):
        raise VolumeError(f"holds values of type {dtype}, expected real numbers; convert it")
    return plain


def within_limits(path: str) -> str:
    """Give a path back, unless its file announces more voxels than a brain has or than it can hold.

    For preprocessing, before MONAI's readers make room for what a header announces; only the header is read. Files
    that are neither NIfTI nor `.npy` are left to their readers.

    Args:
        path: The image file.

    Raises:
        VolumeError: with the path and what was found.
    """
    file = Path(path)
    try:
        with refusing():
            if file.name.endswith(".npy"):
                _require_shape(shape := open_array(file).shape, squeezed(shape), None)
            elif file.name.endswith((".nii", ".nii.gz")):
                require_limits(file)
    except VolumeError as error:
        raise VolumeError(f"{path} {error}") from error
    return path


def volume_fault(path: Path, expected_shape: Sequence[int] | None = None, ends: Ends | None = None) -> str | None:
    """Say in a sentence why a volume cannot be used, or None when it can.

    Args:
        path: The image file.
        expected_shape: Voxels along each axis; None accepts every 3D shape.
        ends: Ranges of the lowest and of the highest value; None accepts all.

    Example:
        >>> volume_fault(Path("nowhere.npy"))
        'the image file does not exist'
    """
    try:
        if not _is_sound(path, expected_shape, ends):
            checked_volume(path, expected_shape, ends)
    except VolumeError as error:
        return str(error)
    return None


def _is_sound(path: Path, expected_shape: Sequence[int] | None, ends: Ends | None) -> bool:
    """Whether `checked_volume` would find nothing wrong with a packed volume, every byte of which is read but not kept.

    A scaling is applied to the lowest and the highest stored number alone, since it keeps or reverses their order.
    False where that is not certain, and of other files: what is wrong then has to be said.
    """
    if not path.name.endswith(".nii.gz"):
        return False
    try:
        with unpacking(path) as (image, pieces):
            _plain_shape(image.shape, image.get_data_dtype(), expected_shape)
            found = np.array([end for piece in pieces for end in (piece.min(), piece.max())])  # NaN where any voxel is
            stored = np.array([found.min(), found.max()])
            low, high = apply_read_scaling(stored, image.dataobj.slope, image.dataobj.inter)
    except VolumeError:
        return False
    is_plain = bool(np.isfinite(low) and np.isfinite(high) and low != high)
    return is_plain and (ends is None or not _ends_fault(min(low, high), max(low, high), ends))


def checked_volume(path: Path, expected_shape: Sequence[int] | None = None, ends: Ends | None = None) -> np.ndarray:
    """Read one 3D volume that can be used.

    Args:
        path: The image file.
        expected_shape: Voxels along each axis; None accepts every 3D shape.
        ends: Ranges of the lowest and of the highest value; None accepts all.

    Shape:
        (D, H, W), as of `read_volume`.

    Raises:
        VolumeError: with the sentence of `volume_fault`.
    """
    if not path.is_file():
        raise VolumeError("the image file does not exist")
    try:
        volume = read_volume(path, expected_shape)
    except VolumeError as error:
        raise VolumeError(f"the image {error}") from error
    if fault := _content_fault(volume, ends):
        raise VolumeError(fault)
    return volume


def volume_faults(
    paths: Sequence[Path],
    expected_shape: Sequence[int] | None = None,
    workers: int = 2,
    ends: Ends | None = None,
) -> list[str | None]:
    """Check many volumes in parallel, with a progress bar; one answer per path.

    Args:
        paths: The image files.
        expected_shape: Voxels along each axis; None accepts every 3D shape.
        workers: Number of threads (reading and decompression run outside Python's lock).
        ends: Ranges of the lowest and of the highest value; None accepts all.
    """

    def check(path: Path) -> str | None:
        return volume_fault(path, expected_shape, ends)

    with ThreadPoolExecutor(max(1, workers)) as pool:
        bar = tqdm(pool.map(check, paths), "Checking images", len(paths), unit="image", disable=None)
        return list(bar)


def _open_npy(path: Path) -> Opened:
    array = open_array(path)
    return array.shape, array.dtype, lambda: np.asarray(array)


def _open_nifti(path: Path) -> Opened:
    if not path.name.endswith((".nii", ".nii.gz")):
        raise VolumeError(f"ends in '{path.suffix}', expected .nii, .nii.gz or .npy; convert it")
    return _opened(open_image(path))


def _opened(image: Any) -> Opened:
    return image.shape, image.get_data_dtype(), lambda: np.asarray(image.dataobj)


def squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without axes of length one, where it has more than three; OpenBHB stores (1, 1, 121, 145, 121)."""
    return tuple(n for n in shape if n != 1) if len(shape) > 3 else shape


def _require_shape(stored: tuple[int, ...], plain: tuple[int, ...], expected: Sequence[int] | None) -> None:
    if len(plain) > 3:
        raise VolumeError(f"holds several volumes (shape {_size(stored)}); give one 3D map a scan")
    if len(plain) < 3 or math.prod(plain) == 0:
        raise VolumeError(f"has shape {_size(stored)}, expected a 3D map")
    if math.prod(plain) > MOST_VOXELS:
        raise VolumeError(f"has {_size(plain)} voxels, expected at most {MOST_VOXELS:,}")
    if expected is not None and plain != tuple(expected):
        raise VolumeError(
            f"has {_size(plain)} voxels, expected {_size(expected)}. If all images have this size, give --shape "
            f"{' '.join(map(str, plain))}; if not, bring it onto that grid by its affine (`cohort --regrid FOLDER`), "
            "and never pad or crop blindly"
        )


def _size(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))


def _content_fault(volume: np.ndarray, ends: Ends | None) -> str | None:
    bad = volume.size - int(np.count_nonzero(np.isfinite(volume)))
    if bad:
        return f"the image has {bad} NaN or infinite voxels of {volume.size}; preprocess it again"
    low = volume.min()
    if low == volume.max():
        return f"the image is constant (every voxel is {low:g}); preprocess it again"
    return None if ends is None else _ends_fault(float(low), float(volume.max()), ends)


def _ends_fault(low: float, high: float, ends: Ends) -> str | None:
    """What is wrong with the lowest and the highest value, which a kind of map has within limits."""
    for name, value, (least, most) in (("lowest", low, ends[0]), ("highest", high, ends[1])):
        if not least <= value <= most:
            return f"the {name} value of the image is {value:.4g}, expected {least:g} to {most:g} of its modality"
    return None
