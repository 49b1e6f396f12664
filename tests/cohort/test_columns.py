"""Names of columns: which is which of ours, in five languages, and what is refused rather than guessed."""

import doctest

import pandas as pd
import pytest

from bundle.cohort import columns as columns_of
from bundle.cohort import words
from bundle.cohort.columns import name_columns
from bundle.cohort.participants import CohortError


@pytest.mark.parametrize("module", [columns_of, words])
def test_the_examples_in_the_docstrings_run(module):
    assert doctest.testmod(module).failed == 0


def test_words_are_listed_as_they_are_compared():
    for known in (words.CONTROL_WORDS, words.UNCLEAR_WORDS, words.EXCLUDED_WORDS, words.SEX_WORDS, words.OTHER_SEXES):
        assert all(words.canonical(word) == word for word in known)
    assert all(words.plain_name(alias) == alias for aliases in words.ALIASES.values() for alias in aliases)
    apart = [words.CONTROL_WORDS, words.UNCLEAR_WORDS, words.EXCLUDED_WORDS, words.MISSING_WORDS]
    assert sum(map(len, apart)) == len(frozenset().union(*apart))


def named(columns, mapping=None):
    cells = pd.DataFrame([dict.fromkeys(columns, "x")])
    return name_columns(cells, mapping or {}, "t.tsv")


def test_common_names_are_found_whatever_their_case(caplog):
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
    assert "site is read from 'siteXacq', and not from 'site'; if that is wrong, say --site-column NAME" in caplog.text


@pytest.mark.parametrize(
    "found",
    [
        ("Proband", "Alter", "Geschlecht", "Diagnose", "Zentrum"),
        ("Sujet", "Âge", "Sexe", "Diagnostic", "Centre"),
        ("sujeto", "Edad (años)", "sexo", "Diagnóstico", "centro"),
        ("soggetto", "Età", "Sesso", "Diagnosi", "sede"),
        ("SUB_ID", "AGE_AT_SCAN", "sex", "DX_GROUP", "SITE_ID"),
        ("PTID", "Age (years)", "PTGENDER", "DX", "center"),
    ],
)
def test_columns_are_understood_in_five_languages(found):
    used = named(found)[1]
    assert [used[name] for name in ("participant_id", "age", "sex", "label", "site")] == list(found)


def test_mapped_names_win_and_absent_columns_are_empty(caplog):
    caplog.set_level("INFO")
    texts, used = named(["id", "age", "Age at scan"], {"participant_id": "id", "age": "Age at scan"})
    assert used["age"] == "Age at scan"
    assert texts["tiv"].tolist() == [""]
    assert "split" not in texts
    assert "no column for session_id, site, sex, tiv, label; null in every row. Columns not used: 'age'" in caplog.text


def test_a_column_can_be_left_unread():
    texts, used = named(["participant_id", "diagnosis"], {"label": "none"})
    assert "label" not in used
    assert texts["label"].tolist() == [""]


def test_unknown_is_no_id_and_no_site():
    cells = pd.DataFrame({"participant_id": ["Unknown", "1"], "site": ["?", "Bonn"]}, dtype=object)
    texts, _ = name_columns(cells, {}, "t.tsv")
    assert texts[["participant_id", "site"]].to_numpy().tolist() == [["", ""], ["1", "Bonn"]]


@pytest.mark.parametrize(
    ("columns", "mapping", "sentence"),
    [
        (["id"], {}, "no column of participant ids, only 'id'; name it with --participant-column NAME"),
        (["participant_id", "gender"], {"sex": "gendre"}, "no column 'gendre' for sex; did you mean 'gender'"),
        (["participant_id"], {"agee": "participant_id"}, "'agee', which is none of ours; did you mean 'age'"),
        (["participant_id"], {"age": "xyz"}, "no column 'xyz' for age; there is 'participant_id'"),
        (["participant_id", "age", "Age"], {}, "columns 'age', 'Age' for age, and it cannot be told .* --age-column"),
    ],
)  # fmt: skip
def test_columns_that_are_not_there_or_could_be_two_are_refused(columns, mapping, sentence):
    with pytest.raises(CohortError, match=sentence):
        named(columns, mapping)


def test_codes_for_unknown_are_no_sites_and_no_studies(caplog):
    cells = pd.DataFrame({"participant_id": ["999", "2", "3", "4"], "site": ["-9999", "999", "n/a", "9"]})
    texts, _ = name_columns(cells.assign(group="-9"), {"study": "group"}, "t.tsv")
    assert (texts["site"].tolist(), set(texts["study"])) == (["", "", "", "9"], {""})
    assert texts["participant_id"].tolist() == ["999", "2", "3", "4"]
    assert "site -9999 in 1 row(s), 999 in 1 row(s): taken as a code for unknown" in caplog.text
