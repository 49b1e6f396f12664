"""Who is probed: the records of each task, and which of them train and which test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bundle.cohort.datalist import load_section
from bundle.cohort.folds import Trial, draw_trials, fold_trials, site_trials
from bundle.cohort.joined import join, with_both
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
    def training(self) -> NDArray[np.intp]:
        """Rows of the records that any trial trains on."""
        return np.unique(np.concatenate([trial.train for trial in self.trials]))

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
        second_tasks: The same tasks of a second modality: only people with both maps take part, and their records have
            `second_image`; see `joined.join`. Without any, there is one modality.
        second_age_datalist: Datalist of the second modality, beside `age_datalist`.

    Raises:
        ValueError: for another protocol, or other tasks of the second modality.
    """

    tasks: Mapping[str, Source]
    age_datalist: str | None = None
    protocol: str = "draws"
    sizes: Sequence[int] = (100, 300, 500)
    draws: int = 5
    n_folds: int = 5
    seed: int = 0
    second_tasks: Mapping[str, Source] = field(default_factory=dict)
    second_age_datalist: str | None = None

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise ValueError(f"No protocol is named '{self.protocol}'{nearest(self.protocol, PROTOCOLS)}")
        if self.second_tasks and set(self.second_tasks) != set(self.tasks):
            raise ValueError(
                f"The tasks are {quoted(self.tasks)}, but those of the second modality {quoted(self.second_tasks)}; "
                "name the same ones in `tasks` and `second_tasks`."
            )
        if self.second_tasks and (self.age_datalist is None) != (self.second_age_datalist is None):
            raise ValueError(
                "The age probe needs a datalist of each modality, but one of `age_datalist` and `second_age_datalist` "
                "is null; give both, or neither."
            )

    @property
    def datalists(self) -> list[str]:
        """Every datalist of the tasks."""
        return _paths(self.tasks)

    @property
    def every_datalist(self) -> list[str]:
        """The datalists of the tasks and of the age probe."""
        return self.datalists + ([] if self.age_datalist is None else [self.age_datalist])

    @property
    def every_second_datalist(self) -> list[str]:
        """The same of the second modality."""
        return _paths(self.second_tasks) + ([] if self.second_age_datalist is None else [self.second_age_datalist])

    def pools(self) -> list[Pool]:
        """The subjects of every task."""
        return [self._pool(task, self._sections(task, source)) for task, source in self.tasks.items()]

    def _sections(self, task: str, source: Source) -> dict[str, list[dict]]:
        sections = sections_of(source, task)
        if not self.second_tasks:
            return sections
        second = self.second_tasks[task]
        return with_both(join(sections, sections_of(second, task), f"the datalists of {task}, {source} and {second},"))

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

    @property
    def second_healthy(self) -> str:
        """The datalist whose `training` calibrates a second modality's encoder as initialised."""
        sources = [source for source in self.second_tasks.values() if isinstance(source, str)]
        return self.second_age_datalist or sources[0]

    def of_age(self) -> tuple[list[dict], list[dict]]:
        """Those who fit the age probe and those who test it; nobody where it is skipped."""
        if self.age_datalist is None:
            return [], []
        names = ("training", "validation")
        sections = read_sections(self.age_datalist, names)
        if self.second_tasks and self.second_age_datalist:
            second = read_sections(self.second_age_datalist, names)
            sections = with_both(join(sections, second, f"{self.age_datalist} and {self.second_age_datalist}"))
        assert_disjoint(sections)
        return sections["training"], sections["validation"]


def _paths(tasks: Mapping[str, Source]) -> list[str]:
    return [path for source in tasks.values() for path in ([source] if isinstance(source, str) else source.values())]


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
