"""What a probe has found: tables that show themselves in a notebook, and figures."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from bundle.drawing import Drawing
from bundle.evaluation import classifier_figures, figures
from bundle.evaluation.probing import by_participant, to_plane
from bundle.metrics.classification import reliability
from bundle.metrics.representation import OverallScaler


@dataclass(frozen=True)
class ProbeResult:
    """What a linear model reads of a diagnosis.

    Attributes:
        scores: A row per method, N, draw and tested scan: log odds of being a patient.
        summary: Summary; see `table`.
        embeddings: Embeddings of everybody who took part.
        people: People whose they are, a row each.
        method: Name of the embeddings.
        reference: Name of the row that gains are over; empty where nothing is known beside the images.
        note: How effects of sites, and of age, sex and TIV, were taken out; empty where they were not.
    """

    scores: pd.DataFrame
    summary: pd.DataFrame
    embeddings: NDArray
    people: pd.DataFrame
    method: str
    reference: str
    note: str = ""

    def table(self) -> pd.DataFrame:
        """A row per N and method: ROC-AUC (`auc`) with its 95 % interval (`low`, `high`), mean over draws.

        Where there is a reference, `gain` is the paired difference from it, with its interval.
        """
        return self.summary.copy()

    def plot(self, path: str | Path | None = None) -> Drawing:
        """Draw the learning curve, or, of a single N, the ROC-AUC of each method; both with intervals.

        Args:
            path: A PNG to write, too.
        """
        if self.summary["n"].nunique() > 1:
            return self.plot_learning_curve(path)
        return figures.intervals(_path(path), self.summary, self._note())

    def plot_learning_curve(self, path: str | Path | None = None) -> Drawing:
        """Draw ROC-AUC against the number of training subjects.

        Args:
            path: A PNG to write, too.

        Raises:
            ValueError: When there is a single number of training subjects.
        """
        if self.summary["n"].nunique() < 2:
            raise ValueError(
                f"A learning curve needs several numbers of training subjects, but there is one, N = "
                f"{self.summary['n'].iloc[0]}; probe with protocol='draws' and sizes=[50, 100], or draw it by plot()."
            )
        return figures.learning_curves(_path(path), self.summary, references=self._references())

    def plot_roc(self, path: str | Path | None = None) -> Drawing:
        """Draw the ROC curve of each method at the largest N, mean over draws; the band is the embeddings'.

        Args:
            path: A PNG to write, too.
        """
        curves = {}
        for method, rows in self._largest().groupby("method", sort=False):
            wide = rows.pivot(index="draw", columns="participant_id", values="score")
            labels = rows.drop_duplicates("participant_id").set_index("participant_id")["label"]
            curves[str(method)] = classifier_figures.Roc.of(labels.loc[wide.columns], wide)
        return classifier_figures.roc_curves(_path(path), curves, self._note())

    def plot_calibration(self, path: str | Path | None = None) -> Drawing:
        """Draw how often participants of similar probability, the mean over draws at the largest N, are patients.

        Args:
            path: A PNG to write, too.
        """
        rows = self._largest()
        own = rows[rows["method"] == self.method].assign(score=lambda found: expit(found["score"]))
        people = own.groupby("participant_id").agg(label=("label", "max"), score=("score", "mean"))
        curves = {self.method: reliability(people["label"], people["score"])}
        return figures.calibration_curves(_path(path), {str(self.scores["task"].iloc[0]): curves}, self._note())

    def plot_embedding(self, path: str | Path | None = None) -> Drawing:
        """Draw the embeddings in a plane, coloured by age, site and diagnosis, as far as they are known.

        The plane is UMAP's where umap-learn is installed, else that of the first two principal components.

        Args:
            path: A PNG to write, too.
        """
        plane, kind = to_plane(OverallScaler().fit(self.embeddings).transform(self.embeddings))
        known = {"age": self.people["age"].notna(), "site": self.people["site"] != ""}
        table = pd.DataFrame({"x": plane[:, 0], "y": plane[:, 1]})
        table = table.assign(**{name: self.people[name] for name, there in known.items() if there.any()})
        table["diagnosis"] = np.where(self.people["label"] == 1, str(self.scores["task"].iloc[0]), "control")
        return figures.embedding_maps(_path(path), {f"{self.method} ({kind})": table})

    def _largest(self) -> pd.DataFrame:
        return by_participant(self.scores[self.scores["n"] == self.scores["n"].max()])

    def _references(self) -> list[str]:
        return [name for name in self.summary["method"].unique() if name != self.method]

    def _note(self) -> str:
        rows = self._largest()
        told = f"{rows['participant_id'].nunique()} tested participants, N = {rows['n'].iloc[0]}"
        return ". ".join(filter(None, [told, self.note]))

    def _repr_html_(self) -> str:
        return self.summary.to_html(index=False, float_format="{:.3f}".format) + _paragraph(self.note)


@dataclass(frozen=True)
class AgeResult:
    """What a ridge regression reads of age.

    Attributes:
        predictions: A row per method and tested scan: `age` and `predicted`, years.
        summary: Summary; see `table`.
        method: Name of the embeddings.
        note: How site effects were taken out; empty where they were not.
    """

    predictions: pd.DataFrame
    summary: pd.DataFrame
    method: str
    note: str = ""

    def table(self) -> pd.DataFrame:
        """A row per method: mean absolute error (`mae`, years) with its 95 % interval, and how many were tested."""
        return self.summary.copy()

    def plot(self, path: str | Path | None = None) -> Drawing:
        """Draw predicted against true ages.

        Args:
            path: A PNG to write, too.
        """
        own = self.predictions[self.predictions["method"] == self.method]
        return classifier_figures.predicted_ages(_path(path), {self.method: own})

    def _repr_html_(self) -> str:
        return self.summary.to_html(index=False, float_format="{:.2f}".format) + _paragraph(self.note)


def _paragraph(note: str) -> str:
    return f"<p>{escape(note)}</p>" if note else ""


def _path(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path)
