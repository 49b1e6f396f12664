"""A DICOM series converted to NIfTI by dcm2niix, with nothing of the patient in names or headers."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bundle.extras import require
from bundle.preparation.dicom_geometry import corners_of
from bundle.preparation.dicom_headers import PURPOSE, Slice
from bundle.scans.nifti import VolumeError, read_header

# No JSON file (it names the institution), no compression, no merging, no folders below, no cropping, no turning.
OPTIONS = ("-b", "n", "-z", "n", "-m", "n", "-d", "0", "-x", "i")
SECONDS = 600  # that a conversion may take
NEAR = 0.05  # voxels by which the corners of the NIfTI file may lie off those of the slices
_TEXTS = ((4, 28), (148, 104), (328, 16))  # place and length of the texts in a NIfTI-1 header


def convert(slices: Sequence[Slice], folder: Path, number: int | None) -> tuple[Path, Path]:
    """Convert a series to NIfTI.

    Args:
        slices: Slices of one faultless stack.
        folder: Folder that receives the NIfTI file, and a folder `dicom` that holds exactly the files of the series.
        number: Number of the series, for the file's name.

    Returns:
        The NIfTI file, and the folder with the files of the series.

    Raises:
        ValueError: dcm2niix is not installed or fails, or what it gives does not lie where the slices lie.
    """
    program = require("dcm2niix", PURPOSE).bin
    series, output = folder / "dicom", folder / "nifti"
    for made in (series, output):
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
    for place, one in enumerate(slices, start=1):
        _linked(one.path, series / f"{place:05d}.dcm")
    image = _converted(str(program), series, output, "series" if number is None else f"series-{number}")
    _without_texts(image)
    _require_place(image, slices)
    return image, series


def _converted(program: str, series: Path, output: Path, name: str) -> Path:
    """The one volume that dcm2niix makes of a folder; what it says is thrown away, since it quotes headers."""
    command = [program, *OPTIONS, "-f", name, "-o", str(output), str(series)]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise ValueError(f"dcm2niix did not finish within {SECONDS} s; convert the series yourself.") from None
    made = sorted(output.glob("*.nii"))
    if len(made) != 1:
        raise ValueError(
            f"dcm2niix made {len(made)} volumes of the series, expected one (exit status {done.returncode}); "
            "convert it yourself, and give the NIfTI file."
        )
    return made[0]


def _linked(source: Path, target: Path) -> None:
    """The same file under another name; a copy where the file system cannot have both."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def _without_texts(path: Path) -> None:
    """Remove the texts of a NIfTI-1 header, which hold the time of the scan and comments of the scanner."""
    with path.open("r+b") as stream:
        for place, length in _TEXTS:
            stream.seek(place)
            stream.write(bytes(length))


def _require_place(path: Path, slices: Sequence[Slice]) -> None:
    """Refuse a volume whose corners are not those of the slices: something was cropped, added or turned wrongly."""
    try:
        shape, affine = read_header(path)
    except VolumeError as error:
        raise ValueError(f"What dcm2niix made of the series {error}.") from error
    if len(shape) != 3:
        raise ValueError(f"dcm2niix made a volume of shape {'×'.join(map(str, shape))} of the series, expected 3D.")
    found = np.c_[corners_of(slices), np.ones(8)] @ np.linalg.inv(affine).T[:, :3]
    ends = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * (np.array(shape) - 1)
    off = np.abs(found[:, None] - ends[None]).max(-1).min(1)
    if off.max() > NEAR:
        raise ValueError(
            f"The corners of the volume that dcm2niix made lie up to {off.max():.2g} voxels off those of the slices; "
            "convert the series yourself, and give the NIfTI file."
        )
