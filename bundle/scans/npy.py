"""NumPy's files opened within limits, and without running code that a file may hold."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO, Literal

import numpy as np

MOST_BYTES = 2 << 30  # that an archive may unpack to


def open_array(path: Path, mode: Literal["r", "c"] = "r") -> np.ndarray:
    """Map an array of a `.npy` file into memory; a file shorter than its header says is refused by the mapping.

    Args:
        path: The file.
        mode: `r` for reading, `c` for writing that stays in memory.

    Raises:
        ValueError: the file is no array, or holds pickled objects. NumPy has other errors, too.
    """
    with path.open("rb") as stream:
        if stream.read(6) != np.lib.format.MAGIC_PREFIX:  # np.load would take an archive or a pickle instead
            raise ValueError("it begins like no .npy file")
    return np.load(path, mmap_mode=mode, allow_pickle=False)


def _require_bytes(stream: IO[bytes], held: int) -> None:
    """NumPy makes room for what a header announces before it reads."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    if math.prod(shape) * dtype.itemsize > held:
        raise ValueError(f"an array of shape {shape} does not fit into {held:,} bytes")


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read all arrays of an `.npz` archive.

    Args:
        path: The file.

    Raises:
        ValueError: the archive unpacks to more than 2 GiB, or an array is shorter than its header says. NumPy and
            zipfile have other errors, too.
    """
    with zipfile.ZipFile(path) as archive:
        size = sum(part.file_size for part in archive.infolist())
        if size > MOST_BYTES:
            raise ValueError(f"it unpacks to {size:,} bytes, more than {MOST_BYTES:,}")
        for part in archive.infolist():
            with archive.open(part) as stream:
                _require_bytes(stream, part.file_size)
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}
