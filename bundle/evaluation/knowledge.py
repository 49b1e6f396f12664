"""What else an embedding knows: age by a ridge regression, and the site by a linear classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import balanced_accuracy_score
from sklearn.preprocessing import StandardScaler

from bundle.evaluation.harmonizing import NONE, Harmonizing
from bundle.evaluation.products import COLUMNS, of_people, to_row_space
from bundle.evaluation.site_effects import Placed, Scans
from bundle.metrics.representation import ridge, site_classifier
from bundle.metrics.resampling import bootstrap_mean, interval
from bundle.people import mean_of_each, person_codes

Array = NDArray[np.float64]


class Aged(NamedTuple):
    """Scans of known age, each person's together.

    Attributes:
        features: (scans, p).
        ages: Years, (scans,).
        people: Persons from 0, (scans,).
        placed: Where they were scanned.
    """

    features: NDArray
    ages: Array
    people: NDArray[np.intp]
    placed: Placed

    @classmethod
    def of(cls, features: NDArray, records: Sequence[Mapping]) -> Aged:
        """Those whose records say an age.

        Args:
            features: (records, p).
            records: Records with participant_id and age (years; NaN = unknown), and, where site effects are taken out,
                site and sex.
        """
        ages = np.array([r["age"] for r in records], dtype=np.float64)
        known = ~np.isnan(ages)
        there = [record for record, is_known in zip(records, known, strict=True) if is_known]
        people = person_codes([record["participant_id"] for record in there])
        return cls(features if known.all() else features[known], ages[known], people, Placed.of(there))

    @property
    def scans(self) -> Scans:
        """The same without ages."""
        return Scans(self.features, np.arange(len(self.people)), self.placed)


def probe_age(method: str, train: Aged, test: Aged, harmonizing: Harmonizing = NONE) -> dict[str, float | str]:
    """Mean absolute error (years) of a ridge probe of age, trained on some people and tested on others.

    People count once each: fitted with the mean of their scans, tested with the mean error over them.

    Args:
        method: Name of the features, for the table.
        train: Who is fitted.
        test: Who is tested.
        harmonizing: How site effects are taken out; see `predicted_ages`.

    Returns:
        See `age_errors_of`.
    """
    return age_errors_of(method, predicted_ages(train, test, harmonizing), test.ages, test.people)


def predicted_ages(train: Aged, test: Aged, harmonizing: Harmonizing = NONE, *, each: bool = False) -> Array:
    """Ages (years) that a ridge regression, fitted with the mean of each person's scans, reads from other scans.

    Args:
        train: Who is fitted.
        test: Who is tested.
        harmonizing: How site effects are taken out of the features first. Age is never preserved, since it is what
            is read.
        each: Whether every feature is scaled to unit variance first.

    Shape:
        output (scans of `test`,).
    """
    fit_on, test_on = _ready(train.scans, train.people, test.scans, harmonizing.for_age(), each=each)
    return ridge().fit(fit_on, mean_of_each(train.ages, train.people)).predict(test_on)


def _ready(
    train: Scans, people: NDArray[np.intp], test: Scans, how: Harmonizing, *, each: bool = False
) -> tuple[NDArray, NDArray]:
    """Features of training people, means of their scans, and of test scans, on the span of the former."""
    if how and not each and train.features.shape[1] > COLUMNS:
        return of_people(how.products(train, test), people)
    known, new = how.divided(train, test) if how else (train.features, test.features)
    fit_on = mean_of_each(known, people)
    if each:
        scaler = StandardScaler().fit(fit_on)
        fit_on, new = scaler.transform(fit_on), scaler.transform(new)
    return to_row_space(fit_on, new)


def age_errors_of(method: str, predicted: Array, ages: Array, people: NDArray[np.intp]) -> dict[str, float | str]:
    """Mean absolute error (years) of predicted ages, each person counting once.

    Args:
        method: Name of the features, for the table.
        predicted: Ages of scans, years.
        ages: True ones.
        people: Persons from 0.

    Shape:
        predicted, ages, people (scans,).

    Returns:
        method, mae, low, high (95 % bootstrap interval over test subjects) and n_test (people).
    """
    errors = mean_of_each(np.abs(predicted - ages), people)
    low, high = interval(bootstrap_mean(errors))
    return {"method": method, "mae": float(errors.mean()), "low": low, "high": high, "n_test": len(errors)}


def probe_site(
    train: NDArray,
    records: Sequence[Mapping],
    test: NDArray,
    test_records: Sequence[Mapping],
    harmonizing: Harmonizing = NONE,
) -> float:
    """Balanced accuracy with which a linear model reads the site of other people of the same sites.

    Args:
        train: Features that are fitted.
        records: Records with participant_id and site.
        test: Features of others, each person of whom counts once.
        test_records: Theirs.
        harmonizing: How site effects are taken out of the features first.

    Shape:
        train (n, p), test (m, p).
    """
    known, new = Scans.of(train, records), Scans.of(test, test_records)
    fit_on, test_on = _ready(known, np.arange(len(train)), new, harmonizing)
    sites, test_sites = ([r["site"] for r in part] for part in (records, test_records))
    people = person_codes([r["participant_id"] for r in test_records])
    told = site_classifier().fit(fit_on, sites).predict(test_on)
    return float(balanced_accuracy_score(test_sites, told, sample_weight=1 / np.bincount(people)[people]))
