import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import betabinom
from sklearn.base import BaseEstimator, ClassifierMixin

from bundle.metrics import answers
from bundle.metrics.answers import Validation
from bundle.metrics.classification import decisions, operating_point


def said(people, rng, effect=1.5):
    """Labels, half of them patients, and probabilities of somebody over-confident."""
    labels = np.arange(people) % 2
    return labels, expit(3 * (rng.normal(size=people) + effect * (labels - 0.5)))


def sets_by_loop(labels, probabilities, new, level):
    """Which classes have a conformal p value above 1 − level, person by person and class by class."""
    found = []
    for probability in new:
        row = []
        for label in (0, 1):
            strange = abs(label - probability)
            own = [abs(label - p) for p, y in zip(probabilities, labels, strict=True) if y == label]
            at_least = sum(1 for value in own if value >= strange - 1e-12)
            row.append((at_least + 1) / (len(own) + 1) > 1 - level + 1e-9)
        found.append(row)
    return np.array(found)


@pytest.mark.parametrize("level", [0.5, 0.7, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("digits", [2, 12])
def test_prediction_sets_are_those_of_a_double_loop(level, digits):
    rng = np.random.default_rng(0)
    labels, probabilities = said(57, rng)
    probabilities, new = probabilities.round(digits), said(200, rng)[1].round(digits)
    found = answers.conformal_sets(new, answers.conformal_cutoffs(labels, probabilities, level))
    assert (found == sets_by_loop(labels, probabilities, new, level)).all()


class Said(ClassifierMixin, BaseEstimator):
    """A classifier whose only feature is the probability of being a patient."""

    def fit(self):
        self.classes_ = np.array([0, 1])
        return self

    def predict_proba(self, features):
        return np.stack([1 - features[:, 0], features[:, 0]], axis=1)

    def predict(self, features):
        return (features[:, 0] >= 0.5).astype(int)


@pytest.mark.filterwarnings("ignore:WARNING. your conformalization dataset has less labels")
def test_prediction_sets_are_those_of_mapie():
    """MAPIE calibrates all classes together, so that it is given each class for itself."""
    classification = pytest.importorskip("mapie.classification")
    rng = np.random.default_rng(1)
    (labels, probabilities), (_, new) = said(121, rng), said(300, rng)
    ours = answers.conformal_sets(new, answers.conformal_cutoffs(labels, probabilities, 0.9))
    for label in (0, 1):
        rows = labels == label
        split = classification.SplitConformalClassifier(
            Said().fit(), confidence_level=0.9, conformity_score="lac", prefit=True
        )
        split.conformalize(probabilities[rows, None], labels[rows])
        _, theirs = split.predict_set(new[:, None])
        assert (theirs[:, label, 0] == ours[:, label]).all()


@pytest.mark.long
def test_each_class_is_covered_as_often_as_it_says():
    """The number of covered people among new ones has the distribution that theory says, whatever the classifier."""
    rng, covered = np.random.default_rng(2), []
    for _ in range(400):
        cutoffs = answers.conformal_cutoffs(*said(40, rng), 0.9)
        labels, probabilities = said(200, rng)
        held = answers.conformal_sets(probabilities, cutoffs)
        covered.append([held[labels == label, label].sum() for label in (0, 1)])
    assert np.mean(covered, axis=0) / 100 == pytest.approx([19 / 21] * 2, abs=0.012)  # ⌈21 · 0.9⌉ of 21
    theory = betabinom(100, 19, 2)
    assert np.std(covered, axis=0) == pytest.approx([theory.std()] * 2, rel=0.15)
    low, high = answers.promised_coverage(20, 0.9)
    assert np.mean((np.array(covered) >= 100 * low - 4) & (np.array(covered) <= 100 * high + 4)) > 0.9


@pytest.mark.parametrize(("level", "fewest"), [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19), (0.99, 99)])
def test_too_few_people_for_a_level_are_refused(level, fewest):
    assert answers.fewest_for(level) == fewest
    enough = np.linspace(0.1, 0.9, fewest)
    labels = np.repeat([0, 1], fewest)
    least_likely = [enough.max(), 1 - enough.min()]
    assert answers.conformal_cutoffs(labels, np.tile(enough, 2), level).tolist() == least_likely
    with pytest.raises(ValueError, match=f"at least {fewest} patients of the validation, but there are {fewest - 1}"):
        answers.conformal_cutoffs(labels[:-1], np.tile(enough, 2)[:-1], level)


def test_kinds_of_sets_are_counted():
    sets = np.array([[1, 0], [1, 0], [0, 1], [1, 1], [0, 0]], dtype=bool)
    found = answers.shares_of_sets(sets)
    assert {name: row[:2] for name, row in found.items()} == {
        "only_control": (2, 0.4),
        "only_patient": (1, 0.2),
        "both": (1, 0.2),
        "none": (1, 0.2),
    }
    assert all(low < share < high for _, share, low, high in found.values())


@pytest.mark.parametrize("specificity", [0.5, 0.8, 0.9, 0.95])
def test_a_threshold_of_the_validation_is_applied_to_the_test(specificity):
    rng = np.random.default_rng(3)
    validation, (labels, probabilities) = Validation(*said(50, rng)), said(80, rng)
    found = answers.at_specificity(validation, labels, probabilities, specificity)
    chosen = decisions(validation.labels, validation.probabilities, found["threshold"])
    assert chosen["specificity"] >= specificity
    lower = validation.probabilities[validation.probabilities < found["threshold"]].max()
    below = decisions(validation.labels, validation.probabilities, lower)
    assert below["specificity"] < specificity or below["sensitivity"] == chosen["sensitivity"]
    called = probabilities >= found["threshold"]
    assert found["sensitivity"] == called[labels == 1].mean()
    assert found["specificity"] == 1 - called[labels == 0].mean()


@pytest.mark.parametrize("specificity", [0.5, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("digits", [1, 6])
def test_the_tests_own_sensitivity_is_the_best_at_a_specificity(specificity, digits):
    labels, probabilities = said(70, np.random.default_rng(4))
    probabilities = probabilities.round(digits)
    threshold = operating_point(labels, probabilities, f"specificity={specificity}")
    found, low, high = answers.own_sensitivity(labels, probabilities, specificity)
    assert found == decisions(labels, probabilities, threshold)["sensitivity"]
    assert low <= found <= high


def test_one_class_has_no_sensitivity_at_a_specificity():
    with pytest.raises(ValueError, match="0 patients and 3 controls"):
        answers.own_sensitivity([0, 0, 0], [0.1, 0.2, 0.3], 0.9)
    with pytest.raises(ValueError, match="3 patients and 0 controls"):
        answers.at_specificity(Validation(np.ones(3, dtype=int), np.full(3, 0.5)), [0, 1], [0.1, 0.2], 0.9)
