"""What happens around training: monitors, and the best weights."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

import ignite.distributed as idist
import numpy as np
import pandas as pd
import torch
from ignite.engine import Engine, Events
from ignite.metrics import Metric
from monai.engines import Evaluator
from monai.handlers import from_engine
from torch import Tensor, nn

from bundle.checkpoints import save_weights
from bundle.distributed import in_order, share_buffers
from bundle.engines import ContrastivePrepareBatch
from bundle.files import write_text
from bundle.metrics import (
    age_errors,
    alignment,
    calibration_error,
    decisions,
    effective_rank,
    operating_point,
    site_balanced_accuracy,
    uniformity,
)

logger = logging.getLogger(__name__)


class ViewEpoch:
    """Tells the views which epoch it is, so that a subject's views change from epoch to epoch.

    Args:
        prepare_batch: of the trainer this handler is attached to.
    """

    def __init__(self, prepare_batch: ContrastivePrepareBatch) -> None:
        self.prepare_batch = prepare_batch

    def attach(self, engine: Engine) -> None:
        """Set the epoch whenever one starts."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Set the epoch."""
        self.prepare_batch.epoch = engine.state.epoch


class SameBuffers:
    """Lets several processes validate one network, with the first one's batch norm; attach to the evaluator.

    Args:
        network: of this process.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def attach(self, engine: Engine) -> None:
        """Share them before each validation."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:  # noqa: ARG002
        """Share them."""
        share_buffers(self.network)


class RepresentationMonitor(Metric):
    """Measures loss and representation on the validation subjects; attach to a `RepresentationInferer` evaluator.

    Sets `val_loss` (mean over subjects), `val_effective_rank`, and, where at least 25 subjects have a known age,
    `val_age_mae` (years, cross-validated ridge probe), and, where two sites have 5 subjects,
    `val_site_accuracy` (balanced, cross-validated). Embeddings are those of the volumes themselves.

    Args:
        loss_function: of the network's output and the target, the one that training uses.
        device: where the results of the iterations are kept.
    """

    _state_dict_all_req_keys = ()

    def __init__(self, loss_function: nn.Module, device: str | torch.device = "cpu") -> None:
        self.loss_function = loss_function
        super().__init__(device=device)

    def reset(self) -> None:
        """Forget the last validation."""
        self._kept: list[dict[str, Any]] = []

    def iteration_completed(self, engine: Any) -> None:
        """Keep what one batch showed."""
        self.update((engine.state.output, engine.state.batch))

    def update(self, output: tuple[Mapping[str, Any], Mapping[str, Any]]) -> None:
        """Keep what the evaluator computed of one batch."""
        predictions, batch = output
        seen = self.observe(predictions["pred"]["output"], predictions["label"])
        seen |= {"embedding": predictions["pred"]["embedding"], "age": torch.as_tensor(batch["age"])}
        self._kept.append({**seen, "site": list(batch["site"])})

    def everybody(self, name: str) -> Any:
        """Something of all validation subjects, of whatever process, in the datalist's order."""
        parts = [kept[name] for kept in self._kept]
        return in_order(torch.cat(parts) if isinstance(parts[0], Tensor) else [item for part in parts for item in part])

    def observe(self, output: Tensor, target: Tensor) -> dict[str, Any]:
        """What to keep of the network's output of one batch."""
        return {"loss": self.loss_function(output, target)[None] * len(target)}

    def losses(self, subjects: int) -> dict[str, Tensor]:
        """Quantities of the output of all batches together."""
        return {"val_loss": self.everybody("loss").sum() / subjects}

    def compute(self) -> dict[str, float]:
        """All quantities of the validation."""
        embedding = self.everybody("embedding")
        values = self.losses(len(embedding))
        if not (embedding.isfinite().all() and values["val_loss"].isfinite()):
            raise ValueError(
                "Training has diverged: the validation subjects' loss or embeddings are not finite. Resume from an "
                "earlier checkpoint with a lower `learning_rate`, or use `precision` float32."
            )
        values["val_effective_rank"] = effective_rank(embedding)
        return {name: float(value) for name, value in values.items()} | self._probes(embedding)

    def _probes(self, embedding: Tensor) -> dict[str, float]:
        features = embedding.double().cpu().numpy()
        ages = self.everybody("age").numpy()
        sites = np.array(self.everybody("site"))
        probes = {}
        if np.isfinite(ages).sum() >= 25:
            probes["val_age_mae"] = float(age_errors(features, ages).mean())
        if (np.unique(sites, return_counts=True)[1] >= 5).sum() >= 2:
            probes["val_site_accuracy"] = site_balanced_accuracy(features, sites)
        return probes

    def completed(self, engine: Engine, name: str) -> None:  # noqa: ARG002
        """Publish every quantity under its own name."""
        engine.state.metrics.update(self.compute())


class ContrastiveMonitor(RepresentationMonitor):
    """The monitor of contrastive losses, whose value depends on who is in a batch.

    Its `val_loss` is that of all validation subjects as one batch, so that it does not depend on the batch size; and it
    sets `val_alignment` and `val_uniformity` of the projections.
    """

    def observe(self, output: Tensor, target: Tensor) -> dict[str, Any]:
        """Keep the projections of both views and the metadata."""
        view_1, view_2 = output.chunk(2)
        return {"view_1": view_1, "view_2": view_2, "metadata": target}

    def losses(self, subjects: int) -> dict[str, Tensor]:  # noqa: ARG002
        """Loss, alignment and uniformity of all projections together."""
        view_1, view_2, metadata = (self.everybody(name) for name in ("view_1", "view_2", "metadata"))
        return {
            "val_loss": self.loss_function(torch.cat([view_1, view_2]), metadata),
            "val_alignment": alignment(view_1, view_2),
            "val_uniformity": uniformity(view_1),
        }


class OperatingPoint(Metric):
    """Judges a classifier's decisions and probabilities on all subjects of a run.

    Sets `val_threshold` (the probability from which on a subject is called a patient, chosen by the rule on these very
    subjects), `val_sensitivity`, `val_specificity` and `val_balanced_accuracy` there, and `val_calibration_error`.

    Args:
        rule: see `metrics.operating_point`; `probability=…` applies a threshold chosen elsewhere.
        device: of ignite's metric; results are kept on the CPU.
    """

    _state_dict_all_req_keys = ()

    def __init__(self, rule: str = "youden", device: str | torch.device = "cpu") -> None:
        operating_point([0, 1], [0.0, 1.0], rule)  # refuse another rule before training, not after
        self.rule = rule
        super().__init__(output_transform=from_engine(["pred", "label"]), device=device)

    def reset(self) -> None:
        """Forget the last run."""
        self._labels: list[Tensor] = []
        self._probabilities: list[Tensor] = []

    def update(self, output: tuple[Sequence[Tensor], Sequence[Tensor]]) -> None:
        """Keep the probabilities (2,) and one-hot labels (2,) of one batch."""
        self._probabilities += [p[1].detach() for p in output[0]]
        self._labels += [label[1] for label in output[1]]

    def compute(self) -> dict[str, float]:
        """All quantities."""
        labels = torch.stack(self._labels).cpu().numpy().astype(int)
        probabilities = torch.stack(self._probabilities).double().cpu().numpy()
        if not np.isfinite(probabilities).all():
            raise ValueError("Training has diverged: probabilities are not finite; lower `learning_rate`.")
        threshold = operating_point(labels, probabilities, self.rule)
        quality = {"threshold": threshold, **decisions(labels, probabilities, threshold)}
        quality["calibration_error"] = calibration_error(labels, probabilities)
        return {f"val_{name}": value for name, value in quality.items()}

    def completed(self, engine: Engine, name: str) -> None:  # noqa: ARG002
        """Publish every quantity under its own name."""
        engine.state.metrics.update(self.compute())


class PredictionWriter:
    """Writes `predictions.csv`: a row per image with ids, class names and probabilities; attach to the evaluator.

    Args:
        folder: of the table.
        class_names: of label 0 and label 1.
        threshold: probability of label 1 from which on it is predicted.
    """

    def __init__(self, folder: str | Path, class_names: Sequence[str], threshold: float) -> None:
        self.path, self.class_names, self.threshold = Path(folder) / "predictions.csv", list(class_names), threshold

    def attach(self, engine: Engine) -> None:
        """Keep every iteration's predictions and write them at the end."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.keep)
        engine.add_event_handler(Events.COMPLETED, self.write)

    def start(self, engine: Engine) -> None:  # noqa: ARG002
        """Forget the last run."""
        self._rows: list[dict[str, Any]] = []

    def keep(self, engine: Any) -> None:
        """Keep the rows of one decollated batch."""
        for record, output in zip(engine.state.batch, engine.state.output, strict=True):
            probabilities = output["pred"].double().tolist()
            row = {name: record[name] for name in ("participant_id", "session_id", "site")}
            row |= {"label": int(record["label"]), "diagnosis": self.class_names[int(record["label"])]}
            row |= {f"probability_{name}": p for name, p in zip(self.class_names, probabilities, strict=True)}
            self._rows.append({**row, "predicted": self.class_names[int(probabilities[1] >= self.threshold)]})

    def write(self, engine: Engine) -> None:  # noqa: ARG002
        """Write the table; of several processes, which all judge everybody, only the first."""
        if idist.get_rank() > 0:
            return
        write_text(self.path, pd.DataFrame(self._rows).to_csv(index=False, float_format="%.6f"))
        logger.info(f"{len(self._rows)} predictions: {self.path}")


class BestWeights:
    """Writes a module's weights and card whenever validation finds a new best; attach to the evaluator.

    Args:
        path: the `.pt` file.
        module: whose weights are written: an encoder, or a classifier.
        card: what to say of them; the epoch and the validation metrics are added.
        storage: see `checkpoints.save_weights`.
    """

    def __init__(self, path: str | Path, module: nn.Module, card: Mapping[str, Any], storage: str = "float32") -> None:
        self.path, self.module, self.card, self.storage = Path(path), module, dict(card), storage

    def attach(self, engine: Engine) -> None:
        """Look after each validation, once MONAI has compared it with the best."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Evaluator) -> None:
        """Write when this validation was the best; of several processes, only the first."""
        if engine.state.best_metric_epoch != engine.state.epoch or idist.get_rank() > 0:
            return
        metrics = {name: round(float(value), 6) for name, value in engine.state.metrics.items()}
        card = {**self.card, "epoch": engine.state.epoch, "validation": metrics}
        save_weights(self.path, self.module, card, self.storage)
        logger.info(f"Best so far ({engine.state.key_metric_name}): wrote {self.path}")


def mlflow_store(folder: str | Path) -> str:
    """The SQLite store `mlruns.db` in a folder, as MLflow's tracking URI.

    Args:
        folder: is made where it is missing; MLflow would refuse.

    Raises:
        ValueError: MLflow is not installed.
    """
    if find_spec("mlflow") is None:
        raise ValueError(
            "Tracking needs MLflow, which is not installed: `pip install mlflow`, or leave the overlay out."
        )
    Path(folder).mkdir(parents=True, exist_ok=True)
    database = Path(folder).absolute() / "mlruns.db"
    return f"sqlite:///{quote(database.as_posix(), safe='/:')}"
