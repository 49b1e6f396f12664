"""Every model that reads features, against scikit-learn's own search and solvers."""

import inspect

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from bundle.cohort.folds import Trial
from bundle.evaluation.elastic_net import ElasticNetClassifier
from bundle.evaluation.linear import chosen, prepared
from bundle.evaluation.pipeline import Probe
from bundle.evaluation.plan import NATIVE_LOGISTIC, NATIVE_RIDGE, REGIONS_NET, REGIONS_SVM
from bundle.evaluation.readers import READERS
from bundle.evaluation.subjects import Pool
from bundle.metrics.representation import LengthScaler

MIXED = {} if inspect.signature(LogisticRegression).parameters["penalty"].default == "deprecated" else {
    "penalty": "elasticnet"
}  # fmt: skip


def subjects(n, p, seed=0):
    """Features that go together, as regions do, and a diagnosis that some of them tell."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 3)) @ rng.normal(size=(3, p)) + rng.normal(size=(n, p)) + 5
    labels = (features[:, : p // 4].mean(1) + rng.normal(size=n) > 5).astype(int)
    return features, labels


def objective(w, b, features, labels, penalty):
    margins = (2 * labels - 1) * (features @ w + b)
    return penalty * np.logaddexp(0, -margins).sum() + 0.5 * np.abs(w).sum() + 0.25 * w @ w


@pytest.mark.parametrize("penalty", [0.1, 0.3, 3.0])  # with smaller ones, saga stops before the intercept is right
@pytest.mark.parametrize("shape", [(60, 90), (150, 20)])
def test_the_elastic_net_is_where_saga_ends_after_very_many_passes(penalty, shape):
    features, labels = subjects(*shape)
    features = StandardScaler().fit_transform(features)
    found = ElasticNetClassifier(penalty).fit(features, labels)
    options = {"solver": "saga", "l1_ratio": 0.5, "C": penalty, "tol": 1e-7, "max_iter": 20_000, "random_state": 0}
    exact = LogisticRegression(**options, **MIXED).fit(features, labels)
    best = objective(exact.coef_[0], exact.intercept_[0], features, labels, penalty)
    assert objective(found.coef_, found.intercept_, features, labels, penalty) < best * (1 + 1e-4)
    np.testing.assert_allclose(found.decision_function(features), exact.decision_function(features), atol=0.05)


def test_an_elastic_net_that_does_not_converge_says_so(caplog, monkeypatch):
    monkeypatch.setattr("bundle.evaluation.elastic_net.STEPS", 1)
    features, labels = subjects(40, 10)
    ElasticNetClassifier(0.777).fit(features, labels)
    assert "C = 0.777 has not converged after 1 steps" in caplog.text


class Ours(ClassifierMixin, BaseEstimator):
    """The elastic net as scikit-learn's search wants it."""

    def __init__(self, penalty=1.0):
        self.penalty = penalty

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.net_ = ElasticNetClassifier(self.penalty).fit(X, y)
        return self

    def decision_function(self, X):
        return self.net_.decision_function(X)


@pytest.mark.parametrize(
    ("method", "estimator", "grid"),
    [
        (REGIONS_NET, Ours(), {"penalty": [0.03, 0.1, 0.3]}),
        (REGIONS_SVM, SVC(kernel="rbf", gamma="scale"), {"C": [0.1, 1.0, 10.0]}),
        (NATIVE_RIDGE, RidgeClassifier(), {"alpha": [1 / c for c in (0.1, 1.0, 10.0, 100.0)]}),
        (NATIVE_LOGISTIC, LogisticRegression(solver="liblinear"), {"C": [0.1, 1.0, 10.0, 100.0]}),
    ],
)
def test_the_penalty_is_the_one_that_grid_search_chooses(method, estimator, grid):
    features, labels = subjects(70, 40)
    train, test, groups = features[:50], features[50:], np.arange(50).astype(str)
    scaled = {"each": StandardScaler, "length": LengthScaler}[READERS[method].scaling]().fit(train)
    folds = list(StratifiedGroupKFold(5, shuffle=True, random_state=0).split(train, labels[:50], groups))
    search = GridSearchCV(estimator, grid, scoring="roc_auc", cv=folds).fit(scaled.transform(train), labels[:50])
    penalties = [1 / a for a in grid["alpha"]] if "alpha" in grid else next(iter(grid.values()))
    reader = READERS[method]
    ours = prepared(train, test, reader.scaling, reader.rotated)
    scores = chosen(ours[0], labels[:50], groups, penalties, reader.model).decision_function(ours[1])
    np.testing.assert_allclose(scores, search.decision_function(scaled.transform(test)), atol=1e-6)


def test_a_kernel_machine_sees_what_lies_off_the_training_span():
    """Rotated onto the span of few training subjects, a test subject would seem nearer than it is."""
    features, labels = subjects(30, 100)
    train, test = prepared(features[:20], features[20:], "each", rotated=False)
    assert train.shape == (20, 100)
    expected = make_pipeline(StandardScaler(), SVC()).fit(features[:20], labels[:20]).decision_function(features[20:])
    np.testing.assert_allclose(
        READERS[REGIONS_SVM].model(1.0).fit(train, labels[:20]).decision_function(test), expected
    )


@pytest.mark.parametrize("penalty", [0.1, 10.0])
def test_ridge_in_the_kernel_form_is_the_direct_solution_over_voxels(penalty):
    features, labels = subjects(40, 120)
    train, test, y = features[:30], features[30:], 2 * labels[:30] - 1
    length = np.sqrt(((train - train.mean(0)) ** 2).sum(1).mean())
    x, new = (train - train.mean(0)) / length, (test - train.mean(0)) / length
    direct = np.linalg.solve(x.T @ x + np.eye(120) / penalty, x.T @ (y - y.mean()))
    records = [{"participant_id": f"{k}", "session_id": "", "label": int(label)} for k, label in enumerate(labels)]
    pool = Pool("t", records, [Trial(30, 0, np.arange(30), np.arange(30, 40))])
    found = Probe(native_penalties=[penalty]).scores(NATIVE_RIDGE, features, pool)["score"]
    np.testing.assert_allclose(found, new @ direct + y.mean(), atol=1e-7)


def test_a_penalty_means_the_same_for_any_number_of_voxels():
    features, _ = subjects(30, 50)
    twice = np.concatenate([features, features], axis=1)
    for values in (features, twice):
        assert (LengthScaler().fit(values).transform(values) ** 2).sum(1).mean() == pytest.approx(1)
    one, other = prepared(features, features, "length")[0], prepared(twice, twice, "length")[0]
    np.testing.assert_allclose(one @ one.T, other @ other.T, atol=1e-9)
