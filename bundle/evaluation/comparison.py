"""Comparisons: each pretext, task, size and seed is run once, and a stopped comparison goes on where it was."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from monai.bundle import ConfigParser
from torch import nn

from bundle.cohort.datalist import load_section
from bundle.cohort.modality import require_modality
from bundle.cohort.overlap import refuse_overlap
from bundle.evaluation import knowledge
from bundle.evaluation.features import ADAPTED_TO, Images, write_embedding
from bundle.evaluation.harmonizing import Harmonizing
from bundle.evaluation.pipeline import Probe, Probed, probe_pools
from bundle.evaluation.plan import ALL, CALIBRATED, ENCODERS, SCRATCH, VOXELS, Plan
from bundle.evaluation.references import References
from bundle.evaluation.site_batch_norm import AGE_WITH_ADAPTED, SiteCopies
from bundle.evaluation.stored import reading
from bundle.evaluation.subjects import Pool, draw_pool, read_sections
from bundle.files import sha256, write_json, write_text
from bundle.metrics.representation import openbhb_score
from bundle.networks.lineage import refuse_ensemble
from bundle.networks.weights import architecture_of, load_encoder, network_of
from bundle.people import person_of
from bundle.provenance import code_digest

Run = Callable[[Sequence[Path], Mapping[str, Any], str], object]
NO_SCORES = pd.DataFrame(  # of a line that has nothing to read in any task
    columns=["participant_id", "session_id", "label", "method", "n", "draw", "score", "task"]
)
COST = "cost.json"  # of a unit: the seconds it took, since it was started last
CODE = ("networks", "pretext", "training")  # rooms whose code decides what a unit comes to
_Unit = tuple[str, Path, dict[str, Any], Callable[[Path], None]]
logger = logging.getLogger(__name__)


class Comparison:
    """Runs what a plan asks for and is not yet done.

    Args:
        plan: What to compare.
        run: Runs configs with options, as a command: (files, options, command).
    """

    def __init__(self, plan: Plan, run: Run) -> None:
        self.plan, self.run_config = plan, run
        self.code = code_digest(*CODE)

    def run(self) -> None:
        """Run every unit that is not done; of each, settings and results stay in a folder of its own.

        Raises:
            ValueError: before any work, when a unit was done with other settings or by other code of losses, views and
                networks, or subjects cannot be drawn.
        """
        units, missing = self._todo()
        logger.info(f"{len(units) - len(missing)} of {len(units)} runs are done.")
        for number, (name, folder, settings, work) in enumerate(missing, 1):
            logger.info(f"{number} of {len(missing)}: {name}")
            started = time.monotonic()
            work(folder)
            write_json(folder / COST, {"seconds": round(time.monotonic() - started, 3)})
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
        for probe in map(self._probe_with, [self.plan.probing, *map(self.plan.probing_of, self.plan.readings)]):
            how, pools = probe.harmonizing, self._all_pools()
            for pool in pools:
                probe.check(pool)
            if how:
                how.check_ages(*(self._section(name) for name in ("training", "validation")))
            if probe.adapting:
                probe.adapting.check_ages(pools, self._section("training"))
        self._refuse_without_batch_norm()
        self._refuse_seen()
        last = [self._pool(task, len(self.plan.seeds) - 1) for task in self.plan.tasks]
        self._references().check((pool.records, f"the task {pool.task}") for pool in last)
        units = list(self._units())
        return units, [unit for unit in units if not _is_done(unit[1], unit[2])]

    def _refuse_without_batch_norm(self) -> None:
        """Refuse, before any work, encoders that are to be adapted to sites and cannot be."""
        for method in self.plan.probed:
            if (origin := self.plan.adapted_of(method)) is not None:
                with torch.device("meta"):
                    encoder = self._initialised(origin)
                self._probe_with(self.plan.probing_of(method)).adapting.check_network(encoder, f"'{origin}'")

    def _refuse_seen(self) -> None:
        """Refuse, before any work, given weights that were trained on whom a task tests, or that are an ensemble."""
        for path in dict.fromkeys(self.plan.given_weights().values()):
            refuse_ensemble(path)
            for task in self.plan.tasks:
                refuse_overlap(path, self._pool(task, 0).tested, task)

    def _units(self) -> Iterator[_Unit]:
        """Name, folder, settings and work of every unit; later ones need earlier ones."""
        plan, given = self.plan, self.plan.given_weights()
        for draw, seed in enumerate(plan.seeds):
            for name in plan.pretexts:
                settings = self._settings(["pretraining"], **self._pretext_settings(name), seed=seed)
                folder = plan.folder(name, seed) / "pretraining"
                yield f"{name}, seed {seed}: pretraining", folder, settings, partial(self._pretrain, name, seed)
            for method in plan.probed:
                folder = plan.folder(method, seed) / "probe"
                settings = self._probe_settings(method, seed, draw)
                yield f"{method}, seed {seed}: probe", folder, settings, partial(self._probe, method, seed, draw)
            for name, task, size in plan.trainings():
                chosen = {"start": plan.networks[name], "size": size, "draw": draw}
                if name in given:
                    chosen["start"] = sha256(given[name])[:16]
                if overlays := plan.network_overlays.get(name):
                    chosen["overlays"] = self._digests(overlays)
                settings = self._settings([task], plan.fine_tuning, seed=seed, **chosen)
                folder = plan.folder(name, seed) / f"{task}_{size}"
                work = partial(self._train, name, task, seed, size, draw)
                yield f"{name}, seed {seed}: {task}, N = {size}", folder, settings, work

    def _settings(self, tasks: Sequence[str], options: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        digests = {t: sha256(self.plan.datalist(t))[:16] for t in tasks}
        known = {"datalists": digests, "scale": self._digests(self.plan.overlays), "options": dict(options)}
        return {**known, "code": self.code, **more}

    def _probe_settings(self, method: str, seed: int, draw: int) -> dict[str, Any]:
        chosen: dict[str, Any] = {"method": method, "seed": seed, "draw": draw, "sizes": list(self.plan.sizes)}
        if self.plan.diagnoses is not None:
            chosen["diagnoses"] = list(self.plan.diagnoses)
        pretraining, source = None, self.plan.source_of(method)
        if source in self.plan.pretexts:
            found = self._pretext_settings(source)
            pretraining = {**found.pop("options"), **found}
        chosen |= {"of": source} if source != method else {}
        options = {name: value for name, value in self.plan.probing_of(method).items() if name != "references"}
        files = {name: sha256(Path(options[name]))[:16] for name in ("atlas", "mask") if options.get(name)}
        chosen |= {"files": files} if files else {}
        return self._settings(["pretraining", *self.plan.tasks], options, pretraining=pretraining, **chosen)

    def _pretext_settings(self, name: str) -> dict[str, Any]:
        """What distinguishes a pretext: options, overlays, and the weights it starts from."""
        options = self.plan.options_of(name)
        begun = self.plan.given_weights().get(name)
        start = {"start": sha256(begun)[:16]} if begun else {}
        return {"options": options, "overlays": self._digests(self.plan.pretexts[name]), **start}

    def _digests(self, overlays: Sequence[str]) -> dict[str, str]:
        """What overlays say, by their names."""
        return {Path(p).name: self.plan.digests[str(p)] for p in overlays}

    def _pretrain(self, name: str, seed: int, folder: Path) -> None:
        options = {"output_dir": str(folder), "weights": str(folder / "pretrained.pt"), "seed": seed, "resume": True}
        self._run(self.plan.pretexts[name], {**options, **self.plan.options_of(name)}, "pretrain")

    def _train(self, name: str, task: str, seed: int, size: int | str, draw: int, folder: Path) -> None:
        begun = self.plan.start_file(self.plan.networks[name], seed, size)
        overlays = self.plan.network_overlays.get(name, [])
        common = {"task": task, "model": str(folder / "model.pt"), "seed": seed, **self.plan.fine_tuning}
        weights, drawn = SCRATCH if begun is None else str(begun), None if size == ALL else size
        data = {"weights": weights, "size": drawn, "draw": draw, "output_dir": str(folder)}
        data |= {"resume": True} if common.get("ensemble") else {}  # members that are trained are not trained again
        own = begun is None or "network_def" in self.plan.fine_tuning
        self._run(overlays, {**({} if own or begun is None else architecture_of(begun)), **common, **data}, "train")
        stated = {} if own else network_of(folder / "model.pt")
        self._run(overlays, {**stated, **common, "output_dir": str(folder / "test")}, "evaluate")

    def _run(self, overlays: Sequence[str], options: Mapping[str, Any], command: str) -> None:
        runnable = [self.plan.configs["train"]] if command == "evaluate" else []
        files = [*runnable, self.plan.configs[command], *map(Path, overlays), *map(Path, self.plan.overlays)]
        places = {"dataset_dir": str(self.plan.dataset_dir), "device": self.plan.device}
        self.run_config(files, {**places, **reading(command, self.plan.stored), **options}, command)

    def _probe(self, method: str, seed: int, draw: int, folder: Path) -> None:
        """Probe one method on every task, and say what its embedding knows of age and site."""
        torch.manual_seed(seed)
        options, origin = self.plan.probing_of(method), self.plan.source_of(method)
        parser = self._parser("probe", options)
        images, probe = (parser.get_parsed_content(f"study#{name}") for name in ("images", "probe"))
        pools = [self._pool(task, draw) for task in self.plan.tasks]
        if origin in self.plan.pretexts:
            weights = self._weights(origin, seed)
            require_modality([self.plan.datalist(task) for task in self.plan.tasks], weights)
            for pool in pools:
                refuse_overlap(weights, pool.tested, pool.task)
        encoder = self._encoder(origin, seed, images)
        source = self._references().sources()[origin] if encoder is None else images.encoder(encoder)
        copies = None
        if encoder is not None and self.plan.adapted_of(method) is not None:
            if origin in self.plan.pretexts:
                probe.adapting.check_statistics(encoder, f"'{origin}', seed {seed},")
            copies = SiteCopies(images, {origin: encoder})
        probed = list(probe_pools(images, probe, {origin: source}, pools, copies))
        self._say_site_effects(probe, copies is not None, folder)
        scores = pd.concat([p.scores for p in probed] or [NO_SCORES]).assign(method=method)
        write_text(folder / "scores.csv", scores.to_csv(index=False))
        if callable(source):
            people = [record for pool in pools for record in pool.records]
            features = partial(images.features, {origin: source})
            self._describe(origin, features, probed, people, probe.harmonizing, folder)

    def _say_site_effects(self, probe: Probe, adapted: bool, folder: Path) -> None:
        """Write how site effects were taken out, where they were."""
        pools = self._all_pools()
        sentence = probe.harmonizing.sentence((pool.records, pool.trials) for pool in pools)
        if adapted:
            sentence = probe.adapting.sentence(pools, AGE_WITH_ADAPTED)
        if sentence:
            write_text(folder / "site_effects.md", f"{sentence}\n")

    def _probe_with(self, options: Mapping[str, Any]) -> Probe:
        """How features are probed with some options."""
        return self._parser("probe", options).get_parsed_content("study#probe")

    def _parser(self, command: str, options: Mapping[str, Any], overlays: Sequence[str] = ()) -> ConfigParser:
        """What a config says with some overlays, the plan's, and options."""
        files = [str(p) for p in (self.plan.configs[command], *overlays, *self.plan.overlays)]
        stored = reading("probe", self.plan.stored)
        return ConfigParser({**ConfigParser.load_config_files(files), "device": self.plan.device, **stored, **options})

    def _references(self) -> References:
        """The lines that need no encoder, and what they read."""
        probing = {**self.plan.probing, "references": list(self.plan.references)}
        return self._parser("probe", probing).get_parsed_content("study#references")

    def _encoder(self, method: str, seed: int, images: Images) -> nn.Module | None:
        """The encoder of a method; None where it has none."""
        if method in self.plan.pretexts:
            return load_encoder(self._weights(method, seed)).encoder
        if method not in ENCODERS:
            return None
        encoder = self._initialised(method)
        return images.calibrate(encoder, self._section("training")) if method == CALIBRATED else encoder

    def _initialised(self, method: str) -> nn.Module:
        """The encoder of a pretext, or of the references, before anything is learned, from torch's seed."""
        overlays, options = [], self.plan.pretraining
        if method in self.plan.pretexts:
            overlays, options = list(self.plan.pretexts[method]), self.plan.options_of(method)
        return self._parser("pretrain", options, overlays).get_parsed_content("encoder")

    def _weights(self, method: str, seed: int) -> Path:
        return self.plan.folder(method, seed) / "pretraining" / "pretrained.pt"

    def _pool(self, task: str, draw: int) -> Pool:
        sections = read_sections(self.plan.datalist(task), ("training", "test"), self.plan.stored is not None)
        everybody = len({person_of(record["participant_id"]) for record in sections["training"]})
        sizes = [everybody if size == ALL else int(size) for size in self.plan.sizes]
        return draw_pool(task, sections, sizes, draw + 1, 0).of_draw(draw)

    def _section(self, name: str) -> list[dict]:
        """A section of the datalist of pretraining."""
        return load_section(self.plan.datalist("pretraining"), name, cached=self.plan.stored is not None)

    def _all_pools(self) -> list[Pool]:
        return [self._pool(task, draw) for task in self.plan.tasks for draw in range(len(self.plan.seeds))]

    def _describe(
        self,
        method: str,
        features: Callable[[Sequence[dict]], dict],
        probed: Sequence[Probed],
        people: Sequence[dict],
        how: Harmonizing,
        folder: Path,
    ) -> None:
        """Write how well age and site are read from the embedding, and, of encoders, the embedding itself."""
        healthy = [self._section(name) for name in ("training", "validation")]
        train, test = (features(records)[method] for records in healthy)
        ids, embedding = pd.concat([p.ids for p in probed]), np.concatenate([p.features for p in probed])
        accuracy = np.nan  # of sites that nobody adapts to; where those who are tested are adapted to
        if ADAPTED_TO not in ids:
            accuracy = knowledge.probe_site(train, healthy[0], test, healthy[1], how)
        of_disease = ids["task"].isin(self.plan.tasks if self.plan.diagnoses is None else self.plan.diagnoses)
        outside = ((ids["label"] == 0) & (ids["section"] == "test") & of_disease).to_numpy()
        away = knowledge.Aged.of(embedding[outside], [people[row] for row in np.flatnonzero(outside)])
        error = np.nan
        if len(away.ages):
            error = float(knowledge.probe_age(method, knowledge.Aged.of(train, healthy[0]), away, how)["mae"])
        known = {"site_accuracy": accuracy, "age_mae": error, "openbhb_score": openbhb_score(accuracy, error)}
        write_json(folder / "knowledge.json", known)
        if method != VOXELS:
            write_embedding(folder / "embeddings.npz", ids.drop(columns="session_id"), embedding)


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
