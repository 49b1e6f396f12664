"""Ages and head sizes: every way of writing one, and no value that nobody wrote."""

import doctest

import pandas as pd
import pytest

from bundle.cohort import quantities
from bundle.cohort.participants import CohortError
from bundle.cohort.quantities import YEARS, ages, numbers


def column(*values):
    return pd.Series(list(values), dtype=object)


def test_the_examples_in_the_docstrings_run():
    assert doctest.testmod(quantities).failed == 0


def test_numbers_are_in_a_range():
    values, faults = numbers(
        "age", column("25.5", "", "25,5", "25q", "130", "-25", "inf", "1e1"), (0, 120), "years", "help"
    )
    assert values.dropna().to_dict() == {0: 25.5, 2: 25.5, 4: 130, 5: -25, 7: 10}
    assert dict(faults) == {
        3: "age '25q' is not a number; help",
        4: "age 130 is outside 0–120 years; help",
        5: "age -25 is outside 0–120 years; help",
        6: "age 'inf' is not a number; help",
    }


def test_999_ml_is_a_head_and_minus_4_is_none():
    values, faults = numbers("tiv", column("999", "-4", "1.412,5"), (100, 5000), "mL", "help")
    assert values.isna().tolist() == [False, True, True]
    assert [row for row, _ in faults] == [2]


@pytest.mark.parametrize(
    ("text", "years"),
    [("25,5", 25.5), ("25,333", 25.333), ("072Y", 72), ("864M", 72), ("006m", 0.5), ("52W", 0.9966), ("89+", 89),
     (">89", 89), ("≥ 90", 90), (" 7 ", 7), ("0", 0), ("025y", 25)],
)  # fmt: skip
def test_an_age_is_read_as_years(text, years):
    values, faults = ages(column(text.strip(), "30"))
    assert (values.round(4).tolist(), faults) == ([years, 30.0], [])


@pytest.mark.parametrize("text", ["", "n/a", "Unknown", "-4", "-9", "-1", "999", "9999", "-999", "?", "keine Angabe"])
def test_what_stands_for_unknown_is_no_age(text):
    values, faults = ages(column(text, "30"))
    assert (values.isna().tolist(), faults) == ([True, False], [])


@pytest.mark.parametrize(
    "text", ["inf", "-25", "864", "<18", "20-30", "25 years", "adult", "2026-01-01", "1e400", "nan7"]
)
def test_what_is_no_age_is_a_fault(text):
    _, faults = ages(column(text, "30"))
    assert [row for row, _ in faults] == [0]
    assert text in faults[0][1]
    assert faults[0][1].endswith(YEARS)


def test_codes_and_ages_coded_at_the_top_are_counted(caplog):
    ages(column("89+", "90+", "30", "-4", "-4", "999"), column="Alter")
    assert "2 age(s) in 'Alter' are coded at the top, '89+', '90+': the number is taken" in caplog.text
    assert "age -4 in 2 row(s), 999 in 1 row(s): taken as a code for unknown" in caplog.text


@pytest.mark.parametrize(
    ("texts", "unit"),
    [
        (("864", "300", "412"), "months"),
        (("80", "100", "130", "150"), "months"),
        (("864", "300", "412"), "weeks"),
        (("1000", "2500", "3000"), "weeks"),
        (("4000", "5000"), "days"),
        (("9000", "25000"), "days"),
    ],
)
def test_ages_in_another_unit_are_refused_until_it_is_given(texts, unit):
    """Also where some could be years: the rest would be wrong."""
    looks = rf"they look like (\w+ or )?{unit}( or \w+)?, not years; give the unit with --age-unit .*{unit}"
    with pytest.raises(CohortError, match=looks):
        ages(column(*texts))
    values, faults = ages(column(*texts, "072Y"), unit=unit)
    divisor = {"months": 12, "weeks": 365.25 / 7, "days": 365.25}[unit]
    assert values.tolist() == pytest.approx([*(float(text) / divisor for text in texts), 72])
    assert faults == []


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        *((name, "months") for name in ("age_months", "Alter (Monate)", "AgeMonths")),
        *((name, "weeks") for name in ("age_weeks", "Alter (Wochen)", "AgeWeeks", "age wk", "edad (semanas)")),
        *((name, "weeks") for name in ("âge (semaines)", "età in settimane")),
    ],
)
def test_a_name_that_speaks_of_another_unit_needs_the_unit(name, unit):
    with pytest.raises(CohortError, match=f"speaks of {unit}, not of years"):
        ages(column("30"), column=name)


def test_a_unit_that_is_given_is_believed():
    assert ages(column("30"), column="age_months", unit="months")[0].tolist() == [2.5]
    assert ages(column("30"), column="age_months", unit="years")[0].tolist() == [30]


def test_a_unit_that_cannot_be_is_refused():
    with pytest.raises(CohortError, match="in years, months, weeks, days, but 'hours'"):
        ages(column("30"), unit="hours")
    with pytest.raises(CohortError, match="are not in months: 2 of 2"):
        ages(column("9000", "25000"), unit="months")
    _, faults = ages(column("25,123", "300"), unit="months")
    assert [row for row, _ in faults] == [0]
    values, _ = ages(column("999", "-9"), unit="months")
    assert values.round(2).tolist()[0] == 83.25
