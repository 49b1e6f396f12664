"""Tables of participants: what is read from them and what is refused, in sentences."""

import pandas as pd
import pytest

from bundle.cohort.participants import (
    CohortError,
    Problem,
    id_faults,
    labels,
    refuse_ids_of_several_sites,
    sexes,
)


def column(*values):
    return pd.Series(list(values), dtype=object)


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


def test_ids_that_sites_have_numbered_alike_are_refused_once():
    people, sites = column("sub-01", "sub-02", "1", "01"), column("A", "A", "A", "B")
    with pytest.raises(CohortError, match=r"1 participant_id.s. stand at .*'sub-01' at 'A', 'B'.* such as 'A_sub-01'"):
        refuse_ids_of_several_sites(people, column("", "", "", ""), sites)
    refuse_ids_of_several_sites(people, column("1", "", "", "2"), sites)  # a traveller with two sessions
    refuse_ids_of_several_sites(people, column("", "", "", ""), column("A", "A", "A", ""))


def read_sexes(*texts, sex_values=None):
    values, faults = sexes(column(*texts), sex_values)
    return [None if pd.isna(value) else value for value in values], faults


def test_sex_is_a_word_and_codes_need_a_mapping():
    text = ("F", "m", "Female", "MALE", "", "1", "2.0", "x1")
    values, faults = read_sexes(*text)
    assert values[:4] == ["F", "M", "F", "M"]
    assert [row for row, _ in faults] == [5, 6, 7]
    assert faults[0][1].endswith("write F, M or n/a, or say what it means: --sex-values 1=?, where ? is F, M or n/a")
    values, faults = read_sexes(*text, sex_values={"1": "M", 2: "female"})
    assert values[5:7] == ["M", "F"]
    assert [row for row, _ in faults] == [7]
    with pytest.raises(CohortError, match="must lead to 'F' or 'M'"):
        read_sexes("1", sex_values={"1": "child"})


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (("O", "F", "unknown", "-4", "999", "divers", "?"), [None, "F", None, None, None, None, None]),
        (("m", "w", "W"), ["M", "F", "F"]),
        (("männlich", "Weiblich", "maennlich"), ["M", "F", "M"]),
        (("H", "F", "homme", "FEMME", "féminin"), ["M", "F", "M", "F", "F"]),
        (("hombre", "mujer", "varón"), ["M", "F", "M"]),
        (("Maschio", "femmina", "M", "F"), ["M", "F", "M", "F"]),
    ],
)
def test_sexes_of_five_languages_are_understood_and_other_is_unknown(texts, expected):
    assert read_sexes(*texts) == (expected, [])


@pytest.mark.parametrize(
    ("texts", "name", "sentence"),
    [
        (("H", "M"), "sex", "holds H and M: hombre and mujer, .* --sex-values H=M M=F, or H=M M=M"),
        (("M", "M"), "Sexo", "holds M, and no F: mujer, or masculino"),
        (("U", "D"), "sesso", "holds U and D: uomo and donna"),
    ],
)
def test_letters_that_mean_both_are_refused_until_somebody_says_which(texts, name, sentence):
    with pytest.raises(CohortError, match=sentence):
        sexes(column(*texts), None, name)
    assert sexes(column("M", "F"), None, "sexo")[0].tolist() == ["M", "F"]
    assert read_sexes("H", "M", sex_values={"H": "M", "M": "F"}) == (["M", "F"], [])


def test_a_code_of_sex_can_be_said_to_be_unknown():
    assert read_sexes("1", "2", "3", sex_values={"1": "M", "2": "F", "3": None}) == (["M", "F", None], [])


def read_labels(*texts, label_values=None, name="dx"):
    values, faults = labels(column(*texts), label_values, name)
    return [None if pd.isna(v) else v for v in values], faults


@pytest.mark.parametrize(
    ("texts", "label_values", "expected"),
    [
        (("0", "1", "1.0", ""), None, [0, 1, 1, None]),
        (("control", "Depression", ""), None, [0, 1, None]),
        (("HC", "cn", "healthy"), None, [0, 0, 0]),
        (("AD", "CN", "MCI"), {"ad": 1, "CN": 0, "mci": None}, [1, 0, None]),
        (("1", "2.0"), {1: 1, 2: 0}, [1, 0]),
        (("-4", "CN", "AD", "-9", "Unknown", "-", "?", "N.A."), None, [None, 0, 1, None, None, None, None, None]),
        (("excluded", "NC", "MCI", "#N/A", "."), None, [None, 0, 1, None, None]),
        (("-4", "AD"), {"-4": 0, "AD": 1}, [0, 1]),
        (("-4", "n/a"), None, [None, None]),
        (("No_Known_Disorder", "Schizophrenia_Strict"), None, [0, 1]),
    ],
)
def test_diagnoses_become_labels(texts, label_values, expected):
    assert read_labels(*texts, label_values=label_values) == (expected, [])


@pytest.mark.parametrize(
    "word",
    [
        *(
            "Healthy_Control",
            "healthy-control",
            "NC",
            "Normal",
            "TD",
            "Typically Developing",
            "No_Known_Disorder",
            "CN",
        ),
        *(
            "Kontrolle",
            "gesund",
            "témoin",
            "Témoins sains",
            "sain",
            "control sano",
            "Sano",
            "controllo",
            "controlli_sani",
        ),
    ],
)
def test_words_for_controls_are_known_alone_and_beside_another(word):
    assert read_labels(word, word) == ([0, 0], [])
    assert read_labels(word, "Schizophrenie") == ([0, 1], [])


@pytest.mark.parametrize(
    "texts",
    [("CN", "AD", "MCI"), ("a", "b"), ("1", "2"), ("none",), ("0", "2"), ("schizophrenia",), ("CN", "none"),
     ("1", "-1"), ("1", "1"), ("1", "CN"), ("CN", "sibling"), ("patient", "unknown"),
     ("control", "0.5"), ("control", "1,5"), ("control", "1e1")],
)  # fmt: skip
def test_diagnoses_that_could_mean_anything_are_refused(texts):
    with pytest.raises(CohortError, match=r"The column 'dx' holds .* say it with --label-values .*=\?"):
        read_labels(*texts)


def test_the_advice_is_the_right_way_round():
    """Known controls are 0; of the others nothing is said."""
    with pytest.raises(
        CohortError, match=r"--label-values 'AD=\?' CN=0 'Late MCI=\?', where \? is 0 .control., 1 .pat"
    ):
        read_labels("CN", "AD", "Late MCI")


def test_a_column_named_label_may_hold_patients_alone_as_ours_do():
    assert read_labels("1", "1", "", name="label") == ([1, 1, None], [])
    with pytest.raises(CohortError, match="cannot be told"):
        read_labels("1", "-1", name="label")


def test_counts_say_what_each_word_became(caplog):
    caplog.set_level("INFO")
    read_labels("CN", "CN", "AD", "-4", "cn")
    assert "'CN' in 3 row(s): 0 (control); 'AD' in 1 row(s): 1 (patient); '-4' in 1 row(s): unknown" in caplog.text


def test_a_diagnosis_outside_the_mapping_is_a_fault():
    values, faults = read_labels("AD", "CN", "MCI", label_values={"AD": 1, "CN": 0})
    assert values[:2] == [1, 0]
    assert faults == [(2, "diagnosis 'MCI' is not among 'ad', 'cn'; add it to --label-values, or leave these rows out")]


@pytest.mark.parametrize(("label_values", "name"), [({"AD": 2}, "dx"), ({"AD": 1}, "")])
def test_a_mapping_of_diagnoses_to_nowhere_is_refused(label_values, name):
    with pytest.raises(CohortError, match=r"must lead a column of diagnoses to 0 .* and 1"):
        labels(column("AD"), label_values, name)


def test_a_mapping_that_contradicts_itself_is_refused():
    with pytest.raises(CohortError, match="label_values leads 'ad' to 1 and to 0"):
        read_labels("AD", label_values={"AD": 1, "ad": 0})


def test_the_error_lists_problems_by_subject_and_keeps_all():
    problems = [Problem(f"sub-{i:02d}", "", "", "no image") for i in range(30)]
    problems += [Problem("sub-00", "", "", "no age"), Problem("", "", "", "no id")]
    error = CohortError(problems)
    assert str(error).startswith("32 problem(s) in 31 scan(s):\n  sub-00: no image; no age.\n")
    assert "… and 11 more." in str(error)
    assert "sub-25" not in str(error)
    assert error.problems == problems
    assert CohortError("A sentence.").problems == []
