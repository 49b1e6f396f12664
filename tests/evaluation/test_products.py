import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from bundle.evaluation import products
from tests.evaluation.test_probing import RNG, two_classes


def test_inner_products_are_those_of_a_double_loop(monkeypatch):
    monkeypatch.setattr(products, "COLUMNS", 4)
    rows, others = (RNG.normal(size=(n, 11)).astype(np.float32) for n in (3, 5))
    expected = [[sum(float(a) * float(b) for a, b in zip(row, other, strict=True)) for other in others] for row in rows]
    assert products.inner_products(rows, others) == pytest.approx(np.array(expected), rel=1e-14)
    assert products.inner_products(rows, rows) == pytest.approx(rows.astype(float) @ rows.astype(float).T, rel=1e-14)


@pytest.mark.parametrize("columns", [8192, 64])
def test_rotating_onto_the_row_space_changes_no_prediction(columns, monkeypatch):
    """Of features that are looked at whole, and of wider ones that are seen by their inner products alone."""
    monkeypatch.setattr(products, "COLUMNS", columns)
    train, labels = two_classes(40, 500)
    test = RNG.normal(size=(15, 500))
    for penalty in (1e-3, 1.0):
        model = LogisticRegression(solver="liblinear", C=penalty, tol=1e-10, max_iter=10000)
        rotated_train, rotated_test = products.to_row_space(train, test)
        expected = model.fit(train, labels).decision_function(test)
        found = model.fit(rotated_train, labels).decision_function(rotated_test)
        assert rotated_train.shape == (40, 40)
        assert found == pytest.approx(expected, abs=1e-5)


def test_features_fewer_than_subjects_are_left_alone():
    train, _ = two_classes(40, 5)
    assert products.to_row_space(train, train)[0] is train


def test_features_that_are_all_zero_have_one_direction_that_says_nothing():
    train, test = products.to_row_space(np.zeros((4, 9)), np.ones((2, 9)))
    assert train.tolist() == [[0.0]] * 4
    assert test.tolist() == [[0.0]] * 2


def test_a_pool_is_divided_as_its_features_are():
    pool = RNG.normal(size=(12, 50)) + 3
    train, test = np.array([7, 0, 4, 5]), np.array([1, 11])
    fit_on, score_on = products.PoolProducts(pool).divided(train, test)
    assert fit_on @ fit_on.T == pytest.approx(pool[train] @ pool[train].T)
    assert score_on @ fit_on.T == pytest.approx(pool[test] @ pool[train].T)
    explained = RNG.normal(size=(6, 4))
    left = [pool[train] - explained[:4] @ pool[train], pool[test] - explained[4:] @ pool[train]]
    fit_on, score_on = products.PoolProducts(pool).divided(train, test, explained)
    assert fit_on @ fit_on.T == pytest.approx(left[0] @ left[0].T)
    assert score_on @ fit_on.T == pytest.approx(left[1] @ left[0].T)
