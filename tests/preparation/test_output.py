"""Tables that `cohort` reads, and BIDS derivatives for BIDS datasets."""

import json

import pandas as pd
import pytest

from bundle.cli.main import main
from bundle.files import SECTIONS
from bundle.preparation import Head, run
from bundle.preparation.output import Folder, is_bids
from bundle.preparation.record import read_record
from tests.preparation import fake
from tests.preparation.conftest import in_this_process

FIRST = "sub-1_ses-a_acq-mp2_run-1"


@pytest.fixture(scope="session")
def derivatives(made_once):
    """What becomes of a BIDS dataset of three scans, of which one fails."""

    def make(folder):
        heads = [
            fake.head(folder, FIRST, inside="sub-1/ses-a/anat", participant_id="sub-1", session_id="ses-a"),
            fake.head(folder, "sub-2", fake.DOUBTFUL, inside="sub-2/anat", file="sub-2_T1w", participant_id="sub-2"),
            fake.head(folder, "sub-3", fake.BAD, inside="sub-3/anat", file="sub-3_T1w", participant_id="sub-3"),
        ]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(run, "each_in_a_process", in_this_process)
            assert run.prepare_scans(heads, [], folder / "derivatives", fake.prepare).exit_status == 3

    return made_once("derivatives", make) / "derivatives"


def test_bids_in_gives_bids_derivatives_out(derivatives):
    space = "space-MNI152NLin2009cAsym_label-GM_desc-modulated_probseg"
    for place in (f"sub-1/ses-a/anat/{FIRST}_{space}", f"sub-2/anat/sub-2_{space}"):
        assert (derivatives / f"{place}.nii.gz").is_file()
        record = read_record(derivatives / f"{place}.json")
        assert record.map["file"] == f"{place}.nii.gz"
    assert not (derivatives / "sub-3").exists()
    said = json.loads((derivatives / "dataset_description.json").read_text())
    assert (said["DatasetType"], said["GeneratedBy"]) == ("derivative", [{"Name": "fake", "Version": "3"}])
    assert {"Name", "BIDSVersion"} <= said.keys()
    ignored = (derivatives / ".bidsignore").read_text().split()
    others = {path.name for path in derivatives.iterdir() if not path.name.startswith((".", "sub-", "dataset_"))}
    assert others == set(ignored)


def assert_cohort_reads(folder, pattern, tmp_path, capsys):
    command = [
        "cohort",
        "--table",
        str(folder / "tiv.tsv"),
        "--images",
        pattern,
        "--fractions",
        "training=0.5",
        "validation=0.5",
    ]
    assert main([*command, "--output", str(tmp_path / "datalist.json")]) == 0, capsys.readouterr().err
    content = json.loads((tmp_path / "datalist.json").read_text())
    found = {record["participant_id"]: record["tiv"] for section in SECTIONS for record in content[section]}
    assert found == {"sub-1": 1400.0, "sub-2": 1400.0}


def test_cohort_reads_the_table_of_bids_derivatives(derivatives, tmp_path, capsys):
    pattern = "{participant_id}/**/*_desc-modulated_probseg.nii.gz"
    assert_cohort_reads(derivatives, pattern, tmp_path, capsys)


def test_cohort_reads_the_table_of_a_plain_folder(prepared, tmp_path, capsys):
    assert_cohort_reads(prepared / "out", "mwp1{name}.nii.gz", tmp_path, capsys)


def test_tables_say_what_is_not_known(prepared):
    table = pd.read_csv(prepared / "out" / "tiv.tsv", sep="\t", keep_default_na=False)
    assert list(table) == ["participant_id", "session_id", "name", "tiv", "gm", "wm", "csf"]
    assert table.values.tolist() == [
        ["sub-2", "n/a", "doubtful", 1400, 650.25, 500, 249.75],
        ["sub-1", "n/a", "good", 1400, 650.25, 500, 249.75],
    ]


@pytest.mark.parametrize(
    ("inside", "name", "bids"),
    [
        ("sub-1/anat", "sub-1", True),
        ("sub-1/ses-2/anat", "sub-1_ses-2_run-1", True),
        ("sub-1/anat", "sub-1_ses-2", False),
        ("sub-2/anat", "sub-1", False),
        ("scans", "sub-1", False),
        ("sub-1/anat", "head", False),
    ],
)
def test_only_scans_that_lie_as_bids_wants_it_are_bids(inside, name, bids, tmp_path):
    assert is_bids([Head(name, tmp_path / inside / f"{name}_T1w.nii.gz", tmp_path)]) == bids


def test_two_suffixes_of_one_scan_are_not_one_file(tmp_path):
    heads = [Head(f"sub-1_{suffix}", tmp_path / "x.nii", tmp_path) for suffix in ("T1w", "UNIT1")]
    with pytest.raises(ValueError, match="would be one file"):
        Folder(tmp_path, bids=True).require_names(heads)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": 2}', '{"format": 1, "name": "x"}'])
def test_a_json_file_of_somebody_else_is_no_record(text, tmp_path):
    (tmp_path / "mwp1x.json").write_text(text)
    assert Folder(tmp_path).records() == []
