"""How site effects are taken out of features: what may be asked for, of whom, and how tables say it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bundle.cohort.folds import Trial
from bundle.evaluation.site_effects import (
    KEPT,
    LEAST_OF_A_NEW_SITE,
    Placed,
    Roles,
    Scans,
    check_design,
    harmonized,
    harmonized_products,
    mixing,
    shows_directions,
)
from bundle.evaluation.unknown import filled_in, require_known
from bundle.hints import nearest, quoted
from bundle.metrics.classification import roc_auc
from bundle.metrics.representation import LEAST_OF_A_SITE

Array = NDArray[np.float64]
KINDS = ("none", "centre", "combat", "project", "coral")
NEVER_THE_LABEL = (
    "a diagnosis is never preserved, since it would have to be known of test subjects, and features would then tell it"
)


@dataclass(frozen=True)
class Harmonizing:
    """How site effects are taken out of features, before a linear model is trained on them.

    Whatever is estimated is estimated of the training subjects of each trial, and once for all of them: the inner
    folds that choose C share it. They are all training subjects, no label of a test subject is used, and nobody who is
    tested takes part but where unlabelled scans of a new site show its effect, so that this can move C, and not what
    the test says.

    Args:
        kind: `none`; `centre`, features less the mean of their site; `combat`, ComBat's location and scale; `project`,
            without the directions that tell the sites of healthy training subjects apart; or `coral`, features of
            training subjects with the mean and covariance of those of test subjects.
        keep: What ComBat preserves, `age` and `sex`.

    Raises:
        ValueError: for other names, a diagnosis among them.
    """

    kind: str = "none"
    keep: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"`harmonize` cannot be '{self.kind}'{nearest(self.kind, KINDS)}")
        if isinstance(self.keep, str) or any(name not in KEPT for name in self.keep):
            raise ValueError(
                f"`harmonize_keep` takes a list of {' and '.join(KEPT)}, but {self.keep!r} was given; "
                f"{NEVER_THE_LABEL}."
            )
        if self.keep and self.kind != "combat":
            raise ValueError(
                f"`harmonize_keep` is what ComBat preserves, but `harmonize` is '{self.kind}'; "
                "choose combat, or preserve nothing."
            )

    def __bool__(self) -> bool:
        return self.kind != "none"

    def for_age(self) -> Harmonizing:
        """The same where age is read: it is not preserved, since test subjects would tell theirs."""
        return replace(self, keep=tuple(name for name in self.keep if name != "age"))

    def check(self, records: Sequence[Mapping], trials: Iterable[Trial], task: str) -> None:
        """Refuse subjects whose site effects cannot be told.

        Args:
            records: The pool, with `label` where a diagnosis is read.
            trials: Who trains and who is tested.
            task: Name of the task, for messages.

        Raises:
            ValueError: when a site is unknown, there is one site, or what is preserved tells the label.
        """
        if not self:
            return
        placed = Placed.of(records)
        unknown = [str(r["participant_id"]) for r, site in zip(records, placed.sites, strict=True) if not site]
        if unknown and self.kind != "project":
            raise ValueError(
                f"The site of {quoted(unknown)} in {task} is unknown, so that its effect cannot be taken out; "
                "fill it in, or use `harmonize: none`."
            )
        trials = list(trials)
        for trial in trials:
            where = f"{task}, N = {trial.n}, draw {trial.draw}"
            self._check_sites(placed.at(trial.train), placed.at(trial.test), where)
        require_known("harmonize_keep", self.keep, self._kept(placed), trials, task)
        for name in self.keep:
            _refuse_label(name, placed.known[:, KEPT.index(name)], [r.get("label") for r in records], task)

    def check_ages(self, train: Sequence[Mapping], test: Sequence[Mapping]) -> None:
        """Refuse those by whom age cannot be read without site effects; see `check`.

        Args:
            train: Records of those who are fitted; nobody, where no age is read.
            test: Records of those who are tested.
        """
        if train and test:
            self.for_age().check(*of_ages(train, test), "the age probe")

    def _kept(self, placed: Placed) -> Array:
        """What is preserved of scans, (scans, names); NaN = unknown."""
        return placed.known[:, [KEPT.index(name) for name in self.keep]]

    def _check_sites(self, train: Placed, test: Placed, where: str) -> None:
        sizes = train.sizes()
        if self.kind != "project" and len({*sizes, *test.sizes()}) < 2:
            raise ValueError(
                f"Everybody in {where} is of the site {quoted(sizes)}: one site has no site effect to take out; "
                "use `harmonize: none`."
            )
        if self.kind == "coral":
            _check_target(test, where)
            return
        able, who = train, "training subjects"
        if self.kind == "project":
            able, who = train.at(shows_directions(train)), "healthy training subjects"
            sizes = train.at(train.healthy).sizes()
        wanted = 1 if self.kind == "centre" else 2
        if len(Roles.of(able, test).trained) < wanted:
            raise ValueError(
                f"`harmonize: {self.kind}` needs {'two sites' if wanted == 2 else 'a site'} with {LEAST_OF_A_SITE} "
                f"{who}, but in {where} they are by site {sizes}; train on more, or use `harmonize: none`."
            )
        if self.kind == "combat":
            check_design(train, test, self.keep)

    def divided(self, train: Scans, test: Scans) -> tuple[Array, Array]:
        """Features of training and test subjects without the effects of sites.

        Args:
            train: Scans that train.
            test: Scans that are tested.

        Shape:
            outputs (n, p) and (m, p).
        """
        return harmonized(train, test, self.kind, self.keep)

    def products(self, train: Scans, test: Scans) -> Array:
        """Inner products of wide features without the effects of sites; see `site_effects.harmonized_products`."""
        return harmonized_products(train, test, self.kind, self.keep)

    def explained(self, train: Placed, test: Placed, explained: Array | None, values: Array, width: int) -> Array:
        """What is taken away from features of which only inner products are there, as weights; see `products.divided`.

        Args:
            train: Scans that train.
            test: Scans that are tested.
            explained: What covariates explain of features without site effects; see `linear.explained_by_known`.
            values: Inner products of the features of all, training subjects first.
            width: Number of features.

        Shape:
            explained (n + m, n), values (n + m, n + m), output (n + m, n + m).
        """
        left = mixing(train, test, self.kind, width, None if self.kind == "centre" else values)
        if explained is not None:
            left = left - explained @ left[: explained.shape[1]]
        return np.eye(len(left)) - left

    def sentence(self, pools: Iterable[tuple[Sequence[Mapping], Iterable[Trial]]] = ()) -> str:
        """What was done, for tables; empty where nothing was.

        Args:
            pools: Records and trials, whose sites are named; none: no site is.
        """
        if self.kind in _SENTENCES:
            return _SENTENCES[self.kind]
        new, left, kept = set[str](), set[str](), [np.empty((0, len(self.keep)))]
        for records, trials in pools:
            placed = Placed.of(records)
            places = [Roles.of(placed.at(trial.train), placed.at(trial.test)) for trial in trials]
            new |= {site for found in places for site in found.new}
            left |= {site for found in places for site in found.left}
            kept.append(self._kept(placed))
        said = _sentence(self, sorted(new), sorted(left)), filled_in(self.keep, np.concatenate(kept))
        return " ".join(filter(None, said))


NONE = Harmonizing()


def of_ages(train: Sequence[Mapping], test: Sequence[Mapping]) -> tuple[list[dict], list[Trial]]:
    """Records of known age, and the one trial of an age probe; of labels, they tell alone who is a patient.

    Args:
        train: Records of those who are fitted.
        test: Records of those who are tested.
    """
    parts = [
        [{**r, "label": 1 if r.get("label") == 1 else None} for r in part if np.isfinite(r["age"])]
        for part in (train, test)
    ]
    n, rows = len(parts[0]), np.arange(len(parts[0]) + len(parts[1]))
    return [*parts[0], *parts[1]], [Trial(n, 0, rows[:n], rows[n:])]


def _refuse_label(name: str, values: Array, labels: Sequence, task: str) -> None:
    """Refuse to preserve what tells patients from controls without an error."""
    there = np.array([label is not None for label in labels]) & np.isfinite(values)
    truth = np.array([label if label is not None else -1 for label in labels])[there]
    if set(truth) == {0, 1} and roc_auc(truth, values[there]) in (0.0, 1.0):
        raise ValueError(
            f"`harmonize_keep` names {name}, which tells the label of everybody in {task}; {NEVER_THE_LABEL}."
        )


def _check_target(test: Placed, where: str) -> None:
    """Refuse test subjects who are too few to show a mean and a covariance."""
    people = len(np.unique(test.people))
    if people < LEAST_OF_A_NEW_SITE:
        raise ValueError(
            f"`harmonize: coral` takes mean and covariance of the unlabelled scans of test subjects, of whom there are "
            f"{people} in {where}; at least {LEAST_OF_A_NEW_SITE} are needed. Test more at a time, or use "
            "`harmonize: project`, which needs none."
        )


_SENTENCES = {
    "none": "",
    "project": (
        "Site effects are removed from all features by projecting out the directions that tell the sites of healthy "
        "training subjects apart; nothing is estimated of test subjects."
    ),
    "coral": (
        "All features of training subjects are given the mean and covariance of those of the test subjects, by their "
        "unlabelled scans (CORAL)."
    ),
}


def _sentence(how: Harmonizing, new: Sequence[str], left: Sequence[str]) -> str:
    combat = how.kind == "combat"
    unread = ", age not where it is read" if "age" in how.keep else ""
    kept = f" ({' and '.join(how.keep)} preserved{unread})" if how.keep else ""
    name = f"ComBat{kept}" if combat else "centring each site"
    words = [f"Site effects are removed from all features by {name}, fitted on training subjects."]
    if new:
        done = "centred and scaled" if combat else "centred"
        words.append(f"New to the training and {done} with the new site's unlabelled scans: {quoted(new)}.")
    if left:
        words.append(f"Left as they are, since too few people are of their site: {quoted(left)}.")
    return " ".join(words)
