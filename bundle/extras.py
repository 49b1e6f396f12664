"""Libraries that only some commands need: imported when one has to run, and asked for in a sentence."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

INSTALL = "run `make prepare` in the bundle's folder, or `pip install 'brain-mri-yaware[prepare]'`"


def require(module: str, purpose: str, install: str = INSTALL) -> Any:
    """Import a library of an extra.

    Args:
        module: Its name in Python, such as `highdicom.sr`.
        purpose: What needs it, as a sentence begins: `Reading DICOM`.
        install: How to get it; without, that of the extra `prepare`.

    Raises:
        ValueError: When it is not installed; says how to install it.

    Example:
        >>> require('json', 'Reading JSON').loads("[1]")
        [1]
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ValueError(f"{purpose} needs {module.split('.')[0]}, which is not installed; {install}.") from error


def is_there(module: str) -> bool:
    """Whether a library of the extra is installed; nothing is imported."""
    return find_spec(module) is not None
