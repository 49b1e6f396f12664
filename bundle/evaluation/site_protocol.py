"""The protocol `sites` of a comparison: each group of sites has a pretraining, probes and fine-tuning without it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from bundle.evaluation.comparison import COST, Comparison, Run
from bundle.evaluation.plan import ALL, Plan, slug
from bundle.evaluation.site_data import HeldOut, SiteStudy, are_there, write_datalists
from bundle.evaluation.site_groups import SiteRules

PRETRAINING, PROBE, FINE_TUNING = "pretraining", "probe", "fine-tuning"
KINDS = (PRETRAINING, PROBE, FINE_TUNING)
logger = logging.getLogger(__name__)


class Unit(NamedTuple):
    """One run of a group.

    Attributes:
        kind: Kind of the run, one of `KINDS`.
        method: Name of the method.
        folder: Folder of the run.
    """

    kind: str
    method: str
    folder: Path

    @property
    def is_done(self) -> bool:
        """Whether it ended."""
        return (self.folder / "settings.json").is_file()

    @property
    def seconds(self) -> float | None:
        """What it took, where it ended."""
        path = self.folder / COST
        return float(json.loads(path.read_text(encoding="utf-8"))["seconds"]) if path.is_file() else None


class SiteProtocol:
    """A comparison over sites: for each group of sites a comparison of its own, in a folder of its own.

    Args:
        plan: What to compare; its sizes have no part: whoever is outside the group is trained on.
        rules: How the study is divided.
        run: Runs configs with options; see `Comparison`.
    """

    def __init__(self, plan: Plan, rules: SiteRules, run: Run) -> None:
        self.plan, self.rules, self.run_config = plan, rules, run
        self.study = SiteStudy.read(plan, rules)

    @cached_property
    def groups(self) -> list[HeldOut]:
        """Every group of sites; see `SiteStudy.groups`."""
        found = self.study.groups()
        folders = [self.folder(held) for held in found]
        if len(set(folders)) < len(folders):
            names = ", ".join(held.group.name for held in found)
            raise ValueError(
                f"Groups need names that differ, also as folders, but they are {names}; see `site_groups`."
            )
        return found

    @property
    def tested(self) -> list[HeldOut]:
        """The groups that any task is tested in."""
        return [held for held in self.groups if held.tasks]

    def folder(self, held: HeldOut) -> Path:
        """Folder of a group."""
        return Path(self.plan.output_dir) / "sites" / slug(held.group.name)

    def plan_of(self, held: HeldOut, folder: Path | None = None) -> Plan:
        """The plan of a group, whose datalists have been written; in its own folder, or in another one."""
        folder = folder or self.folder(held)
        diseases = [task for task in self.rules.of_diseases(self.plan.tasks) if task in held.tasks]
        plan = replace(self.plan.with_tasks(held.tasks), dataset_dir=folder / "data", output_dir=folder)
        return replace(plan, diagnoses=diseases, sizes=(ALL,), document=None)

    def run(self) -> None:
        """Run what is not done, group after group; see `Comparison.run`.

        Raises:
            ValueError: before any work, when a group or a run was made with other settings.
        """
        self.check()
        for held in self.tested:
            write_datalists(held, self.folder(held) / "data", self.plan)
        comparisons = {held.group.name: Comparison(self.plan_of(held), self.run_config) for held in self.tested}
        for comparison in comparisons.values():
            comparison.progress()
        for number, (name, comparison) in enumerate(comparisons.items(), 1):
            logger.info(f"Group {number} of {len(comparisons)}: without {name}. {self.outlook()}")
            comparison.run()

    def check(self) -> None:
        """Refuse what was made with other settings; nothing is written.

        Raises:
            ValueError: a datalist or a run of a group is another one than is asked for.
        """
        for held in self.tested:
            if are_there(held, self.folder(held) / "data", self.plan):
                Comparison(self.plan_of(held), self.run_config).progress()

    def rehearse(self) -> None:
        """Refuse what `run` would refuse before any work, of groups that were not begun; nothing is kept.

        Raises:
            ValueError: a group cannot be compared as is asked for, such as a site too small to be adapted to.
        """
        for held in self.tested:
            if are_there(held, self.folder(held) / "data", self.plan):
                continue
            with TemporaryDirectory() as place:
                write_datalists(held, Path(place) / "data", self.plan)
                Comparison(self.plan_of(held, Path(place)), self.run_config).progress()

    def units(self, held: HeldOut) -> Iterator[Unit]:
        """Every run of a group."""
        where = replace(self.plan.with_tasks(held.tasks), output_dir=self.folder(held), sizes=(ALL,))
        for seed in self.plan.seeds:
            for name in self.plan.pretexts:
                yield Unit(PRETRAINING, name, where.folder(name, seed) / PRETRAINING)
            for method in self.plan.probed:
                yield Unit(PROBE, method, where.folder(method, seed) / PROBE)
            for name, task, _ in where.trainings():
                yield Unit(FINE_TUNING, name, where.folder(name, seed) / f"{task}_{ALL}")

    def all_units(self) -> list[Unit]:
        """Every run of every group."""
        return [unit for held in self.tested for unit in self.units(held)]

    def outlook(self) -> str:
        """A sentence on how much is done, and how long the rest takes, by the runs that ended."""
        units = self.all_units()
        done = sum(unit.is_done for unit in units)
        left = seconds_left(units)
        about = f" About {duration(left)} are left, by the time of the runs that ended." if left else ""
        return f"{done} of {len(units)} runs are done.{about}"


def seconds_left(units: list[Unit]) -> float | None:
    """Seconds that the runs which did not end will take, by those that did; None where a kind has none that ended.

    A run counts as the mean of its kind and method, else of its kind.

    Args:
        units: All runs.
    """
    taken = [(unit, seconds) for unit in units if unit.is_done and (seconds := unit.seconds) is not None]
    left = 0.0
    for unit in units:
        if unit.is_done:
            continue
        alike = [s for other, s in taken if other.kind == unit.kind]
        same = [s for other, s in taken if other[:2] == unit[:2]]
        if not alike:
            return None
        left += float(np.mean(same or alike))
    return left


def duration(seconds: float) -> str:
    """A time in words, rounded as an estimate is.

    Args:
        seconds: Seconds.

    Example:
        >>> [duration(s) for s in (20, 300, 5400, 200000)]
        ['20 s', '5 min', '1.5 h', '56 h']
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 10 else f"{hours:.0f} h"
