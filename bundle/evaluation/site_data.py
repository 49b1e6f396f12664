"""The people of a study with several sites, and the datalists of each group of sites that is held out."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle.cohort.datalist import CACHE_FORMAT, datalist_text, load_sections
from bundle.cohort.modality import modality_of_datalist, require_modality
from bundle.cohort.splits import assert_disjoint, split_by_participant
from bundle.evaluation.plan import Plan
from bundle.evaluation.site_groups import LABELS, Group, SiteRules, grouped
from bundle.files import write_text
from bundle.hints import quoted
from bundle.people import person_of

PRETRAINING, PHANTOM = "pretraining", "phantom.json"
FRACTIONS = {"training": 0.8, "validation": 0.2}  # of the people of pretraining
SEED = 0  # of this division, which is the same for all seeds of a comparison
Records = list[dict[str, Any]]
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class HeldOut:
    """A group of sites, and what is done without it.

    Attributes:
        group: The group.
        sections: Datalist → section → records: `pretraining`, and the tasks that can be tested in the group.
        left_out: Sentences on what is left out of this group.
    """

    group: Group
    sections: Mapping[str, Mapping[str, Records]]
    left_out: Sequence[str]

    @property
    def tasks(self) -> list[str]:
        """The tasks that the group is tested on."""
        return [name for name in self.sections if name != PRETRAINING]


@dataclass(frozen=True)
class SiteStudy:
    """Everybody of a study.

    Attributes:
        pretraining: Records of `pretraining.json`, of all its sections.
        tasks: Task → records of its datalist, of all its sections, whose label is known.
        rules: How the study is divided.
    """

    pretraining: Records
    tasks: Mapping[str, Records]
    rules: SiteRules

    @classmethod
    def read(cls, plan: Plan, rules: SiteRules) -> SiteStudy:
        """Read the datalists of a plan.

        Args:
            plan: What is compared.
            rules: How the study is divided.

        Raises:
            ValueError: sections share somebody, or the site of a scan is unknown.
        """
        pools = {name: _pool(plan, name) for name in (PRETRAINING, *plan.tasks)}
        require_modality([plan.datalist(name) for name in pools])
        rules.of_diseases(plan.tasks)
        for task in plan.tasks:
            unknown = [r for r in pools[task] if r["label"] not in LABELS]
            if unknown:
                people = quoted(sorted({str(r["participant_id"]) for r in unknown}))
                logger.warning(f"{len(unknown)} scan(s) of {task} have no label and take no part in it: {people}.")
                pools[task] = [r for r in pools[task] if r["label"] in LABELS]
        return cls(pools.pop(PRETRAINING), pools, rules)

    def groups(self) -> list[HeldOut]:
        """Every group of sites with its datalists.

        Raises:
            ValueError: see `site_groups.grouped`; nobody would be left to pretrain on or to train on, or no group can
                be tested.
        """
        found = [self._without(group) for group in grouped(self.tasks, self.rules)]
        tested = [held for held in found if held.tasks]
        if not tested:
            reasons = " ".join(reason for held in found for reason in held.left_out)
            raise ValueError(f"No group of sites can be tested. {reasons}")
        return found

    def _without(self, group: Group) -> HeldOut:
        """What is left of the study without a group, and the group itself."""
        away = {_person(r) for records in (self.pretraining, *self.tasks.values()) for r in records if _is_in(r, group)}
        sections: dict[str, dict[str, Records]] = {PRETRAINING: self._pretraining(away, group)}
        left_out = []
        for task, records in self.tasks.items():
            test = [r for r in records if _is_in(r, group)]
            training = [r for r in records if _person(r) not in away]
            elsewhere = len(records) - len(test) - len(training)
            if elsewhere:
                left_out.append(
                    f"{elsewhere} scan(s) of {task} are of people of {group.name}, made at other sites: nobody is both "
                    "trained and tested on, so they are left out."
                )
            if not test:
                continue
            if reason := _one_label(test, f"{group.name} has", "in") or _one_label(
                training, f"Without {group.name} there would be", "to train on in"
            ):
                left_out.append(f"{reason} {task}: it is left out of this task.")
            else:
                sections[task] = {"training": training, "test": test}
        return HeldOut(group, sections, left_out)

    def _pretraining(self, away: set[str], group: Group) -> dict[str, Records]:
        """Who pretrains without a group, and who validates it."""
        ill = self.patients() if self.rules.pretrain_on == "controls" else set()
        people = [r for r in self.pretraining if _person(r) not in away | ill]
        if not people:
            raise ValueError(f"Nobody is left to pretrain on without {group.name}; see `pretrain_on` and `diagnoses`.")
        return split_by_participant(people, FRACTIONS, seed=SEED)

    def patients(self) -> set[str]:
        """Everybody whose label is 1 in a task that is a disease, or in the datalist of pretraining."""
        diseases = self.rules.of_diseases(list(self.tasks))
        pools = (self.pretraining, *(self.tasks[task] for task in diseases))
        return {_person(r) for records in pools for r in records if r["label"] == 1}


def write_datalists(held: HeldOut, folder: Path, plan: Plan) -> None:
    """Write the datalists of a group, as far as they are not there.

    Args:
        held: The group.
        folder: Folder that receives them.
        plan: Plan of the comparison, whose phantom's summary goes with them.
    """
    for path, text in texts_of(held, folder, plan).items():
        if not path.is_file():
            write_text(path, text)


def are_there(held: HeldOut, folder: Path, plan: Plan) -> bool:
    """Whether all datalists of a group are there.

    Args:
        held: The group.
        folder: Folder of its datalists.
        plan: Plan of the comparison.

    Raises:
        ValueError: one is there that holds something else.
    """
    texts = texts_of(held, folder, plan)
    for path, text in texts.items():
        if path.is_file() and path.read_text(encoding="utf-8") != text:
            raise ValueError(
                f"{path} was made of other people, groups or options than are asked for now; give another output_dir, "
                f"or delete {folder.parent}."
            )
    return all(path.is_file() for path in texts)


def texts_of(held: HeldOut, folder: Path, plan: Plan) -> dict[Path, str]:
    """The files of a group: what is to stand in each.

    Args:
        held: The group.
        folder: Folder of the files, from which images are named.
        plan: Plan of the comparison.
    """
    about = f"made for the comparison over sites: without {', '.join(held.group.sites)}"
    modality = modality_of_datalist(plan.datalist(PRETRAINING))
    extra = {"modality": modality.card} | ({"cache_format": CACHE_FORMAT} if plan.stored else {})
    texts = {
        folder / f"{name}.json": datalist_text(folder / f"{name}.json", sections, description=about, extra=extra)
        for name, sections in held.sections.items()
    }
    phantom = Path(plan.dataset_dir) / PHANTOM
    if phantom.is_file():  # so that whatever is made of it says that it is one
        texts[folder / PHANTOM] = json.dumps(json.loads(phantom.read_text(encoding="utf-8")), indent=1) + "\n"
    return texts


def _pool(plan: Plan, name: str) -> Records:
    """All sections of a datalist together."""
    sections = load_sections(plan.datalist(name), cached=plan.stored is not None)
    assert_disjoint(sections)
    records = [record for section in sections.values() for record in section]
    unknown = sorted({str(r["participant_id"]) for r in records if not str(r["site"] or "")})
    if unknown:
        raise ValueError(
            f"The site of {quoted(unknown)} in {plan.datalist(name)} is unknown, so nobody can tell whether they are "
            "held out; fill it in, or leave these people out of the datalist."
        )
    return [_with_unknown(record) for record in records]


def _with_unknown(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record as a datalist has it: None for what is not known."""
    unknown = {"label": -1, "session_id": "", "sex": ""}
    return {name: None if unknown.get(name) == value else value for name, value in record.items()}


def _one_label(records: Sequence[Mapping[str, Any]], who: str, where: str) -> str:
    """Half a sentence where records have not both labels."""
    labels = {r["label"] for r in records}
    if labels == set(LABELS):
        return ""
    kind = {0: "label 0 only", 1: "label 1 only"}[labels.pop()] if labels else "nobody"
    return f"{who} {kind} {where}"


def _is_in(record: Mapping[str, Any], group: Group) -> bool:
    return str(record["site"]) in group.sites


def _person(record: Mapping[str, Any]) -> str:
    return person_of(record["participant_id"])
