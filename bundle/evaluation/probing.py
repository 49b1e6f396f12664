"""Linear probes: how much of a diagnosis a logistic regression reads from frozen features."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from itertools import combinations

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from bundle.cohort.folds import Trial
from bundle.evaluation.harmonizing import NONE, Harmonizing
from bundle.evaluation.linear import OF_LENGTHS, chosen, explained_by_known, prepared, scaled, without_known
from bundle.evaluation.products import PoolProducts
from bundle.evaluation.products import divided as divided_products
from bundle.evaluation.readers import LOGISTIC, Reader
from bundle.evaluation.site_effects import Placed, Scans
from bundle.evaluation.unknown import columns_of
from bundle.metrics.classification import roc_auc
from bundle.metrics.resampling import SHARE, Resamples, bootstrap_auc, holm, interval
from bundle.people import person_of

Array = NDArray[np.float64]


def probe_diagnosis(
    method: str,
    features: NDArray,
    records: Sequence[Mapping],
    trials: Sequence[Trial],
    penalties: Sequence[float],
    scaling: str = "overall",
    adjust: Sequence[str] = (),
    reader: Reader = LOGISTIC,
    harmonizing: Harmonizing = NONE,
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
        reader: Reader; the model that is fitted, and whether it may have its features rotated.
        harmonizing: How site effects are taken out before that; the records then need site, age and sex.

    Yields:
        For each trial a table with the columns method, n, draw, participant_id, session_id, label, score.

    Raises:
        ValueError: for an unknown covariate, or site effects that cannot be told (see `Harmonizing.check`).
    """
    harmonizing.check(records, trials, method)
    known = columns_of(adjust, records) if adjust else None
    table = pd.DataFrame({name: [r[name] for r in records] for name in ("participant_id", "session_id", "label")})
    labels, groups = table["label"].to_numpy(), table["participant_id"].map(person_of).to_numpy(dtype=str)
    divided = _divided(features, known, scaling, records, harmonizing, reader.rotated)

    def scores_of(trial: Trial, parts: tuple[Array, Array]) -> Array:
        model = chosen(parts[0], labels[trial.train], groups[trial.train], penalties, reader.model)
        return model.decision_function(parts[1])

    with ThreadPoolExecutor(max(1, torch.get_num_threads())) as pool:  # libraries: a core, outside Python's lock
        found = list(pool.map(scores_of, trials, [divided(trial) for trial in trials]))
    for trial, scores in zip(trials, found, strict=True):
        yield table.iloc[trial.test].assign(method=method, n=trial.n, draw=trial.draw, score=scores)


def _divided(
    features: NDArray,
    known: Array | None,
    scaling: str,
    records: Sequence[Mapping],
    harmonizing: Harmonizing,
    rotated: bool = True,
) -> Callable[[Trial], tuple[Array, Array]]:
    """What gives the training and test features of a trial, ready for a linear model."""
    wide = scaling in OF_LENGTHS and features.shape[1] > len(features)
    wide = wide and bool(np.isfinite(features.sum(dtype=np.float64)))
    each = harmonizing.kind == "combat"  # each feature by a number of its own, which no inner product knows
    products = PoolProducts(features) if wide and not each else None
    placed = Placed.of(records) if harmonizing else None

    def divided(trial: Trial) -> tuple[Array, Array]:
        parts = [] if placed is None else [Scans(features, rows, placed.at(rows)) for rows in (trial.train, trial.test)]
        covariates = [] if known is None else [known[trial.train], known[trial.test]]
        if wide:
            explained = explained_by_known(*covariates) if covariates else None
            if products is None:
                found = divided_products(harmonizing.products(*parts), len(trial.train), explained)
            else:
                taken = explained
                if parts:
                    values = products.of(trial.train, trial.test)
                    known_of, new_of = (part.placed for part in parts)
                    taken = harmonizing.explained(known_of, new_of, explained, values, features.shape[1])
                found = products.divided(trial.train, trial.test, taken)
            return scaled(*found, scaling)
        train, test = harmonizing.divided(*parts) if parts else (features[trial.train], features[trial.test])
        if covariates:
            train, test = without_known(train, covariates[0], test, covariates[1])
        return prepared(train, test, scaling, rotated)

    return divided


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
        resamples = {m: bootstrap(g, seed) for m, g in group.groupby("method", sort=False)}
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
        resamples = {m: bootstrap(g, seed) for m, g in group.groupby("method", sort=False)}
        aucs = draw_aucs(group).pivot(index="draw", columns="method", values="auc")
        for method, other in combinations(resamples, 2):
            gaps, samples = aucs[method] - aucs[other], resamples[method] - resamples[other]
            low, high = interval(samples.samples)
            p = samples.p_value(gaps.mean())
            rows.append((task, size, method, other, gaps.mean(), low, high, int((gaps > 0).sum()), p))
    columns = ["task", "n", "method", "other", "difference", "low", "high", "draws_won", "p"]
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(p_holm=table.groupby("task", sort=False)["p"].transform(holm))


def bootstrap(group: pd.DataFrame, seed: int) -> Resamples:
    """Bootstrap resamples of the ROC-AUC of one method; see `metrics.bootstrap_auc`.

    Args:
        group: Rows of `by_participant` of one task, method and N.
        seed: Seed of the resampling.
    """
    table = group.pivot(index="draw", columns="participant_id", values="score")
    labels = group.drop_duplicates("participant_id").set_index("participant_id")["label"]
    return bootstrap_auc(labels.loc[table.columns].to_numpy(), table.to_numpy(), seed=seed)


def to_plane(embedding: NDArray, seed: int = 0) -> tuple[Array, str]:
    """Two coordinates for each embedding, and what they are: UMAP where umap-learn is installed, else PCA.

    Shape:
        embedding (N, E), output (N, 2).
    """
    if find_spec("umap") is None:
        return PCA(2, random_state=seed).fit_transform(embedding), "PCA"
    from umap import UMAP

    return UMAP(random_state=seed).fit_transform(embedding), "UMAP"
