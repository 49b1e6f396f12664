"""Scans of several files: found for a table, written into a datalist and read again, or refused with a sentence."""

import json

import nibabel as nib
import numpy as np
import pytest

from bundle.cohort import load_section, read_cohort, write_datalist
from bundle.cohort.channels import require_same_grids
from bundle.cohort.participants import CohortError
from bundle.scans.modality import MODALITIES

SHAPE = (6, 7, 6)
GM_WM = MODALITIES["gm_wm"]


def save(path, seed, affine=None, shape=SHAPE, top=1.0):
    volume = np.random.default_rng(seed).uniform(0, top, shape).astype(np.float32)
    volume.flat[0], volume.flat[1] = 0, top
    nib.save(nib.Nifti1Image(volume, np.diag([2, 2, 2, 1.0]) if affine is None else affine), path)


@pytest.fixture
def study(tmp_path):
    rows = ["participant_id\tage"]
    for n in range(4):
        rows.append(f"sub-{n}\t{30 + n}")
        save(tmp_path / f"mwp1sub-{n}.nii.gz", n)
        save(tmp_path / f"mwp2sub-{n}.nii.gz", 10 + n)
    (tmp_path / "participants.tsv").write_text("\n".join(rows) + "\n")
    return tmp_path


def read(study, channels=("mwp2{participant_id}.nii.gz",), missing="refuse", modality=GM_WM, shape=SHAPE):
    return read_cohort(
        study / "participants.tsv",
        "mwp1{participant_id}.nii.gz",
        expected_shape=shape,
        modality=modality,
        channels=channels,
        missing_channels=missing,
    )


def test_each_row_gets_the_file_of_each_channel(study):
    records, problems = read(study)
    assert problems == []
    for n, record in enumerate(records):
        assert record["image"] == str(study / f"mwp1sub-{n}.nii.gz")
        assert record["channels"] == [str(study / f"mwp2sub-{n}.nii.gz")]


def test_a_missing_file_is_a_problem_of_its_row_or_kept(study):
    (study / "mwp2sub-2.nii.gz").unlink()
    records, (problem,) = read(study)
    assert (len(records), problem.participant_id) == (3, "sub-2")
    assert "white-matter map: no image matches" in problem.reason
    records, problems = read(study, missing="keep")
    assert problems == []
    assert [record["channels"][0] is None for record in records] == [False, False, True, False]


def test_two_files_for_one_row_are_no_missing_file(study):
    save(study / "mwp2sub-2.nii", 0)
    _, problems = read(study, channels=["mwp2{participant_id}.nii*"], missing="keep")
    assert ["2 images match" in problem.reason for problem in problems] == [True]


def test_each_channel_is_looked_at_by_its_own_modality(study):
    save(study / "mwp2sub-1.nii.gz", 0, top=100.0)
    _, (problem,) = read(study)
    assert "white-matter map: the highest value of the image is 100, expected 0.3 to 6" in problem.reason


@pytest.mark.parametrize("kind", ["affine", "shape", "array"])
def test_channels_of_different_grids_are_refused(study, kind):
    path = study / "mwp2sub-3.nii.gz"
    if kind == "array":
        path.unlink()
        np.save(study / "mwp2sub-3.npy", np.random.default_rng(0).uniform(0, 1, (6, 6, 6)).astype(np.float32))
    else:
        save(path, 0, np.diag([-2, 2, 2, 1.0]) if kind == "affine" else None, SHAPE if kind == "affine" else (6, 6, 6))
    _, (problem,) = read(study, channels=["mwp2{participant_id}.n*"])
    assert "lie on different grids" in problem.reason
    assert "mwp1sub-3.nii.gz has 6×7×6 voxels" in problem.reason
    assert f"mwp2sub-3.{'npy' if kind == 'array' else 'nii.gz'} has 6×{'7' if kind == 'affine' else '6'}×6" in (
        problem.reason
    )


def test_the_same_file_twice_is_no_second_channel(study):
    _, problems = read(study, channels=["mwp1{participant_id}.nii.gz"])
    assert len(problems) == 4
    assert "two channels are the same file" in problems[0].reason


@pytest.mark.parametrize(
    ("modality", "patterns", "said"),
    [
        ("gm_wm", [], "--channels has to give 1 more (white-matter maps), but 0 are given"),
        ("gm_wm", ["a{participant_id}", "b{participant_id}"], "but 2 are given"),
        ("reho", ["a{participant_id}"], "have one file each"),
        (None, ["a{participant_id}"], "have one file each"),
    ],
)
def test_another_number_of_patterns_is_refused(study, modality, patterns, said):
    with pytest.raises(CohortError) as refused:
        read(study, patterns, modality=modality and MODALITIES[modality])
    assert said in str(refused.value)


def test_a_datalist_names_channels_as_it_names_images(study):
    (study / "mwp2sub-2.nii.gz").unlink()
    records, _ = read(study, missing="keep")
    path = study / "lists" / "task.json"
    write_datalist(path, {"training": records}, description="x", extra={"modality": "gm_wm"})
    written = json.loads(path.read_text())["training"]
    assert written[0]["channels"] == ["../mwp2sub-0.nii.gz"]
    assert written[2]["channels"] == [None]
    loaded = load_section(path, "training")
    assert [(study / "mwp2sub-0.nii.gz").samefile(loaded[0]["channels"][0]), loaded[2]["channels"]] == [True, [""]]


def test_records_and_their_modality_have_to_agree(study, tmp_path):
    records, _ = read(study)
    plain = [{name: value for name, value in record.items() if name != "channels"} for record in records]
    path = tmp_path / "task.json"
    write_datalist(path, {"training": plain}, description="x", extra={"modality": "gm_wm"})
    with pytest.raises(CohortError, match=r"have 2 files each \(gm, wm\), but its record .* has 1"):
        load_section(path, "training")
    write_datalist(path, {"training": records}, description="x", extra={"modality": "gm"})
    with pytest.raises(CohortError, match=r"which have one file each, but its record .* has 2 channels"):
        load_section(path, "training")


@pytest.mark.parametrize("channels", ["a.nii", [3], [""], {"wm": "a.nii"}])
def test_what_is_no_list_of_files_is_refused(tmp_path, channels):
    record = {"image": "a.nii", "participant_id": "1", "channels": channels}
    (tmp_path / "x.json").write_text(json.dumps({"modality": "gm_wm", "training": [record]}))
    with pytest.raises(CohortError, match="expected a list of files"):
        load_section(tmp_path / "x.json", "training")


def test_grids_are_compared_by_headers_before_training(study):
    records, _ = read(study)
    require_same_grids(records)
    save(study / "mwp2sub-3.nii.gz", 0, np.diag([-2, 2, 2, 1.0]))
    with pytest.raises(CohortError, match="lie on different grids"):
        require_same_grids(records)
