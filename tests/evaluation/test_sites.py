"""Sites that are held out: how they are grouped, who is left, and what the tables say, against naive computation."""

import json
from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection
from scipy import stats
from sklearn.metrics import roc_auc_score

from bundle.cohort.datalist import load_section
from bundle.evaluation import site_results
from bundle.evaluation.plan import Plan
from bundle.evaluation.site_data import SiteStudy, are_there, write_datalists
from bundle.evaluation.site_figure import draw_sites
from bundle.evaluation.site_groups import SMALL, SiteRules, grouped
from bundle.evaluation.site_protocol import duration
from bundle.people import person_of


def people(site, count, task_label=lambda i: i % 2, first=0, **more):
    return [
        {
            "image": f"images/{site}_{i}.nii.gz", "participant_id": f"sub-{site}{i}", "site": site,
            "age": 20.0 + i, "sex": "FM"[i % 3 > 0], "label": task_label(i), **more,
        }
        for i in range(first, first + count)
    ]  # fmt: skip


@pytest.fixture
def study(tmp_path):
    """Three sites of 24, 30 and 6 people; one person of A was also scanned at B; healthy people at D, too."""
    autism = [*people("A", 24), *people("B", 30), *people("C", 6)]
    again = {**autism[0], "image": "images/again.nii.gz", "site": "B", "session_id": "2"}
    sex = [{**r, "label": int(r["sex"] == "M")} for r in autism]
    unknown = {**autism[1], "label": None}
    tasks = {
        "autism": [*autism[:1], again, unknown, *autism[2:]],
        "sex": sex,
        "pretraining": [*autism, *people("D", 9)],
    }
    for name, records in tasks.items():
        text = json.dumps({"training": records[2:], "validation": [], "test": records[:2]})
        (tmp_path / f"{name}.json").write_text(text)
    return tmp_path


def plan_of(folder, **changes):
    plan = {
        "dataset_dir": folder, "output_dir": folder / "out", "tasks": ["autism", "sex"], "pretexts": {"y-Aware": []},
        "networks": {}, "sizes": [10], "seeds": [0], "overlays": [], "pretraining": {}, "probing": {},
        "fine_tuning": {}, **changes,
    }  # fmt: skip
    return Plan(**plan)


def held_out(folder, **rules):
    plan = plan_of(folder)
    return plan, SiteStudy.read(plan, SiteRules(**{"min_site": 1, "min_label": 1, "diagnoses": ["autism"], **rules}))


# Groups


def test_each_site_is_in_one_group_and_small_ones_are_joined():
    tasks = {"autism": [*people("A", 24), *people("B", 19), *people("C", 40, lambda i: int(i < 4)), *people("D", 20)]}
    found = {group.name: group.sites for group in grouped(tasks, SiteRules())}
    assert found == {"A": ("A",), "D": ("D",), SMALL: ("B", "C")}  # B has 19 people, and C four of label 1
    named = grouped(tasks, SiteRules({"mine": ["D", "B"]}))
    assert [(g.name, g.sites) for g in named] == [("mine", ("D", "B")), ("A", ("A",)), ("C", ("C",))]
    one_small = grouped({"autism": [*people("A", 24), *people("B", 19)]}, SiteRules())
    assert [g.name for g in one_small] == ["A", "B"]


def test_sites_of_no_group_may_train_in_all_of_them():
    tasks = {"autism": [*people("A", 24), *people("B", 24), *people("C", 24)]}
    assert [g.name for g in grouped(tasks, SiteRules({"mine": ["B"]}, other_sites="training"))] == ["mine"]


def test_a_site_counts_in_the_tasks_that_it_has_people_in():
    tasks = {"one": people("A", 24), "two": people("B", 24)}
    assert [g.name for g in grouped(tasks, SiteRules())] == ["A", "B"]


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ({"site_groups": {"x": ["A", "Bb"]}}, "names 'Bb', but no task has this site; did you mean 'B'"),
        ({"site_groups": {"x": ["A"], "y": ["A", "B"]}}, "names 'A' more than once"),
        ({"site_groups": {"x": []}}, "has no site"),
        ({"site_groups": {"x": ["A"]}}, "The sites 'B', 'b' differ in spelling alone, and one would be held out"),
        ({"site_groups": {"x": ["B"]}, "other_sites": "training"}, "The sites 'B', 'b' differ in spelling alone"),
        ({"site_groups": {"x": ["A", "B"]}}, "needs two groups of them, but there is 'x'"),
        ({"min_site": 100}, "needs two groups of them, but there is 'small sites'"),
        ({"pretrain_on": "patients"}, "Nobody is named 'patients'"),
        ({"other_sites": "trained"}, "but 'tested', 'training' are known; did you mean 'training'"),
        ({"other_sites": "training"}, "nobody would be tested; name the tested sites in `site_groups`"),
        ({"site_groups": {"x": ["A", "B"]}, "other_sites": "training"}, "needs two groups of them, but there is 'x'"),
    ],
)
def test_groups_that_are_refused(rules, reason):
    more = people("b", 24) if "spelling" in reason else []
    with pytest.raises(ValueError, match=reason):
        grouped({"autism": [*people("A", 24), *people("B", 24), *more]}, SiteRules(**rules))


# Who is left


@pytest.mark.parametrize("pretrain_on", ["controls", "everybody"])
def test_nobody_of_a_group_is_on_both_sides(study, pretrain_on):
    plan, found = held_out(study, pretrain_on=pretrain_on)
    records = {t: [r for s in ("training", "test") for r in load_section(study / f"{t}.json", s)] for t in plan.tasks}
    patients = {person_of(r["participant_id"]) for r in records["autism"] if r["label"] == 1}
    healthy = load_section(study / "pretraining.json", "training") + load_section(study / "pretraining.json", "test")
    patients |= {person_of(r["participant_id"]) for r in healthy if r["label"] == 1}
    assert [held.group.name for held in found.groups()] == ["A", "B", "C"]
    for held in found.groups():
        site = held.group.name
        away = {
            person_of(r["participant_id"]) for r in [*healthy, *records["autism"], *records["sex"]] if r["site"] == site
        }
        trained = [r for name in held.sections for part in held.sections[name] if part != "test"
                   for r in held.sections[name][part]]  # fmt: skip
        assert not away & {person_of(r["participant_id"]) for r in trained}
        pretrained = {person_of(r["participant_id"]) for part in held.sections["pretraining"].values() for r in part}
        everybody = {person_of(r["participant_id"]) for r in healthy} - away
        assert pretrained == (everybody - patients if pretrain_on == "controls" else everybody)
        for task in held.tasks:
            known = [r for r in records[task] if r["label"] in (0, 1)]
            assert {r["image"] for r in held.sections[task]["test"]} == {r["image"] for r in known if r["site"] == site}
            rest = {r["image"] for r in known if person_of(r["participant_id"]) not in away}
            assert {r["image"] for r in held.sections[task]["training"]} == rest
    reason = (
        "1 scan(s) of {} are of people of {}, made at other sites: nobody is both trained and tested on, so they are "
    )
    left_out = [sentence for held in found.groups() for sentence in held.left_out]
    where = [("autism", "A"), ("autism", "B"), ("sex", "B")]  # the person of A and B is at A in the table of sex
    assert left_out == [reason.format(*one) + "left out." for one in where]


def test_the_datalists_of_a_group_are_read_again_as_they_were_and_never_replaced(study):
    plan, found = held_out(study)
    held, folder = found.groups()[0], study / "out" / "a" / "data"
    assert not are_there(held, folder, plan)
    write_datalists(held, folder, plan)
    assert are_there(held, folder, plan)
    for name, sections in held.sections.items():
        for section, records in sections.items():
            read = load_section(folder / f"{name}.json", section)
            assert [r["image"] for r in read] == [r["image"] for r in records]
            assert [r["label"] for r in read] == [-1 if r["label"] is None else r["label"] for r in records]
    before = {path: path.read_bytes() for path in folder.iterdir()}
    write_datalists(SiteStudy.read(plan, found.rules).groups()[0], folder, plan)
    assert before == {path: path.read_bytes() for path in folder.iterdir()}
    other = held_out(study, pretrain_on="everybody")[1].groups()[0]
    with pytest.raises(ValueError, match=r"pretraining\.json was made of other people, groups or options"):
        are_there(other, folder, plan)


def test_what_has_one_label_is_left_out_with_a_sentence(study):
    content = json.loads((study / "sex.json").read_text())
    content["training"] = [{**r, "label": 1} if r["site"] == "C" else r for r in content["training"]]
    (study / "sex.json").write_text(json.dumps(content))
    held = held_out(study)[1].groups()[2]
    assert held.tasks == ["autism"]
    assert held.left_out == ["C has label 1 only in sex: it is left out of this task."]


def test_an_unknown_site_or_task_is_refused(study):
    with pytest.raises(ValueError, match="`diagnoses` names 'autsim', which is no task; did you mean 'autism'"):
        held_out(study, diagnoses=["autsim"])
    content = json.loads((study / "pretraining.json").read_text())
    content["training"][-1]["site"] = None
    (study / "pretraining.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"The site of 'sub-D8' in .*pretraining\.json is unknown"):
        held_out(study)


# What it comes to

METHODS, GROUPS = ["mine", "other", "third"], {"A": (12, 9), "B": (30, 20), "C": (7, 8), "D": (9, 11)}


@pytest.fixture(scope="module")
def scores():
    rng, rows = np.random.default_rng(0), []
    for method, (group, sizes), seed in product(METHODS, GROUPS.items(), (4, 7)):
        for label, count in enumerate(sizes):
            for i in range(count):
                ids = {"participant_id": f"{group}{label}{i}", "session_id": "", "label": label}
                found = {"score": rng.normal(label * (1 + METHODS.index(method)), 1), "seed": seed}
                rows.append({**ids, "task": "autism", "method": method, "group": group, **found})
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def knowledge():
    rng = np.random.default_rng(1)
    rows = [
        {"method": m, "group": g, "seed": s, "site_accuracy": 0.2, "age_mae": np.nan if g == "D" else rng.uniform(2, 5)}
        for m, g, s in product(METHODS, GROUPS, (4, 7))
    ]
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def found(scores, knowledge):
    sites, resamples = site_results.site_aucs(scores), site_results.bootstrapped(scores)
    summary = site_results.summarized(sites, knowledge, resamples, METHODS)
    return sites, summary, site_results.tested(sites, knowledge, resamples, METHODS)


def naive_auc(scores, method, group, seed):
    rows = scores[(scores["method"] == method) & (scores["group"] == group) & (scores["seed"] == seed)]
    return roc_auc_score(rows["label"], rows["score"])


def test_an_auc_compares_people_of_one_group_alone(scores, found):
    for row in found[0].itertuples():
        assert row.auc == pytest.approx(naive_auc(scores, row.method, row.group, row.seed))
        assert (row.n, row.patients) == (sum(GROUPS[row.group]), GROUPS[row.group][1])


def test_the_summary_is_that_of_a_naive_computation(scores, found, knowledge):
    for row in found[1][found[1]["task"] == "autism"].itertuples():
        aucs = [[naive_auc(scores, row.method, g, seed) for seed in (4, 7)] for g in GROUPS]
        means = np.mean(aucs, axis=1)
        assert (row.mean, row.sd) == pytest.approx((means.mean(), means.std(ddof=1)))
        low, high = stats.t.interval(0.95, 3, means.mean(), stats.sem(means))
        assert (row.low, row.high) == pytest.approx((max(0, low), min(1, high)))
        assert row.by_people == pytest.approx(np.average(means, weights=[sum(n) for n in GROUPS.values()]))
        assert row.seed_sd == pytest.approx(np.std(np.mean(aucs, axis=0), ddof=1))
        assert row.people_low < row.mean < row.people_high
    ages = found[1][found[1]["task"] == "age"]
    assert ages["groups"].tolist() == [3] * 3  # nobody's age is known in D
    assert ages["mean"].tolist() == pytest.approx(
        [knowledge[knowledge["method"] == m]["age_mae"].mean() for m in METHODS]
    )


def test_the_bootstrap_over_people_is_that_of_a_naive_loop(scores):
    """People within each group and label; of one seed, so that nothing else varies."""
    rng, means = np.random.default_rng(5), []
    scores = scores[scores["seed"] == 4]
    of_method = scores[scores["method"] == "mine"]
    nothing = pd.DataFrame({"method": [], "group": [], "seed": [], "age_mae": []})
    one = site_results.bootstrapped(scores)
    row = site_results.summarized(site_results.site_aucs(scores), nothing, one, METHODS).iloc[0]
    tables = {
        g: of_method[of_method["group"] == g].pivot(index="participant_id", columns="seed", values="score")
        for g in GROUPS
    }
    labels = {g: np.array([int(name[1]) for name in table.index]) for g, table in tables.items()}
    for _ in range(400):
        aucs = []
        for group, table in tables.items():
            y = labels[group]
            rows = np.concatenate([rng.choice(np.flatnonzero(y == label), (y == label).sum()) for label in (0, 1)])
            aucs.append(roc_auc_score(y[rows], table.iloc[rows, 0]))
        means.append(np.mean(aucs))
    low, high = np.quantile(means, [0.025, 0.975])
    assert (row["people_low"], row["people_high"]) == pytest.approx((low, high), abs=0.03)


def test_every_pair_is_tested_over_groups_and_over_people(scores, found):
    tests = found[2]
    assert len(tests) == 2 * 3
    for (method, other), row in zip(
        combinations(METHODS, 2), tests[tests["task"] == "autism"].itertuples(), strict=True
    ):
        assert (row.method, row.other) == (method, other)
        gaps = [
            np.mean([naive_auc(scores, method, g, s) - naive_auc(scores, other, g, s) for s in (4, 7)]) for g in GROUPS
        ]
        flipped = [abs(np.dot(signs, gaps)) >= abs(sum(gaps)) - 1e-12 for signs in product((1, -1), repeat=4)]
        assert row.difference == pytest.approx(np.mean(gaps))
        assert row.p_groups == np.mean(flipped)
        assert row.groups_higher == sum(gap > 0 for gap in gaps)
        assert row.people_low < row.difference < row.people_high
    for p, corrected in (("p_groups", "p_groups_holm"), ("p_people", "p_people_holm")):
        of_task = tests[tests["task"] == "autism"].sort_values(p)
        stepped = np.maximum.accumulate(of_task[p].to_numpy() * [3, 2, 1]).clip(max=1)
        assert of_task[corrected].to_numpy() == pytest.approx(stepped)
    assert tests[tests["task"] == "age"]["p_people"].isna().all()


def test_the_figure_has_a_dot_for_each_group_and_a_mean(found, knowledge, tmp_path):
    figure = draw_sites(tmp_path / "sites.png", found[0], knowledge, found[1], "A note.")
    autism, age = figure.axes
    for axes, groups in ((autism, 4), (age, 3)):
        counts = [len(dots.get_offsets()) for dots in axes.collections if isinstance(dots, PathCollection)]
        assert counts == [groups] * 3
    assert [label.get_text() for label in autism.get_yticklabels()] == METHODS
    assert (tmp_path / "sites.png").stat().st_size > 5000


def test_times_are_rounded_as_estimates():
    assert [duration(s) for s in (5, 300, 7000, 100000)] == ["5 s", "5 min", "1.9 h", "28 h"]
