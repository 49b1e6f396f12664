"""Going on after an interruption: checkpoints that are whole or not there, and signals that end a run in order."""

from __future__ import annotations

import itertools
import logging
import re
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Events
from ignite.handlers import Checkpoint
from ignite.metrics import Metric
from monai.data import DistributedSampler
from monai.engines import Evaluator, Trainer
from torch.utils.tensorboard import SummaryWriter

from bundle.files import replacing
from bundle.training.distributed import agreed

FORMAT = 2  # of a checkpoint; 1 had no random state and no place within an epoch
KEPT = 2  # checkpoints
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)  # the last one is what SLURM's --signal=USR1@90 sends
EARLIER = "earlier"  # where the checkpoints of a former run go when another one starts anew in its folder
_NAME = re.compile(r"checkpoint_(\d+)(?:_step_(\d+))?\.pt")  # epochs done, and steps of the next one
logger = logging.getLogger(__name__)


class RandomState:
    """State of torch's random numbers, on the CPU and on every GPU."""

    def state_dict(self) -> dict[str, Any]:
        """The state now."""
        gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        return {"cpu": torch.get_rng_state(), "gpus": gpus}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to a state; those of other GPUs than there are now are left out."""
        torch.set_rng_state(state["cpu"])
        for device, numbers in enumerate(state["gpus"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(numbers, device)


class EpochSampler(DistributedSampler):
    """MONAI's sampler, which can go on within an epoch.

    Attributes:
        skip: Subjects that the next epoch leaves out because they have been seen.
    """

    skip: int = 0

    def __iter__(self) -> Iterator[int]:
        """The rest of an epoch, then whole ones again."""
        skip, self.skip = self.skip, 0
        return itertools.islice(self.whole(), skip, None)

    def whole(self) -> Iterator[int]:
        """The order of a whole epoch."""
        return super().__iter__()


def scalars(folder: str | Path, resume: bool) -> SummaryWriter:
    """TensorBoard's writer for a run that starts anew or is resumed: each epoch is shown once.

    Args:
        folder: Folder of the run; what an earlier run wrote there, and a killed one after its last checkpoint, is not
            shown.
        resume: Whether the run goes on from the newest checkpoint.
    """
    saved = (place for p in _newest_first(Path(folder)) if (place := _place(p)) and _is_whole(p)) if resume else ()
    epochs, _ = next(iter(saved), (0, 0))
    return SummaryWriter(str(folder), purge_step=epochs + 1)


class Resume:
    """Saves everything that going on needs, and goes on from it as if nothing had happened.

    A checkpoint has network, optimiser, learning-rate schedule, loss scale, epoch and step, best metric, random state
    and what else `objects` names. Order and views of the data depend on seed and epoch alone, so a resumed run sees
    what the uninterrupted one would have. A checkpoint is read back before it counts, the one before it is kept, and
    one that cannot be read is passed over with a warning.

    SIGINT, SIGTERM and SIGUSR1 end the step, save, and exit with 128 + the signal's number; a second one ends at once.

    Attach it in `initialize`, after the engines are made: inside the trainer's own handlers it would be a circular
    reference.

    Args:
        folder: Folder of the checkpoints.
        trainer: Trainer whose run is saved.
        evaluator: Evaluator whose best metric is saved.
        objects: Name → object with a state dict (network, optimizer, …).
        interval: Epochs between two checkpoints.
        resume: Load the newest checkpoint first; else those of a former run are moved to the folder `earlier`.
        metrics: Metrics of the trainer, whose sums go on within an epoch.
        scalars: TensorBoard's writer, flushed before each checkpoint: what a run is resumed after has been written.
        settings: Settings of the run by their ids, kept in each checkpoint; `same_run.require_same_run` compares them.
    """

    def __init__(
        self,
        folder: str | Path,
        trainer: Trainer,
        evaluator: Evaluator,
        objects: Mapping[str, Any],
        interval: int = 1,
        resume: bool = False,
        metrics: Mapping[str, Metric] | None = None,
        scalars: SummaryWriter | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder, self.trainer, self.resume, self.interval = Path(folder), trainer, resume, interval
        evaluator.state_dict_user_keys.extend(["best_metric", "best_metric_epoch"])
        self.objects = {**objects, "trainer": trainer, "evaluator": evaluator, "random": RandomState()}
        if trainer.scaler is not None:
            self.objects["scaler"] = trainer.scaler
        self.metrics = {name: metric for name, metric in (metrics or {}).items() if hasattr(metric, "state_dict")}
        self.scalars, self.settings = scalars, dict(settings or {})
        self._asked: int | None = None  # the signal that came

    def attach(self) -> None:
        """Load the newest checkpoint where asked to, then save one every `interval` epochs and when a signal comes."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.resume:
            self._load()
        elif idist.get_rank() == 0:
            self._set_aside()
        self.trainer.add_event_handler(Events.EPOCH_COMPLETED(every=self.interval), self.save)
        self.trainer.add_event_handler(Events.STARTED, self._listen)
        self.trainer.add_event_handler(Events.EPOCH_COMPLETED, self._stop_where_asked)
        self.trainer.add_event_handler(Events.ITERATION_COMPLETED, self._stop_within_the_epoch)

    # Saving

    def save(self) -> None:
        """Write a checkpoint, read it back, and remove those that are too old; of several processes, the first one."""
        if idist.get_rank() > 0:
            return
        if self.scalars is not None:
            self.scalars.flush()
        steps = self._steps()
        epochs = self.trainer.state.iteration // self.trainer.state.epoch_length
        path = self.folder / (f"checkpoint_{epochs}_step_{steps}.pt" if steps else f"checkpoint_{epochs}.pt")
        with replacing(path) as temporary:
            with temporary.open("wb") as stream:
                torch.save(self._content(steps), stream)
            _read(temporary)
        for old in [p for p in _newest_first(self.folder) if _place(p) <= _place(path)][KEPT:]:
            old.unlink(missing_ok=True)

    def _content(self, steps: int) -> dict[str, Any]:
        metrics = {name: metric.state_dict() for name, metric in self.metrics.items()} if steps else {}
        states = {name: _plain(_bare(item).state_dict()) for name, item in self.objects.items()}
        return {"format": FORMAT, "metrics": metrics, "settings": self.settings, **states}

    def _steps(self) -> int:
        """Steps done of an epoch that is not."""
        return self.trainer.state.iteration % self.trainer.state.epoch_length

    def _set_aside(self) -> None:
        found = _newest_first(self.folder)
        if not found:
            return
        place = self.folder / EARLIER
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        for path in found:
            path.replace(place / path.name)
        logger.warning(
            f"{self.folder} had {len(found)} checkpoint(s) of an earlier run, now in {place}: this run starts anew. "
            "To go on with the earlier one, move them back and give --resume."
        )

    # Loading

    def _load(self) -> None:
        saved = newest_content(self.folder)
        if saved is None:
            logger.info(f"No checkpoint in {self.folder}: starting from epoch 0.")
            return
        planned = self.trainer.state.max_epochs
        self._check_schedule(saved)
        known = {name: item for name, item in self.objects.items() if name in saved}
        Checkpoint.load_objects(known, saved)
        self.trainer.state.max_epochs = max(planned, self.trainer.state.epoch)
        steps = self._steps()
        if steps:
            self._go_on_within_the_epoch(steps, saved)
        done = f"{self.trainer.state.epoch} of {planned} epochs" + (f" and {steps} steps" if steps else "")
        logger.info(f"Resumed from {self.folder}: {done} are done.")

    def _go_on_within_the_epoch(self, steps: int, saved: Mapping[str, Any]) -> None:
        """Skip what has been seen; sums and random numbers go on where they were, not where an epoch begins."""
        loader: Any = self.trainer.data_loader
        loader.sampler.skip = steps * loader.batch_size

        def restore() -> None:  # after the metrics were reset and the loader drew its seed
            RandomState().load_state_dict(saved["random"])
            for name, state in saved["metrics"].items():
                self.metrics[name].load_state_dict(state)

        first = self.trainer.state.iteration + 1
        self.trainer.add_event_handler(Events.ITERATION_STARTED(once=first), restore)

    def _check_schedule(self, saved: Mapping[str, Any]) -> None:
        """Refuse to stretch a schedule whose length was fixed when the run began, such as one cycle."""
        lengths = {
            name: (saved[name]["total_steps"], item.state_dict()["total_steps"])
            for name, item in self.objects.items()
            if "total_steps" in saved.get(name, {})
        }
        for name, (before, now) in lengths.items():
            if before != now:
                raise ValueError(
                    f"The checkpoint in {self.folder} was saved by a run whose {name} was planned for {before} steps, "
                    f"but this run has {now}. Resume with the epochs and batch size of the first run, or start anew "
                    "without --resume."
                )

    # Signals

    def _listen(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # only the main thread may
        before = {number: signal.signal(number, self._note) for number in SIGNALS}

        def give_back() -> None:
            for number, handler in before.items():
                signal.signal(number, handler)

        for end in (Events.COMPLETED, Events.TERMINATE, Events.EXCEPTION_RAISED):
            self.trainer.add_event_handler(end, lambda *_: give_back())

    def _note(self, number: int, _: object) -> None:
        if self._asked is not None:
            raise KeyboardInterrupt
        self._asked = number
        logger.warning(
            f"{signal.Signals(number).name}: finishing this step, then saving. A second signal ends at once."
        )

    def _stop_within_the_epoch(self) -> None:
        if self._steps():  # after the last step an epoch is ended first, with validation and all
            self._stop_where_asked()

    def _stop_where_asked(self) -> None:
        asked = agreed(self._asked or 0)
        if not asked:
            return
        self.save()
        logger.warning(
            f"Stopped by {signal.Signals(asked).name} after step {self.trainer.state.iteration}; all is saved in "
            f"{self.folder}. Go on with --resume."
        )
        self.trainer.state.stopped_by = asked
        self.trainer.terminate(skip_completed=True)


def _bare(item: Any) -> Any:
    """A network without its parallel wrapper."""
    return item.module if isinstance(item, torch.nn.parallel.DistributedDataParallel) else item


def _plain(state: Any) -> Any:
    """A state without NumPy's numbers, as metrics leave them: those could only be pickled."""
    if isinstance(state, np.generic):
        return state.item()
    if isinstance(state, Mapping):
        return {name: _plain(value) for name, value in state.items()}
    return [_plain(value) for value in state] if isinstance(state, list) else state


def _place(checkpoint: Path) -> tuple[int, int]:
    """Epochs done, and steps of the next one."""
    found = _NAME.fullmatch(checkpoint.name)
    assert found is not None
    return int(found[1]), int(found[2] or 0)


def _newest_first(folder: Path) -> list[Path]:
    return sorted((p for p in folder.glob("checkpoint_*.pt") if _NAME.fullmatch(p.name)), key=_place, reverse=True)


def newest_content(folder: Path) -> dict[str, Any] | None:
    """What the newest checkpoint that can be read holds; None where there is no checkpoint.

    Args:
        folder: Folder of the checkpoints.

    Raises:
        ValueError: none of them can be read.
    """
    newest = _newest_first(folder)
    found = next((content for path in newest if (content := _readable(path))), None)
    if found is None and newest:
        raise ValueError(
            f"None of the checkpoints in {folder} can be read ({', '.join(p.name for p in newest)}); "
            "restore one from a copy, or start anew without --resume."
        )
    return found


def _readable(path: Path) -> dict[str, Any] | None:
    try:
        return _read(path)
    except ValueError as error:
        logger.warning(f"{error} The checkpoint before it is taken.")
        return None


def _is_whole(checkpoint: Path) -> bool:
    try:
        return bool(_read(checkpoint))
    except ValueError:
        return False


def _read(path: Path) -> dict[str, Any]:
    """A checkpoint's content.

    Raises:
        ValueError: when it is damaged, or newer than this program.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # as many kinds as ways to damage a file
        raise ValueError(f"{path} is damaged ({type(error).__name__}).") from error
    if not isinstance(content, dict) or not {"trainer", "network"} <= set(content):
        raise ValueError(f"{path} is no checkpoint.")
    if content.get("format", 1) > FORMAT:
        raise ValueError(f"{path} was written by a newer version of this bundle (format {content['format']}).")
    return content
