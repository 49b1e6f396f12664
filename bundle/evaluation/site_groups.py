"""Which sites are held out together: each by itself, small ones joined, or as groups that somebody names."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from bundle.hints import nearest, quoted
from bundle.people import person_of, spelt_apart

SMALL = "small sites"
PRETRAIN_ON = ("controls", "everybody")
OTHER_SITES = ("tested", "training")
LABELS = (0, 1)


@dataclass(frozen=True)
class SiteRules:
    """How the protocol `sites` divides a study.

    Attributes:
        site_groups: Name → sites that are held out together; sites of no group follow the two minima. None: no group.
        min_site: People that a site must have to be held out by itself; smaller ones are joined to one group.
        min_label: People of either label that it must have in every task that it has people in.
        pretrain_on: `controls` leaves people whose label is 1 in a task of `diagnoses` out of pretraining; `everybody`
            does not.
        diagnoses: Tasks whose label 1 is a disease. None: all.
        other_sites: `tested` holds the sites of no group out, too; `training` lets them train in every group.

    Raises:
        ValueError: for another word of `pretrain_on` or `other_sites`, a site that is in two groups, or no group where
            other sites are not tested.
    """

    site_groups: Mapping[str, Sequence[Any]] | None = None
    min_site: int = 20
    min_label: int = 5
    pretrain_on: str = "controls"
    diagnoses: Sequence[str] | None = None
    other_sites: str = "tested"

    def __post_init__(self) -> None:
        if self.pretrain_on not in PRETRAIN_ON:
            raise ValueError(f"Nobody is named '{self.pretrain_on}'{nearest(self.pretrain_on, PRETRAIN_ON)}")
        if self.other_sites not in OTHER_SITES:
            raise ValueError(
                f"`other_sites` is '{self.other_sites}', but {quoted(OTHER_SITES)} are known"
                f"{nearest(self.other_sites, OTHER_SITES)}"
            )
        if self.other_sites == "training" and not self.site_groups:
            raise ValueError(
                "With `other_sites: training` nobody would be tested; name the tested sites in `site_groups`."
            )
        named = Counter(str(site) for sites in (self.site_groups or {}).values() for site in sites)
        twice = [site for site, count in named.items() if count > 1]
        if twice:
            raise ValueError(f"`site_groups` names {quoted(twice)} more than once; each site is in one group.")

    def of_diseases(self, tasks: Sequence[str]) -> list[str]:
        """The tasks whose label 1 is a disease.

        Args:
            tasks: All tasks.

        Raises:
            ValueError: `diagnoses` names another task.
        """
        for name in self.diagnoses or ():
            if name not in tasks:
                raise ValueError(f"`diagnoses` names '{name}', which is no task{nearest(name, tasks)}")
        return [task for task in tasks if self.diagnoses is None or task in self.diagnoses]


class Group(NamedTuple):
    """Sites that are held out together.

    Attributes:
        name: Name of the group.
        sites: Names of the sites.
    """

    name: str
    sites: tuple[str, ...]


def grouped(tasks: Mapping[str, Sequence[Mapping[str, Any]]], rules: SiteRules) -> list[Group]:
    """The groups of sites that are held out, no site in two of them: named ones first, small ones last.

    Args:
        tasks: Task → records with participant_id, site and label (0, 1, or −1 for unknown).
        rules: How sites are joined.

    Raises:
        ValueError: a site of `site_groups` is unknown, a group has no site, spellings of one site are in two groups, or
            there are fewer than two groups.
    """
    sites = sorted({str(r["site"]) for records in tasks.values() for r in records})
    groups = _named_groups(rules.site_groups or {}, sites)
    tested = rules.other_sites == "tested"
    rest = [site for site in sites if tested and not any(site in group.sites for group in groups)]
    people = _people(tasks)
    small = [site for site in rest if _is_small(people[site], list(tasks), rules)]
    groups += [Group(site, (site,)) for site in rest if site not in small]
    if small:
        groups.append(Group(SMALL if len(small) > 1 else small[0], tuple(small)))
    _refuse_parted_spellings(groups, sites)
    if len(groups) < 2 and (tested or set(groups[0].sites) == set(sites)):
        raise ValueError(
            f"Holding sites out needs two groups of them, but there is {quoted(g.name for g in groups)}: sites with "
            f"fewer than {rules.min_site} people, or fewer than {rules.min_label} of either label in a task, are "
            "joined. Give `site_groups`, or smaller minima."
        )
    return groups


def _named_groups(given: Mapping[str, Sequence[Any]], sites: Sequence[str]) -> list[Group]:
    for name, members in given.items():
        if not members:
            raise ValueError(f"The group '{name}' of `site_groups` has no site; name one, or leave the group out.")
        for site in members:
            if str(site) not in sites:
                raise ValueError(f"The group '{name}' names '{site}', but no task has this site{nearest(site, sites)}")
    return [Group(str(name), tuple(map(str, members))) for name, members in given.items()]


def _refuse_parted_spellings(groups: Sequence[Group], sites: Sequence[str]) -> None:
    """Refuse groups of which one holds out a spelling of a site, and another, or training, has the other spelling."""
    group_of = {site: group.name for group in groups for site in group.sites}
    for spellings in spelt_apart(sites):
        if len({group_of.get(site) for site in spellings}) > 1:
            raise ValueError(
                f"The sites {quoted(spellings)} differ in spelling alone, and one would be held out while another is "
                "trained on. Write them in one way in the datalists, or put them into one group of `site_groups`."
            )


def _people(tasks: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, dict[str, set[tuple[str, int]]]]:
    """Site → task → the people there, with their labels."""
    found: defaultdict[str, dict[str, set[tuple[str, int]]]] = defaultdict(lambda: {task: set() for task in tasks})
    for task, records in tasks.items():
        for record in records:
            found[str(record["site"])][task].add((person_of(record["participant_id"]), int(record["label"])))
    return found


def _is_small(people: Mapping[str, set[tuple[str, int]]], tasks: Sequence[str], rules: SiteRules) -> bool:
    everybody = {person for members in people.values() for person, _ in members}
    counts = [Counter(label for _, label in people[task]) for task in tasks if people[task]]
    few = any(count[label] < rules.min_label for count in counts for label in LABELS)
    return few or len(everybody) < rules.min_site
