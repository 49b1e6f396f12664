"""Which scans are predicted: the same reader as of a cohort, and a refusal that names every row that is not certain."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bundle.cli.main import main
from bundle.cohort.participants import CohortError
from bundle.prediction.listing import list_scans


def listed(folder, text, name="t.tsv", images=None):
    (folder / name).write_text(text)
    return [(r["participant_id"], r["age"]) for r in list_scans(folder / name, images)]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("file\tparticipant_id\tage\na.nii\tann\t71,5\nb.nii\tbob\t089Y\nc.nii\tcid\t-4\n", "t.tsv"),
        ("Datei;Proband;Alter\na.nii;ann;71,5\nb.nii;bob;89+\nc.nii;cid;999\n", "t.csv"),
        ("sep=;\nPath;SUBJECT;Age\na.nii;ann;71.5\nb.nii;bob;1068M\nc.nii;cid;unknown\n", "t.txt"),
    ],
)
def test_a_table_of_files_is_read_as_a_cohort_is(tmp_path, text, name):
    people = listed(tmp_path, text, name)
    assert people[:2] == [("ann", 71.5), ("bob", 89.0)]
    assert people[2][0] == "cid"
    assert np.isnan(people[2][1])


def test_an_excel_file_is_a_table_too(tmp_path):
    pd.DataFrame({"file": ["a.nii"], "age": [71]}).to_excel(tmp_path / "t.xlsx", index=False)
    assert [(r["participant_id"], r["age"]) for r in list_scans(tmp_path / "t.xlsx")] == [("a", 71.0)]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("file\tage\na.nii\t864\nb.nii\t71\n", "row 1: age 864 is outside 0–120 years"),
        ("file\tage\na.nii\t864\nb.nii\t852\n", "look like months or weeks, not years; divide them"),
        ("file\tage\na.nii\tinf\nb.nii\told\n", r"2 problem\(s\)(.|\n)*row 1: age 'inf'(.|\n)*row 2: age 'old'"),
        ("file\tage\n\t71\n", "row 1: names no file"),
        ("file\tsex\na.nii\t1\nb.nii\tF\n", "row 1: sex '1' is not understood; write F, M or n/a"),
        ("file\tsex\na.nii\tH\nb.nii\tM\n", r"hombre and mujer.* Write F, M or n/a there\."),
        ("file\ttiv\na.nii\t1.4\n", "row 1: tiv 1.4 is outside 100–5000 mL; give millilitres"),
        ("file\tage_months\tAge\na.nii\t864\t72\n", ""),
        ("participant_id\tage\nann\t71\n", "has no column 'file'.* --images 'mri/mwp1{participant_id}.nii'"),
    ],
)
def test_rows_that_are_not_certain_are_refused_by_number(tmp_path, text, sentence):
    if not sentence:
        assert listed(tmp_path, text) == [("a", 72.0)]
        return
    with pytest.raises(ValueError, match=sentence):
        listed(tmp_path, text)


def people(found):
    return [(record["sex"], record["tiv"]) for record in found]


def test_sex_and_head_size_are_read_from_tables_and_datalists(maps):
    (maps / "t.csv").write_text("file;Geschlecht;TIV\na.nii;weiblich;1400\nb.nii;M;1510,5\n")
    assert people(list_scans(maps / "t.csv")) == [("F", 1400.0), ("M", 1510.5)]
    (maps / "p.tsv").write_text("participant_id\tsex\n01\tn/a\nsub-02\tmale\n")
    assert [sex for sex, _ in people(list_scans(maps / "p.tsv", PATTERN))] == ["", "M"]
    image = {"image": "mri/mwp1sub-01.npy", "participant_id": "01"}
    (maps / "d.json").write_text(json.dumps({"test": [{**image, "sex": "M", "tiv": 1500.5}]}))
    assert people(list_scans(maps / "d.json")) == [("M", 1500.5)]
    assert np.isnan(list_scans(maps / "mri")[0]["tiv"])


@pytest.mark.parametrize("table", ["file\ttiv\nmwp1sub-01.npy\t1400\n", "participant_id\ttiv\nsub-01\t1400\n"])
def test_head_sizes_may_stand_beside_the_scans(maps, table):
    (maps / "mri" / "tiv.tsv").write_text(table)
    sizes = [record["tiv"] for record in list_scans(maps / "mri")]
    assert sizes[0] == 1400
    assert np.isnan(sizes[1])
    assert list_scans(maps / "mri" / "mwp1sub-01.npy")[0]["tiv"] == 1400
    (maps / "t.tsv").write_text("file\ttiv\nmri/mwp1sub-01.npy\t1300\n")
    assert list_scans(maps / "t.tsv")[0]["tiv"] == 1300, "a table of scans comes first"


def test_head_sizes_that_prepare_has_written_are_found(tmp_path):
    """Maps side by side, and BIDS derivatives."""
    rows = "sub-01\tses-2\tsub-01_ses-2_T1w\t1400\nn/a\tn/a\thead.a\t1500\n"
    (tmp_path / "tiv.tsv").write_text("participant_id\tsession_id\tname\ttiv\n" + rows)
    anat = tmp_path / "sub-01" / "ses-2" / "anat"
    anat.mkdir(parents=True)
    bids = anat / "sub-01_ses-2_space-MNI152NLin2009cAsym_label-GM_desc-modulated_probseg.nii.gz"
    for path in (bids, tmp_path / "mwp1head.a.nii.gz", tmp_path / "mwp1sub-01_ses-2_T1w.nii.gz", tmp_path / "b.nii"):
        path.touch()
    sizes = {Path(record["image"]).name: record["tiv"] for record in list_scans(tmp_path)}
    assert np.isnan(sizes.pop("b.nii"))
    assert sizes == {bids.name: 1400, "mwp1head.a.nii.gz": 1500, "mwp1sub-01_ses-2_T1w.nii.gz": 1400}


def test_head_sizes_beside_the_scans_are_not_guessed(maps):
    table = maps / "mri" / "tiv.tsv"
    table.write_text("participant_id\ttiv\n01\t1400\n01\t1500\n02\t1600\n02\t1600\n")
    first, second = (record["tiv"] for record in list_scans(maps / "mri"))
    assert np.isnan(first)
    assert second == 1600
    table.write_text("participant_id\ttiv\n01\t1.4\n")
    with pytest.raises(ValueError, match=r"tiv\.tsv: row 1: tiv 1\.4 is outside"):
        list_scans(maps / "mri")
    table.write_text("who\tvolume\n01\t1400\n")
    with pytest.raises(ValueError, match="needs a column 'tiv'"):
        list_scans(maps / "mri")


@pytest.fixture
def maps(tmp_path):
    (tmp_path / "mri").mkdir()
    for name in ("01", "02"):
        np.save(tmp_path / f"mri/mwp1sub-{name}.npy", np.ones((2, 2, 2), np.float32))
    return tmp_path


PATTERN = "mri/mwp1{participant_id}.npy"


def test_a_table_of_participants_goes_with_a_pattern(maps):
    (maps / "p.tsv").write_text("participant_id\tage\n01\t40\nsub-02\t41\n")
    found = list_scans(maps / "p.tsv", PATTERN)
    assert [r["image"] for r in found] == [str(maps / f"mri/mwp1sub-{name}.npy") for name in ("01", "02")]
    assert [(r["participant_id"], r["age"], r["name"]) for r in found] == [
        ("01", 40.0, "01"),
        ("sub-02", 41.0, "sub-02"),
    ]


def test_participants_without_an_image_are_named(maps):
    with pytest.raises(CohortError, match=r"ann: row 2: no image matches 'mri/mwp1ann.npy'"):
        listed(maps, "participant_id\tage\n01\t40\nann\t41\n", images=PATTERN)
    with pytest.raises(CohortError, match=r"names a field \{participant\}; did you mean 'participant_id'"):
        listed(maps, "participant_id\tage\n01\t40\n", images="mri/{participant}.npy")
    with pytest.raises(ValueError, match="--images goes with a table of participants"):
        list_scans(maps, PATTERN)


def test_all_sections_of_a_datalist_are_predicted(maps):
    records = [
        {"image": f"mri/mwp1sub-{n}.npy", "participant_id": n, "age": a} for n, a in (("01", 40.5), ("02", None))
    ]
    (maps / "d.json").write_text(json.dumps({"training": records[:1], "validation": [], "test": records[1:]}))
    found = list_scans(maps / "d.json")
    assert [(r["participant_id"], r["image"]) for r in found] == [
        (r["participant_id"], str(maps / r["image"])) for r in records
    ]
    assert found[0]["age"] == 40.5
    assert np.isnan(found[1]["age"])
    records[0]["age"] = 864
    (maps / "d.json").write_text(json.dumps({"test": records}))
    with pytest.raises(CohortError, match=r"01: row 1: age 864\.0 is outside 0–120 years"):
        list_scans(maps / "d.json")


def test_check_takes_a_pattern(maps, capsys):
    (maps / "p.tsv").write_text("participant_id\n01\n")
    main(["check", str(maps / "p.tsv"), "--images", PATTERN])
    assert "mwp1sub-01.npy: refuse" in capsys.readouterr().out
