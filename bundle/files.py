"""Files that are either whole or not there: written under a temporary name, then renamed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

SECTIONS = ("training", "validation", "test")  # of a datalist, MONAI's JSON file of records
_FULL = "the disk is full; free some space, or give a folder on another disk"
_CLOSED = "its folder may not be written to; change its permissions, or give another folder"
WRITING = {  # error number: what to say
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), _FULL),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), _CLOSED),
}


@contextlib.contextmanager
def replacing(path: Path, flush: bool = True) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends without error.

    The temporary name keeps the ending, so that writers that go by it (.nii.gz, .npz, .png) work.

    Args:
        path: The file to write; its folder is made when missing.
        flush: Whether the file outlasts a power cut from the end of the block on; False for one of many files, after
            which `flush_all` is called.

    Raises:
        OSError: says in a sentence that the disk is full, or the folder closed; what was there before is intact.

    Example:
        >>> with replacing(Path("table.csv")) as temporary:  # doctest: +SKIP
        ...     temporary.write_text("a,b")
    """
    temporary = path.with_name(f".part-{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if flush:
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
        temporary.replace(path)
        if flush:
            _flush_folder(path.parent)
    except (OSError, RuntimeError) as error:  # torch raises another error while it closes what it could not write
        raise _refusal(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    """Have a renaming outlast a power cut, where the system can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_all() -> None:
    """Have all that was written so far outlast a power cut, where the system can: once, in place of once a file."""
    if os.name == "posix":
        os.sync()


def _refusal(path: Path, error: Exception) -> Exception:
    """What went wrong, in a sentence; an error that is not about writing stays as it is."""
    cause = error if isinstance(error, OSError) else error.__context__
    if not isinstance(cause, OSError) or cause.errno not in WRITING:
        return error
    before = "what was there before is intact" if path.exists() else "nothing was there before"
    return OSError(f"{path} cannot be written: {WRITING[cause.errno]}; {before}.")


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file atomically, indented, with a final newline; null stands for a number that is not finite.

    JSON has no NaN and no infinity: other software could not read the file.
    """
    write_text(path, json.dumps(without_nan(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def without_nan(content: Any) -> Any:
    """The content of a JSON file with None in place of every NaN and infinity, at any depth.

    Example:
        >>> without_nan({"age_mae": float("nan"), "layers": [6, 12]})
        {'age_mae': None, 'layers': [6, 12]}
    """
    if isinstance(content, Mapping):
        return {name: without_nan(value) for name, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [without_nan(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def read_json(path: Path, what: str = "") -> Any:
    """Read a JSON file.

    Args:
        path: The file.
        what: It is, for the message, such as "The card ".

    Raises:
        ValueError: when it cannot be opened or is no JSON; the message names the file.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # lists in lists in lists …
        raise ValueError(f"{what}{path} is not valid JSON ({error}); restore it, or make it again.") from error


def check_format(found: Any, newest: int, path: Path) -> None:
    """Refuse a file of a format that is not known here.

    Args:
        found: What the file says.
        newest: Format that this version writes; it reads all from 1 on.
        path: Path of the file, for the message.

    Raises:
        ValueError: for a newer format, or none that ever was.
    """
    if type(found) is int and found > newest:
        raise ValueError(
            f"{path} has format {found}, and this version reads up to {newest}: a newer one wrote it. Update this "
            "software, or use files of this version."
        )
    if type(found) is not int or found < 1:
        raise ValueError(f"{path} has format {str(found)[:40]!r}, expected a number from 1 to {newest}; restore it.")


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def relative_to(path: str | Path, folder: Path) -> str:
    """A path as seen from a folder, with forward slashes, for a file that lies there.

    Args:
        path: Absolute, or relative to the working folder.
        folder: Folder that the result is relative to.
    """
    return Path(os.path.relpath(Path(path).absolute(), folder.absolute())).as_posix()
