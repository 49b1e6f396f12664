"""Archives unpacked within limits, and without trusting a name, a link or a size that they state."""

from __future__ import annotations

import contextlib
import gzip
import io
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, cast

from bundle.scans.names import IMAGES, stem_of

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
OTHER_ARCHIVES = (".7z", ".rar", ".bz2", ".xz", ".zst")  # told from other files, and refused
MOST_FILES = 50_000
MOST_BYTES = 16 << 30  # that an archive may unpack to
EXPANSION = 200  # bytes that a byte of the archive may stand for, on average
FREE = 64 << 20  # bytes for which the expansion is not looked at
_BLOCK = 1 << 20
_ADVICE = "unpack it yourself, look at what it holds, and give the folder"
_DAMAGED = "is damaged or cut off; copy it again"
_TOO_MUCH = f"unpacks to more than {MOST_BYTES >> 30} GiB, or to more than {EXPANSION} times its size; {_ADVICE}"


class ArchiveError(ValueError):
    """An archive that is not unpacked; the message is a sentence without its subject."""


@dataclass(frozen=True)
class Item:
    """One file that was found.

    Attributes:
        path: Path where it lies.
        inside: Its name with its folders, as the source or the archive has it; nothing is written under it.
    """

    path: Path
    inside: PurePosixPath


def is_archive(name: str) -> bool:
    """Whether a file is an archive that is unpacked, by its ending."""
    return name.lower().endswith(ARCHIVES)


def unpacked(archive: Path, inside: PurePosixPath, folder: Path) -> list[Item]:
    """Unpack an archive into files with names of our own.

    Args:
        archive: A zip file, or a tar file that is plain or compressed by gzip.
        inside: What the names of its files are put under.
        folder: Folder that receives the files; they are called `000001.nii.gz` and so on, whatever they were called.

    Raises:
        ArchiveError: The archive is damaged or encrypted, holds links, devices or names that lead out of it, or
            unpacks to more than the limits.
    """
    folder.mkdir(parents=True, exist_ok=True)
    limit = min(MOST_BYTES, FREE + EXPANSION * archive.stat().st_size)
    members = _of_zip(archive) if archive.name.lower().endswith(".zip") else _of_tar(archive, limit)
    stems: dict[str, int] = {}
    items, left = [], limit
    with _refusing():
        for name, stream in members:
            path = folder / _own_name(name, stems)
            left -= _copied(stream, path, left)
            items.append(Item(path, inside / name))
            if len(items) > MOST_FILES:
                raise ArchiveError(f"holds more than {MOST_FILES:,} files; {_ADVICE}")
    return items


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    """Make one kind of refusal of what the readers of archives raise; their words may quote names, and are left out."""
    try:
        yield
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile) as error:
        raise ArchiveError(_DAMAGED) from error
    except FileExistsError as error:
        raise ArchiveError(f"holds two files of one name; {_ADVICE}") from error
    except (NotImplementedError, RuntimeError, UnicodeError, OverflowError) as error:
        raise ArchiveError(f"is packed in a way that is not read here; {_ADVICE}") from error


def _of_zip(archive: Path) -> Iterator[tuple[PurePosixPath, IO[bytes]]]:
    with zipfile.ZipFile(archive) as opened:
        for entry in opened.infolist():
            if entry.flag_bits & 0x1:
                raise ArchiveError("is encrypted; unpack it with its password, and give the folder")
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise ArchiveError(f"holds a link or a device; {_ADVICE}")
            name = _safe(entry.filename)
            if entry.is_dir() or _is_hidden(name):
                continue
            with opened.open(entry) as stream:
                yield name, stream


def _of_tar(archive: Path, limit: int) -> Iterator[tuple[PurePosixPath, IO[bytes]]]:
    with archive.open("rb") as raw:
        packed = not archive.name.lower().endswith(".tar")
        source = _Bounded(cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if packed else raw, limit)
        with tarfile.open(fileobj=source, mode="r:") as opened:
            for member in opened:
                if member.isdir():
                    continue
                if not member.isreg() or member.issparse():
                    raise ArchiveError(f"holds a link or a device; {_ADVICE}")
                name = _safe(member.name)
                stream = None if _is_hidden(name) else opened.extractfile(member)
                if stream is not None:
                    yield name, stream
            source.seek(opened.offset)  # tarfile ends in silence where a file is cut off
            if source.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise ArchiveError(_DAMAGED)


class _Bounded(io.RawIOBase):
    """A stream that gives no more than a limit: tarfile makes room for whatever a header announces."""

    def __init__(self, source: IO[bytes], limit: int) -> None:
        self._source, self._limit = source, limit

    def read(self, size: int = -1) -> bytes:
        """Read as of a file; a header of a tar file is never longer than 16 blocks of ours."""
        if not 0 <= size <= 16 * _BLOCK:
            raise ArchiveError(f"has a header of {size:,} bytes, expected a short one; {_ADVICE}")
        self._require(self._source.tell() + size)
        return self._source.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place from the beginning."""
        self._require(offset)
        return self._source.seek(offset, whence)

    def tell(self) -> int:
        """Where the next byte is read."""
        return self._source.tell()

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def _require(self, place: int) -> None:
        if place > self._limit + 16 * _BLOCK:
            raise ArchiveError(_TOO_MUCH)


def _safe(name: str) -> PurePosixPath:
    """The name of a file in an archive; refused where it leads out of the archive."""
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    leads_out = posix.is_absolute() or windows.drive or windows.root or ".." in posix.parts or ".." in windows.parts
    if leads_out or "\0" in name or not posix.parts:
        raise ArchiveError(f"holds a file whose name leads out of the archive; {_ADVICE}")
    return PurePosixPath(*windows.parts)


def _is_hidden(name: PurePosixPath) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in name.parts)


def _own_name(name: PurePosixPath, stems: dict[str, int]) -> str:
    """A name that says nothing but the kind of file; both files of a pair, and what describes them, share the stem."""
    stem = stem_of(name.name).removesuffix(".json")
    number = stems.setdefault(str(name.with_name(stem) if stem else name), len(stems) + 1)
    endings = (*IMAGES, *ARCHIVES, ".json", ".dcm")
    return f"{number:06d}{next((ending for ending in endings if name.name.lower().endswith(ending)), '')}"


def _copied(stream: IO[bytes], path: Path, left: int) -> int:
    """Write what a stream holds; the number of bytes, which is counted and not believed."""
    written = 0
    with path.open("xb") as target:
        while block := stream.read(_BLOCK):
            written += len(block)
            if written > left:
                raise ArchiveError(_TOO_MUCH)
            target.write(block)
    return written
