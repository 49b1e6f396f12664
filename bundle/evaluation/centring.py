"""Scores centred within site: each person's less the mean of their site, which needs no labels, and several people."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import logit

from bundle.hints import quoted
from bundle.metrics.classification import roc_auc
from bundle.metrics.resampling import SHARE, bootstrap_auc, interval
from bundle.people import person_codes, person_of

LEAST = 10  # people of a site
CENTRED = "centred_within_site"
NEEDS = (
    "Each test person's score (log odds) less the mean score of the test people of their site. No label is used, but "
    "several people of the site are: it cannot be computed for a single new patient. Where the share of patients "
    "differs between sites, centring removes that difference, too."
)
_SMALLEST = 1e-6  # probability, of which log odds are taken


def require_people_of_sites(records: Sequence[Mapping[str, Any]], where: str, wanted: bool = True) -> None:
    """Refuse to centre scores at a site of few people, or where the site is not known.

    Args:
        records: Records of those who are tested (participant_id, site).
        where: Name of the task or section, for the message.
        wanted: Whether scores are to be centred; False refuses nothing.

    Raises:
        ValueError: names the sites.
    """
    people: dict[str, set[str]] = defaultdict(set)
    for record in records if wanted else ():
        people[str(record.get("site") or "")].add(person_of(record["participant_id"]))
    if unknown := people.get(""):
        raise ValueError(
            f"`centre_sites` is true, but the site of {len(unknown)} people of {where} is not known "
            f"({quoted(sorted(unknown))}). Add it to the datalist, or leave `centre_sites` out."
        )
    if few := {site: len(found) for site, found in sorted(people.items()) if len(found) < LEAST}:
        counts = ", ".join(f"{site} ({count})" for site, count in few.items())
        raise ValueError(
            f"`centre_sites` is true, but fewer than {LEAST} people of {where} are of these sites: {counts}. The mean "
            f"of so few is mostly chance. Leave `centre_sites` out, or test at least {LEAST} people of each site."
        )


def centred(scores: pd.DataFrame, keys: Sequence[str] = ()) -> pd.Series:
    """Each scan's score less the mean score of its site, to which every person of the site counts once.

    Args:
        scores: Scores with participant_id, site and score, a row per scan.
        keys: Names of further columns, within whose groups sites are centred, such as method and draw.

    Returns:
        The centred scores, with the index of `scores`.
    """
    groups = [*keys, "site"]
    people = scores.assign(person=scores["participant_id"].map(person_of))
    of_people = people.groupby([*groups, "person"], sort=False)["score"].mean()
    means = of_people.groupby(groups, sort=False).mean().rename("of_site").reset_index()
    joined = people[groups].merge(means, on=groups, how="left", validate="many_to_one")
    return pd.Series(scores["score"].to_numpy() - joined["of_site"].to_numpy(), index=scores.index, name="score")


def centred_auc(table: pd.DataFrame, column: str) -> dict[str, Any]:
    """ROC-AUC of scores centred within site, beside that of the same scores as they are.

    Args:
        table: Table of predictions with participant_id, site and label, a row per scan.
        column: Column of the probability of being a patient.

    Returns:
        `auc`, `auc_interval`, the paired `gain` over the plain log odds with `gain_interval` (95 %), the people of each
        site, and what was done in words.
    """
    require_people_of_sites([{str(k): v for k, v in row.items()} for row in table.to_dict("records")], "the test")
    plain = table.assign(score=logit(table[column].clip(_SMALLEST, 1 - _SMALLEST)))
    within = plain.assign(score=centred(plain))
    persons = person_codes(table["participant_id"].tolist())
    labels = plain["label"].groupby(persons).max().to_numpy()
    scores = [each["score"].groupby(persons).mean().to_numpy() for each in (plain, within)]
    before, after = (bootstrap_auc(labels, one) for one in scores)
    sites = table.assign(person=persons).groupby("site")["person"].nunique()
    auc = float(roc_auc(labels, scores[1]))
    return {
        "what": NEEDS,
        "auc": auc,
        "auc_interval": list(interval(after.samples, limits=SHARE)),
        "gain": auc - float(roc_auc(labels, scores[0])),
        "gain_interval": list(interval((after - before).samples)),
        "people": {str(site): int(count) for site, count in sites.items()},
    }


def centred_scores(scores: pd.DataFrame, records: Mapping[str, Sequence[Mapping[str, Any]]]) -> pd.DataFrame:
    """Scores of a probe, centred within the sites of those who are tested, for each task, method, N and draw.

    Args:
        scores: Scores of `probing.probe_diagnosis`, with a column task.
        records: Task → records of everybody, with participant_id, session_id and site.
    """
    named = ["task", "participant_id", "session_id"]
    rows = [(task, r["participant_id"], r["session_id"], r["site"]) for task, part in records.items() for r in part]
    sites = pd.DataFrame(rows, columns=[*named, "site"]).drop_duplicates(named)
    found = scores.reset_index(drop=True).merge(sites, on=named, how="left", validate="many_to_one")
    if found["site"].isna().any() or not np.isfinite(found["score"]).all():
        raise ValueError("Scores are of people who are not among the records, or not finite; nothing was centred.")
    return found.assign(score=centred(found, ["task", "method", "n", "draw"])).drop(columns="site")
