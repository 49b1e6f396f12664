"""A training step at full size: DenseNet121, 121×145×121 voxels, two views of each subject by all_tf.

On a CPU two subjects a batch; on a GPU 64, beside the physical limit of the card.
"""

import json
import math
import statistics
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from ignite.engine import Events
from ignite.handlers import BasicTimeProfiler
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedTrainer
from monai.networks.nets import DenseNet121
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from bundle.cohort.datalist import load_section
from bundle.cohort.packing import ReadStoredd, pack
from bundle.cohort.splits import assert_disjoint
from bundle.networks.encoders import DenseNetEncoder
from bundle.networks.projector import ContrastiveNetwork
from bundle.pretext.infonce import YAwareInfoNCE
from bundle.pretext.kernels import GaussianKernel
from bundle.pretext.views import TwoViews
from bundle.training.allocator import keep_freed_memory
from bundle.training.engines import ContrastivePrepareBatch, PrecisionInferer, iteration_update
from tests.benchmarks.measure import CUDA, DEVICE, FULL, seconds, synchronise, table
from tests.benchmarks.test_views import by_scipy
from tests.conftest import ROOT

pytestmark = pytest.mark.bench
SUBJECTS, STEPS = (64, 10) if CUDA else (2, 5)
PLAIN_SUBJECTS = 8 if CUDA else SUBJECTS  # 64 would not fit in float32
PLAIN = {
    "precision": "float32",
    "channels_last": False,
    "keep_memory": False,
    "compile": False,
    "checkpointing": False,
    "micro_batch": None,
}
HALF = {"precision": "bfloat16", "channels_last": True}
FAST = {**HALF, "keep_memory": True, "compile": CUDA}  # configs/fast.yaml
WAYS = {
    "float32, contiguous": {},
    "channels last": {"channels_last": True},
    "bfloat16": {"precision": "bfloat16"},
    "bfloat16, channels last": HALF,
    "bfloat16, channels last, checkpointing": {**HALF, "checkpointing": True},
    f"bfloat16, channels last, micro-batches of {SUBJECTS // 8 or 1}": {**HALF, "micro_batch": SUBJECTS // 8 or 1},
    "configs/fast.yaml": FAST,  # last: memory that is once kept stays so
    "configs/fast.yaml, checkpointing": {**FAST, "checkpointing": True},
}
if CUDA:
    WAYS["float16, channels last"] = {**HALF, "precision": "float16"}
    WAYS["configs/fast.yaml, not compiled"] = {**FAST, "compile": False}
else:
    WAYS["float32, channels last, memory kept"] = {"channels_last": True, "keep_memory": True}
    WAYS["configs/fast.yaml, compiled"] = {**FAST, "compile": True}


def batch(subjects, shape=FULL):
    generator = torch.Generator().manual_seed(0)
    return {
        "image": torch.randn(subjects, 1, *shape, generator=generator),
        "metadata": 20 + 60 * torch.rand(subjects, 1, generator=generator),
        "participant_id": [f"sub-{i}" for i in range(subjects)],
        "session_id": ["ses-1"] * subjects,
    }


def trainer(loader, *, precision, channels_last, keep_memory, compile, checkpointing, micro_batch):  # noqa: A002
    """As configs/pretrain.yaml makes it."""
    if keep_memory:
        keep_freed_memory()
    torch.manual_seed(0)
    network = ContrastiveNetwork(DenseNetEncoder()).to(
        DEVICE, memory_format=torch.channels_last_3d if channels_last else torch.preserve_format
    )
    network.encoder.checkpointing = checkpointing
    return SupervisedTrainer(
        device=DEVICE,
        max_epochs=1,
        train_data_loader=loader,
        network=network,
        optimizer=torch.optim.Adam(network.parameters(), 1e-4, fused=CUDA),
        loss_function=YAwareInfoNCE(GaussianKernel(5.0)),
        prepare_batch=ContrastivePrepareBatch(TwoViews("all_tf")),
        inferer=PrecisionInferer(precision),
        iteration_update=iteration_update(micro_batch),
        amp=precision == "float16",
        compile=compile,
        non_blocking=True,
        decollate=False,
        optim_set_to_none=True,
    )


def steps_of(engine):
    """Seconds of the first step and of a later one, the median."""
    times, started = [], [0.0]

    def start(_):
        synchronise()
        started[0] = time.perf_counter()

    def stop(_):
        synchronise()
        times.append(time.perf_counter() - started[0])

    engine.add_event_handler(Events.ITERATION_STARTED, start)
    engine.add_event_handler(Events.ITERATION_COMPLETED, stop)
    engine.run()
    assert math.isfinite(engine.state.output["loss"])
    return times[0], statistics.median(times[1:])


class StockDenseNet(torch.nn.Module):
    """MONAI's DenseNet121 as it is, without its final norm and classifier."""

    embedding_size = 1024

    def __init__(self):
        super().__init__()
        self.features = DenseNet121(spatial_dims=3, in_channels=1, out_channels=1).features
        self.features.norm5 = torch.nn.Identity()

    def forward(self, volumes):
        return torch.relu(self.features(volumes)).mean((2, 3, 4))


def baseline(data, steps):
    """A plain loop as the released code has it: views by SciPy, a pass for each, a stock DenseNet, float32."""
    torch.manual_seed(0)
    network = ContrastiveNetwork(StockDenseNet()).to(DEVICE)
    optimizer, loss = torch.optim.Adam(network.parameters(), 1e-4), YAwareInfoNCE(GaussianKernel(5.0))
    draw, ids, count = TwoViews("all_tf"), data["participant_id"], len(data["image"])

    def step():
        chosen = draw.make_params(ids, 1, FULL)
        views = [by_scipy(data["image"][i % count, 0].numpy(), params) for i, params in enumerate(chosen)]
        first, second = torch.from_numpy(np.stack(views))[:, None].to(DEVICE).chunk(2)
        output = torch.cat([network(first), network(second)])
        optimizer.zero_grad()
        loss(output, data["metadata"].to(DEVICE)).backward()
        optimizer.step()

    return seconds(step, steps)


class Traffic(TorchDispatchMode):
    """Adds up the bytes that operations read and write."""

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, output)) if isinstance(leaf, torch.Tensor)]
            self.bytes += sum(t.numel() * t.element_size() for t in tensors)
        return output


def needed():
    """GFLOP and GB of a subject's step in bfloat16, counted on shapes alone."""
    with torch.device("meta"):
        network = ContrastiveNetwork(DenseNetEncoder()).to(torch.bfloat16, memory_format=torch.channels_last_3d)
        views = torch.empty(2, 1, *FULL, dtype=torch.bfloat16)
        with FlopCounterMode(display=False) as flops, Traffic() as traffic:
            network(views).sum().backward()
    return flops.get_total_flops() / 1e9, traffic.bytes / 1e9


def rates(dtype=torch.bfloat16):
    """GFLOP/s of a large product in a type and GB/s of a copy on this device."""
    side, length = (8192, 2**30) if CUDA else (2048, 2**27)
    matrix, source = torch.randn(side, side, device=DEVICE).to(dtype), torch.zeros(length, device=DEVICE).byte()
    target = torch.empty_like(source)
    return 2 * side**3 / seconds(lambda: matrix @ matrix) / 1e9, 2 * length / seconds(
        lambda: target.copy_(source)
    ) / 1e9


def test_a_step(show):
    data = batch(SUBJECTS)
    first = baseline(batch(PLAIN_SUBJECTS), 4) / PLAIN_SUBJECTS
    rows = [["plain loop, float32, views by SciPy", f"{first:.2f} s", "1.0", ""]]
    best = 0.0
    for name, options in WAYS.items():
        try:
            start, later = steps_of(trainer([data] * STEPS, **{**PLAIN, **options}))
        except torch.cuda.OutOfMemoryError:
            rows.append([name, "does not fit", "", ""])
            continue
        finally:
            torch.compiler.reset()
            if CUDA:
                torch.cuda.empty_cache()
        best = max(best, first * SUBJECTS / later)
        rows.append([name, f"{later / SUBJECTS:.4g} s", f"{first * SUBJECTS / later:.1f}", f"{start:.0f} s"])
    title = f"A training step with {SUBJECTS} subjects a batch, views included"
    show(table(title, ["", "a subject", "ratio", "the first step"], rows))
    (gigaflop, gigabyte), (speed, bandwidth) = needed(), rates()
    floors = gigaflop / speed, gigabyte / bandwidth
    rows = [
        ["arithmetic", f"{gigaflop:.0f} GFLOP", f"{speed:.0f} GFLOP/s", f"{floors[0]:.4g} s"],
        ["bytes, every operation by itself", f"{gigabyte:.1f} GB", f"{bandwidth:.0f} GB/s", f"{floors[1]:.4g} s"],
    ]
    show(table("The floor: a subject's step in bfloat16", ["", "needed", "measured rate", "time"], rows))
    show(f"\nThe fastest step takes {first / best / max(floors):.2f} of the larger floor.\n")
    assert best > 1.5


# Against the plain loop in one run, by turns, each time in a process of its own: memory that is once kept stays so

BY_ITSELF = """
import statistics, sys
from tests.benchmarks.test_training import FAST, PLAIN, PLAIN_SUBJECTS, SUBJECTS, baseline, batch, steps_of, trainer
if sys.argv[1] == "plain":
    took = baseline(batch(PLAIN_SUBJECTS), 3) / PLAIN_SUBJECTS
else:
    took = steps_of(trainer([batch(SUBJECTS)] * 8, **{**PLAIN, **FAST}))[1] / SUBJECTS
sys.stdout.write(f"TOOK {took}")
"""
ROUNDS = 3


def by_itself(way):
    """Seconds a subject."""
    command = [sys.executable, "-W", "ignore", "-c", BY_ITSELF, way]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return float(done.stdout.rpartition("TOOK ")[2])


def test_a_step_beside_the_plain_loop_by_turns(show):
    rounds = [(by_itself("plain"), by_itself("fast")) for _ in range(ROUNDS)]
    rows = [[f"{plain:.2f} s", f"{fast:.2f} s", f"{plain / fast:.2f}"] for plain, fast in rounds]
    show(table("A subject's step, by turns", ["plain loop", "configs/fast.yaml", "ratio"], rows))
    assert statistics.median(plain / fast for plain, fast in rounds) > 1.5


# Memory: each way in a process of its own

WATCHED = """
import json, sys
from pathlib import Path
import torch
from tests.benchmarks.test_training import PLAIN, batch, trainer
options = json.loads(sys.argv[1])
subjects = options.pop("subjects")
trainer([batch(subjects)], **{**PLAIN, "channels_last": True, **options}).run()
if torch.cuda.is_available():
    peak = torch.cuda.max_memory_allocated()
else:
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
sys.stdout.write(f"PEAK {peak}")
"""
SCALE = 16 if CUDA else 1
PRECISION = "bfloat16" if CUDA else "float32"
MEMORY = [
    {"subjects": 1 * SCALE},
    {"subjects": 2 * SCALE},
    {"subjects": 1 * SCALE, "checkpointing": True},
    {"subjects": 2 * SCALE, "checkpointing": True},
    {"subjects": 2 * SCALE, "micro_batch": 1 * SCALE},
    {"subjects": 4 * SCALE, "micro_batch": 1 * SCALE},
    {"subjects": 4 * SCALE, "micro_batch": 2 * SCALE},
    {"subjects": 4 * SCALE, "micro_batch": 1 * SCALE, "checkpointing": True},
]


def peak(options):
    """GiB."""
    command = [sys.executable, "-W", "ignore", "-c", WATCHED, json.dumps({"precision": PRECISION, **options})]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if "OutOfMemory" in done.stderr:
        return math.nan
    assert done.returncode == 0, done.stderr[-2000:]
    return float(done.stdout.rpartition("PEAK ")[2]) / 2**30


def test_memory(show):
    found = [peak(options) for options in MEMORY]
    rows = [
        [o["subjects"], o.get("micro_batch", ""), "yes" if "checkpointing" in o else "", f"{gib:.2f} GiB"]
        for o, gib in zip(MEMORY, found, strict=True)
    ]
    header = ["subjects a batch", "micro-batch", "checkpointing", "peak"]
    show(table(f"Memory of a step, {PRECISION}, channels last", header, rows))
    plain, double, checked, checked_double, cached, flat, linear, _ = found
    each = found[1] - found[0]
    show(
        f"\nAnother subject takes {each / SCALE:.2f} GiB, with checkpointing {(checked_double - checked) / SCALE:.2f} "
        f"GiB; another one in a micro-batch {(linear - flat) / SCALE:.2f} GiB, in the batch of the cache "
        f"{(flat - cached) / (2 * SCALE):.3f} GiB.\n"
    )
    if not math.isnan(double):
        assert flat - cached < 0.2 * each
        assert checked < plain


# Cost against batch, volume and cohort


def exponent(sizes, times):
    return np.polyfit(np.log(sizes), np.log(times), 1)[0]


def listed(sizes):
    return ", ".join(f"{size:,}" for size in sizes)


def spoken(times):
    return ", ".join(f"{time:.2f} s" for time in times)


def opening(path, count):
    """What happens before a cohort's first step: its datalist is read and checked."""
    items = [
        {"image": f"{i}.npy", "participant_id": f"sub-{i}", "session_id": "ses-1", "age": 40.0} for i in range(count)
    ]
    path.write_text(json.dumps({"training": items, "validation": []}))
    return lambda: assert_disjoint({name: load_section(path, name, ["age"]) for name in ("training", "validation")})


def test_what_cost_grows_with(show, tmp_path):
    rows = []
    small = (40, 48, 40)
    sizes = [4 * SCALE, 8 * SCALE, 16 * SCALE]
    fast = {**PLAIN, "channels_last": True, "precision": PRECISION}
    times = [steps_of(trainer([batch(n, small)] * 4, **fast))[1] for n in sizes]
    rows.append(["subjects a batch", listed(sizes), spoken(times), f"{exponent(sizes, times):.2f}"])
    shapes = [(40, 48, 40), (61, 73, 61), (81, 97, 81)]
    times = [steps_of(trainer([batch(2 * SCALE, shape)] * 4, **fast))[1] for shape in shapes]
    voxels = [math.prod(shape) for shape in shapes]
    rows.append(["voxels", listed(voxels), spoken(times), f"{exponent(voxels, times):.2f}"])
    cohorts = [1000, 3000, 10000]
    times = [seconds(opening(tmp_path / f"{count}.json", count), 3) for count in cohorts]
    rows.append(["scans of the datalist", listed(cohorts), spoken(times), f"{exponent(cohorts, times):.2f}"])
    show(table("What a step, and opening a cohort, cost", ["grows with", "from, to", "time", "exponent"], rows))


# Waiting for data


def stored(folder, count):
    """Records of cached volumes, some hundred megabytes of them."""
    stored_volume, intensity = pack(np.random.default_rng(0).standard_normal((1, *FULL), dtype=np.float32), "float16")
    for number in range(count):
        np.save(folder / f"{number}.npy", stored_volume)
    ids = [{"participant_id": f"sub-{i}", "session_id": "ses-1", "metadata": np.float32([i])} for i in range(count)]
    return [{"image": str(folder / f"{i}.npy"), "intensity": intensity, **record} for i, record in enumerate(ids)]


def test_waiting_for_data(show, tmp_path):
    records = stored(tmp_path, 64 if CUDA else 16)
    workers = 12 if CUDA else 1
    loader = DataLoader(
        Dataset(records * (16 if CUDA else 1), ReadStoredd()), batch_size=SUBJECTS, num_workers=workers, pin_memory=CUDA
    )
    engine = trainer(loader, **{**PLAIN, "precision": "bfloat16", "channels_last": True})
    profiler = BasicTimeProfiler()
    profiler.attach(engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda _: synchronise())
    engine.run()
    waited = [float(t) for t in profiler.dataflow_times[1:]]  # the first batch has nobody to wait beside
    computed = [float(t) for t in profiler.processing_times[1:]]
    share = sum(waited) / (sum(waited) + sum(computed))
    rows = [
        [f"{statistics.median(waited) * 1e3:.1f} ms", f"{statistics.median(computed) * 1e3:.0f} ms", f"{share:.1%}"]
    ]
    header = [f"a batch of {SUBJECTS} cached volumes, {workers} worker(s)", "the step", "share of time waited"]
    show(table("Waiting for data (ignite's BasicTimeProfiler)", header, rows))
    assert share < 0.5
