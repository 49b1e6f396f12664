"""One writer at a time in a folder; whoever has to wait is told for whom."""

from __future__ import annotations

import contextlib
import datetime
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from bundle.files import read_json, write_json

LOCK, HOLDER = ".lock", ".lock-holder.json"


@contextlib.contextmanager
def locked(folder: Path, seconds: float) -> Iterator[None]:
    """Let one process at a time write into a folder; the others wait.

    Args:
        folder: It is made when missing.
        seconds: Until a process that waits gives up.

    Raises:
        OSError: When another process does not stop writing; says which.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock, holder = FileLock(folder / LOCK), folder / HOLDER
    try:
        lock.acquire(timeout=seconds)
    except Timeout as error:
        raise OSError(
            f"{folder} is being written by {_said_by(holder)}, and was so for {seconds:g} seconds. Nothing was "
            "written; try again when that is done, or give another --output."
        ) from error
    try:
        since = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        write_json(holder, {"process": os.getpid(), "host": socket.gethostname(), "since": since})
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _said_by(holder: Path) -> str:
    """Who holds a lock."""
    try:
        said = read_json(holder)
        return f"process {said['process']} on {said['host']} (since {said['since']})"
    except (ValueError, KeyError, TypeError):
        return "another process"
