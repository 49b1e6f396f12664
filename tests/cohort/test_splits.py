"""Splits: nobody on both sides, sections alike, the same for any order of the rows."""

import doctest
import logging

import numpy as np
import pytest

from bundle.cohort import splits
from bundle.cohort.splits import assert_disjoint, hold_out_sites, split_by_column, split_by_lists, split_by_participant

FRACTIONS = {"training": 0.7, "validation": 0.1, "test": 0.2}


def cohort(n, seed=0, sessions=1):
    """People whose patients are older and come from some sites more than from others."""
    rng = np.random.default_rng(seed)
    records = []
    for i in range(n):
        label = int(rng.random() < 0.3)
        person = {
            "participant_id": f"sub-{i:05d}",
            "site": f"site{rng.integers(6 - 2 * label)}",
            "age": float(rng.normal(35 + 15 * label, 10)),
            "sex": "FM"[int(rng.random() < 0.4)],
            "tiv": None,
            "label": label,
        }
        for k in range(sessions):
            name = f"{i}_{k}.nii"
            records.append({**person, "session_id": f"ses-{k}", "image": name})
    return records


def ids(records):
    return {r["participant_id"] for r in records}


def test_the_examples_in_the_docstrings_run():
    assert doctest.testmod(splits).failed == 0


def test_every_scan_is_in_one_section_of_the_size_asked_for():
    records = cohort(100)
    split = split_by_participant(records, FRACTIONS, seed=1)
    assert {name: len(found) for name, found in split.items()} == {
        "training": 70,
        "validation": 10,
        "test": 20,
    }
    assert sorted(r["image"] for found in split.values() for r in found) == sorted(r["image"] for r in records)


def test_sessions_stay_together_whether_or_not_the_id_has_its_prefix():
    records = cohort(60, sessions=3)
    for record in records[::3]:
        record["participant_id"] = record["participant_id"].removeprefix("sub-")
    split = split_by_participant(records, FRACTIONS, seed=0)
    assert_disjoint(split)
    assert len(split["training"]) == 3 * 42


@pytest.mark.parametrize("seed", range(5))
def test_sections_resemble_the_cohort(seed):
    records = cohort(400, seed)
    split = split_by_participant(records, FRACTIONS, seed=seed)
    for found in split.values():
        share = len(found) / len(records)
        for column in ("label", "sex", "site"):
            for value in {r[column] for r in records}:
                expected = share * sum(r[column] == value for r in records)
                assert abs(sum(r[column] == value for r in found) - expected) <= 3
        # Age must fit within each diagnosis, too: that is what a classifier would cheat with.
        for label in (0, 1):
            ages = [r["age"] for r in found if r["label"] == label]
            everyone = [r["age"] for r in records if r["label"] == label]
            assert abs(np.mean(ages) - np.mean(everyone)) < 4.5


def test_stratified_sections_are_closer_to_the_cohort_than_random_ones():
    def distance(stratify):
        gaps = []
        for seed in range(20):
            records = cohort(150, seed)
            test = split_by_participant(records, FRACTIONS, seed=seed, stratify=stratify)["test"]
            for column in ("label", "sex"):
                whole = np.mean([str(r[column]) in "1F" for r in records])
                gaps.append(abs(np.mean([str(r[column]) in "1F" for r in test]) - whole))
        return np.mean(gaps)

    assert distance(("label", "sex", "site", "age")) < 0.5 * distance(("tiv",))


def test_the_order_of_the_rows_does_not_matter_and_the_seed_does():
    records = cohort(80, sessions=2)
    shuffled = [records[i] for i in np.random.default_rng(9).permutation(len(records))]
    first, again, other = (
        {name: ids(found) for name, found in split_by_participant(r, FRACTIONS, seed=s).items()}
        for r, s in ((records, 3), (shuffled, 3), (records, 4))
    )
    assert first == again
    assert first["test"] != other["test"]


def test_unknown_values_and_lone_sites_can_be_split():
    records = [{**r, "site": f"only{i}"} for i, r in enumerate(cohort(30))]
    for record in records[::4]:
        record.update(age=None, sex=None, label=None, site=None)
    records[1]["age"] = float("nan")
    split = split_by_participant(records, {"training": 0.5, "test": 0.5}, seed=0)
    assert len(split["training"]) == 15


def test_a_large_cohort_is_split_in_seconds():
    split = split_by_participant(cohort(10_000), FRACTIONS, seed=0)
    assert len(split["training"]) == 7000


@pytest.mark.parametrize(
    ("fractions", "stratify", "sentence"),
    [
        ({"training": 0.5, "test": 0.4}, ("label",), "must add up to 1"),
        ({"training": 1.2, "test": -0.2}, ("label",), "must add up to 1"),
        ({"training": 0.99, "test": 0.01}, ("label",), "Section 'test' would be empty"),
        ({"training": 0.5, "test": 0.5}, ("lable",), "did you mean 'label'"),
    ],
)
def test_a_split_that_cannot_be_is_refused(fractions, stratify, sentence):
    with pytest.raises(ValueError, match=sentence):
        split_by_participant(cohort(20), fractions, seed=0, stratify=stratify)


def test_nothing_cannot_be_split():
    with pytest.raises(ValueError, match=r"'training' would be empty: 0\.7 of 0 participants"):
        split_by_participant([], FRACTIONS, seed=0)


def test_a_scan_without_a_participant_is_refused():
    with pytest.raises(ValueError, match=r"scan x\.nii has no participant_id"):
        assert_disjoint({"training": [{"participant_id": "", "image": "x.nii"}]})


def test_overlapping_sections_are_refused_with_names():
    train = [{"participant_id": "sub-01"}, {"participant_id": "sub-02"}]
    with pytest.raises(ValueError, match=r"'training' and 'test' share 1 participant.*'02'"):
        assert_disjoint({"training": train, "test": [{"participant_id": "02"}]})


def test_one_image_under_two_names_is_refused():
    pair = ({"participant_id": p, "image": "a.nii"} for p in "12")
    with pytest.raises(ValueError, match=r"share 1 image\(s\): 'a\.nii'"):
        assert_disjoint({name: [r] for name, r in zip(("training", "test"), pair, strict=True)})


def test_held_out_sites_share_nobody_with_the_rest(caplog):
    records = cohort(50)
    traveller = {**records[0], "site": "site3", "image": "elsewhere.nii"}
    records = [{**records[0], "site": "site0"}, traveller, *records[1:], {**records[1], "site": None}]
    with caplog.at_level(logging.WARNING):
        rest, held_out = hold_out_sites(records, ["site3"])
    assert_disjoint({"rest": rest, "held out": held_out})
    assert {r["site"] for r in held_out} == {"site3"}
    assert "1 scans left out" in caplog.text
    assert "1 scans of unknown site stay" in caplog.text


def test_a_study_can_be_held_out_and_an_unknown_one_is_refused():
    records = [{**r, "study": f"study{i % 3}"} for i, r in enumerate(cohort(9))]
    rest, held_out = hold_out_sites(records, ["study1"], column="study")
    assert (len(rest), len(held_out)) == (6, 3)
    with pytest.raises(ValueError, match="No scan has study 'studi1'; did you mean"):
        hold_out_sites(records, ["studi1"], column="study")


@pytest.mark.parametrize("column", ["site", "study"])
@pytest.mark.parametrize("spellings", [("UCLA", "ucla", "Ucla"), ("1", "01", "1.0"), ("S1", "S01", " s1")])
def test_other_spellings_of_what_is_held_out_do_not_stay_in_the_rest(column, spellings):
    records = [{**r, column: (*spellings, "NYU")[i % 4]} for i, r in enumerate(cohort(8))]
    with pytest.raises(ValueError, match=rf" = .* only some spellings of a {column} would be .* or name all"):
        hold_out_sites(records, [spellings[0]], column=column)
    assert len(hold_out_sites(records, spellings, column=column)[1]) == 6
    assert len(hold_out_sites(records, ["NYU"], column=column)[1]) == 2


@pytest.mark.parametrize("unknown", [{}, {"study": None}, {"study": ""}])
def test_what_no_scan_knows_cannot_be_held_out(unknown):
    with pytest.raises(ValueError, match=r"The study of every scan is unknown, .*: --study-column NAME"):
        hold_out_sites([{**r, **unknown} for r in cohort(4)], ["abide1"], column="study")


def test_the_split_of_openbhb_is_used():
    words = ("train", "internal_test", "external_test")
    records = [{**r, "split": words[i % 3]} for i, r in enumerate(cohort(9))]
    split = split_by_column(records)
    assert {name: len(found) for name, found in split.items()} == {
        "training": 3,
        "validation": 3,
        "test": 3,
    }
    mine = split_by_column(records, names={"train": "training", "internal_test": None, "external_test": "test"})
    assert sorted(mine) == ["test", "training"]


def test_words_of_a_split_column_may_be_written_in_capitals():
    records = [{**r, "split": ("Train", "TEST", "Internal-Test")[i % 3]} for i, r in enumerate(cohort(9))]
    assert {name: len(found) for name, found in split_by_column(records).items()} == {
        "training": 3,
        "validation": 3,
        "test": 3,
    }


@pytest.mark.parametrize("empty", [{"split": None}, {"split": ""}, {}])
def test_an_empty_cell_of_a_split_column_is_refused_with_who_has_it(empty):
    records = [{"participant_id": "1", "split": "train"}, {"participant_id": "sub-2", **empty}]
    with pytest.raises(ValueError, match="'split' is empty for 1 of 2 scans, of 'sub-2'; write one of 'train'"):
        split_by_column(records)


def test_a_split_column_with_other_words_or_leaks_is_refused():
    records = [{"participant_id": "1", "split": "train"}, {"participant_id": "1", "split": "fold7"}]
    with pytest.raises(ValueError, match=r"holds 'fold7', expected 'train', .*; write these words in the table"):
        split_by_column(records)
    records[1]["split"] = "test"
    with pytest.raises(ValueError, match="share 1 participant"):
        split_by_column(records)


def test_explicit_lists_are_followed_and_checked():
    records = cohort(3, sessions=2)
    lists = {"training": ["00000", "sub-00001"], "test": ["sub-00002"]}
    split = split_by_lists(records, lists)
    assert {name: len(found) for name, found in split.items()} == {"training": 4, "test": 2}
    with pytest.raises(ValueError, match="'00002' are in only one"):
        split_by_lists(records, {"training": lists["training"]})
    with pytest.raises(ValueError, match="'00001' is on the lists 'training' and 'test'"):
        split_by_lists(records, {**lists, "test": ["sub-00001"]})
