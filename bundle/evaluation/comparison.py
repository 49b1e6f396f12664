"""Comparisons: each pretext, task, size and seed is run once, and a stopped comparison goes on where it was."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from monai.bundle import ConfigParser

from bundle.cohort.datalist import load_section
from bundle.cohort.folds import Trial, draw_trials
from bundle.cohort.overlap import refuse_overlap
from bundle.cohort.splits import assert_disjoint
from bundle.evaluation import probing
from bundle.evaluation.plan import (
    CALIBRATED,
    KNOWN,
    REFERENCES,
    SCALING,
    SCRATCH,
    VOXELS,
    Plan,
)
from bundle.evaluation.study import batches
from bundle.files import replacing, sha256, write_json, write_text
from bundle.metrics.representation import openbhb_score
from bundle.networks.encoders import Encoder
from bundle.networks.weights import load_encoder

Features = Callable[[Sequence[dict]], np.ndarray]
Run = Callable[[Sequence[Path], Mapping[str, Any], str], None]
_Unit = tuple[str, Path, dict[str, Any], Callable[[Path], None]]
_IDS = ("participant_id", "site", "age", "label", "task", "section")
logger = logging.getLogger(__name__)


class Comparison:
    """Runs what a plan asks for and is not yet done.

    Args:
        plan: what to compare.
        run: runs configs with options, as a command: (files, options, command).
    """

    def __init__(self, plan: Plan, run: Run) -> None:
        self.plan, self.run_config = plan, run

    def run(self) -> None:
        """Run every unit that is not done; of each, settings and results stay in a folder of its own.

        Raises:
            ValueError: before any work, when a unit was done with other settings, or subjects cannot be drawn.
        """
        units, missing = self._todo()
        logger.info(f"{len(units) - len(missing)} of {len(units)} runs are done.")
        for number, (name, folder, settings, work) in enumerate(missing, 1):
            logger.info(f"{number} of {len(missing)}: {name}")
            work(folder)
            write_json(folder / "settings.json", settings)

    def progress(self) -> tuple[list[str], list[str]]:
        """Names of the runs that are done, and of those that are not.

        Raises:
            ValueError: see `run`.
        """
        units, missing = self._todo()
        names = [name for name, *_ in missing]
        return [name for name, *_ in units if name not in names], names

    def _todo(self) -> tuple[list[_Unit], list[_Unit]]:
        """All units, and those that are not done."""
        for task in self.plan.tasks:
            self._pool(task, len(self.plan.seeds) - 1)
        units = list(self._units())
        return units, [unit for unit in units if not _is_done(unit[1], unit[2])]

    def _units(self) -> Iterator[_Unit]:
        """Name, folder, settings and work of every unit; later ones need earlier ones."""
        plan = self.plan
        for draw, seed in enumerate(plan.seeds):
            for name, overlays in plan.pretexts.items():
                settings = self._settings(
                    ["pretraining"], plan.pretraining, overlays=self._digests(overlays), seed=seed
                )
                folder = plan.folder(name, seed) / "pretraining"
                yield f"{name}, seed {seed}: pretraining", folder, settings, partial(self._pretrain, overlays, seed)
            for method in (*plan.pretexts, *REFERENCES):
                folder = plan.folder(method, seed) / "probe"
                settings = self._probe_settings(method, seed, draw)
                yield f"{method}, seed {seed}: probe", folder, settings, partial(self._probe, method, seed, draw)
            for name, start in plan.networks.items():
                for task in plan.tasks:
                    for size in plan.sizes:
                        chosen = {"start": start, "size": size, "draw": draw}
                        settings = self._settings([task], plan.fine_tuning, seed=seed, **chosen)
                        folder = plan.folder(name, seed) / f"{task}_{size}"
                        work = partial(self._train, task, seed, start, size, draw)
                        yield f"{name}, seed {seed}: {task}, N = {size}", folder, settings, work

    def _settings(self, tasks: Sequence[str], options: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        digests = {t: sha256(self.plan.datalist(t))[:16] for t in tasks}
        return {"datalists": digests, "scale": self._digests(self.plan.overlays), "options": dict(options), **more}

    def _probe_settings(self, method: str, seed: int, draw: int) -> dict[str, Any]:
        chosen = {"method": method, "seed": seed, "draw": draw, "sizes": list(self.plan.sizes)}
        pretext = self.plan.pretexts.get(method)
        pretraining = None if pretext is None else {**self.plan.pretraining, "overlays": self._digests(pretext)}
        return self._settings(["pretraining", *self.plan.tasks], self.plan.probing, pretraining=pretraining, **chosen)

    def _digests(self, overlays: Sequence[str]) -> dict[str, str]:
        """What overlays say, by their names."""
        return {Path(p).name: self.plan.digests[str(p)] for p in overlays}

    def _pretrain(self, overlays: Sequence[str], seed: int, folder: Path) -> None:
        options = {"output_dir": str(folder), "weights": str(folder / "pretrained.pt"), "seed": seed, "resume": True}
        self._run(overlays, {**options, **self.plan.pretraining}, "pretrain")

    def _train(self, task: str, seed: int, start: str, size: int, draw: int, folder: Path) -> None:
        encoder = self.plan.folder(start, seed) / "pretraining" / "pretrained.pt"
        common = {"task": task, "model": str(folder / "model.pt"), "seed": seed, **self.plan.fine_tuning}
        weights = SCRATCH if start == SCRATCH else str(encoder)
        data = {"weights": weights, "size": size, "draw": draw, "output_dir": str(folder)}
        self._run([], {**common, **data}, "train")
        self._run([], {**common, "output_dir": str(folder / "test")}, "evaluate")

    def _run(self, overlays: Sequence[str], options: Mapping[str, Any], command: str) -> None:
        runnable = [self.plan.configs["train"]] if command == "evaluate" else []
        files = [*runnable, self.plan.configs[command], *map(Path, overlays), *map(Path, self.plan.overlays)]
        self.run_config(files, {"dataset_dir": str(self.plan.dataset_dir), **options}, command)

    def _probe(self, method: str, seed: int, draw: int, folder: Path) -> None:
        """Probe one method on every task, and say what its embedding knows of age and site."""
        torch.manual_seed(seed)
        setting = _ProbeSetting(self.plan)
        features = self._features(method, seed, setting)
        scores, tables = [], []
        for task in self.plan.tasks:
            records, trials = self._pool(task, draw)
            if method in self.plan.pretexts:
                refuse_overlap(self._weights(method, seed), [records[row] for row in trials[0].test], task)
            embedding = features(records)
            tables.append(_with_ids(embedding, records, task))
            scaling = SCALING.get(method, "overall")
            penalties = setting.values["voxel_penalties" if method == VOXELS else "penalties"]
            adjust = [] if method == KNOWN else setting.values["adjust"]
            parts = probing.probe_diagnosis(method, embedding, records, trials, penalties, scaling, adjust)
            scores.append(pd.concat(parts).assign(task=task))
        write_text(folder / "scores.csv", pd.concat(scores).to_csv(index=False))
        if method != KNOWN:
            self._describe(features, tables, folder, method)

    def _features(self, method: str, seed: int, setting: _ProbeSetting) -> Features:
        if method == KNOWN:
            return probing.covariates
        if method == VOXELS:
            return lambda records: probing.voxels(setting.batches(list(records)))
        encoder = setting.encoder
        if method in self.plan.pretexts:
            load_encoder(self._weights(method, seed), encoder)
        elif method == CALIBRATED:
            healthy = load_section(self.plan.datalist("pretraining"), "training")
            encoder = probing.calibrate(encoder, setting.batches(healthy), setting.values["device"])
        return lambda records: setting.embed(encoder, list(records))

    def _weights(self, method: str, seed: int) -> Path:
        return self.plan.folder(method, seed) / "pretraining" / "pretrained.pt"

    def _pool(self, task: str, draw: int) -> tuple[list[dict], list[Trial]]:
        sections = {name: load_section(self.plan.datalist(task), name) for name in ("training", "test")}
        assert_disjoint(sections)
        train, test = ([{**r, "section": name} for r in records] for name, records in sections.items())
        trials = draw_trials(train, test, self.plan.sizes, draw + 1, 0, task)
        return [*train, *test], [trial for trial in trials if trial.draw == draw]

    def _describe(
        self,
        features: Features,
        tables: Sequence[pd.DataFrame],
        folder: Path,
        method: str,
    ) -> None:
        """Write how well age and site are read from the embedding, and, of encoders, the embedding itself."""
        healthy = {name: load_section(self.plan.datalist("pretraining"), name) for name in ("training", "validation")}
        train, test = (features(records) for records in healthy.values())
        sites = [[r["site"] for r in records] for records in healthy.values()]
        accuracy = probing.probe_site(train, sites[0], test, sites[1])
        everybody = pd.concat(tables)
        outside = everybody[(everybody["label"] == 0) & (everybody["section"] == "test")]
        ages = [r["age"] for r in healthy["training"]]
        error = probing.probe_age(method, train, ages, _columns(outside), outside["age"])["mae"]
        known = {"site_accuracy": accuracy, "age_mae": error, "openbhb_score": openbhb_score(accuracy, float(error))}
        write_json(folder / "knowledge.json", known)
        if method != VOXELS:
            with replacing(folder / "embeddings.npz") as temporary:
                ids = {name: everybody[name].to_numpy(dtype=None if name in ("age", "label") else "U") for name in _IDS}
                np.savez_compressed(temporary, allow_pickle=False, embedding=_columns(everybody), **ids)


class _ProbeSetting:
    """What probe.yaml says with the plan's overlays and options: encoder, preprocessing and how to embed."""

    def __init__(self, plan: Plan) -> None:
        parser = ConfigParser.load_config_files([str(p) for p in (plan.configs["probe"], *plan.overlays)])
        self.parser = ConfigParser({**parser, **plan.probing})
        names = ("penalties", "voxel_penalties", "adjust", "pool", "precision", "device", "batch_size", "num_workers")
        self.values = {name: self.parser.get_parsed_content(name) for name in names}
        preprocessing = self.parser.get_parsed_content("preprocessing")
        self.batches = partial(batches, preprocessing, self.values["batch_size"], self.values["num_workers"])

    @property
    def encoder(self) -> Encoder:
        """The encoder as initialised, from torch's seed."""
        return self.parser.get_parsed_content("encoder")

    def embed(self, encoder: Encoder, records: list[dict]) -> np.ndarray:
        """Features of records."""
        options = {name: self.values[name] for name in ("device", "pool", "precision")}
        return probing.embed(encoder, self.batches(records), **options)


def _is_done(folder: Path, settings: Mapping[str, Any]) -> bool:
    path = folder / "settings.json"
    if not path.is_file():
        return False
    found = json.loads(path.read_text(encoding="utf-8"))
    wanted = json.loads(json.dumps(settings))
    if found != wanted:
        differing = [
            f"{k} {found.get(k)} → {wanted.get(k)}" for k in {**found, **wanted} if found.get(k) != wanted.get(k)
        ]
        raise ValueError(
            f"{folder} was made with other settings ({'; '.join(differing)}); give another output_dir, or delete it."
        )
    return True


def _with_ids(embedding: np.ndarray, records: Sequence[Mapping[str, Any]], task: str) -> pd.DataFrame:
    ids = pd.DataFrame({name: [r[name] for r in records] for name in _IDS if name != "task"})
    return pd.concat([ids.assign(task=task), pd.DataFrame(embedding).add_prefix("e")], axis=1)


def _columns(table: pd.DataFrame) -> np.ndarray:
    return table.filter(regex=r"^e\d+$").to_numpy(np.float32)
