"""What validation measures: the loss, what the embedding knows, and where a patient begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine
from ignite.metrics import Metric
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score
from torch import Tensor, nn

from bundle.metrics.classification import calibration_error, decisions, operating_point, roc_auc
from bundle.metrics.representation import (
    age_errors,
    alignment,
    effective_rank,
    large_sites,
    site_balanced_accuracy,
    uniformity,
)
from bundle.people import mean_of_each, person_codes
from bundle.training.distributed import in_order

LEAST_OF_KNOWN_AGE = 25  # people, below whom no age is probed


class RepresentationMonitor(Metric):
    """Measures loss and representation on the validation subjects; attach to a `RepresentationInferer` evaluator.

    Sets `val_loss` (mean over subjects), `val_effective_rank`, and, where the age of at least 25 people is known,
    `val_age_mae` (years, cross-validated ridge probe), and, where two sites have 5 people,
    `val_site_accuracy` (balanced, cross-validated); folds never divide a participant. Embeddings are those of the
    volumes themselves.

    Args:
        loss_function: Loss of the network's output and the target, the one that training uses.
        device: Device on which the results of the iterations are kept.
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
        self._kept.append({**seen, "site": list(batch["site"]), "participant_id": list(batch["participant_id"])})

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
        require_finite(values["val_loss"], embedding)
        values["val_effective_rank"] = effective_rank(embedding)
        return {name: float(value) for name, value in values.items()} | self.probes(embedding)

    def probes(self, embedding: Tensor, rows: NDArray | slice = slice(None)) -> dict[str, float]:
        """What linear probes read of embeddings.

        Args:
            embedding: Embeddings of some of everybody.
            rows: Rows that they are of.

        Shape:
            embedding (n, E), rows (N,) with n true.
        """
        features = embedding.double().cpu().numpy()
        ages = self.everybody("age").numpy()[rows]
        sites = np.array(self.everybody("site"))[rows]
        people = person_codes(np.array(self.everybody("participant_id"), dtype=object)[rows].tolist())
        probes = {}
        if len(np.unique(people[np.isfinite(ages)])) >= LEAST_OF_KNOWN_AGE:
            probes["val_age_mae"] = float(age_errors(features, ages, people).mean())
        if len(large_sites(sites, people)) > 1:
            probes["val_site_accuracy"] = site_balanced_accuracy(features, sites, people)
        return probes

    def completed(self, engine: Engine, name: str) -> None:  # noqa: ARG002
        """Publish every quantity under its own name."""
        engine.state.metrics.update(self.compute())


def require_finite(loss: Tensor, *embeddings: Tensor) -> None:
    """Refuse to go on with a network that has diverged.

    Args:
        loss: Loss of the validation subjects.
        embeddings: Their embeddings.

    Raises:
        ValueError: when any value is not finite.
    """
    if not (all(bool(found.isfinite().all()) for found in embeddings) and loss.isfinite()):
        raise ValueError(
            "Training has diverged: the validation subjects' loss or embeddings are not finite. Resume from an "
            "earlier checkpoint with a lower `learning_rate`, or use `precision` float32."
        )


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


class _PerParticipant(Metric):
    """What a classifier says of each participant: the mean probability over all their scans."""

    _state_dict_all_req_keys = ()

    def reset(self) -> None:
        """Forget the last run."""
        self._kept: list[tuple[str, int, Tensor]] = []

    def iteration_completed(self, engine: Any) -> None:
        """Keep what one decollated batch showed."""
        self.update((engine.state.output, engine.state.batch))

    def update(self, output: tuple[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]]]) -> None:
        """Keep participant, label and probabilities (2,) of each scan of a batch."""
        for found, record in zip(*output, strict=True):
            self._kept.append((record["participant_id"], int(record["label"]), found["pred"][1].detach()))

    def people(self) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Label and probability of each participant; patient if ever.

        Raises:
            ValueError: when a probability is not finite.
        """
        ids, labels, probabilities = zip(*self._kept, strict=True)
        found = torch.stack(probabilities).double().cpu().numpy()
        if not np.isfinite(found).all():
            raise ValueError("Training has diverged: probabilities are not finite; lower `learning_rate`.")
        people = person_codes(ids)
        truth = np.zeros(people.max() + 1, dtype=np.intp)
        np.maximum.at(truth, people, np.array(labels, dtype=np.intp))
        return truth, mean_of_each(found, people)


class ParticipantAUC(_PerParticipant):
    """ROC-AUC over participants, each with the mean probability over all their scans; a key metric for MONAI.

    Args:
        device: Device of ignite's metric; results are kept on the CPU.
    """

    def compute(self) -> float:
        """The ROC-AUC."""
        return float(roc_auc(*self.people()))


class OperatingPoint(_PerParticipant):
    """Judges a classifier's decisions and probabilities on all participants of a run.

    A participant counts once, with the mean probability over all scans. Sets `val_threshold` (the probability from
    which on somebody is called a patient, chosen by the rule on these very participants), `val_sensitivity`,
    `val_specificity` and `val_balanced_accuracy` there, `val_average_precision`, and `val_calibration_error`.

    Args:
        rule: Rule; see `metrics.operating_point`; `probability=…` applies a threshold chosen elsewhere.
        device: Device of ignite's metric; results are kept on the CPU.
    """

    def __init__(self, rule: str = "youden", device: str | torch.device = "cpu") -> None:
        operating_point([0, 1], [0.0, 1.0], rule)  # refuse another rule before training, not after
        self.rule = rule
        super().__init__(device=device)

    def compute(self) -> dict[str, float]:
        """All quantities."""
        labels, probabilities = self.people()
        threshold = operating_point(labels, probabilities, self.rule)
        quality = {"threshold": threshold, **decisions(labels, probabilities, threshold)}
        quality["average_precision"] = float(average_precision_score(labels, probabilities))
        quality["calibration_error"] = calibration_error(labels, probabilities)
        return {f"val_{name}": value for name, value in quality.items()}

    def completed(self, engine: Engine, name: str) -> None:  # noqa: ARG002
        """Publish every quantity under its own name."""
        engine.state.metrics.update(self.compute())
