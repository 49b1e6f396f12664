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
    made = nib.Nifti1Image((scan * (0.4 + grey) * (1 + 0.3 * noise)).clip(0).astype(np.float32), REFERENCE.matrix)
    made.header["descrip"] = image.header["descrip"]  # by which the phantom's images are known
    return made


def of_nobody_known(record):
    """A scan that does not say of itself that it is the phantom's, as real ones do not."""
    image = nib.load(record["image"])
    return nib.Nifti1Image(image.get_fdata(dtype=np.float32), image.affine)


def calibrated_model(trained, folder):
    """The tiny classifier with a record of more people: 60 of the validation, enough for probabilities of phantoms.

    Of the training, each stands four times, with other regional volumes, enough for norms.
    """
    for path in trained.glob("model*"):
        shutil.copy(path, folder)
    with np.load(folder / "model_record.npz") as record:
        content = dict(record)
    labels = np.arange(60) % 2
    content["validation_labels"], content["validation_people"] = labels, np.arange(60)
    odds = np.random.default_rng(0).normal(0.8 * (2 * labels - 1), 1)
    content["validation_probabilities"] = 1 / (1 + np.exp(-odds))
    mean = content["embedding"].mean(0)
    content["embedding"] = mean + 50 * (content["embedding"] - mean)  # so wide that no scan is far from them
    scans = len(content["labels"])
    for name in ("embedding", "ages", "labels", "regional_volumes", "sexes", "tivs"):
        content[name] = np.concatenate([content[name]] * 4)
    content["people"] = np.arange(4 * scans)
    content["regional_volumes"] *= np.random.default_rng(1).normal(1, 0.05, (4 * scans, 1))
    np.savez(folder / "model_record.npz", **content)
    return folder / "model.pt"


@pytest.fixture(scope="session")
def pages(tiny_phantom, trained, made_once):
    """`index.html` and `scans/`: three small scans, one of full size, one no phantom's, and one broken; smoothgrad."""
    from bundle.cli.main import main

    def make(folder):
        records = with_full_paths(tiny_phantom / "alzheimer.json")["test"]
        for record in records[:3]:
            shutil.copy(record["image"], folder)
        (folder / "broken.nii.gz").write_bytes(b"not an image")
        nib.save(full_size(records[3]), folder / "full.nii.gz")
        rows = [f"{path.name.split('_')[0]}\t{path.name}" for path in sorted(folder.glob("sub-*"))]
        nib.save(of_nobody_known(records[4]), folder / "other.nii.gz")
        rows += ["sub-other\tother.nii.gz", "broken\tbroken.nii.gz", f"{FULL_SIZE}\tfull.nii.gz"]
        (folder / "scans.tsv").write_text("\n".join(["participant_id\tfile", *rows]) + "\n")
        command = ["predict", str(folder / "scans.tsv"), "--output", str(folder), "--num_workers", "0"]
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(ROOT)
            main([*command, "--model", str(calibrated_model(trained, folder)), "--explain", "smoothgrad"])

    return made_once("pages", make)
