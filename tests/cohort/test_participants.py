"""Tables of participants: what is read from them and what is refused, in sentences."""

import doctest

import pandas as pd
import pytest

from bundle.cohort import participants
from bundle.cohort.participants import CohortError, Problem, id_faults, labels, name_columns, numbers, read_table, sexes


def table(tmp_path, text, name="participants.tsv", encoding="utf-8"):
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    return path


def column(*values):
    return pd.Series(list(values), dtype=object)


def test_the_examples_in_the_docstrings_run():
    assert doctest.testmod(participants).failed == 0


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("participant_id\tage\n007\t25\nNaN\tN/A\n", "a.tsv"),
        ("participant_id,age\r\n 007 ,25\r\n\r\nnull,n/a\r\nnan,5\r\n", "a.csv"),
        ("\ufeff" + "participant_id;age\n007;25\n", "a.csv"),
    ],
)
def test_ids_keep_their_zeros_and_missing_values_are_empty(tmp_path, text, name):
    cells = read_table(table(tmp_path, text, name))
    assert list(cells.columns) == ["participant_id", "age"]
    assert cells.iloc[0].tolist() == ["007", "25"]
    assert set(cells["participant_id"][1:]) <= {""}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "cannot be read"),
        (b"participant_id,age\n", "has no rows below its header"),
        (b"participant_id,age\n,\n", "has no rows below its header"),
        (b"participant_id,age\n1,25,5\n", "cannot be read .*Expected 2 fields.*; save it again"),
        (b"participant_id,age,age\n1,2,3\n", "several columns 'age'; rename them"),
        (b"participant_id,site\n1,K\xf6ln\n", "cannot be read .*utf-8"),
    ],
)
def test_damaged_tables_are_refused(tmp_path, content, sentence):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(CohortError, match=sentence):
        read_table(path)


def test_a_table_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(CohortError, match=r"b\.tsv does not exist; give a \.tsv or \.csv"):
        read_table(tmp_path / "b.tsv")


def named(columns, mapping=None):
    cells = pd.DataFrame([dict.fromkeys(columns, "x")])
    return name_columns(cells, mapping or {}, "t.tsv")


def test_common_names_are_found_whatever_their_case():
    found = ["Participant_ID", "AGE", "gender", "siteXacq", "site", "eTIV", "DX", "session"]
    assert named(found)[1] == {
        "participant_id": "Participant_ID",
        "session_id": "session",
        "site": "siteXacq",
        "age": "AGE",
        "sex": "gender",
        "tiv": "eTIV",
        "label": "DX",
    }


def test_mapped_names_win_and_absent_columns_are_empty(caplog):
    caplog.set_level("INFO")
    texts, used = named(["id", "age", "Age at scan"], {"participant_id": "id", "age": "Age at scan"})
    assert used["age"] == "Age at scan"
    assert texts["tiv"].tolist() == [""]
    assert "split" not in texts
    assert "no column for session_id, site, sex, tiv, label" in caplog.text


@pytest.mark.parametrize(
    ("columns", "mapping", "sentence"),
    [
        (["id"], {}, "no column of participant ids, only 'id'"),
        (["participant_id", "gender"], {"sex": "gendre"}, "no column 'gendre' for sex; did you mean 'gender'"),
        (["participant_id"], {"agee": "participant_id"}, "'agee', which is none of ours; did you mean 'age'"),
        (["participant_id"], {"age": "xyz"}, "no column 'xyz' for age; there is 'participant_id'"),
    ],
)  # fmt: skip
def test_columns_that_are_not_there_are_refused(columns, mapping, sentence):
    with pytest.raises(CohortError, match=sentence):
        named(columns, mapping)


def test_ids_are_checked():
    people = column("", "../x", "a/b", "a\\b", "c\td", "01", "01", "02", "sub-02", "ok")
    sessions = column("", "", "", "", "", "", "", "1", "2", "x/y")
    faults = dict(id_faults(people, sessions))
    assert faults[0] == "row 1 has no participant_id; give it one"
    for i in (1, 2, 3, 4, 9):
        assert "contains a path separator, '..' or a control character" in faults[i]
    assert "session_id 'x/y'" in faults[9]
    assert faults[5] == faults[6]
    assert "rows 6, 7 have the same participant and session; keep one row" in faults[5]
    assert "'sub-02' is written with and without 'sub-'" in faults[8]
    assert sorted(faults) == list(range(10))


def test_ages_are_numbers_in_a_range():
    values, faults = numbers(
        "age", column("25.5", "", "25,5", "25y", "130", "-1", "inf", "1e1"), (0, 120), "years", "help"
    )
    assert values.dropna().to_dict() == {0: 25.5, 4: 130, 5: -1, 7: 10}
    assert dict(faults) == {
        2: "age '25,5' is not a number; help",
        3: "age '25y' is not a number; help",
        4: "age 130 is outside 0–120 years; help",
        5: "age -1 is outside 0–120 years; help",
        6: "age 'inf' is not a number; help",
    }


def test_sex_is_a_word_and_codes_need_a_mapping():
    text = column("F", "m", "Female", "MALE", "", "1", "2.0", "x")
    values, faults = sexes(text, None)
    assert values[:4].tolist() == ["F", "M", "F", "M"]
    assert [row for row, _ in faults] == [5, 6, 7]
    assert "sex '1' is not understood; write F, M or n/a, or say what it means with sex_v" in faults[0][1]
    values, faults = sexes(text, {"1": "M", 2: "female"})
    assert values[5:7].tolist() == ["M", "F"]
    assert [row for row, _ in faults] == [7]
    with pytest.raises(CohortError, match="must lead to 'F' or 'M'"):
        sexes(text, {"1": "boy"})


@pytest.mark.parametrize(
    ("texts", "label_values", "expected"),
    [
        (("0", "1", "1.0", ""), None, [0, 1, 1, None]),
        (("control", "Depression", ""), None, [0, 1, None]),
        (("HC", "cn", "healthy"), None, [0, 0, 0]),
        (("schizophrenia",), None, [1]),
        (("AD", "CN", "MCI"), {"ad": 1, "CN": 0, "mci": 1}, [1, 0, 1]),
        (("1", "2.0"), {1: 1, 2: 0}, [1, 0]),
    ],
)
def test_diagnoses_become_labels(texts, label_values, expected):
    values, faults = labels(column(*texts), label_values, "dx")
    assert [None if pd.isna(v) else v for v in values] == expected
    assert faults == []


@pytest.mark.parametrize("texts", [("CN", "AD", "MCI"), ("a", "b"), ("1", "2"), ("none",), ("0", "9")])
def test_diagnoses_that_could_mean_anything_are_refused(texts):
    with pytest.raises(CohortError, match=r"The column 'dx' holds .* say it with label_values"):
        labels(column(*texts), None, "dx")


def test_a_diagnosis_outside_the_mapping_is_a_fault():
    values, faults = labels(column("AD", "CN", "MCI"), {"AD": 1, "CN": 0}, "dx")
    assert values[:2].tolist() == [1, 0]
    assert faults == [(2, "diagnosis 'MCI' is not among 'ad', 'cn'; add it to label_values or leave the row out")]


@pytest.mark.parametrize(("label_values", "name"), [({"AD": 2}, "dx"), ({"AD": 1}, "")])
def test_a_mapping_of_diagnoses_to_nowhere_is_refused(label_values, name):
    with pytest.raises(CohortError, match=r"must lead a column of diagnoses to 0 .* and 1"):
        labels(column("AD"), label_values, name)


def test_the_error_lists_problems_by_subject_and_keeps_all():
    problems = [Problem(f"sub-{i:02d}", "", "", "no image") for i in range(30)]
    problems += [Problem("sub-00", "", "", "no age"), Problem("", "", "", "no id")]
    error = CohortError(problems)
    assert str(error).startswith("32 problem(s) in 31 scan(s):\n  sub-00: no image; no age.\n")
    assert "… and 11 more." in str(error)
    assert "sub-25" not in str(error)
    assert error.problems == problems
    assert CohortError("A sentence.").problems == []
