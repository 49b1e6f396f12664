"""Regions of a scan: their volumes beside norms, what they change, and how table and page say it."""

import re
import shutil

import numpy as np
import pandas as pd
import pytest

from bundle.prediction.judgement import REASONS
from bundle.prediction.maps import in_regions
from bundle.prediction.norms import ABSENT, HealthyVolumes
from bundle.prediction.regions import NO_NORM, regions_table, section
from bundle.prediction.training_record import TrainingEmbeddings, TrainingRecord, load_record
from bundle.scans.contract import Contract
from bundle.scans.regions import REGIONS, region_weights, regional_volumes
from tests.conftest import ROOT, with_full_paths
from tests.prediction.conftest import calibrated_model

PERSON = {"age": 50.0, "sex": "M", "tiv": 1500.0}


def record_of(count):
    random = np.random.default_rng(0)
    known = {"age": np.linspace(20, 80, count), "sex": np.arange(count) % 2.0, "tiv": np.linspace(1300, 1700, count)}
    healthy = HealthyVolumes(5 + 0.1 * random.normal(size=(count, 35)), known) if count else None
    embeddings = TrainingEmbeddings(np.eye(6), np.full(6, np.nan), np.zeros(6))
    empty = np.zeros(0, dtype=int)
    return TrainingRecord(embeddings, empty, np.zeros(0), np.zeros((1, 2, 2, 2)), empty, healthy)


def predicted(*rows):
    names = ("name", "verdict", "reasons")
    table = pd.DataFrame([dict(zip(names, row, strict=True)) for row in rows])
    return table.assign(participant_id=table["name"], file="/" + table["name"])


def test_every_scan_that_was_not_refused_has_a_row_for_each_region():
    table = predicted(("a", "pass", ""), ("b", "refuse", "broken"), ("c", "warn", REASONS["far"]))
    volumes = np.full((3, 35), 5.0)
    found = regions_table([PERSON] * 3, table, volumes, record_of(40))
    assert found["name"].tolist() == ["a"] * 35 + ["c"] * 35
    assert found["side"].value_counts().to_dict() == {"left": 34, "right": 34, "both": 2}
    assert np.isfinite(found[["volume_ml", "expected_ml", "z", "percentile"]]).all(axis=None)
    assert found["attribution"].isna().all()
    assert regions_table([PERSON], table[1:2], volumes[:1], record_of(40)).empty


@pytest.mark.parametrize(
    ("reason", "count", "sentence"),
    [
        (REASONS["phantom"], 40, NO_NORM),
        (f"{REASONS['far']} | {REASONS['demonstration']}", 40, NO_NORM),
        ("", 0, ABSENT),
        ("", 10, "10 healthy people, and norms need at least 20"),
    ],
)
def test_where_there_are_no_norms_there_are_volumes_and_a_reason(reason, count, sentence):
    found = regions_table([PERSON], predicted(("a", "warn", reason)), np.full((1, 35), 5.0), record_of(count))
    assert (found["volume_ml"] == 5).all()
    assert found[["expected_ml", "z", "percentile"]].isna().all(axis=None)
    assert found["norms"].str.contains(sentence, regex=False).all()
    shown = section(found)
    assert shown["picture"] == ""
    assert shown["rows"][0]["left"]["z"] == ""
    assert sentence in shown["norms"]


def test_a_page_says_numbers_with_sides_and_never_certainty():
    volumes = np.full((1, 35), 5.0)
    volumes[0, [REGIONS.index("hippocampus_right"), 34]] = 4.0, 6.0
    found = regions_table([PERSON], predicted(("a", "pass", "")), volumes, record_of(40))
    found["attribution"] = np.where(found["region"] == "hippocampus", -0.126, 0.0)
    shown = section(found)
    assert shown["picture"].startswith("data:image/png")
    assert len(shown["rows"]) == 17
    first = shown["rows"][0]
    assert first["name"] == "hippocampus"
    assert first["left"]["volume"] == "5.0"
    assert float(first["right"]["z"].replace("−", "-")) < -5
    assert first["right"]["percentile"] == "below 1"
    assert first["right"]["attribution"] == "−0.13"
    assert shown["rest"]["percentile"] == "above 99"


@pytest.fixture(scope="module")
def answers(tiny_phantom, trained, made_once):
    """Two scans that were predicted with `--explain regions`, and a table that says who they are."""
    from bundle.cli.main import main

    def make(folder):
        records = with_full_paths(tiny_phantom / "alzheimer.json")["test"][:2]
        table = pd.DataFrame(records)[["participant_id", "image", "sex", "tiv"]].assign(age=75)
        table.to_csv(folder / "scans.tsv", sep="\t", index=False)
        command = ["predict", str(folder / "scans.tsv"), "--output", str(folder), "--num_workers", "0"]
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(ROOT)
            assert main([*command, "--model", str(calibrated_model(trained, folder)), "--explain", "regions"]) == 0

    return made_once("regions", make)


def test_volumes_and_z_of_predict_are_those_of_the_scan_before_normalisation(answers):
    found = pd.read_csv(answers / "regions.tsv", sep="\t")
    scans = pd.read_csv(answers / "scans.tsv", sep="\t")
    record = load_record(answers / "model.pt")
    assert len(found) == 70
    for person in scans.to_dict("records"):
        own = found[found["participant_id"] == person["participant_id"]]
        contract = Contract({"grid": _grid(answers)})
        volumes = regional_volumes(contract.examine(person["image"]).volume, contract.grid)
        assert own["volume_ml"].to_numpy() == pytest.approx(volumes, rel=1e-4)
        assert own["z"].to_numpy() == pytest.approx(record.volumes.compare(volumes, person).z, abs=1e-3)
        assert own["norms"].str.contains("of the same age, sex and head size").all()


def _grid(folder):
    from bundle.networks.cards import read_card

    return read_card(folder / "model.pt")["contract"]["grid"]


def test_the_change_by_region_is_in_table_map_and_page(answers):
    import nibabel as nib

    found = pd.read_csv(answers / "regions.tsv", sep="\t")
    name = found["name"].iloc[0]
    own = found[found["name"] == name]
    assert own["attribution"].abs().max() > 0
    assert own["attribution_unit"].str.contains("percentage points of the network's own probability of").all()
    drawn = nib.load(answers / "maps" / f"{name}_regions.nii.gz").get_fdata()
    grid = Contract({"grid": _grid(answers)}).grid
    expected = in_regions(own["attribution"].to_numpy() / 100, region_weights(grid), grid.shape)
    assert drawn == pytest.approx(expected, rel=1e-3, abs=1e-3 * float(np.abs(expected).max()))
    assert np.abs(expected).max() > 0
    page = (answers / "scans" / f"{name}.html").read_text()
    rows = re.findall(r'<th scope="row">hippocampus</th>(.*?)</tr>', page, re.DOTALL)
    cells = re.findall(r'data-label="left, change">([^<]*)<', rows[0])
    assert cells == [f"{own['attribution'].iloc[0]:+.2f}".replace("-", "−")]
    assert "replaced by that of the average healthy" in page


def test_a_second_run_adds_its_regions(answers, tmp_path):
    from bundle.prediction.output import AnswerFolder

    shutil.copy(answers / "regions.tsv", tmp_path)
    shutil.copy(answers / "predictions.csv", tmp_path)
    table, regions = pd.read_csv(tmp_path / "predictions.csv"), pd.read_csv(tmp_path / "regions.tsv", sep="\t")
    again = table.iloc[:1].assign(file="/other/scan.nii", name="other")
    more = regions[regions["name"] == table["name"].iloc[0]].assign(file="/other/scan.nii", name="other")
    empty = pd.DataFrame(columns=["participant_id", "file"])
    AnswerFolder(tmp_path, "append").publish(again, empty, None, [], more)
    assert pd.read_csv(tmp_path / "regions.tsv", sep="\t")["name"].value_counts().to_dict() == {
        **dict.fromkeys(table["name"], 35),
        "other": 35,
    }
    AnswerFolder(tmp_path, "overwrite").publish(again, empty, None, [], more)
    assert set(pd.read_csv(tmp_path / "regions.tsv", sep="\t")["name"]) == {"other"}
