"""The workflows: a strict front door to the configs, and what they do with files."""

from __future__ import annotations

import copy
import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from monai.data import DataLoader, Dataset

from bundle.cohort.datalist import SECTIONS, load_section, phantom_of
from bundle.cohort.folds import Trial, draw_trials, fold_trials, site_trials
from bundle.cohort.overlap import refuse_overlap
from bundle.cohort.splits import assert_disjoint
from bundle.evaluation import figures, probing
from bundle.evaluation.plan import CALIBRATED, KNOWN, RANDOM, SCALING, VOXELS, slug
from bundle.files import replacing, write_json, write_text
from bundle.hints import nearest, quoted
from bundle.networks.encoders import Encoder
from bundle.networks.weights import load_encoder
from bundle.provenance import provenance

Features = Callable[[Iterable[Mapping]], np.ndarray]
PROTOCOLS = ("draws", "folds", "sites")
logger = logging.getLogger(__name__)


class ProbeStudy:
    """Probes a pretrained encoder on diagnoses and age, beside the references it has to beat.

    Writes to `output_dir`: `scores.csv` (a row per test image, draw, N, method and task), `results.csv` (ROC-AUC
    per draw), `summary.csv`, `age.csv`, `table.md`, `learning_curves.png`, `embeddings_<method>.npz` and `.tsv` (with
    participant ids), and `provenance.json`.

    Args:
        encoder: as pretrained; filled from `weights`.
        random_encoder: the same architecture as initialised, for reference; a copy with batch norm calibrated on the
            pretraining volumes is the second reference (see `probing.calibrate`).
        weights: file written by pretraining.
        method: name of the pretrained encoder in tables and figures.
        tasks: task → datalist; or task → {"training": datalist, "test": datalist}, whole datalists: one study trains,
            another tests.
        age_datalist: datalist whose `training` fits the age probe and whose `validation` tests it; None skips it.
        preprocessing: transform of a record, the one of pretraining.
        output_dir: where results go.
        protocol: `draws` (N subjects of `training`, nested draws, tested on `test`), `folds` (repeated k-fold
            cross-validation over everybody) or `sites` (each site left out).
        sizes: numbers of training subjects N of `draws`.
        draws: training sets per N, or repeats of `folds`.
        n_folds: folds of `folds`.
        pool: cells per side of the last feature map; 2 gives the paper's 8,192 features of DenseNet121.
        adjust: what is known beside the image and removed from all features; see `probing.without_known`.
        penalties: candidates for C of the probes.
        voxel_penalties: the same for voxels, whose squared norm is thousands of times larger.
        precision: of the embedding; see `training.PrecisionInferer`.
        batch_size: volumes per forward pass.
        num_workers: of the data loader.
        device: to compute on.
        seed: of the draws.
        allow_overlap: go on, with a warning, when test subjects were in the pretraining.
        note: a line that tables and figures carry; a phantom's datalist adds that it is one.
    """

    def __init__(
        self,
        encoder: Encoder,
        random_encoder: Encoder,
        weights: str | Path,
        tasks: Mapping[str, str | Mapping[str, str]],
        age_datalist: str | None,
        preprocessing: Callable,
        output_dir: str | Path,
        method: str = "y-Aware",
        protocol: str = "draws",
        sizes: Sequence[int] = (100, 300, 500),
        draws: int = 5,
        n_folds: int = 5,
        pool: int = 2,
        adjust: Sequence[str] = (),
        penalties: Sequence[float] = (0.01, 0.1, 1.0, 10.0),
        voxel_penalties: Sequence[float] = (1e-6, 1e-5, 1e-4, 1e-3),
        precision: str = "float32",
        batch_size: int = 16,
        num_workers: int = 0,
        device: str | torch.device = "cpu",
        seed: int = 0,
        allow_overlap: bool = False,
        note: str = "",
    ) -> None:
        self.tasks, self.age_datalist, self.output_dir = dict(tasks), age_datalist, Path(output_dir)
        if protocol not in PROTOCOLS:
            raise ValueError(f"No protocol is named '{protocol}'{nearest(protocol, PROTOCOLS)}")
        self.protocol, self.sizes, self.draws, self.n_folds = protocol, list(sizes), draws, n_folds
        self.seed, self.note = seed, note
        self.penalties, self.voxel_penalties, self.adjust = penalties, voxel_penalties, list(adjust)
        self.load_batches = partial(batches, preprocessing, batch_size, num_workers)
        load_encoder(weights, encoder)
        self.weights, self.allow_overlap = Path(weights), allow_overlap
        options: dict[str, Any] = {"device": device, "pool": pool, "precision": precision}
        encoders = {method: encoder, RANDOM: random_encoder}
        encoders[CALIBRATED] = self._calibrated(random_encoder, device)
        self.encoders: dict[str, Features] = {
            method: partial(probing.embed, network, **options) for method, network in encoders.items()
        }

    def _calibrated(self, encoder: Encoder, device: str | torch.device) -> Encoder:
        healthy = load_section(Path(self.age_datalist or _datalists(self.tasks)[0]), "training")
        return probing.calibrate(copy.deepcopy(encoder), self.load_batches(healthy), device)

    def run(self) -> None:
        """Embed, probe, and write tables and figures."""
        embeddings: dict[str, list[pd.DataFrame]] = {method: [] for method in self.encoders}
        scores = pd.concat([self._probe_task(task, path, embeddings) for task, path in self.tasks.items()])
        summary = probing.summarize(scores, RANDOM, self.seed)
        ages = self._probe_age(embeddings)
        for method, parts in embeddings.items():
            _write_embeddings(self.output_dir / f"embeddings_{slug(method)}", pd.concat(parts))
        self._write_tables(scores, summary, ages)

    def _probe_task(
        self, task: str, source: str | Mapping[str, str], embeddings: dict[str, list[pd.DataFrame]]
    ) -> pd.DataFrame:
        records, trials = self._pool(task, source)
        tested = np.unique(np.concatenate([trial.test for trial in trials]))
        refuse_overlap(self.weights, [records[row] for row in tested], task, self.allow_overlap)
        tables: list[pd.DataFrame] = []
        for method, penalties, features in self._features(task, records, embeddings):
            logger.info(f"{task}: probing {method}")
            options: dict[str, Any] = {
                "scaling": SCALING.get(method, "overall"),
                "adjust": [] if method == KNOWN else self.adjust,
            }
            tables += probing.probe_diagnosis(method, features, records, trials, penalties, **options)
        return pd.concat(tables).assign(task=task)

    def _pool(self, task: str, source: str | Mapping[str, str]) -> tuple[list[dict], list[Trial]]:
        """The records of a task, and which of them train and test."""
        sections = sections_of(source, task)
        return trials_of(sections, self.protocol, self.sizes, self.draws, self.n_folds, self.seed, task)

    def _features(
        self, task: str, records: list[dict], embeddings: dict[str, list[pd.DataFrame]]
    ) -> Iterable[tuple[str, Sequence[float], np.ndarray]]:
        for method, embed in self.encoders.items():
            features = embed(self.load_batches(records))
            embeddings[method].append(_as_table(features, records, task))
            yield method, self.penalties, features
        yield VOXELS, self.voxel_penalties, probing.voxels(self.load_batches(records))
        yield KNOWN, self.penalties, probing.covariates(records)

    def _probe_age(self, embeddings: dict[str, list[pd.DataFrame]]) -> pd.DataFrame:
        if self.age_datalist is None:
            return pd.DataFrame(columns=["method", "mae", "low", "high", "n_test"])
        sections = {name: load_section(Path(self.age_datalist), name) for name in ("training", "validation")}
        assert_disjoint(sections)
        train, test = ([{**r, "section": name} for r in records] for name, records in sections.items())
        ages, test_ages = [r["age"] for r in train], [r["age"] for r in test]
        rows = []
        for method, embed in {**self.encoders, VOXELS: probing.voxels}.items():
            logger.info(f"age: probing {method}")
            pair = embed(self.load_batches(train)), embed(self.load_batches(test))
            if method in embeddings:
                embeddings[method].append(_as_table(pair[1], test, "age"))
            rows.append(probing.probe_age(method, pair[0], ages, pair[1], test_ages))
        mean_age = probing.probe_age("mean age", np.zeros((len(train), 1)), ages, np.zeros((len(test), 1)), test_ages)
        return pd.DataFrame([*rows, mean_age])

    def _write_tables(self, scores: pd.DataFrame, summary: pd.DataFrame, ages: pd.DataFrame) -> None:
        phantom = phantom_of(_datalists(self.tasks))
        adjusted = f"Effects of {', '.join(self.adjust)} are removed from all features." if self.adjust else ""
        note = " ".join(filter(None, [self.note, phantom.get("warning", ""), adjusted]))
        tables = {
            "scores.csv": scores,
            "results.csv": probing.draw_aucs(scores),
            "summary.csv": summary,
            "age.csv": ages,
        }
        for name, table in tables.items():
            write_text(self.output_dir / name, table.to_csv(index=False))
        text = _markdown(summary, ages, phantom.get("best_auc", {}), RANDOM, note)
        write_text(self.output_dir / "table.md", text)
        figure = self.output_dir / "learning_curves.png"
        figures.learning_curves(figure, summary, phantom.get("best_auc"), note)
        write_json(self.output_dir / "provenance.json", provenance(self.seed, {"weights": str(self.weights)}))
        sys.stdout.write(f"\n{text}\nTable: {self.output_dir / 'table.md'}\nFigure: {figure}\n")


def batches(preprocessing: Callable, batch_size: int, num_workers: int, records: list[dict]) -> DataLoader:
    """Batches of preprocessed records, in their order."""
    return DataLoader(Dataset(records, preprocessing), batch_size=batch_size, num_workers=num_workers)


def _datalists(tasks: Mapping[str, str | Mapping[str, str]]) -> list[str]:
    """Every datalist of the tasks."""
    return [path for source in tasks.values() for path in ([source] if isinstance(source, str) else source.values())]


def sections_of(source: str | Mapping[str, str], task: str) -> dict[str, list[dict]]:
    """Sections of a datalist, or whole datalists as sections; every record says where it is from."""
    if isinstance(source, str):
        found = {name: load_section(Path(source), name) for name in SECTIONS}
    elif set(source) == {"training", "test"}:
        found = {name: [r for s in SECTIONS for r in load_section(Path(path), s)] for name, path in source.items()}
    else:
        raise ValueError(
            f"The task {task} names {quoted(source)}; give one datalist, or one for 'training' and one for 'test'."
        )
    return {name: [{**record, "section": name} for record in records] for name, records in found.items()}


def trials_of(
    sections: Mapping[str, list[dict]],
    protocol: str,
    sizes: Sequence[int],
    draws: int,
    n_folds: int,
    seed: int,
    task: str,
) -> tuple[list[dict], list[Trial]]:
    """The records of a task, and which of them train and test; arguments as of `ProbeStudy`."""
    assert_disjoint(sections)
    if protocol == "draws":
        train, test = sections["training"], sections["test"]
        return [*train, *test], draw_trials(train, test, sizes, draws, seed, task)
    everybody = [record for records in sections.values() for record in records]
    if protocol == "folds":
        return everybody, fold_trials(everybody, n_folds, draws, seed, task)
    return everybody, site_trials(everybody, task)


def _as_table(features: np.ndarray, records: Sequence[Mapping], task: str) -> pd.DataFrame:
    names = ("participant_id", "session_id", "site", "age", "label", "section")
    ids = pd.DataFrame({name: [r[name] for r in records] for name in names})
    columns = [f"e{i}" for i in range(features.shape[1])]
    return pd.concat([ids.assign(task=task), pd.DataFrame(features, columns=columns)], axis=1)


def _write_embeddings(stem: Path, table: pd.DataFrame) -> None:
    """Write embeddings as `.npz` (arrays by name, `embedding` and the columns) and as `.tsv`."""
    features = table.filter(regex=r"^e\d+$")
    columns = {str(name): _plain(table[name]) for name in table.columns.difference(features.columns)}
    with replacing(stem.with_suffix(".npz")) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, embedding=features.to_numpy(np.float32), **columns)
    write_text(stem.with_suffix(".tsv"), table.to_csv(sep="\t", index=False, float_format="%.6g"))


def _plain(column: pd.Series) -> np.ndarray:
    """A column as numbers or fixed-width text: arrays of objects could only be pickled."""
    return column.to_numpy(dtype=None if column.dtype.kind in "fi" else "U")


def _markdown(
    summary: pd.DataFrame, ages: pd.DataFrame, best_auc: Mapping[str, float], reference: str, note: str
) -> str:
    parts = [
        note,
        "ROC-AUC of a linear probe on test subjects, mean over draws (95 % interval over subjects and draws)",
        figures.diagnosis_table(summary),
        f"Difference in ROC-AUC from {reference}, paired",
        figures.gain_table(summary, reference),
    ]
    if best_auc:
        parts.append("Best achievable ROC-AUC: " + ", ".join(f"{t} {best_auc[t]:.3f}" for t in best_auc))
    if len(ages):
        parts += [f"Age by ridge probe on {ages['n_test'].iloc[0]} test subjects", figures.age_table(ages)]
    return "\n\n".join(filter(None, parts)) + "\n"
