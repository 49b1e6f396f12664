"""What sites do to features, estimated of training subjects, or of unlabelled scans of others, and taken away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bundle.adaptation import aligned, without_site_directions
from bundle.evaluation.features import SEXES
from bundle.evaluation.linear import fill_unknown
from bundle.evaluation.products import from_blocks
from bundle.metrics.combat import Columns, blocks, design_of, fit_combat
from bundle.metrics.representation import LEAST_OF_A_SITE
from bundle.people import mean_of_each, person_codes

Array = NDArray[np.float64]
KEPT = ("age", "sex")  # what ComBat may preserve
LEAST_OF_A_NEW_SITE = 10  # people, by whose scans a site is harmonised that training subjects do not show


class Placed(NamedTuple):
    """Scans and where they were made.

    Attributes:
        sites: Their sites; empty = unknown, (scans,).
        people: Persons from 0, (scans,).
        known: Age (years) and sex (F 0, M 1), NaN = unknown, (scans, 2).
        healthy: Whether their label is not 1; an unknown one is none, (scans,).
    """

    sites: NDArray[np.str_]
    people: NDArray[np.intp]
    known: Array
    healthy: NDArray[np.bool_]

    @classmethod
    def of(cls, records: Sequence[Mapping]) -> Placed:
        """Where the scans of records were made.

        Args:
            records: Records with participant_id, and site, age, sex and label where they are known.
        """
        sites = np.array([str(record.get("site") or "") for record in records], dtype=str)
        ages = [np.nan if record.get("age") is None else float(record["age"]) for record in records]
        sexes = [SEXES.get(str(record.get("sex")), np.nan) for record in records]
        people = person_codes([record["participant_id"] for record in records])
        healthy = np.array([record.get("label") != 1 for record in records], dtype=bool)
        return cls(sites, people, np.column_stack([ages, sexes]), healthy)

    def at(self, rows: NDArray) -> Placed:
        """Some of the scans."""
        return Placed(self.sites[rows], self.people[rows], self.known[rows], self.healthy[rows])

    def sizes(self) -> dict[str, int]:
        """Site → its people."""
        return {str(site): len(np.unique(self.people[self.sites == site])) for site in np.unique(self.sites)}

    def visits(self) -> NDArray[np.intp]:
        """Persons at sites from 0, in the order of their first scans: what counts once."""
        return person_codes([f"{person} {site}" for person, site in zip(self.people, self.sites, strict=True)])


class Scans(NamedTuple):
    """Features of scans that train, or of scans that are tested.

    Attributes:
        features: Features of these scans and maybe of others, (N, p).
        rows: Which of them these are, (n,).
        placed: Where these were made.
    """

    features: NDArray
    rows: NDArray[np.intp]
    placed: Placed

    @classmethod
    def of(cls, features: NDArray, records: Sequence[Mapping]) -> Scans:
        """Features of records, all of them."""
        return cls(features, np.arange(len(features)), Placed.of(records))

    def columns(self, part: slice) -> Array:
        """Some features of these scans."""
        return self.features[self.rows, part].astype(np.float64)

    def at(self, own: NDArray[np.bool_]) -> Scans:
        """Some of these scans."""
        return Scans(self.features, self.rows[own], self.placed.at(own))


class Roles(NamedTuple):
    """The sites of a trial, by who shows their effects.

    Attributes:
        trained: Sites of enough training subjects, who show it for everybody there.
        new: Other sites of enough test subjects, whose unlabelled scans show it for themselves.
        left: Sites with too few people of both. Their scans are left as they are, as are training scans at new sites.
    """

    trained: list[str]
    new: list[str]
    left: list[str]

    @classmethod
    def of(cls, train: Placed, test: Placed) -> Roles:
        """The sites of training and test subjects."""
        sizes, tested = train.sizes(), test.sizes()
        trained = [site for site, people in sizes.items() if people >= LEAST_OF_A_SITE]
        new = [site for site, people in tested.items() if site not in trained and people >= LEAST_OF_A_NEW_SITE]
        return cls(trained, new, sorted({*sizes, *tested} - {*trained, *new}))


def harmonized(train: Scans, test: Scans, kind: str, keep: Sequence[str] = ()) -> tuple[Array, Array]:
    """Features of training and test subjects without the effects of sites.

    Args:
        train: Scans that train, by which sites' effects are estimated.
        test: Scans that are tested.
        kind: `centre`, `combat`, `project` or `coral`.
        keep: What ComBat preserves, of `KEPT`.

    Shape:
        outputs (n, p) and (m, p).
    """
    columns = _harmonized(train, test, kind, keep)
    both = np.concatenate([columns(part) for part in blocks(train.features.shape[1])], axis=1)
    return both[: len(train.rows)], both[len(train.rows) :]


def harmonized_products(train: Scans, test: Scans, kind: str, keep: Sequence[str] = ()) -> Array:
    """Inner products of the features of `harmonized`, training subjects first.

    Wide features, such as voxels, are harmonised some at a time and never all in memory: these are ComBat's own
    numbers, not those of principal components.

    Args:
        train: Scans that train.
        test: Scans that are tested.
        kind: `centre`, `combat`, `project` or `coral`.
        keep: What ComBat preserves, of `KEPT`.

    Shape:
        output (n + m, n + m).
    """
    columns = _harmonized(train, test, kind, keep)
    return from_blocks((columns(part) for part in blocks(train.features.shape[1])), len(train.rows) + len(test.rows))


def site_means(train: Placed, test: Placed) -> Array:
    """Weights of all scans' features, training ones first, that give what `centre` takes away from each of them.

    It is the mean of the site's training subjects; at a new site that of its unlabelled test scans; for scans that
    are left as they are, that of all training subjects, so that all features have one origin. Each person counts once.

    Shape:
        output (n + m, n + m).
    """
    roles, n = Roles.of(train, test), len(train.sites)
    sites, tested = np.concatenate([train.sites, test.sites]), np.arange(n + len(test.sites)) >= n
    people, weights = np.concatenate([train.people, test.people]), np.zeros((len(sites), len(sites)))
    weights[:, :n] = _equal(train.people)
    for name in (*roles.trained, *roles.new):
        shown = (sites == name) & (tested if name in roles.new else True)
        own = (sites == name) & (tested if name in roles.new else ~tested)
        weights[shown] = 0
        weights[np.ix_(shown, own)] = _equal(people[own])
    return weights


def mixing(train: Placed, test: Placed, kind: str, width: int, values: Array | None = None) -> Array:
    """Weights of all scans' features, training ones first, that give them without the effects of sites.

    Args:
        train: Scans that train.
        test: Scans that are tested.
        kind: `centre`, `project` or `coral`; what ComBat does is another thing for each feature.
        width: Number of features.
        values: Inner products of the features of all scans; `centre` needs none.

    Shape:
        values (n + m, n + m), output (n + m, n + m).
    """
    n, m = len(train.sites), len(test.sites)
    if values is None:
        return np.eye(n + m) - site_means(train, test)
    if kind == "project":
        shown = np.flatnonzero(shows_directions(train))
        own = train.at(shown)
        return without_site_directions(values, _of_each(own.visits(), shown, n + m), _sites_of_visits(own), width)
    source, target = (_of_each(part.people, np.arange(len(part.people)), n + m) for part in (train, test))
    return aligned(values, source, np.roll(target, n, axis=1), n, width)


def shows_directions(train: Placed) -> NDArray[np.bool_]:
    """Which training scans show how sites differ: of healthy people, at sites where enough of them were scanned."""
    able = train.healthy & (train.sites != "")
    sizes = train.at(able).sizes()
    return able & np.isin(train.sites, [site for site, people in sizes.items() if people >= LEAST_OF_A_SITE])


def _of_each(people: NDArray[np.intp], rows: NDArray[np.intp], count: int) -> Array:
    """Weights of `count` scans, of which `rows` are of these people, that give the means of each one's scans."""
    return mean_of_each(np.eye(count)[rows], np.unique(people, return_inverse=True)[1])


def _equal(people: NDArray[np.intp]) -> Array:
    """Weights of scans with which each person counts once."""
    _, codes, scans = np.unique(people, return_inverse=True, return_counts=True)
    return 1 / (scans[codes] * len(scans))


def _harmonized(train: Scans, test: Scans, kind: str, keep: Sequence[str]) -> Columns:
    """What gives some features of all scans, training ones first, without the effects of sites."""

    def columns(part: slice) -> Array:
        return np.concatenate([train.columns(part), test.columns(part)])

    if kind == "combat":
        return _without_combat(columns, train, test, keep)
    width, n = train.features.shape[1], len(train.rows) + len(test.rows)
    seen = None if kind == "centre" else from_blocks((columns(part) for part in blocks(width)), n)
    left = mixing(train.placed, test.placed, kind, width, seen)
    return lambda part: left @ columns(part)


def _without_combat(columns: Columns, train: Scans, test: Scans, keep: Sequence[str]) -> Columns:
    """The same by ComBat."""
    roles, n, width = Roles.of(train.placed, test.placed), len(train.rows), train.features.shape[1]
    known = _preserved(train.placed.known, test.placed.known, keep)
    sites = np.concatenate([train.placed.sites, test.placed.sites])
    own = np.isin(train.placed.sites, roles.trained)
    means, covariates = _of_visits(train.at(own), known[:n][own])
    model = fit_combat(means, width, _sites_of_visits(train.placed.at(own)), covariates)
    effects = [(np.flatnonzero(sites == name), model.effects[name]) for name in roles.trained]
    for name in roles.new:
        own = test.placed.sites == name
        effects.append((n + np.flatnonzero(own), model.effect_of(*_of_visits(test.at(own), known[n:][own]))))

    def without(part: slice) -> Array:
        values = columns(part)
        for rows, effect in effects:
            values[rows] = model.without(values[rows], known[rows], effect, part)
        return values

    return without


def check_design(train: Placed, test: Placed, keep: Sequence[str]) -> None:
    """Refuse what ComBat cannot be fitted on.

    Args:
        train: Scans that train.
        test: Scans that are tested.
        keep: What ComBat preserves, of `KEPT`.

    Raises:
        ValueError: see `combat.design_of`.
    """
    own = np.isin(train.sites, Roles.of(train, test).trained)
    known = _preserved(train.known, test.known, keep)[: len(own)][own]
    design_of(_sites_of_visits(train.at(own)), mean_of_each(known, train.at(own).visits()))


def _of_visits(scans: Scans, known: Array) -> tuple[Columns, Array]:
    """Features and covariates of persons at sites, means over their scans there: who was scanned often counts once."""
    visits = scans.placed.visits()
    return lambda part: mean_of_each(scans.columns(part), visits), mean_of_each(known, visits)


def _sites_of_visits(placed: Placed) -> NDArray[np.str_]:
    return placed.sites[np.unique(placed.visits(), return_index=True)[1]]


def _preserved(known: Array, test_known: Array, keep: Sequence[str]) -> Array:
    """What ComBat preserves of all scans, in standard deviations of training ones; without what does not vary there."""
    chosen = [KEPT.index(name) for name in keep]
    filled, test_filled = fill_unknown(known[:, chosen], test_known[:, chosen])
    mean, deviation = filled.mean(0), filled.std(0)
    varies = deviation > 0
    return (np.concatenate([filled, test_filled])[:, varies] - mean[varies]) / deviation[varies]
