"""The probe of a pretrained encoder: scores, tables and figures, in the paper's form."""

from __future__ import annotations

import copy
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from bundle.cohort.datalist import phantom_of
from bundle.cohort.modality import require_modality
from bundle.cohort.overlap import refuse_overlap
from bundle.cohort.regrid import require_grid
from bundle.evaluation import figures, knowledge, layers, probing
from bundle.evaluation.centring import CENTRED, NEEDS, centred_scores, require_people_of_sites
from bundle.evaluation.classifier_figures import predicted_ages
from bundle.evaluation.features import ADAPTED_TO, Images, embedding_table, ids_of, write_embedding
from bundle.evaluation.harmonizing import of_ages
from bundle.evaluation.knowledge import Aged
from bundle.evaluation.pipeline import Probe, probe_pools
from bundle.evaluation.plan import CALIBRATED, KNOWN, RANDOM, REGIONS, slug
from bundle.evaluation.references import References, Source, features_of_records
from bundle.evaluation.side_by_side import SideBySide, put_side_by_side
from bundle.evaluation.site_batch_norm import AS_PRETRAINED, SiteCopies
from bundle.evaluation.subjects import Pool, Subjects
from bundle.evaluation.unknown import not_read
from bundle.files import write_json, write_text
from bundle.networks.architecture import in_channels_of, require_in_channels
from bundle.networks.blocks import LAST, Layers, chosen_blocks, number_of_blocks
from bundle.networks.weights import load_encoder
from bundle.provenance import provenance

Embedded = tuple[pd.DataFrame, np.ndarray]  # whose rows they are, and the features
WITH_ADAPTED = (
    "So is everybody in the age probe. The random encoder as initialised, which has no statistics of data, and the "
    "lines of no encoder are as without it."
)
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pretrained:
    """The encoder that is probed.

    Args:
        encoder: Encoder, as pretrained; filled from `weights`.
        random_encoder: The same architecture as initialised, for reference; a copy with batch norm calibrated on the
            pretraining volumes is the second reference (see `features.calibrate`).
        weights: File written by pretraining.
        method: Name of the pretrained encoder in tables and figures.
        allow_overlap: Go on, with a warning, when test subjects were in the pretraining.
        layers: Blocks that are probed: `last`, `all`, or numbers beside the last; see `networks.blocks.block_maps`.
    """

    encoder: nn.Module
    random_encoder: nn.Module
    weights: str | Path
    method: str = "y-Aware"
    allow_overlap: bool = False
    layers: Layers = LAST

    @property
    def blocks(self) -> list[int]:
        """The blocks before the last that are probed, from 1 on."""
        return chosen_blocks(self.encoder, self.layers)


class ProbeStudy:
    """Probes a pretrained encoder on diagnoses and age, beside the references it has to beat.

    Writes to `output_dir`: `scores.csv` (a row per test image, draw, N, method and task), `results.csv` (ROC-AUC
    per draw), `summary.csv`, `age.csv`, `age_predictions.csv` with `age.png`, `table.md`, `learning_curves.png`,
    `embeddings_<method>.npz` and `.tsv` (with participant ids), and `provenance.json`; where several blocks are probed
    also `layers.csv`, `layers.md` and `layers.png`.

    Args:
        pretrained: What is probed.
        subjects: Whom it is probed on.
        images: How images become features.
        probe: How features are probed.
        output_dir: Folder that receives tables and figures.
        note: A line that tables and figures carry; a phantom's datalist adds that it is one.
        references: What the encoder has to beat; None: every line.
        centre_sites: Also write `summary_centred_within_site.csv`, of scores less the mean of their site, and show it
            in `table.md` beside the plain numbers; see `centring`.
        modality: Modality that an overlay says the datalists have; None: whatever they state.
    """

    def __init__(
        self,
        pretrained: Pretrained,
        subjects: Subjects,
        images: Images,
        probe: Probe,
        output_dir: str | Path,
        note: str = "",
        references: References | None = None,
        centre_sites: bool = False,
        modality: Any = None,
    ) -> None:
        self.pretrained, self.subjects, self.images, self.probe = pretrained, subjects, images, probe
        self.output_dir, self.note, self.centre_sites = Path(output_dir), note, centre_sites
        self.references, self.modality = references or References(images), modality
        load_encoder(pretrained.weights, pretrained.encoder)

    def check(self) -> None:
        """Refuse subjects who cannot be probed, or whom the encoder was pretrained on, before anything is written.

        Blocks that the encoder does not have are refused, too.
        """
        chosen_blocks(self.pretrained.encoder, self.pretrained.layers)
        if self.centre_sites and self.subjects.protocol == "folds":
            raise ValueError(
                "`centre_sites` is of the protocols draws and sites: in folds, people of one site are tested by "
                "different models, whose scores have no common mean. Leave it out, or take another protocol."
            )
        require_modality(
            self.subjects.every_datalist, self.pretrained.weights, self.modality, self.images.preprocessing
        )
        how = self.probe.harmonizing
        adapting = self.probe.adapting
        adapting.check_network(self.pretrained.encoder, str(self.pretrained.weights))
        adapting.check_statistics(self.pretrained.encoder, str(self.pretrained.weights))
        for pool in self.pools:
            self.probe.check(pool)
            require_people_of_sites(pool.tested, f"the task {pool.task}", self.centre_sites)
            require_grid(pool.records, f"the task {pool.task}", self.pretrained.weights)
            refuse_overlap(self.pretrained.weights, pool.tested, pool.task, self.pretrained.allow_overlap)
        how.check_ages(*self.subjects.of_age())
        if (in_channels_of(self.pretrained.encoder) or 1) > 1:  # of weights without a card
            volume = self.images.preprocessing(dict(self.pools[0].records[0]))["image"]
            require_in_channels(self.pretrained.encoder, volume.shape[0], f"the task {self.pools[0].task}")
        aged = [record for part in self.subjects.of_age() for record in part]
        require_grid(aged, "the age probe", self.pretrained.weights)
        tasks = [(pool.records, f"the task {pool.task}") for pool in self.pools]
        self.references.check([*tasks, (aged, "the age probe")])

    @cached_property
    def pools(self) -> list[Pool]:
        """The subjects of every task."""
        return self.subjects.pools()

    def run(self) -> None:
        """Embed, probe, and write tables and figures; the subjects have been checked."""
        pools, networks = self.pools, self._networks()
        encoders, copies = self._encoders(networks), self._copies(networks)
        embedded: dict[str, list[Embedded]] = {m: [] for m, one in encoders.items() if not isinstance(one, SideBySide)}
        scores = []
        for probed in probe_pools(self.images, self.probe, {**encoders, **self._references()}, pools, copies):
            scores.append(probed.scores)
            if probed.method in embedded:
                embedded[probed.method].append((probed.ids, probed.features))
        ages = self._probe_age(encoders, embedded)
        for method, parts in embedded.items():
            self._write_embedding(method, parts)
        found = pd.concat(scores)
        self._write_tables(found, probing.summarize(found, RANDOM, self.subjects.seed), ages)

    def _references(self) -> dict[str, Source]:
        """What gives the features of each reference that is no encoder, in the tasks."""
        return self.references.sources()

    def _age_references(self) -> dict[str, Source]:
        """The same in the age probe."""
        return self.references.of_age()

    def _networks(self) -> dict[str, nn.Module]:
        """The pretrained encoder and the references that are encoders."""
        given = self.pretrained
        encoders = {given.method: given.encoder, RANDOM: given.random_encoder}
        if CALIBRATED in self.references.asked:
            encoders[CALIBRATED] = self.images.calibrate(self._initialised(given), self.subjects.healthy())
        return encoders

    def _encoders(self, networks: Mapping[str, nn.Module]) -> Mapping[str, Any]:
        """What gives the features of the encoders."""
        return layers.extractors_of(self.images, networks, self.pretrained.blocks)

    def _copies(self, networks: Mapping[str, nn.Module]) -> SiteCopies | None:
        """What gives those of encoders with statistics of data, adapted to the sites that are tested."""
        known = {method: network for method, network in networks.items() if method != RANDOM}
        return SiteCopies(self.images, known, self.pretrained.blocks) if self.probe.adapting else None

    @staticmethod
    def _initialised(given: Pretrained) -> nn.Module:
        """The encoder as initialised, a copy of its own."""
        return copy.deepcopy(given.random_encoder)

    def _probe_age(self, encoders: Mapping[str, Any], embedded: Mapping[str, list[Embedded]]) -> pd.DataFrame:
        if self.subjects.age_datalist is None:
            return pd.DataFrame(columns=["method", "mae", "low", "high", "n_test"])
        train, test = self.subjects.of_age()
        sources = {**encoders, **self._age_references()}
        known, new = (features_of_records(self.images, sources, records, "the age probe") for records in (train, test))
        put_side_by_side(sources, known, slice(None), new)
        rows, predicted = [], {}
        for method in [name for name in sources if name in known]:
            logger.info(f"age: probing {method}")
            tested = Aged.of(new[method], test)
            fitted, how = Aged.of(known.pop(method), train), self.probe.harmonizing
            predicted[method] = knowledge.predicted_ages(fitted, tested, how, each=method == REGIONS)
            rows.append(knowledge.age_errors_of(method, predicted[method], tested.ages, tested.people))
        self._write_ages(predicted, [record for record in test if not np.isnan(record["age"])])
        for method, parts in embedded.items():
            parts.append((ids_of(test, "age"), new[method]))
        nothing, unknown = (Aged.of(np.zeros((len(records), 1)), records) for records in (train, test))
        mean_age = knowledge.probe_age("mean age", nothing, unknown)
        return pd.DataFrame([*rows, mean_age])

    def _write_ages(self, predicted: Mapping[str, np.ndarray], records: Sequence[Mapping]) -> None:
        """Write the predicted ages of test subjects as `age_predictions.csv`, and draw them against the true ones."""
        ids = {name: [record[name] for record in records] for name in ("participant_id", "session_id", "age")}
        table = pd.concat([pd.DataFrame(ids).assign(method=name, predicted=ages) for name, ages in predicted.items()])
        write_text(self.output_dir / "age_predictions.csv", table.to_csv(index=False, float_format="%.6g"))
        note = str(phantom_of(self.subjects.datalists).get("warning", ""))
        predicted_ages(self.output_dir / "age.png", {name: table[table["method"] == name] for name in predicted}, note)

    def _write_embedding(self, method: str, parts: Sequence[Embedded]) -> None:
        """Write embeddings as `.npz` (arrays by name, `embedding` and the columns) and as `.tsv`."""
        ids, features = pd.concat([p for p, _ in parts], ignore_index=True), np.concatenate([p for _, p in parts])
        ids = ids.fillna({ADAPTED_TO: AS_PRETRAINED})  # in the age probe
        path = self.output_dir / f"embeddings_{slug(method)}.npz"
        write_embedding(path, ids, features)
        write_text(path.with_suffix(".tsv"), embedding_table(ids, features))

    def _write_tables(self, scores: pd.DataFrame, summary: pd.DataFrame, ages: pd.DataFrame) -> None:
        phantom, adjusted = phantom_of(self.subjects.datalists), self.probe.adjusted(self.pools)
        harmonized = self.probe.harmonizing.sentence(
            [*((pool.records, pool.trials) for pool in self.pools), of_ages(*self.subjects.of_age())]
        )
        adapted = self.probe.adapting.sentence(self.pools, WITH_ADAPTED)
        unread = ""
        if KNOWN in self.references.asked:
            unread = not_read({pool.task: [pool.records[row] for row in pool.training] for pool in self.pools})
        note = " ".join(filter(None, [self.note, phantom.get("warning", ""), harmonized, adapted, adjusted, unread]))
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
        if self.centre_sites:
            text += f"\n{self._write_centred(scores)}"
            write_text(self.output_dir / "table.md", text)
        if more := self._further(scores, ages):
            text += f"\n{more}"
            write_text(self.output_dir / "table.md", text)
        if self.pretrained.blocks:
            text += f"\n{self._write_layers(summary, ages, note)}"
        figure = self.output_dir / "learning_curves.png"
        figures.learning_curves(figure, summary, phantom.get("best_auc"), note)
        made_from = {"weights": str(Path(self.pretrained.weights))}
        write_json(self.output_dir / "provenance.json", provenance(self.subjects.seed, made_from))
        sys.stdout.write(f"\n{text}\nTable: {self.output_dir / 'table.md'}\nFigure: {figure}\n")

    def _further(self, scores: pd.DataFrame, ages: pd.DataFrame) -> str:  # noqa: ARG002
        """What a study of another kind adds to the tables."""
        return ""

    def _write_centred(self, scores: pd.DataFrame) -> str:
        """Write the summary of scores centred within site, and give it as text."""
        within = centred_scores(scores, {pool.task: pool.records for pool in self.pools})
        summary = probing.summarize(within, RANDOM, self.subjects.seed)
        write_text(self.output_dir / f"summary_{CENTRED}.csv", summary.to_csv(index=False))
        head = f"ROC-AUC of scores centred within site (95 % interval). {NEEDS}"
        return f"{head}\n\n{figures.diagnosis_table(summary)}\n"

    def _write_layers(self, summary: pd.DataFrame, ages: pd.DataFrame, note: str) -> str:
        """Write what each block reads."""
        given = self.pretrained
        methods, last = [given.method, RANDOM], number_of_blocks(given.encoder)
        return layers.write_layers(
            self.output_dir, layers.layers_table(summary, ages, methods, given.blocks, last), note
        )


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
