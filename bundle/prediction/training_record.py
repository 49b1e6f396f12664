"""How far a brain is from those a model was trained on, and of which age it looks."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import pandas as pd
import torch
from monai.data import DataLoader
from numpy.typing import ArrayLike, NDArray
from sklearn.covariance import LedoitWolf
from sklearn.model_selection import KFold
from sklearn.neighbors import NearestNeighbors
from torch import nn
from torch.utils.data import Dataset

from bundle.files import check_format, replacing
from bundle.hub import located
from bundle.metrics.classification import platt
from bundle.metrics.representation import OverallScaler, ridge, whitening
from bundle.networks.cards import read_card
from bundle.networks.classifiers import Classifier
from bundle.networks.weights import load_network
from bundle.people import mean_of_each, person_codes, person_of
from bundle.prediction.norms import HealthyVolumes, measured
from bundle.scans.contract import Contract
from bundle.scans.npy import read_arrays
from bundle.scans.regions import REGIONS

Array = NDArray[np.float64]
NEIGHBOURS = 5
LEAST = 25  # healthy training subjects of known age, below which no age is estimated
FOLDS = 5
# 1 did not say which scans are of one person, and 2 held no regional volumes; a record without a format is of the first
RECORD_FORMAT = 3
LARGEST_ML = 1e4  # of a head or a region
LARGEST = 4096  # numbers in an embedding: their covariance is kept
logger = logging.getLogger(__name__)
NAMES = ("embedding", "ages", "labels", "validation_labels", "validation_probabilities", "healthy")


class TrainingEmbeddings:
    """The embeddings of a model's training subjects, without their ids.

    A person counts once, however many scans there are. Distances are Mahalanobis distances with a shrunk covariance.
    People are divided into folds; whoever is new is compared with the people of each fold by the distance of both from
    the other folds' people, so that the percentile holds for few people and long embeddings, too. The distance that is
    given is the mean over folds. The age is a ridge regression on healthy subjects, whose error is that of one scan;
    its gap is corrected for the regression's pull towards the mean (as expected at that age), and given only within the
    ages of the training.

    Args:
        embedding: Embedding of the training scans.
        ages: Years, NaN = unknown.
        labels: 0 control, 1 patient.
        people: A number for each person (see `people.person_codes`); None: a scan each.

    Shape:
        embedding (N, E), ages (N,), labels (N,), people (N,).

    Source:
        Lee et al., NeurIPS 2018 (distance); Ledoit & Wolf, 2004 (shrinkage); Vovk, 2015 (percentile over folds);
        de Lange & Cole, 2020 (correction).
    """

    def __init__(
        self, embedding: ArrayLike, ages: ArrayLike, labels: ArrayLike, people: NDArray[np.intp] | None = None
    ) -> None:
        self.embedding = np.asarray(embedding, dtype=np.float64)
        self.ages, self.labels = np.asarray(ages, dtype=np.float64), np.asarray(labels, dtype=int)
        self.people = pd.factorize(np.arange(len(self.embedding)) if people is None else people)[0]
        self.scaler = OverallScaler().fit(self.embedding)
        features = self.scaler.transform(self.embedding)
        self._folds = list(_folds(features, self.people))
        self.distances = np.sort(np.concatenate([fold.distances for fold in self._folds]))
        healthy = (self.labels == 0) & np.isfinite(self.ages)
        persons = pd.factorize(self.people[healthy])[0]
        self.healthy_ages = mean_of_each(self.ages[healthy], persons)
        self.neighbours = NearestNeighbors(n_neighbors=min(NEIGHBOURS, max(1, len(self.healthy_ages))))
        self.age_error = np.nan
        if len(self.healthy_ages) >= LEAST:
            self._fit_age(features[healthy], self.ages[healthy], persons)

    def _fit_age(self, features: Array, ages: Array, persons: NDArray[np.intp]) -> None:
        """Fit the age of healthy people to the means of their scans; the error is that of one scan of somebody else."""
        means = mean_of_each(features, persons)
        predicted = np.empty(len(ages))
        for rest, held_out in KFold(FOLDS, shuffle=True, random_state=0).split(means):
            rows = np.isin(persons, held_out)
            predicted[rows] = ridge().fit(means[rest], self.healthy_ages[rest]).predict(features[rows])
        self.age_error = float(mean_of_each(np.abs(predicted - ages), persons).mean())
        self._expected_gap = np.polyfit(self.healthy_ages, mean_of_each(predicted - ages, persons), 1)
        self._age = ridge().fit(means, self.healthy_ages)
        self.neighbours.fit(means)

    def compare(self, embedding: ArrayLike, ages: ArrayLike) -> pd.DataFrame:
        """Compare new subjects with the training subjects.

        Args:
            embedding: Embedding of the new subjects.
            ages: Years, NaN = unknown.

        Shape:
            embedding (M, E), ages (M,); output M rows: `distance`, `distance_percentile`, and, where the ages of 25
            healthy training subjects are known, `brain_age` (years), `brain_age_gap` (years more than expected; NaN
            where one of both ages is beyond those of the training) and `nearest_training_ages`.
        """
        features = self.scaler.transform(np.asarray(embedding, dtype=np.float64).reshape(-1, self.embedding.shape[1]))
        distances = np.stack([fold.distance(features) for fold in self._folds])
        closer = np.sum([fold.share(own) for fold, own in zip(self._folds, distances, strict=True)], axis=0)
        percentile = (100 * closer).round(6)  # all shares together are 1 but for the last digits
        table = pd.DataFrame({"distance": distances.mean(0), "distance_percentile": percentile})
        if np.isnan(self.age_error) or not len(features):
            return table.assign(brain_age=np.nan, brain_age_gap=np.nan, nearest_training_ages="")
        brain_age, ages = self._age.predict(features), np.asarray(ages, dtype=np.float64)
        nearest = self.healthy_ages[self.neighbours.kneighbors(features, return_distance=False)]
        listed = [" ".join(f"{age:.0f}" for age in row) for row in nearest]
        within = self.covers(ages) & self.covers(brain_age)
        gap = np.where(within, brain_age - ages - np.polyval(self._expected_gap, ages), np.nan)
        return table.assign(brain_age=brain_age, brain_age_gap=gap, nearest_training_ages=listed)

    def centre(self, label: int | None = None) -> Array:
        """The mean embedding of the people of a label, each of whom counts once; None: of all.

        Args:
            label: 0 control, 1 patient.

        Shape:
            output (E,).
        """
        rows = np.ones(len(self.labels), dtype=bool) if label is None else self.labels == label
        return mean_of_each(self.embedding[rows], pd.factorize(self.people[rows])[0]).mean(0)

    def covers(self, ages: ArrayLike) -> NDArray[np.bool_]:
        """Whether ages lie within those of the healthy training subjects; outside, no gap can be given."""
        ages = np.asarray(ages, dtype=np.float64)
        if not len(self.healthy_ages):
            return np.zeros(ages.shape, dtype=bool)
        return (ages >= self.healthy_ages.min()) & (ages <= self.healthy_ages.max())


@dataclass(frozen=True)
class TrainingRecord:
    """What a classifier showed at the end of its training; kept beside its weights, without anybody's id.

    Attributes:
        embeddings: Embeddings of the training subjects.
        labels: Labels of the validation scans, 0 control, 1 patient.
        probabilities: Probabilities of the validation scans, of being a patient.
        healthy: (C, D, H, W), mean of the preprocessed volumes of healthy training subjects, one scan each.
        people: A number for each person of the validation; several scans of one count once, by their mean.
        volumes: Volumes of the regions of healthy training people; None in a record of an older format.
    """

    embeddings: TrainingEmbeddings
    labels: NDArray[np.int64]
    probabilities: Array
    healthy: NDArray[np.float32]
    people: NDArray[np.intp]
    volumes: HealthyVolumes | None = None

    @property
    def validated(self) -> tuple[NDArray[np.int64], Array]:
        """Label and mean probability of each person of the validation."""
        persons = pd.factorize(self.people)[0]
        labels = np.zeros(persons.max(initial=-1) + 1, dtype=np.int64)
        np.maximum.at(labels, persons, self.labels)
        return labels, mean_of_each(self.probabilities, persons)

    @property
    def calibration(self) -> tuple[float, float]:
        """Slope and intercept that calibrate log odds, from the people of the validation."""
        return platt(*self.validated)

    @property
    def size(self) -> int:
        """E of the embeddings."""
        return self.embeddings.embedding.shape[1]


def record_path(model: str | Path) -> Path:
    """Where the record of a model lies: `model_record.npz` beside `model.pt`."""
    path = located(model)
    return path.with_name(f"{path.stem}_record.npz")


def copy_record(model: Path, other: Path) -> None:
    """Put the record of a model beside the same model elsewhere; nothing where it has none, or it is there already.

    Args:
        model: The file of weights.
        other: The same weights, in another format or folder.
    """
    source, target = record_path(model), record_path(other)
    if not source.is_file() or (target.exists() and target.samefile(source)):
        return
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)


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
        model: The file of weights; nothing is done when no validation wrote it.
        training: Preprocessed subjects of the training; a dataset of MONAI, whose `data` names their images.
        validation: Preprocessed subjects of the validation.
        batch_size: Subjects.
        device: Device that computes.
    """
    if not Path(model).is_file() or idist.get_rank() > 0:
        return
    load_network(model, network)
    classifier = Classifier(network).to(device).eval()
    seen = _observe(classifier, DataLoader(training, batch_size=batch_size), device)
    judged = _observe(classifier, DataLoader(validation, batch_size=batch_size), device)
    embedding = {"embedding": seen["embedding"].astype(np.float32), "ages": seen["age"], "labels": seen["label"]}
    people = {"people": person_codes(seen["person"].tolist())}
    people["validation_people"] = person_codes(judged["person"].tolist())
    embedding["healthy"] = seen["sum"].sum(0) / max(1, int(((seen["label"] == 0) & seen["first"]).sum()))
    validated = {"validation_labels": judged["label"], "validation_probabilities": judged["probability"]}
    content: dict[str, Any] = {
        "format": RECORD_FORMAT,
        **embedding,
        **people,
        **validated,
        **_regional(training, model),
    }
    with replacing(record_path(model)) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **content)


def _regional(training: Dataset, model: str | Path) -> dict[str, NDArray]:
    """Regional volumes of the training scans; nothing where their files are not known."""
    records = getattr(training, "data", ())
    if not records or not all(_is_file(record) for record in records):
        logger.info("The files of the training scans are not known, so the record holds no norms of regional volumes.")
        return {}
    contract = Contract(read_card(model).get("contract"))
    return measured(records, contract.grid, contract.modality)


def _is_file(record: Mapping[str, Any]) -> bool:
    """Whether a record names a scan, and not a preprocessed volume of a cache."""
    return isinstance(record.get("image"), (str, Path)) and "intensity" not in record


def load_record(model: str | Path) -> TrainingRecord:
    """Read the record beside a model.

    Args:
        model: The file of weights.

    Raises:
        ValueError: when the record is missing or damaged.
    """
    path = record_path(model)
    if not path.is_file():
        raise ValueError(f"There is no {path}, which says what the model was trained on; train again, or restore it.")
    try:
        arrays = read_arrays(path)
        found = arrays.get("format", np.array(1)).tolist()
    except Exception as error:  # zipfile, zlib and numpy each have their own errors
        raise ValueError(f"{path} is no record of a training ({type(error).__name__}); restore the file.") from error
    check_format(found, RECORD_FORMAT, path)
    try:
        embedding, ages, labels, validated, probabilities, healthy = (arrays[name] for name in NAMES)
        _check_arrays(embedding, ages, labels, validated, probabilities, healthy)
        people = _people(arrays, "people", len(labels)), _people(arrays, "validation_people", len(validated))
        embeddings = TrainingEmbeddings(embedding, ages, labels, people[0])
        volumes = _volumes(arrays, ages, labels)
        return TrainingRecord(embeddings, validated, probabilities, healthy, people[1], volumes)
    except Exception as error:  # scikit-learn has its own errors
        raise ValueError(f"{path} is no record of a training ({type(error).__name__}); restore the file.") from error


def _people(arrays: Mapping[str, NDArray], name: str, scans: int) -> NDArray[np.intp]:
    """Which scans are of one person; a record that does not say so holds a scan each."""
    found = arrays.get(name, np.arange(scans))
    if found.shape != (scans,) or found.dtype.kind not in "iu":
        raise ValueError("persons that do not fit the scans")
    return found.astype(np.intp)


def _volumes(arrays: Mapping[str, NDArray], ages: NDArray, labels: NDArray) -> HealthyVolumes | None:
    """The regional volumes of healthy people, where a record holds them."""
    if "regional_volumes" not in arrays:
        return None
    volumes, sexes, tivs = (arrays[name].astype(np.float64) for name in ("regional_volumes", "sexes", "tivs"))
    if volumes.shape != (len(labels), len(REGIONS)) or not sexes.shape == tivs.shape == labels.shape:
        raise ValueError("regional volumes that do not fit the scans")
    rows = (labels == 0) & np.isfinite(volumes).all(1)
    sizes = np.concatenate([volumes[rows].ravel(), tivs[np.isfinite(tivs)]])
    if not np.isin(sexes[np.isfinite(sexes)], (0, 1)).all() or (np.abs(sizes) > LARGEST_ML).any():
        raise ValueError("sexes or sizes that no training writes")
    return HealthyVolumes(volumes[rows], {"age": ages[rows], "sex": sexes[rows], "tiv": tivs[rows]})


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
    """Embedding, probability, age, label and id of each scan, and the sum of each batch's healthy volumes.

    Of each person, only the first scan is summed.
    """
    names = ("embedding", "probability", "age", "label", "sum", "person", "first")
    kept: dict[str, list[NDArray]] = {name: [] for name in names}
    known: set[str] = set()
    with torch.no_grad():
        for batch in batches:
            logits, embedding = classifier.both(batch["image"].to(device))
            kept["embedding"].append(embedding.float().cpu().numpy())
            kept["probability"].append(logits.softmax(1)[:, 1].double().cpu().numpy())
            first = _first_scans(batch["participant_id"], known)
            kept["first"].append(first)
            healthy = (np.asarray(batch["label"]) == 0) & first
            kept["sum"].append(np.asarray(batch["image"])[healthy].sum(0, keepdims=True))
            kept["person"].append(np.asarray(batch["participant_id"], dtype=object))
            for name in ("age", "label"):
                kept[name].append(np.asarray(batch[name]))
    return {name: np.concatenate(parts) for name, parts in kept.items()}


def _first_scans(participants: Iterable[Any], known: set[str]) -> NDArray[np.bool_]:
    """Which scans are a person's first; who was seen is added to the known, and a scan without an id is a person."""
    first = []
    for person in map(person_of, participants):
        first.append(person not in known)
        known |= {person} - {""}
    return np.array(first, dtype=bool)


@dataclass(frozen=True)
class _Fold:
    """Some people, as far as they are from all others.

    Attributes:
        centre: Mean embedding of the people of other folds.
        whitening: Matrix that turns a difference into one whose length is its distance.
        distances: Distances of the scans of its own people from them, ascending.
        shares: What each of these scans counts among all people: one person's scans 1 / number of people together.
    """

    centre: Array
    whitening: Array
    distances: Array
    shares: Array

    def distance(self, features: Array) -> Array:
        """Distance from the people of other folds."""
        return np.asarray(np.linalg.norm((features - self.centre) @ self.whitening.T, axis=1))

    def share(self, distances: Array) -> Array:
        """Share of all people that are of this fold and closer, or as close."""
        closer = np.concatenate([[0.0], self.shares.cumsum()])
        return closer[np.searchsorted(self.distances, distances, side="right")]


def _folds(features: Array, people: NDArray[np.intp]) -> Iterator[_Fold]:
    """People in folds; a person is never divided."""
    persons, counts = np.unique(people), np.bincount(people)
    for _, held_out in KFold(min(FOLDS, len(persons)), shuffle=True, random_state=0).split(persons):
        rows = np.isin(people, persons[held_out])
        others = LedoitWolf(store_precision=False).fit(features[~rows])
        fold = _Fold(others.location_, whitening(others.covariance_), np.empty(0), np.empty(0))
        distances = fold.distance(features[rows])
        order = distances.argsort(kind="stable")
        shares = (1 / counts[people[rows]] / len(persons))[order]
        yield replace(fold, distances=distances[order], shares=shares)
