"""Which pipelines prepare a scan, by the names that the command line has for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from typing import Any

from bundle.extras import INSTALL, is_there
from bundle.files import without_nan
from bundle.hints import nearest
from bundle.preparation.deepmriprep_backend import prepare_with_deepmriprep, require_weights
from bundle.preparation.outcome import Backend
from bundle.preparation.pipeline import NAME, SOFTWARE, VERSION, prepare_with_ants
from bundle.preparation.settings import Settings
from bundle.preparation.templates import find_templates

NAMES = ANTS, DEEPMRIPREP = ("ants", "deepmriprep")
_NEEDED = ("ants", "deepbet")


def backend_of(backend: str | Backend, threads: int) -> Backend:
    """The function that prepares a scan.

    Args:
        backend: One of `NAMES`, or the function itself.
        threads: How many it may use.

    Raises:
        ValueError: No pipeline has that name.
    """
    if callable(backend):
        return backend
    _require_known(backend)
    return partial(prepare_with_ants, threads=threads) if backend == ANTS else prepare_with_deepmriprep


def pipeline_of(backend: str | Backend) -> dict[str, Any]:
    """What the records of a pipeline's scans say of it; empty where that is not known before it ran.

    Args:
        backend: One of `NAMES`, or a function with an attribute `pipeline`.

    Raises:
        ValueError: No pipeline has that name, or it is not installed.
    """
    if callable(backend):
        stated = getattr(backend, "pipeline", None)
        return dict(stated) if isinstance(stated, Mapping) else {}
    _require_known(backend)
    return _ants() if backend == ANTS else _deepmriprep()


def _ants() -> dict[str, Any]:
    for module in _NEEDED:
        if not is_there(module):
            raise ValueError(f"Preparing a T1w scan needs {module}, which is not installed; {INSTALL}.")
    find_templates()
    software = {name: version(name) for name in SOFTWARE}
    settings = without_nan(asdict(Settings()))  # as JSON holds it
    return {"name": NAME, "version": VERSION, "software": software, "settings": settings}


def _deepmriprep() -> dict[str, Any]:
    require_weights()
    return {"name": DEEPMRIPREP, "version": version(DEEPMRIPREP)}


def _require_known(name: str) -> None:
    if name not in NAMES:
        raise ValueError(f"No pipeline is named '{name}'{nearest(name, NAMES)}")
