"""A run inside somebody's process: refusals are sentences, and what belongs to the process is put back."""

from __future__ import annotations

import contextlib
import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.utils import set_determinism

from bundle.cli.causes import sentence_of
from bundle.cli.expressions import plain_path
from bundle.cli.options import FOLDER
from bundle.places import found
from bundle.training import RandomState

# MONAI's, for a decoder of NVIDIA that nobody asked for, as in `cli.main.entry`
logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)
Paths = str | Path | Sequence[str | Path]


def configs(runnable: str, overlays: Paths) -> list[Path]:
    """A runnable config and its overlays.

    Args:
        runnable: Name in `configs/`.
        overlays: One path or several; those that come with the package are found from any folder.
    """
    several = [overlays] if isinstance(overlays, (str, Path)) else overlays
    return [FOLDER / runnable, *(found(path) for path in several)]


def as_options(options: Mapping[str, Any], named: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Options of a config from arguments of Python: paths as text, NumPy's numbers as Python's.

    Args:
        options: Name → value.
        named: Option that an argument of another name stands for → this name; it is refused.

    Raises:
        ValueError: when an option is given that has an argument of its own.
    """
    for option, argument in (named or {}).items():
        if option in options:
            raise ValueError(f"The option `{option}` is the argument `{argument}` here; give {argument}=… instead.")
    return {name: _plain(value) for name, value in options.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return plain_path(str(value))
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value


@contextlib.contextmanager
def sentences() -> Iterator[None]:
    """Raise a refusal itself in place of what MONAI wraps around it, and KeyboardInterrupt where a signal ended a run.

    Raises:
        ValueError: with the sentence that the command line says.
        KeyboardInterrupt: what was done is saved.
    """
    try:
        yield
    except RuntimeError as error:
        sentence = sentence_of(error)
        if sentence is None:
            raise
        raise ValueError(sentence) from None
    except SystemExit as end:
        raise KeyboardInterrupt(
            f"The run was stopped (exit status {end.code}); what was done is saved. Go on with resume=True."
        ) from None


@contextlib.contextmanager
def undisturbed(verbose: bool) -> Iterator[None]:
    """Put back what a run sets for its whole process: logging, random numbers, and determinism.

    Args:
        verbose: Also log what is no warning.
    """
    handlers, level, disabled = logging.root.handlers[:], logging.root.level, logging.root.manager.disable
    numbers = random.getstate(), np.random.get_state(), RandomState().state_dict()  # noqa: NPY002
    if not verbose:
        logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.root.handlers[:], logging.root.level = handlers, level
        logging.disable(disabled)
        set_determinism(None)
        random.setstate(numbers[0])
        np.random.set_state(numbers[1])  # noqa: NPY002
        RandomState().load_state_dict(numbers[2])
