"""Features of those who are tested from copies of an encoder whose batch norm is that of their own site's scans."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import nn

from bundle.adaptation import LEAST, batch_norms, share_of_initial
from bundle.cohort.overlap import id_digest
from bundle.evaluation.features import ADAPTED_TO, Images
from bundle.evaluation.layers import extractors_of
from bundle.evaluation.subjects import Pool
from bundle.hints import nearest, quoted

KINDS = ("none", "batch_norm")
AS_PRETRAINED = ""  # in place of a site: features of the encoder as it was pretrained
MOST_LEFT = 0.01  # share of the statistics that may still be as initialised
USE_NONE = "or use `adapt: none`"

AGE_WITH_ADAPTED = (
    "So is everybody who pretrains: age is learned from their features, and read from the adapted ones of held-out "
    "controls. The site is not read, since nobody of a known site is adapted."
)


@dataclass(frozen=True)
class Adapting:
    """How an encoder is adapted to the sites of those who are tested.

    Args:
        kind: `none`; or `batch_norm`, whose statistics are those of the unlabelled scans of a tested site, while
            training subjects are read with the encoder as it was pretrained.

    Raises:
        ValueError: for another name.

    Source:
        Li, Wang, Shi, Liu & Hou, arXiv 1603.04779 (2016): adaptive batch normalisation.
    """

    kind: str = "none"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"`adapt` cannot be '{self.kind}'{nearest(self.kind, KINDS)}")

    def __bool__(self) -> bool:
        return self.kind != "none"

    def check(self, pool: Pool) -> None:
        """Refuse a task whose tested sites cannot be adapted to.

        Args:
            pool: Who trains and who is tested.

        Raises:
            ValueError: a site is unknown, trains as well as it is tested, or has too few people who are tested.
        """
        if not self:
            return
        sites = _sites(pool.records)
        used = np.unique(np.concatenate([rows for trial in pool.trials for rows in (trial.train, trial.test)]))
        if unknown := [str(pool.records[row]["participant_id"]) for row in used if not sites[row]]:
            raise ValueError(
                f"The site of {quoted(unknown)} in {pool.task} is unknown, so that nobody can tell whether it is a new "
                f"one; fill it in, {USE_NONE}."
            )
        for trial in pool.trials:
            if both := sorted(set(sites[trial.train]) & set(sites[trial.test])):
                raise ValueError(
                    f"{pool.task} both trains and tests at {quoted(both)} (N = {trial.n}, draw {trial.draw}), as folds "
                    "do: `adapt: batch_norm` is for sites that nobody trained on, and one site would have features of "
                    "two encoders. Use `protocol: sites`, or draws whose `test` has other sites, "
                    f"{USE_NONE}."
                )
        put_apart(pool)

    def check_ages(self, pools: Iterable[Pool], known: Sequence[Mapping]) -> None:
        """Refuse tested sites from which age is learned, too, where it is read from adapted features.

        Args:
            pools: The tasks.
            known: Records of those by whom age is learned, with the encoder as it was pretrained.
        """
        trained = set(_sites(known))
        for pool in pools if self else ():
            if both := sorted(trained & set(_sites(pool.tested))):
                raise ValueError(
                    f"{pool.task} tests at {quoted(both)}, where `training` of pretraining.json has people, too: age "
                    "would be learned from features as pretrained and tested on adapted ones of one site. Leave the "
                    f"site out of pretraining.json, {USE_NONE}."
                )

    def check_network(self, network: nn.Module, name: str) -> None:
        """Refuse a network that has no statistics to adapt.

        Args:
            network: Encoder.
            name: Its name or file, for the message.
        """
        if self and not batch_norms(network):
            raise ValueError(
                f"{name} has no batch norm that keeps statistics, so that `adapt: batch_norm` would change nothing; "
                f"take an encoder with batch norm (`encoder#norm: batch`), {USE_NONE}."
            )

    def check_statistics(self, network: nn.Module, name: str) -> None:
        """Refuse a network whose statistics have hardly seen data: those of any site would be far from them.

        Args:
            network: Encoder as it was pretrained.
            name: Its name or file, for the message.
        """
        if self and (left := share_of_initial(network)) > MOST_LEFT:
            raise ValueError(
                f"{100 * left:.0f} % of the batch-norm statistics of {name} are still as initialised, since the "
                "weights that were kept saw few batches: training subjects, who are read with them, cannot be compared "
                "with those whose site was adapted to. Train for longer (44 batches with a momentum of 0.1; see "
                f"`keep`), {USE_NONE}."
            )

    def sentence(self, pools: Iterable[Pool] = (), beside: str = "") -> str:
        """What was done, for tables; empty where nothing was.

        Args:
            pools: The tasks, whose tested sites are named; none: no site is.
            beside: A sentence on what else is read.
        """
        if not self:
            return ""
        words = [
            "Adaptive batch norm: features of tested subjects come from copies of the encoder whose batch-norm "
            "statistics are those of the unlabelled scans of their site; training subjects are read with the encoder "
            "as pretrained."
        ]
        words += [beside] if beside else []
        people = {where: n for pool in pools for where, n in put_apart(pool).people.items()}
        if people:
            words.append(f"People by whose scans: {', '.join(f'{where} ({n})' for where, n in people.items())}.")
        return " ".join(words)


class Apart(NamedTuple):
    """A pool in which those who are tested have rows of their own, after those who are read as pretrained.

    In the protocol `sites` everybody trains and is tested, and so has two rows.

    Attributes:
        pool: The pool; its records say what they are adapted to.
        kept: Rows of the former pool that come first.
        groups: Rows of this pool that are read with one copy of an encoder, and those of them that show the site.
    """

    pool: Pool
    kept: NDArray[np.intp]
    groups: list[tuple[NDArray[np.intp], NDArray[np.intp]]]

    @property
    def people(self) -> dict[str, int]:
        """What is adapted to → people by whose scans, with the task where it is tested."""
        names = [str(self.pool.records[rows[0]][ADAPTED_TO]) for rows, _ in self.groups]
        return {f"{name} in {self.pool.task}": len(s) for name, (_, s) in zip(names, self.groups, strict=True)}


def put_apart(pool: Pool) -> Apart:
    """Give those who are tested rows of their own: an encoder is adapted to each site that is tested together.

    Args:
        pool: A task, whose sites are known.

    Raises:
        ValueError: sites have too few people who are tested; see `groups_of`.
    """
    tests = {tuple(trial.test): trial.test for trial in pool.trials}
    train, tested = (np.unique(np.concatenate(rows)) for rows in ([t.train for t in pool.trials], list(tests.values())))
    kept = np.union1d(train, np.setdiff1d(np.arange(len(pool.records)), tested))
    records = [{**pool.records[row], ADAPTED_TO: AS_PRETRAINED} for row in kept]
    groups, places = [], {}
    for key, rows in tests.items():
        own = [pool.records[row] for row in rows]
        first = len(records)
        named: dict[int, str] = {}
        for name, members in groups_of(own, pool.task).items():
            groups.append((first + members, first + members[_one_scan_each([own[row] for row in members])]))
            named |= dict.fromkeys(members.tolist(), name)
        places[key] = first + np.arange(len(rows))
        records += [{**record, ADAPTED_TO: named[row]} for row, record in enumerate(own)]
    trials = [t._replace(train=np.searchsorted(kept, t.train), test=places[tuple(t.test)]) for t in pool.trials]
    return Apart(Pool(pool.task, records, trials), kept, groups)


def groups_of(records: Sequence[Mapping], task: str) -> dict[str, NDArray[np.intp]]:
    """Rows of records by what an encoder is adapted to: a site, or together all sites of fewer than `LEAST` people.

    Args:
        records: Records of those who are tested together.
        task: Name of the task, for the message.

    Raises:
        ValueError: all small sites together have fewer people than `LEAST`.
    """
    sites, people = _sites(records), np.array([id_digest(record) for record in records])
    rows = {str(site): np.flatnonzero(sites == site) for site in np.unique(sites)}
    small = [site for site, own in rows.items() if len(set(people[own])) < LEAST]
    found = {site: own for site, own in rows.items() if site not in small}
    if small:
        together = np.flatnonzero(np.isin(sites, small))
        count = len(set(people[together]))
        if count < LEAST:
            raise ValueError(
                f"`adapt: batch_norm` needs at least {LEAST} people who are tested at a site, or at all smaller sites "
                f"together, but in {task} there are {count} of {quoted(small)}: statistics of so few are chance. Test "
                f"more people there, leave these sites out of the test, {USE_NONE}."
            )
        found["; ".join(small)] = together
    return found


@dataclass(frozen=True)
class SiteCopies:
    """Copies of encoders, adapted to the sites that are tested.

    Args:
        images: How images become features.
        encoders: Method → encoder as it was pretrained, with batch norm.
        blocks: Blocks before the last that are read, too; see `layers.extractors_of`.
    """

    images: Images
    encoders: Mapping[str, nn.Module]
    blocks: Sequence[int] = ()

    def features(self, apart: Apart) -> dict[str, NDArray[np.float32]]:
        """Features of those who are tested, by method.

        Args:
            apart: Who they are; see `put_apart`.

        Shape:
            each output (rows of `apart` after the kept ones, p).
        """
        records, first = apart.pool.records, len(apart.kept)
        found: dict[str, NDArray[np.float32]] = {}
        for rows, shown in apart.groups:
            site = [records[row] for row in shown]
            copies = {method: self.images.adapted(encoder, site) for method, encoder in self.encoders.items()}
            own = self.images.features(extractors_of(self.images, copies, self.blocks), [records[row] for row in rows])
            for method, values in own.items():
                if method not in found:
                    found[method] = np.empty((len(records) - first, values.shape[1]), np.float32)
                found[method][rows - first] = values
        return found


def _one_scan_each(records: Sequence[Mapping]) -> list[int]:
    """A scan of each person, in an order to which neither the labels nor the order of the records contribute."""
    first: dict[str, int] = {}
    for row in sorted(range(len(records)), key=lambda r: (id_digest(records[r]), str(records[r].get("session_id")))):
        first.setdefault(id_digest(records[row]), row)
    return list(first.values())


def _sites(records: Sequence[Mapping]) -> NDArray[np.str_]:
    return np.array([str(record.get("site") or "") for record in records], dtype=str)
