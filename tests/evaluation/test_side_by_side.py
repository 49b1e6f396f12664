"""Features of two modalities side by side, and what both give beyond each alone."""

import numpy as np
import pandas as pd
import pytest

from bundle.evaluation.readers import READERS, reader_of
from bundle.evaluation.side_by_side import OF_BOTH, OF_SECOND, SideBySide, put_side_by_side
from bundle.evaluation.subjects import Subjects
from bundle.evaluation.two_modalities import differences
from bundle.metrics.classification import roc_auc

RNG = np.random.default_rng(0)


def test_parts_have_the_same_length_over_those_who_train_and_others_are_treated_alike():
    first, second = RNG.normal(3, 1, (8, 5)), RNG.normal(0, 100, (8, 3))
    found, rows = {"a": first[:6], "b": second[:6]}, np.arange(4)
    others = {"a": first[6:], "b": second[6:]}
    put_side_by_side({"ab": SideBySide(("a", "b")), "a": None}, found, rows, others)
    assert found["ab"].shape == (6, 8)
    lengths = [np.sqrt((block[rows] ** 2).sum(1).mean()) for block in (found["ab"][:, :5], found["ab"][:, 5:])]
    assert lengths[0] == pytest.approx(lengths[1], rel=1e-5)
    assert np.allclose(found["ab"][rows].mean(0), 0, atol=1e-4)
    whole = {"a": first, "b": second}
    put_side_by_side({"ab": SideBySide(("a", "b"))}, whole, rows)
    assert np.allclose(np.concatenate([found["ab"], others["ab"]]), whole["ab"], atol=1e-5)
    moved = {"a": np.concatenate([first[:4], first[4:] + 50]), "b": second}
    put_side_by_side({"ab": SideBySide(("a", "b"))}, moved, rows)
    assert np.allclose(moved["ab"][rows], whole["ab"][rows])  # who is tested changes nothing of who trains


def test_a_method_of_which_one_part_is_not_there_has_no_line():
    found = {"a": np.ones((3, 2))}
    put_side_by_side({"ab": SideBySide(("a", "b"))}, found, slice(None))
    assert set(found) == {"a"}
    found["b"] = np.zeros((3, 2))  # all the same: no length to divide by
    put_side_by_side({"ab": SideBySide(("a", "b"))}, found, slice(None))
    assert np.isfinite(found["ab"]).all()


def test_both_modalities_are_read_as_each_is():
    for name, reader in READERS.items():
        assert reader_of(f"{name}{OF_SECOND}") == reader_of(f"{name}{OF_BOTH}") == reader_of(name) == reader
    assert reader_of(f"an encoder{OF_BOTH}") == reader_of("an encoder")


def test_differences_are_those_of_the_same_people():
    people, draws = [f"p{i}" for i in range(40)], 2
    labels = np.arange(40) % 2
    rows, aucs = [], {}
    for method, signal in (("x", 0.5), (f"x{OF_SECOND}", 0.2), (f"x{OF_BOTH}", 1.0), ("site", 0.0)):
        each = []
        for draw in range(draws):
            scores = signal * labels + RNG.normal(size=40)
            each.append(roc_auc(labels, scores))
            table = {"participant_id": people, "label": labels, "score": scores, "session_id": "1"}
            rows.append(pd.DataFrame(table).assign(task="t", method=method, n=10, draw=draw))
        aucs[method] = np.mean(each)
    found = differences(pd.concat(rows)).set_index("than")
    assert list(found["features"]) == ["x", "x"]
    both = aucs[f"x{OF_BOTH}"]
    assert found.loc["first alone", "difference"] == pytest.approx(both - aucs["x"])
    assert found.loc["second alone", "difference"] == pytest.approx(both - aucs[f"x{OF_SECOND}"])
    assert (found["low"] < found["difference"]).all()
    assert (found["difference"] < found["high"]).all()


def test_tasks_of_one_modality_alone_are_refused():
    with pytest.raises(ValueError, match="tasks are 'a', but those of the second modality 'b'"):
        Subjects({"a": "a.json"}, second_tasks={"b": "b.json"})
    with pytest.raises(ValueError, match="needs a datalist of each modality"):
        Subjects({"a": "a.json"}, age_datalist="x.json", second_tasks={"a": "b.json"})
