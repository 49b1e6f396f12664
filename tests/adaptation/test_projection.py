"""Site directions: the projection by inner products is that of features, written out with their covariance."""

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf as of_features
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from bundle.adaptation import ledoit_wolf, without_site_directions

SITES = np.array(list("abcabcabcabcabcabcabcabcabcabc"))


def features_of(p, seed=0):
    rng = np.random.default_rng(seed)
    shifts = {site: rng.normal(0, 3, p) for site in "abcd"}
    known = np.stack([rng.normal(size=p) * np.linspace(0.2, 3, p) + shifts[site] for site in SITES])
    new = rng.normal(size=(7, p)) + shifts["d"]
    return known, new


def naive(known, sites, scans):
    """x − (x − μ) S⁻¹Mᵀ (M S⁻¹Mᵀ)⁺ M with every matrix as wide as the features, and scikit-learn's shrinkage."""
    names = sorted(set(sites))
    means = np.array([known[sites == name].mean(0) for name in names])
    centred = np.array([row - means[names.index(site)] for row, site in zip(known, sites, strict=True)])
    inverse = np.linalg.inv(of_features(centred, assume_centered=True)[0])
    apart = means - means.mean(0)
    solved = np.linalg.pinv(apart @ inverse @ apart.T, rcond=1e-10)
    return np.stack([x - (x - means.mean(0)) @ inverse @ apart.T @ solved @ apart for x in scans])


def projected(known, new, fitted=None, sites=SITES):
    both = np.concatenate([known, new])
    people = np.eye(len(both))[: len(known)] if fitted is None else fitted
    return without_site_directions(both @ both.T, people, sites, both.shape[1]) @ both


@pytest.mark.parametrize("p", [4, 20, 90])
def test_it_is_the_projection_of_the_equation(p):
    known, new = features_of(p)
    assert projected(known, new) == pytest.approx(naive(known, SITES, np.concatenate([known, new])), abs=1e-7)


@pytest.mark.parametrize("p", [5, 60])
@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_shrinkage_is_that_of_scikit_learn(p, scale):
    features = np.random.default_rng(p).normal(size=(40, p)) * np.linspace(1, scale, p)
    features -= features.mean(0)
    shrunk = ledoit_wolf(features @ features.T, p)
    covariance, share = of_features(features, assume_centered=True)
    assert shrunk.share == pytest.approx(share)
    assert shrunk.variance == pytest.approx(np.trace(covariance) / p)
    assert shrunk.floor > 0


def test_no_variance_at_all_is_a_sphere():
    assert ledoit_wolf(np.zeros((4, 4)), 3) == (1.0, 0.0)


def test_means_of_sites_coincide_and_nothing_tells_them_apart():
    known, new = features_of(12)
    found = projected(known, new)
    means = np.stack([found[: len(known)][site == SITES].mean(0) for site in "abc"])
    assert means == pytest.approx(np.tile(means.mean(0), (3, 1)), abs=1e-8)
    analysis = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    assert np.ptp(analysis.fit(known, SITES).coef_, axis=0).max() > 1  # between sites
    assert np.ptp(analysis.fit(found[: len(known)], SITES).coef_, axis=0) == pytest.approx(np.zeros(12), abs=1e-5)
    assert np.linalg.matrix_rank(found - found.mean(0)) == 10  # of 12 features, two directions are gone


def test_it_moves_features_no_more_than_other_projections():
    """Of projections after which means coincide, it is the least by the covariance within sites."""
    known, _ = features_of(12)
    means = np.stack([known[site == SITES].mean(0) for site in "abc"])
    within = known - means[[list("abc").index(site) for site in SITES]]
    precision = np.linalg.inv(of_features(within, assume_centered=True)[0])
    apart, centred = means - means.mean(0), known - means.mean(0)
    across = centred - centred @ np.linalg.pinv(apart) @ apart
    lengths = []
    for moved in (projected(known, known[:0]), across):
        gone = known - moved - (known - moved).mean(0)
        lengths.append(np.einsum("ij,jk,ik", gone, precision, gone))
    assert lengths[0] < lengths[1]


def test_new_scans_take_no_part():
    known, new = features_of(20)
    one = projected(known, new)
    assert projected(known, new * 50 + 3)[: len(known)] == pytest.approx(one[: len(known)], abs=1e-8)
    assert projected(known, new[:1])[-1] == pytest.approx(one[len(known)], abs=1e-8)


def test_features_that_never_vary_within_sites_lose_only_their_means():
    known = np.stack([{"a": np.array([1.0, 0, 0]), "b": np.array([0, 2.0, 0]), "c": np.zeros(3)}[s] for s in SITES])
    found = projected(known, known[:0])
    assert found == pytest.approx(np.tile(found.mean(0), (len(known), 1)), abs=1e-9)
