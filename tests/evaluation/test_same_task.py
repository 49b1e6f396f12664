import json

import pytest

from bundle.evaluation import require_same_task
from bundle.evaluation.same_task import UNSTATED_NAMES, UNSTATED_TASK
from tests.conftest import ROOT

ALZHEIMER = {"task": "alzheimer", "class_names": ["control", "Alzheimer's disease"]}
UNNAMED = {"task": "depression", "class_names": list(UNSTATED_NAMES)}
UNSTATED = {"task": UNSTATED_TASK, "class_names": list(UNSTATED_NAMES)}


def test_nothing_is_stated_where_training_is_as_it_comes():
    config = json.loads((ROOT / "configs" / "train.json").read_text(encoding="utf-8"))
    assert {name: config[name] for name in UNSTATED} == UNSTATED


@pytest.mark.parametrize(
    ("card", "run"),
    [
        (ALZHEIMER, {"task": "schizophrenia", "class_names": ["control", "schizophrenia"]}),
        (ALZHEIMER, UNNAMED),
        (UNNAMED, ALZHEIMER),
    ],
)
def test_another_task_than_the_models_is_refused(card, run):
    with pytest.raises(ValueError, match=rf"m.pt is a classifier of {card['task']}.* but the run is of {run['task']}"):
        require_same_task(card, **run, model="m.pt", datalist="d.json")


@pytest.mark.parametrize("card", [ALZHEIMER, UNNAMED, UNSTATED])
def test_its_own_task_and_a_datalist_alone_are_tested(card, caplog):
    caplog.set_level("INFO")
    require_same_task(card, **card, model="m.pt", datalist="d.json")
    assert not caplog.records
    require_same_task(card, **UNSTATED, model="m.pt", datalist="d.json")
    told = f"people of label 1 in d.json are called {card['class_names'][1]}"
    assert (told in caplog.text) is (card is not UNSTATED)


def test_another_cohort_of_the_same_classes_is_tested():
    require_same_task(ALZHEIMER, **{**ALZHEIMER, "task": "another_cohort"}, model="m.pt", datalist="d.json")
