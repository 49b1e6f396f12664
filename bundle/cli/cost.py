"""How long a comparison over sites takes: by the runs that ended, else by a few steps that are computed now."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.engines import default_prepare_batch

from bundle.evaluation.plan import ALL, KNOWN, SCRATCH, VOXELS, Plan
from bundle.evaluation.site_data import PRETRAINING, HeldOut, write_datalists
from bundle.evaluation.site_protocol import KINDS, PROBE, SiteProtocol, Unit, duration, seconds_left
from bundle.evaluation.stored import reading

STEPS = 3  # that are timed, after one that is not
IMAGES = 8  # that are read for their time
FORWARD = 1 / 6  # of a step of pretraining: two views, of which each goes forward and backward
VALIDATION = 0.5  # of a training step


class Step(NamedTuple):
    """A training step that was timed.

    Attributes:
        seconds: Seconds of the step.
        subjects: Subjects in it.
        epochs: Epochs that a run has.
    """

    seconds: float
    subjects: int
    epochs: int


class Speed(NamedTuple):
    """What was measured.

    Attributes:
        read: Seconds of reading and preprocessing an image.
        steps: Name of a pretext or network → its training step.
        forward: Seconds of embedding an image.
    """

    read: float
    steps: dict[str, Step]
    forward: float


def estimate(protocol: SiteProtocol) -> Iterator[tuple[str, str]]:
    """How long the runs that are not done will take, and how that was found, as rows of name and content.

    Args:
        protocol: The comparison.
    """
    units = protocol.all_units()
    if all(unit.is_done for unit in units):
        yield "time", "everything is done; tables and the figure take seconds"
        return
    left = seconds_left(units)
    if left is not None:
        yield "time", f"about {duration(left)} for the runs that are not done, by the mean time of those that ended"
        return
    speed, kinds = measured(protocol), dict.fromkeys(KINDS, 0.0)
    for held in protocol.tested:
        for unit in (unit for unit in protocol.units(held) if not unit.is_done):
            kinds[unit.kind] += _seconds(held, unit, speed)
    parts = ", ".join(f"{kind} {duration(seconds)}" for kind, seconds in kinds.items() if seconds)
    yield "time", f"about {duration(sum(kinds.values()))} on this machine as it is now: {parts}"
    yield (
        "",
        f"estimated from {STEPS} training steps of each pretext and network and {IMAGES} images, computed just now; "
        f"fits of probes are not in it, and fine-tuning may stop sooner{_busy()}",
    )


def _busy() -> str:
    """Half a sentence where others compute, too, so that everything takes longer."""
    load, cores = (os.getloadavg()[0], os.cpu_count() or 1) if hasattr(os, "getloadavg") else (0.0, 1)
    if load <= 1.5 * cores:
        return ""
    return f"; {load:.0f} processes share {cores} cores now, so that it is much less where nothing else computes"


def measured(protocol: SiteProtocol) -> Speed:
    """Compute a few training steps of each pretext and network, on people of the first group; nothing is kept.

    Args:
        protocol: The comparison.
    """
    plan, held = protocol.plan, protocol.tested[0]
    steps, forward, read = dict[str, Step](), list[float](), 0.0
    with TemporaryDirectory(prefix="yaware_") as folder:
        write_datalists(held, Path(folder), plan)
        for name, overlays in plan.pretexts.items():
            steps[name], read = _timed(_parser(plan, "pretrain", overlays, plan.options_of(name), folder))
            forward.append(steps[name].seconds / steps[name].subjects * FORWARD)
        for name in plan.networks:
            options = {**plan.fine_tuning, "weights": SCRATCH, "task": held.tasks[0]}
            steps[name], read = _timed(_parser(plan, "train", plan.network_overlays.get(name, ()), options, folder))
            forward.append(steps[name].seconds / steps[name].subjects * 2 * FORWARD)
    return Speed(read, steps, min(forward, default=0.0))


def _parser(plan: Plan, command: str, overlays: Sequence[str], options: Mapping[str, Any], folder: str) -> ConfigParser:
    """A config over the people of a group, as it would be run, but that nothing is kept in memory."""
    files = [str(path) for path in (plan.configs[command], *map(Path, overlays), *map(Path, plan.overlays))]
    parser = ConfigParser(ConfigParser.load_config_files(files))
    own = {"dataset_dir": folder, "device": plan.device, "num_workers": 0}
    parser.update({**own, **reading(command, plan.stored), **options, "cache_rate": 0.0})
    return parser


def _timed(parser: ConfigParser) -> tuple[Step, float]:
    """A training step, and the seconds of reading an image."""
    get = parser.get_parsed_content
    torch.manual_seed(0)
    dataset, device = get("train#dataset"), get("torch_device")
    count = min(IMAGES, len(dataset))
    started = time.perf_counter()
    for place in range(count):
        dataset[place]
    read = (time.perf_counter() - started) / count
    batch = next(iter(get("train#dataloader")))
    prepare = get("train#prepare_batch") if "prepare_batch" in parser["train"] else default_prepare_batch
    network, loss, optimizer, infer = (get(name) for name in ("network", "loss", "optimizer", "train#inferer"))
    network.train()
    seconds = []
    for _ in range(1 + STEPS):
        started = time.perf_counter()
        inputs, target = prepare(batch, device)
        optimizer.zero_grad()
        loss(infer(inputs, network), target).backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    return Step(float(np.median(seconds[1:])), len(batch["image"]), int(get("epochs"))), read


def _seconds(held: HeldOut, unit: Unit, speed: Speed) -> float:
    """About how long a run takes: every image is read once, and a step takes what it took."""
    healthy = held.sections[PRETRAINING]
    if unit.kind == PROBE:
        pools = [part for name in held.tasks for part in held.sections[name].values()]
        images = sum(map(len, [*pools, *healthy.values()]))
        return images * (speed.read + (0.0 if unit.method in (KNOWN, VOXELS) else speed.forward))
    step = speed.steps[unit.method]
    train, validation = len(healthy["training"]), len(healthy["validation"])
    if unit.kind != PRETRAINING:
        people = len(held.sections[unit.folder.name.removesuffix(f"_{ALL}")]["training"])
        train, validation = round(0.8 * people), round(0.2 * people)
    computed = max(1, train // step.subjects) + VALIDATION * validation / step.subjects
    return step.epochs * computed * step.seconds + (train + validation) * speed.read
