"""Pages as `predict` writes them, made once."""

import shutil

import nibabel as nib
import numpy as np
import pytest

from bundle.scans.grid import REFERENCE, templates, to_grid
from tests.conftest import ROOT, with_full_paths

FULL_SIZE = "sub-of-full-size_with_a_long_name-" + "x" * 60


def full_size(record):
    """A scan of 1.5 mm with the folds and the noise that one of 6 mm lacks, so that pictures of it are as large."""
    image = nib.load(record["image"])
    scan = to_grid(image.get_fdata(dtype=np.float32), image.affine, REFERENCE)
    grey, noise = templates(REFERENCE)["grey matter"], np.random.default_rng(0).normal(size=REFERENCE.shape)
    return nib.Nifti1Image((scan * (0.4 + grey) * (1 + 0.3 * noise)).clip(0).astype(np.float32), REFERENCE.matrix)


@pytest.fixture(scope="session")
def pages(tiny_phantom, trained, made_once):
    """`index.html` and `scans/`: three small scans, one of full size and a broken one; smoothgrad, which is noisy."""
    from bundle.cli.main import main

    def make(folder):
        records = with_full_paths(tiny_phantom / "alzheimer.json")["test"]
        for record in records[:3]:
            shutil.copy(record["image"], folder)
        (folder / "broken.nii.gz").write_bytes(b"not an image")
        nib.save(full_size(records[3]), folder / "full.nii.gz")
        rows = [f"{path.name.split('_')[0]}\t{path.name}" for path in sorted(folder.glob("sub-*"))]
        rows += ["broken\tbroken.nii.gz", f"{FULL_SIZE}\tfull.nii.gz"]
        (folder / "scans.tsv").write_text("\n".join(["participant_id\tfile", *rows]) + "\n")
        command = ["predict", str(folder / "scans.tsv"), "--output", str(folder), "--num_workers", "0"]
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(ROOT)
            main([*command, "--model", str(trained / "model.pt"), "--explain", "smoothgrad"])

    return made_once("pages", make)
