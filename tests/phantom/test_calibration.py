"""The phantom's calibration: people and images against the published tables."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, cross_val_predict

from bundle.phantom import cohort, model, tables
from bundle.phantom.cohort import TASKS, VOLUMES, draw_factors, regional_volumes, render

pytestmark = pytest.mark.long

REGIONS = tables.REGIONS
NAMES = list(REGIONS)
MASS = np.bincount(model.PAIRING, model.shares())


def bilateral(volumes):
    """(n, 35) volumes of hemispheres to (n, 18) of both."""
    weighted = np.asarray(volumes) * model.shares()
    sides = len(NAMES)
    return np.column_stack([weighted[:, :sides] + weighted[:, sides:-1], weighted[:, -1]]) / MASS


def beyond_age(people):
    """Bilateral volumes less what age explains, (n, 18), and the same for the total, (n,)."""
    curve = tables.age_curve(people["age"].to_numpy())
    left = bilateral(people[list(VOLUMES)]) - 1 - curve
    return left, left @ MASS


def cohens_d(values, group):
    a, b = values[group], values[~group]
    return (a.mean(0) - b.mean(0)) / np.sqrt((a.var(0, ddof=1) + b.var(0, ddof=1)) / 2)


def slope(values, ages):
    return 100 * np.polyfit(ages, values, 1)[0]


@pytest.fixture(scope="module")
def healthy():
    return draw_factors("pretraining", 4800, seed=1)


# Who takes part


AGES = [
    ("pretraining", None, 32, 19),
    ("schizophrenia", 1, 34, 12),
    ("schizophrenia", 0, 32, 12),
    ("bipolar", 1, 38, 12),
    ("bipolar", 0, 38, 12),
    ("alzheimer", 1, 75, 8),
    ("alzheimer", 0, 75, 5),
]


@pytest.mark.parametrize(("cohort", "label", "mean", "sd"), AGES)
def test_ages(cohort, label, mean, sd):
    n = 3000
    people = draw_factors(cohort, n, seed=5)
    ages = people["age"] if label is None else people["age"][people["label"] == label]
    error = sd / np.sqrt(len(ages))
    assert ages.mean() == pytest.approx(mean, abs=4 * error)
    assert ages.std() == pytest.approx(sd, abs=4 * error)
    assert cohort != "pretraining" or (ages.min() >= 6 and ages.max() <= 88)


def test_head_size_and_grey_matter_of_men_and_women(healthy):
    men = (healthy["sex"] == "M").to_numpy()
    error = np.sqrt(4 / len(healthy))
    volume = 1 + beyond_age(healthy)[1]
    assert cohens_d(healthy["tiv"].to_numpy(), men) == pytest.approx(1.8, abs=4 * error)
    assert cohens_d(volume * healthy["tiv"].to_numpy(), men) == pytest.approx(1.6, abs=4 * error)
    assert cohens_d(volume, men) == pytest.approx(-0.15, abs=4 * error)


def test_brain_age_differs_from_age_by_five_to_six_years(healthy):
    gap = healthy["brain_age"] - healthy["age"]
    assert 5 < gap.std() < 6
    assert abs(np.corrcoef(gap, healthy["age"])[0, 1]) < 0.06


# Ageing


def test_regional_rates_at_40_to_86():
    ages = np.linspace(40, 86, 461)
    rates = slope(tables.age_curve(ages), ages)
    published = {
        "superior_frontal": -0.51,
        "middle_frontal": -0.47,
        "insula": -0.47,
        "superior_temporal": -0.47,
        "thalamus": -0.43,
        "precentral": -0.39,
        "parietal": -0.33,
        "entorhinal": -0.30,
        "inferior_temporal": -0.30,
        "occipital": -0.21,
        "hippocampus": -0.18,
        "caudate": -0.12,
    }
    for name, rate in published.items():
        assert rates[NAMES.index(name)] == pytest.approx(rate, abs=0.005), name


def test_regional_rates_are_found_in_people(healthy):
    elderly = healthy[healthy["age"].between(40, 86)]
    volumes, ages = bilateral(elderly[list(VOLUMES)]), elderly["age"].to_numpy()
    for i, region in enumerate(REGIONS.values()):
        error = region.scatter / (ages.std() * np.sqrt(len(ages)))
        # brain age bends the curve a little, and ages are not spread evenly
        assert slope(volumes[:, i], ages) == pytest.approx(region.rate, abs=4 * error + 0.05)


@pytest.mark.parametrize(("low", "high", "rate", "tolerance"), [(45, 85, -0.38, 0.20), (65, 88, -0.8, 0.25)])
def test_total_grey_matter_falls_by_a_compromise_of_two_published_rates(low, high, rate, tolerance):
    ages = np.linspace(low, high, 400)
    total = tables.age_curve(ages) @ MASS
    assert slope(total, ages) == pytest.approx(rate, rel=tolerance)
    assert np.polyfit(ages, total, 2)[0] < 0


def test_the_hippocampus_falls_faster_and_faster():
    ages = np.linspace(40, 86, 461)
    curve = tables.age_curve(ages)[:, NAMES.index("hippocampus")]
    assert 100 * np.polyfit(ages, curve, 2)[0] == pytest.approx(-0.0057, rel=0.25)
    early, middle, late = (tables.age_slope(age)[0] for age in (50.0, 62.0, 75.0))
    assert 0 > early > middle > late


def test_everything_falls_in_youth_and_stays_finite_at_the_ends():
    ages = np.arange(-20.0, 110.0)
    total = tables.age_curve(ages) @ MASS
    assert (np.diff(total) < 0).all()
    assert np.abs(total).max() < 0.5
    assert slope(total[26:41], ages[26:41]) < slope(total[46:71], ages[46:71]) < 0  # 6-20 and 26-50


# Scatter and disease


def test_scatter_of_regions_and_total(healthy):
    adults = healthy[healthy["age"] >= 40]  # where the published scatter was measured
    volumes, total = beyond_age(adults)
    sd = 100 * volumes.std(0)
    for i, region in enumerate(REGIONS.values()):
        assert sd[i] == pytest.approx(region.scatter, rel=4 / np.sqrt(2 * len(adults)) + 0.03), NAMES[i]
    assert 100 * total.std() == pytest.approx(3.2, rel=4 / np.sqrt(2 * len(adults)) + 0.05)


def test_published_scatter_of_single_regions_and_of_their_mean():
    published = {"hippocampus": 7.3, "thalamus": 5.2, "amygdala": 7.9, "entorhinal": 10.1}
    for name, scatter in published.items():
        assert REGIONS[name].scatter == scatter
    others = [r.scatter for name, r in REGIONS.items() if name not in published]
    assert np.mean(others) == pytest.approx(9.4, abs=0.1)
    assert min(others) == 7.9
    assert max(others) == 11.7


def test_hemispheres_differ_a_little(healthy):
    left, right = healthy["hippocampus_left"], healthy["hippocampus_right"]
    assert 0.85 < np.corrcoef(left, right)[0, 1] < 0.99


EFFECTS = {
    "hippocampus": (-0.46, -0.17, -1.55),
    "amygdala": (-0.31, -0.12, -1.4),
    "entorhinal": (-0.18, -0.06, -1.6),
    "thalamus": (-0.31, -0.14, -0.5),
    "insula": (-0.41, -0.18, -0.8),
    "superior_temporal": (-0.44, -0.20, -1.0),
    "inferior_temporal": (-0.48, -0.25, -1.15),
    "superior_frontal": (-0.41, -0.24, -0.6),
    "pars_opercularis": (-0.40, -0.27, -0.6),
    "medial_frontal": (-0.24, -0.21, -0.6),
    "precuneus": (-0.30, -0.20, -0.9),
    "precentral": (-0.33, -0.20, -0.3),
    "occipital": (-0.08, 0.02, -0.2),
    "caudate": (0.02, -0.10, -0.3),
}


@pytest.mark.parametrize("task", TASKS)
def test_disease_effects_by_region(task):
    people = draw_factors(task, 6000, seed=4)
    found = cohens_d(beyond_age(people)[0], (people["label"] == 1).to_numpy())
    for name, effects in EFFECTS.items():
        d = effects[TASKS.index(task)]
        error = np.sqrt(4 / len(people) * (1 + d**2 / 8))
        assert found[NAMES.index(name)] == pytest.approx(d, abs=4 * error), name
    assert found[NAMES.index("cerebellum")] == pytest.approx(0, abs=0.11)


def test_unnamed_grey_matter_is_not_spared():
    """It has the mean effect of the named cortex; for the total that gives what is published of mean thickness."""
    cortex = [n for n in NAMES if n not in tables.SUBCORTICAL]
    for task, total in zip(TASKS, (-0.53, -0.30, -1.1), strict=True):
        people = draw_factors(task, 6000, seed=4)
        volumes, whole = beyond_age(people)
        patient = (people["label"] == 1).to_numpy()
        rest = np.mean([REGIONS[name].effects[TASKS.index(task)] for name in cortex])
        assert cohens_d(volumes[:, -1], patient) == pytest.approx(rest, abs=4 * np.sqrt(4 / len(people)))
        assert cohens_d(whole, patient) == pytest.approx(total, abs=0.12)


def test_disease_is_found_in_images():
    people = draw_factors("alzheimer", 80, seed=4)
    records = people.to_dict("records")
    grey = [render(p) * model.TIV_REFERENCE / p["tiv"] for p in records]
    curve = tables.age_curve(people["age"].to_numpy())
    volumes = bilateral([regional_volumes(g, 4.5) for g in grey]) - curve
    found = cohens_d(volumes, (people["label"] == 1).to_numpy())
    for name in ("hippocampus", "entorhinal", "inferior_temporal"):  # sites add to the scatter
        assert found[NAMES.index(name)] == pytest.approx(EFFECTS[name][2], abs=3 * np.sqrt(4 / 80) * 1.2), name


def test_patients_vary_in_severity_and_controls_have_none():
    people = draw_factors("alzheimer", 3000, seed=4)
    severity = people.groupby("label")["severity"]
    assert severity.mean().to_list() == pytest.approx([0, 1], abs=0.03)
    assert severity.std().to_list() == pytest.approx([0, 1 / 3], abs=0.02)


def test_best_achievable_auc_orders_the_tasks():
    best = {task: cohort.best_achievable_auc(task, 20_000) for task in TASKS}
    assert 0.6 < best["bipolar"] < best["schizophrenia"] - 0.05 < best["alzheimer"] - 0.15 < 0.85


def test_best_achievable_auc_agrees_with_the_closed_form():
    """Without a disease effect nothing can be achieved; with one, D of equal covariances bounds it."""
    people = draw_factors("bipolar", 4000, seed=9)
    volumes = beyond_age(people)[0]
    excess = people["atrophy"].to_numpy() - tables.age_curve(people["age"].to_numpy()) @ MASS
    known = np.column_stack([volumes, excess, people["global_factor"]])
    patient = (people["label"] == 1).to_numpy()
    shift = model.disease_shift("bipolar")
    shift = np.r_[shift, shift @ MASS, 0]
    distance = np.sqrt(shift @ np.linalg.solve(np.cov(known[~patient].T), shift))
    assert cohort.best_achievable_auc("bipolar", 20_000) == pytest.approx(norm.cdf(distance / np.sqrt(2)), abs=0.02)


# Images


@pytest.fixture(scope="module")
def residuals():
    """Voxels of 300 rendered subjects less age, sex and head size, the same less site, and the sites."""
    people = draw_factors("pretraining", 312, seed=6)
    inside = model.template(4.5) > 0.1
    voxels = np.stack([render(p, seed=6)[inside] for p in people.to_dict("records")])
    age, tiv = people["age"].to_numpy() / 100, people["tiv"].to_numpy() / 1000
    known = np.column_stack([np.ones_like(age), age, age**2, age**3, people["sex"] == "M", tiv, tiv * age]).astype(
        float
    )
    left = voxels - known @ np.linalg.lstsq(known, voxels, rcond=None)[0]
    sites = pd.get_dummies(people["site"]).to_numpy(float)
    return left, left - sites @ np.linalg.lstsq(sites, left, rcond=None)[0], sites


def test_shape_of_the_scatter(residuals):
    without_site = residuals[1]
    power = np.linalg.eigvalsh(without_site @ without_site.T)[::-1]
    explained = np.cumsum(power) / power.sum()
    assert explained[0] == pytest.approx(0.25, abs=0.06)
    assert explained[9] == pytest.approx(0.5, abs=0.08)
    assert explained[49] == pytest.approx(0.75, abs=0.08)


def test_sites_explain_four_to_nine_percent_of_voxel_variance(residuals):
    left, without_site, sites = residuals
    n, k = sites.shape
    share = 1 - (without_site.var(0) * n / (n - k)) / (left.var(0) * n / (n - 1))  # adjusted for 24 sites
    assert 0.04 < share.mean() < 0.09
    assert 0.15 < np.percentile(share, 99) < 0.45


def voxels(people, seed):
    """Rendered images within the brain, each z-scored."""
    inside = model.template(4.5) > 0.1
    maps = np.stack([render(p, seed=seed)[inside] for p in people.to_dict("records")])
    return (maps - maps.mean(1, keepdims=True)) / maps.std(1, keepdims=True)


def on_row_space(train, test):
    """Standardised voxels in the basis of the training images, in which linear models are the same and fast."""
    mean, sd = train.mean(0), train.std(0) + 1e-6
    train, test = (train - mean) / sd, (test - mean) / sd
    basis = np.linalg.svd(train, full_matrices=False)[2].T
    return train @ basis, test @ basis


@pytest.mark.slow
@pytest.mark.parametrize(("task", "low", "high"), [(TASKS[0], 0.7, 0.8), (TASKS[1], 0.58, 0.68), (TASKS[2], 0.9, 0.97)])
def test_voxel_wise_logistic_regression_is_as_good_as_on_real_cohorts(task, low, high):
    people = draw_factors(task, 800, seed=0)
    train, test = (people[people["section"] == s] for s in ("training", "test"))
    train = train.head(240)
    X, Y = on_row_space(voxels(train, 0), voxels(test, 0))
    grid = {"C": 10.0 ** np.arange(-5, 0)}
    model = GridSearchCV(LogisticRegression(max_iter=2000), grid, cv=5, scoring="roc_auc")
    model.fit(X, train["label"].astype(int))
    auc = roc_auc_score(test["label"].astype(int), model.decision_function(Y))
    error = np.sqrt(auc * (1 - auc) / len(test))  # at least the true standard error of an AUC here
    assert low - 2 * error < auc < high + 2 * error


@pytest.mark.slow
def test_voxel_wise_ridge_reads_age_to_about_five_years():
    people = draw_factors("pretraining", 1500, seed=0)
    people = people[people["age"].between(18, 60)]
    X, _ = on_row_space(*[voxels(people, 0)] * 2)
    model = GridSearchCV(Ridge(), {"alpha": 10.0 ** np.arange(2, 7)}, cv=5)
    error = np.abs(cross_val_predict(model, X, people["age"], cv=5) - people["age"]).mean()
    assert error == pytest.approx(5, abs=0.5)


@pytest.mark.slow
@pytest.mark.parametrize(("task", "low", "high"), [(TASKS[0], 1.5, 6), (TASKS[1], 0, 4), (TASKS[2], 6, 14)])
def test_patients_look_older_than_controls_of_their_age(task, low, high):
    """Published brain-age gaps: some 3 to 5 years in schizophrenia, 2 in bipolar disorder, 7 to 10 in Alzheimer's."""
    healthy, people = draw_factors("pretraining", 1000, seed=0), draw_factors(task, 400, seed=0)
    healthy = healthy[healthy["age"] >= 18]
    X, Y = on_row_space(voxels(healthy, 0), voxels(people, 0))
    ridge = GridSearchCV(Ridge(), {"alpha": 10.0 ** np.arange(2, 7)}, cv=5).fit(X, healthy["age"])
    patient, age = (people["label"] == 1).to_numpy(), people["age"].to_numpy()
    gap = ridge.predict(Y)
    gap -= np.polyval(np.polyfit(age[~patient], gap[~patient], 1), age)  # regression to the mean age
    assert low < gap[patient].mean() - gap[~patient].mean() < high
