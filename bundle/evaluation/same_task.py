"""Whether a classifier is tested on the question that it was trained for."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

UNSTATED_TASK, UNSTATED_NAMES = "schizophrenia", ("control", "patient")  # of train.json: nobody has said anything
logger = logging.getLogger(__name__)


class _Question(NamedTuple):
    task: str
    names: tuple[str, ...] | None  # None: classes have no names of their own

    @classmethod
    def of(cls, task: str, names: Sequence[str]) -> _Question | None:
        """What was stated; None where nothing was."""
        if tuple(names) != UNSTATED_NAMES:
            return cls(task, tuple(names))
        return None if task == UNSTATED_TASK else cls(task, None)

    def is_same(self, other: _Question) -> bool:
        """Whether the classes have the same names; where either has none, whether the tasks do."""
        if self.names is None or other.names is None:
            return self.task == other.task
        return self.names == other.names

    def __str__(self) -> str:
        return f"{self.task} ({' or '.join(self.names)})" if self.names else self.task


def require_same_task(
    card: Mapping[str, Any], task: str, class_names: Sequence[str], model: str | Path, datalist: str | Path
) -> None:
    """Refuse the test of a classifier on another task than its own: people would be given the names of its classes.

    A test on a datalist alone, without a task, is what shows how far a classifier carries; the log says what label 1 is
    called then.

    Args:
        card: Card of the classifier.
        task: Task of the run.
        class_names: Names of label 0 and label 1 in the run.
        model: File of the weights, for messages.
        datalist: Datalist that is tested on, for messages.

    Raises:
        ValueError: says both tasks, and how a transfer is tested.
    """
    names = list(card["class_names"])
    own = _Question.of(str(card.get("task", UNSTATED_TASK)), names)
    asked = _Question.of(task, list(class_names))
    if own is not None and asked is not None and not own.is_same(asked):
        raise ValueError(
            f"{model} is a classifier of {own}, but the run is of {asked}: tables and figures would call people "
            f"by names that are not theirs. Give the overlay of the model's own task; or, to see how far it carries to "
            f"another disease, leave the task out and give the datalist: --datalist {datalist}, whose label 1 is then "
            f"called {names[1]}."
        )
    if own is not None and asked is None:
        logger.info(f"{model} is a classifier of {own}: people of label 1 in {datalist} are called {names[1]}.")
