"""ComBat against the equations as loops, and against the numbers of neuroCombat."""

import numpy as np
import pytest

from bundle.metrics import combat
from bundle.metrics.combat import fit_combat


def scans(seed=7):
    """Fifteen scans of three sites with four features, and their ages and sexes."""
    rng = np.random.default_rng(seed)
    sizes, sites = [4, 6, 5], np.repeat(["a", "b", "c"], [4, 6, 5])
    known = np.column_stack([rng.integers(20, 60, 15), rng.integers(0, 2, 15)]).astype(float)
    features = rng.normal(size=(15, 4)) * np.repeat([1, 2, 0.5], sizes)[:, None] + np.repeat([0, 3, -1], sizes)[:, None]
    return features + 0.05 * known[:, :1] * np.arange(4), sites, known


def harmonized(features, sites, known=None):
    """Everybody without the effect of their site: what only a training set may be."""
    model = fit_combat(lambda part: features[:, part], features.shape[1], sites, known)
    known, left = np.zeros((len(sites), 0)) if known is None else known, np.empty_like(features)
    for site in np.unique(sites):
        own = sites == site
        left[own] = model.without(features[own], known[own], model.effects[site])
    return left


def by_loops(features, sites, known):
    """Johnson, Li & Rabinovic 2007, equations 1 to 3.1, one number at a time."""
    names = sorted(set(sites))
    design = np.array([[float(site == name) for name in names] + list(k) for site, k in zip(sites, known, strict=True)])
    n, p = features.shape
    z, spread, expected = np.empty((n, p)), np.empty(p), np.empty((n, p))
    for g in range(p):
        beta = np.linalg.solve(design.T @ design, design.T @ features[:, g])
        mean = sum(beta[i] * np.sum(sites == name) for i, name in enumerate(names)) / n
        spread[g] = np.sqrt(sum((features[j, g] - design[j] @ beta) ** 2 for j in range(n)) / n)
        for j in range(n):
            expected[j, g] = mean + design[j, len(names) :] @ beta[len(names) :]
            z[j, g] = (features[j, g] - expected[j, g]) / spread[g]
    left = np.empty((n, p))
    for name in names:
        rows = [j for j in range(n) if sites[j] == name]
        shift = [np.mean([z[j, g] for j in rows]) for g in range(p)]
        variance = [np.var([z[j, g] for j in rows], ddof=1) for g in range(p)]
        m, s2 = np.mean(variance), np.var(variance, ddof=1)
        shape, rate, tau2 = (m**2 + 2 * s2) / s2, (m**3 + m * s2) / s2, np.var(shift, ddof=1)
        for g in range(p):
            located, scaled = shift[g], variance[g]
            for _ in range(200):
                located = (len(rows) * tau2 * shift[g] + scaled * np.mean(shift)) / (len(rows) * tau2 + scaled)
                squares = sum((z[j, g] - located) ** 2 for j in rows)
                scaled = (rate + squares / 2) / (len(rows) / 2 + shape - 1)
            for j in rows:
                left[j, g] = spread[g] * (z[j, g] - located) / np.sqrt(scaled) + expected[j, g]
    return left


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_combat_is_its_equations(kept):
    features, sites, known = scans()
    found = harmonized(features, sites, known[:, :kept])
    assert found == pytest.approx(by_loops(features, sites, known[:, :kept]), abs=1e-6)
    assert np.abs(found - features).max() > 0.5


# neuroCombat 0.2.12 (MIT), its iteration continued to 1e-12; scans 0, 4, 9 and 14 of `scans()`; age in float32 there.
OF_NEUROCOMBAT = {
    False: [
        [1.35346237, 2.20027167, 6.30724895, 7.90046182],
        [0.49581188, 1.50656294, 3.67383262, 8.84956059],
        [-0.61078745, 2.69122685, 4.92206605, 5.51084827],
        [-0.65131092, 2.54411746, 5.27470629, 7.3582917],
    ],
    True: [
        [1.07761989, 2.72838547, 6.25329987, 8.57723688],
        [0.44968208, 1.43440774, 3.4813794, 8.7206414],
        [-0.66263434, 2.40127978, 4.51632751, 5.32073488],
        [-1.02991943, 2.26412086, 4.60710316, 7.22598227],
    ],
}


@pytest.mark.parametrize("keep", [False, True])
def test_combat_has_the_numbers_of_neurocombat(keep):
    features, sites, known = scans()
    found = harmonized(features, sites, known if keep else None)
    assert found[[0, 4, 9, 14]] == pytest.approx(np.array(OF_NEUROCOMBAT[keep]), abs=1e-5)


def test_features_are_seen_some_at_a_time_and_come_to_the_same(monkeypatch):
    features, sites, known = scans()
    whole = harmonized(features, sites, known)
    monkeypatch.setattr(combat, "COLUMNS", 3)
    assert harmonized(features, sites, known) == pytest.approx(whole, abs=1e-12)


def test_features_that_hardly_vary_do_no_harm():
    features, sites, _ = scans()
    constant, of_site = np.full((15, 1), 7.0), np.repeat([1.0, 2.0, 4.0], [4, 6, 5])[:, None]
    found = harmonized(np.hstack([features, constant, of_site]), sites)
    assert found[:, :4] == pytest.approx(harmonized(features, sites), abs=1e-9)
    assert found[:, 4] == pytest.approx(7)
    assert found[:, 5] == pytest.approx(of_site.mean())
    still = features.copy()
    still[sites == "b"] = 1.0  # a site whose scans are all alike
    assert np.isfinite(harmonized(still, sites)).all()


def test_one_feature_has_no_others_to_be_shrunk_towards():
    features, sites, _ = scans()
    found = harmonized(features[:, :1], sites)
    for site in "abc":
        assert found[sites == site].mean() == pytest.approx(features[:, 0].mean())
    assert len({round(float(found[sites == site].std(ddof=1)), 9) for site in "abc"}) == 1


def test_what_cannot_be_told_is_refused():
    features, sites, _ = scans()
    for wrong in (np.full(15, "a"), np.where(np.arange(15) == 3, "d", sites)):
        with pytest.raises(ValueError, match="needs at least two sites with two scans each, but scans by site are"):
            harmonized(features, wrong)
    with pytest.raises(ValueError, match="cannot preserve what the site determines"):
        harmonized(features, sites, (sites == "a").astype(float)[:, None])
