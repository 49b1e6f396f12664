import math

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.metrics import brier_score_loss

from bundle.metrics import clinic


def simulated(people=200, seed=0, slope=1.0, intercept=0.0):
    """Labels, and probabilities whose log odds have to be multiplied by `slope`, and then shifted, to be right."""
    rng = np.random.default_rng(seed)
    right = rng.normal(0.3, 1.5, people)
    return (rng.random(people) < expit(right)).astype(int), expit((right - intercept) / slope)


@pytest.mark.parametrize("bins", [3, 10, 17])
def test_the_parts_of_the_brier_score_add_up_to_it(bins):
    labels, probabilities = simulated(137, bins)
    found = clinic.brier_parts(labels, probabilities, bins)
    assert found["brier"] == pytest.approx(brier_score_loss(labels, probabilities), abs=1e-12)
    murphy = found["reliability"] - found["resolution"] + found["uncertainty"]
    assert murphy + found["within_bins"] == pytest.approx(found["brier"], abs=1e-12)
    assert abs(found["within_bins"]) > 1e-6
    assert found["scaled"] == pytest.approx(1 - found["brier"] / found["uncertainty"])


def test_murphys_parts_are_those_of_a_loop_and_leave_nothing_where_each_bin_has_one_probability():
    rng = np.random.default_rng(1)
    probabilities = rng.choice([0.05, 0.25, 0.65, 0.95], 90)
    labels = (rng.random(90) < 0.8 * probabilities).astype(int)
    reliability = resolution = 0.0
    for value in set(probabilities.tolist()):
        inside = labels[probabilities == value]
        reliability += len(inside) * (value - inside.mean()) ** 2 / 90
        resolution += len(inside) * (inside.mean() - labels.mean()) ** 2 / 90
    found = clinic.brier_parts(labels, probabilities)
    assert (found["reliability"], found["resolution"]) == pytest.approx((reliability, resolution), abs=1e-12)
    assert found["within_bins"] == pytest.approx(0, abs=1e-12)


def test_a_brier_score_of_one_class_has_no_scale():
    found = clinic.brier_parts([0, 0, 0], [0.1, 0.2, 0.3])
    assert found["brier"] == pytest.approx(0.14 / 3)
    assert (found["uncertainty"], found["resolution"]) == (0, 0)
    assert math.isnan(found["scaled"])


def by_optimisation(labels, probabilities, weights):
    """Slope, intercept and calibration in the large that an optimiser of scipy finds."""
    scores = logit(np.clip(probabilities, 1e-6, 1 - 1e-6))

    def loss(log_odds):
        return float(np.sum(weights * (np.logaddexp(0, log_odds) - labels * log_odds)))

    options = {"method": "Nelder-Mead", "options": {"xatol": 1e-10, "fatol": 1e-13, "maxiter": 4000}}
    intercept, slope = minimize(lambda v: loss(v[0] + v[1] * scores), [0, 0], **options).x
    return [slope, intercept, minimize(lambda v: loss(v[0] + scores), [0], **options).x[0]]


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (0.2, -1.0), (3.0, 2.0)])
def test_recalibration_is_the_optimum_that_another_optimiser_finds(slope, intercept):
    labels, probabilities = simulated(150, 2, slope, intercept)
    counts = np.stack([np.ones(150), clinic.resampled_people(150, 1, seed=3)[0]])
    found = clinic.recalibration(labels, probabilities, counts)
    for row, weights in zip(found, counts, strict=True):
        assert row == pytest.approx(by_optimisation(labels, probabilities, weights), abs=2e-5)
    assert clinic.recalibration(labels, probabilities)[0] == pytest.approx(found[0], abs=1e-12)


def test_recalibration_is_that_of_statsmodels():
    api = pytest.importorskip("statsmodels.api")
    labels, probabilities = simulated(300, 4, 0.4)
    scores, family = logit(np.clip(probabilities, 1e-6, 1 - 1e-6)), api.families.Binomial()
    intercept, slope = api.GLM(labels, api.add_constant(scores), family=family).fit(tol=1e-14).params
    large = api.GLM(labels, np.ones(300), family=family, offset=scores).fit(tol=1e-14).params[0]
    assert clinic.recalibration(labels, probabilities)[0] == pytest.approx([slope, intercept, large], abs=1e-8)


def test_a_recalibration_of_saturated_probabilities_settles():
    labels = np.array([0] * 40 + [1] * 40)
    probabilities = np.where(labels == 1, 1.0, 0.0)
    probabilities[[0, 1, 41]] = [1.0, 0.7, 0.0]  # three that are wrong
    found = clinic.recalibration(labels, probabilities)[0]
    assert found == pytest.approx(by_optimisation(labels, probabilities, np.ones(80)), abs=1e-4)


@pytest.mark.parametrize(
    ("labels", "probabilities", "known"),
    [
        ([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], [False, False, True]),
        ([0, 0, 1, 1], [0.1, 0.5, 0.5, 0.9], [False, False, True]),
        ([1, 1, 0, 0], [0.1, 0.2, 0.8, 0.9], [False, False, True]),
        ([0, 1, 0, 1], [0.4, 0.4, 0.4, 0.4], [False, False, True]),
        ([0, 0, 0], [0.1, 0.2, 0.3], [False, False, False]),
        ([0], [0.1], [False, False, False]),
        ([0, 1, 0, 1], [0.2, 0.3, 0.4, 0.5], [True, True, True]),
    ],
)
def test_there_is_no_slope_where_classes_do_not_overlap(labels, probabilities, known):
    found = clinic.recalibration(labels, probabilities)
    assert np.isfinite(found[0]).tolist() == known


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (0.4, 0.0), (1.0, 0.8)])
def test_recalibration_finds_the_slope_that_was_simulated(slope, intercept):
    found = clinic.recalibration(*simulated(60_000, 5, slope, intercept))[0]
    assert found[:2] == pytest.approx([slope, intercept], abs=0.06)
    if slope == 1:
        assert found[2] == pytest.approx(intercept, abs=0.03)


@pytest.mark.long
def test_intervals_of_recalibration_cover_the_truth_as_often_as_they_say():
    truth, covered = {"slope": 0.6, "intercept": 0.4}, {"slope": 0, "intercept": 0}
    for seed in range(200):
        labels, probabilities = simulated(150, 1000 + seed, **truth)
        samples = clinic.recalibration(labels, probabilities, clinic.resampled_people(150, 300, seed))
        limits = np.nanquantile(samples, [0.025, 0.975], axis=0)
        for place, name in enumerate(truth):
            covered[name] += limits[0, place] <= truth[name] <= limits[1, place]
    assert all(178 <= count <= 199 for count in covered.values()), covered


def test_resampled_people_are_as_many_as_there_are():
    counts = clinic.resampled_people(30, 50, seed=1)
    assert (counts.sum(axis=1) == 30).all()
    assert len(np.unique(counts, axis=0)) > 1
    assert (counts == clinic.resampled_people(30, 50, seed=1)).all()


def test_observed_and_expected_shares_are_counted_at_each_site():
    labels, probabilities = simulated(120, 6)
    sites = np.array(["b"] * 50 + ["a"] * 40 + ["c"] * 15 + ["d"] * 10 + [""] * 5)
    found = clinic.by_site(labels, probabilities, sites.tolist()).set_index("site")
    assert found.index.tolist() == ["a", "b", "other sites (2)", "site unknown"]
    assert found["n"].tolist() == [40, 50, 25, 5]
    for name, rows in (("a", sites == "a"), ("other sites (2)", np.isin(sites, ["c", "d"]))):
        row = found.loc[name]
        assert (row["observed"], row["expected"]) == pytest.approx((labels[rows].mean(), probabilities[rows].mean()))
        assert row["difference"] == pytest.approx(row["observed"] - row["expected"])
        assert row["ratio"] == pytest.approx(row["observed"] / row["expected"])
        assert row["low"] < row["difference"] < row["high"]
    assert math.isnan(found.loc["site unknown", "low"]), "five people have no bootstrap"
    assert found["patients"].sum() == labels.sum()


def test_a_single_small_site_keeps_its_name():
    found = clinic.by_site([0, 1, 0], [0.1, 0.9, 0.0], ["x", "x", "x"])
    assert found[["site", "n"]].to_numpy().tolist() == [["x", 3]]


@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.5, 0.62, 0.99])
def test_net_benefit_is_counted(threshold):
    labels, probabilities = simulated(80, 7)
    probabilities[:5] = threshold  # at the threshold one treats
    right = wrong = 0
    for label, probability in zip(labels, probabilities, strict=True):
        if probability >= threshold:
            right += label
            wrong += 1 - label
    row = clinic.decision_curve(labels, probabilities, [threshold]).iloc[0]
    assert row["net_benefit"] == pytest.approx(right / 80 - wrong / 80 * threshold / (1 - threshold), abs=1e-12)
    share = labels.mean()
    assert row["treat_all"] == pytest.approx(share - (1 - share) * threshold / (1 - threshold), abs=1e-12)
    assert math.isnan(row["low"])


def test_intervals_of_a_net_benefit_are_those_of_resampled_people():
    labels, probabilities = simulated(60, 8)
    counts = clinic.resampled_people(60, 200, seed=2)
    found = clinic.decision_curve(labels, probabilities, [0.3, 0.6], counts)
    values = []
    for row in counts.astype(int):
        people = np.repeat(np.arange(60), row)
        values.append(clinic.decision_curve(labels[people], probabilities[people], [0.3, 0.6])["net_benefit"])
    assert found["low"].to_numpy() == pytest.approx(np.quantile(values, 0.025, axis=0), abs=1e-12)
    assert found["high"].to_numpy() == pytest.approx(np.quantile(values, 0.975, axis=0), abs=1e-12)


def test_the_truth_brings_the_share_of_patients_at_every_threshold():
    found = clinic.decision_curve([0, 1, 1, 0], [0, 1, 1, 0], [0.1, 0.5, 0.9])
    assert found["net_benefit"].tolist() == [0.5] * 3


def test_a_calibration_curve_has_wilsons_intervals():
    found = clinic.calibration_curve([0, 1, 1, 1], [0.12, 0.13, 0.91, 0.92])
    assert found["observed"].tolist() == [0.5, 1.0]
    assert (found["low"] < found["observed"]).all()
    assert found["high"].tolist()[0] == pytest.approx(0.9055, abs=1e-3)
    assert found["high"].tolist()[1] == pytest.approx(1.0)
