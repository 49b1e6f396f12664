"""Linear probes: how much of a diagnosis, or of age, a logistic or ridge regression reads from frozen features."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from itertools import combinations

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bundle.cohort.folds import Trial
from bundle.metrics.classification import roc_auc
from bundle.metrics.representation import OverallScaler, ridge
from bundle.metrics.resampling import bootstrap_auc, bootstrap_mean, holm, interval
from bundle.networks.encoders import Encoder
from bundle.training.engines import PrecisionInferer

Array = NDArray[np.float64]
INNER_FOLDS = 5
COVARIATES = ("age", "sex", "tiv")
SCALERS = {"overall": OverallScaler, "each": StandardScaler}


@torch.no_grad()
def embed(
    encoder: Encoder, batches: Iterable[Mapping], device: str | torch.device, pool: int = 1, precision: str = "float32"
) -> NDArray[np.float32]:
    """Features of a frozen encoder.

    Args:
        encoder: is put in evaluation mode.
        batches: a data loader; each batch has "image" (N, C, D, H, W).
        device: to compute on.
        pool: cells per side to which the last feature map is averaged; 2 gives the paper's 8,192 features.
        precision: see `training.PrecisionInferer`.

    Shape:
        output (subjects, E · pool³) float32.
    """
    encoder = encoder.to(device).eval()
    inferer = PrecisionInferer(precision)
    features = [inferer(batch["image"].to(device), encoder, pool).float().cpu() for batch in batches]
    return torch.cat(features).numpy()


@torch.no_grad()
def calibrate(encoder: Encoder, batches: Iterable[Mapping], device: str | torch.device) -> Encoder:
    """Estimate an untrained encoder's batch-norm statistics on volumes, as training would; learn nothing.

    An encoder as initialised has never seen data: its batch norm does nothing. What training adds is seen best
    against the same network with working batch norm.

    Args:
        encoder: changed in place.
        batches: a data loader; each batch has "image" (N, C, D, H, W).
        device: to compute on.
    """
    encoder = encoder.to(device).train()
    for norm in (m for m in encoder.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)):
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative average over all batches
    for batch in batches:
        encoder(batch["image"].to(device))
    return encoder.eval()


def voxels(batches: Iterable[Mapping]) -> NDArray[np.float32]:
    """The preprocessed volumes themselves as features (subjects, voxels)."""
    return torch.cat([batch["image"].flatten(1).float() for batch in batches]).numpy()


def covariates(records: Sequence[Mapping]) -> Array:
    """Age (years), sex (F 0, M 1) and TIV (mL) of each record; unknown = NaN. Shape (subjects, 3)."""
    sexes = {"F": 0.0, "M": 1.0}
    return np.array(
        [[float(r["age"]), sexes.get(r["sex"], np.nan), float(r["tiv"])] for r in records], dtype=np.float64
    )


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
        train: features of the training subjects.
        known: their covariates, such as columns of `covariates`; NaN = unknown, taken as the mean.
        test: features of the test subjects.
        test_known: their covariates.

    Shape:
        train (n, p), known (n, q), test (m, p), test_known (m, q), outputs (n, p) and (m, p).
    """
    filled, test_filled = fill_unknown(known, test_known)
    scaler = StandardScaler().fit(filled)
    scaled = scaler.transform(filled), scaler.transform(test_filled)
    fit_on, apply_on = (np.column_stack([np.ones(len(k)), k, k**2]) for k in scaled)
    effect = np.linalg.lstsq(fit_on, train, rcond=None)[0]
    return train - fit_on @ effect, test - apply_on @ effect


def to_row_space(train: Array, test: Array) -> tuple[Array, Array]:
    """Rotate features onto the span of the training subjects: n features instead of p, the same linear model.

    An L2-penalised linear model's weights lie in the span of its training rows (representer theorem), so that
    rotating onto it changes neither fit nor predictions.

    Shape:
        train (n, p), test (m, p), outputs (n, r) and (m, r) with r ≤ min(n, p).
    """
    if train.shape[1] <= train.shape[0]:
        return train, test
    values, vectors = np.linalg.eigh(train @ train.T)
    if values[-1] <= 0:  # constant features, of an encoder that has collapsed: nothing to rotate
        return train[:, :1], test[:, :1]
    keep = values > values[-1] * 1e-10
    basis = vectors[:, keep] / np.sqrt(values[keep])
    return train @ (train.T @ basis), test @ (train.T @ basis)


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
        train: features of the training subjects; NaN = unknown, taken as the mean.
        labels: 0 control, 1 patient.
        groups: participant of each training row; folds never separate a participant's sessions.
        test: features of the test subjects.
        penalties: candidates for C.
        scaling: `overall` (features divided by one number), `each` (unit variance for every feature: for features of
            different units) or `none`.

    Shape:
        train (n, p), labels and groups (n,), test (m, p), output (m,) log odds of being a patient.

    Raises:
        ValueError: when a class has fewer participants than there are inner folds.

    Source:
        Dufumier et al., MICCAI 2021, section 4 (released evaluation).
    """
    _require_inner_folds(np.asarray(labels), np.asarray(groups))
    fit_on, score_on = fill_unknown(np.asarray(train, dtype=np.float64), np.asarray(test, dtype=np.float64))
    if scaling != "none":
        scaler = SCALERS[scaling]().fit(fit_on)
        fit_on, score_on = scaler.transform(fit_on), scaler.transform(score_on)
    fit_on, score_on = to_row_space(fit_on, score_on)
    folds = StratifiedGroupKFold(INNER_FOLDS, shuffle=True, random_state=0)
    search = GridSearchCV(LogisticRegression(solver="liblinear"), {"C": list(penalties)}, scoring="roc_auc", cv=folds)
    return search.fit(fit_on, labels, groups=groups).decision_function(score_on)


def _require_inner_folds(labels: NDArray, groups: NDArray) -> None:
    counts = {int(label): len(set(groups[labels == label])) for label in (0, 1)}
    if min(counts.values()) < INNER_FOLDS:
        raise ValueError(
            f"C is chosen by inner {INNER_FOLDS}-fold cross-validation, which needs {INNER_FOLDS} training "
            f"participants of each label, but by label there are {counts}; train on more, or use fewer folds."
        )


def probe_diagnosis(
    method: str,
    features: Array,
    records: Sequence[Mapping],
    trials: Sequence[Trial],
    penalties: Sequence[float],
    scaling: str = "overall",
    adjust: Sequence[str] = (),
) -> Iterator[pd.DataFrame]:
    """Scores of test subjects by the probe of each trial.

    Args:
        method: name of the features, for the table.
        features: of the pool.
        records: the pool's (participant_id, session_id, label).
        trials: which rows of the pool train and which test.
        penalties: candidates for C.
        scaling: see `fit_predict`.
        adjust: of `COVARIATES`, whose effect is removed from the features first (see `without_known`).

    Yields:
        For each trial a table with the columns method, n, draw, participant_id, session_id, label, score.

    Raises:
        ValueError: for an unknown covariate.
    """
    known = _known(records, adjust)
    table = pd.DataFrame({name: [r[name] for r in records] for name in ("participant_id", "session_id", "label")})
    labels, groups = table["label"].to_numpy(), table["participant_id"].to_numpy()
    for trial in trials:
        train, test = features[trial.train], features[trial.test]
        if adjust:
            train, test = without_known(train, known[trial.train], test, known[trial.test])
        scores = fit_predict(train, labels[trial.train], groups[trial.train], test, penalties, scaling)
        yield table.iloc[trial.test].assign(method=method, n=trial.n, draw=trial.draw, score=scores)


def _known(records: Sequence[Mapping], names: Sequence[str]) -> Array:
    """The named covariates of each record, shape (subjects, names)."""
    if unknown := [name for name in names if name not in COVARIATES]:
        raise ValueError(f"`adjust` takes {', '.join(COVARIATES)}, but '{unknown[0]}' was given.")
    return covariates(records)[:, [COVARIATES.index(name) for name in names]] if names else np.empty((len(records), 0))


def by_participant(scores: pd.DataFrame) -> pd.DataFrame:
    """One row per participant, trial and method: several sessions count once, by their mean score."""
    keys = [name for name in ("task", "method", "n", "draw", "participant_id") if name in scores]
    return scores.groupby(keys, sort=False, as_index=False).agg(label=("label", "max"), score=("score", "mean"))


def draw_aucs(scores: pd.DataFrame) -> pd.DataFrame:
    """ROC-AUC of each draw: one tidy row per task, method, n and draw."""
    keys = ["task", "method", "n", "draw"]
    groups = by_participant(scores).groupby(keys, sort=False)
    rows = [(*key, float(roc_auc(g["label"], g["score"]))) for key, g in groups]
    return pd.DataFrame(rows, columns=[*keys, "auc"])


def summarize(scores: pd.DataFrame, reference: str, seed: int = 0) -> pd.DataFrame:
    """Mean ROC-AUC with a 95 % interval, and the paired difference from the reference method with its interval.

    Args:
        scores: rows of `probe_diagnosis` with a column task.
        reference: method that the others are compared with.
        seed: of the bootstrap, which resamples test subjects and draws (see `metrics.bootstrap_auc`).

    Returns:
        Columns task, n, method, auc, low, high, gain, gain_low, gain_high (gain over the reference).
    """
    rows = []
    for (task, size), group in by_participant(scores).groupby(["task", "n"], sort=False):
        resamples = {m: _bootstrap(g, seed) for m, g in group.groupby("method", sort=False)}
        aucs = draw_aucs(group).groupby("method", sort=False)["auc"].mean()
        for method, samples in resamples.items():
            gain = interval(samples - resamples[reference])
            rows.append((task, size, method, aucs[method], *interval(samples), aucs[method] - aucs[reference], *gain))
    return pd.DataFrame(rows, columns=["task", "n", "method", "auc", "low", "high", "gain", "gain_low", "gain_high"])


def paired_tests(scores: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Whether two methods differ in ROC-AUC: every pair of methods, by task and n, over the same subjects and draws.

    The statistic is the mean difference over draws divided by its bootstrap standard error, compared with the normal
    distribution. A t-test over draws would ask only about other draws, since all are tested on the same subjects, and
    has five values to go by; the bootstrap resamples test subjects and draws, paired between the two methods. P values
    are corrected by Holm's method over all pairs and sizes of a task.

    Args:
        scores: rows of `probe_diagnosis` with a column task.
        seed: of the bootstrap.

    Returns:
        Columns task, n, method, other, difference, low, high (95 %), draws_won, p, p_holm.
    """
    rows = []
    for (task, size), group in by_participant(scores).groupby(["task", "n"], sort=False):
        resamples = {m: _bootstrap(g, seed) for m, g in group.groupby("method", sort=False)}
        aucs = draw_aucs(group).pivot(index="draw", columns="method", values="auc")
        for method, other in combinations(resamples, 2):
            gaps, samples = aucs[method] - aucs[other], resamples[method] - resamples[other]
            p = 2 * stats.norm.sf(abs(gaps.mean()) / max(samples.std(ddof=1), 1e-12))
            rows.append((task, size, method, other, gaps.mean(), *interval(samples), int((gaps > 0).sum()), p))
    columns = ["task", "n", "method", "other", "difference", "low", "high", "draws_won", "p"]
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(p_holm=table.groupby("task", sort=False)["p"].transform(holm))


def _bootstrap(group: pd.DataFrame, seed: int) -> Array:
    table = group.pivot(index="draw", columns="participant_id", values="score")
    labels = group.drop_duplicates("participant_id").set_index("participant_id")["label"]
    return bootstrap_auc(labels.loc[table.columns].to_numpy(), table.to_numpy(), seed=seed)


def probe_age(method: str, train: Array, ages: ArrayLike, test: Array, test_ages: ArrayLike) -> dict[str, float | str]:
    """Mean absolute error (years) of a ridge probe of age, trained on one set and tested on another.

    Shape:
        train (n, p), ages (n,), test (m, p), test_ages (m,); subjects of unknown age are left out.

    Returns:
        method, mae, low, high (95 % bootstrap interval over test subjects) and n_test.
    """
    ages, test_ages = np.asarray(ages, dtype=np.float64), np.asarray(test_ages, dtype=np.float64)
    known, test_known = ~np.isnan(ages), ~np.isnan(test_ages)
    fit_on, test_on = to_row_space(
        np.asarray(train[known], dtype=np.float64), np.asarray(test[test_known], dtype=np.float64)
    )
    errors = np.abs(ridge().fit(fit_on, ages[known]).predict(test_on) - test_ages[test_known])
    low, high = interval(bootstrap_mean(errors))
    return {"method": method, "mae": float(errors.mean()), "low": low, "high": high, "n_test": len(errors)}


def probe_site(train: Array, sites: ArrayLike, test: Array, test_sites: ArrayLike) -> float:
    """Balanced accuracy with which a linear model reads the site of other subjects of the same sites.

    Shape:
        train (n, p), sites (n,) names, test (m, p), test_sites (m,).
    """
    fit_on, test_on = to_row_space(np.asarray(train, dtype=np.float64), np.asarray(test, dtype=np.float64))
    model = make_pipeline(OverallScaler(), LogisticRegression(C=0.1, max_iter=200))
    return float(balanced_accuracy_score(np.asarray(test_sites), model.fit(fit_on, sites).predict(test_on)))


def to_plane(embedding: Array, seed: int = 0) -> tuple[Array, str]:
    """Two coordinates for each embedding, and what they are: UMAP where umap-learn is installed, else PCA.

    Shape:
        embedding (N, E), output (N, 2).
    """
    if find_spec("umap") is None:
        return PCA(2, random_state=seed).fit_transform(embedding), "PCA"
    from umap import UMAP

    return UMAP(random_state=seed).fit_transform(embedding), "UMAP"
