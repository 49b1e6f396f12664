"""Training that goes wrong says so: values that are not finite, and representations that collapse."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.engines import Trainer
from monai.engines.utils import IterationEvents
from torch import Tensor

from bundle.files import replacing, write_json

FLAT = -0.1  # uniformity above which all projections point the same way; 0 is the limit, −3 is usual
PATIENCE = 3  # validations
logger = logging.getLogger(__name__)


class FiniteSteps:
    """Stops a run whose loss or gradient is not finite, and names the batch; attach to the trainer.

    On a CPU it stops before the weights are changed. A GPU would have to wait if it were asked at once: it is asked one
    step later. With a scaled loss (float16) gradients may overflow, which the scaler mends by itself; there the loss
    alone is watched. Writes `diverged.json` (who was in the batch) and `diverged.pt` (network and optimiser).

    Args:
        folder: Folder that receives the two files.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._last: tuple[Callable[[], Any], dict[str, Any]] | None = None  # step that nobody has looked at

    def attach(self, engine: Trainer) -> None:
        """Look after each backward pass."""
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED, self.look)

    def __call__(self, engine: Any) -> None:
        """Look at this step, or on a GPU at the one before."""
        finite, step = _finite(engine), _step(engine)
        if finite.device.type == "cpu":
            self._last = finite.item, step
            self.look(engine)
        else:
            self.look(engine)
            self._last = _answer_of(finite), step

    def look(self, engine: Any) -> None:
        """Raise when the last step that was noted was not finite.

        Raises:
            ValueError: names the participants of the batch.
        """
        last, self._last = self._last, None
        if last is not None and not last[0]():
            self._stop(engine, last[1])

    def _stop(self, engine: Any, step: dict[str, Any]) -> None:
        name = f"diverged_{idist.get_rank()}" if idist.get_world_size() > 1 else "diverged"
        write_json(self.folder / f"{name}.json", step)
        state = {"network": engine.network.state_dict(), "optimizer": engine.optimizer.state_dict()}
        with replacing(self.folder / f"{name}.pt") as temporary, temporary.open("wb") as stream:
            torch.save(state, stream)
        raise ValueError(
            f"Training has diverged: loss or gradient is not finite in step {step['step']} (epoch {step['epoch']}), "
            f"whose batch were {', '.join(step['participants'])}. Look at their images with `python -m bundle check`, "
            "or go on from the last checkpoint with --resume and a lower learning rate or precision float32. "
            f"{self.folder / name}.json and .pt hold what was there."
        )


def _finite(engine: Any) -> Tensor:
    """Whether loss and, unless they are scaled, gradients are finite; on the device."""
    finite = engine.state.output["loss"].detach().isfinite().all()
    if engine.scaler is not None:
        return finite
    gradients = [p.grad for p in engine.network.parameters() if p.grad is not None]
    return finite & torch.nn.utils.get_total_norm(gradients, math.inf).isfinite()


def _step(engine: Any) -> dict[str, Any]:
    batch = engine.state.batch
    sessions = batch.get("session_id", [""] * len(batch["image"]))
    people = batch.get("participant_id", ["unknown"] * len(sessions))
    who = [f"{person} {session}".strip() for person, session in zip(people, sessions, strict=True)]
    return {"epoch": engine.state.epoch, "step": engine.state.iteration, "participants": who}


def _answer_of(finite: Tensor) -> Callable[[], bool]:
    """Have a GPU's answer brought to the host; asking for it waits for what came before it alone."""
    answer = torch.empty((), dtype=torch.bool, pin_memory=True)
    answer.copy_(finite, non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record()

    def ask() -> bool:
        arrived.synchronize()
        return bool(answer)

    return ask


class CollapseWarning:
    """Warns while a representation is collapsed: all projections point the same way; attach to the evaluator.

    Reads `val_uniformity`, as `ContrastiveMonitor` sets it, and speaks from the third such validation in a row on.
    """

    def __init__(self) -> None:
        self._flat = 0  # validations in a row

    def attach(self, engine: Engine) -> None:
        """Look after each validation."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Count, and warn."""
        uniformity = engine.state.metrics.get("val_uniformity", -math.inf)
        self._flat = self._flat + 1 if uniformity > FLAT else 0
        if self._flat >= PATIENCE:
            logger.warning(
                f"The representation is collapsed: in {self._flat} validations in a row the projections of all subjects"
                f" were nearly the same (val_uniformity {uniformity:.3f}, usual is below −1; val_effective_rank "
                f"{engine.state.metrics.get('val_effective_rank', math.nan):.1f}). If it stays so, stop: lower the "
                "learning rate or the weight decay, take a smaller sigma or a larger batch."
            )
