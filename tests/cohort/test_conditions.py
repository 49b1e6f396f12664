"""Conditions on scans, and the populations that they make."""

import pytest

from bundle.cohort.conditions import condition_of, holds
from bundle.cohort.participants import CohortError
from bundle.cohort.populations import hold_out_where, scans_where


def scan(person, age=None, label=None, **more):
    return {"participant_id": person, "session_id": None, "age": age, "label": label, **more}


AGES = [scan(str(i), age) for i, age in enumerate([9.0, 13.9, 14.0, 14.1, 30.0])]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("age<14", [True, True, False, False, False]),
        ("age <= 14", [True, True, True, False, False]),
        ("age>14", [False, False, False, True, True]),
        ("age>=14.0", [False, False, True, True, True]),
        ("age=14", [False, False, True, False, False]),
        ("age!=14", [True, True, False, True, True]),
        ("age<10 or age>=30", [True, False, False, False, True]),
        ("age!=n/a", [True] * 5),
    ],
)
def test_numbers_are_compared_as_numbers(text, expected):
    assert holds(condition_of(text), AGES) == expected


def test_words_are_compared_without_case_and_numbers_of_the_table_as_numbers():
    records = [scan("1", Handedness="Right", iq="101,5"), scan("2", Handedness="left", iq="99")]
    assert holds(condition_of("Handedness=right"), records) == [True, False]
    assert holds(condition_of("iq>=100"), records) == [True, False]


NAMED = [
    scan("sub-ad0001", 9.0, 0, sex="F", site="UCLA", session_id="ses-01"),
    scan("ad0002", 15.0, 1, sex="M", site="01", session_id="2"),
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sex!=male", [True, False]),
        ("sex=weiblich", [True, False]),
        ("participant_id!=ad0001", [False, True]),
        ("participant_id=sub-ad0002", [False, True]),
        ("session_id!=1", [False, True]),
        ("site=ucla", [True, False]),
        ("site!=1", [True, False]),
        ("label!=1.0", [True, False]),
    ],
)
def test_names_are_compared_however_they_are_written(text, expected):
    assert holds(condition_of(text), NAMED) == expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("label!=patient", "asks for label 'patient', which no scan has; there is '0', '1'"),
        ("sex!=1", "asks for sex '1', which no scan has; there is 'F', 'M'"),
        ("participant_id!=AD0002", "which no scan has; did you mean 'ad0002'"),
        ("site!=NYU", "asks for site 'NYU', which no scan has"),
        ("age!=14", "asks for age '14', which no scan has"),
        ("age<10 or site=UCLB", "asks for site 'UCLB', which no scan has; did you mean 'UCLA'"),
    ],
)
def test_a_value_that_no_scan_has_is_refused(text, sentence):
    with pytest.raises(CohortError, match=sentence):
        holds(condition_of(text), NAMED)


def test_a_value_that_an_earlier_condition_left_out_is_none_that_no_scan_has():
    assert scans_where(NAMED, [condition_of("site=UCLA"), condition_of("label!=1")]) == NAMED[:1]


@pytest.mark.parametrize("text", ["age", "age<", "<14", "age<14<15", "age<young", "age<nan", "age<inf", "", "age<n/a"])
def test_what_is_no_condition_is_refused(text):
    with pytest.raises(ValueError, match="age<14"):
        condition_of(text)


@pytest.mark.parametrize(
    ("unknown", "words"),
    [
        *((missing, "") for missing in (None, "", "n/a")),
        *((text, f", but '{text}', which is no number or a code for unknown") for text in ("-9999", "old")),
    ],
)
def test_nobody_of_unknown_value_is_on_either_side(unknown, words):
    records = [scan("1", iq="90"), scan("2", iq=unknown)]
    with pytest.raises(CohortError, match=rf"of '2': their iq is not known{words}\. .*--where 'iq!=n/a'"):
        holds(condition_of("iq<100"), records)


def test_unknown_values_are_left_out_by_a_condition_before():
    records = [scan("1", 9.0), scan("2"), scan("3", 20.0)]
    left = scans_where(records, [condition_of("age!=n/a"), condition_of("age<14")])
    assert [record["participant_id"] for record in left] == ["1"]
    with pytest.raises(CohortError, match="age is not known"):
        scans_where(records, [condition_of("age<14"), condition_of("age!=n/a")])


def test_a_condition_that_leaves_nobody_is_refused():
    with pytest.raises(CohortError, match="'age>99' holds for none of 5 scans"):
        scans_where(AGES, [condition_of("age>99")])


def test_the_test_is_who_fulfils_all_conditions():
    records = [scan(str(i), float(10 + i), i % 2, sex="FM"[i // 2 % 2]) for i in range(12)]
    rest, tested = hold_out_where(records, [condition_of("age>=14"), condition_of("sex=F")])
    assert [r["participant_id"] for r in tested] == [
        r["participant_id"] for r in records if r["age"] >= 14 and r["sex"] == "F"
    ]
    assert [r for r in records if r not in tested] == rest


def test_people_on_both_sides_are_tested_and_their_other_scans_left_out(caplog):
    """With and without the prefix of BIDS; nobody is on both sides, and no scan on the wrong one."""
    records = [scan("sub-1", 12.0, 0), scan("1", 15.0, 0), scan("2", 13.0, 0), scan("3", 16.0, 1), scan("4", 9.0, 1)]
    rest, tested = hold_out_where(records, [condition_of("age>=14")])
    assert [(r["participant_id"], r["age"]) for r in rest] == [("2", 13.0), ("4", 9.0)]
    assert [(r["participant_id"], r["age"]) for r in tested] == [("1", 15.0), ("3", 16.0)]
    assert "1 scans left out: their participants have other scans where 'age>=14' holds" in caplog.text


@pytest.mark.parametrize(
    ("labels", "text", "sentence"),
    [
        ([0, 1, 0, 1, 0], "age>99", "Nobody would be tested"),
        ([0, 1, 0, 1, 0], "age>0", "Nobody would be trained on"),
        ([0, 1, 0, 0, 0], "age>=14", "Nobody of label 1 would be tested, where .*: 3 people, age 14 to 30"),
        ([0, 0, 0, 1, 0], "age>=14", "Nobody of label 1 would be trained on"),
        ([1, 1, 0, 1, None], "age>=14", "Nobody of label 0 would be trained on"),
    ],
)
def test_an_empty_side_or_one_without_a_label_is_refused(labels, text, sentence):
    records = [{**record, "label": label} for record, label in zip(AGES, labels, strict=True)]
    with pytest.raises(CohortError, match=sentence):
        hold_out_where(records, [condition_of(text)])


@pytest.mark.parametrize("labels", [[None] * 5, [0] * 5])
def test_labels_that_nobody_has_are_not_asked_for(labels):
    """A pretraining on controls, or without diagnoses."""
    records = [{**record, "label": label} for record, label in zip(AGES, labels, strict=True)]
    assert [len(side) for side in hold_out_where(records, [condition_of("age>=14")])] == [2, 3]
