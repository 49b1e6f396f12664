"""Prediction at full size: DenseNet121, 121×145×121 voxels, as a user runs it.

    make bench

prints a table; ratios are of runs of one session, seconds are for orientation.
"""

import json
import statistics
import subprocess
import sys
import time
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.networks.nets import DenseNet121
from monai.transforms import LoadImage, NormalizeIntensity, SpatialResample

from bundle.drawing import styled
from bundle.networks.classifiers import Classifier
from bundle.networks.nearby import near
from bundle.networks.weights import save_weights
from bundle.pages.pictures import chart, finished
from bundle.prediction import pictures
from bundle.prediction.maps import Question, explain, regional_changes
from bundle.prediction.training_record import record_path
from bundle.scans.grid import REFERENCE, Grid, templates, to_grid
from bundle.scans.profile import profile
from bundle.scans.regions import region_weights
from tests.benchmarks.measure import once, seconds, table
from tests.conftest import ROOT

pytestmark = pytest.mark.bench
SCANS = 12
MEMORY_MIB = 2048
HALF = Grid.of((60, 72, 60), [[-3, 0, 0, 89], [0, 3, 0, -125], [0, 0, 3, -71], [0, 0, 0, 1]])
COARSE = Grid.of((40, 48, 40), [[-4.5, 0, 0, 87.75], [0, 4.5, 0, -123.75], [0, 0, 4.5, -69.75], [0, 0, 0, 1]])
PLAIN = ["--explain", "none", "--report", "false"]
WATCHED = """
import json, resource, sys, time
import bundle.prediction, monai.engines
from bundle.cli.main import main
load, loads = bundle.prediction.load_model, []
def timed(*args, **kwargs):
    before = time.perf_counter()
    model = load(*args, **kwargs)
    loads.append(time.perf_counter() - before)
    return model
bundle.prediction.load_model = timed
started = time.perf_counter()
status = main(sys.argv[1:])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
sys.stderr.write(f"MEASURED {json.dumps([time.perf_counter() - started - sum(loads), sum(loads), peak, status])}\\n")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An untrained DenseNet121 with card and record, and scans as CAT12 writes them."""
    folder, random = tmp_path_factory.mktemp("bench"), np.random.default_rng(0)
    (folder / "scans").mkdir()
    for number in range(SCANS):
        volume = (0.7 * templates(REFERENCE)["grey matter"] * random.normal(1, 0.15, REFERENCE.shape)).clip(0)
        image = nib.Nifti1Image(volume.astype(np.float32), REFERENCE.matrix)
        nib.save(image, folder / "scans" / f"mwp1sub-{number:02d}.nii.gz")
    network = DenseNet121(3, 1, 2)
    card = {
        "kind": "classifier",
        "class_names": ["control", "patient"],
        "validation": {"val_threshold": 0.5},
        "network": {"init_features": 64, "growth_rate": 32, "block_config": [6, 12, 24, 16]},
        "contract": profile([{"image": str(p)} for p in sorted((folder / "scans").iterdir())]),
    }
    save_weights(folder / "model.pt", network, card)
    labels, ages = np.arange(200) % 2, random.uniform(20, 80, 200)
    validation = {"validation_labels": labels, "validation_probabilities": random.random(200)}
    embedding = {"embedding": random.normal(size=(200, 1024)), "ages": ages, "labels": labels}
    np.savez(record_path(folder / "model.pt"), healthy=np.zeros((1, *REFERENCE.shape)), **embedding, **validation)
    return folder


def predict(folder, source, *more):
    """Seconds beyond imports and loading the model, those of loading, and peak memory (MiB)."""
    options = [
        "--model",
        str(folder / "model.pt"),
        "--output",
        str(folder / "out"),
        "--overwrite",
        *PLAIN,
    ]
    command = [sys.executable, "-W", "ignore", "-c", WATCHED, "predict", str(source), *options, *more]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    line = next(line for line in done.stderr.splitlines() if "MEASURED" in line)
    seconds, loading, peak, status = json.loads(line.partition("MEASURED ")[2])
    assert status == 0
    return seconds, loading, peak


def eager(folder, count):
    """Seconds of the network alone, and of loading and network one after the other, in float32, a scan at a time."""
    network = DenseNet121(3, 1, 2).eval()
    paths = sorted((folder / "scans").iterdir())[:count]
    load, normalise = LoadImage(image_only=True), NormalizeIntensity()
    alone, plain = [], []
    with torch.no_grad():
        for path in [paths[0], *paths]:
            started = time.perf_counter()
            volume = torch.as_tensor(normalise(load(path)[None]))[None]
            loaded = time.perf_counter()
            network(volume)
            alone.append(time.perf_counter() - loaded)
            plain.append(time.perf_counter() - started)
    return statistics.median(alone[1:]), statistics.median(plain[1:])


def test_one_scan_and_a_folder(folder, capsys):
    alone, plain = eager(folder, 4)
    one, loading, peak = predict(
        folder, folder / "scans" / "mwp1sub-00.nii.gz", "--augmentations", "0", "--num_workers", "0"
    )
    four, *_ = predict(folder, folder / "scans" / "mwp1sub-00.nii.gz", "--num_workers", "0")
    many, *_ = predict(folder, folder / "scans", "--augmentations", "0", "--batch_size", "1")
    each = (many - one) / (SCANS - 1)
    with capsys.disabled():
        sys.stdout.write(
            f"\n| {torch.get_num_threads()} threads, torch {torch.__version__} | |\n|:--|--:|\n"
            f"| network alone, a scan | {alone:.2f} s |\n"
            f"| plain loop: load, then network, a scan | {plain:.2f} s |\n"
            f"| loading the model, with card and record | {loading:.2f} s |\n"
            f"| one scan, file to table | {one:.2f} s |\n"
            f"| the same with uncertainty (2 copies, the default) | {four:.2f} s |\n"
            f"| a further scan of a folder | {each:.2f} s |\n"
            f"| a further scan / network alone | {each / alone:.2f} |\n"
            f"| a further scan / plain loop | {each / plain:.2f} |\n"
            f"| peak memory | {peak:.0f} MiB |\n"
        )
    assert peak < MEMORY_MIB
    assert each / alone < 2


def test_an_explanation_by_region_beside_one_by_occlusion(show):
    """Both at 3 mm, where occlusion takes a minute; by region at 1.5 mm, too."""
    network = Classifier(DenseNet121(3, 1, 2).to(memory_format=torch.channels_last_3d)).eval()

    def question(grid):
        volume = torch.as_tensor(templates(grid)["grey matter"])[None, None]
        return Question("occlusion", network, reference=0.9 * volume, weights=region_weights(grid)), volume

    (half, small), (full, large) = question(HALF), question(REFERENCE)
    with torch.inference_mode():
        passes = {
            name: statistics.median(once(lambda v=v: network(v)) for _ in range(3))
            for name, v in (("half", small), ("full", large))
        }
    by_region, by_place = once(lambda: regional_changes(half, small)), once(lambda: explain(half, small))
    whole = once(lambda: regional_changes(full, large))
    at_full = once(lambda: regional_changes(replace(full, network=near(network, large)), large))
    rows = [
        ["by region, 3 mm", f"{by_region:.1f} s", f"{by_region / passes['half']:.0f}"],
        ["by occlusion, 3 mm", f"{by_place:.1f} s", f"{by_place / passes['half']:.0f}"],
        ["by region, 1.5 mm", f"{at_full:.1f} s", f"{at_full / passes['full']:.0f}"],
        ["by region, 1.5 mm, everything computed for each", f"{whole:.1f} s", f"{whole / passes['full']:.0f}"],
        ["by region / by occlusion", f"{by_region / by_place:.2f}", ""],
    ]
    show(table("An explanation of DenseNet121", ["", "time", "forward passes"], rows))
    assert by_region / by_place < 0.25
    assert at_full / whole < 0.75
    assert at_full / passes["full"] < 30


def question_on(grid):
    """An untrained DenseNet121, and a volume on a grid, by region."""
    network = Classifier(DenseNet121(3, 1, 2).to(memory_format=torch.channels_last_3d)).eval()
    volume = torch.as_tensor(templates(grid)["grey matter"])[None, None]
    return Question("regions", network, reference=0.9 * volume, weights=region_weights(grid)), volume


def test_a_small_volume_is_explained_several_copies_at_a_time(show):
    asked, volume = question_on(COARSE)
    alone, together = (
        seconds(lambda: regional_changes(asked, volume, 1), 3),
        seconds(lambda: regional_changes(asked, volume), 3),
    )
    rows = [["a copy after the other", f"{alone:.2f} s"], ["together / one after the other", f"{together / alone:.2f}"]]
    show(table("An explanation by region at 4.5 mm", ["", "time"], rows))
    assert together / alone < 0.7


def test_a_map_is_brought_onto_a_coarser_grid_beside_monai(show):
    """MONAI samples 27 points a voxel of 4.5 mm, which are averaged."""
    volume, fine = templates(REFERENCE)["grey matter"], COARSE.matrix
    fine[:3, :3] /= 3
    fine[:3, 3] -= COARSE.matrix[:3, :3] @ np.full(3, 1 / 3)
    image = MetaTensor(torch.as_tensor(volume)[None], affine=torch.as_tensor(REFERENCE.matrix))
    resample = SpatialResample(mode="bilinear", padding_mode="zeros", align_corners=True, dtype=np.float32)

    def by_monai():
        moved = resample(image, dst_affine=torch.as_tensor(fine), spatial_size=[3 * n for n in COARSE.shape])
        return torch.nn.functional.avg_pool3d(moved, 3)[0].numpy()

    assert np.abs(by_monai() - to_grid(volume, REFERENCE.matrix, COARSE)).max() < 2e-5
    theirs, ours = seconds(by_monai), seconds(lambda: to_grid(volume, REFERENCE.matrix, COARSE))
    rows = [["MONAI", f"{1000 * theirs:.0f} ms"], ["to_grid / MONAI", f"{ours / theirs:.2f}"]]
    show(table("A map of 1.5 mm brought to 4.5 mm", ["", "time"], rows))
    assert ours / theirs < 0.4


def test_a_chart_of_another_scan_beside_one_that_is_drawn_anew(show):
    known = np.random.default_rng(0).normal(30, 3, 200)

    @styled
    def anew():
        figure, axes = chart()
        axes.hist(known, bins=30, label="training subjects")
        axes.axvline(31.0, label="this scan")
        return finished(figure)

    whole, marks = seconds(anew), seconds(lambda: pictures.position(known, 31.0, "distance"))
    rows = [["drawn anew", f"{1000 * whole:.0f} ms"], ["of another scan / drawn anew", f"{marks / whole:.2f}"]]
    show(table("A chart of a page", ["", "time"], rows))
    assert marks / whole < 0.3
