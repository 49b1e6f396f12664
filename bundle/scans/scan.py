"""One scan as it lies on disk: its values, where they lie, and what is wrong with the file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nibabel.nifti1 import Nifti1Header
from numpy.typing import NDArray

from bundle.scans.grid import KNOWN_GRIDS, Grid
from bundle.scans.nifti import UnreadableError, VolumeError, open_image, refusing, stored_header
from bundle.scans.volumes import read_volume, values_of

ENDINGS = (".nii", ".nii.gz", ".npy", ".mgz", ".mgh", ".img", ".hdr")
SHIFT_MM = 1.0  # sform and qform that place a corner further apart disagree


class ScanError(VolumeError):
    """A scan that cannot be read; `check` names what was looked at, the message says what was found."""

    def __init__(self, check: str, reason: str) -> None:
        super().__init__(reason)
        self.check = check


@dataclass(frozen=True)
class Scan:
    """A readable volume.

    Attributes:
        volume: (D, H, W), float32, with its scaling applied.
        affine: 4 × 4, index → mm.
        notes: What a reader had to decide, in sentences.
    """

    volume: NDArray[np.float32]
    affine: NDArray[np.float64]
    notes: tuple[str, ...] = ()


def read_scan(path: Path, grid: Grid) -> Scan:
    """Read a scan, or say why it cannot be used.

    Args:
        path: NIfTI (`.nii`, `.nii.gz`, or a pair), MGH (`.mgz`) or `.npy`. An array has no affine: it must have the
            shape of the model's grid or of a known one (`grid.KNOWN_GRIDS`), and is taken to lie there.
        grid: Grid of the model.

    Raises:
        ScanError: in every case in which values or their place are not certain.
    """
    _require_file(path)
    try:
        with refusing():
            scan = _read_npy(path, grid) if path.suffix == ".npy" else _read_image(path)
    except ScanError:
        raise
    except VolumeError as error:
        check = "file" if isinstance(error, UnreadableError) else "dimensions"
        raise ScanError(check, f"The file {error}.") from error
    bad = scan.volume.size - int(np.count_nonzero(np.isfinite(scan.volume)))
    if bad:
        raise ScanError("values", f"{bad} of {scan.volume.size} voxels are NaN or infinite; preprocess it again.")
    if scan.volume.min() == scan.volume.max():
        raise ScanError("values", f"Every voxel is {scan.volume.min():g}; preprocess it again.")
    return scan


def _require_file(path: Path) -> None:
    try:
        exists, folder = path.is_file(), path.is_dir()
        empty = exists and path.stat().st_size == 0
    except (OSError, ValueError) as error:  # a loop of links, a name that is too long, or a NUL in it
        raise ScanError("file", f"The file cannot be opened ({error}).") from error
    if folder:
        raise ScanError("file", "This is a folder, expected a file; give the scans in it.")
    if not exists:
        raise ScanError("file", "The file does not exist.")
    if empty:
        raise ScanError("file", "The file is empty (0 bytes); copy it again.")
    if not path.name.lower().endswith(ENDINGS):
        raise ScanError("file", f"The file ends in '{path.suffix}', expected one of {', '.join(ENDINGS)}; convert it.")


def _read_npy(path: Path, grid: Grid) -> Scan:
    volume = read_volume(path)
    places = list(dict.fromkeys([grid, *KNOWN_GRIDS]))
    known = [g for g in places if g.shape == volume.shape]
    if not known:
        raise ScanError(
            "orientation",
            f"The array has {'×'.join(map(str, volume.shape))} voxels and no affine, so where it lies cannot be known; "
            f"expected {' or '.join('×'.join(map(str, g.shape)) for g in places)}, or give a NIfTI file.",
        )
    return Scan(np.array(volume, dtype=np.float32), known[0].matrix, (f"An array, taken to be {known[0]}.",))


def _read_image(path: Path) -> Scan:
    image = open_image(path)
    header = stored_header(path)
    notes = () if header is None else require_sides(header)
    affine = np.asarray(image.affine, dtype=float)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-6:
        raise ScanError("orientation", "The affine is not invertible, so voxels have no size; mend the header.")
    return Scan(np.array(values_of(image), dtype=np.float32), affine, notes)


def require_sides(header: Nifti1Header) -> tuple[str, ...]:
    """What the two transforms of a NIfTI header say, in sentences.

    Args:
        header: Header, as it is on disk.

    Raises:
        ScanError: where left and right are not certain.
    """
    sform = header.get_sform(coded=True)[0]
    sizes = np.asarray(header["pixdim"][1:4], dtype=float)
    if sform is None and not (np.isfinite(sizes).all() and (sizes > 0).all()):
        raise ScanError(
            "orientation", f"The header gives voxels of {sizes.tolist()} mm, expected sizes above 0; mend the header."
        )
    qform = header.get_qform(coded=True)[0]
    if sform is None and qform is None:
        raise ScanError(
            "orientation", "The header has neither sform nor qform, so left and right are not known; convert it again."
        )
    if sform is None or qform is None:
        return ()
    corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)], float)
    corners[:, :3] *= np.asarray(header.get_data_shape()[:3]) - 1
    apart = float(np.abs(corners @ (sform - qform).T).max())
    if np.linalg.det(sform[:3, :3]) * np.linalg.det(qform[:3, :3]) < 0:
        raise ScanError(
            "orientation", "The header's sform and qform disagree about left and right; find out which is right."
        )
    if apart > SHIFT_MM:
        return (f"sform and qform of the header disagree by up to {apart:.0f} mm; the sform was used.",)
    return ()


def find_scans(folder: Path) -> Iterator[Path]:
    """Image files below a folder, sorted; hidden ones, and headers of pairs, are left out.

    Args:
        folder: Searched to any depth; links to folders are not followed.
    """
    for path in sorted(folder.rglob("*")):
        name = path.name.lower()
        if name.endswith(ENDINGS) and not name.endswith(".hdr") and not name.startswith(".") and not path.is_dir():
            yield path
