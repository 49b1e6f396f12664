"""What each epoch of a run measured: a table and a figure, whole after a resume, that need no TensorBoard."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import pandas as pd
from ignite.engine import Engine, Events
from monai.engines import Evaluator
from torch import nn

from bundle.files import write_text
from bundle.training.curves import draw_curves

TABLE, FIGURE = "history.csv", "curves.png"
OFTEN = 60.0  # seconds between two drawings of a run that goes on


class History:
    """Writes `history.csv`, a row per epoch, and `curves.png`; attach to the trainer, behind the validation.

    What is written was measured already: a step is not held up. The rows are kept in the checkpoints, so that a run
    that is resumed has those of the whole run, and each epoch once. Of several processes, the first one writes.

    Args:
        folder: Receives both files.
        evaluator: Evaluator of the validation.
        levels: Name of a metric → its value by chance, drawn as a line; see `chance_levels`.
    """

    def __init__(self, folder: str | Path, evaluator: Evaluator, levels: Mapping[str, float] | None = None) -> None:
        self.folder, self.evaluator, self.levels = Path(folder), evaluator, dict(levels or {})
        self._rows: list[dict[str, float]] = []
        self._drawn = time.monotonic()

    def attach(self, engine: Engine) -> None:
        """Write after each epoch; draw once a minute, and at the end, whatever ended the run in order."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.keep)
        engine.add_event_handler(Events.COMPLETED, self.draw)
        engine.add_event_handler(Events.TERMINATE, self.draw)

    def keep(self, engine: Any) -> None:
        """Keep what this epoch measured; an epoch without validation has no values of it."""
        validated = self.evaluator.state.epoch == engine.state.epoch
        found = {**engine.state.metrics, **(self.evaluator.state.metrics if validated else {})}
        numbers = {name: float(value) for name, value in found.items()}
        self._rows = [row for row in self._rows if row["epoch"] < engine.state.epoch]
        self._rows.append({"epoch": engine.state.epoch, **numbers})
        if idist.get_rank() == 0:
            write_text(self.folder / TABLE, self.table().to_csv(index=False))
            if time.monotonic() - self._drawn > OFTEN:
                self.draw()

    def draw(self) -> None:
        """Draw `curves.png`."""
        if self._rows and idist.get_rank() == 0:
            draw_curves(self.table(), self.levels, self.folder / FIGURE)
            self._drawn = time.monotonic()

    def table(self) -> pd.DataFrame:
        """A row per epoch: `epoch`, and a column of each metric."""
        return pd.DataFrame(self._rows).astype({"epoch": int}) if self._rows else pd.DataFrame({"epoch": []})

    def state_dict(self) -> dict[str, Any]:
        """The rows, for a checkpoint."""
        return {"rows": [dict(row) for row in self._rows]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on behind the rows of a checkpoint."""
        self._rows = [dict(row) for row in state["rows"]]


def chance_levels(loss: nn.Module, training: int, validation: int) -> dict[str, float]:
    """The losses of a network that sees no difference between views, by the names of the metrics.

    Args:
        loss: Loss that says it by a method `chance` of a number of subjects; nothing is known of any other.
        training: Subjects of a batch.
        validation: Subjects of the validation, which are one batch.

    Example:
        >>> chance_levels(nn.MSELoss(), 64, 100)
        {}
    """
    chance = getattr(loss, "chance", lambda _: None)
    levels = {"train_loss": chance(training), "val_loss": chance(validation)}
    return {name: level for name, level in levels.items() if level is not None}
