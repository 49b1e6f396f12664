"""Images of a table that are prepared before they are read: maps, head sizes, and what could not be prepared."""

import nibabel as nib
import numpy as np
import pytest

from bundle.cohort.table import Ready, read_cohort
from bundle.preparation.record import Record


@pytest.fixture
def study(tmp_path):
    """Three T1w scans; a map of the first two."""
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    for number in (1, 2, 3):
        nib.save(nib.Nifti1Image(np.full((9, 9, 9), 500.0, np.float32), affine), tmp_path / f"sub-{number}_T1w.nii.gz")
        volume = np.random.default_rng(number).random((9, 9, 9)).astype(np.float32)
        nib.save(nib.Nifti1Image(volume, affine), tmp_path / f"mwp1sub-{number}.nii.gz")
    rows = ["participant_id\tage\ttiv", "sub-1\t30\t1400", "sub-2\t40\tn/a", "sub-3\t50\tn/a"]
    (tmp_path / "participants.tsv").write_text("\n".join(rows))
    return tmp_path


def test_maps_take_the_place_of_scans_and_head_sizes_fill_what_is_unknown(study):
    def prepare(paths, ids):
        assert list(ids.values()) == ["sub-1", "sub-2", "sub-3"]
        assert [path.name for path in paths.values()] == [f"sub-{n}_T1w.nii.gz" for n in (1, 2, 3)]
        made = {row: Ready(str(study / f"mwp1sub-{row + 1}.nii.gz"), 1500.0 + row) for row in paths}
        return {**made, 2: Ready("", fault="could not be prepared: The head is cropped.")}

    records, problems = read_cohort(
        study / "participants.tsv", "{participant_id}_T1w.nii.gz", expected_shape=(9, 9, 9), prepare=prepare
    )
    assert [record["image"] for record in records] == [str(study / f"mwp1sub-{n}.nii.gz") for n in (1, 2)]
    assert [record["tiv"] for record in records] == [1400, 1501]
    assert [problem.participant_id for problem in problems] == ["sub-3"]
    assert "The head is cropped" in problems[0].reason


def test_the_command_prepares_into_a_folder(study, monkeypatch, capsys):
    from bundle.cli.main import main

    def prepare(found, folder, pipeline="ants", workers=None):
        assert sorted(head.image.name for head in found.values()) == [f"sub-{n}_T1w.nii.gz" for n in (1, 2, 3)]
        return {
            name: Record(name, "ok", volumes={"tiv": 1600.0}, map={"file": f"mwp1{name}.nii.gz"})
            if "sub-3" not in name
            else Record(name, "fail", ("The head is cropped.",))
            for name in found
        }

    monkeypatch.setattr("bundle.preparation.rows.prepare_rows", prepare)
    command = ["cohort", "--table", str(study / "participants.tsv"), "--images", "{participant_id}_T1w.nii.gz"]
    output = ["--output", str(study / "all.json"), "--prepare", str(study), "--shape", "9", "9", "9"]
    assert main([*command, *output]) == 1
    assert "could not be prepared: The head is cropped" in capsys.readouterr().err
    assert main([*command, *output, "--skip-invalid", "--fractions", "training=1"]) == 0
    assert '"tiv": 1600' in (study / "all.json").read_text()
