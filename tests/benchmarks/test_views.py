"""Each augmentation at full size, per volume, beside MONAI's and SciPy's with the same parameters."""

import numpy as np
import pytest
import torch
from monai import transforms as monai
from scipy import ndimage

from bundle.pretext.views import CropResize, Cutout, Flip, GaussianBlur, GaussianNoise, TwoViews
from tests.benchmarks.measure import CUDA, DEVICE, FULL, seconds, table, threads

pytestmark = pytest.mark.bench
BATCH = 64 if CUDA else 2
START, SIZE = (10, 20, 10), tuple(-(-side * 3 // 4) for side in FULL)
END = tuple(a + n for a, n in zip(START, SIZE, strict=True))
CUBE = tuple(-(-side // 4) for side in FULL)


def hole(volume, start, size):
    volume = volume.copy()
    volume[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))] = 0
    return volume


def stretched(volume, start, size):
    crop = volume[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))]
    return ndimage.zoom(crop, np.divide(FULL, size), order=1, grid_mode=True, mode="nearest")


def noisy(volume, sigma, seed):
    return volume + sigma * np.random.default_rng(seed).standard_normal(volume.shape, dtype=np.float32)


def monai_noise(sigma):
    noise = monai.RandGaussianNoise(prob=1.0, std=sigma)
    return lambda volume: noise(volume)


# ours with parameters; MONAI's; SciPy's or NumPy's
CHANGES = {
    "flip": (Flip(), {"axis": 1}, monai.Flip(1), lambda v: np.ascontiguousarray(np.flip(v, 1))),
    "blur, sigma 1": (
        GaussianBlur(),
        {"sigma": 1.0},
        monai.GaussianSmooth(1.0),
        lambda v: ndimage.gaussian_filter(v, 1.0, mode="constant"),
    ),
    "noise": (GaussianNoise(), {"sigma": 0.5, "seed": 1}, monai_noise(0.5), lambda v: noisy(v, 0.5, 1)),
    "cutout": (
        Cutout(0.25),
        {"start": START, "size": CUBE},
        monai.RandCoarseDropout(1, CUBE, fill_value=0, prob=1.0),
        lambda v: hole(v, START, CUBE),
    ),
    "crop and resize": (
        CropResize(0.75),
        {"start": START, "size": SIZE},
        monai.Compose([monai.SpatialCrop(roi_start=START, roi_end=END), monai.Resize(FULL, mode="trilinear")]),
        lambda v: stretched(v, START, SIZE),
    ),
}


def by_scipy(volume, chosen):
    """all_tf with drawn parameters, a volume at a time."""
    flip, blur, noise, cut, crop = chosen
    volume = np.flip(volume, flip["axis"]) if flip else volume
    volume = ndimage.gaussian_filter(volume, blur["sigma"], mode="constant") if blur else volume
    volume = noisy(volume, **noise) if noise else volume
    volume = hole(volume, **cut) if cut else volume
    return np.ascontiguousarray(stretched(volume, **crop) if crop else volume)


@pytest.fixture(autouse=True)
def one_core():
    with threads(1):
        yield


def test_each_change(show):
    volumes = torch.randn(BATCH, 1, *FULL, device=DEVICE)
    single, array = torch.randn(1, *FULL), np.random.default_rng(0).standard_normal(FULL, dtype=np.float32)
    rows = []
    for name, (ours, params, theirs, scipy) in CHANGES.items():
        first = seconds(lambda: ours.apply(volumes, [params] * BATCH, inplace=True)) / BATCH  # noqa: B023
        rest = [seconds(lambda: theirs(single)), seconds(lambda: scipy(array))]  # noqa: B023
        cells = [cell for t in rest for cell in (f"{t * 1e3:.1f} ms", f"{t / first:.1f}")]
        rows.append([name, f"{first * 1e3:.2f} ms", *cells])
    header = ["a volume, one core", f"this bundle, batch of {BATCH}", "MONAI, CPU", "ratio", "SciPy, CPU", "ratio"]
    show(table("Augmentations", header, rows))


def test_all_of_them(show):
    """The whole of all_tf, drawing included, for many subjects: what a view costs on average."""
    subjects = 64 if CUDA else 24
    keys = [f"sub-{i}/ses-1" for i in range(subjects)]
    views = TwoViews("all_tf", seed=0)
    chosen = views.make_params(keys, 1, FULL)
    array = np.random.default_rng(0).standard_normal(FULL, dtype=np.float32)
    images = torch.randn(BATCH, 1, *FULL, device=DEVICE)

    def ours():
        for start in range(0, subjects, BATCH):
            views(images, keys[start : start + BATCH], 1)

    first = seconds(ours, 3) / (2 * subjects)
    other = seconds(lambda: [by_scipy(array, params) for params in chosen], 1) / (2 * subjects)
    rows = [[f"{first * 1e3:.1f} ms", f"{other * 1e3:.1f} ms", f"{other / first:.1f}"]]
    show(table("all_tf, a view on one core", [f"this bundle, batch of {BATCH}", "SciPy, CPU", "ratio"], rows))
    assert other > first
