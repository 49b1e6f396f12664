"""`sub-1` and `1` are one person: in splits, folds, probes, averages, overlaps and the digests of cards."""

import doctest
import hashlib
import json

import numpy as np
import pandas as pd
import pytest

from bundle import people
from bundle.cohort.audit import audit
from bundle.cohort.datalist import load_section
from bundle.cohort.folds import group_folds, nested_draws
from bundle.cohort.overlap import refuse_overlap
from bundle.cohort.splits import assert_disjoint
from bundle.evaluation import probing
from bundle.evaluation.classifier import report_evaluation


def test_the_examples_in_the_docstrings_run():
    assert doctest.testmod(people).failed == 0


@pytest.fixture
def two(tmp_path):
    """`sub-1` trains in one datalist; `1` tests in it, and in another; their images differ."""
    for i in range(2):
        np.save(tmp_path / f"{i}.npy", np.random.default_rng(i).random((3, 4, 5)).astype(np.float32))
    trained, tested = {"image": "0.npy", "participant_id": "sub-1"}, {"image": "1.npy", "participant_id": 1}
    lists = {
        "one": {"training": [trained], "test": [tested]},
        "first": {"training": [trained]},
        "second": {"test": [tested]},
    }
    for name, content in lists.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    return tmp_path


def test_with_and_without_prefix_is_an_overlap_within_a_datalist(two):
    sections = {name: load_section(two / "one.json", name) for name in ("training", "test")}
    with pytest.raises(ValueError, match=r"'training' and 'test' share 1 participant\(s\): '1'"):
        assert_disjoint(sections)
    assert ("error", "participants") in {(f.severity, f.check) for f in audit(two / "one.json", read_images=False)}


def test_with_and_without_prefix_is_an_overlap_between_datalists(two):
    found = audit(two / "first.json", [two / "second.json"], read_images=False)
    assert next(f.sentence for f in found if f.check == "overlap").startswith("1 participant(s) are by participant id")
    assert [f.severity for f in found if f.check == "overlap"] == ["error"]


@pytest.mark.parametrize("written", ["sub-1", "1"])
def test_a_card_of_today_or_of_before_knows_both_spellings(two, written):
    """Cards have always held the digest of the id without its prefix: eight bytes of BLAKE2b."""
    digest = hashlib.blake2b(b"1", digest_size=8).hexdigest()
    (two / "w.json").write_text(json.dumps({"fingerprints": {"participants": [digest], "images": []}}))
    record = {"participant_id": written, "image": str(two / "1.npy")}
    with pytest.raises(ValueError, match=rf"1 by participant id \({written}\)"):
        refuse_overlap(two / "w.pt", [record], "the test set")


def test_folds_and_draws_never_divide_a_person():
    people, labels = [f"{prefix}{i}" for i in range(8) for prefix in ("", "sub-")], [i // 2 % 2 for i in range(16)]
    held = [rows for _, rows in group_folds(labels, people, 2, seed=0)]
    held += list(nested_draws(labels, people, [4], 1, seed=0).values())
    for rows in held:
        assert {row ^ 1 for row in rows.tolist()} == set(rows.tolist())  # both rows of everybody


def test_inner_folds_of_a_probe_never_divide_a_person(monkeypatch):
    seen = []
    monkeypatch.setattr(probing, "chosen", lambda train, labels, groups, *_: seen.append(groups) or _Model())
    names = ["sub-1", "1", "2"]
    records = [{"participant_id": n, "session_id": "", "label": 0} for n in names]
    trial = probing.Trial(3, 0, np.arange(3), np.arange(3))
    next(probing.probe_diagnosis("m", np.eye(3), records, [trial], [1.0]))
    assert seen[0].tolist() == ["1", "1", "2"]


class _Model:
    def decision_function(self, rows):
        return np.zeros(len(rows))


def test_an_evaluation_counts_a_person_once_and_keeps_zeros(tmp_path):
    """Ids of digits alone must not become numbers: 01 and 1 are not the same."""
    rows = {"participant_id": ["sub-01", "01", "1", "2"], "label": [1, 1, 0, 0]}
    rows |= {"probability_control": 0.5, "probability_patient": 0.5}
    pd.DataFrame(rows).to_csv(tmp_path / "predictions.csv", index=False)
    report_evaluation(tmp_path, {"val_auc": 0.5})
    assert json.loads((tmp_path / "metrics.json").read_text())["participants"] == 3
