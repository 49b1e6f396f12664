"""What a comparison over sites found: tables, tests and a figure."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from bundle.cohort.datalist import phantom_of
from bundle.evaluation import probing
from bundle.evaluation.harmonizing import Harmonizing
from bundle.evaluation.in_document import origin_of, show_in_document
from bundle.evaluation.plan import Plan
from bundle.evaluation.results import collected_knowledge, collected_scores, not_read_in
from bundle.evaluation.site_batch_norm import AGE_WITH_ADAPTED, Adapting
from bundle.evaluation.site_figure import draw_sites
from bundle.evaluation.site_protocol import SiteProtocol
from bundle.evaluation.site_table import markdown
from bundle.files import SECTIONS, write_json, write_text
from bundle.metrics.classification import roc_auc
from bundle.metrics.over_groups import mean_over_groups, sign_flip_p, weighted_resamples
from bundle.metrics.resampling import SHARE, Resamples, holm, interval
from bundle.provenance import provenance

FIGURE = "sites.png"
AGE = "age"  # in place of a task, in rows on the error of age
Bootstrapped = dict[tuple[str, str, str], Resamples]  # (task, group, method) → resamples of its people


def write_site_results(protocol: SiteProtocol) -> None:
    """Write everything that a comparison over sites shows to its `output_dir`.

    `sites.csv` (a row per task, method, group and seed), `scores.csv` (a row per tested image, method and seed),
    `knowledge.csv` (per method, group and seed), `summary.csv`, `tests.csv`, `table.md`, `sites.png` and
    `provenance.json`.

    Args:
        protocol: The comparison, whose runs are all done.
    """
    plan, folder = protocol.plan, Path(protocol.plan.output_dir)
    warning = str(phantom_of([str(plan.datalist(task)) for task in plan.tasks]).get("warning", ""))
    note = " ".join(filter(None, [warning, *_site_effects(plan), not_read_in(plan, SECTIONS)]))
    scores, knowledge = collected(protocol)
    sites, resamples = site_aucs(scores), bootstrapped(scores)
    tables = {
        "scores": scores,
        "sites": sites,
        "knowledge": knowledge,
        "summary": summarized(sites, knowledge, resamples, plan.methods),
        "tests": tested(sites, knowledge, resamples, plan.methods),
    }
    for name, table in tables.items():
        write_text(folder / f"{name}.csv", table.to_csv(index=False))
    write_text(folder / "table.md", markdown(protocol, tables, note))
    draw_sites(folder / FIGURE, sites, knowledge, tables["summary"], note)
    write_json(folder / "provenance.json", provenance(plan.seeds[0], {"seeds": str(list(plan.seeds))}))
    if plan.document is not None:
        plans = [protocol.plan_of(held) for held in protocol.tested]
        show_in_document(Path(plan.document), folder, {"Sites": FIGURE}, origin_of(plans))
    sys.stdout.write(f"\n{(folder / 'table.md').read_text(encoding='utf-8')}\nTables and figure: {folder}\n")


def _site_effects(plan: Plan) -> list[str]:
    """How site effects are taken out of the features of all, and of those that are read once more."""
    found = []
    for name in ("", *plan.readings):
        asked = plan.probing_of(name)
        harmonized = Harmonizing(asked.get("harmonize", "none"), asked.get("harmonize_keep", ())).sentence()
        adapted = Adapting(asked.get("adapt", "none")).sentence(beside=AGE_WITH_ADAPTED)
        if sentence := harmonized or adapted:
            found.append(f"{name}: {sentence}" if name else sentence)
    return found


def collected(protocol: SiteProtocol) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores of all groups, and what the embeddings know; both with the columns group and seed."""
    scores, knowledge = [], []
    for held in protocol.tested:
        plan = protocol.plan_of(held)
        seeds = dict(enumerate(plan.seeds))
        found = collected_scores(plan).drop(columns="n")
        scores.append(found.assign(group=held.group.name, seed=found["draw"].map(seeds)).drop(columns="draw"))
        knowledge.append(collected_knowledge(plan).assign(group=held.group.name))
    return pd.concat(scores, ignore_index=True), pd.concat(knowledge, ignore_index=True)


def site_aucs(scores: pd.DataFrame) -> pd.DataFrame:
    """ROC-AUC of each task, method, group and seed, within the group: patients are compared with its own controls.

    Args:
        scores: Rows of `collected`.

    Returns:
        Columns task, method, group, seed, n (people), patients, auc.
    """
    keys = ["task", "method", "group", "seed"]
    rows = [
        (*key, len(people), int(people["label"].sum()), float(roc_auc(people["label"], people["score"])))
        for key, rows_of in scores.groupby(keys, sort=False)
        for people in [probing.by_participant(rows_of)]
    ]
    return pd.DataFrame(rows, columns=[*keys, "n", "patients", "auc"])


def bootstrapped(scores: pd.DataFrame, seed: int = 0) -> Bootstrapped:
    """Bootstrap of the people and seeds of every group, paired between methods.

    Args:
        scores: Rows of `collected`.
        seed: Seed; each group has another one.
    """
    found: Bootstrapped = {}
    for (task, group), rows in scores.groupby(["task", "group"], sort=False):
        number = seed + list(scores["group"].unique()).index(group)
        for method, of_method in rows.rename(columns={"seed": "draw"}).groupby("method", sort=False):
            found[str(task), str(group), str(method)] = probing.bootstrap(probing.by_participant(of_method), number)
    return found


def summarized(
    sites: pd.DataFrame, knowledge: pd.DataFrame, resamples: Bootstrapped, methods: Sequence[str]
) -> pd.DataFrame:
    """Each method over all groups.

    Args:
        sites: Rows of `site_aucs`.
        knowledge: Rows of `collected`.
        resamples: Resamples of `bootstrapped`.
        methods: Names in the order of tables.

    Returns:
        Columns task (`age`: error in years), method, groups, mean, sd (over groups, each once), low, high (95 %, t over
        groups), people_low, people_high (95 %, bootstrap of people within groups), by_people (mean weighted by people),
        seed_sd (over seeds, of the mean over groups; empty for one seed).
    """
    rows = []
    for task, of_task in sites.groupby("task", sort=False):
        people = of_task.drop_duplicates("group").set_index("group")["n"]
        for method in _in_order(methods, of_task):
            table = of_task[of_task["method"] == method].pivot(index="group", columns="seed", values="auc")
            table = table.loc[people.index]
            own = weighted_resamples([resamples[str(task), str(g), method] for g in table.index], np.ones(len(table)))
            weighted = float(np.average(table.mean(axis=1), weights=people))
            over = mean_over_groups(table.mean(axis=1), SHARE)
            within = interval(own.samples, limits=SHARE)
            rows.append((task, method, len(table), *over, *within, weighted, _seed_sd(table)))
    for method, table in _ages(knowledge, methods).items():
        over = mean_over_groups(table.mean(axis=1), (0, np.inf))
        rows.append((AGE, method, len(table), *over, np.nan, np.nan, np.nan, _seed_sd(table)))
    columns = ["task", "method", "groups", "mean", "sd", "low", "high", "people_low", "people_high", "by_people"]
    return pd.DataFrame(rows, columns=[*columns, "seed_sd"])


def tested(
    sites: pd.DataFrame, knowledge: pd.DataFrame, resamples: Bootstrapped, methods: Sequence[str]
) -> pd.DataFrame:
    """Whether two methods differ, over groups and over people: every pair of methods, by task.

    Over groups, the signs of the groups' differences are flipped (see `metrics.sign_flip_p`): it asks about other
    sites. Over people, they are resampled within the groups, which stay the same: it asks about other people of these
    sites. Both are corrected by Holm's method over all pairs of a task.

    Args:
        sites: Rows of `site_aucs`.
        knowledge: Rows of `collected`.
        resamples: Resamples of `bootstrapped`.
        methods: Names in the order of tables.

    Returns:
        Columns task (`age`: error in years, lower is better), method, other, groups, difference, sd, low, high (t over
        groups), people_low, people_high, groups_higher, p_groups, p_groups_holm, p_people, p_people_holm.
    """
    rows = []
    for task, of_task in sites.groupby("task", sort=False):
        means = of_task.groupby(["group", "method"], sort=False)["auc"].mean().unstack("method")
        for method, other in combinations(_in_order(methods, of_task), 2):
            pairs = [resamples[str(task), str(g), method] - resamples[str(task), str(g), other] for g in means.index]
            people = weighted_resamples(pairs, np.ones(len(pairs)))
            gaps = (means[method] - means[other]).to_numpy()
            found = *interval(people.samples), people.p_value(float(gaps.mean()))
            rows.append(_tested_pair(str(task), method, other, gaps, *found))
    ages = {method: table.mean(axis=1) for method, table in _ages(knowledge, methods).items()}
    for method, other in combinations(ages, 2):
        gaps = (ages[method] - ages[other]).to_numpy()
        rows.append(_tested_pair(AGE, method, other, gaps, np.nan, np.nan, np.nan))
    table = pd.DataFrame(rows)
    for name in ("p_groups", "p_people"):
        corrected = table.groupby("task", sort=False)[name].transform(_holm_of_known)
        table.insert(list(table.columns).index(name) + 1, f"{name}_holm", corrected)
    return table


def _tested_pair(
    task: str, method: str, other: str, gaps: np.ndarray, low: float, high: float, p: float
) -> dict[str, object]:
    over = mean_over_groups(gaps)
    pair = {"task": task, "method": method, "other": other, "groups": len(gaps), "difference": over.mean}
    spread = {"sd": over.sd, "low": over.low, "high": over.high, "people_low": low, "people_high": high}
    return {**pair, **spread, "groups_higher": int((gaps > 0).sum()), "p_groups": sign_flip_p(gaps), "p_people": p}


def _holm_of_known(values: pd.Series) -> pd.Series:
    return pd.Series(holm(values), index=values.index) if values.notna().all() else values


def _ages(knowledge: pd.DataFrame, methods: Sequence[str]) -> Mapping[str, pd.DataFrame]:
    """Method → error of age, a row per group and a column per seed, of groups where it is known."""
    known = knowledge[knowledge["age_mae"].notna()]
    return {
        method: known[known["method"] == method].pivot(index="group", columns="seed", values="age_mae")
        for method in _in_order(methods, known)
    }


def _in_order(methods: Sequence[str], table: pd.DataFrame) -> list[str]:
    there = set(table["method"])
    return [method for method in methods if method in there]


def _seed_sd(table: pd.DataFrame) -> float:
    """Standard deviation over seeds of the mean over groups; NaN of one seed."""
    return float(table.mean(axis=0).std(ddof=1)) if table.shape[1] > 1 else np.nan
