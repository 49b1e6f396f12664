"""NIfTI and MGH files opened within limits: nothing is unpacked or allocated that a file cannot hold."""

from __future__ import annotations

import contextlib
import gzip
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

MOST_VOXELS = 512**3  # a whole head at 0.5 mm has a third of them
MOST_BYTES = 8 * MOST_VOXELS
SLACK = 1 << 20  # bytes that may follow the voxels, such as the footer of an MGH file
PIECE = 1 << 18  # bytes unpacked at a time: they stay in the processor's cache
EXPANSION = 1032  # bytes that one byte of gzip can stand for, at most
PHANTOM = b"phantom, not a patient"  # in the header of the embedded cohort's images
_HEAD = 1024  # bytes; every header is shorter
_NIFTI = {348: (nib.Nifti1Image, nib.Nifti1Pair), 540: (nib.Nifti2Image, nib.Nifti2Pair)}  # by the header's size
_MAGIC = {348: (344, b"ni1\0"), 540: (4, b"ni2\0")}  # where the header of a pair says that it is no Analyze file


class VolumeError(ValueError):
    """A file that holds no usable 3D volume; the message says what was found."""


class UnreadableError(VolumeError):
    """A file that is damaged, or holds something else than its name says."""


@contextlib.contextmanager
def refusing() -> Iterator[None]:
    """Make a refusal of whatever a reader raises: each library and format has errors of its own."""
    try:
        yield
    except VolumeError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise UnreadableError(f"cannot be read ({reason}); copy or convert it again") from error


def open_image(path: Path) -> Any:
    """Open an image of whose voxels nothing is read yet, unless it is compressed.

    Args:
        path: NIfTI (`.nii`, `.nii.gz`, or a pair `.img` and `.hdr`) or MGH (`.mgh`, `.mgz`).

    Returns:
        nibabel's image.

    Raises:
        VolumeError: the file is damaged, or its header announces more voxels than a brain has or the file can hold.
    """
    with refusing():
        if path.name.lower().endswith((".img", ".hdr")):
            return _open_pair(path)
        kind, announced, packed = _described(path)
        return kind.from_bytes(_unpacked(path, announced + SLACK)) if packed else kind.from_filename(path)


@contextlib.contextmanager
def unpacking(path: Path) -> Iterator[tuple[Any, Iterator[NDArray[Any]]]]:
    """Open a packed image whose voxels are read piece by piece, to the last byte, and not kept.

    Args:
        path: A `.nii.gz` file.

    Yields:
        nibabel's image, which has no voxels, and one-dimensional arrays of its stored numbers.

    Raises:
        VolumeError: as of `open_image`; of damage behind the header when the pieces are asked for.
    """
    with refusing():
        kind, *_ = _described(path)
        with gzip.open(path) as stream:
            head = stream.read(_HEAD)
            head += stream.read(max(0, int(_header(kind, head).get_data_offset()) - _HEAD))
            image = kind.from_bytes(head)
            yield image, _pieces(head[image.dataobj.offset :], stream, image)


def require_limits(path: Path) -> None:
    """Refuse an image for its header, which alone is read; all but pairs.

    Args:
        path: NIfTI (`.nii`, `.nii.gz`) or MGH (`.mgh`, `.mgz`).

    Raises:
        VolumeError: as of `open_image`.
    """
    with refusing():
        _described(path)


def read_header(path: Path) -> tuple[tuple[int, ...], NDArray[np.float64]]:
    """Shape and affine of an image; of it the header alone is read.

    Args:
        path: NIfTI (`.nii`, `.nii.gz`, or a pair) or MGH (`.mgh`, `.mgz`).

    Raises:
        VolumeError: as of `open_image`.
    """
    with refusing():
        name = path.name.lower()
        if name.endswith((".img", ".hdr")):
            image = _open_pair(path)
            return image.shape, np.asarray(image.affine, dtype=float)
        kind, *_ = _described(path)
        head = _head(path, name.endswith((".gz", ".mgz")))
        header = _header(kind, head)
        affine = header.get_affine() if kind is nib.MGHImage else header.get_best_affine()
        return tuple(int(n) for n in header.get_data_shape()), np.asarray(affine, dtype=float)


def is_phantom(path: str | Path) -> bool:
    """Whether an image says of itself, in its header, that it is the embedded phantom's; of others that is unknown.

    Args:
        path: Path of the image.
    """
    return description(path) == PHANTOM.decode()


def description(path: str | Path) -> str:
    """What the header of a NIfTI file says of itself; empty for other files, and for unreadable ones.

    Args:
        path: Path of the image; its header alone is read.
    """
    try:
        header = stored_header(Path(path))
    except VolumeError:
        return ""
    said = b"" if header is None else bytes(header["descrip"].tobytes())
    return said.split(b"\0")[0].decode("ascii", "replace")


def stored_header(path: Path) -> Any:
    """The header of a NIfTI file as it is on disk, without what nibabel silently mends; None for other files.

    Args:
        path: Path of the image; of a pair either file.

    Raises:
        VolumeError: the file begins like no NIfTI file.
    """
    name = path.name.lower()
    if not name.endswith((".nii", ".nii.gz", ".img", ".hdr")):
        return None
    with refusing():
        is_pair = name.endswith((".img", ".hdr"))
        file = Path(str(nib.Nifti1Pair.filespec_to_file_map(path)["header"].filename)) if is_pair else path
        head = _head(file, name.endswith(".gz"))
        return _header(_NIFTI[_header_size(head)][0], head)


def _described(path: Path) -> tuple[Any, int, bool]:
    """Nibabel's class for an image, the bytes that its header announces, and whether they are packed."""
    name = path.name.lower()
    packed = name.endswith((".gz", ".mgz"))
    head = _head(path, packed)
    kind: Any = nib.MGHImage if name.endswith((".mgh", ".mgz")) else _NIFTI[_header_size(head)][0]
    announced = _announced(kind, head)
    _require_bytes(announced, path.stat().st_size * (EXPANSION if packed else 1))
    return kind, announced, packed


def _open_pair(path: Path) -> Any:
    files = nib.Nifti1Pair.filespec_to_file_map(path)
    header, image = Path(str(files["header"].filename)), Path(str(files["image"].filename))
    head = _head(header, packed=False)
    size = _header_size(head)
    place, magic = _MAGIC[size]
    if head[place : place + 4] != magic:
        raise UnreadableError("is an Analyze file, which does not say which side is left; convert it to NIfTI")
    kind: Any = _NIFTI[size][1]
    _require_bytes(_announced(kind, head), image.stat().st_size)
    return kind.from_filename(path)


def _head(path: Path, packed: bool) -> bytes:
    with path.open("rb") as raw:
        return gzip.GzipFile(fileobj=raw).read(_HEAD) if packed else raw.read(_HEAD)


def _header_size(head: bytes) -> int:
    """What a NIfTI header begins with, in either order of bytes."""
    sizes = {struct.unpack(f"{order}i", head[:4])[0] for order in "<>"} & set(_NIFTI) if len(head) >= 4 else set()
    if not sizes:
        raise UnreadableError("cannot be read (it begins like no NIfTI file); copy or convert it again")
    return sizes.pop()


def _header(kind: Any, head: bytes) -> Any:
    """The header as it is on disk."""
    return kind.header_class(head[: kind.header_class.template_dtype.itemsize], check=False)


def _announced(kind: Any, head: bytes) -> int:
    """Bytes up to the last voxel, as the header says."""
    header = _header(kind, head)
    shape = tuple(int(n) for n in header.get_data_shape())
    offset, voxels = int(header.get_data_offset()), math.prod(shape)
    if min(shape, default=0) < 0 or offset < 0:
        raise UnreadableError(f"has a damaged header (shape {shape}, voxels from byte {offset}); convert it again")
    size = voxels * int(header.get_data_dtype().itemsize)
    if voxels > MOST_VOXELS or size > MOST_BYTES:
        raise UnreadableError(
            f"announces {voxels:,} voxels in {size:,} bytes, expected one 3D map of at most {MOST_VOXELS:,} voxels"
        )
    return offset + size


def _require_bytes(announced: int, held: int) -> None:
    if announced > held:
        raise EOFError(f"the header announces {announced:,} bytes, the file holds at most {held:,}")


def _pieces(begun: bytes, stream: gzip.GzipFile, image: Any) -> Iterator[NDArray[Any]]:
    """The stored numbers, whose first bytes have been read; only at its end is the stream's checksum compared."""
    dtype = image.get_data_dtype()
    left = math.prod(image.shape) * dtype.itemsize
    piece = begun[:left] + stream.read(max(0, min(PIECE, left) - len(begun)))
    while piece:
        left -= len(piece)
        yield np.frombuffer(piece, dtype)
        piece = stream.read(min(PIECE, left))
    if left:
        raise EOFError(f"the file ends {left:,} bytes before its last voxel")
    if len(stream.read(SLACK + 1)) > SLACK:
        raise UnreadableError(f"unpacks to more than {SLACK:,} bytes behind its last voxel; convert it again")


def _unpacked(path: Path, most: int) -> bytes:
    """The content to its last byte: only then is the checksum compared."""
    with gzip.open(path) as stream:
        content = stream.read(most + 1)
    if len(content) > most:
        raise UnreadableError(f"unpacks to more than the {most:,} bytes that its header announces; convert it again")
    return content
