import doctest
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, logit

from bundle.prediction import judgement
from bundle.prediction.judgement import Scale, distance_check, percentile_text, shown
from bundle.prediction.training_record import TrainingEmbeddings, TrainingRecord

VALIDATION = {"val_threshold": 0.7, "val_sensitivity": 0.8, "val_specificity": 0.9}


def record(people=100, scans=1, seed=0, better_than_chance=True):
    """A validation whose network is far too sure of itself, with so many scans a person."""
    random = np.random.default_rng(seed)
    labels = np.arange(people) % 2
    odds = 4 * random.normal(size=people) + (3 if better_than_chance else -3) * (2 * labels - 1)
    who = np.repeat(np.arange(people), scans)
    embeddings = TrainingEmbeddings(random.normal(size=(9, 3)), np.full(9, np.nan), np.zeros(9))
    return TrainingRecord(embeddings, labels[who], expit(odds)[who], np.zeros((1, 2, 2, 2)), who)


def test_call_and_operating_point_are_on_the_scale_of_the_probability():
    scale = Scale.of(record(), VALIDATION)
    assert scale.is_calibrated
    raw = np.linspace(0.001, 0.999, 500)
    assert ((scale.probability(raw) >= scale.operating_point) == (raw >= 0.7)).all()
    assert abs(scale.operating_point - 0.7) > 0.02


@pytest.mark.parametrize(
    ("people", "scans", "words"),
    [(48, 1, "not calibrated: 48 subjects"), (20, 4, "not calibrated: 20 subjects"), (50, 1, "")],
)
def test_few_people_calibrate_nothing_however_many_scans(people, scans, words):
    scale = Scale.of(record(people, scans), VALIDATION)
    assert (scale.words, scale.is_calibrated) == (words, words == "")


def test_a_classifier_no_better_than_chance_gives_no_probability():
    scale = Scale.of(record(better_than_chance=False), VALIDATION)
    assert not scale.is_calibrated
    assert scale.words == "no better than chance on validation subjects"


@pytest.mark.parametrize(("people", "scans", "words"), [(48, 2, "not calibrated: 48 subjects."), (60, 2, "")])
def test_a_validation_is_of_people_and_calibrated_as_answers_are(people, scans, words, monkeypatch):
    known = record(people, scans)
    monkeypatch.setattr(judgement, "load_record", lambda _: known)
    found = judgement.validation_of("model.pt")
    assert found.labels.tolist() == (np.arange(people) % 2).tolist()
    assert found.probabilities == pytest.approx(known.validated[1], abs=1e-6)
    assert (found.probabilities == found.probabilities.round(6)).all()
    assert (found.calibration, found.uncalibrated, found.missing) == (None if words else known.calibration, words, "")


def test_a_validation_without_a_record_or_of_one_class_says_so(tmp_path, monkeypatch):
    found = judgement.validation_of(tmp_path / "model.pt")
    assert len(found.labels) == 0
    assert "There is no" in found.missing
    assert "model_record.npz" in found.missing
    for rows, words in (
        (slice(0, 0), ("", "holds no people")),
        (slice(0, 60, 2), ("the validation has one class.", "")),
    ):
        whole = record(60)
        people = {name: getattr(whole, name)[rows] for name in ("labels", "probabilities", "people")}
        part = replace(whole, **people)
        monkeypatch.setattr(judgement, "load_record", lambda _, part=part: part)
        found = judgement.validation_of("model.pt")
        assert found.uncalibrated == words[0]
        assert words[1] in found.missing
        assert found.calibration is None


def test_a_prevalence_shifts_the_odds_and_gives_predictive_values():
    here, clinic = Scale.of(record(), VALIDATION), Scale.of(record(), VALIDATION, 0.05)
    shift = logit(clinic.probability([0.3, 0.9])) - logit(here.probability([0.3, 0.9]))
    assert shift == pytest.approx([logit(0.05) - logit(0.5)] * 2)
    positive, negative = clinic.predictive_values()  # of 1000: 50 ill, 40 found; 950 well, 95 called
    assert positive == pytest.approx(40 / 135)
    assert negative == pytest.approx(855 / 865)
    with pytest.raises(ValueError, match="`prevalence` is a share of patients between 0 and 1, but 5 was given"):
        Scale.of(record(), VALIDATION, 5)


def test_unknown_sensitivity_gives_no_predictive_values():
    assert np.isnan(Scale.of(record(), {"val_threshold": 0.5}).predictive_values()).all()


@pytest.mark.parametrize(("value", "limit"), [(0.004, 0.008), (0.0081, 0.0079), (0.992, 0.996), (0.5, 0.50001)])
def test_at_any_prevalence_probability_and_operating_point_differ_on_the_page(value, limit):
    texts = shown(value, limit), shown(limit, value)
    assert texts[0] != texts[1]
    assert (float(texts[0]) >= float(texts[1])) == (value >= limit)


@pytest.mark.parametrize("percentile", [0.0, 98.7, 99.0, 99.04, 99.25, 99.5, 100.0])
def test_a_percentile_is_never_shown_on_the_other_side_of_its_limit(percentile):
    assert (float(percentile_text(percentile)) > 99) == (percentile > 99)
    assert (distance_check(percentile).verdict == "warn") == (percentile > 99)


@pytest.mark.parametrize("value", [0.1, 0.1234, 0.5004, 0.5, 0.95])
def test_what_is_shown_never_contradicts_the_call(value):
    for limit in (value + 0.0003, value - 0.0003, value + 0.02):
        texts = shown(value, limit), shown(limit, value)
        assert (float(texts[0]) >= float(texts[1])) == (value >= limit)
    assert doctest.testmod(judgement).failed == 0
