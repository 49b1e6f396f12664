"""Whether a run that is to be resumed is the one that wrote the checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bundle.networks.cards import read_card
from bundle.training.resume import newest_content

LENGTH = "epochs"  # may grow
PRINTED = 8
UNSET = "not set"
logger = logging.getLogger(__name__)


def require_same_run(
    folder: str | Path,
    resume: bool,
    settings: Mapping[str, Any] | None,
    weights: str | Path | Sequence[str | Path] = (),
) -> None:
    """Refuse to go on with another method, other numbers or other subjects than those a run began with.

    Where anything else differed, half of the training would be another one, and the card would claim the second half
    for all of it. The best weights up to the checkpoint have to lie where the run will say that they are.

    Args:
        folder: Folder of the checkpoints.
        resume: Whether the run is to go on from the newest of them.
        settings: Id → value, of this run; None: it was not started from a command line.
        weights: File that the run keeps weights in, or files.

    Raises:
        ValueError: names every setting that differs, or says that the best weights are not there.
    """
    found = newest_content(Path(folder)) if resume else None
    if found is None:
        return
    best = int(found.get("evaluator", {}).get("best_metric_epoch") or 0)
    for path in [weights] if isinstance(weights, (str, Path)) else weights:
        _require_weights(Path(path), best, folder)
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


def _require_weights(path: Path, best: int, folder: str | Path) -> None:
    """Refuse a file that is not there, or of another run: an epoch may not become better, and nothing be written."""
    epoch = read_card(path).get("epoch") if path.is_file() else None
    if best < 1 or (path.is_file() and (epoch is None or epoch >= best)):  # later: killed before its checkpoint
        return
    found = f"is of epoch {epoch}, and so of another run" if path.is_file() else "is not there"
    raise ValueError(
        f"The run in {folder} has written its best weights, of epoch {best}, but {path}, in which this run would keep "
        f"them, {found}. Resume with the file of the first run (its run.json lies beside the checkpoint), move that "
        "file and its card there, or start anew without --resume."
    )


def _told(name: str, before: Any, now: Any) -> str:
    """How a setting differs, in words; nothing where it does not."""
    grown = name == LENGTH and isinstance(before, int) and isinstance(now, int) and now > before
    if before == now or grown:
        return ""
    return f"the {name} is another" if name.startswith("content of ") else f"{name} was {before} and is {now}"[:160]
