"""Linear probes: how much of a diagnosis, or of age, a logistic or ridge regression reads from frozen features."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from importlib.util import find_spec
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import auc, balanced_accuracy_score, roc_curve
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.preprocessing import StandardScaler

from bundle.cohort.folds import Trial
from bundle.evaluation.features import COVARIATES, covariates
from bundle.evaluation.products import PoolProducts, to_row_space
from bundle.metrics.classification import roc_auc
from bundle.metrics.representation import OverallScaler, ridge, site_classifier
from bundle.metrics.resampling import SHARE, Resamples, bootstrap_auc, bootstrap_mean, holm, interval
from bundle.people import mean_of_each, person_codes, person_of

Array = NDArray[np.float64]
INNER_FOLDS = 5
SCALERS = {"overall": OverallScaler, "each": StandardScaler}


def fill_unknown(train: Array, test: Array) -> tuple[Array, Array]:
    """Replace NaN by the training column's mean (0 for a column that is wholly unknown)."""
    if not np.isnan(train).any() and not np.isnan(test).any():
        return train, test
    known = ~np.isnan(train)
    means = np.where(known, train, 0.0).sum(0) / np.maximum(known.sum(0), 1)
    return np.where(known, train, means), np.where(np.isnan(test), means, test)


def without_known(train: Array, known: Array, test: Array, test_known: Array) -> tuple[Array, Array]:
    """Features less what is known beside the image explains of them, linearly and (age, TIV) by its square.

    The effect is estimated on the training subjects alone, patients and controls together.

    Args:
        train: Features of the training subjects.
        known: Their covariates, such as columns of `covariates`; NaN = unknown, taken as the mean.
        test: Features of the test subjects.
        test_known: Covariates of the test subjects.

    Shape:
        train (n, p), known (n, q), test (m, p), test_known (m, q), outputs (n, p) and (m, p).
    """
    fit_on, apply_on = _designs(known, test_known)
    effect = np.linalg.lstsq(fit_on, train, rcond=None)[0]
    return train - fit_on @ effect, test - apply_on @ effect


def explained_by_known(known: Array, test_known: Array) -> Array:
    """Weights of the training subjects' features that give what the covariates explain of everybody's.

    `without_known` for features of which only inner products are there.

    Shape:
        known (n, q), test_known (m, q), output (n + m, n).
    """
    fit_on, apply_on = _designs(known, test_known)
    return np.concatenate([fit_on, apply_on]) @ np.linalg.lstsq(fit_on, np.eye(len(fit_on)), rcond=None)[0]


def _designs(known: Array, test_known: Array) -> list[Array]:
    """A constant, the covariates and their squares, of the training and of the test subjects."""
    filled, test_filled = fill_unknown(known, test_known)
    scaler = StandardScaler().fit(filled)
    scaled = scaler.transform(filled), scaler.transform(test_filled)
    return [np.column_stack([np.ones(len(k)), k, k**2]) for k in scaled]


def fit_predict(
    train: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike,
    test: ArrayLike,
    penalties: Sequence[float],
    scaling: str,
) -> Array:
    """Scores of test subjects by the paper's probe: liblinear, C by inner 5-fold cross-validation of ROC-AUC.

    Args:
        train: Features of the training subjects; NaN = unknown, taken as the mean.
        labels: 0 control, 1 patient.
        groups: Participant of each training row; folds never separate a participant's sessions.
        test: Features of the test subjects.
        penalties: Candidates for C.
        scaling: `overall` (features divided by one number), `each` (unit variance for every feature: for features of
            different units) or `none`.

    Shape:
        train (n, p), labels and groups (n,), test (m, p), output (m,) log odds of being a patient.

    Raises:
        ValueError: when a class has fewer participants than there are inner folds.

    Source:
        Dufumier et al., MICCAI 2021, section 4 (released evaluation).
    """
    fit_on, score_on = prepared(train, test, scaling)
    return _chosen(fit_on, np.asarray(labels), np.asarray(groups), penalties).decision_function(score_on)


def prepared(train: ArrayLike, test: ArrayLike, scaling: str) -> tuple[Array, Array]:
    """Features for a linear model: what is unknown filled in, scaled, and rotated onto the span of the training ones.

    Args:
        train: Features of the training subjects.
        test: Features of the test subjects.
        scaling: Scaling; see `fit_predict`.

    Shape:
        train (n, p), test (m, p), outputs (n, r) and (m, r) with r ≤ p.
    """
    fit_on, score_on = fill_unknown(np.asarray(train, dtype=np.float64), np.asarray(test, dtype=np.float64))
    if scaling != "none":
        scaler = SCALERS[scaling]().fit(fit_on)
        fit_on, score_on = scaler.transform(fit_on), scaler.transform(score_on)
    return to_row_space(fit_on, score_on)


def _chosen(train: Array, labels: NDArray, groups: NDArray, penalties: Sequence[float]) -> LogisticRegression:
    """The probe with the C of the best mean ROC-AUC over inner folds, the first of equally good ones.

    What scikit-learn's `GridSearchCV` does, to the last digit, without its copies and checks.
    """
    folds = _inner_folds(tuple(labels.tolist()), tuple(groups.tolist()))
    parts = [(train[fit], labels[fit], train[held], labels[held]) for fit, held in folds]
    aucs = [[_held_out_auc(penalty, *part) for part in parts] for penalty in penalties]
    best = penalties[int(np.nan_to_num(np.average(aucs, axis=1), nan=-1.0).argmax())]
    return LogisticRegression(solver="liblinear", C=best).fit(train, labels)


def _held_out_auc(penalty: float, train: Array, labels: NDArray, held: Array, truth: NDArray) -> float:
    model = LogisticRegression(solver="liblinear", C=penalty).fit(train, labels)
    return auc(*roc_curve(truth, model.decision_function(held))[:2])  # scikit-learn's, which decides between equals


@lru_cache(maxsize=64)  # of a draw, on which every method is trained
def _inner_folds(labels: tuple, groups: tuple) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    counts = {label: len({group for group, of in zip(groups, labels, strict=True) if of == label}) for label in (0, 1)}
    if min(counts.values()) < INNER_FOLDS:
        raise ValueError(
            f"C is chosen by inner {INNER_FOLDS}-fold cross-validation, which needs {INNER_FOLDS} training "
            f"participants of each label, but by label there are {counts}; train on more, or use fewer folds."
        )
    folds = StratifiedGroupKFold(INNER_FOLDS, shuffle=True, random_state=0)
    return list(folds.split(np.zeros(len(labels)), np.array(labels), np.array(groups)))


def probe_diagnosis(
    method: str,
    features: NDArray,
    records: Sequence[Mapping],
    trials: Sequence[Trial],
    penalties: Sequence[float],
    scaling: str = "overall",
    adjust: Sequence[str] = (),
) -> Iterator[pd.DataFrame]:
    """Scores of test subjects by the probe of each trial.

    Args:
        method: Name of the features, for the table.
        features: Features of the pool.
        records: The pool's (participant_id, session_id, label).
        trials: Rows of the pool that train, and those that test.
        penalties: Candidates for C.
        scaling: Scaling; see `fit_predict`.
        adjust: Names of `COVARIATES` whose effect is removed from the features first (see `without_known`).

    Yields:
        For each trial a table with the columns method, n, draw, participant_id, session_id, label, score.

    Raises:
        ValueError: for an unknown covariate.
    """
    known = _known(records, adjust) if adjust else None
    table = pd.DataFrame({name: [r[name] for r in records] for name in ("participant_id", "session_id", "label")})
    labels, groups = table["label"].to_numpy(), table["participant_id"].map(person_of).to_numpy(dtype=str)
    divided = _divided(features, known, scaling)

    def scores_of(trial: Trial, parts: tuple[Array, Array]) -> Array:
        return _chosen(parts[0], labels[trial.train], groups[trial.train], penalties).decision_function(parts[1])

    with ThreadPoolExecutor(max(1, torch.get_num_threads())) as pool:  # liblinear: a core, outside Python's lock
        found = list(pool.map(scores_of, trials, [divided(trial) for trial in trials]))
    for trial, scores in zip(trials, found, strict=True):
        yield table.iloc[trial.test].assign(method=method, n=trial.n, draw=trial.draw, score=scores)


def _divided(features: NDArray, known: Array | None, scaling: str) -> Callable[[Trial], tuple[Array, Array]]:
    """What gives the training and test features of a trial, ready for a linear model."""
    wide = features.shape[1] > len(features) and np.isfinite(features.sum(dtype=np.float64))
    products = PoolProducts(features) if scaling == "none" and wide else None

    def divided(trial: Trial) -> tuple[Array, Array]:
        if products is not None:
            explained = None if known is None else explained_by_known(known[trial.train], known[trial.test])
            return products.divided(trial.train, trial.test, explained)
        train, test = features[trial.train], features[trial.test]
        if known is not None:
            train, test = without_known(train, known[trial.train], test, known[trial.test])
        return prepared(train, test, scaling)

    return divided


def _known(records: Sequence[Mapping], names: Sequence[str]) -> Array:
    """The named covariates of each record, shape (subjects, names)."""
    if unknown := [name for name in names if name not in COVARIATES]:
        raise ValueError(f"`adjust` takes {', '.join(COVARIATES)}, but '{unknown[0]}' was given.")
    return covariates(records)[:, [COVARIATES.index(name) for name in names]]


def by_participant(scores: pd.DataFrame) -> pd.DataFrame:
    """One row per participant, trial and method: several sessions count once, by their mean score."""
    keys = [name for name in ("task", "method", "n", "draw", "participant_id") if name in scores]
    people = scores.assign(participant_id=scores["participant_id"].map(person_of))
    return people.groupby(keys, sort=False, as_index=False).agg(label=("label", "max"), score=("score", "mean"))


def draw_aucs(scores: pd.DataFrame) -> pd.DataFrame:
    """ROC-AUC of each draw: one tidy row per task, method, n and draw."""
    keys = ["task", "method", "n", "draw"]
    people = by_participant(scores)
    rows = [(*key, float(roc_auc(g["label"], g["score"]))) for key, g in people.groupby(keys, sort=False)]
    return pd.DataFrame(rows, columns=[*keys, "auc"])


def summarize(scores: pd.DataFrame, reference: str, seed: int = 0) -> pd.DataFrame:
    """Mean ROC-AUC with a 95 % interval, and the paired difference from the reference method with its interval.

    Args:
        scores: Rows of `probe_diagnosis` with a column task.
        reference: Method that the others are compared with.
        seed: Seed of the bootstrap, which resamples test subjects and draws (see `metrics.bootstrap_auc`).

    Returns:
        Columns task, n, method, auc, low, high, gain, gain_low, gain_high (gain over the reference).
    """
    rows = []
    for (task, size), group in by_participant(scores).groupby(["task", "n"], sort=False):
        resamples = {m: _bootstrap(g, seed) for m, g in group.groupby("method", sort=False)}
        aucs = draw_aucs(group).groupby("method", sort=False)["auc"].mean()
        for method, samples in resamples.items():
            gain = interval((samples - resamples[reference]).samples)
            own = interval(samples.samples, limits=SHARE)
            rows.append((task, size, method, aucs[method], *own, aucs[method] - aucs[reference], *gain))
    return pd.DataFrame(rows, columns=["task", "n", "method", "auc", "low", "high", "gain", "gain_low", "gain_high"])


def paired_tests(scores: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Whether two methods differ in ROC-AUC: every pair of methods, by task and n, over the same subjects and draws.

    The statistic is the mean difference over draws divided by its bootstrap standard error, compared with Student's t
    (see `metrics.Resamples`). A t-test over draws would ask only about other draws, since all are tested on the same
    subjects; the bootstrap resamples test subjects and draws, paired between the two methods. P values are corrected
    by Holm's method over all pairs and sizes of a task.

    Args:
        scores: Rows of `probe_diagnosis` with a column task.
        seed: Seed of the bootstrap.

    Returns:
        Columns task, n, method, other, difference, low, high (95 %), draws_won, p, p_holm.
    """
    rows = []
    for (task, size), group in by_participant(scores).groupby(["task", "n"], sort=False):
        resamples = {m: _bootstrap(g, seed) for m, g in group.groupby("method", sort=False)}
        aucs = draw_aucs(group).pivot(index="draw", columns="method", values="auc")
        for method, other in combinations(resamples, 2):
            gaps, samples = aucs[method] - aucs[other], resamples[method] - resamples[other]
            low, high = interval(samples.samples)
            p = samples.p_value(gaps.mean())
            rows.append((task, size, method, other, gaps.mean(), low, high, int((gaps > 0).sum()), p))
    columns = ["task", "n", "method", "other", "difference", "low", "high", "draws_won", "p"]
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(p_holm=table.groupby("task", sort=False)["p"].transform(holm))


def _bootstrap(group: pd.DataFrame, seed: int) -> Resamples:
    table = group.pivot(index="draw", columns="participant_id", values="score")
    labels = group.drop_duplicates("participant_id").set_index("participant_id")["label"]
    return bootstrap_auc(labels.loc[table.columns].to_numpy(), table.to_numpy(), seed=seed)


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


def predicted_ages(train: Aged, test: Aged) -> Array:
    """Ages (years) that a ridge regression, fitted with the mean of each person's scans, reads from other scans.

    Shape:
        output (scans of `test`,).
    """
    fit_on, test_on = to_row_space(mean_of_each(train.features, train.people), test.features)
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


def to_plane(embedding: NDArray, seed: int = 0) -> tuple[Array, str]:
    """Two coordinates for each embedding, and what they are: UMAP where umap-learn is installed, else PCA.

    Shape:
        embedding (N, E), output (N, 2).
    """
    if find_spec("umap") is None:
        return PCA(2, random_state=seed).fit_transform(embedding), "PCA"
    from umap import UMAP

    return UMAP(random_state=seed).fit_transform(embedding), "UMAP"
