"""What else an embedding knows: age by a ridge regression, and the site by a linear classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import balanced_accuracy_score
from sklearn.preprocessing import StandardScaler

from bundle.evaluation.products import to_row_space
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
    """

    features: NDArray
    ages: Array
    people: NDArray[np.intp]

    @classmethod
    def of(cls, features: NDArray, records: Sequence[Mapping]) -> Aged:
        """Those whose records say an age.

        Args:
            features: (records, p).
            records: Records with participant_id and age (years; NaN = unknown).
        """
        ages = np.array([r["age"] for r in records], dtype=np.float64)
        known = ~np.isnan(ages)
        ids = [r["participant_id"] for r, there in zip(records, known, strict=True) if there]
        return cls(features if known.all() else features[known], ages[known], person_codes(ids))


def probe_age(method: str, train: Aged, test: Aged) -> dict[str, float | str]:
    """Mean absolute error (years) of a ridge probe of age, trained on some people and tested on others.

    People count once each: fitted with the mean of their scans, tested with the mean error over them.

    Args:
        method: Name of the features, for the table.
        train: Who is fitted.
        test: Who is tested.

    Returns:
        See `age_errors_of`.
    """
    return age_errors_of(method, predicted_ages(train, test), test.ages, test.people)


def predicted_ages(train: Aged, test: Aged, *, each: bool = False) -> Array:
    """Ages (years) that a ridge regression, fitted with the mean of each person's scans, reads from other scans.

    Args:
        train: Who is fitted.
        test: Who is tested.
        each: Whether every feature is scaled to unit variance first.

    Shape:
        output (scans of `test`,).
    """
    fit_on, test_on = mean_of_each(train.features, train.people), test.features
    if each:
        scaler = StandardScaler().fit(fit_on)
        fit_on, test_on = scaler.transform(fit_on), scaler.transform(test_on)
    fit_on, test_on = to_row_space(fit_on, test_on)
    return ridge().fit(fit_on, mean_of_each(train.ages, train.people)).predict(test_on)


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


def probe_site(train: NDArray, records: Sequence[Mapping], test: NDArray, test_records: Sequence[Mapping]) -> float:
    """Balanced accuracy with which a linear model reads the site of other people of the same sites.

    Args:
        train: Features that are fitted.
        records: Records with participant_id and site.
        test: Features of others, each person of whom counts once.
        test_records: Theirs.

    Shape:
        train (n, p), test (m, p).
    """
    fit_on, test_on = to_row_space(train, test)
    sites, test_sites = ([r["site"] for r in part] for part in (records, test_records))
    people = person_codes([r["participant_id"] for r in test_records])
    told = site_classifier().fit(fit_on, sites).predict(test_on)
    return float(balanced_accuracy_score(test_sites, told, sample_weight=1 / np.bincount(people)[people]))
