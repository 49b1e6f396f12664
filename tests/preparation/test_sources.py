"""Whatever lies in a source becomes a head or a refusal, with a name that is the same every time."""

import json
import re
import zipfile

import nibabel as nib
import numpy as np
import pytest

from bundle.preparation.sources import find_heads
from bundle.scans.grid import REFERENCE

AFFINE = np.diag([1.0, 1.1, 1.2, 1])


def scan(path, shape=(4, 5, 6), affine=AFFINE, kind=nib.Nifti1Image, descrip="", dtype=np.int16):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = kind(np.ones(shape, dtype), affine)
    if descrip:
        image.header["descrip"] = descrip
    nib.save(image, path)
    return path


def find(source, tmp_path, **more):
    heads, refusals = find_heads([source], tmp_path / "work", **more)
    return {head.name: head for head in heads}, {refusal.name: refusal.reason for refusal in refusals}


def test_single_files_are_heads(tmp_path):
    kinds = {"a.nii": nib.Nifti1Image, "b.nii.gz": nib.Nifti1Image, "c.img": nib.Nifti1Pair, "d.mgz": nib.MGHImage}
    paths = [
        scan(tmp_path / name, kind=kind, dtype=np.float32 if kind is nib.MGHImage else np.int16)
        for name, kind in kinds.items()
    ]
    heads, refusals = find_heads(paths, tmp_path / "work")
    assert not refusals
    assert [(head.name, head.image, head.source) for head in heads] == [(p.name[0], p, p) for p in paths]
    assert not (tmp_path / "work").exists()


def test_a_bids_dataset_gives_labels_and_one_head_a_run(tmp_path):
    (tmp_path / "bids").mkdir()
    (tmp_path / "bids/dataset_description.json").write_text("{}")
    for name in ("sub-01/ses-a/anat/sub-01_ses-a_run-1_T1w", "sub-01/ses-a/anat/sub-01_ses-a_run-2_T1w"):
        scan(tmp_path / f"bids/{name}.nii.gz")
    for name in ("sub-02/anat/sub-02_T1w", "sub-02/anat/sub-02_FLAIR", "sub-02/func/sub-02_task-rest_bold"):
        scan(tmp_path / f"bids/{name}.nii.gz")
    scan(tmp_path / "bids/derivatives/x/sub-01/anat/sub-01_desc-preproc_T1w.nii.gz")
    heads, refusals = find(tmp_path / "bids", tmp_path)
    assert not refusals
    assert {name: (head.participant_id, head.session_id) for name, head in heads.items()} == {
        "sub-01_ses-a_run-1": ("sub-01", "ses-a"),
        "sub-01_ses-a_run-2": ("sub-01", "ses-a"),
        "sub-02": ("sub-02", ""),
    }
    said = " ".join(heads["sub-01_ses-a_run-1"].remarks)
    assert "The folder derivatives/ of the BIDS dataset was not searched." in said
    assert "2 images that are no raw T1w scan by their names and 1 files of other kinds (.json)" in said


@pytest.mark.parametrize(
    ("name", "more", "reason"),
    [
        ("sub-01_label-GM_probseg.nii.gz", {}, "fMRIPrep's map of grey matter, which is not modulated"),
        ("sub-01_space-MNI_label-GM_probseg.nii.gz", {}, "Give the T1w scan itself, or CAT12's mwp1 map"),
        ("sub-01_space-MNI152NLin6Asym_desc-preproc_T1w.nii", {}, "resampled to a template"),
        ("a.nii", {"shape": (4, 5, 6, 3)}, r"holds 3 volumes \(4D\), expected one T1w scan"),
        ("a.nii", {"shape": (4, 5)}, "has shape 4×5.*, expected a 3D scan"),
        ("a.nii", {"descrip": "GM tissue map(Jac. sc. warped) < x"}, "is a map that CAT12 made; give it to `predict`"),
        ("a.nii.gz", {"shape": REFERENCE.shape, "affine": REFERENCE.matrix}, "lies on the grid of prepared maps"),
    ],
)  # fmt: skip
def test_what_is_no_t1w_scan_is_refused_for_its_own_reason(tmp_path, name, more, reason):
    heads, refusals = find(scan(tmp_path / name, **more), tmp_path)
    assert not heads
    assert re.search(reason, next(iter(refusals.values())))


def test_a_prepared_map_is_known_by_the_file_beside_it(tmp_path):
    scan(tmp_path / "in/sub-01_gm.nii.gz")
    (tmp_path / "in/sub-01_gm.json").write_text(json.dumps({"pipeline": {"name": "ants", "version": "1.0"}}))
    assert "is a map that ants 1.0 made" in find(tmp_path / "in", tmp_path)[1]["sub-01_gm"]


def test_a_scan_without_certain_sides_is_refused(tmp_path):
    image = nib.Nifti1Image(np.ones((4, 5, 6), np.int16), None)
    nib.save(image, tmp_path / "a.nii")
    assert "left and right are not known" in find(tmp_path / "a.nii", tmp_path)[1]["a"]


def test_maps_and_what_lies_beside_them_are_no_heads(tmp_path):
    for name in ("p01.nii", "mri/mwp1p01.nii", "mri/p0p01.nii", "mri/wmp01.nii", "mri/mwp2p01.nii"):
        scan(tmp_path / "study" / name)
    heads, refusals = find(tmp_path / "study", tmp_path)
    assert not refusals
    assert (list(heads), heads["p01"].image.name) == (["p01"], "mwp1p01.nii")
    assert "The T1w scan is there, too, and was not prepared again" in heads["p01"].remarks[1]
    assert "3 images that are no raw T1w scan" in heads["p01"].remarks[-1]
    heads, refusals = find(tmp_path / "study", tmp_path, again=True)
    assert not refusals
    assert (list(heads), heads["p01"].image.name, heads["p01"].made) == (["p01"], "p01.nii", None)
    assert "A grey-matter map of this scan is there, too" in heads["p01"].remarks[0]


def test_of_freesurfer_the_original_is_taken(tmp_path):
    for name in ("orig", "brain", "aseg", "T1"):
        scan(tmp_path / f"fs/bert/mri/{name}.mgz", kind=nib.MGHImage, dtype=np.float32)
    heads, refusals = find(tmp_path / "fs", tmp_path)
    assert not refusals
    assert heads["bert"].image.name == "orig.mgz"


def test_nothing_is_dropped_in_silence(tmp_path):
    folder = tmp_path / "mixed"
    folder.mkdir()
    for name in ("a.txt", "b.pdf", "c.PDF"):
        (folder / name).write_text("x")
    assert find(folder, tmp_path)[1] == {
        "mixed": "It holds no scan that can be prepared: 3 files of other kinds (.pdf, .txt); expected a T1w scan as "
        "NIfTI, MGH or DICOM, or a folder or an archive (.zip, .tar, .tar.gz) of these."
    }
    (folder / "empty.nii").write_bytes(b"")
    (folder / "text.nii.gz").write_text("x")
    (folder / "lost.nii").symlink_to(tmp_path / "nowhere")
    (folder / "x.dcm").write_text("no dicom")
    (folder / "y.7z").write_text("7z")
    (folder / "z.zip").write_text("no zip")
    heads, refusals = find(folder, tmp_path)
    assert not heads
    assert len(refusals) == 6
    assert "link to a file that was not fetched" in refusals["lost"]
    text = " ".join(refusals.values())
    for said in ("no DICOM file", "of a kind that is not read", "The archive is damaged", "3 files of other kinds"):
        assert said in text


def test_a_source_that_is_empty_or_missing_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no file at all" in find(tmp_path / "empty", tmp_path)[1]["empty"]
    assert find(tmp_path / "gone.nii", tmp_path)[1] == {"gone": "It does not exist; check the path."}


def test_an_archive_is_read_and_one_inside_it_is_not(tmp_path):
    path = scan(tmp_path / "sub-03_ses-1_T1w.nii.gz")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(path, "data/sub-03_ses-1_T1w.nii.gz")
        archive.write(path, "data/inner.zip")
    heads, refusals = find(tmp_path / "all.zip", tmp_path)
    assert heads["sub-03_ses-1"].image.read_bytes() == path.read_bytes()
    assert heads["sub-03_ses-1"].session_id == "ses-1"
    assert "inside another archive" in next(iter(refusals.values()))


def test_names_are_safe_different_and_the_same_every_time(tmp_path):
    for name in ("a/T1.nii", "b/T1.nii", "c/Größe 1.nii"):
        scan(tmp_path / "in" / name)
    names = [sorted(find(tmp_path / "in", tmp_path)[0]) for _ in range(2)]
    assert names[0] == names[1]
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", name) for name in names[0])
    assert [name[:3] for name in names[0]] == ["Gr_", "T1_", "T1_"]


def test_a_file_that_is_given_twice_is_one_head_and_the_work_folder_is_no_source(tmp_path):
    path = scan(tmp_path / "in/a.nii")
    scan(tmp_path / "in/work/heads/old.nii")
    heads, refusals = find_heads([path, path.parent], tmp_path / "in/work")
    assert [head.name for head in heads] == ["a"]
    assert not refusals
