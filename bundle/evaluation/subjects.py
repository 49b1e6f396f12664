"""Who is probed: the records of each task, and which of them train and which test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bundle.cohort.datalist import load_section
from bundle.cohort.folds import Trial, draw_trials, fold_trials, site_trials
from bundle.cohort.splits import assert_disjoint
from bundle.files import SECTIONS
from bundle.hints import nearest, quoted

PROTOCOLS = ("draws", "folds", "sites")
Source = str | Mapping[str, str]  # a datalist; or one that trains and one that tests


class Pool(NamedTuple):
    """The subjects of a task.

    Attributes:
        task: Name of the task.
        records: Records of everybody.
        trials: Records that train, and those that test.
    """

    task: str
    records: list[dict]
    trials: list[Trial]

    @property
    def tested(self) -> list[dict]:
        """The records that any trial tests on."""
        return [self.records[row] for row in np.unique(np.concatenate([trial.test for trial in self.trials]))]

    def of_draw(self, draw: int) -> Pool:
        """The same subjects in the trials of one draw."""
        return self._replace(trials=[trial for trial in self.trials if trial.draw == draw])


@dataclass(frozen=True)
class Subjects:
    """Whom a probe is trained and tested on.

    Args:
        tasks: Task → datalist; or task → {"training": datalist, "test": datalist}, whole datalists: one study trains,
            another tests.
        age_datalist: Datalist whose `training` fits the age probe and whose `validation` tests it; None skips it.
        protocol: `draws` (N subjects of `training`, nested draws, tested on `test`), `folds` (repeated k-fold
            cross-validation over everybody) or `sites` (each site left out).
        sizes: Numbers of training subjects N of `draws`.
        draws: Training sets per N, or repeats of `folds`.
        n_folds: Folds of `folds`.
        seed: Seed of the draws.

    Raises:
        ValueError: for another protocol.
    """

    tasks: Mapping[str, Source]
    age_datalist: str | None = None
    protocol: str = "draws"
    sizes: Sequence[int] = (100, 300, 500)
    draws: int = 5
    n_folds: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise ValueError(f"No protocol is named '{self.protocol}'{nearest(self.protocol, PROTOCOLS)}")

    @property
    def datalists(self) -> list[str]:
        """Every datalist of the tasks."""
        sources = self.tasks.values()
        return [path for source in sources for path in ([source] if isinstance(source, str) else source.values())]

    @property
    def every_datalist(self) -> list[str]:
        """The datalists of the tasks and of the age probe."""
        return self.datalists + ([] if self.age_datalist is None else [self.age_datalist])

    def pools(self) -> list[Pool]:
        """The subjects of every task."""
        return [self._pool(task, sections_of(source, task)) for task, source in self.tasks.items()]

    def _pool(self, task: str, sections: Mapping[str, list[dict]]) -> Pool:
        if self.protocol == "draws":
            return draw_pool(task, sections, self.sizes, self.draws, self.seed)
        assert_disjoint(sections)
        everybody = [record for records in sections.values() for record in records]
        if self.protocol == "folds":
            return Pool(task, everybody, fold_trials(everybody, self.n_folds, self.draws, self.seed, task))
        return Pool(task, everybody, site_trials(everybody, task))

    def healthy(self) -> list[dict]:
        """Whose images calibrate an encoder as initialised: `training` of the age probe, or of the first task."""
        return load_section(Path(self.age_datalist or self.datalists[0]), "training")

    def of_age(self) -> tuple[list[dict], list[dict]]:
        """Those who fit the age probe and those who test it; nobody where it is skipped."""
        if self.age_datalist is None:
            return [], []
        sections = read_sections(self.age_datalist, ("training", "validation"))
        assert_disjoint(sections)
        return sections["training"], sections["validation"]


def draw_pool(task: str, sections: Mapping[str, list[dict]], sizes: Sequence[int], draws: int, seed: int) -> Pool:
    """A task whose `training` is drawn from and whose `test` tests every draw.

    Args:
        task: Name of the task.
        sections: Records of each section.
        sizes: Numbers of training subjects N.
        draws: Training sets per N.
        seed: Seed of the draws.
    """
    assert_disjoint(sections)
    train, test = sections["training"], sections["test"]
    return Pool(task, [*train, *test], draw_trials(train, test, sizes, draws, seed, task))


def read_sections(datalist: str | Path, names: Sequence[str], cached: bool = False) -> dict[str, list[dict]]:
    """Sections of a datalist, whose records say which of them they are from.

    Args:
        datalist: Path of the datalist.
        names: Names of the sections.
        cached: Whether its images are volumes of a cache.
    """
    return {name: _marked(load_section(Path(datalist), name, cached=cached), name) for name in names}


def sections_of(source: Source, task: str) -> dict[str, list[dict]]:
    """Sections of a datalist, or whole datalists as sections; every record says where it is from.

    Args:
        source: Source; see `Subjects`.
        task: Name of the task, for the message.

    Raises:
        ValueError: for another source.
    """
    if isinstance(source, str):
        return read_sections(source, SECTIONS)
    if set(source) != {"training", "test"}:
        raise ValueError(
            f"The task {task} names {quoted(source)}; give one datalist, or one for 'training' and one for 'test'."
        )
    return {
        name: _marked([r for section in SECTIONS for r in load_section(Path(path), section)], name)
        for name, path in source.items()
    }


def _marked(records: Sequence[Mapping], section: str) -> list[dict]:
    return [{**record, "section": section} for record in records]
