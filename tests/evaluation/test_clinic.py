import doctest
import json

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from scipy.special import expit

from bundle.evaluation import clinic_table as module
from bundle.evaluation.classifier import report_evaluation
from bundle.evaluation.clinic import CALIBRATED, NETWORK, Asked, numbers_for_a_clinic
from bundle.evaluation.clinic_table import clinic_table
from bundle.files import read_json
from bundle.metrics.answers import Validation
from bundle.metrics.classification import calibrated, operating_point, platt

METRICS = {"val_auc": 0.8, "val_threshold": 0.5, "val_sensitivity": 0.8, "val_specificity": 0.7}
NAMES = ["control", "Alzheimer's disease"]


def said(people, seed, sureness=2.5, effect=1.5):
    """Labels and probabilities of a network whose log odds are `sureness` times what they should be."""
    rng = np.random.default_rng(seed)
    labels = np.arange(people) % 2
    return labels, expit(sureness * effect * (rng.normal(size=people) + effect * (labels - 0.5)))


def on_test(people=160, seed=0, **options):
    labels, probabilities = said(people, seed, **options)
    sites = np.where(np.arange(people) % 5 < 3, "siteA", "siteB")
    return pd.DataFrame({"label": labels, "probability": probabilities, "site": sites})


def validation(people=80, seed=1, **options):
    labels, probabilities = said(people, seed, **options)
    return Validation(labels, probabilities, platt(labels, probabilities))


def test_an_over_confident_network_is_seen_and_its_calibrated_probabilities_are_right():
    content = numbers_for_a_clinic(on_test(2000), validation(2000)).content
    network, right = (content["probabilities"][kind]["recalibration"] for kind in (NETWORK, CALIBRATED))
    assert network["slope"] == pytest.approx(1 / 2.5, abs=0.05)
    assert network["slope_interval"][0] < 1 / 2.5 < network["slope_interval"][1] < 0.6
    assert right["slope"] == pytest.approx(1, abs=0.12)
    assert right["in_the_large_interval"][0] < 0 < right["in_the_large_interval"][1]
    worse, better = (content["probabilities"][kind]["brier"]["brier"] for kind in (NETWORK, CALIBRATED))
    assert better < worse
    assert content["left_out"] == []


def test_calibrated_probabilities_are_those_of_platts_scaling_on_the_validation():
    people, known = on_test(), validation()
    content = numbers_for_a_clinic(people, known).content
    again = people.assign(probability=calibrated(people["probability"], *known.calibration))
    found = numbers_for_a_clinic(again, Validation(known.labels, known.probabilities)).content["probabilities"]
    assert list(found) == [NETWORK]
    assert found[NETWORK] == content["probabilities"][CALIBRATED]


def test_examples_of_the_documentation_are_right():
    assert doctest.testmod(module).failed == 0


def test_thresholds_and_sets_are_chosen_on_the_validation_alone():
    people, known = on_test(), validation()
    first = numbers_for_a_clinic(people, known, Asked(0.8, [0.85])).content
    others = numbers_for_a_clinic(on_test(90, seed=5), known, Asked(0.8, [0.85])).content
    assert [row["cutoff"] for row in first["conformal"]["classes"]] == [
        row["cutoff"] for row in others["conformal"]["classes"]
    ]
    (row,), (other,) = first["fixed_specificity"], others["fixed_specificity"]
    assert row["asked"] == 0.85
    assert row["chosen_on"] == {"controls": 40, "patients": 40}
    assert row["threshold"] == other["threshold"]
    assert row["threshold"] == operating_point(known.labels, known.probabilities, "specificity=0.85")
    assert row["own_sensitivity"] != other["own_sensitivity"]


def test_sets_and_coverage_are_counted():
    people, known = on_test(), validation()
    found = numbers_for_a_clinic(people, known).content["conformal"]
    assert found["level"] == 0.9
    for label, row in enumerate(found["classes"]):
        own = people["probability"][people["label"] == label]
        of_control, of_patient = own <= found["classes"][0]["cutoff"], 1 - own <= found["classes"][1]["cutoff"]
        assert row["coverage"] == (of_patient if label else of_control).mean()
        assert row["only_control"]["share"] == (of_control & ~of_patient).mean()
        assert row["only_patient"]["share"] == (of_patient & ~of_control).mean()
        assert row["both"]["share"] == (of_control & of_patient).mean()
        assert row["none"]["share"] == (~of_control & ~of_patient).mean()
        assert (row["n"], row["calibrated_on"]) == (80, 40)
    both = sum(row["both"]["count"] for row in found["classes"])
    assert found["all"]["both"]["count"] == both


def left_out(people, known, **asked):
    """The content, and the sentences about what is left out as one text."""
    content = numbers_for_a_clinic(people, known, Asked(**asked)).content
    assert clinic_table(content, NAMES).endswith("\n")
    json.dumps(content, default=float)
    return content, " ".join(content["left_out"])


def test_weights_from_elsewhere_have_neither_sets_nor_thresholds():
    content, words = left_out(on_test(), Validation(missing="There is no model_record.npz."))
    assert words.count("There is no model_record.npz.") == 3
    assert content["conformal"] is None
    assert all("threshold" not in row and 0 < row["own_sensitivity"] <= 1 for row in content["fixed_specificity"])
    assert list(content["probabilities"]) == [NETWORK]


def test_a_small_validation_gives_no_sets_of_a_level():
    content, words = left_out(on_test(), validation(37), conformal_level=0.95)
    assert content["conformal"] is None
    assert "at least 19 patients of the validation, but there are 18" in words
    assert left_out(on_test(), validation(38), conformal_level=0.95)[0]["conformal"] is not None


def test_a_validation_of_one_class_chooses_nothing():
    content, words = left_out(on_test(), Validation(np.zeros(30, dtype=int), np.linspace(0.1, 0.9, 30)))
    assert "at least 9 patients of the validation, but there are 0" in words
    assert "the validation has 30 controls and 0 patients" in words
    assert "threshold" not in content["fixed_specificity"][0]


@pytest.mark.parametrize("label", [0, 1])
def test_a_test_of_one_class_has_what_one_class_can_have(label):
    people = on_test()
    content, words = left_out(people[people["label"] == label], validation())
    network = content["probabilities"][NETWORK]
    assert "The calibration slope (network) is left out: the participants are of one class." in words
    assert "decision curve is left out" in words
    assert "decision_curve" not in network
    assert network["brier"]["brier"] > 0
    assert content["fixed_specificity"] is None
    mine, other = content["conformal"]["classes"][label], content["conformal"]["classes"][1 - label]
    assert 0 < mine["coverage"] <= 1
    assert "coverage" not in other


@pytest.mark.parametrize("label", [0, 1])
def test_one_person_is_no_crash(label):
    people = on_test()
    content, words = left_out(people[people["label"] == label].head(1), validation())
    assert "is left out" in words
    assert content["probabilities"][NETWORK]["sites"][0]["n"] == 1


def test_classes_that_are_told_apart_perfectly_have_no_slope():
    people = pd.DataFrame({"label": [0, 0, 0, 1, 1, 1], "probability": [0.1, 0.2, 0.3, 0.7, 0.8, 0.9]})
    content, words = left_out(people, validation())
    assert np.isnan(content["probabilities"][NETWORK]["recalibration"]["slope"])
    assert "(network) is left out: the probabilities of patients and controls do not overlap" in words
    assert "the datalist has no sites" in words
    same, words = left_out(people.assign(probability=0.4), validation())
    assert "all probabilities are the same" in words
    assert same["probabilities"][NETWORK]["recalibration"]["slope_interval"] is None


def test_an_interval_that_many_resamples_lack_is_left_out():
    people = pd.DataFrame(
        {"label": [0, 0, 0, 0, 1, 1, 1, 1], "probability": [0.1, 0.2, 0.3, 0.75, 0.7, 0.8, 0.9, 0.95]}
    )
    content, words = left_out(people, validation())
    found = content["probabilities"][NETWORK]["recalibration"]
    assert found["slope"] > 0
    assert found["slope_interval"] is None
    assert "intervals of the calibration slope and intercept (network) are left out: in" in words


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -0.1, 1.5])
def test_a_probability_that_is_none_leaves_all_out(wrong):
    people = on_test()
    people.loc[3, "probability"] = wrong
    content, words = left_out(people, validation())
    assert words == "All is left out: 1 of 160 probabilities are not from 0 to 1."
    assert list(content) == ["left_out"]


@pytest.fixture
def predictions(tmp_path):
    """A table of two scans of each of 60 people, one of whom was scanned at two sites."""
    labels, probabilities = said(60, 3)
    who = np.repeat(np.arange(60), 2)
    table = pd.DataFrame({"participant_id": [f"{n:03d}" for n in who], "session_id": ["1", "2"] * 60})
    table["site"] = np.where(who % 2, "01", "02")
    table.loc[0, "site"] = "03"
    table["label"] = labels[who]
    table["probability_control"] = 1 - np.clip(probabilities[who] + np.tile([0.01, -0.01], 60), 0, 1)
    table["probability_Alzheimer's disease"] = 1 - table["probability_control"]
    table.to_csv(tmp_path / "predictions.csv", index=False, float_format="%.6f")
    return tmp_path, table


def test_what_evaluate_writes_is_of_people(predictions):
    folder, table = predictions
    report_evaluation(folder, METRICS, validation=validation(), asked=Asked(seed=3))
    written = read_json(folder / "metrics.json")["clinic"]
    people = table.groupby("participant_id").agg(label=("label", "max"), p=(table.columns[-1], "mean"))
    network = written["probabilities"][NETWORK]
    assert network["brier"]["brier"] == pytest.approx(((people["p"] - people["label"]) ** 2).mean(), abs=1e-6)
    assert [(row["site"], row["n"]) for row in network["sites"]] == [("01", 30), ("02", 29), ("several sites", 1)]
    assert network["sites"][2]["low"] is None
    assert sum(row["n"] for row in written["conformal"]["classes"]) == 60
    curve = pd.read_csv(folder / "decision_curve.csv")
    assert curve.groupby("probabilities").size().to_dict() == {CALIBRATED: 99, NETWORK: 99}
    text = (folder / "clinic.md").read_text()
    assert "60 test participants (Alzheimer's disease: 30)" in text
    assert f"{network['recalibration']['slope']:.2f}" in text
    assert "## Left out" not in text
    assert imread(folder / "clinic.png").std() > 0.01


def test_without_a_validation_the_rest_is_written_and_drawn(predictions):
    folder, _ = predictions
    report_evaluation(folder, METRICS)
    written = read_json(folder / "metrics.json")
    assert written["auc_interval"][0] < written["auc_interval"][1]
    assert written["clinic"]["conformal"] is None
    assert "was not given what the model said of its validation" in (folder / "clinic.md").read_text()
    assert imread(folder / "clinic.png").std() > 0.01
