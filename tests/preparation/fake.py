"""A pipeline that takes no time: what it does with a scan, the scan's brightest voxel says."""

import os
import signal

import nibabel as nib
import numpy as np

from bundle.preparation.outcome import FAIL, OK, WARN, Head, Layers, Outcome
from bundle.scans.grid import REFERENCE, templates

GOOD, DOUBTFUL, BAD, STOPPED, RAISES, REFUSES, CRASHES, KILLED = range(10, 90, 10)  # brightest voxels
SHAPE = (64, 78, 64)  # voxels of 3 mm


def brain():
    """Distance from the middle of a brain: 1 on its surface."""
    axes = np.indices(SHAPE) - np.reshape([32, 39, 32], (3, 1, 1, 1))
    return np.sqrt(np.square(axes / np.reshape([23, 28, 21], (3, 1, 1, 1))).sum(0))


def affine_of(flipped=False):
    """Index → mm; x grows with the index, or falls."""
    found = np.diag([3.0, 3.0, 3.0, 1.0])
    found[:3, 3] = [-96, -117, -96]
    if flipped:
        found[0] *= -1
    return found


def write_head(folder, name, kind=GOOD, flipped=False):
    """A head on disk, and what is known of it; a bright ball lies on its right."""
    radius = brain()
    values = np.where(radius < 1.25, 4, 0) + np.where(radius < 1, kind / 2, 0)
    x = np.arange(SHAPE[0])[:, None, None] + np.zeros(SHAPE)
    values[(radius < 0.9) & (abs(x - (23 if flipped else 41)) < 4)] = kind
    path = folder / f"{name}.nii.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values.astype(np.float32), affine_of(flipped)), path)
    return path


def head(folder, name, kind=GOOD, **more):
    """A scan to prepare."""
    place = folder / more.pop("inside", ".")
    return Head(name, write_head(place, more.pop("file", name), kind), folder, **more)


def prepare(image):
    """An outcome, or the end of the process."""
    kind = int(np.asarray(image.dataobj).max())
    if kind == RAISES:
        raise RuntimeError(f"a library broke over {image.shape}")
    if kind == REFUSES:
        raise ValueError("the image is no T1w scan; give one.")
    if kind == CRASHES:
        os._exit(7)
    if kind == KILLED:
        os.kill(os.getpid(), signal.SIGKILL)
    status = {GOOD: OK, DOUBTFUL: WARN}.get(kind, FAIL)
    reasons = () if status == OK else (f"Something of it is {status}.",)
    measures = {"brain_volume": 1400.0 if status == OK else 1050.0, "mask_dice": 0.97 if status == OK else float("nan")}
    if kind == STOPPED:
        return Outcome(FAIL, reasons, measures, {}, None, None, PIPELINE)
    radius, grey = brain(), templates(REFERENCE)["grey matter"]
    layers = Layers(
        np.asarray(image.affine),
        np.where(radius < 1, np.where(radius < 0.7, 1.0, 0.6), 0).astype(np.float32),
        radius < 1,
        ((radius >= 0.7) & (radius < 0.95)).astype(np.float32),
        (radius < 0.7).astype(np.float32),
        grey,
        grey,
    )
    volumes = {"tiv": 1400.0, "gm": 650.25, "wm": 500.0, "csf": 249.75}
    return Outcome(status, reasons, measures, volumes, 1.1 * grey, layers, PIPELINE, {"brain": 1.5})


PIPELINE = {"name": "fake", "version": "3", "software": {"numpy": np.__version__}, "settings": {"size": [1, 2]}}
prepare.pipeline = PIPELINE
