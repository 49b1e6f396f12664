"""Why a command ended, in one sentence: the refusal below MONAI's wrappers, and causes that libraries tell badly."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from types import TracebackType

SHARED = Path("/dev/shm")  # through which workers hand batches over
# What torch says where that is full; where a worker is killed for it, the signal is SIGBUS.
_FULL = re.compile(
    r"(unable to (write to|allocate|open) [^\n]*(shm|/torch_)|bus error|shared memory)[^\0]*?"
    r"(no space left on device|cannot allocate memory|\bbus error\b|insufficient shared memory)",
    re.IGNORECASE,
)


def sentence_of(error: BaseException) -> str | None:
    """The cause of an error in a sentence; None where nothing is known but the error itself.

    Args:
        error: Exception as it was raised, possibly wrapped by MONAI.
    """
    chain = _chain(error)
    if any(_FULL.search(str(cause)) for cause in chain):
        return _of_full_memory()
    refusal = next((cause for cause in chain if isinstance(cause, (ValueError, OSError))), None)
    return None if refusal is None else str(refusal)


def _chain(error: BaseException) -> list[BaseException]:
    """An error and what it was raised from."""
    seen: list[BaseException] = []  # causes can go round in a circle: those of torch 2.6's ONNX exporter do
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        seen.append(cause)
        cause = cause.__cause__
    return seen


def _of_full_memory() -> str:
    held = f" holds {shutil.disk_usage(SHARED).total / 2**20:.3g} MB" if SHARED.is_dir() else ""
    return (
        f"The processes that read images have no room left in shared memory ({SHARED}{held}). Enlarge it (docker run "
        "--shm-size 4g), or read in this process: --num_workers 0."
    )


def say_causes_last() -> None:
    """End a traceback with its cause in a sentence, as the commands of this package do without one."""
    sys.excepthook = _with_cause


def _with_cause(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sys.__excepthook__(kind, error, trace)
    if (sentence := sentence_of(error)) is not None:
        sys.stderr.write(f"\nerror: {sentence}\n")
