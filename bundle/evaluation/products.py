"""Linear models of wide features: all that an L2 penalty asks of them are the inner products of the subjects."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from bundle.people import mean_of_each

Array = NDArray[np.float64]
COLUMNS = 8192  # features in float64 at a time; wider ones are seen by their inner products alone
SMALLEST = 1e-10  # eigenvalue, of the largest, below which a direction is rounding


def inner_products(rows: NDArray, others: NDArray) -> Array:
    """Inner products of features, in float64 whatever the features are in.

    Shape:
        rows (n, p), others (m, p), output (n, m).
    """
    total = np.zeros((len(rows), len(others)))
    for start in range(0, rows.shape[1], COLUMNS):
        left = rows[:, start : start + COLUMNS].astype(np.float64)
        right = left if others is rows else others[:, start : start + COLUMNS].astype(np.float64)
        total += left @ right.T
    return total


def from_blocks(blocks: Iterable[Array], rows: int) -> Array:
    """Inner products of features that come some at a time.

    Args:
        blocks: Some features of all subjects, in float64.
        rows: Number of subjects.

    Shape:
        blocks (rows, k), output (rows, rows).
    """
    total = np.zeros((rows, rows))
    for values in blocks:
        total += values @ values.T
    return total


def to_row_space(train: NDArray, test: NDArray) -> tuple[NDArray, NDArray]:
    """Rotate features onto the span of the training subjects: n features instead of p, the same linear model.

    An L2-penalised linear model's weights lie in the span of its training rows (representer theorem), so that
    rotating onto it changes neither fit nor predictions. Features that are fewer than subjects are left alone.

    Shape:
        train (n, p), test (m, p), outputs (n, r) and (m, r) with r ≤ min(n, p).
    """
    if train.shape[1] <= train.shape[0]:
        return train, test
    if train.shape[1] > COLUMNS:
        return _coordinates(inner_products(train, train), inner_products(test, train))
    train, test = np.asarray(train, dtype=np.float64), np.asarray(test, dtype=np.float64)
    basis = train.T @ _basis(train @ train.T)
    return train @ basis, test @ basis


def of_people(values: Array, people: NDArray[np.intp]) -> tuple[Array, Array]:
    """Coordinates of training people, by the means of their scans, and of test scans, on the span of the former.

    Args:
        values: Inner products of all scans, training ones first.
        people: Persons of the n training scans, from 0.

    Shape:
        values (n + m, n + m), people (n,), outputs (persons, r) and (m, r).
    """
    n = len(people)
    rows = np.concatenate([mean_of_each(values[:n], people), values[n:]])
    means = mean_of_each(np.ascontiguousarray(rows[:, :n].T), people).T
    count = means.shape[1]
    return _coordinates(means[:count], means[count:])


def _coordinates(own: Array, cross: Array) -> tuple[Array, Array]:
    """Coordinates of training and test subjects, by their inner products (n, n) and (m, n) with the training ones."""
    basis = _basis(own)
    return own @ basis, cross @ basis


def _basis(own: Array) -> Array:
    """Weights (n, r) of n subjects that give an orthonormal basis of their span, from their inner products (n, n)."""
    values, vectors = np.linalg.eigh(own)
    if values[-1] <= 0:  # features that are all zero, of an encoder that has collapsed
        return np.zeros((len(own), 1))
    keep = values > values[-1] * SMALLEST
    return vectors[:, keep] / np.sqrt(values[keep])


class PoolProducts:
    """Inner products of a pool of subjects, of whom any may train and any be tested: features are looked at once.

    Args:
        features: Features of the pool; known everywhere.

    Shape:
        features (N, p).
    """

    def __init__(self, features: NDArray) -> None:
        self.values = inner_products(features, features)

    def of(self, train: NDArray, test: NDArray) -> Array:
        """Inner products of training and test subjects, training ones first.

        Args:
            train: Rows of the pool.
            test: Rows of the pool.

        Shape:
            train (n,), test (m,), output (n + m, n + m).
        """
        rows = np.concatenate([train, test])
        return self.values[np.ix_(rows, rows)]

    def divided(self, train: NDArray, test: NDArray, explained: Array | None = None) -> tuple[Array, Array]:
        """Features of training and test subjects, rotated onto the span of the former.

        Args:
            train: Rows of the pool.
            test: Rows of the pool.
            explained: What is taken away; see `divided`.

        Shape:
            train (n,), test (m,), explained (n + m, n or n + m), outputs (n, r) and (m, r).
        """
        return divided(self.of(train, test), len(train), explained)


def divided(values: Array, n: int, explained: Array | None = None) -> tuple[Array, Array]:
    """Features of training and test subjects, rotated onto the span of the former.

    Args:
        values: Inner products of all, training subjects first.
        n: Number of training subjects.
        explained: What is taken away from the features of each, as weights of those of the training subjects (see
            `linear.explained_by_known`), or of all.

    Shape:
        values (n + m, n + m), explained (n + m, n or n + m), outputs (n, r) and (m, r).
    """
    if explained is not None:
        left = np.eye(len(values))
        left[:, : explained.shape[1]] -= explained
        values = left @ values @ left.T
    return _coordinates(values[:n, :n], values[n:, :n])
