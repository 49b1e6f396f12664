"""How far a brain is from those a model was trained on, and of which age it looks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import pandas as pd
import torch
from monai.data import DataLoader
from numpy.typing import ArrayLike, NDArray
from sklearn.covariance import LedoitWolf
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.neighbors import NearestNeighbors
from torch import nn
from torch.utils.data import Dataset

from bundle.files import check_format, replacing
from bundle.metrics.classification import platt
from bundle.metrics.representation import OverallScaler, ridge
from bundle.networks.classifiers import Classifier
from bundle.networks.weights import load_network
from bundle.scans.npy import read_arrays

Array = NDArray[np.float64]
NEIGHBOURS = 5
LEAST = 25  # healthy training subjects of known age, below which no age is estimated
FOLDS = 5
RECORD_FORMAT = 1  # a record without one is of this format, too
LARGEST = 4096  # numbers in an embedding: their covariance is kept
NAMES = ("embedding", "ages", "labels", "validation_labels", "validation_probabilities", "healthy")


class TrainingEmbeddings:
    """The embeddings of a model's training subjects, without their ids.

    Distances are Mahalanobis distances with a shrunk covariance; the percentile of a distance compares it with those of
    training subjects from embeddings that they are not among. The age is a ridge regression on healthy subjects; its
    gap is corrected for the regression's pull towards the mean (as expected at that age).

    Args:
        embedding: of the training subjects.
        ages: years, NaN = unknown.
        labels: 0 control, 1 patient.

    Shape:
        embedding (N, E), ages (N,), labels (N,).

    Source:
        Lee et al., NeurIPS 2018 (distance); Ledoit & Wolf, 2004 (shrinkage); de Lange & Cole, 2020 (correction).
    """

    def __init__(self, embedding: ArrayLike, ages: ArrayLike, labels: ArrayLike) -> None:
        self.embedding = np.asarray(embedding, dtype=np.float64)
        self.ages, self.labels = np.asarray(ages, dtype=np.float64), np.asarray(labels, dtype=int)
        self.scaler = OverallScaler().fit(self.embedding)
        features = self.scaler.transform(self.embedding)
        self._covariance = LedoitWolf().fit(features)
        self.distances = np.sort(_held_out_distances(features))
        healthy = (self.labels == 0) & np.isfinite(self.ages)
        self.neighbours = NearestNeighbors(n_neighbors=min(NEIGHBOURS, max(1, int(healthy.sum()))))
        self.healthy_ages, known = self.ages[healthy], features[healthy]
        self.age_error = np.nan
        if len(known) >= LEAST:
            self._fit_age(known)

    def _fit_age(self, features: Array) -> None:
        folds = KFold(FOLDS, shuffle=True, random_state=0)
        predicted = cross_val_predict(ridge(), features, self.healthy_ages, cv=folds)
        self.age_error = float(np.abs(predicted - self.healthy_ages).mean())
        self._expected_gap = np.polyfit(self.healthy_ages, predicted - self.healthy_ages, 1)
        self._age = ridge().fit(features, self.healthy_ages)
        self.neighbours.fit(features)

    def compare(self, embedding: ArrayLike, ages: ArrayLike) -> pd.DataFrame:
        """Compare new subjects with the training subjects.

        Args:
            embedding: of the new subjects.
            ages: years, NaN = unknown.

        Shape:
            embedding (M, E), ages (M,); output M rows: `distance`, `distance_percentile`, and, where the ages of 25
            healthy training subjects are known, `brain_age` (years), `brain_age_gap` (years more than expected) and
            `nearest_training_ages`.
        """
        features = self.scaler.transform(np.asarray(embedding, dtype=np.float64).reshape(-1, self.embedding.shape[1]))
        distances = np.sqrt(self._covariance.mahalanobis(features))
        percentile = 100 * np.searchsorted(self.distances, distances, side="right") / len(self.distances)
        table = pd.DataFrame({"distance": distances, "distance_percentile": percentile})
        if np.isnan(self.age_error) or not len(features):
            return table.assign(brain_age=np.nan, brain_age_gap=np.nan, nearest_training_ages="")
        brain_age, ages = self._age.predict(features), np.asarray(ages, dtype=np.float64)
        nearest = self.healthy_ages[self.neighbours.kneighbors(features, return_distance=False)]
        listed = [" ".join(f"{age:.0f}" for age in row) for row in nearest]
        gap = brain_age - ages - np.polyval(self._expected_gap, ages)
        return table.assign(brain_age=brain_age, brain_age_gap=gap, nearest_training_ages=listed)


@dataclass(frozen=True)
class TrainingRecord:
    """What a classifier showed at the end of its training; kept beside its weights, without anybody's id.

    Attributes:
        embeddings: of the training subjects.
        labels: of the validation subjects, 0 control, 1 patient.
        probabilities: of the validation subjects, of being a patient.
        healthy: (C, D, H, W), mean of the preprocessed volumes of healthy training subjects.
    """

    embeddings: TrainingEmbeddings
    labels: NDArray[np.int64]
    probabilities: Array
    healthy: NDArray[np.float32]

    @property
    def calibration(self) -> tuple[float, float]:
        """Slope and intercept that calibrate log odds, from the validation subjects."""
        return platt(self.labels, self.probabilities)

    @property
    def size(self) -> int:
        """E of the embeddings."""
        return self.embeddings.embedding.shape[1]


def record_path(model: str | Path) -> Path:
    """Where the record of a model lies: `model_record.npz` beside `model.pt`."""
    path = Path(model)
    return path.with_name(f"{path.stem}_record.npz")


def write_record(
    network: nn.Module,
    model: str | Path,
    training: Dataset,
    validation: Dataset,
    batch_size: int = 8,
    device: str | torch.device = "cpu",
) -> None:
    """Run a trained classifier over its own subjects once, and keep what later predictions are compared with.

    Args:
        network: MONAI's DenseNet; the best weights are read from `model`.
        model: the `.pt` file; nothing is done when no validation wrote it.
        training: preprocessed subjects of the training.
        validation: preprocessed subjects of the validation.
        batch_size: subjects.
        device: that computes.
    """
    if not Path(model).is_file() or idist.get_rank() > 0:
        return
    load_network(model, network)
    classifier = Classifier(network).to(device).eval()
    seen = _observe(classifier, DataLoader(training, batch_size=batch_size), device)
    judged = _observe(classifier, DataLoader(validation, batch_size=batch_size), device)
    embedding = {"embedding": seen["embedding"].astype(np.float32), "ages": seen["age"], "labels": seen["label"]}
    embedding["healthy"] = seen["sum"].sum(0) / max(1, int((seen["label"] == 0).sum()))
    validated = {"validation_labels": judged["label"], "validation_probabilities": judged["probability"]}
    content: dict[str, Any] = {"format": RECORD_FORMAT, **embedding, **validated}
    with replacing(record_path(model)) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **content)


def load_record(model: str | Path) -> TrainingRecord:
    """Read the record beside a model.

    Args:
        model: the `.pt` file.

    Raises:
        ValueError: when the record is missing or damaged.
    """
    path = record_path(model)
    if not path.is_file():
        raise ValueError(f"There is no {path}, which says what the model was trained on; train again, or restore it.")
    try:
        arrays = read_arrays(path)
        found = arrays.get("format", np.array(RECORD_FORMAT)).tolist()
    except Exception as error:  # zipfile, zlib and numpy each have their own errors
        raise ValueError(f"{path} is no record of a training ({type(error).__name__}); restore the file.") from error
    check_format(found, RECORD_FORMAT, path)
    try:
        embedding, ages, labels, *validated = (arrays[name] for name in NAMES)
        _check_arrays(embedding, ages, labels, *validated)
        return TrainingRecord(TrainingEmbeddings(embedding, ages, labels), *validated)
    except Exception as error:  # scikit-learn has its own errors
        raise ValueError(f"{path} is no record of a training ({type(error).__name__}); restore the file.") from error


def _check_arrays(
    embedding: NDArray, ages: NDArray, labels: NDArray, validated: NDArray, probabilities: NDArray, healthy: NDArray
) -> None:
    """Refuse arrays that no training wrote."""
    n, m = embedding.shape[:1], validated.shape
    fits = ages.shape == labels.shape == n and probabilities.shape == m and len(m) == 1
    if not fits or embedding.ndim != 2 or embedding.shape[1] > LARGEST or healthy.ndim != 4:
        raise ValueError("shapes that do not fit each other")
    diagnoses = np.concatenate([labels, validated])
    finite = np.isfinite(embedding).all() and np.isfinite(healthy).all()
    if not finite or not np.isin(diagnoses, (0, 1)).all() or not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise ValueError("values that no training writes")


def _observe(classifier: Classifier, batches: Iterable[Mapping], device: str | torch.device) -> dict[str, NDArray]:
    """Embedding, probability, age and label of each subject, and the sum of each batch's healthy volumes."""
    kept: dict[str, list[NDArray]] = {"embedding": [], "probability": [], "age": [], "label": [], "sum": []}
    with torch.no_grad():
        for batch in batches:
            logits, embedding = classifier.both(batch["image"].to(device))
            kept["embedding"].append(embedding.float().cpu().numpy())
            kept["probability"].append(logits.softmax(1)[:, 1].double().cpu().numpy())
            kept["sum"].append(np.asarray(batch["image"])[np.asarray(batch["label"]) == 0].sum(0, keepdims=True))
            for name in ("age", "label"):
                kept[name].append(np.asarray(batch[name]))
    return {name: np.concatenate(parts) for name, parts in kept.items()}


def _held_out_distances(features: Array) -> Array:
    """Distance of each subject from the subjects of the other folds."""
    distances = np.empty(len(features))
    for rest, held_out in KFold(min(FOLDS, len(features)), shuffle=True, random_state=0).split(features):
        fitted = LedoitWolf().fit(features[rest])
        distances[held_out] = np.sqrt(fitted.mahalanobis(features[held_out]))
    return distances
