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
from bundle.preparation import deepmriprep_backend
from bundle.preparation.anatomy import find_templates
from bundle.preparation.outcome import Backend
from bundle.preparation.pipeline import NAME, SOFTWARE, VERSION, prepare_with_ants
from bundle.preparation.settings import Settings

NAMES = ("ants", deepmriprep_backend.NAME)
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
    if backend == deepmriprep_backend.NAME:
        return deepmriprep_backend.prepare_with_deepmriprep
    return partial(prepare_with_ants, threads=threads)


def pipeline_of(backend: str | Backend) -> dict[str, Any]:
    """What the records of a pipeline's scans say of it; empty where that is not known before it ran.

    Args:
        backend: One of `NAMES`, or a function with an attribute `pipeline`.

    Raises:
        ValueError: No pipeline has that name, or it or its weights are not installed.
    """
    if callable(backend):
        stated = getattr(backend, "pipeline", None)
        return dict(stated) if isinstance(stated, Mapping) else {}
    _require_known(backend)
    if backend == deepmriprep_backend.NAME:
        deepmriprep_backend.require_weights()
        return deepmriprep_backend.stated()
    for module in _NEEDED:
        if not is_there(module):
            raise ValueError(f"Preparing a T1w scan needs {module}, which is not installed; {INSTALL}.")
    find_templates()
    software = {name: version(name) for name in SOFTWARE}
    settings = without_nan(asdict(Settings()))  # as JSON holds it
    return {"name": NAME, "version": VERSION, "software": software, "settings": settings}


def _require_known(name: str) -> None:
    if name not in NAMES:
        raise ValueError(f"No pipeline is named '{name}'{nearest(name, NAMES)}")
