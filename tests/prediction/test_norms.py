"""Norms of regional volumes: a person's deviation from healthy people of that age, sex and head size."""

import json
import logging
import re
import shutil

import numpy as np
import pytest
from scipy.stats import t as student

from bundle.cohort.datalist import load_section
from bundle.prediction import norms
from bundle.prediction.norms import HealthyVolumes, measured
from bundle.prediction.training_record import load_record, record_path
from bundle.scans.contract import Contract
from bundle.scans.regions import REGIONS, regional_volumes
from tests.conftest import ROOT

PERSON = {"age": 60.0, "sex": "F", "tiv": 1500.0}


def people(count, seed=0):
    """Healthy people whose first region shrinks with age, and is larger in men and in large heads."""
    random = np.random.default_rng(seed)
    known = {
        "age": random.uniform(20, 80, count),
        "sex": np.arange(count) % 2.0,
        "tiv": random.normal(1500, 100, count),
    }
    expected = 5 - 0.02 * (known["age"] - 50) - 4e-4 * (known["age"] - 50) ** 2
    expected += 0.3 * known["sex"] + 0.003 * (known["tiv"] - 1500)
    return expected[:, None] + 0.2 * random.normal(size=(count, 35)), known


def naive(volumes, known, person, columns):
    """One region at a time by the normal equations."""
    design = np.stack([column(known) for column in columns], 1)
    new = np.array([float(np.ravel(column(person))[0]) for column in columns])
    inverse = np.linalg.inv(design.T @ design)
    found = []
    for region in volumes.T:
        coefficients = inverse @ design.T @ region
        variance = ((region - design @ coefficients) ** 2).sum() / (len(design) - len(columns))
        found.append((new @ coefficients, np.sqrt(variance * (1 + new @ inverse @ new))))
    return np.array(found).T


COLUMNS = {
    "age": [lambda k: k["age"] / 50, lambda k: (k["age"] / 50) ** 2],
    "sex": [lambda k: k["sex"]],
    "tiv": [lambda k: k["tiv"] / 1500],
}


@pytest.mark.parametrize("used", [("age", "sex", "tiv"), ("age", "sex"), ("sex",), ()])
def test_z_and_percentile_are_those_of_the_equations(used):
    volumes, known = people(60)
    unknown = {"age": np.nan, "sex": "", "tiv": np.nan}
    person = {name: PERSON[name] if name in used else unknown[name] for name in PERSON}
    found = HealthyVolumes(volumes, known).compare(volumes[3], person)
    columns = [lambda k: 1 + 0 * k["age"], *(column for name in used for column in COLUMNS[name])]
    expected, deviation = naive(volumes, known, {**PERSON, "sex": 0.0}, columns)
    assert found.expected == pytest.approx(expected)
    assert found.z == pytest.approx((volumes[3] - expected) / deviation)
    assert found.percentile == pytest.approx(100 * student.cdf(found.z, 60 - len(columns)))
    for name, words in norms.COVARIATES.items():
        assert (f"The person's {words} is not known" in found.sentence) == (name not in used)
    assert "60 healthy training people" in found.sentence


@pytest.mark.parametrize("count", [20, 200])
def test_percentiles_of_healthy_people_are_uniform_also_of_few_training_people(count):
    below = []
    for seed in range(20 if count == 20 else 5):
        healthy = HealthyVolumes(*people(count, seed))
        inside = {name: (values.min(), values.max()) for name, values in healthy.known.items()}
        new, known = people(60, seed + 1000)
        for row in range(60):
            person = {"age": known["age"][row], "sex": "FM"[row % 2], "tiv": known["tiv"][row]}
            if all(inside[name][0] <= person[name] <= inside[name][1] for name in ("age", "tiv")):
                below.append(healthy.compare(new[row], person).percentile)
    shares = [(np.array(below) < level).mean() for level in (2.5, 50, 97.5)]
    assert shares == pytest.approx([0.025, 0.5, 0.975], abs=0.015)


@pytest.mark.parametrize(
    ("person", "sentence"),
    [
        (
            {"age": 95.0},
            r"age is 95 years; that of the healthy training people is 2\d to \d\d\. Beyond them .* no norms",
        ),
        ({"tiv": 2500.0}, "head size is 2500 mL"),
        ({"sex": "M"}, "of the other sex"),
    ],
)
def test_a_person_unlike_all_training_people_has_no_norms(person, sentence):
    volumes, known = people(40)
    women = known["sex"] == 0
    healthy = HealthyVolumes(volumes[women], {name: values[women] for name, values in known.items()})
    assert healthy.compare(volumes[0], PERSON).is_known
    found = healthy.compare(volumes[0], {**PERSON, **person})
    assert not found.is_known
    assert np.isnan([found.expected, found.z, found.percentile]).all()
    assert re.search(sentence, found.sentence)


def test_too_few_people_are_no_norm():
    found = HealthyVolumes(*people(19)).compare(np.ones(35), PERSON)
    assert not found.is_known
    assert "19 healthy people, and norms need at least 20" in found.sentence
    assert HealthyVolumes(*people(20)).compare(np.ones(35), PERSON).is_known


def test_what_is_known_of_too_few_training_people_is_left_out_and_said():
    volumes, known = people(40)
    known["tiv"][5:] = np.nan
    found = HealthyVolumes(volumes, known).compare(volumes[0], PERSON)
    assert "40 healthy training people of the same age and sex" in found.sentence
    assert "The head size of too few training people is known" in found.sentence
    known["age"][:] = 50.0
    assert HealthyVolumes(volumes, known).compare(volumes[0], {**PERSON, "age": 50.0}).is_known


def test_healthy_people_are_measured_once_each_and_before_any_normalisation(tiny_phantom):
    records = load_section(tiny_phantom / "alzheimer.json", "training")
    grid = Contract({"grid": json.loads((tiny_phantom / "phantom.json").read_text())}).grid
    again = next(record for record in records if record["label"] == 0)
    found = measured([*records, again], grid)
    there = np.isfinite(found["regional_volumes"]).all(1)
    assert there.tolist() == [*(record["label"] == 0 for record in records), False]
    row = records.index(again)
    volume = Contract({"grid": grid.card}).examine(again["image"]).volume
    assert found["regional_volumes"][row] == pytest.approx(regional_volumes(volume, grid), rel=1e-5)
    assert 400 < found["regional_volumes"][row].sum() < 1200
    assert found["sexes"][row] == "FM".index(again["sex"])
    assert found["tivs"][row] == pytest.approx(again["tiv"])


def test_a_training_image_that_is_gone_has_no_place_in_the_norms(tiny_phantom, caplog):
    record = {**load_section(tiny_phantom / "alzheimer.json", "training")[0], "label": 0, "image": "gone.nii.gz"}
    with caplog.at_level(logging.WARNING):
        assert np.isnan(measured([record], Contract().grid)["regional_volumes"]).all()
    assert "gone.nii.gz has no place in the norms" in caplog.text


def test_training_keeps_regional_volumes_and_older_records_have_none(trained, tmp_path):
    found = load_record(trained / "model.pt")
    assert len(found.volumes.volumes) == (found.embeddings.labels == 0).sum()
    assert np.isfinite(found.volumes.known["tiv"]).all()
    assert set(found.volumes.known["sex"]) == {0.0, 1.0}
    assert load_record(ROOT / "models" / "model.pt").volumes is not None
    shutil.copy(record_path(trained / "model.pt"), tmp_path)
    with np.load(tmp_path / "model_record.npz") as arrays:
        content = dict(arrays)
    earlier = {name: value for name, value in content.items() if name not in ("regional_volumes", "sexes", "tivs")}
    np.savez(tmp_path / "model_record.npz", **{**earlier, "format": 2})
    assert load_record(tmp_path / "model.pt").volumes is None
    for wrong in ({"sexes": content["sexes"] + 0.5}, {"regional_volumes": content["regional_volumes"][:, 1:]}):
        np.savez(tmp_path / "model_record.npz", **{**content, **wrong})
        with pytest.raises(ValueError, match="no record of a training"):
            load_record(tmp_path / "model.pt")
    assert len(REGIONS) == content["regional_volumes"].shape[1]
