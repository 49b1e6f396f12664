"""CORAL by inner products is that of features, with covariances whose roots are taken as matrices."""

import numpy as np
import pytest
from scipy.linalg import fractional_matrix_power
from sklearn.covariance import ledoit_wolf

from bundle.adaptation import aligned


def studies(p, seed=0):
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(p, p))
    return rng.normal(size=(40, p)) * np.linspace(0.5, 2, p) + 1, rng.normal(size=(25, p)) @ mixing - 4


def coral(source, target, people=None, others=None):
    both = np.concatenate([source, target])
    every = np.eye(len(both))
    people = every[: len(source)] if people is None else people
    others = every[len(source) :] if others is None else others
    return aligned(both @ both.T, people, others, len(source), both.shape[1]) @ both


def naive(source, target):
    covariances = [ledoit_wolf(part - part.mean(0), assume_centered=True)[0] for part in (source, target)]
    whitened = (source - source.mean(0)) @ fractional_matrix_power(covariances[0], -0.5)
    return (whitened @ fractional_matrix_power(covariances[1], 0.5)).real + target.mean(0)


@pytest.mark.parametrize("p", [3, 15, 80])
def test_it_is_the_equation(p):
    source, target = studies(p)
    found = coral(source, target)
    assert found[: len(source)] == pytest.approx(naive(source, target), abs=1e-6)
    assert np.array_equal(found[len(source) :], target)


def test_moments_of_the_target_are_taken():
    source, target = (np.tile(part, (20, 1)) for part in studies(4))  # of many people: little is shrunk
    found = coral(source, target)[: len(source)]
    assert found.mean(0) == pytest.approx(target.mean(0), abs=1e-9)
    assert np.cov(found.T) == pytest.approx(np.cov(target.T), rel=0.1, abs=0.15)


def test_what_differs_by_moments_alone_is_read_as_before():
    """A classifier of the source fails on a target that was stretched and moved, and not after CORAL."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 500)
    drawn = rng.normal(size=(500, 3)) + np.outer(labels, [2.0, 0, 0])
    stretched = drawn[250:] @ np.diag([0.2, 3.0, 1.0]) + np.array([-3.0, 1.0, 0.0])
    source, target = drawn[:250], stretched
    moved = coral(source, target)[:250]

    def accuracy(train):
        means = [train[labels[:250] == label].mean(0) for label in (0, 1)]
        weights = np.linalg.solve(np.cov(train.T), means[1] - means[0])
        told = (target - (means[0] + means[1]) / 2) @ weights > 0
        return (told == labels[250:]).mean()

    assert accuracy(source) < 0.6
    assert accuracy(moved) > 0.8


def test_what_never_varies_is_only_moved():
    source, target = studies(5)
    still = np.tile(target[:1], (25, 1))
    assert coral(source, still)[:40] == pytest.approx(source - source.mean(0) + still[0], abs=1e-9)
    assert np.isfinite(coral(np.zeros((40, 5)), target)).all()


def test_scans_of_one_person_are_one():
    source, target = studies(6)
    often = np.concatenate([source, np.repeat(source[:1] + 0.1, 9, axis=0), np.repeat(source[:1] - 0.1, 9, axis=0)])
    weights = np.zeros((40, len(often) + len(target)))
    weights[np.arange(40), np.arange(40)] = 1
    others = np.eye(len(often) + len(target))[len(often) :]
    assert coral(often, target, weights, others)[:40] == pytest.approx(coral(source, target)[:40], abs=1e-8)
