"""How a batch becomes views and a network's output, for MONAI's stock trainer and evaluator."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.engines import Evaluator, Trainer
from monai.engines.utils import IterationEvents, PrepareBatch
from monai.inferers import SimpleInferer
from monai.utils.enums import CommonKeys as Keys
from torch import Tensor

from bundle.hints import nearest
from bundle.networks.encoders import statistics_kept

PRECISIONS = ("float32", "bfloat16", "float16", "auto")
TARGETS = ("metadata", "volumes")
_RandomState = tuple[Tensor, dict[torch.device, Tensor]]  # of the CPU, and of the GPU that computes
logger = logging.getLogger(__name__)


class ContrastivePrepareBatch(PrepareBatch):
    """Turns a batch of volumes into views and what the loss needs beside their output, on the device.

    Args:
        views: Draws two views of each volume, for example `bundle.pretext.views.TwoViews`.
        keep_original: Append the volumes themselves after the views (validation embeds them).
        target: What the loss compares the network's output with: `metadata`, or the `volumes` themselves.

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
        precision: `float32`, `bfloat16`, `float16` (GPUs only; the trainer's `amp` scales the loss), or `auto`:
            bfloat16 on GPUs that compute with it, else float32. Parameters, gradients and losses stay float32. `auto`
            never chooses bfloat16 on a CPU: torch 2.13's bfloat16 weight gradients of 3³ convolutions are garbage
            there (up to 10³⁷) for feature maps smaller than the kernel, which small volumes have in the deeper blocks.

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
        dtype = self.dtype_on(inputs.device)
        with torch.autocast(inputs.device.type, dtype, enabled=dtype != torch.float32):
            return self.compute(inputs, network, *args, **kwargs)

    def compute(self, inputs: Tensor, network: Any, *args: Any, **kwargs: Any) -> Any:
        """What runs under autocast."""
        return network(inputs, *args, **kwargs)

    def dtype_on(self, device: torch.device) -> torch.dtype:
        """What this inferer computes in on a device.

        Raises:
            ValueError: for float16 on a CPU.
        """
        if self.precision == "float16" and device.type == "cpu":
            raise ValueError("`precision` float16 is for GPUs, but this is a CPU; take float32 or bfloat16.")
        if self.precision != "auto":
            return getattr(torch, self.precision)
        fast = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
        return torch.bfloat16 if fast else torch.float32


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


class GradientCache:
    """A training step whose loss sees the whole batch while the network sees a micro-batch at a time.

    The projections of all micro-batches are computed without gradient; the loss of all of them together gives each
    projection's gradient; then every micro-batch is computed again and takes its projections' gradients back through
    the network. Views and random numbers of the second time are those of the first. The gradient is that of the whole
    batch, exactly where no layer looks across the batch. Batch norm takes its statistics from a micro-batch, and its
    running statistics count each micro-batch once.

    Memory grows with the micro-batch and not with the batch; time is that of one more forward pass.

    Args:
        micro_batch: Subjects; each gives two views.

    Raises:
        ValueError: for a number below 1.

    Source:
        Gao et al., RepL4NLP 2021.
    """

    def __init__(self, micro_batch: int) -> None:
        if micro_batch < 1:
            raise ValueError(f"`micro_batch` is a number of subjects, at least 1, but {micro_batch} was given.")
        self.micro_batch = micro_batch

    def __call__(self, engine: Any, batchdata: Mapping[str, Any]) -> dict[str, Any]:
        """One step, in place of the trainer's own; its output has no `image`."""
        engine.network.train()
        engine.optimizer.zero_grad(set_to_none=engine.optim_set_to_none)
        parts = list(_parts(batchdata, self.micro_batch))
        pairs, target, states = _look(engine, parts)
        pairs.requires_grad_()
        engine.state.output = {Keys.LABEL: target, Keys.PRED: torch.cat(pairs.unbind(1))}
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        loss = engine.loss_function(engine.state.output[Keys.PRED], target)
        engine.state.output[Keys.LOSS] = loss
        engine.fire_event(IterationEvents.LOSS_COMPLETED)
        _learn(engine, parts, torch.autograd.grad(loss, pairs)[0].split(self.micro_batch), states)
        engine.fire_event(IterationEvents.BACKWARD_COMPLETED)
        _step(engine)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output


def iteration_update(micro_batch: int | None) -> GradientCache | None:
    """A trainer's `iteration_update`: None, which stands for its own, where the whole batch is computed at once.

    Args:
        micro_batch: Subjects computed at a time, or None.
    """
    return None if micro_batch is None else GradientCache(micro_batch)


def _parts(batchdata: Mapping[str, Any], size: int) -> Iterator[dict[str, Any]]:
    """A collated batch in micro-batches."""
    for start in range(0, len(batchdata["image"]), size):
        yield {name: values[start : start + size] for name, values in batchdata.items()}


def _forward(engine: Any, part: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """What the loss sees of a micro-batch: pairs (n, 2, …) of both views' outputs, in float32, and the target."""
    views, target = engine.prepare_batch(part, engine.state.device, engine.non_blocking, **engine.to_kwargs)
    output = engine.inferer(views, engine.network)
    return torch.stack(output.chunk(2), dim=1).to(torch.promote_types(output.dtype, torch.float32)), target


@torch.no_grad()
def _look(engine: Any, parts: Sequence[Mapping[str, Any]]) -> tuple[Tensor, Tensor, list[_RandomState]]:
    """Pairs and target of the whole batch, and the state of the random numbers before each micro-batch."""
    states, found = [], []
    with statistics_kept(engine.network):
        for part in parts:
            states.append(_random_state(engine.state.device))
            found.append(_forward(engine, part))
    pairs, targets = zip(*found, strict=True)
    return torch.cat(pairs), torch.cat(targets), states


def _learn(
    engine: Any, parts: Sequence[Mapping[str, Any]], gradients: Sequence[Tensor], states: Sequence[_RandomState]
) -> None:
    """Take the gradients of the pairs back through the network; several processes average after the last part."""
    unsynchronised = getattr(engine.network, "no_sync", contextlib.nullcontext)
    for number, (part, gradient, state) in enumerate(zip(parts, gradients, states, strict=True), start=1):
        with unsynchronised() if number < len(parts) else contextlib.nullcontext(), _replayed(state):
            pairs, _ = _forward(engine, part)
            pairs.backward(engine.scaler.scale(gradient) if engine.scaler else gradient)


def _step(engine: Any) -> None:
    if not engine.scaler:
        engine.optimizer.step()
        return
    engine.scaler.step(engine.optimizer)
    engine.scaler.update()


def _random_state(device: torch.device) -> _RandomState:
    devices = [device] if device.type == "cuda" else []
    return torch.get_rng_state(), {d: torch.cuda.get_rng_state(d) for d in devices}


@contextlib.contextmanager
def _replayed(state: _RandomState) -> Iterator[None]:
    """Draw the random numbers that followed a state once more, then go on as if nothing had been drawn."""
    cpu, gpus = state
    with torch.random.fork_rng(list(gpus)):
        torch.set_rng_state(cpu)
        for device, numbers in gpus.items():
            torch.cuda.set_rng_state(numbers, device)
        yield


def run_remaining(trainer: Trainer) -> None:
    """Run a trainer's remaining epochs; a run that was complete when resumed is reported and left alone.

    Ignite starts a finished engine again from epoch 0, which would train on top of the finished weights.

    Raises:
        SystemExit: with 128 + its number, when a signal stopped the run; nobody shall go on with half-trained weights.
    """
    done, planned = trainer.state.epoch, trainer.state.max_epochs
    if done >= planned:
        logger.info(f"Nothing to train: {done} of {planned} epochs are done. Raise `epochs` to go on.")
        return
    trainer.run()
    if stopped_by := getattr(trainer.state, "stopped_by", 0):
        raise SystemExit(128 + stopped_by)


def report_training(evaluator: Evaluator, weights: str | Path, keep: str = "best") -> None:
    """Say where the weights lie and how good they are.

    Args:
        evaluator: Evaluator of the validation.
        weights: File that was written.
        keep: Whose weights stay: those of the `best` validation, or of the `last`.
    """
    if evaluator.state.best_metric_epoch < 1:
        logger.warning("No validation was run, so that no weights were written; lower `val_interval`.")
        return
    name, best = evaluator.state.key_metric_name, evaluator.state.best_metric
    if keep == "best" or evaluator.state.epoch == evaluator.state.best_metric_epoch:
        logger.info(f"Best {name} {best:.4f} at epoch {evaluator.state.best_metric_epoch}: {weights}")
        return
    logger.info(
        f"Kept the last epoch: {weights}. The best {name} was {best:.4f}, at epoch {evaluator.state.best_metric_epoch}."
    )
