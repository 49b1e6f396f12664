"""From table and images to a datalist: everything checked, all problems at once, nothing lost."""

import gzip
import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from monai.data import load_decathlon_datalist
from torch.utils.data import default_collate

from bundle.cohort.datalist import RECORD_KEYS, load_section, write_datalist
from bundle.cohort.participants import CohortError, Problem
from bundle.cohort.splits import split_by_column, split_by_participant
from bundle.cohort.table import read_cohort, write_excluded

SHAPE = (4, 5, 6)


def noise(seed=0, shape=SHAPE):
    return np.random.default_rng(seed).random(shape).astype(np.float32)


def save(path, volume):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, volume)
    else:
        nib.save(nib.Nifti1Image(volume, np.eye(4)), path)


def write_table(folder, rows, name="participants.tsv"):
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(folder / name, sep="\t", index=False)
    return folder / name


def read(table, images="{participant_id}.npy", **options):
    return read_cohort(table, images, expected_shape=SHAPE, **options)


def people(n, **columns):
    rows = [{"participant_id": f"sub-{i:02d}", "age": 20 + i, "sex": "FM"[i % 2]} for i in range(n)]
    return [{**row, **{k: v[i] for k, v in columns.items()}} for i, row in enumerate(rows)]


@pytest.fixture
def table(tmp_path):
    rows = people(3, diagnosis=["control", "depression", "n/a"], TIV=[1400, 1500.5, ""])
    for i, row in enumerate(rows):
        save(tmp_path / f"{row['participant_id']}.npy", noise(i))
    return write_table(tmp_path, rows)


def test_a_cohort_becomes_records(table):
    records, problems = read(table)
    assert problems == []
    assert [list(r) for r in records] == [list(RECORD_KEYS)] * 3
    assert records[1] == {
        "image": str(table.parent / "sub-01.npy"),
        "participant_id": "sub-01",
        "session_id": None,
        "site": None,
        "age": 21.0,
        "sex": "M",
        "tiv": 1500.5,
        "label": 1,
    }
    assert (records[2]["label"], records[2]["tiv"]) == (None, None)


def test_integer_ids_match_files_with_a_prefix(tmp_path):
    save(tmp_path / "sub-007_gm.npy", noise())
    (tmp_path / "t.csv").write_text("participant_id,age\n007,30\n")
    (record,), problems = read(tmp_path / "t.csv", "sub-{participant_id}_*.npy")
    assert (record["participant_id"], problems) == ("007", [])


@pytest.fixture
def bad_cohort(tmp_path):
    """Ten rows of which nine are wrong, each in its own way, the last in two."""
    rows = people(10)
    for i in range(10):
        save(tmp_path / f"sub-{i:02d}.nii.gz", noise(i))
    (tmp_path / "sub-01.nii.gz").unlink()
    whole = (tmp_path / "sub-02.nii.gz").read_bytes()
    (tmp_path / "sub-02.nii.gz").write_bytes(whole[: len(whole) // 2])
    save(tmp_path / "sub-03.nii.gz", np.full(SHAPE, np.nan, np.float32))
    save(tmp_path / "sub-04.nii.gz", np.ones(SHAPE, np.float32))
    save(tmp_path / "sub-05.nii.gz", noise(shape=(6, 5, 4)))
    (tmp_path / "sub-06.nii.gz").write_bytes(gzip.compress(b"no header"))
    rows[7]["age"] = "25;5"
    rows[8]["participant_id"] = "../sub-08"
    rows[9] |= {"age": 150, "sex": "1"}
    return write_table(tmp_path, rows)


def test_all_problems_are_reported_together(bad_cohort, caplog):
    records, problems = read(bad_cohort, "{participant_id}.nii.gz")
    assert [r["participant_id"] for r in records] == ["sub-00"]
    reasons = [(p.participant_id, p.reason) for p in problems]
    expected = [
        ("sub-01", "no image matches 'sub-01.nii.gz' in"),
        ("sub-02", "the image cannot be read"),
        ("sub-03", "has 120 NaN or infinite voxels of 120"),
        ("sub-04", "is constant (every voxel is 1)"),
        ("sub-05", "has 6×5×4 voxels, expected 4×5×6"),
        ("sub-06", "cannot be read"),
        ("sub-07", "age '25;5' is not a number; write years as a number such as 25.5"),
        ("../sub-08", "contains a path separator"),
        ("../sub-08", "no image matches"),
        ("sub-09", "age 150 is outside 0–120 years"),
        ("sub-09", "sex '1' is not understood"),
    ]
    assert [name for name, _ in reasons] == [name for name, _ in expected]
    for (_, reason), (_, part) in zip(reasons, expected, strict=True):
        assert part in reason
    with pytest.raises(CohortError, match=r"11 problem\(s\) in 9 scan\(s\)"):
        raise CohortError(problems)
    assert "1 images match no row" in caplog.text  # nobody gets the image of ../sub-08
    assert "sub-08.nii.gz" in caplog.text


def test_excluded_scans_are_written_beside_the_datalist(bad_cohort, tmp_path):
    _, problems = read(bad_cohort, "{participant_id}.nii.gz")
    write_excluded(tmp_path / "new" / "excluded.tsv", problems)
    written = pd.read_csv(tmp_path / "new" / "excluded.tsv", sep="\t", keep_default_na=False)
    assert list(written.columns) == ["participant_id", "session_id", "image", "reason"]
    assert len(written) == 11
    assert written["image"][1] == "../sub-02.nii.gz"
    assert written["image"][0] == ""
    assert written["reason"].tolist() == [p.reason for p in problems]


def test_excluded_is_overwritten_when_nothing_is_excluded_and_stays_a_table(tmp_path):
    path = tmp_path / "excluded.tsv"
    write_excluded(path, [Problem("a\tb", "", "", "two\nlines")])
    assert path.read_text().splitlines()[1:] == ["a b\t\t\ttwo lines"]
    write_excluded(path, [])
    assert path.read_text() == "participant_id\tsession_id\timage\treason\n"


def test_an_image_belongs_to_one_row_and_a_row_to_one_image(tmp_path):
    for name in ("sub-00_ses-1.npy", "sub-00_ses-2.npy", "sub-01_ses-1.npy"):
        save(tmp_path / name, noise())
    rows = [{"participant_id": p, "session": s} for p, s in (("sub-00", "1"), ("sub-01", 1), ("01", "2"))]
    table = write_table(tmp_path, rows)
    _, problems = read(table, "sub-{participant_id}_*.npy")
    text = "\n".join(p.reason for p in problems)
    assert "2 images match, 'sub-00_ses-1.npy', 'sub-00_ses-2.npy'; narrow the pattern" in text
    assert "2 rows match the same image sub-01_ses-1.npy; put what tells them apart" in text
    assert "is written with and without 'sub-'" in text
    records, _ = read(table, "{participant_id}_ses-{session_id}.npy")
    assert [(r["participant_id"], r["session_id"]) for r in records] == [("sub-00", "1")]


def test_a_field_of_the_pattern_must_be_known(tmp_path):
    save(tmp_path / "a_1.npy", noise())
    table = write_table(tmp_path, [{"participant_id": "a", "run": "1"}, {"participant_id": "b"}])
    records, (problem,) = read(table, "{participant_id}_{run}.npy")
    assert len(records) == 1
    assert "run is unknown, but the image pattern" in problem.reason
    with pytest.raises(CohortError, match=r"field \{runn\}; did you mean 'run'"):
        read(table, "{participant_id}_{runn}.npy")
    with pytest.raises(CohortError, match="names no field"):
        read(table, "a.npy")


def test_images_without_a_row_are_counted(table, caplog):
    for i in range(7):
        save(table.parent / f"extra{i}.npy", noise())
    assert len(read(table)[0]) == 3
    assert "7 images match no row" in caplog.text
    assert "'extra0.npy', 'extra1.npy'" in caplog.text


def test_implausible_head_sizes_are_problems(tmp_path):
    save(tmp_path / "sub-00.npy", noise())
    table = write_table(tmp_path, people(1, eTIV=[1512000.0]))
    _, (problem,) = read(table)
    assert "tiv 1512000.0 is outside 100–5000 mL; give millilitres (FreeSurfer" in problem.reason


def openbhb(folder):
    rows = []
    for i in range(12):
        split = ("train", "internal_test", "external_test")[i % 3]
        part = "train" if split == "train" else "val"
        person = 100 + i
        name = f"{part}/derivatives/sub-{person}/ses-1/sub-{person}_preproc-cat12vbm_desc-gm_T1w.npy"
        save(folder / name, noise(i, (1, 1, *SHAPE)))
        save(folder / name.replace("-gm_", "-wm_"), noise(i, (1, 1, *SHAPE)))
        rows.append(
            {"participant_id": person, "study": "ABIDE-1" if i > 9 else "IXI", "sex": "female",
             "age": 20.5 + i, "site": 1.0, "siteXacq": float(i % 3), "diagnosis": "control",
             "tiv": 1400.0, "split": split}
        )  # fmt: skip
    return write_table(folder, rows)


def test_openbhb_is_read_as_it_is(tmp_path):
    records, problems = read(
        openbhb(tmp_path),
        "*/derivatives/sub-{participant_id}/ses-1/*desc-gm_T1w.npy",
        columns={"split": "split", "study": "study"},
    )
    assert (len(records), problems) == (12, [])
    assert records[1]["image"].endswith("val/derivatives/sub-101/ses-1/sub-101_preproc-cat12vbm_desc-gm_T1w.npy")
    assert (records[1]["site"], records[1]["label"], records[1]["sex"]) == ("1.0", 0, "F")
    assert (records[11]["split"], records[11]["study"]) == ("external_test", "ABIDE-1")
    assert {k: len(v) for k, v in split_by_column(records).items()} == {
        "training": 4, "validation": 4, "test": 4,
    }  # fmt: skip


def test_thousands_of_rows_find_their_images(tmp_path, monkeypatch):
    n = 2_000  # tests/benchmarks/test_cohort.py: how time grows with the rows
    rows = {
        "participant_id": range(n),
        "age": np.random.default_rng(0).normal(40, 5, n),
        "sex": "F",
        "site": "s",
    }
    table = write_table(tmp_path, rows)
    names = [f"part{i % 3}/sub-{i}/mwp1sub-{i}_T1w.npy" for i in range(n)]
    monkeypatch.setattr("bundle.cohort.patterns._listing", lambda pattern, root: names)
    monkeypatch.setattr("bundle.cohort.table.volume_faults", lambda paths, *rest: [None] * len(paths))
    records, problems = read(table, "**/*{participant_id}_T1w.npy")
    assert (len(records), problems) == (n, [])
    assert all(r["image"].endswith(f"/mwp1sub-{i}_T1w.npy") for i, r in enumerate(records))


@pytest.fixture
def datalist(table, tmp_path):
    records, _ = read(table)
    records[0]["site"], records[1]["site"] = "Bonn", "Aachen"
    path = tmp_path / "lists" / "datalist.json"
    write_datalist(
        path, {"training": records[:2], "test": records[2:]}, description="Three", extra={"licence": "CC0"}
    )  # fmt: skip
    return path


def test_a_datalist_is_monais_and_can_be_moved(datalist, tmp_path):
    content = json.loads(datalist.read_text())
    assert content["training"][0]["image"] == "../sub-00.npy"
    assert content["test"][0]["tiv"] is None
    assert [content[k] for k in ("description", "licence", "numTraining", "numTest")] == [
        "Three", "CC0", 2, 1,
    ]  # fmt: skip
    assert content["validation"] == []
    assert list(datalist.parent.iterdir()) == [datalist]
    moved = tmp_path.rename(tmp_path.with_name("moved")) / "lists" / "datalist.json"
    monais = load_decathlon_datalist(moved, is_segmentation=False, data_list_key="test")
    assert Path(monais[0]["image"]).is_file()
    assert Path(load_section(moved, "training")[1]["image"]).is_file()


def test_numpy_values_and_nan_are_written_as_plain_json(tmp_path):
    record = {"image": tmp_path / "a.npy", "participant_id": "a", "age": np.float64("nan"), "label": np.int64(1)}
    write_datalist(tmp_path / "d.json", {"test": [record]}, description="")
    (item,) = json.loads((tmp_path / "d.json").read_text())["test"]
    assert (item["image"], item["age"], item["label"], item["sex"]) == ("a.npy", None, 1, None)


@pytest.mark.parametrize(
    ("sections", "sentence"),
    [
        ({"train": []}, "no section 'train'; use 'training', 'validation', 'test'"),
        ({"training": [{"participant_id": "x"}]}, "record of 'x' names no image"),
    ],
)
def test_a_datalist_that_is_none_is_not_written(tmp_path, sections, sentence):
    with pytest.raises(CohortError, match=sentence):
        write_datalist(tmp_path / "d.json", sections, description="")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_datalist(datalist):
    before = datalist.read_text()
    with pytest.raises(TypeError):
        write_datalist(datalist, {"test": [{"image": "a", "label": object()}]}, description="")
    assert datalist.read_text() == before


def test_a_section_is_ready_for_a_batch(datalist):
    items = load_section(datalist, "training") + load_section(datalist, "test")
    batch = default_collate(items)
    assert batch["age"].tolist() == [20, 21, 22]
    assert batch["label"].tolist() == [0, 1, -1]
    assert np.isnan(batch["tiv"][2])
    assert batch["site"] == ["Bonn", "Aachen", ""]


def test_metadata_is_stacked_in_the_order_asked_for(datalist):
    columns = ["site", "tiv", "sex", "age"]
    rows = [load_section(datalist, s, columns)[-1]["metadata"] for s in ("training", "test")]
    assert rows[0].dtype == np.float32
    np.testing.assert_array_equal(rows, [[0, 1500.5, 1, 21], [np.nan, np.nan, 0, 22]])


def test_ids_that_are_also_paths_stay_ids(tmp_path):
    (tmp_path / "sub-00").mkdir()
    save(tmp_path / "sub-00" / "gm.npy", noise())
    table = write_table(tmp_path, [{"participant_id": "sub-00", "site": "sub-00"}])
    records, _ = read(table, "{participant_id}/gm.npy")
    write_datalist(tmp_path / "d.json", {"training": records}, description="")
    (item,) = load_section(tmp_path / "d.json", "training")
    assert (item["participant_id"], item["site"], item["sex"]) == ("sub-00", "sub-00", "")
    assert item["image"] == str(tmp_path / "sub-00" / "gm.npy")


def test_empty_sections_and_plain_lists_of_images_are_read(tmp_path):
    (tmp_path / "d.json").write_text(json.dumps({"training": [], "test": ["a.npy"]}))
    assert load_section(tmp_path / "d.json", "training") == []
    (item,) = load_section(tmp_path / "d.json", "test")
    assert (item["image"], item["label"]) == (str(tmp_path / "a.npy"), -1)
    (tmp_path / "f.json").write_text(json.dumps({"test": [{"image": "a.npy", "label": 1.0}]}))
    assert load_section(tmp_path / "f.json", "test")[0]["label"] == 1
    (tmp_path / "e.json").write_text(json.dumps({"test": []}))
    assert load_section(tmp_path / "e.json", "test") == []


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "does not exist; make it first"),
        ("{", "is not valid JSON"),
        ("[]", "holds a list, expected the object of a datalist"),
        ('{"training": []}', "has no section 'test'; there is 'training'"),
        ('{"test": [{"label": 1}]}', "has an item without an image"),
        ('{"test": [{"image": "a", "age": "old"}]}', "age, tiv or label that is no number"),
        ('{"test": [{"image": "a", "label": "control"}]}', "age, tiv or label that is no number"),
        ('{"test": [{"image": "a", "label": 0.5}]}', r"has the label 0\.5, a fraction"),
        ('{"test": [{"image": "a", "label": 0.9}]}', r"expected 0 \(control\), 1 \(patient\) or null"),
        ('{"test": [{"image": "a", "sex": "male"}]}', "has sex 'male', expected 'F', 'M' or null"),
    ],
)
def test_a_datalist_that_cannot_be_read_is_refused(tmp_path, content, sentence):
    if content is not None:
        (tmp_path / "d.json").write_text(content)
    with pytest.raises(CohortError, match=sentence):
        load_section(tmp_path / "d.json", "test", ["sex"])


def test_an_unknown_metadata_column_is_refused(datalist):
    with pytest.raises(ValueError, match="No metadata column 'agee'; did you mean 'age'"):
        load_section(datalist, "training", ["agee"])


def test_a_real_cohort_goes_all_the_way(tmp_path):
    folder = Path(os.environ.get("YAWARE_TEST_DATA", "not set")) / "ds002748_gm"
    if not (folder / "participants.tsv").is_file():
        pytest.skip("YAWARE_TEST_DATA names no folder with ds002748_gm/participants.tsv")
    records, problems = read_cohort(folder / "participants.tsv", "mwp1{participant_id}_T1w.nii.gz")
    assert (len(records), problems) == (48, [])
    assert sum(r["label"] for r in records) == 34
    split = split_by_participant(records, {"training": 0.6, "validation": 0.2, "test": 0.2}, seed=0)
    write_datalist(tmp_path / "datalist.json", split, description="ds002748")
    test = load_section(tmp_path / "datalist.json", "test", ["age", "sex"])
    assert len(test) == 9
    assert sum(item["label"] for item in test) in (6, 7)
    assert all(np.isfinite(item["metadata"]).all() for item in test)
