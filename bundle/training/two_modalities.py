"""A batch of two modalities becomes views of both, and what validation measures of both encoders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bundle.metrics.representation import alignment, effective_rank, uniformity
from bundle.networks.two_modalities import ModalityBatch, TwoModalityNetwork, placed
from bundle.training.distributed import world_size
from bundle.training.engines import ContrastivePrepareBatch, PrecisionInferer
from bundle.training.monitors import RepresentationMonitor, require_finite
from bundle.training.readiness import require_network

MAPS = ("image", "second_image")  # of a batch, with `there` (N, 2): which of them are maps and not placeholders
PREFIXES = ("", "second_")  # of what is measured of each modality


class TwoModalityPrepareBatch(ContrastivePrepareBatch):
    """Turns a batch of two modalities into two views of every map that is there, on the device.

    The views of the two maps of a person are drawn apart, so that nothing is cut out of both at one place. Those of the
    first modality are what they would be without a second one.

    Args:
        views: Draws two views of each volume, for example `bundle.pretext.views.TwoViews`.
        keep_original: Append the volumes themselves after the views (validation embeds them).
        target: Always `metadata`.

    Shape:
        batch["image"] (N, C, D, H, W), batch["second_image"] (N, C', D', H', W'), batch["there"] (N, 2),
        batch["metadata"] (N, M); output: a `ModalityBatch` of 2N rows, or 3N with the originals, and (N, M + 2),
        metadata and what is there.

    Raises:
        ValueError: for another target.
    """

    def __init__(self, views: Any, keep_original: bool = False, target: str = "metadata") -> None:
        super().__init__(views, keep_original, target)
        if target != "metadata":
            raise ValueError(f"The target of two modalities is metadata, but '{target}' was given; leave it out.")

    def __call__(  # type: ignore[override]
        self,
        batchdata: Mapping[str, Any],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[ModalityBatch, Tensor]:
        """Views and target of one batch."""
        there = batchdata["there"].bool()
        copies = 3 if self.keep_original else 2
        parts, rows = [], []
        for number, name in enumerate(MAPS):
            people = there[:, number].nonzero()[:, 0]
            maps = batchdata[name] if len(people) == len(there) else batchdata[name][people]
            volumes = maps.to(device=device, non_blocking=non_blocking, **kwargs)
            parts.append(self._views(volumes, self._keys(batchdata, people, name)) if len(people) else volumes)
            rows.append(torch.cat([people + copy * len(there) for copy in range(copies)]))
        metadata = batchdata["metadata"]
        target = torch.cat([metadata, there.to(metadata)], dim=1).to(device=device, non_blocking=non_blocking)
        return ModalityBatch(parts[0], parts[1], rows[0], rows[1], copies * len(there)), target

    def _keys(self, batchdata: Mapping[str, Any], people: Tensor, name: str) -> list[str]:
        ids = [f"{batchdata['participant_id'][i]}/{batchdata['session_id'][i]}" for i in people.tolist()]
        return ids if name == MAPS[0] else [f"{each}/{name}" for each in ids]

    def _views(self, volumes: Tensor, keys: list[str]) -> Tensor:
        views = self.views(volumes, keys, self.epoch)
        return torch.cat([views, volumes]) if self.keep_original else views


def require_two_networks(network: TwoModalityNetwork, images: Sequence[Mapping[str, Any]], smallest_batch: int) -> None:
    """Refuse a network that halves a volume of one of the modalities more often than it can be halved.

    Args:
        network: A `TwoModalityNetwork`.
        images: The training data set; each item has `image` and `second_image`.
        smallest_batch: Volumes of the smallest batch of an epoch.

    Raises:
        ValueError: see `readiness.require_network`.
    """
    item = images[0]
    for name, one in zip(MAPS, network.networks, strict=True):
        require_network(one, [{"image": item[name]}], smallest_batch)


def require_two_files(weights: str | Path, second_weights: str | Path) -> None:
    """Refuse one file for two encoders, and several processes, which would have different maps in a step.

    Args:
        weights: File of the first encoder.
        second_weights: File of the second encoder.

    Raises:
        ValueError: when they are the same, or several processes train.
    """
    if Path(weights).resolve() == Path(second_weights).resolve():
        raise ValueError(
            f"`weights` and `second_weights` are both {weights}: the second encoder would replace the first. Give each "
            "a file of its own."
        )
    if world_size() > 1:
        raise ValueError(
            f"Two modalities are trained by one process, but {world_size()} were started: somebody may lack a map, so "
            "that processes would have different layers to average in a step. Leave configs/multi_gpu_pretrain.yaml "
            "out; `micro_batch` saves memory."
        )


class TwoModalityInferer(PrecisionInferer):
    """Gives what the loss sees of the views, and both encoders' embeddings of the maps themselves, for validation.

    Shape:
        inputs a `ModalityBatch` of 3N rows: first views, second views, originals; output {"output": (2N, 2, D),
        "embedding": (N, E), "second_embedding": (N, E')}, all float32, 0 where a modality is lacking.
    """

    def compute(self, inputs: ModalityBatch, network: Any, *args: Any, **kwargs: Any) -> dict[str, Tensor]:  # type: ignore[override]  # noqa: ARG002
        """Output of views and embeddings of originals."""
        network = getattr(network, "module", network)
        people = inputs.rows // 3
        seen, found = [], {}
        for number, encoder in enumerate((network.encoder, network.second_encoder)):
            volumes, rows = inputs.parts[number]
            views, originals = volumes.tensor_split([len(volumes) // 3 * 2])
            seen.append((views, rows[: len(views)]))
            made = placed(encoder, originals, rows[len(views) :] - 2 * people, people)
            size = encoder.embedding_size
            found[f"{PREFIXES[number]}embedding"] = volumes.new_zeros((people, size)) if made is None else made.float()
        (first, first_rows), (second, second_rows) = seen
        output = network(ModalityBatch(first, second, first_rows, second_rows, 2 * people))
        return {"output": output.float(), **found}


class TwoModalityMonitor(RepresentationMonitor):
    """Measures the loss and both encoders on the validation subjects; attach to a `TwoModalityInferer` evaluator.

    Its `val_loss` is that of all validation subjects as one batch. `val_alignment` is that of a person's two maps, of
    those who have both, and `val_uniformity` that of the modality whose projections are spread out less. What
    `RepresentationMonitor` measures of an encoder is measured of both, on those who have the modality; the second
    modality's quantities begin with `val_second_`.
    """

    def update(self, output: tuple[Mapping[str, Any], Mapping[str, Any]]) -> None:
        """Keep what the evaluator computed of one batch."""
        predictions, batch = output
        seen = dict(predictions["pred"])
        view_1, view_2 = seen.pop("output").chunk(2)
        seen |= {"view_1": view_1, "view_2": view_2, "target": predictions["label"]}
        seen |= {"age": torch.as_tensor(batch["age"]), "site": list(batch["site"])}
        self._kept.append({**seen, "participant_id": list(batch["participant_id"])})

    def compute(self) -> dict[str, float]:
        """All quantities of the validation."""
        target = self.everybody("target")
        there = target[:, -len(MAPS) :].bool()
        embeddings = [self.everybody(f"{prefix}embedding")[there[:, n]] for n, prefix in enumerate(PREFIXES)]
        values = self._of_projections(target, there)
        require_finite(values["val_loss"], *embeddings)
        for number, prefix in enumerate(PREFIXES):
            values[f"val_{prefix}effective_rank"] = effective_rank(embeddings[number])
            rows = there[:, number].cpu().numpy()
            values |= {
                name.replace("val_", f"val_{prefix}", 1): value
                for name, value in self.probes(embeddings[number], rows).items()
            }
        return {name: float(value) for name, value in values.items()}

    def _of_projections(self, target: Tensor, there: Tensor) -> dict[str, Any]:
        view_1, view_2 = self.everybody("view_1"), self.everybody("view_2")
        both = view_1[there.all(1)]
        spread = [uniformity(view_1[there[:, number], number]) for number in range(len(MAPS))]
        return {
            "val_loss": self.loss_function(torch.cat([view_1, view_2]), target),
            "val_alignment": alignment(both[:, 0], both[:, 1]),
            "val_uniformity": max(spread, key=float),
        }
