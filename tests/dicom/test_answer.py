"""An answer does not contradict itself, and says what the table says."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from torch import nn

from bundle.dicom import BrainAge, Region, answer_from, attribution_of
from bundle.dicom.answer import REFUSED
from bundle.dicom.codes import UNITS
from bundle.prediction.answer import headline
from bundle.prediction.judgement import CANNOT, GIVEN, NOT_CALIBRATED, Scale
from bundle.prediction.maps import METHODS, TARGETS, meaning
from bundle.prediction.table import Model, prediction_table
from bundle.prediction.training_record import TrainingEmbeddings, TrainingRecord
from bundle.scans.contract import PASS, REFUSE
from tests.dicom.examples import REASON, attribution, given, picture, without


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"state": "sure"}, "its state is 'sure'"),
        ({"state": CANNOT}, "its state is 'cannot answer', and its probability 0.83"),
        ({"probability": None}, "its state is 'given', and its probability None"),
        ({"probability": 1.2}, "its probability is 1.2, expected 0 to 1"),
        ({"probability": float("nan")}, "its probability is nan"),
        ({"called": ""}, "it is called ''"),
        ({"called": "Dementia"}, "it is called 'Dementia'"),
        ({"volumes": {"gm": float("nan")}}, "a volume is no number"),
        ({"regions": [Region("hippocampus", "left", float("inf"))]}, "a volume is no number"),
    ],
)
def test_an_answer_that_contradicts_itself_is_refused(changes, said):
    with pytest.raises(ValueError, match="Nothing is written of it") as refusal:
        given(**changes)
    assert said in str(refusal.value)


@pytest.mark.parametrize(
    "changes", [{"attribution": attribution()}, {"brain_age": BrainAge(70, 5)}, {"called": "control"}]
)
def test_where_the_model_cannot_answer_nothing_else_answers(changes):
    with pytest.raises(ValueError, match="its state is 'cannot answer'"):
        without(CANNOT, **changes)
    with pytest.raises(ValueError, match="distance from the training subjects all the same"):
        without(REFUSED, distance_percentile=50.0)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("method", METHODS)
def test_every_kind_of_map_has_a_unit_that_dicom_knows(method, target):
    found = attribution_of(
        np.full((2, 2, 2), 0.02, np.float32), np.eye(4), method, meaning(method, target, "x", 9), True
    )
    value, ucum = {("occlusion", "class"): (2, "%"), ("occlusion", "similarity"): (0.02, "1")}.get(
        (method, target), (0.02, "[arb'U]")
    )
    assert (found.values == np.float32(value)).all()
    assert found.ucum == ucum
    assert ucum in UNITS
    assert len(found.unit) <= 64


PAGE = {"answer": {"distance": picture(), "percentile": "50", "state": GIVEN}, "brain": {"tiles": []}}


@pytest.fixture(scope="module")
def predicted(tmp_path_factory):
    """`predicted(people)`: the answer to three scans, of which the second is far away and the third refused."""
    image = tmp_path_factory.mktemp("scan") / "scan.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), np.float32), np.eye(4)), image)

    def predict(people):
        random = np.random.default_rng(0)
        labels, ages = np.arange(people) % 2, random.uniform(50, 90, 80)
        odds = random.normal(1.5 * (2 * labels - 1), 1)
        embedding = np.column_stack([ages / 10, random.normal(size=(80, 2))])
        embeddings = TrainingEmbeddings(embedding, ages, np.zeros(80))
        record = TrainingRecord(embeddings, labels, 1 / (1 + np.exp(-odds)), np.zeros((1, 2, 2, 2)), np.arange(people))
        validation = {"val_threshold": 0.5, "val_sensitivity": 0.8, "val_specificity": 0.9, "val_auc": 0.9}
        card = {
            "class_names": ["control", "dementia"],
            "validation": validation,
            "name": "m",
            "version": "2",
            "sha256": "f",
        }
        model = Model(nn.Identity(), card, record, Path("model.pt"))
        scale = Scale.of(record, validation, 0.2)
        records = [{"image": str(image), "participant_id": f"sub-{n}", "age": 66.0} for n in range(3)]
        rows = pd.DataFrame(
            {"verdict": [PASS, PASS, REFUSE], "reasons": ["", "", "noise"], "digest": "", "probability": 0.9}
        ).assign(uncertainty=0.03)
        places = np.array([[7.0, 0, 0], [7.0, 90, 0], [7.0, 0, 0]])
        table = prediction_table(records, rows, places, model, scale).assign(name=["a", "b", "c"])
        found = table.to_dict("records")
        made = [answer_from(row, model, scale, page=PAGE, attribution=attribution()) for row in found]
        return made, found, scale

    return predict


def test_it_says_what_the_table_says(predicted):
    (answer, *_), (row, *_), scale = predicted(60)
    assert (answer.state, answer.called, answer.verdict) == (GIVEN, "dementia", "pass")
    assert answer.probability == row["calibrated_probability"]
    assert answer.headline == headline(row, scale)
    assert answer.uncertainty == row["uncertainty"]
    assert answer.distance_percentile == row["distance_percentile"]
    assert (answer.brain_age.years, answer.brain_age.gap) == (row["brain_age"], row["brain_age_gap"])
    assert answer.operating_point.ppv == row["ppv"]
    assert (answer.operating_point.prevalence, answer.operating_point.people) == (0.2, 60)
    assert (answer.model.name, answer.model.version, answer.model.sha256) == ("m", "2", "f")
    assert answer.attribution is not None
    assert [chart.caption[:8] for chart in answer.charts] == ["Distance"]


def test_a_scan_that_is_far_away_or_refused_has_its_reason_and_no_number(predicted):
    _, far, refused = predicted(60)[0]
    assert (far.state, far.reasons, far.verdict) == (CANNOT, (REASON,), "warn")
    assert (refused.state, refused.reasons, refused.verdict) == (REFUSED, ("noise",), "refuse")
    for answer in (far, refused):
        assert answer.probability is answer.uncertainty is answer.operating_point is answer.attribution is None
        assert (answer.called, answer.brain_age) == ("", None)
    assert far.distance_percentile > 99
    assert refused.distance_percentile is None


def test_few_validation_subjects_call_without_a_probability(predicted):
    answer = predicted(40)[0][0]
    assert (answer.state, answer.headline) == (NOT_CALIBRATED, "not calibrated: 40 subjects")
    assert answer.probability is answer.uncertainty is answer.operating_point.probability is None
    assert answer.called == "dementia"
    assert answer.operating_point.sensitivity == 0.8
