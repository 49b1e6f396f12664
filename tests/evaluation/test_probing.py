import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold

from bundle.cohort.folds import Trial
from bundle.evaluation import knowledge, linear, probing
from bundle.evaluation.features import covariates

RNG = np.random.default_rng(0)


def two_classes(n, p, shift=1.0, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.tile([0, 1], n // 2)
    features = rng.normal(size=(n, p))
    features[:, 0] += shift * labels
    return features, labels


def test_the_probe_reads_a_class_that_is_there_and_no_other():
    (train, labels), (test, truth) = two_classes(200, 10, 2.0), two_classes(200, 10, 2.0, seed=1)
    scores = linear.fit_predict(train, labels, np.arange(200), test, [0.01, 1.0], scaling="overall")
    assert probing.roc_auc(truth, scores) > 0.85
    noise = linear.fit_predict(train[:, 1:], labels, np.arange(200), test[:, 1:], [0.01, 1.0], scaling="overall")
    assert 0.35 < probing.roc_auc(truth, noise) < 0.65


def test_inner_folds_keep_a_participants_sessions_together(monkeypatch):
    seen = []

    class Folds(linear.StratifiedGroupKFold):
        def split(self, X, y=None, groups=None):
            for fit, held in super().split(X, y, groups):
                seen.append(set(groups[fit]) & set(groups[held]))
                yield fit, held

    monkeypatch.setattr(linear, "StratifiedGroupKFold", Folds)
    train, labels = two_classes(60, 4)
    labels, groups = np.repeat(labels[:30], 2), np.repeat(np.arange(30), 2)
    linear.fit_predict(train, labels, groups, train[:3], [1.0], scaling="each")
    assert len(seen) >= 5
    assert not any(seen)


def test_inner_folds_of_a_draw_are_made_once_for_all_methods(monkeypatch):
    made = []

    class Folds(linear.StratifiedGroupKFold):
        def split(self, *given):
            made.append(given)
            return super().split(*given)

    monkeypatch.setattr(linear, "StratifiedGroupKFold", Folds)
    labels, groups = np.arange(40) % 2, np.array([f"once-{i}" for i in range(40)])
    methods = [np.random.default_rng(seed).normal(size=(40, 3)) for seed in range(3)]
    found = [linear.fit_predict(m, labels, groups, m, [0.1, 1.0], scaling="each") for m in methods]
    assert len(made) == 1
    assert not np.array_equal(found[0], found[1])
    linear.fit_predict(methods[0], 1 - labels, groups, methods[0], [0.1, 1.0], scaling="each")
    assert len(made) == 2


@pytest.mark.parametrize(("n", "p", "scaling"), [(30, 3, "each"), (40, 90, "overall"), (60, 200, "none")])
def test_the_penalty_is_the_one_of_a_grid_search(n, p, scaling):
    """Also between equally good ones, of which few subjects have many: scikit-learn's own search is the reference."""
    for seed in range(4):
        (train, labels), (test, _) = two_classes(n, p, 0.5, seed), two_classes(20, p, 0.5, seed + 10)
        groups, penalties = np.arange(n) // 2 * 2 + labels, [1e-3, 0.1, 1.0, 10.0]
        folds = StratifiedGroupKFold(linear.INNER_FOLDS, shuffle=True, random_state=0)
        model = LogisticRegression(solver="liblinear")
        search = GridSearchCV(model, {"C": penalties}, scoring="roc_auc", cv=folds)
        fit_on, score_on = linear.prepared(train, test, scaling)
        expected = search.fit(fit_on, labels, groups=groups).decision_function(score_on)
        assert np.array_equal(linear.fit_predict(train, labels, groups, test, penalties, scaling), expected)


@pytest.mark.parametrize(("scaling", "penalties"), [("none", [1e-4, 1e-3]), ("length", [1.0, 10.0])])
@pytest.mark.parametrize("adjust", [(), ("age", "sex")])
def test_wide_features_of_a_pool_give_the_scores_that_each_trial_alone_gives(adjust, scaling, penalties):
    pool, labels = two_classes(60, 300, 1.0)
    pool = (pool + 5).astype(np.float32)
    rng = np.random.default_rng(2)
    who = [{**r, "age": rng.uniform(20, 60), "sex": "FM"[i % 3 % 2], "tiv": 1.0} for i, r in enumerate(records(labels))]
    trials = [Trial(n, d, np.arange(d, d + n), np.arange(45, 60)) for n in (20, 40) for d in (0, 3)]
    tables = probing.probe_diagnosis("m", pool, who, trials, penalties, scaling, adjust)
    known = covariates(who)[:, :2]
    for trial, table in zip(trials, tables, strict=True):
        train, test = pool[trial.train].astype(float), pool[trial.test].astype(float)
        if adjust:
            train, test = linear.without_known(train, known[trial.train], test, known[trial.test])
        people = np.array([r["participant_id"] for r in who])[trial.train]
        expected = linear.fit_predict(train, labels[trial.train], people, test, penalties, scaling)
        assert table["score"].to_numpy() == pytest.approx(expected, abs=1e-6)
        assert (table["n"] == trial.n).all()


def test_scores_do_not_depend_on_the_number_of_threads():
    pool, labels = two_classes(60, 300, 1.0)
    trials = [Trial(n, d, np.arange(d, d + n), np.arange(45, 60)) for n in (20, 40) for d in (0, 3)]
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(pd.concat(probing.probe_diagnosis("m", pool, records(labels), trials, [0.1, 1.0])))
    finally:
        torch.set_num_threads(before)
    assert found[0].equals(found[1])


def records(labels):
    return [{"participant_id": f"p{i}", "session_id": "1", "label": int(label)} for i, label in enumerate(labels)]


def test_scores_are_tidy_and_summarised_with_paired_gains():
    (train, labels), (test, truth) = two_classes(80, 6, 1.5), two_classes(60, 6, 1.5, seed=1)
    pool, people = np.concatenate([train, test]), records([*labels, *truth])
    tested = np.arange(80, 140)
    trials = [Trial(n, d, np.arange(d, d + n), tested) for n in (20, 60) for d in range(3)]
    good = probing.probe_diagnosis("good", pool, people, trials, [0.1])
    bad = probing.probe_diagnosis("bad", pool[:, 1:], people, trials, [0.1])
    scores = pd.concat([*good, *bad]).assign(task="toy")
    assert len(scores) == 2 * 6 * 60
    aucs = probing.draw_aucs(scores)
    assert len(aucs) == 12
    summary = probing.summarize(scores, reference="bad").set_index(["method", "n"])
    row = summary.loc["good", 60]
    assert row["low"] < row["auc"] < row["high"]
    assert row["gain"] == pytest.approx(row["auc"] - summary.loc["bad", 60]["auc"])
    assert 0 < row["gain_low"] < row["gain"] < row["gain_high"]
    assert summary.loc["bad", 60]["gain_low"] == summary.loc["bad", 60]["gain_high"] == 0
    mean = aucs.query("method == 'good' and n == 60")["auc"].mean()
    assert row["auc"] == pytest.approx(mean)


def people(n, seed):
    """Features that show age, bent, and a disease that makes brains look four years older."""
    rng = np.random.default_rng(seed)
    age, label = rng.uniform(20, 60, n), rng.integers(0, 2, n)
    looks = age + 4 * label + rng.normal(0, 2, n)
    features = np.column_stack([looks, looks**2 / 50, rng.normal(0, 5, (n, 3))])
    who = [
        {"participant_id": f"{seed}-{i}", "session_id": "1", "age": a, "sex": "F", "tiv": np.nan, "label": int(y)}
        for i, (a, y) in enumerate(zip(age, label, strict=True))
    ]
    return features, who


def test_known_age_is_removed_so_that_looking_older_shows():
    (train, train_people), (test, test_people) = people(200, 0), people(300, 1)
    pool, who = np.concatenate([train, test]), [*train_people, *test_people]
    trials = [Trial(200, 0, np.arange(200), np.arange(200, 500))]
    aucs = {}
    for adjust in ((), ("age", "sex")):
        parts = probing.probe_diagnosis("m", pool, who, trials, [0.1], adjust=adjust)
        aucs[adjust] = probing.draw_aucs(pd.concat(parts).assign(task="t"))["auc"].item()
    assert aucs["age", "sex"] > 0.85 > 0.7 > aucs[()]


def test_what_is_known_is_removed_by_training_subjects_alone():
    age, test_age = RNG.uniform(20, 60, (50, 1)), RNG.uniform(20, 60, (20, 1))
    effect = [np.column_stack([a, 3 - a**2 / 40, np.ones(len(a))]) for a in (age, test_age)]
    left, test_left = linear.without_known(effect[0], age, effect[1] + 7, test_age)
    assert np.allclose(left, 0, atol=1e-8)
    assert np.allclose(test_left, 7, atol=1e-8)


def test_an_unknown_covariate_is_refused():
    with pytest.raises(ValueError, match="`adjust` takes age, sex, tiv, but 'height' was given"):
        next(probing.probe_diagnosis("m", np.zeros((2, 1)), records([0, 1]), [], [1.0], adjust=["height"]))


def test_sessions_of_a_participant_count_once_by_their_mean_score():
    sessions = pd.DataFrame(
        {
            "task": "t",
            "method": "m",
            "n": 10,
            "draw": 0,
            "participant_id": ["a", "sub-a", "b", "c"],
            "session_id": ["1", "2", "1", "1"],
            "label": [1, 1, 0, 0],
            "score": [0.0, 4.0, 1.0, 3.0],
        }
    )
    assert probing.by_participant(sessions)["score"].tolist() == [2.0, 1.0, 3.0]
    assert probing.draw_aucs(sessions)["auc"].item() == 0.5
    assert probing.summarize(sessions, "m")["auc"].item() == 0.5


def test_a_training_set_too_small_for_the_inner_folds_is_refused():
    train, labels = two_classes(8, 2)
    with pytest.raises(
        ValueError, match=r"needs 5 training participants of each label, but by label there are \{0: 4, 1"
    ):
        linear.fit_predict(train, labels, np.arange(8), train, [1.0], "overall")


def test_a_collapsed_encoder_scores_everybody_alike():
    labels = np.repeat([0, 1], 10)
    scores = linear.fit_predict(np.ones((20, 50)), labels, np.arange(20), np.ones((3, 50)), [1.0], "overall")
    assert len(set(scores)) == 1


def test_unknown_covariates_are_taken_as_the_training_mean():
    train, labels = two_classes(40, 3, 2.0)
    known = train.copy()
    known[0, 0] = np.delete(train[:, 0], 0).mean()
    missing = train.copy()
    missing[0, 0] = np.nan
    scores = [linear.fit_predict(t, labels, np.arange(40), train[:5], [1.0], "each") for t in (known, missing)]
    assert np.allclose(*scores)


def aged(features, ages, scans=1):
    """People of some features and ages, each scanned so many times."""
    records = [{"participant_id": f"p{i // scans}", "age": age} for i, age in enumerate(ages)]
    return knowledge.Aged.of(features, records)


def test_an_age_probe_counts_people_and_not_scans():
    train, ages = RNG.normal(size=(80, 4)), RNG.uniform(20, 60, 80)
    once = knowledge.probe_age("toy", aged(train[:40], ages[:40]), aged(train[40:], ages[40:]))
    again = [np.repeat(part, 3, axis=0) for part in (train[:40], ages[:40], train[40:], ages[40:])]
    thrice = knowledge.probe_age("toy", aged(*again[:2], scans=3), aged(*again[2:], scans=3))
    assert thrice == pytest.approx(once)


def test_age_probe_measures_on_the_test_set_and_leaves_out_unknown_ages():
    embedding = RNG.normal(size=(150, 300))
    ages = 40 + 8 * embedding[:, 0]
    ages[:10] = np.nan
    train, test = aged(embedding[:100], ages[:100]), aged(embedding[100:], ages[100:])
    report = knowledge.probe_age("toy", train, test)
    assert report["n_test"] == 50
    assert report["low"] < report["mae"] < report["high"]
    baseline = knowledge.probe_age("mean", aged(np.zeros((100, 1)), ages[:100]), aged(np.zeros((50, 1)), ages[100:]))
    assert baseline["mae"] == pytest.approx(np.abs(ages[100:] - np.nanmean(ages[:100])).mean())


def test_a_feature_that_is_almost_never_active_does_not_blow_up():
    train, labels = two_classes(100, 5, 3.0)
    rare = np.zeros((100, 1))
    rare[0] = 1e-7
    test, truth = two_classes(100, 5, 3.0, seed=1)
    shown = np.where(np.arange(100) % 3 == 0, 1.0, 0.0)[:, None]
    scores = linear.fit_predict(
        np.hstack([train, rare]), labels, np.arange(100), np.hstack([test, shown]), [0.1], scaling="overall"
    )
    assert probing.roc_auc(truth, scores) > 0.9
    known, new = aged(np.hstack([train, rare]), 40 + train[:, 0]), aged(np.hstack([test, shown]), 40 + test[:, 0])
    report = knowledge.probe_age("toy", known, new)
    assert report["mae"] < 0.5


def comparison(effect, draws=5, seed=0):
    """Scores of three methods on 200 subjects: `plain`, `same` as good, and `better` by an effect."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], 100)
    person = rng.normal(size=200)  # what is hard about a subject is hard for every method
    rows = []
    for draw in range(draws):
        for method, gain in (("plain", 0.0), ("same", 0.0), ("better", effect)):
            score = (0.7 + gain) * labels + person + 0.5 * rng.normal(size=200)
            ids = [f"p{i}" for i in range(200)]
            named = {"task": "t", "method": method, "n": 50, "draw": draw}
            rows.append(pd.DataFrame({**named, "participant_id": ids, "label": labels, "score": score}))
    return pd.concat(rows)


def test_paired_tests_find_a_difference_and_no_other():
    tests = probing.paired_tests(comparison(0.5)).set_index(["method", "other"])
    assert tests.loc[("plain", "same"), "p"] > 0.05
    assert tests.loc[("same", "better"), "p_holm"] < 0.01
    row = tests.loc[("plain", "better")]
    assert row["low"] < row["difference"] < row["high"] < 0
    assert row["draws_won"] == 0
    assert (tests["p_holm"] >= tests["p"]).all()


def test_the_site_of_others_is_read_where_it_is_written():
    sites = np.repeat(["a", "b", "c"], 40)
    written = RNG.normal(size=(120, 30)) + 3 * (np.unique(sites, return_inverse=True)[1][:, None] == np.arange(30))
    order = RNG.permutation(120)
    train, test = order[:80], order[80:]
    records = [{"participant_id": f"p{i}", "site": site} for i, site in enumerate(sites)]
    of = [[records[i] for i in rows] for rows in (train, test)]
    assert knowledge.probe_site(written[train], of[0], written[test], of[1]) > 0.9
    noise = RNG.normal(size=(120, 30))
    assert knowledge.probe_site(noise[train], of[0], noise[test], of[1]) < 0.6


def test_a_plane_shows_the_largest_directions():
    embedding = RNG.normal(size=(60, 10)) * np.array([9, 5, *[0.1] * 8])
    plane, kind = probing.to_plane(embedding)
    assert plane.shape == (60, 2)
    if kind == "PCA":
        assert abs(np.corrcoef(plane[:, 0], embedding[:, 0])[0, 1]) > 0.95
