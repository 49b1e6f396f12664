import json

import nibabel as nib
import numpy as np
import pytest
from monai.transforms import Compose, Lambdad, LoadImaged, NormalizeIntensityd

from bundle.cohort import load_section, read_cohort, require_grid
from bundle.cohort.audit import audit
from bundle.cohort.cache import fill_cache
from bundle.cohort.packing import ReadStoredd
from bundle.scans.grid import NEWER, Grid

RNG = np.random.default_rng(0)
USUAL = Grid.of((6, 7, 5), [[-3, 0, 0, 9], [0, 3, 0, -9], [0, 0, 3, -6], [0, 0, 0, 1]])
PREPROCESSING = Compose([
    LoadImaged("image", image_only=True),
    Lambdad("image", lambda volume: volume.squeeze()[None]),
    NormalizeIntensityd("image"),
])  # fmt: skip


@pytest.fixture
def cohort(tmp_path):
    """Six people; of the patients every image is mirrored on disk, with the right affine."""
    rows = ["participant_id\tdiagnosis\tage"]
    for i in range(6):
        volume = RNG.random(USUAL.shape).astype(np.float32)
        affine = USUAL.matrix
        if i % 2:
            affine = affine @ np.array([[-1, 0, 0, 5], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
            volume = volume[::-1]
        nib.save(nib.Nifti1Image(volume, affine), tmp_path / f"{i}.nii.gz")
        rows.append(f"{i}\t{'patient' if i % 2 else 'control'}\t{30 + i}")
    (tmp_path / "participants.tsv").write_text("\n".join(rows))
    items = [
        {"image": f"{i}.nii.gz", "participant_id": f"{i}", "session_id": "", "label": i % 2, "age": 30 + i}
        for i in range(6)
    ]
    (tmp_path / "list.json").write_text(json.dumps({"training": items[:4], "validation": items[4:], "test": []}))
    return tmp_path


def unmirrored(cohort, name):
    image = nib.load(cohort / f"{name}.nii.gz")
    return image.get_fdata()[::-1] if name % 2 else image.get_fdata()


def read(cohort, **options):
    return read_cohort(cohort / "participants.tsv", "{participant_id}.nii.gz", expected_shape=USUAL.shape, **options)


def test_images_that_lie_elsewhere_are_problems_or_are_brought_onto_one_grid(cohort):
    _, problems = read(cohort)
    assert [problem.participant_id for problem in problems] == ["1", "3", "5"]
    assert "its axes run towards right, anterior, superior" in problems[0].reason
    assert "--regrid FOLDER" in problems[0].reason
    records, problems = read(cohort, regrid=cohort / "moved")
    assert not problems
    require_grid(records, "the table")
    for i, record in enumerate(records):
        assert np.array_equal(nib.load(record["image"]).get_fdata(), unmirrored(cohort, i)), i
        assert ("moved" in record["image"]) == bool(i % 2)


def test_another_voxel_size_is_never_regridded(cohort):
    affine = USUAL.matrix
    affine[:3, :3] *= 1.1
    nib.save(nib.Nifti1Image(RNG.random(USUAL.shape).astype(np.float32), affine), cohort / "0.nii.gz")
    _, problems = read(cohort, regrid=cohort / "moved")
    assert [problem.participant_id for problem in problems] == ["0"]
    assert "preprocess it as the others" in problems[0].reason


def test_where_patients_and_controls_differ_in_grid_a_check_is_an_error(cohort):
    found = [finding for finding in audit(cohort / "list.json") if finding.check == "grids"]
    assert [finding.severity for finding in found] == ["error"]
    assert "the grid tells the diagnosis" in found[0].sentence
    content = json.loads((cohort / "list.json").read_text())
    for i, item in enumerate([*content["training"], *content["validation"]]):
        item["label"] = i // 2 % 2
    (cohort / "list.json").write_text(json.dumps(content))
    assert [f.severity for f in audit(cohort / "list.json") if f.check == "grids"] == ["warning"]
    assert not [f for f in audit(cohort / "list.json", read_images=False) if f.check == "grids"]


def test_a_cache_brings_its_volumes_onto_one_grid(cohort):
    made = fill_cache(cohort / "list.json", cohort / "cache", PREPROCESSING, {"preprocessing": "p"}, workers=0)
    for item in load_section(made, "training", cached=True):
        stored = ReadStoredd("image")(dict(item))
        volume = stored["image"][0] * item["intensity"][0] + item["intensity"][1]
        expected = unmirrored(cohort, int(item["participant_id"]))
        assert volume == pytest.approx((expected - expected.mean()) / expected.std(), abs=5e-3)


def test_images_must_lie_where_those_of_the_training_did(cohort):
    card = {"grid": NEWER.card, "kind": "encoder"}
    (cohort / "w.json").write_text(json.dumps(card))
    one = [{"image": str(cohort / "0.nii.gz")}]
    with pytest.raises(ValueError, match=r"on another grid than those that .*trained on: it has 6×7×5 voxels"):
        require_grid(one, "the task", cohort / "w.pt")
    (cohort / "w.json").write_text(json.dumps({**card, "grid": USUAL.card}))
    require_grid(one, "the task", cohort / "w.pt")
    require_grid(one, "the task")
    with pytest.raises(ValueError, match="lie on 2 grids"):
        require_grid([*one, {"image": str(cohort / "1.nii.gz")}], "the task")


def test_arrays_say_what_is_assumed(tmp_path, caplog):
    caplog.set_level("INFO")
    np.save(tmp_path / "a.npy", RNG.random(NEWER.shape, dtype=np.float32).astype(np.float16))
    np.save(tmp_path / "b.npy", RNG.random((4, 5, 6)).astype(np.float32))
    (tmp_path / "p.tsv").write_text("participant_id\na\nb\n")
    _, problems = read_cohort(tmp_path / "p.tsv", "{participant_id}.npy", expected_shape=None)
    assert not problems
    assert "1 array(s) (.npy) have no affine and are taken to be 113×137×113 voxels of 1.5×1.5×1.5 mm" in caplog.text
    assert "1 array(s) (.npy) have no affine: where they lie" in caplog.text
