"""From scans to a table: what the contract says of them, and what a classifier does."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from ignite.engine import Engine, Events
from ignite.handlers import ProgressBar
from monai.engines.utils import IterationEvents
from monai.utils import CommonKeys
from torch import Tensor, nn

from bundle.cohort.overlap import id_digest
from bundle.files import write_text
from bundle.hints import nearest
from bundle.hub import located
from bundle.networks.architecture import stated_network
from bundle.networks.cards import classifier_card
from bundle.networks.classifiers import Classifier
from bundle.networks.ensembles import ensemble_in, with_spread
from bundle.networks.export import load_onnx
from bundle.networks.formats import weights_digest
from bundle.networks.weights import load_network
from bundle.prediction.incoming import preparations
from bundle.prediction.judgement import CANNOT, FAR, GIVEN, NOT_CALIBRATED, REASONS, SILENT, Scale, distance_check
from bundle.prediction.listing import file_of
from bundle.prediction.output import EMBEDDINGS, TABLE, AnswerFolder, Index
from bundle.prediction.regions import regions_table
from bundle.prediction.training_record import TrainingRecord, load_record
from bundle.scans.contract import PASS, REFUSE, WARN, Contract
from bundle.scans.modality import Modality
from bundle.scans.nifti import is_phantom
from bundle.scans.profile import modality_of_profile

BACKENDS = ("torch", "onnx")
EMBEDDING = "embedding"  # of an output of the evaluator, beside "pred"
SPREAD = "ensemble_spread"  # the same, and a column, of an ensemble
logger = logging.getLogger(__name__)

COARSE = (40, 48, 40)  # of configs/resolution_4mm.yaml


@dataclass(frozen=True)
class Model:
    """A classifier and everything that is known of it.

    Attributes:
        classifier: Gives logits, and by `both` logits and embedding.
        card: Card; see `networks.classifier_card`.
        record: What training showed.
        path: Path of the weights.
    """

    classifier: nn.Module
    card: Mapping[str, Any]
    record: TrainingRecord
    path: Path

    @property
    def modality(self) -> Modality:
        """The kind of maps that it was trained on."""
        return modality_of_profile(self.card.get("contract") or {})

    @property
    def columns(self) -> dict[str, str]:
        """How the table names the model."""
        version = str(self.card.get("version", "")) or str(self.card.get("made_by", {}).get("commit", ""))
        return {
            "model": str(self.card.get("name", self.path.stem)),
            "model_version": version,
            "model_sha256": self.sha256,
            **({"adapted_to": self.adapted_to} if self.adapted_to else {}),
        }

    @property
    def adapted_to(self) -> str:
        """How many scans of another site gave it its batch-norm statistics, and their digest; empty: none."""
        said = self.card.get("adaptation", {})
        return f"{said['scans']} scans, {said['digest']}" if said else ""

    @property
    def sha256(self) -> str:
        """Of the weights."""
        return str(self.card.get("sha256") or weights_digest(self.path))


def load_model(path: str | Path, network: nn.Module, backend: str = "torch") -> Model:
    """Load a classifier with its card and its record.

    Args:
        path: The file of weights.
        network: MONAI's DenseNet, filled in place; where the card says another architecture, a new one takes its place.
        backend: `torch`, or `onnx`: computed by onnxruntime from the `.onnx` file beside the weights.

    Raises:
        ValueError: when one of the files is missing, damaged, or another model's.
    """
    if backend not in BACKENDS:
        raise ValueError(f"No backend is named '{backend}'{nearest(backend, BACKENDS)}")
    path = located(path)
    card = classifier_card(path)
    network = stated_network(path, card.get("network", {}), network)
    if backend != "torch" and ensemble_in(network):
        raise ValueError(
            f"{path} is an ensemble, and its ONNX file gives the mean of its members without their spread; take "
            "--backend torch."
        )
    load_network(path, network)
    classifier = Classifier(network) if backend == "torch" else load_onnx(path, card)
    return Model(classifier.eval(), card, load_record(path), path)


def predict_and_embed(engine: Any, batch: Any) -> dict[str, Any]:
    """An evaluator's step that keeps the embedding beside the prediction, so that nobody has to ask for it later.

    Args:
        engine: MONAI's evaluator, whose network is a `Classifier`.
        batch: Batch of the data loader.

    Returns:
        What MONAI's own step returns, and `embedding` (N, E); of an ensemble also `ensemble_spread` (N,).
    """
    volumes, targets, *_ = engine.prepare_batch(batch, engine.state.device, engine.non_blocking, **engine.to_kwargs)
    with engine.mode(engine.network):
        logits, embedding, spread = with_spread(engine.network, volumes)
    engine.state.output = {
        CommonKeys.IMAGE: volumes,
        CommonKeys.LABEL: targets,
        CommonKeys.PRED: logits,
        EMBEDDING: embedding,
        **({} if spread is None else {SPREAD: spread}),
    }
    engine.fire_event(IterationEvents.FORWARD_COMPLETED)
    engine.fire_event(IterationEvents.MODEL_COMPLETED)
    return engine.state.output


class PredictionTable:
    """Writes `predictions.csv`, a row per scan in the order they were given; attach to the evaluator.

    Args:
        records: Records of the dataset.
        model: Model whose predictions they are.
        folder: Folder that receives the table.
        augmentations: Slightly moved and noisy copies of each scan; `uncertainty` is the standard deviation of the
            calibrated probability (of the network's own, where that is not calibrated) over them and the scan itself.
        embeddings: Also write `embeddings.tsv`.
        prevalence: Share of patients in the clinic; None: as among the validation subjects.
        existing: What becomes of answers that lie in the folder, see `output.AnswerFolder`.
    """

    def __init__(
        self,
        records: Sequence[Mapping[str, Any]],
        model: Model,
        folder: str | Path,
        augmentations: int = 2,
        embeddings: bool = False,
        prevalence: float | None = None,
        existing: str = "refuse",
    ) -> None:
        self.scale = Scale.of(model.record, model.card["validation"], prevalence)
        self.answers, self.model = AnswerFolder(folder, existing), model
        self.records = self.answers.named(records)
        self.augmentations, self.embeddings = augmentations, embeddings
        self.table, self.embedding, self.regions = pd.DataFrame(), pd.DataFrame(), pd.DataFrame()
        self.checks: list[list[dict[str, Any]]] = []
        self.shown: dict[str, dict[str, Any]] = {}  # by name, what pages show of scans that came as DICOM

    def attach(self, engine: Engine) -> None:
        """Keep every iteration's predictions and write them at the end."""
        ProgressBar(desc="Predicting").attach(engine)
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.keep)
        engine.add_event_handler(Events.COMPLETED, self.write)

    def start(self, engine: Engine) -> None:  # noqa: ARG002
        """Forget the last run, and make sure that the table can be written before anything is computed."""
        write_text(self.answers.path / ".writable", "")
        (self.answers.path / ".writable").unlink()
        self._rows: list[dict[str, Any]] = []
        self._embeddings: list[Tensor] = []

    def check(self) -> None:
        """Refuse before anything is computed what the folder may not take."""
        self.answers.check(self.model.sha256, self.scale.prevalence, self.model.adapted_to)

    def keep(self, engine: Any) -> None:
        """Keep the rows of one decollated batch."""
        probabilities = torch.stack([output["pred"] for output in engine.state.output])[:, 1].double().cpu()
        self._embeddings += [torch.stack([output[EMBEDDING] for output in engine.state.output]).float().cpu()]
        volumes = torch.stack([torch.as_tensor(item["image"]) for item in engine.state.batch]).to(engine.state.device)
        require_shape(self.model, tuple(volumes.shape[1:]))
        copies = perturbed_probabilities(self.model.classifier, volumes, self.augmentations)
        spread = self.scale.spread(torch.cat([probabilities[None], copies]).numpy())
        outputs = engine.state.output
        for item, output, probability, deviation in zip(
            engine.state.batch, outputs, probabilities, spread, strict=True
        ):
            kept = {name: item[name] for name in ("verdict", "reasons", "checks", "digest", "volumes")}
            kept |= {SPREAD: float(output[SPREAD])} if SPREAD in output else {}
            self._rows.append({**kept, "probability": float(probability), "uncertainty": float(deviation)})

    def write(self, engine: Engine) -> None:  # noqa: ARG002
        """Make the table and say how many scans were refused; it is written at once where it replaces nothing."""
        embedding = torch.cat(self._embeddings).numpy()
        table = prediction_table(self.records, pd.DataFrame(self._rows), embedding, self.model, self.scale)
        table["file"] = [file_of(record) for record in self.records]
        known = {"name": [record["name"] for record in self.records], **preparations(self.records)}
        for place, (column, texts) in enumerate(known.items(), start=2):
            table.insert(place, column, texts)
        accepted = (table["verdict"] != REFUSE).to_numpy()
        own = [[asdict(distance_check(place))] if place >= 0 else [] for place in table["distance_percentile"]]
        self.checks = [[*json.loads(row["checks"]), *more] for row, more in zip(self._rows, own, strict=True)]
        values = pd.DataFrame(embedding).add_prefix("e")
        self.embedding = pd.concat([table[["participant_id", "file"]], values], axis=1)[accepted]
        self.table = table
        volumes, modality = np.array([row["volumes"] for row in self._rows]), self.model.modality
        self.regions = regions_table(self.records, table, volumes, self.model.record, modality)
        refused = table[~accepted]
        logger.info(f"{len(table) - len(refused)} of {len(table)} scans: {self.answers.path / TABLE}")
        for row in refused.itertuples():
            logger.warning(f"Refused {row.file}: {row.reasons}")
        if self.answers.existing == "refuse":
            self.publish()

    def publish(self, index: Index | None = None, wanted: Sequence[str] = ()) -> None:
        """Bring table, embeddings, and what is staged into the folder; see `output.AnswerFolder.publish`."""
        wanted = [*wanted, *([EMBEDDINGS] if self.embeddings else [])]
        self.answers.publish(self.table, self.embedding, index, wanted, self.regions)

    @property
    def refused(self) -> int:
        """How many scans were refused."""
        return int((self.table["verdict"] == REFUSE).sum())


def require_shape(model: Model, found: tuple[int, ...]) -> None:
    """Refuse volumes of another shape than those of the training; says which overlay is missing, or too many.

    Args:
        model: Model that is to see them.
        found: (C, D, H, W) after preprocessing.

    Raises:
        ValueError: when they differ.
    """
    trained = model.record.healthy.shape
    if found == trained:
        return
    grid = Contract(model.card.get("contract")).grid.shape
    if trained[1:] == COARSE:
        advice = "give --config configs/resolution_4mm.yaml, with which it was trained"
    elif trained[1:] == grid:
        advice = "leave the overlay of the preprocessing out: --config"
    else:
        advice = "give the overlay of its training, --config FILE, or train it again: then its card says it"
    raise ValueError(
        f"{model.path} was trained on volumes of {trained}, but preprocessing gives {found}, and its card does not "
        f"say how the training images were preprocessed; {advice}."
    )


def prediction_table(
    records: Sequence[Mapping[str, Any]], rows: pd.DataFrame, embedding: np.ndarray, model: Model, scale: Scale
) -> pd.DataFrame:
    """Everything the table says of each scan; a refused scan has its reasons and no numbers.

    Where the model cannot answer, there is neither a call nor a calibrated probability.

    Args:
        records: Records, as `list_scans` makes them.
        rows: `verdict`, `reasons`, `digest`, `probability` (of class 1) and `uncertainty` of each; of an ensemble also
            `ensemble_spread`.
        embedding: Embedding of each.
        model: Model whose they are.
        scale: Scale of its probabilities.

    Shape:
        rows N, embedding (N, E).
    """
    names, probability = model.card["class_names"], rows["probability"].to_numpy()
    ages = np.array([r["age"] for r in records], dtype=float)
    judged = pd.DataFrame({f"probability_{names[0]}": 1 - probability, f"probability_{names[1]}": probability})
    judged["predicted"] = np.where(probability >= scale.threshold, names[1], names[0])
    judged["calibrated_probability"] = scale.probability(probability) if scale.is_calibrated else np.nan
    judged["uncertainty"] = rows["uncertainty"]
    if SPREAD in rows:
        judged[SPREAD] = rows[SPREAD]
    judged = pd.concat([judged, model.record.embeddings.compare(embedding, ages)], axis=1)
    answered = (rows["verdict"] != REFUSE).to_numpy()
    judged = judged.where(np.broadcast_to(answered[:, None], judged.shape))
    reasons = own_reasons(records, rows, judged["distance_percentile"], model, scale)
    silent = np.array([bool(set(SILENT) & set(found)) for found in reasons])
    for name in ("predicted", "calibrated_probability"):
        judged[name] = judged[name].mask(silent)
    ids = pd.DataFrame(
        {"participant_id": [r["participant_id"] for r in records], "file": [r["image"] for r in records]}
    )
    ids = ids.assign(**with_reasons(rows, reasons))
    ids["answer"] = np.where(silent, CANNOT, GIVEN if scale.is_calibrated else NOT_CALIBRATED)
    ids["answer"] = ids["answer"].where(answered, "")
    table = pd.concat([ids, judged], axis=1)
    positive, negative = scale.predictive_values()
    for name, value in {"prevalence": scale.prevalence, "ppv": positive, "npv": negative}.items():
        table[name] = np.where(answered & ~silent, value, np.nan)
    constants: dict[str, Any] = {"calibration": scale.words, **model.columns}
    return table.assign(**{name: [value] * len(table) for name, value in constants.items()})


def own_reasons(
    records: Sequence[Mapping[str, Any]], rows: pd.DataFrame, percentile: pd.Series, model: Model, scale: Scale
) -> list[list[str]]:
    """What the model itself has against an answer, by names of `judgement.REASONS`, of each scan that is not refused.

    Args:
        records: Records, as `list_scans` makes them.
        rows: `verdict` and `digest` of each.
        percentile: Percentile of the distance of each embedding.
        model: Model that would answer.
        scale: Scale of its probabilities.
    """
    known = {kind: set(model.card.get("fingerprints", {}).get(kind, ())) for kind in ("participants", "images")}
    demonstration = bool(model.card.get("warning"))
    found: list[list[str]] = []
    for record, row, place in zip(records, rows.itertuples(), percentile, strict=True):
        phantom = is_phantom(record["image"])
        holds = {
            "far": place > FAR,
            "demonstration": demonstration and not phantom,
            "phantom": phantom and not demonstration,
            "chance": scale.slope == 0,
            "image": row.digest in known["images"],
            "adapted": "adaptation" in model.card,
            "participant": row.digest not in known["images"] and id_digest(record) in known["participants"],
        }
        found.append([name for name, there in holds.items() if there] if row.verdict != REFUSE else [])
    return found


def with_reasons(rows: pd.DataFrame, reasons: Sequence[Sequence[str]]) -> dict[str, list[str]]:
    """Verdict and reasons, once it is known what the model itself has against an answer.

    Args:
        rows: `verdict` and `reasons` of each scan.
        reasons: Reasons of `own_reasons`.
    """
    said = [[REASONS[name] for name in found] for found in reasons]
    verdicts = [
        WARN if more and verdict == PASS else verdict for verdict, more in zip(rows["verdict"], said, strict=True)
    ]
    joined = [" | ".join(filter(None, [*more, first])) for first, more in zip(rows["reasons"], said, strict=True)]
    return {"verdict": verdicts, "reasons": joined}


def perturbed_probabilities(network: Callable[[Tensor], Tensor], volumes: Tensor, copies: int) -> Tensor:
    """Probability of class 1 for slightly moved and noisy copies; a copy's change depends on its number alone.

    Args:
        network: Gives logits.
        volumes: Preprocessed.
        copies: How many of each.

    Shape:
        volumes (N, C, D, H, W), output (copies, N), float64 on the CPU.
    """
    found = [torch.empty(0, len(volumes), dtype=torch.float64)]
    with torch.no_grad():
        for number in range(copies):
            generator = torch.Generator().manual_seed(number)
            shift = torch.randint(-1, 2, (3,), generator=generator).tolist()
            noise = torch.randn(volumes.shape[1:], generator=generator).to(volumes.device)
            moved = torch.roll(volumes, shift, (2, 3, 4)) + 0.05 * noise
            found.append(network(moved).softmax(1)[None, :, 1].double().cpu())
    return torch.cat(found)
