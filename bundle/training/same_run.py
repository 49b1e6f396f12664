"""Whether a run that is to be resumed is the one that wrote the checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bundle.training.resume import newest_content

LENGTH = "epochs"  # may grow
PRINTED = 8
UNSET = "not set"
logger = logging.getLogger(__name__)


def require_same_run(folder: str | Path, resume: bool, settings: Mapping[str, Any] | None) -> None:
    """Refuse to go on with another method, other numbers or other subjects than those a run began with.

    Where anything else differed, half of the training would be another one, and the card would claim the second half
    for all of it.

    Args:
        folder: Folder of the checkpoints.
        resume: Whether the run is to go on from the newest of them.
        settings: Id → value, of this run; None: it was not started from a command line.

    Raises:
        ValueError: names every setting that differs.
    """
    found = newest_content(Path(folder)) if resume else None
    if found is None:
        return
    saved = found.get("settings")
    if not saved or not settings:
        logger.warning(
            f"The checkpoint in {folder} cannot be compared with this run's settings, because "
            f"{'they were not given' if saved else 'it was written without its own'}. Make sure that they are the same."
        )
        return
    everything = {**saved, **settings}
    differing = [_told(name, saved.get(name, UNSET), settings.get(name, UNSET)) for name in sorted(everything)]
    changed = [sentence for sentence in differing if sentence]
    if changed:
        more = f"; and {len(changed) - PRINTED} more" if len(changed) > PRINTED else ""
        raise ValueError(
            f"The checkpoint in {folder} is of a run with other settings: {'; '.join(changed[:PRINTED])}{more}. Resume "
            "with the settings of the first run (its run.json lies beside the checkpoint), or start anew without "
            "--resume in another --output_dir. More epochs, workers, devices and intervals may change."
        )


def _told(name: str, before: Any, now: Any) -> str:
    """How a setting differs, in words; nothing where it does not."""
    grown = name == LENGTH and isinstance(before, int) and isinstance(now, int) and now > before
    if before == now or grown:
        return ""
    return f"the {name} is another" if name.startswith("content of ") else f"{name} was {before} and is {now}"[:160]
