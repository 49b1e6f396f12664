"""Which pipeline made a map: the JSON beside it, or else its header."""

import json

import nibabel as nib
import numpy as np
import pytest

from bundle.scans.made_by import is_same_pipeline, pipeline_of
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


@pytest.mark.parametrize(
    ("place", "pipeline"),
    [
        ("sub-1_T1w_space-MNI152NLin2009cAsym-nonlinear-modulated_label-GM_probseg.nii.gz", "T1Prep"),
        ("sub-1_mwp1.nii.gz", "deepmriprep"),
        ("mwp1/sub-1.nii.gz", "deepmriprep"),
        ("mwp1/mwp1sub-1.nii.gz", "unknown"),
        ("mri/mwp1sub-1.nii.gz", "unknown"),
        ("sub-1_T1w.nii.gz", "unknown"),
    ],
)
def test_names_that_one_pipeline_alone_gives_come_last(tmp_path, place, pipeline):
    (tmp_path / place).parent.mkdir(exist_ok=True)
    assert pipeline_of(save(tmp_path / place)) == pipeline


def test_a_report_says_who_made_a_map_and_says_nothing_of_the_scan(tmp_path):
    (tmp_path / "cat_a.xml").write_text("<S><software><version_cat>12.9</version_cat></software></S>")
    assert pipeline_of(save(tmp_path / "mwp1a.nii", "GM tissue map(Jac. sc. warped)")) == "CAT12 12.9"
    assert pipeline_of(save(tmp_path / "a.nii")) == "unknown"
    (tmp_path / "cat_a.xml").write_text("<S>")
    assert pipeline_of(tmp_path / "mwp1a.nii") == "CAT12"


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("CAT12 12.9 2577", "CAT12 12.9 2580", True),
        ("CAT12 12.8.2 2170", "CAT12 12.8.1", True),
        ("CAT12", "CAT12 12.9", True),
        ("CAT12 12.8", "CAT12 12.9", False),
        ("CAT12 12.9", "CAT26 12.9", False),
        ("yaware-ants 1", "yaware-ants 2", False),
    ],
)
def test_what_is_one_pipeline(first, second, same):
    assert is_same_pipeline(first, second) == is_same_pipeline(second, first) == same
