"""The phantom: its grids, its people, its calibration against the published tables, its files."""

import json
import logging

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from monai.data import load_decathlon_datalist
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, cross_val_predict

from bundle import phantom, phantom_model, phantom_tables
from bundle.phantom import TASKS, VOLUMES, draw_factors, make_phantom, reference_grid, regional_volumes, render

REGIONS = phantom_tables.REGIONS
NAMES = list(REGIONS)
MASS = np.bincount(phantom_model.PAIRING, phantom_model.shares())
REFERENCE = [[-1.5, 0, 0, 90], [0, 1.5, 0, -126], [0, 0, 1.5, -72], [0, 0, 0, 1]]
SMALL = {"resolution": 9.0, "n_pretraining": 16, "n_per_task": 8, "progress": False}


def bilateral(volumes):
    """(n, 35) volumes of hemispheres to (n, 18) of both."""
    weighted = np.asarray(volumes) * phantom_model.shares()
    sides = len(NAMES)
    return np.column_stack([weighted[:, :sides] + weighted[:, sides:-1], weighted[:, -1]]) / MASS


def beyond_age(people):
    """Bilateral volumes less what age explains, (n, 18), and the same for the total, (n,)."""
    curve = phantom_tables.age_curve(people["age"].to_numpy())
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


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom")
    return folder, make_phantom(folder, **SMALL, workers=2)


# Grids and anatomy


def test_the_reference_grid_is_spm_and_cat12s():
    shape, affine = reference_grid(1.5)
    assert shape == (121, 145, 121)
    assert np.array_equal(affine, REFERENCE)


def test_a_coarse_grid_is_centred_on_the_same_box():
    shape, affine = reference_grid(4.5)
    assert shape == (40, 48, 40)
    centre = affine @ [*(np.array(shape) - 1) / 2, 1]
    assert np.allclose(centre[:3], [0, -18, 18])


def test_an_impossible_resolution_is_refused():
    with pytest.raises(ValueError, match=r"0\.2 mm; expected 1 to 12 mm"):
        reference_grid(0.2)


@pytest.mark.parametrize("resolution", [1.5, 3.0, 4.5])
def test_the_template_keeps_its_1008_ml(resolution):
    held = phantom.template(resolution).sum(dtype=float) * resolution**3 / 1000
    assert held == pytest.approx(1008, rel=0.002)


def test_the_template_is_where_the_brain_is():
    x, y, z = np.linalg.inv(reference_grid(4.5)[1])[:3] @ [27, -22, -14, 1]  # right hippocampus
    assert phantom.template(4.5)[round(x), round(y), round(z)] > 0.4


def test_regions_share_out_every_voxel_and_lie_on_their_side():
    weights = phantom.region_weights(4.5)
    assert np.allclose(weights.sum(0), 1, atol=1e-5)
    assert weights.min() > -1e-5
    x = phantom_model._axes(4.5)[0]
    centres = np.einsum("rxyz,x->r", weights, x)
    assert (centres[: len(NAMES)] < 0).all()
    assert (centres[len(NAMES) : -1] > 0).all()


def test_waves_and_their_slopes_follow_the_formula():
    coefficients = np.zeros((4, 4, 4))
    coefficients[1, 2, 3] = 1
    x, y, z = np.ix_(*phantom_model._axes(9.0))
    k = [np.pi * n / mm for n, mm in zip((1, 2, 3), (181.5, 217.5, 181.5), strict=True)]
    a, b, c = k[0] * (x + 90.75), k[1] * (y + 126.75), k[2] * (z + 72.75)
    assert np.allclose(phantom_model._waves(coefficients, 9.0), np.cos(a) * np.cos(b) * np.cos(c), atol=1e-5)
    slopes = -k[1] * np.cos(a) * np.sin(b) * np.cos(c)
    assert np.allclose(phantom_model._waves(coefficients, 9.0, slope_along=1), slopes, atol=1e-6)


# The same person, always


def test_a_subject_does_not_depend_on_how_many_are_drawn():
    for cohort in phantom_tables.COHORTS:
        few, many = draw_factors(cohort, 9, seed=3), draw_factors(cohort, 30, seed=3)
        pd.testing.assert_frame_equal(few, many.head(9), check_exact=False, rtol=1e-12)


def test_another_seed_gives_other_people():
    one, other = draw_factors("bipolar", 8, seed=0), draw_factors("bipolar", 8, seed=1)
    assert not np.isclose(one["brain_age"], other["brain_age"]).any()


def test_an_unknown_cohort_is_refused():
    with pytest.raises(ValueError, match="no cohort 'autism'; choose one of"):
        draw_factors("autism", 2)


def test_rendered_volumes_are_the_drawn_ones():
    for person in draw_factors("alzheimer", 6, seed=2).to_dict("records"):
        grey = render(person, with_site=False) * phantom_model.TIV_REFERENCE / person["tiv"]
        drawn = np.array([person[name] for name in VOLUMES])
        assert np.allclose(regional_volumes(grey, 4.5), drawn, atol=0.003)
        assert grey.sum() / phantom.template(4.5).sum() == pytest.approx(person["total"], abs=0.001)


@pytest.mark.parametrize("resolution", [3.0, 1.5])
def test_a_subject_is_the_same_at_another_resolution(resolution):
    for person in draw_factors("schizophrenia", 2, seed=2).to_dict("records"):
        coarse = regional_volumes(render(person, with_site=False), 4.5)
        fine = regional_volumes(render(person, with_site=False, resolution=resolution), resolution)
        assert np.allclose(fine, coarse, atol=0.02)  # regions scatter by 0.05 to 0.12
        assert fine @ phantom_model.shares() == pytest.approx(coarse @ phantom_model.shares(), abs=0.005)


def test_full_resolution_has_the_reference_shape_and_a_sane_range():
    volume = render(draw_factors("bipolar", 1).to_dict("records")[0], resolution=1.5)
    assert volume.shape == (121, 145, 121)
    assert volume.dtype == np.float32
    assert 0 <= volume.min() < 0.8 < volume.max() < 2


def test_a_site_marks_its_images_and_only_the_seed_changes_the_mark():
    person = draw_factors("pretraining", 1).to_dict("records")[0]
    here, again = render(person), render(person)
    moved = render({**person, "site": "pretraining-99"})
    assert np.array_equal(here, again)
    assert not np.allclose(here, moved, atol=0.05)
    assert phantom.site_effect("x", 0).gain != phantom.site_effect("x", 1).gain


# Calibration: who takes part


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


# Calibration: ageing


def test_regional_rates_at_40_to_86():
    ages = np.linspace(40, 86, 461)
    rates = slope(phantom_tables.age_curve(ages), ages)
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
    total = phantom_tables.age_curve(ages) @ MASS
    assert slope(total, ages) == pytest.approx(rate, rel=tolerance)
    assert np.polyfit(ages, total, 2)[0] < 0


def test_the_hippocampus_falls_faster_and_faster():
    ages = np.linspace(40, 86, 461)
    curve = phantom_tables.age_curve(ages)[:, NAMES.index("hippocampus")]
    assert 100 * np.polyfit(ages, curve, 2)[0] == pytest.approx(-0.0057, rel=0.25)
    early, middle, late = (phantom_tables.age_slope(age)[0] for age in (50.0, 62.0, 75.0))
    assert 0 > early > middle > late


def test_everything_falls_in_youth_and_stays_finite_at_the_ends():
    ages = np.arange(-20.0, 110.0)
    total = phantom_tables.age_curve(ages) @ MASS
    assert (np.diff(total) < 0).all()
    assert np.abs(total).max() < 0.5
    assert slope(total[26:41], ages[26:41]) < slope(total[46:71], ages[46:71]) < 0  # 6-20 and 26-50


# Calibration: scatter and disease


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


def test_disease_is_found_in_images():
    people = draw_factors("alzheimer", 80, seed=4)
    records = people.to_dict("records")
    grey = [render(p) * phantom_model.TIV_REFERENCE / p["tiv"] for p in records]
    curve = phantom_tables.age_curve(people["age"].to_numpy())
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
    best = {task: phantom.best_achievable_auc(task, 20_000) for task in TASKS}
    assert 0.6 < best["bipolar"] < best["schizophrenia"] - 0.05 < best["alzheimer"] - 0.15 < 0.85


def test_best_achievable_auc_agrees_with_the_closed_form():
    """Without a disease effect nothing can be achieved; with one, D of equal covariances bounds it."""
    people = draw_factors("bipolar", 4000, seed=9)
    volumes = beyond_age(people)[0]
    gap = (people["brain_age"] - people["age"]).to_numpy()
    known = np.column_stack([volumes, gap, gap * people["age"], people["global_factor"]])
    patient = (people["label"] == 1).to_numpy()
    shift = np.r_[phantom_model.disease_shift("bipolar"), 0, 0, 0]
    distance = np.sqrt(shift @ np.linalg.solve(np.cov(known[~patient].T), shift))
    assert phantom.best_achievable_auc("bipolar", 20_000) == pytest.approx(norm.cdf(distance / np.sqrt(2)), abs=0.02)


# Calibration: images


@pytest.fixture(scope="module")
def residuals():
    """Voxels of 300 rendered subjects less age, sex and head size, the same less site, and the sites."""
    people = draw_factors("pretraining", 312, seed=6)
    inside = phantom.template(4.5) > 0.1
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
    inside = phantom.template(4.5) > 0.1
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


# Files


def test_files_are_where_the_contract_says(small):
    folder, summary = small
    assert summary == json.loads((folder / "phantom.json").read_text())
    assert "phantom" in summary["warning"]
    assert set(summary["best_auc"]) == set(TASKS)
    for cohort, n in {"pretraining": 16, **dict.fromkeys(TASKS, 8)}.items():
        people = pd.read_csv(folder / cohort / "participants.tsv", sep="\t")
        columns = ["participant_id", "session_id", "site", "age", "sex", "tiv", "diagnosis"]
        assert list(people.columns) == columns
        assert len(people) == n
        factors = pd.read_csv(folder / cohort / "factors.tsv", sep="\t")
        assert {"brain_age", "severity", "global_factor", "texture_seed", *VOLUMES} <= set(factors.columns)
    assert not list(folder.rglob("*part-*"))


def test_datalists_are_valid(small):
    folder, _ = small
    for cohort in ("pretraining", *TASKS):
        seen = set()
        for section in ("training", "validation", "test"):
            raw = json.loads((folder / f"{cohort}.json").read_text())[section]
            items = load_decathlon_datalist(folder / f"{cohort}.json", True, section) if raw else []
            for item in items:
                keys = {"image", "participant_id", "session_id", "site", "age", "sex", "tiv", "label"}
                assert set(item) == keys
                assert nib.load(item["image"]).shape == reference_grid(9.0)[0]
                assert item["label"] in ((None,) if cohort == "pretraining" else (0, 1))
            people = {item["participant_id"] for item in items}
            assert not people & seen
            seen |= people


def test_images_are_compact_and_equal_the_rendered_ones(small):
    folder, _ = small
    person = draw_factors("bipolar", 8).to_dict("records")[3]
    image = nib.load(folder / "bipolar" / f"{person['participant_id']}_gm.nii.gz")
    assert image.get_data_dtype() == np.uint8
    assert np.array_equal(image.affine, reference_grid(9.0)[1])
    assert np.allclose(image.get_fdata(), render(person, resolution=9.0), atol=0.5 / 128 + 1e-6)


def test_participants_are_unique_over_the_whole_phantom():
    ids = pd.concat([draw_factors(cohort, 50)["participant_id"] for cohort in phantom_tables.COHORTS])
    assert ids.is_unique


def test_pretraining_is_split_at_random_over_all_sites():
    people = draw_factors("pretraining", 1500)
    sections = people.groupby("section").size() / len(people)
    assert sections["training"] == pytest.approx(0.87, abs=0.02)
    assert people["site"].nunique() >= 20
    assert people[people["section"] == "validation"]["site"].nunique() >= 20
    assert people["label"].isna().all()


@pytest.mark.parametrize("task", TASKS)
def test_tasks_test_on_unseen_sites_with_balanced_labels(task):
    people = draw_factors(task, 400)
    train, test = (people[people["section"] == s] for s in ("training", "test"))
    assert not set(train["site"]) & set(test["site"])
    assert not set(people["site"]) & set(draw_factors("pretraining", 100)["site"])
    assert len(train) / len(people) == pytest.approx(0.6, abs=0.05)
    assert (people.groupby("site")["label"].mean() == 0.5).all()


def test_the_number_of_workers_changes_nothing(small, tmp_path):
    folder, _ = small
    make_phantom(tmp_path, **SMALL, workers=1)
    for path in folder.rglob("*.*"):
        assert path.read_bytes() == (tmp_path / path.relative_to(folder)).read_bytes(), path


def test_a_complete_phantom_is_reused(small, caplog):
    folder, summary = small
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.nii.gz")}
    with caplog.at_level(logging.INFO, logger="bundle.phantom"):
        assert make_phantom(folder, **SMALL) == summary
    assert "Reusing the phantom" in caplog.text
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*.nii.gz")}


def test_a_phantom_with_other_settings_is_refused(small):
    folder, _ = small
    with pytest.raises(ValueError, match=r"'seed': 0.*'seed': 7.*choose another output folder"):
        make_phantom(folder, **SMALL, seed=7)


def test_an_interrupted_phantom_is_made_again(tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(phantom, "_write_tables", killed)
        with pytest.raises(KeyboardInterrupt):
            make_phantom(tmp_path, **SMALL)
    assert not (tmp_path / "phantom.json").exists()
    make_phantom(tmp_path, **SMALL)
    lost = tmp_path / "bipolar" / "sub-bd0002_gm.nii.gz"
    lost.unlink()
    make_phantom(tmp_path, **SMALL)
    assert lost.exists()


def test_too_few_subjects_are_refused(tmp_path):
    with pytest.raises(ValueError, match="n_per_task is 2; expected 8 to 9999"):
        make_phantom(tmp_path, **{**SMALL, "n_per_task": 2})
