"""From scans to a table: what the contract says of them, and what a classifier does."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from ignite.engine import Engine, Events
from ignite.handlers import ProgressBar
from monai.data import Dataset, MetaTensor
from monai.engines.utils import IterationEvents
from monai.transforms import Compose
from monai.utils import CommonKeys, convert_to_tensor
from torch import Tensor, nn

from bundle.cohort.overlap import id_digest, voxel_digest
from bundle.files import sha256, write_text
from bundle.hints import nearest
from bundle.networks.classifiers import Classifier
from bundle.networks.export import load_onnx
from bundle.networks.weights import classifier_card, load_network
from bundle.prediction.judgement import CANNOT, FAR, GIVEN, NOT_CALIBRATED, REASONS, Scale
from bundle.prediction.listing import list_scans
from bundle.prediction.training_record import TrainingRecord, load_record
from bundle.scans.contract import PASS, REFUSE, WARN, Contract, Examination
from bundle.scans.grid import templates
from bundle.scans.nifti import is_phantom

BACKENDS = ("torch", "onnx")
EMBEDDING = "embedding"  # of an output of the evaluator, beside "pred"
logger = logging.getLogger(__name__)

PLACED = 2  # steps of a preprocessing that load a file and place it on the grid, which the contract has done


class CheckedDataset(Dataset):
    """Scans that the contract has looked at, ready for a network; none is left out.

    A refused scan becomes an empty volume, so that it keeps its place in a batch; its verdict says so.

    Args:
        data: records of `list_scans`.
        contract: examines each scan and brings it onto the model's grid.
        transform: preprocessing of the model; its first two steps load a file and place it, which the contract does.
    """

    def __init__(self, data: Sequence[Mapping[str, Any]], contract: Contract, transform: Compose) -> None:
        super().__init__(data, transform)
        self.contract = contract
        templates(contract.grid)  # loaded before the workers are forked

    def __getitem__(self, index: int) -> dict[str, Any]:  # type: ignore[override]
        """One scan: `image`, `index`, `verdict`, `reasons`, `checks` (JSON) and `digest` of its voxels."""
        seen = self.contract.examine(self.data[index]["image"])
        checks = json.dumps([asdict(check) for check in seen.checks])
        digest = "" if seen.scan is None else voxel_digest(seen.scan.volume)
        found = {"verdict": seen.verdict, "reasons": " | ".join(seen.reasons), "checks": checks, "digest": digest}
        return {"image": self.preprocess(seen), "index": index, **found}

    def preprocess(self, seen: Examination) -> Tensor:
        """What the network sees of a scan, (1, D, H, W); nothing of a refused one."""
        grid = self.contract.grid
        accepted = seen.volume is not None and seen.verdict != REFUSE
        volume = seen.volume if accepted else np.zeros(grid.shape, np.float32)
        image = MetaTensor(torch.as_tensor(volume)[None], affine=torch.as_tensor(grid.matrix))
        return convert_to_tensor(self.transform({"image": image}, start=PLACED)["image"], track_meta=False)


# What the classifier says


@dataclass(frozen=True)
class Model:
    """A classifier and everything that is known of it.

    Attributes:
        classifier: gives logits, and by `both` logits and embedding.
        card: see `networks.classifier_card`.
        record: what training showed.
        path: of the weights.
    """

    classifier: nn.Module
    card: Mapping[str, Any]
    record: TrainingRecord
    path: Path

    @property
    def columns(self) -> dict[str, str]:
        """How the table names the model."""
        version = str(self.card.get("version", "")) or str(self.card.get("made_by", {}).get("commit", ""))
        return {
            "model": str(self.card.get("name", self.path.stem)),
            "model_version": version,
            "model_sha256": self.sha256,
        }

    @property
    def sha256(self) -> str:
        """Of the weights."""
        return str(self.card.get("sha256") or sha256(self.path))


def load_model(path: str | Path, network: nn.Module, backend: str = "torch") -> Model:
    """Load a classifier with its card and its record.

    Args:
        path: the `.pt` file.
        network: MONAI's DenseNet, filled in place.
        backend: `torch`, or `onnx`: computed by onnxruntime from the `.onnx` file beside the weights.

    Raises:
        ValueError: when one of the files is missing, damaged, or another model's.
    """
    if backend not in BACKENDS:
        raise ValueError(f"No backend is named '{backend}'{nearest(backend, BACKENDS)}")
    path = Path(path)
    card = classifier_card(path)
    load_network(path, network)
    classifier = Classifier(network) if backend == "torch" else load_onnx(path, card)
    return Model(classifier.eval(), card, load_record(path), path)


def count_refused(folder: str | Path) -> int:
    """How many scans of a written table were refused."""
    return int((pd.read_csv(Path(folder) / "predictions.csv")["verdict"] == REFUSE).sum())


def check_scans(sources: Sequence[str | Path], contract: Contract, output: Path | None = None) -> int:
    """Examine scans and say what was found of each.

    Args:
        sources: see `list_scans`.
        contract: what they are compared with.
        output: a table (.tsv) of every check; None writes none.

    Returns:
        How many were refused.
    """
    rows, refused = [], 0
    for record in [record for source in sources for record in list_scans(source)]:
        seen = contract.examine(record["image"])
        refused += seen.verdict == REFUSE
        sys.stdout.write("\n  ".join([f"{record['image']}: {seen.verdict}", *seen.reasons]) + "\n")
        rows += [
            {"participant_id": record["participant_id"], "file": record["image"], **asdict(c)} for c in seen.checks
        ]
    if output is not None:
        write_text(output, pd.DataFrame(rows).to_csv(index=False, sep="\t"))
    return refused


def predict_and_embed(engine: Any, batch: Any) -> dict[str, Any]:
    """An evaluator's step that keeps the embedding beside the prediction, so that nobody has to ask for it later.

    Args:
        engine: MONAI's evaluator, whose network is a `Classifier`.
        batch: of the data loader.

    Returns:
        What MONAI's own step returns, and `embedding` (N, E).
    """
    volumes, targets, *_ = engine.prepare_batch(batch, engine.state.device, engine.non_blocking, **engine.to_kwargs)
    with engine.mode(engine.network):
        logits, embedding = engine.network.both(volumes)
    engine.state.output = {
        CommonKeys.IMAGE: volumes,
        CommonKeys.LABEL: targets,
        CommonKeys.PRED: logits,
        EMBEDDING: embedding,
    }
    engine.fire_event(IterationEvents.FORWARD_COMPLETED)
    engine.fire_event(IterationEvents.MODEL_COMPLETED)
    return engine.state.output


class PredictionTable:
    """Writes `predictions.csv`, a row per scan in the order they were given; attach to the evaluator.

    Args:
        records: of the dataset.
        model: whose predictions they are.
        folder: of the table.
        augmentations: slightly moved and noisy copies of each scan; `uncertainty` is the standard deviation of the
            calibrated probability (of the network's own, where that is not calibrated) over them and the scan itself.
        embeddings: also write `embeddings.tsv`.
        prevalence: share of patients in the clinic; None: as among the validation subjects.
    """

    def __init__(
        self,
        records: Sequence[Mapping[str, Any]],
        model: Model,
        folder: str | Path,
        augmentations: int = 2,
        embeddings: bool = False,
        prevalence: float | None = None,
    ) -> None:
        self.scale = Scale.of(model.record, model.card["validation"], prevalence)
        self.records, self.model, self.folder = records, model, Path(folder)
        self.augmentations, self.embeddings = augmentations, embeddings
        self.table = pd.DataFrame()
        self.checks: list[list[dict[str, Any]]] = []

    def attach(self, engine: Engine) -> None:
        """Keep every iteration's predictions and write them at the end."""
        ProgressBar(desc="Predicting").attach(engine)
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.keep)
        engine.add_event_handler(Events.COMPLETED, self.write)

    def start(self, engine: Engine) -> None:  # noqa: ARG002
        """Forget the last run, and make sure that the table can be written before anything is computed."""
        write_text(self.folder / ".writable", "")
        (self.folder / ".writable").unlink()
        self._rows: list[dict[str, Any]] = []
        self._embeddings: list[Tensor] = []

    def keep(self, engine: Any) -> None:
        """Keep the rows of one decollated batch."""
        probabilities = torch.stack([output["pred"] for output in engine.state.output])[:, 1].double().cpu()
        self._embeddings += [torch.stack([output[EMBEDDING] for output in engine.state.output]).float().cpu()]
        volumes = torch.stack([torch.as_tensor(item["image"]) for item in engine.state.batch]).to(engine.state.device)
        self._require_shape(tuple(volumes.shape[1:]))
        copies = perturbed_probabilities(self.model.classifier, volumes, self.augmentations)
        spread = self.scale.spread(torch.cat([probabilities[None], copies]).numpy())
        for item, probability, deviation in zip(engine.state.batch, probabilities, spread, strict=True):
            kept = {name: item[name] for name in ("verdict", "reasons", "checks", "digest")}
            self._rows.append({**kept, "probability": float(probability), "uncertainty": float(deviation)})

    def _require_shape(self, found: tuple[int, ...]) -> None:
        trained = self.model.record.healthy.shape
        if found != trained:
            raise ValueError(
                f"The network was trained on volumes of {trained}, but preprocessing gives {found}; "
                "give the overlays it was trained with, such as --config configs/resolution_4mm.yaml."
            )

    def write(self, engine: Engine) -> None:  # noqa: ARG002
        """Write the table, and say how many scans were refused."""
        self.checks = [json.loads(row["checks"]) for row in self._rows]
        embedding = torch.cat(self._embeddings).numpy()
        self.table = prediction_table(self.records, pd.DataFrame(self._rows), embedding, self.model, self.scale)
        write_text(self.folder / "predictions.csv", self.table.to_csv(index=False, float_format="%.6g"))
        if self.embeddings:
            self._write_embeddings(embedding)
        refused = self.table[self.table["verdict"] == REFUSE]
        logger.info(f"{len(self.table) - len(refused)} of {len(self.table)} scans: {self.folder / 'predictions.csv'}")
        for row in refused.itertuples():
            logger.warning(f"Refused {row.file}: {row.reasons}")

    def _write_embeddings(self, embedding: np.ndarray) -> None:
        accepted = (self.table["verdict"] != REFUSE).to_numpy()
        values = pd.DataFrame(embedding).add_prefix("e")
        table = pd.concat([self.table[["participant_id", "file"]], values], axis=1)[accepted]
        write_text(self.folder / "embeddings.tsv", table.to_csv(index=False, sep="\t", float_format="%.6g"))


def prediction_table(
    records: Sequence[Mapping[str, Any]], rows: pd.DataFrame, embedding: np.ndarray, model: Model, scale: Scale
) -> pd.DataFrame:
    """Everything the table says of each scan; a refused scan has its reasons and no numbers.

    Where the model cannot answer, there is neither a call nor a calibrated probability.

    Args:
        records: of `list_scans`.
        rows: `verdict`, `reasons`, `digest`, `probability` (of class 1) and `uncertainty` of each.
        embedding: of each.
        model: whose they are.
        scale: of its probabilities.

    Shape:
        rows N, embedding (N, E).
    """
    names, probability = model.card["class_names"], rows["probability"].to_numpy()
    ages = np.array([r["age"] for r in records], dtype=float)
    judged = pd.DataFrame({f"probability_{names[0]}": 1 - probability, f"probability_{names[1]}": probability})
    judged["predicted"] = np.where(probability >= scale.threshold, names[1], names[0])
    judged["calibrated_probability"] = scale.probability(probability) if scale.is_calibrated else np.nan
    judged["uncertainty"] = rows["uncertainty"]
    judged = pd.concat([judged, model.record.embeddings.compare(embedding, ages)], axis=1)
    answered = (rows["verdict"] != REFUSE).to_numpy()
    judged = judged.where(np.broadcast_to(answered[:, None], judged.shape))
    reasons = own_reasons(records, rows, judged["distance_percentile"], model, scale)
    silent = np.array([bool({"far", "demonstration", "chance"} & set(found)) for found in reasons])
    for name in ("predicted", "calibrated_probability"):
        judged[name] = judged[name].mask(silent)
    ids = pd.DataFrame(
        {"participant_id": [r["participant_id"] for r in records], "file": [r["image"] for r in records]}
    )
    ids = ids.assign(**_with_reasons(rows, reasons))
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
        records: of `list_scans`.
        rows: `verdict` and `digest` of each.
        percentile: of the distance of each embedding.
        model: that would answer.
        scale: of its probabilities.
    """
    known = {kind: set(model.card.get("fingerprints", {}).get(kind, ())) for kind in ("participants", "images")}
    demonstration = bool(model.card.get("warning"))
    found: list[list[str]] = []
    for record, row, place in zip(records, rows.itertuples(), percentile, strict=True):
        holds = {
            "far": place > FAR,
            "demonstration": demonstration and not is_phantom(record["image"]),
            "chance": scale.slope == 0,
            "image": row.digest in known["images"],
            "participant": row.digest not in known["images"] and id_digest(record) in known["participants"],
        }
        found.append([name for name, there in holds.items() if there] if row.verdict != REFUSE else [])
    return found


def _with_reasons(rows: pd.DataFrame, reasons: Sequence[Sequence[str]]) -> dict[str, list[str]]:
    """Verdict and reasons, once it is known what the model itself has against an answer."""
    said = [[REASONS[name] for name in found] for found in reasons]
    verdicts = [
        WARN if more and verdict == PASS else verdict for verdict, more in zip(rows["verdict"], said, strict=True)
    ]
    joined = [" | ".join(filter(None, [*more, first])) for first, more in zip(rows["reasons"], said, strict=True)]
    return {"verdict": verdicts, "reasons": joined}


def perturbed_probabilities(network: Callable[[Tensor], Tensor], volumes: Tensor, copies: int) -> Tensor:
    """Probability of class 1 for slightly moved and noisy copies; a copy's change depends on its number alone.

    Args:
        network: gives logits.
        volumes: preprocessed.
        copies: how many of each.

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
