"""The second modality of a phantom on disk: maps, tables and datalists beside those of the first, which stay."""

import logging
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from bundle.files import flush_all, read_json, write_json
from bundle.phantom.anisotropy import FA, draw_tracts, lacking, render_anisotropy
from bundle.phantom.cohort import (
    COHORTS,
    WARNING,
    draw_factors,
    is_complete,
    write_images,
    write_tables,
)

logger = logging.getLogger(__name__)

VERSION = "1"  # of what makes the second modality
STEP = 1 / 255  # images are uint8 times this
KINDS = (FA,)


def make_second(
    output: Path,
    kind: str = FA,
    *,
    missing: float = 0.0,
    workers: int | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Write maps of a second modality for the people of a phantom, with tables and datalists of their own.

    It is a phantom: synthetic images, not patients. Nothing of the first modality is changed. Datalists are called
    `pretraining_fa.json` and so on, and name those who have a map; a complete second modality with the same settings is
    reused.

    Args:
        output: Folder of a phantom, as of `make_phantom`.
        kind: `fa`, fractional anisotropy.
        missing: Share of people without a map, drawn at random.
        workers: Threads that render; the images are the same for any number.
        progress: Whether to show a progress bar.

    Returns:
        The summary that `phantom_fa.json` holds.

    Raises:
        ValueError: there is no phantom, or it holds a second modality with other settings; or a setting is impossible.
    """
    if kind not in KINDS:
        raise ValueError(f"The phantom has no modality '{kind}'; choose {' or '.join(KINDS)}.")
    if not 0 <= missing < 1:
        raise ValueError(f"The share of people without a second map is {missing}; expected 0 to below 1, such as 0.1.")
    first = _phantom(Path(output))
    settings = {**first["settings"], "missing": float(missing)}
    if (found := _existing(Path(output), kind, settings)) is not None:
        return found
    people = {cohort: _people(cohort, settings) for cohort in COHORTS}
    draw = partial(render_anisotropy, resolution=settings["resolution"], seed=settings["seed"])
    threads = workers or os.cpu_count() or 1
    write_images(Path(output), people, draw, settings["resolution"], STEP, threads, progress, f"_{kind}")
    flush_all()  # before the summary says that they are there
    for cohort, table in people.items():
        write_tables(Path(output), cohort, table, f"_{kind}")
    summary = {"warning": WARNING, "kind": kind, "generator_version": VERSION, "settings": settings}
    summary |= {"shape": first["shape"], "affine": first["affine"]}
    write_json(Path(output) / f"phantom_{kind}.json", summary)
    logger.info("Wrote %d maps of %s to %s. %s", sum(map(len, people.values())), kind.upper(), output, WARNING)
    return summary


def _phantom(output: Path) -> dict[str, Any]:
    path = output / "phantom.json"
    if not path.is_file():
        raise ValueError(f"{output} holds no phantom, whose people would get a second map; make it first.")
    return read_json(path)


def _existing(output: Path, kind: str, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The summary of a complete second modality with these settings; None if it must be made."""
    path = output / f"phantom_{kind}.json"
    if not path.exists():
        return None
    found = read_json(path)
    held = {"generator_version": found.get("generator_version"), **found.get("settings", {})}
    wanted = {"generator_version": VERSION, **settings}
    if held != wanted:
        raise ValueError(
            f"{output} holds {kind.upper()} maps made with {held}, but {wanted} was asked for; choose another output "
            f"folder, or delete {path} and the maps to have them made anew."
        )
    if is_complete(output, f"_{kind}"):
        logger.info("Reusing the %s maps in %s, which have the same settings.", kind.upper(), output)
        return found
    logger.warning("The %s maps in %s are not complete; they are made again.", kind.upper(), output)
    path.unlink()
    return None


def _people(cohort: str, settings: Mapping[str, Any]) -> pd.DataFrame:
    """Those of a cohort who have a second map, with what is behind both maps."""
    count = settings["n_pretraining" if cohort == "pretraining" else "n_per_task"]
    people = draw_factors(cohort, count, settings["seed"])
    drawn = draw_tracts(cohort, people, settings["seed"]).drop(columns=["participant_id", "session_id"])
    together = pd.concat([people, drawn], axis=1)
    return together[~lacking(people, settings["missing"], settings["seed"])]
