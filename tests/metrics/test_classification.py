import numpy as np
import pytest

from bundle.metrics import classification
from bundle.metrics.classification import calibration_error, decisions, operating_point, reliability

RNG = np.random.default_rng(0)


def by_hand(labels, probabilities, threshold):
    called = [p >= threshold for p in probabilities]
    sensitivity = sum(c for c, y in zip(called, labels, strict=True) if y) / sum(labels)
    specificity = sum(not c for c, y in zip(called, labels, strict=True) if not y) / (len(labels) - sum(labels))
    return sensitivity, specificity


LABELS = RNG.integers(0, 2, 60).tolist()
PROBABILITIES = np.clip(0.35 * np.array(LABELS) + 0.65 * RNG.random(60), 0, 1).round(2).tolist()


def test_decisions_are_counted():
    sensitivity, specificity = by_hand(LABELS, PROBABILITIES, 0.5)
    expected = {"sensitivity": sensitivity, "specificity": specificity}
    expected["balanced_accuracy"] = (sensitivity + specificity) / 2
    assert decisions(LABELS, PROBABILITIES, 0.5) == pytest.approx(expected)


def test_operating_points_are_the_best_of_their_rule():
    grid = [by_hand(LABELS, PROBABILITIES, t) for t in np.linspace(0, 1.001, 2003)]
    youden = sum(by_hand(LABELS, PROBABILITIES, operating_point(LABELS, PROBABILITIES)))
    assert youden == pytest.approx(max(map(sum, grid)))
    sensitivity, specificity = by_hand(LABELS, PROBABILITIES, operating_point(LABELS, PROBABILITIES, "sensitivity=0.9"))
    assert sensitivity >= 0.9
    assert specificity == pytest.approx(max(b for a, b in grid if a >= 0.9))
    sensitivity, specificity = by_hand(LABELS, PROBABILITIES, operating_point(LABELS, PROBABILITIES, "specificity=0.8"))
    assert specificity >= 0.8
    assert sensitivity == pytest.approx(max(a for a, b in grid if b >= 0.8))
    assert operating_point(LABELS, PROBABILITIES, "probability=0.3") == 0.3


@pytest.mark.parametrize(
    ("controls", "patients"),
    [
        ([1.0, 1.0, 1.0], [1.0, 1.0]),
        ([0.2, 1.0, 0.3], [1.0, 0.9]),
        ([1 - 2**-53, 0.1, 0.2], [1.0, 1.0]),
        ([0.0, 0.0], [0.0, 5e-324]),
    ],
)
@pytest.mark.parametrize("wanted", [0.9, 1.0])
def test_saturated_probabilities_keep_the_promise(controls, patients, wanted):
    labels, probabilities = [0] * len(controls) + [1] * len(patients), [*controls, *patients]
    threshold = operating_point(labels, probabilities, f"specificity={wanted}")
    assert decisions(labels, probabilities, threshold)["specificity"] >= wanted
    assert operating_point(labels, probabilities, f"probability={threshold!r}") == threshold
    threshold = operating_point(labels, probabilities, f"sensitivity={wanted}")
    assert decisions(labels, probabilities, threshold)["sensitivity"] >= wanted


@pytest.mark.parametrize("rule", ["best", "sensitivity", "sensitivity=2", "specificity=x", "youden=1", "probability"])
def test_another_operating_point_is_refused(rule):
    with pytest.raises(ValueError, match=f"but '{rule}' was given"):
        operating_point(LABELS, PROBABILITIES, rule)


def test_calibration_error_equals_its_definition():
    expected = 0.0
    for k in range(10):
        inside = [(y, p) for y, p in zip(LABELS, PROBABILITIES, strict=True) if min(int(p * 10), 9) == k]
        if inside:
            gap = abs(np.mean([y for y, _ in inside]) - np.mean([p for _, p in inside]))
            expected += gap * len(inside) / len(LABELS)
    assert calibration_error(LABELS, PROBABILITIES) == pytest.approx(expected)
    assert reliability(LABELS, PROBABILITIES)["n"].sum() == 60
    truth = RNG.random(20_000)
    assert calibration_error(RNG.random(20_000) < truth, truth) < 0.02


def test_platt_finds_slope_and_intercept_and_cannot_run_away():
    random = np.random.default_rng(0)
    log_odds = random.normal(0, 2, 20_000)
    labels = random.random(20_000) < 1 / (1 + np.exp(-(0.5 * log_odds - 1)))
    slope, intercept = classification.platt(labels.astype(int), 1 / (1 + np.exp(-log_odds)))
    assert (slope, intercept) == pytest.approx((0.5, -1), abs=0.05)
    separated = classification.platt([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9])
    assert 0 < classification.calibrated([0.5], *separated)[0] < 1
    assert classification.calibrated([0.9], *separated)[0] < 0.85  # smoothed targets: 3/4 with two patients


def test_platt_of_a_classifier_worse_than_chance_is_the_share_of_patients():
    slope, intercept = classification.platt([1, 1, 1, 0, 0, 0], [0.1, 0.2, 0.3, 0.7, 0.8, 0.9])
    assert slope == 0
    assert classification.calibrated([0.01, 0.99], slope, intercept) == pytest.approx([0.5, 0.5])
