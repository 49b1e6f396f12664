from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from bundle.evaluation.classifier import report_evaluation
from bundle.files import read_json
from bundle.metrics.classification import operating_point, roc_auc
from bundle.training import OperatingPoint, ParticipantAUC

# Two healthy people and two patients; one of each was scanned three times, with outliers.
IDS = ["sub-1", "1", "1", "2", "3", "3", "3", "4"]
LABELS = [0, 0, 0, 0, 1, 1, 1, 1]
PROBABILITIES = [0.95, 0.1, 0.15, 0.3, 0.05, 0.9, 0.95, 0.8]
MEANS = [0.4, 0.3, 0.6333333, 0.8]


def shown(metric):
    """A metric after one decollated batch."""
    output = [{"pred": torch.tensor([1 - p, p])} for p in PROBABILITIES]
    batch = [{"participant_id": name, "label": label} for name, label in zip(IDS, LABELS, strict=True)]
    metric.iteration_completed(SimpleNamespace(state=SimpleNamespace(output=output, batch=batch)))
    return metric


def test_decisions_are_about_people_and_not_about_scans():
    found = shown(OperatingPoint()).compute()
    assert found["val_threshold"] == pytest.approx(operating_point([0, 0, 1, 1], MEANS))
    assert (found["val_sensitivity"], found["val_specificity"], found["val_average_precision"]) == (1, 1, 1)
    assert shown(ParticipantAUC()).compute() == 1
    assert roc_auc(LABELS, PROBABILITIES) < 0.8


def test_estimate_interval_and_calibration_of_an_evaluation_are_of_people(tmp_path):
    rng, people = np.random.default_rng(0), 60
    labels = np.repeat([0, 1], people // 2)
    scans = rng.integers(1, 6, people)
    means = np.clip(0.3 + 0.3 * labels + 0.15 * rng.normal(size=people), 0.01, 0.99)
    who = np.repeat(np.arange(people), scans)
    probabilities = np.clip(means[who] + 0.2 * rng.normal(size=len(who)), 0, 1)
    table = pd.DataFrame({"participant_id": [f"{n:03d}" for n in who], "label": labels[who]})
    table = table.assign(probability_control=1 - probabilities, probability_patient=probabilities)
    table.to_csv(tmp_path / "predictions.csv", index=False)
    each = [probabilities[who == n].mean() for n in range(people)]
    report_evaluation(tmp_path, {"val_auc": float(roc_auc(labels, each))})
    found = read_json(tmp_path / "metrics.json")
    assert (found["images"], found["participants"]) == (len(who), people)
    low, high = found["auc_interval"]
    assert low < found["auc"] < high
