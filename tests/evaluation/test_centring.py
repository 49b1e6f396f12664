"""Scores centred within site, against loops over the people of each site."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from sklearn.metrics import roc_auc_score

from bundle.evaluation import centring
from bundle.evaluation.classifier import report_evaluation


def table_of(seed=0, sites=3, people=14):
    """Two sites whose scanners move all scores; the second scan of some people, at another site for one of them."""
    rng = np.random.default_rng(seed)
    rows = []
    for site in range(sites):
        for number in range(people):
            label = int(rng.random() < 0.5)
            for session in range(1 + (number % 5 == 0)):
                score = label + 3 * site + rng.normal()
                rows.append((f"sub-{site}{number:02}", str(session), f"site {site}", label, score))
    rows.append(("sub-001", "9", "site 1", rows[2][3], 0.3))
    return pd.DataFrame(rows, columns=["participant_id", "session_id", "site", "label", "score"])


def by_hand(table):
    """The score of each scan less the mean over the site's people of their mean scores there."""
    found = []
    for row in table.itertuples():
        here = [other for other in table.itertuples() if other.site == row.site]
        means = []
        for person in {other.participant_id for other in here}:
            own = [other.score for other in here if other.participant_id == person]
            means.append(sum(own) / len(own))
        found.append(row.score - sum(means) / len(means))
    return found


def test_the_mean_of_a_site_counts_each_person_once():
    table = table_of()
    np.testing.assert_allclose(centring.centred(table), by_hand(table), atol=1e-12)


def test_one_scan_each_is_what_groupby_gives():
    table = table_of().drop_duplicates("participant_id").sample(frac=1, random_state=1)
    expected = table["score"] - table.groupby("site")["score"].transform("mean")
    pd.testing.assert_series_equal(centring.centred(table), expected)


def test_groups_are_centred_on_their_own():
    parts = [table_of(seed).assign(method=str(seed), draw=draw) for draw, seed in enumerate((0, 1))]
    found = centring.centred(pd.concat(parts, ignore_index=True), ["method", "draw"])
    np.testing.assert_allclose(found, [*by_hand(parts[0]), *by_hand(parts[1])], atol=1e-12)


def test_the_auc_stands_beside_the_plain_one():
    table = table_of()
    table["probability_patient"] = expit(table["score"] - 3)
    found = centring.centred_auc(table, "probability_patient")
    scores = table.assign(score=logit(table["probability_patient"]))
    scores["centred"] = by_hand(scores)
    people = scores.groupby("participant_id").agg(label=("label", "max"), a=("score", "mean"), b=("centred", "mean"))
    plain, within = (roc_auc_score(people["label"], people[name]) for name in "ab")
    assert found["auc"] == pytest.approx(within)
    assert found["gain"] == pytest.approx(within - plain)
    assert found["gain"] > 0.05
    assert found["auc_interval"][0] < within < found["auc_interval"][1]
    assert found["people"] == {"site 0": 14, "site 1": 15, "site 2": 14}
    assert "cannot be computed for a single new patient" in found["what"]


def test_labels_play_no_part():
    table = table_of()
    flipped = table.assign(label=1 - table["label"])
    pd.testing.assert_series_equal(centring.centred(table), centring.centred(flipped))


def test_few_people_and_unknown_sites_are_refused():
    few = [{"participant_id": f"{n}", "site": "a" if n < 9 else "b"} for n in range(19)]
    for records, reason in (
        (few, r"sites: a \(9\)\."),
        ([*few, {"participant_id": "x", "site": ""}], "1 people of the"),
    ):
        with pytest.raises(ValueError, match=reason):
            centring.require_people_of_sites(records, "the test")
        centring.require_people_of_sites(records, "the test", wanted=False)


def test_ten_people_suffice_and_sessions_are_no_people():
    records = [{"participant_id": f"sub-{n}", "site": "a"} for n in range(10)]
    centring.require_people_of_sites(records, "the test")
    with pytest.raises(ValueError, match=r"a \(9\)"):
        centring.require_people_of_sites([*records[:9], *records[:9]], "the test")


def test_scores_of_a_probe_find_their_sites():
    table = table_of()
    scores = table.drop(columns="site").assign(task="t", method="m", n=5, draw=0, score=table["score"])
    found = centring.centred_scores(scores, {"t": table.to_dict("records")})
    np.testing.assert_allclose(found["score"], by_hand(table), atol=1e-12)
    assert "site" not in found
    with pytest.raises(ValueError, match="not among the records"):
        centring.centred_scores(scores, {"other": table.to_dict("records")})


def test_metrics_say_both(tmp_path):
    table = table_of()
    table["probability_patient"] = expit(table["score"] - 3)
    table["probability_control"] = 1 - table["probability_patient"]
    names = ["participant_id", "session_id", "site", "label", "probability_control", "probability_patient"]
    table[names].to_csv(tmp_path / "predictions.csv", index=False)
    report_evaluation(tmp_path, {"val_auc": 0.6})
    plain = json.loads((tmp_path / "metrics.json").read_text())
    assert centring.CENTRED not in plain
    report_evaluation(tmp_path, {"val_auc": 0.6}, centre_sites=True)
    both = json.loads((tmp_path / "metrics.json").read_text())
    assert both["auc"] == plain["auc"] == 0.6
    assert both[centring.CENTRED]["auc"] == pytest.approx(centring.centred_auc(table, "probability_patient")["auc"])
