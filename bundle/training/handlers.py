"""What happens around training: monitors, and the best weights."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

import ignite.distributed as idist
import pandas as pd
from ignite.engine import Engine, Events
from monai.engines import Evaluator
from torch import nn

from bundle.files import write_text
from bundle.hints import nearest
from bundle.networks.formats import refuse_twin
from bundle.networks.weights import save_weights
from bundle.training.distributed import share_buffers
from bundle.training.engines import ContrastivePrepareBatch

KEPT = ("best", "last")  # epochs whose weights stay
logger = logging.getLogger(__name__)


class ViewEpoch:
    """Tells the views which epoch it is, so that a subject's views change from epoch to epoch.

    Args:
        prepare_batch: Function of the trainer this handler is attached to.
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
        network: Network of this process.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def attach(self, engine: Engine) -> None:
        """Share them before each validation."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:  # noqa: ARG002
        """Share them."""
        share_buffers(self.network)


class PredictionWriter:
    """Writes `predictions.csv`: a row per image with ids, class names and probabilities; attach to the evaluator.

    Args:
        folder: Folder that receives the table.
        class_names: Names of label 0 and label 1.
        threshold: Probability of label 1 from which on it is predicted.
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
        path: The `.pt` or `.safetensors` file; refused where the other lies beside it.
        module: Module whose weights are written: an encoder, or a classifier.
        card: What to say of them; the epoch and the validation metrics are added.
        storage: Type of the stored numbers; see `networks.save_weights`.
        keep: `best`, or `last`: those of every validation are written, so that the last one's stay.

    Raises:
        ValueError: for another `keep`, or weights of the other format beside the file.
    """

    def __init__(
        self,
        path: str | Path,
        module: nn.Module,
        card: Mapping[str, Any],
        storage: str = "float32",
        keep: str = "best",
    ) -> None:
        if keep not in KEPT:
            raise ValueError(f"`keep` is {' or '.join(KEPT)}, but '{keep}' was given{nearest(keep, KEPT)}")
        self.path, self.module, self.card, self.storage = Path(path), module, dict(card), storage
        self.keep = keep
        refuse_twin(self.path)

    def attach(self, engine: Engine) -> None:
        """Look after each validation, once MONAI has compared it with the best."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Evaluator) -> None:
        """Write when this validation was the best, or the last; of several processes, only the first."""
        best = engine.state.best_metric_epoch == engine.state.epoch
        if idist.get_rank() > 0 or not (best or self.keep == "last"):
            return
        metrics = {name: rounded(name, float(value)) for name, value in engine.state.metrics.items()}
        card = {**self.card, "epoch": engine.state.epoch, "validation": metrics}
        save_weights(self.path, self.module, card, self.storage)
        logger.info(f"{'Best' if best else 'Last'} so far ({engine.state.key_metric_name}): wrote {self.path}")


def rounded(name: str, value: float) -> float:
    """A metric for the card; a threshold in full, since rounding it could change a decision.

    Args:
        name: Name of the metric.
        value: Value of it.
    """
    return value if name == "val_threshold" else round(value, 6)


def mlflow_store(folder: str | Path) -> str:
    """The SQLite store `mlruns.db` in a folder, as MLflow's tracking URI.

    Args:
        folder: Folder, which is made where it is missing; MLflow would refuse.

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
