"""How a batch becomes views and a network's output, for MONAI's stock trainer and evaluator."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch
from monai.engines import Trainer
from monai.engines.utils import PrepareBatch
from monai.inferers import SimpleInferer
from torch import Tensor

from bundle.names import nearest

PRECISIONS = ("float32", "bfloat16", "auto")
TARGETS = ("metadata", "volumes")
logger = logging.getLogger(__name__)


class ContrastivePrepareBatch(PrepareBatch):
    """Turns a batch of volumes into views and what the loss needs beside their output, on the device.

    Args:
        views: draws two views of each volume, for example `bundle.views.TwoViews`.
        keep_original: append the volumes themselves after the views (validation embeds them).
        target: what the loss compares the network's output with: `metadata`, or the `volumes` themselves.

    Shape:
        batch["image"] (N, C, D, H, W), batch["metadata"] (N, M), batch["intensity"] (N, 2) of cached volumes;
        output: volumes (2N, C, D, H, W), or (3N, C, D, H, W) with the originals, and metadata (N, M) or the volumes
        (N, C, D, H, W).

    Raises:
        ValueError: for another target.
    """

    def __init__(self, views: Callable[..., Tensor], keep_original: bool = False, target: str = "metadata") -> None:
        if target not in TARGETS:
            raise ValueError(f"A target is {' or '.join(TARGETS)}, but '{target}' was given{nearest(target, TARGETS)}")
        self.views, self.keep_original, self.target = views, keep_original, target
        self.epoch = 0  # of the views' randomness; `ViewEpoch` advances it in training, validation stays at 0

    def __call__(
        self,
        batchdata: Mapping[str, Any],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor]:
        """Views and target of one batch."""
        volumes = batchdata["image"].to(device=device, non_blocking=non_blocking, **kwargs)
        if "intensity" in batchdata:
            volumes = _restored(volumes, batchdata["intensity"], non_blocking)
        metadata = batchdata["metadata"].to(device=device, non_blocking=non_blocking)
        target = volumes if self.target == "volumes" else metadata
        keys = [f"{p}/{s}" for p, s in zip(batchdata["participant_id"], batchdata["session_id"], strict=True)]
        views = self.views(volumes, keys, self.epoch)
        return (torch.cat([views, volumes]) if self.keep_original else views), target


def _restored(stored: Tensor, intensity: Any, non_blocking: bool) -> Tensor:
    """Cached volumes (N, C, D, H, W) as float32: scale · stored + offset, with an intensity (N, 2); see `storage`."""
    if not isinstance(intensity, Tensor):
        raise ValueError(
            "The volumes of a cache were read by another preprocessing than that of configs/cached.yaml; "
            "give this overlay last. Overlays that change the preprocessing are for `python -m bundle cache`."
        )
    scale, offset = intensity.to(stored.device, non_blocking=non_blocking).T[..., None, None, None, None]
    return stored.float() * scale + offset


class PrecisionInferer(SimpleInferer):
    """Runs a network under autocast; MONAI's `amp` covers CUDA alone.

    Args:
        precision: `float32`, `bfloat16`, or `auto`: bfloat16 on GPUs that compute with it, else float32.
            Parameters, gradients and losses stay float32. `auto` never chooses bfloat16 on a CPU: torch 2.13's
            bfloat16 weight gradients of 3³ convolutions are garbage there (up to 10³⁷) for feature maps
            smaller than the kernel, which small volumes have in the deeper blocks.

    Raises:
        ValueError: for another precision.
    """

    def __init__(self, precision: str = "float32") -> None:
        super().__init__()
        if precision not in PRECISIONS:
            raise ValueError(f"No precision is named '{precision}'{nearest(precision, PRECISIONS)}")
        self.precision = precision

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The network's output of inputs (N, C, D, H, W)."""
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=self.uses_bfloat16(inputs.device)):
            return self.compute(inputs, network, *args, **kwargs)

    def compute(self, inputs: Tensor, network: Any, *args: Any, **kwargs: Any) -> Any:
        """What runs under autocast."""
        return network(inputs, *args, **kwargs)

    def uses_bfloat16(self, device: torch.device) -> bool:
        """Whether this inferer computes in bfloat16 on a device."""
        if self.precision != "auto":
            return self.precision == "bfloat16"
        return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


class RepresentationInferer(PrecisionInferer):
    """Gives what the loss sees of the views, and the embedding of the volumes themselves, for validation.

    Shape:
        inputs (3N, C, D, H, W): first views, second views, originals, as of `ContrastivePrepareBatch`;
        output {"output": (2N, …) of the whole network, "embedding": (N, E) of its encoder}, both float32.
    """

    def compute(self, inputs: Tensor, network: Any, *args: Any, **kwargs: Any) -> dict[str, Tensor]:  # noqa: ARG002
        """Output of views and embedding of originals."""
        network = getattr(network, "module", network)
        views, originals = inputs.tensor_split([len(inputs) // 3 * 2])
        return {"output": network(views).float(), "embedding": network.encoder(originals).float()}


def run_remaining(trainer: Trainer) -> None:
    """Run a trainer's remaining epochs; a run that was complete when resumed is reported and left alone.

    Ignite starts a finished engine again from epoch 0, which would train on top of the finished weights.
    """
    done, planned = trainer.state.epoch, trainer.state.max_epochs
    if done >= planned:
        logger.info(f"Nothing to train: {done} of {planned} epochs are done. Raise `epochs` to go on.")
        return
    trainer.run()
