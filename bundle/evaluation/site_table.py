"""The tables of a comparison over sites as Markdown: methods in rows, groups of sites in columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from bundle.evaluation.plan import ONE_SEED
from bundle.evaluation.site_data import FRACTIONS
from bundle.evaluation.site_protocol import SiteProtocol

AGE = "age"
PRETRAINED = {
    "controls": "people whose label is 1 in {diseases} took no part in pretraining",
    "everybody": "patients took part in pretraining, with their ages; no diagnosis is used there",
}


def markdown(protocol: SiteProtocol, tables: Mapping[str, pd.DataFrame], note: str) -> str:
    """All tables, with what they are.

    Args:
        protocol: The comparison.
        tables: Tables of `site_results.write_site_results`.
        note: A line that tables carry, such as that people are a phantom.
    """
    parts = [note, _protocol(protocol)]
    for task in tables["sites"]["task"].unique():
        parts += list(_of_task(protocol, tables, str(task)))
    parts += list(_of_age(protocol, tables))
    parts += _left_out(protocol)
    return "\n\n".join(filter(None, parts)) + "\n"


def _protocol(protocol: SiteProtocol) -> str:
    groups = protocol.tested
    diseases = ", ".join(protocol.rules.of_diseases(protocol.plan.tasks)) or "no task"
    trained = PRETRAINED[protocol.rules.pretrain_on].format(diseases=diseases)
    joined = [f"{g.group.name}: {', '.join(g.group.sites)}" for g in groups if len(g.group.sites) > 1]
    named = f" Groups of several sites: {'; '.join(joined)}." if joined else ""
    others = " Sites of no group trained in all of them." if protocol.rules.other_sites == "training" else ""
    return (
        f"Each of {len(groups)} groups of sites was held out in turn. Pretraining, its choice of the epoch, probes and "
        f"fine-tuning saw nobody of the group; {trained}. {100 * FRACTIONS['validation']:.0f} % of the people of "
        f"pretraining validated it. {_seeds(len(protocol.plan.seeds))}.{named}{others}"
    )


def _seeds(number: int) -> str:
    return f"{number} seeds" if number > 1 else f"1 seed: every number is {ONE_SEED}"


def _of_task(protocol: SiteProtocol, tables: Mapping[str, pd.DataFrame], task: str) -> Iterator[str]:
    sites = tables["sites"][tables["sites"]["task"] == task]
    people = sites.drop_duplicates("group").set_index("group")
    means = sites.groupby(["method", "group"], sort=False)["auc"].mean().unstack("group")[list(people.index)]
    heads = {g: f"{g} ({n - ill} + {ill})" for g, n, ill in people[["n", "patients"]].itertuples()}
    yield f"## {task}"
    yield (
        "ROC-AUC within each held-out group (people of label 0 + label 1), mean over seeds; mean ± standard deviation "
        "over groups, each counting once; its 95 % interval over groups (Student's t: other sites), and over people "
        "(bootstrap within these groups); and the mean weighted by people"
    )
    summary = tables["summary"][tables["summary"]["task"] == task]
    yield _table(means.rename(columns=heads), summary, "{:.2f}", by_people=True)
    yield _against_the_first(protocol, tables["tests"], task, "ROC-AUC", "{:+.3f}")


def _of_age(protocol: SiteProtocol, tables: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    known = tables["knowledge"][tables["knowledge"]["age_mae"].notna()]
    if known.empty:
        return
    order = list(dict.fromkeys(known["group"]))
    means = known.groupby(["method", "group"], sort=False)["age_mae"].mean().unstack("group")[order]
    yield "## Age, and site"
    yield (
        "Mean absolute error of age (years) of a ridge probe that people of pretraining fit, on controls of each "
        "held-out group; mean ± standard deviation over groups, and its 95 % interval over groups"
    )
    yield _table(means, tables["summary"][tables["summary"]["task"] == AGE], "{:.2f}", by_people=False)
    yield _against_the_first(protocol, tables["tests"], AGE, "error of age (years; below 0 is better)", "{:+.2f}")
    site = tables["knowledge"].groupby("method", sort=False)["site_accuracy"]
    found = site.agg(["mean", "std"]).reset_index()
    yield (
        "Balanced accuracy with which a linear probe reads the site of other people of the sites that pretraining saw, "
        "mean and standard deviation over groups and seeds (lower is better)"
    )
    yield found.rename(columns={"std": "SD"}).to_markdown(index=False, floatfmt=".3f")


def _table(means: pd.DataFrame, summary: pd.DataFrame, number: str, by_people: bool) -> str:
    summary = summary.set_index("method")
    table = means.reindex(summary.index).map(lambda value: "" if np.isnan(value) else number.format(value))
    rows = [summary.loc[method] for method in table.index]
    table["mean ± SD"] = [f"{r['mean']:.3f} ± {r['sd']:.3f}" for r in rows]
    table["95 %, groups"] = [f"{r['low']:.2f}–{r['high']:.2f}" for r in rows]
    if by_people:
        table["95 %, people"] = [f"{r['people_low']:.2f}–{r['people_high']:.2f}" for r in rows]
        table["by people"] = [f"{r['by_people']:.3f}" for r in rows]
    if summary["seed_sd"].notna().all():
        table["SD, seeds"] = [f"{r['seed_sd']:.3f}" for r in rows]
    return table.reset_index().rename(columns={"index": "method"}).to_markdown(index=False, disable_numparse=True)


def _against_the_first(protocol: SiteProtocol, tests: pd.DataFrame, task: str, what: str, number: str) -> str:
    """The first method against each other one."""
    first = protocol.plan.methods[0]
    rows = tests[(tests["task"] == task) & (tests["method"] == first)]
    if rows.empty:
        return ""
    groups = int(rows["groups"].iloc[0])
    table = pd.DataFrame(
        {
            "against": rows["other"],
            "difference ± SD": [f"{number.format(r.difference)} ± {r.sd:.3f}" for r in rows.itertuples()],
            "95 %, groups": [f"{number.format(r.low)} to {number.format(r.high)}" for r in rows.itertuples()],
            "higher in": [f"{r.groups_higher} of {r.groups}" for r in rows.itertuples()],
            "p, groups": [f"{r.p_groups:.2g} ({r.p_groups_holm:.2g})" for r in rows.itertuples()],
        }
    )
    people = ""
    if rows["p_people"].notna().all():
        table.insert(3, "95 %, people", [f"{r.people_low:+.3f} to {r.people_high:+.3f}" for r in rows.itertuples()])
        table["p, people"] = [f"{r.p_people:.2g} ({r.p_people_holm:.2g})" for r in rows.itertuples()]
        people = ", and by a bootstrap of people within these groups"
    least = f"no p value of {groups} groups is below {2 / 2**groups:.2g}" if groups <= 16 else "random patterns"
    head = (
        f"{first} minus each other method in {what}: paired over groups, p by flipping the signs of the groups' "
        f"differences ({least}){people}; in brackets corrected by Holm's method over all pairs of methods"
    )
    return f"{head}\n\n{table.to_markdown(index=False, disable_numparse=True)}"


def _left_out(protocol: SiteProtocol) -> list[str]:
    sentences = [sentence for held in protocol.groups for sentence in held.left_out]
    return ["## Left out", "\n".join(f"- {sentence}" for sentence in sentences)] if sentences else []
