"""Which pipeline made a map: the JSON beside it, or else its header."""

import json

import nibabel as nib
import numpy as np
import pytest

from bundle.scans.made_by import pipeline_of
from bundle.scans.nifti import PHANTOM


def save(path, descrip=""):
    image = nib.Nifti1Image(np.ones((2, 2, 2), np.uint8), np.eye(4))
    image.header["descrip"] = descrip
    nib.save(image, path)
    return path


@pytest.mark.parametrize(
    ("descrip", "pipeline"),
    [
        ("GM tissue map(Jac. sc. warped) < T1w", "CAT12"),
        ("Jac. sc. warped tissue class 1", "SPM12"),
        (PHANTOM, "phantom"),
        ("Warped", "unknown"),
        ("", "unknown"),
    ],
)
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_the_header_says_who_made_a_map(tmp_path, descrip, pipeline, ending):
    assert pipeline_of(save(tmp_path / f"a{ending}", descrip)) == pipeline


@pytest.mark.parametrize(
    ("content", "pipeline"),
    [
        ({"pipeline": {"name": "ants", "version": "1.0"}}, "ants 1.0"),
        ({"pipeline": {"name": "ants"}}, "ants"),
        ({"pipeline": {"name": "<b>x</b>", "version": "1\n2"}}, "bxb 12"),
        ({"pipeline": "ants"}, "CAT12"),
        ({"pipeline": {"name": 3}}, "CAT12"),
        ([1], "CAT12"),
    ],
)
def test_the_file_beside_it_comes_first(tmp_path, content, pipeline):
    path = save(tmp_path / "a.nii.gz", "GM tissue map(Jac. sc. warped)")
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert pipeline_of(path) == pipeline


def test_other_files_and_broken_ones_are_unknown(tmp_path):
    np.save(tmp_path / "a.npy", np.ones(3))
    (tmp_path / "b.nii").write_bytes(b"x")
    (tmp_path / "b.json").write_text("{")
    assert {pipeline_of(tmp_path / name) for name in ("a.npy", "b.nii", "gone.nii")} == {"unknown"}
    (tmp_path / "a.json").write_text(json.dumps({"pipeline": {"name": "ants", "version": 2}}))
    assert pipeline_of(tmp_path / "a.npy") == "ants 2"
