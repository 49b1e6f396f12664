"""What becomes of the memory that a training step on a CPU gives back."""

from __future__ import annotations

import ctypes
import logging

_MMAP_MAX, _TRIM_THRESHOLD = -4, -1  # of glibc's malloc.h
_NEVER = 2**31 - 1  # bytes at the end of the heap from which on it shrinks
logger = logging.getLogger(__name__)


def keep_freed_memory() -> bool:
    """Have freed memory kept for the next tensor, for the rest of the process.

    By default glibc returns every large tensor's memory to the system, which hands it out again page by page, zeroed:
    up to a third of a step of full-size volumes. Kept, memory is not handed out in the order it is needed in, so that
    the peak is higher. Tensors on a GPU have torch's own allocator and are not affected.

    Returns:
        Whether there was a glibc to tell; elsewhere nothing changes, and a line says so.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    done = mallopt is not None and bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, _NEVER))
    if not done:
        logger.warning("`keep_memory` is for glibc's malloc, which this system does not have; memory is not kept.")
    return done
