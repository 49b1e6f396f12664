"""Reading preprocessed volumes at full size, 121×145×121 voxels: MONAI's PersistentDataset beside the cache.

    make bench

prints a table; ratios are of runs of one session, seconds are for orientation.
"""

import json
import os
import statistics
import subprocess
import sys
import time

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, PersistentDataset
from monai.transforms import Compose, EnsureTyped

from bundle.cli.run import recipe_of, value_of
from bundle.cohort.cache import fill_cache
from bundle.cohort.datalist import load_section
from bundle.cohort.packing import ReadStoredd
from bundle.scans.grid import REFERENCE, templates
from tests.conftest import ROOT

pytestmark = pytest.mark.bench
SCANS, FURTHER, SOURCES, REPEATS = 48, 192, 4, 5
BATCH = 16  # of every storage more than 32 MiB, which malloc takes from the system anew each time
WARM, COLD = 0, 1
PLAIN = "plain preprocessing of .nii.gz"
PRETRAIN = [ROOT / "configs" / "pretrain.yaml"]
WATCHED = """
import sys
from pathlib import Path
from monai.data import DataLoader, Dataset
from bundle.cohort import load_section
from bundle.cohort.packing import ReadStoredd
def resident(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))
records = load_section(Path(sys.argv[1]), "training", cached=True)
loader = DataLoader(Dataset(records, ReadStoredd()), batch_size=8)
next(iter(loader))
before = resident("VmRSS")
total = sum(float(batch["image"].float().sum()) for batch in loader)
sys.stdout.write(f"{len(records)} {before} {resident('VmRSS')} {resident('VmHWM')}")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Grey-matter maps as CAT12 writes them, compressed; every fourth is the same file under another name."""
    folder, random = tmp_path_factory.mktemp("bench"), np.random.default_rng(0)
    for number in range(SOURCES):
        volume = (templates(REFERENCE)["grey matter"] * random.normal(0.7, 0.1, REFERENCE.shape)).clip(0)
        nib.save(nib.Nifti1Image(volume.astype(np.float32), REFERENCE.matrix), folder / f"source{number}.nii.gz")
    for number in range(FURTHER):
        os.link(folder / f"source{number % SOURCES}.nii.gz", folder / f"scan{number}.nii.gz")
    for name, count in (("once", SCANS), ("four_times", FURTHER)):
        items = [{"image": f"scan{i}.nii.gz", "participant_id": f"sub-{i}", "age": 40.0} for i in range(count)]
        (folder / f"{name}.json").write_text(json.dumps({"training": items}))
    return folder


def forget(files):
    """Have the operating system drop what it keeps of files in memory."""
    for path in files:
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def milliseconds(dataset, files, kind):
    """Per volume, until it stands in a batch, over one epoch in this process."""
    if kind == COLD:
        forget(files)
    started = time.perf_counter()
    for batch in DataLoader(dataset, batch_size=BATCH):
        assert batch["image"].shape[1:] == (1, *REFERENCE.shape)
    return (time.perf_counter() - started) / len(dataset) * 1e3


def made(folder):
    """The datasets to compare, by name, with their files, each filled."""
    plain, records = value_of(PRETRAIN, {}, "preprocessing"), load_section(folder / "once.json", "training")
    ways = {PLAIN: (Dataset(records, plain), sorted(folder.glob("source*.nii.gz")))}
    for dtype in ("float32", "float16"):
        steps = Compose([*plain.transforms, EnsureTyped("image", dtype=getattr(torch, dtype), track_meta=False)])
        dataset = PersistentDataset(records, steps, cache_dir=folder / f"persistent_{dtype}")
        for i in range(len(dataset)):
            dataset[i]
        ways[f"PersistentDataset, {dtype}"] = dataset, sorted((folder / f"persistent_{dtype}").glob("*.pt"))
    for storage in ("float16", "uint8"):
        recipe = recipe_of(PRETRAIN, "preprocessing")
        target = fill_cache(folder / "once.json", folder / storage, plain, recipe, storage=storage)
        dataset = Dataset(load_section(target, "training", cached=True), ReadStoredd())
        ways[f"cache, {storage}"] = dataset, sorted((folder / storage / "volumes").glob("*.npy"))
    return ways


def test_time_and_size(folder, capsys):
    ways = made(folder)
    times = {name: ([], []) for name in ways}
    for repeat in range(REPEATS):
        for name, (dataset, files) in ways.items():
            for kind in (COLD, WARM):  # the cold one warms
                if not repeat or name != PLAIN:
                    times[name][kind].append(milliseconds(dataset, files, kind))
    times = {name: [statistics.median(t) for t in kinds] for name, kinds in times.items()}
    sizes = {name: sum(p.stat().st_size for p in files) / len(files) / 2**20 for name, (_, files) in ways.items()}
    first = "PersistentDataset, float32"
    lines = [
        f"| {name} | {sizes[name]:.2f} MiB | {sizes[name] / sizes[first]:.2f} | {times[name][0]:.1f} ms | "
        f"{times[name][0] / times[first][0]:.2f} | {times[name][1]:.1f} ms | {times[name][1] / times[first][1]:.2f} |\n"
        for name in ways
    ]
    with capsys.disabled():
        sys.stdout.write(
            f"\n{SCANS} volumes, batches of {BATCH} in one process, {torch.get_num_threads()} threads, torch "
            f"{torch.__version__}; ratios to {first}; cold: the system has dropped the files\n\n"
            "| | a volume on disk | ratio | into a batch, warm | ratio | cold | ratio |\n"
            f"|:--|--:|--:|--:|--:|--:|--:|\n{''.join(lines)}"
        )
    assert sizes["cache, uint8"] < sizes["cache, float16"] < sizes["PersistentDataset, float16"] + 0.01


def test_resident_memory_does_not_grow_with_the_cohort(folder, capsys):
    preprocessing, recipe = value_of(PRETRAIN, {}, "preprocessing"), recipe_of(PRETRAIN, "preprocessing")
    lines, grown = [], []
    for name in ("once", "four_times"):
        started = time.perf_counter()
        target = fill_cache(folder / f"{name}.json", folder / "memory", preprocessing, recipe)
        took = time.perf_counter() - started
        command = [sys.executable, "-W", "ignore", "-c", WATCHED, str(target)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        count, before, after, peak = map(float, done.stdout.split())
        grown.append(after - before)
        lines.append(f"| {count:.0f} | {before:.0f} MiB | {after:.0f} MiB | {peak:.0f} MiB | {took:.1f} s |\n")
    with capsys.disabled():
        sys.stdout.write(
            "\n| volumes (float16, 4.05 MiB each) | resident after one batch | after an epoch | peak | to make "
            f"those missing |\n|--:|--:|--:|--:|--:|\n{''.join(lines)}"
        )
    assert grown[1] - grown[0] < (FURTHER - SCANS) * 4.05 / 3  # of the volumes that were added
