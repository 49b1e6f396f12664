"""Site effects are taken out by training subjects alone; a leak would be seen, and cannot be asked for."""

import numpy as np
import pandas as pd
import pytest

from bundle.adaptation import without_site_directions
from bundle.cohort.folds import Trial, fold_trials
from bundle.evaluation import knowledge, linear, probe, probe_age, probing
from bundle.evaluation.features import covariates
from bundle.evaluation.harmonizing import Harmonizing
from bundle.evaluation.pipeline import Probe
from bundle.evaluation.site_effects import Placed, Roles, Scans, harmonized, harmonized_products, site_means
from bundle.metrics.classification import roc_auc
from bundle.people import mean_of_each
from tests.metrics.test_combat import harmonized as everybody_at_once

BY_TRAINING = [("centre", ()), ("combat", ()), ("combat", ("age", "sex")), ("project", ())]
KINDS = [*BY_TRAINING, ("coral", ())]


def people(n, p, shares=(0.5, 0.5, 0.5), effect=0.0, site_effect=2.0, seed=0):
    """Features with site effects and a diagnosis in the first of them, and who the people are."""
    rng = np.random.default_rng(seed)
    sites = np.arange(n) % len(shares)
    labels = (rng.random(n) < np.asarray(shares)[sites]).astype(int)
    shifts, scales = (
        rng.normal(0, site_effect, (len(shares), p)),
        np.exp(rng.normal(0, site_effect / 4, (len(shares), p))),
    )
    signal = effect * np.outer(labels, np.arange(p) < p // 4)
    features = shifts[sites] + scales[sites] * (rng.normal(size=(n, p)) + signal)
    who = [
        {"participant_id": f"p{i}", "session_id": "", "site": "abcdefgh"[site], "label": int(label), "tiv": np.nan}
        | {"age": rng.uniform(20, 60), "sex": "FM"[rng.integers(2)]}
        for i, (site, label) in enumerate(zip(sites, labels, strict=True))
    ]
    return features, who


def of(features, who, rows):
    return Scans(features, np.asarray(rows), Placed.of(who).at(np.asarray(rows)))


@pytest.mark.parametrize(("kind", "keep"), BY_TRAINING)
def test_what_is_done_to_training_people_does_not_depend_on_test_people(kind, keep):
    features, who = people(90, 12)
    train, test = np.arange(60), np.arange(60, 90)
    known, new = harmonized(of(features, who, train), of(features, who, test), kind, keep)
    other = features.copy()
    other[60:] = 100 * other[:59:-1] + 7
    changed = [*who[:60], *({**r, "label": 1 - r["label"], "age": 5.0, "sex": "F"} for r in who[60:])]
    again, moved = harmonized(of(other, changed, train), of(other, changed, test), kind, keep)
    assert known == pytest.approx(again, abs=1e-7)  # of test people, rounding alone
    assert not np.allclose(new, moved)
    alone, _ = harmonized(of(features, who, train), of(features, who, test[:1]), kind, keep)
    assert np.allclose(known, alone, atol=1e-9)


@pytest.mark.parametrize(("kind", "keep"), BY_TRAINING)
def test_a_test_person_of_a_known_site_does_not_depend_on_others(kind, keep):
    features, who = people(90, 12)
    train = of(features, who, np.arange(60))
    together = harmonized(train, of(features, who, np.arange(60, 90)), kind, keep)[1]
    for row in (60, 74, 89):
        alone = harmonized(train, of(features, who, [row]), kind, keep)[1]
        assert alone[0] == pytest.approx(together[row - 60], abs=1e-9)


@pytest.mark.parametrize(("kind", "keep"), KINDS)
def test_labels_have_no_influence(kind, keep):
    features, who = people(90, 12)
    kept = 60 if kind == "project" else 0  # which is fitted on training subjects without the diagnosis
    flipped = [*who[:kept], *({**record, "label": 1 - record["label"]} for record in who[kept:])]
    parts = [
        harmonized(of(features, w, np.arange(60)), of(features, w, np.arange(60, 90)), kind, keep)
        for w in (who, flipped)
    ]
    assert all(np.array_equal(a, b) for a, b in zip(*parts, strict=True))


CONFOUNDED = (0.9, 0.8, 0.2, 0.1)


def auc_of_folds(features, who, kind="none", keep=()):
    trials = fold_trials(who, 5, 1, 0, "noise")
    found = probing.probe_diagnosis("m", features, who, trials, [0.01, 1.0], harmonizing=Harmonizing(kind, keep))
    scores = pd.concat(found)
    return float(roc_auc(scores["label"], scores["score"]))


def test_a_leak_would_be_found():
    """Noise, and sites that confound: harmonised before splitting, with the diagnosis preserved, it tells patients."""
    features, who = people(200, 300, CONFOUNDED)
    sites = np.array([record["site"] for record in who])
    labels = np.array([[float(record["label"])] for record in who])
    leaking = auc_of_folds(everybody_at_once(features, sites, labels), who)
    assert leaking > 0.8
    for kind, keep in KINDS[:3]:
        assert 0.35 < auc_of_folds(features, who, kind, keep) < 0.6
    assert auc_of_folds(features, who) > 0.75  # what sites tell


def test_a_leak_of_the_projection_would_be_found():
    """Noise: where healthy test people show the directions of sites, too, they differ from patients."""
    rng = np.random.default_rng(0)
    sites, labels = np.arange(200) % 20, rng.integers(0, 2, 200)
    features = rng.normal(0, 0.5, (20, 1000))[sites] + rng.normal(size=(200, 1000))
    who = [
        {"participant_id": f"p{row}", "session_id": "", "site": f"s{site}", "label": int(label)}
        for row, (site, label) in enumerate(zip(sites, labels, strict=True))
    ]
    healthy = np.flatnonzero(labels == 0)
    left = without_site_directions(features @ features.T, np.eye(200)[healthy], sites[healthy], 1000)
    assert auc_of_folds(left @ features, who) > 0.65
    assert 0.35 < auc_of_folds(features, who, "project") < 0.6


def test_a_leak_of_coral_would_be_found():
    """Noise: where patients are given the moments of test patients, and controls those of controls, it tells them."""
    features, who = people(200, 60, (0.5,) * 4, site_effect=0.3)
    labels = np.array([record["label"] for record in who])
    leaking = features.copy()
    for label in (0, 1):
        train, test = (np.flatnonzero((labels == label) & (np.arange(200) // 4 % 2 == part)) for part in (0, 1))
        leaking[train] = harmonized(of(features, who, train), of(features, who, test), "coral")[0]
    trial = Trial(100, 0, *(np.flatnonzero(np.arange(200) // 4 % 2 == part) for part in (0, 1)))

    def auc(values, kind):
        table = next(iter(probing.probe_diagnosis("m", values, who, [trial], [1.0], harmonizing=Harmonizing(kind))))
        return float(roc_auc(table["label"], table["score"]))

    assert auc(leaking, "none") > 0.7
    assert 0.35 < auc(features, "coral") < 0.6


def test_a_projection_leaves_less_of_a_site_the_more_healthy_people_show_it():
    aucs = []
    for n in (200, 800):
        features, who = people(n, 30, CONFOUNDED)
        aucs.append(auc_of_folds(features, who, "project"))
    assert aucs[1] < aucs[0] - 0.1
    assert aucs[1] < 0.7


EIGHT = (0.5,) * 8


def test_a_signal_under_site_effects_is_found_better_without_them():
    features, who = people(240, 12, EIGHT, effect=0.8, site_effect=4.0)
    found = {kind: auc_of_folds(features, who, kind) for kind in ("none", "centre", "combat")}
    assert found["combat"] > max(found["none"], found["centre"]) + 0.05


def test_age_is_read_better_and_the_site_worse_without_site_effects():
    features, who = people(240, 12, EIGHT, site_effect=4.0)
    sites = np.array([record["site"] for record in who])
    spread = np.stack([features[sites == site].std(0) for site in sites])
    features += 0.03 * spread * np.array([[record["age"] - 40] for record in who])
    train, test = (knowledge.Aged.of(features[s], who[s]) for s in (slice(160), slice(160, None)))
    errors, told = {}, {}
    for kind in ("none", "centre", "combat"):
        errors[kind] = knowledge.probe_age("m", train, test, Harmonizing(kind))["mae"]
        told[kind] = knowledge.probe_site(features[:160], who[:160], features[160:], who[160:], Harmonizing(kind))
    assert errors["combat"] < errors["none"] - 0.5
    assert told["none"] > 0.9
    assert max(told["combat"], told["centre"]) < 0.35
    assert knowledge.probe_site(features[:160], who[:160], features[160:], who[160:], Harmonizing("project")) < 0.35


def test_age_is_not_preserved_where_it_is_read():
    features, who = people(150, 20)
    train, test = (knowledge.Aged.of(features[s], who[s]) for s in (slice(100), slice(100, None)))
    other = knowledge.Aged.of(features[100:], [{**r, "age": 80 - r["age"]} for r in who[100:]])
    how = Harmonizing("combat", ("age", "sex"))
    told = [knowledge.predicted_ages(train, people, how) for people in (test, other)]
    assert np.array_equal(*told)
    table = pd.DataFrame(who)
    with pytest.raises(ValueError, match="names age, which `probe_age` reads"):
        probe_age(features, table, harmonize="combat", harmonize_keep=["age"])
    found = probe_age(features, table, harmonize="combat", harmonize_keep=["sex"])
    assert "by ComBat (sex preserved), fitted on training subjects" in found.note


def test_scans_of_one_person_count_once():
    features, who = people(90, 8)
    train, test = np.arange(60), np.arange(60, 90)
    often, whom = np.concatenate([features, np.repeat(features[:1], 50, axis=0)]), [*who, *[who[0]] * 50]
    many = np.concatenate([train, np.arange(90, 140)])
    for kind, keep in KINDS:
        once = harmonized(of(features, who, train), of(features, who, test), kind, keep)[1]
        found = harmonized(of(often, whom, many), of(often, whom, test), kind, keep)[1]
        # what is preserved is measured in other units, which changes nothing
        assert found == pytest.approx(once, abs=1e-6)


def test_sites_are_known_new_or_left():
    def placed(**sizes):
        return Placed.of([{"participant_id": f"{s}{i}", "site": s} for s, n in sizes.items() for i in range(n)])

    assert Roles.of(placed(a=5, b=4, c=4), placed(a=1, b=10, d=10, e=9)) == (["a"], ["b", "d"], ["c", "e"])


def test_a_new_site_is_harmonised_by_its_own_scans_and_a_small_one_left():
    features, who = people(120, 12, (0.5,) * 4)
    sites = np.array([record["site"] for record in who])
    train, new = np.flatnonzero(sites != "d"), np.flatnonzero(sites == "d")
    known = harmonized(of(features, who, train), of(features, who, new), "centre")
    assert known[1].mean(0) == pytest.approx(np.zeros(12), abs=1e-9)
    scaled = harmonized(of(features, who, train), of(features, who, new), "combat")
    assert np.abs(scaled[1].mean(0) - scaled[0].mean(0)).max() < 0.3 < np.abs(features[new].mean(0)).max()
    ratio = scaled[1].std(0) / scaled[0].std(0)
    assert 0.6 < ratio.min() < ratio.max() < 1.5
    left = harmonized(of(features, who, train), of(features, who, new[:9]), "combat")[1]
    assert np.array_equal(left, features[new[:9]])
    left = harmonized(of(features, who, train), of(features, who, new[:9]), "centre")[1]
    assert left == pytest.approx(features[new[:9]] - features[train].mean(0), abs=1e-9)


@pytest.mark.parametrize(("kind", "keep"), KINDS)
@pytest.mark.parametrize("adjust", [(), ("age", "sex")])
def test_wide_features_give_the_scores_that_they_would_give_narrow(kind, keep, adjust):
    features, who = people(80, 300, effect=0.3)
    features, how = (features + 5).astype(np.float32), Harmonizing(kind, keep)
    trials = [Trial(60, 0, np.arange(60), np.arange(60, 80)), Trial(50, 0, np.arange(20, 70), np.arange(20))]
    labels, known = np.array([r["label"] for r in who]), covariates(who)[:, :2]
    names = np.array([r["participant_id"] for r in who])
    tables = probing.probe_diagnosis("m", features, who, trials, [1e-4, 1e-3], "none", adjust, harmonizing=how)
    for trial, table in zip(trials, tables, strict=True):
        train, test = harmonized(of(features, who, trial.train), of(features, who, trial.test), kind, keep)
        if adjust:
            train, test = linear.without_known(train, known[trial.train], test, known[trial.test])
        expected = linear.fit_predict(train, labels[trial.train], names[trial.train], test, [1e-4, 1e-3], "none")
        assert table["score"].to_numpy() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("kind", "keep"), [*KINDS[:2], *KINDS[3:]])
def test_ages_of_wide_features_are_those_of_narrow_ones(kind, keep, monkeypatch):
    features, who = people(90, 100)
    twice = [*who[:60], *who[:20], *who[60:]]
    features = np.concatenate([features[:60], features[:20] + 0.1, features[60:]])
    train, test = (knowledge.Aged.of(features[s], twice[s]) for s in (slice(80), slice(80, None)))
    narrow = knowledge.predicted_ages(train, test, Harmonizing(kind, keep))
    monkeypatch.setattr(knowledge, "COLUMNS", 50)
    assert knowledge.predicted_ages(train, test, Harmonizing(kind, keep)) == pytest.approx(narrow, abs=1e-6)


def test_inner_products_are_those_of_the_features():
    features, who = people(60, 30)
    parts = of(features, who, np.arange(40)), of(features, who, np.arange(40, 60))
    for kind, keep in KINDS:
        both = np.concatenate(harmonized(*parts, kind, keep))
        assert harmonized_products(*parts, kind, keep) == pytest.approx(both @ both.T, abs=1e-8)


def test_means_of_sites_are_of_persons():
    records = [{"participant_id": p, "site": s} for p, s in zip("aabcdefghij", "xxxxxxyyyyy", strict=True)]
    train, test = Placed.of(records), Placed.of([{"participant_id": "k", "site": "x"}])
    values = np.random.default_rng(0).normal(size=(12, 2))
    own = mean_of_each(values[:6], np.array([0, 0, 1, 2, 3, 4])).mean(0)
    found = site_means(train, test) @ values
    assert found[11] == pytest.approx(own)
    assert found[6] == pytest.approx(values[6:11].mean(0))


def test_patients_do_not_show_the_directions_of_sites():
    """Where all patients come from one site, its direction is not theirs, and the disease stays."""
    features, who = people(120, 12, (0.1, 0.1, 0.9), effect=3.0)
    train = of(features, who, np.arange(90))
    healthy = of(features, who, [row for row in range(90) if who[row]["label"] == 0])
    new = of(features, who, np.arange(90, 120))
    assert harmonized(train, new, "project")[1] == pytest.approx(harmonized(healthy, new, "project")[1], abs=1e-8)
    assert auc_of_folds(features, who, "project") > 0.9


def test_a_new_site_needs_nothing_to_be_projected():
    features, who = people(240, 12, EIGHT, effect=0.8, site_effect=4.0)
    sites = np.array([record["site"] for record in who])
    train, one = np.flatnonzero(sites != "h"), np.flatnonzero(sites == "h")[:1]
    nameless = [{**record, "site": "" if record["site"] == "h" else record["site"]} for record in who]
    trials = [Trial(len(train), 0, train, one)]
    found = [
        list(probing.probe_diagnosis("m", features, w, trials, [1.0], harmonizing=Harmonizing("project")))
        for w in (who, nameless)
    ]
    assert found[0][0]["score"].tolist() == found[1][0]["score"].tolist()


def test_the_moments_of_unlabelled_test_subjects_are_taken():
    features, who = people(120, 12, (0.5,) * 4, site_effect=3.0)
    sites = np.array([record["site"] for record in who])
    parts = [of(features, who, np.flatnonzero(chosen)) for chosen in (sites != "d", sites == "d")]
    source, target = harmonized(*parts, "coral")
    assert source.mean(0) == pytest.approx(target.mean(0), abs=1e-8)
    assert np.array_equal(target, features[sites == "d"])


TABLE = pd.DataFrame(people(80, 4)[1])
FEATURES = people(80, 4)[0]


@pytest.mark.parametrize(
    ("asked", "change", "reason"),
    [
        ({"harmonize_keep": ["label"]}, {}, r"but \['label'\] was given; a diagnosis is never preserved, since it"),
        ({"harmonize_keep": ["diagnosis"]}, {}, "a diagnosis is never preserved, since it would have to be known of"),
        ({"harmonize_keep": "age"}, {}, "takes a list of age and sex, but 'age' was given"),
        ({"harmonize": "combatt"}, {}, "`harmonize` cannot be 'combatt'; did you mean 'combat'"),
        (
            {"harmonize": "centre", "harmonize_keep": ["age"]},
            {},
            "is what ComBat preserves, but `harmonize` is 'centre'",
        ),
        (
            {"harmonize_keep": ["sex"]},
            {"sex": np.where(TABLE["label"], "M", "F")},
            "names sex, which tells the label of ev",
        ),
        (
            {"harmonize_keep": ["age"]},
            {"age": 60 - 9 * TABLE["label"]},
            "names age, which tells the label of everybody",
        ),
        ({}, {"site": "one"}, "is of the site 'one': one site has no site effect to take out"),
        ({"harmonize": "centre"}, {"site": "one"}, "one site has no site effect to take out; use `harmonize: none`"),
        ({}, {"site": [""] + ["a", "b"] * 39 + ["a"]}, "The site of 'p0' in .* is unknown, so that its effect"),
        ({}, {"site": ["a"] * 76 + ["b"] * 4}, "needs two sites with 5 training subjects, but in .* by site {'a': "),
        ({"harmonize_keep": ["sex"]}, {"site": np.where(TABLE["sex"] == "F", "a", "b")}, "what the site determines"),
        ({"harmonize": "coral"}, {"site": "one"}, "one site has no site effect to take out; use `harmonize: none`"),
        ({"harmonize": "coral", "n_folds": 9}, {}, "scans of test subjects, of whom there are [89] in .*; at"),
        ({"harmonize": "project"}, {"site": "one"}, "two sites with 5 healthy training subjects, but in .* {'one': "),
        (
            {"harmonize": "project"},
            {"site": np.where(TABLE["label"], "ill", "well")},
            "two sites with 5 healthy training subjects, but in .* they are by site {'well': ",
        ),
        ({"harmonize": "project", "harmonize_keep": ["age"]}, {}, "is what ComBat preserves, but `harmonize` is 'proj"),
    ],
)
def test_what_would_be_wrong_is_refused(asked, change, reason):
    with pytest.raises(ValueError, match=reason):
        probe(FEATURES, TABLE.assign(**change), draws=1, penalties=[1.0], **{"harmonize": "combat", **asked})


def test_a_table_says_what_was_done():
    found = probe(
        FEATURES, TABLE, protocol="sites", draws=1, penalties=[1.0], harmonize="combat", harmonize_keep=["age"]
    )
    assert found.note == (
        "Site effects are removed from all features by ComBat (age preserved, age not where it is read), fitted on "
        "training subjects. New to the training and centred and scaled with the new site's unlabelled scans: "
        "'a', 'b', 'c'."
    )
    assert "unlabelled scans" in found._repr_html_()
    known = probe(FEATURES, TABLE, protocol="sites", draws=1, penalties=[1.0]).scores
    named = found.scores["method"] == "age, sex"
    assert found.scores.loc[named, "score"].tolist() == known.loc[known["method"] == "age, sex", "score"].tolist()
    small = TABLE.assign(site=["z"] * 3 + ["a", "b", "c"] * 25 + ["a", "b"])
    left = probe(FEATURES, small, draws=1, penalties=[1.0], harmonize="centre").note
    assert left.endswith("Left as they are, since too few people are of their site: 'z'.")
    assert Harmonizing().sentence() == ""
    projected = probe(FEATURES, TABLE, protocol="sites", draws=1, penalties=[1.0], harmonize="project").note
    assert projected.endswith("sites of healthy training subjects apart; nothing is estimated of test subjects.")
    assert "unlabelled scans" in probe(FEATURES, TABLE, draws=1, penalties=[1.0], harmonize="coral").note


def test_a_probe_refuses_before_any_image_is_read():
    with pytest.raises(ValueError, match="a diagnosis is never preserved"):
        Probe(harmonize="combat", harmonize_keep=["schizophrenia"])


def test_what_is_to_be_preserved_and_is_known_of_nobody_is_refused():
    how, (_, who) = Harmonizing("combat", ["age"]), people(90, 4)
    trials = [Trial(60, 0, np.arange(60), np.arange(60, 90))]
    unknown = [{**record, "age": np.nan} for record in who]
    with pytest.raises(ValueError, match=r"`harmonize_keep` names age, but in t, N = 60, draw 0 it is known of none"):
        how.check(unknown, trials, "t")
    unknown[0]["age"] = 40.0
    how.check(unknown, trials, "t")
    assert how.sentence([(unknown, trials)]).endswith("the mean of those who train: age of 89 of 90 scans.")
    assert "Unknown" not in how.sentence([(who, trials)])
