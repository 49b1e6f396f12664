"""Secrets are found however they are written, and not where they only seem to be."""

import pytest

from bundle.preparation.privacy import description_of, mentions, secrets_of

WHO = secrets_of(
    {
        "PatientName": ["Müller-Lüdenscheidt^Eva Maria=山田^太郎"],
        "PatientID": ["KH 0042/17"],
        "PatientBirthDate": ["19531017"],
        "StudyDate": ["20240229"],
        "InstitutionName": ["Klinikum Süd"],
    }
)


@pytest.mark.parametrize(
    "text",
    [
        *("mueller", "MULLER_T1", "Müller", "lüdenscheidt eva", "EVA_2", "xMariax", "太郎", "klinikum"),
        *(
            "kh004217",
            "KH-0042-17",
            "0042",
            "1953-10-17",
            "17.10.1953",
            "10171953",
            "20240229_mri",
            "290224",
            "klinikum",
        ),
    ],
)
def test_a_secret_is_found_however_it_is_written(text):
    assert mentions(text, WHO)
    assert description_of(text, WHO) == ""


@pytest.mark.parametrize("text", ["t1_mprage_sag", "Levante", "4200", "sub-01", "", "2024"])
def test_other_texts_are_left_alone(text):
    assert not mentions(text, WHO)


def test_descriptions_are_plain_and_short():
    assert description_of("<b>T1</b> & \n" + "x" * 90, WHO) == "b_T1_b_" + "x" * 33


def test_nothing_is_secret_of_an_anonymous_patient():
    assert secrets_of({"PatientName": [""], "PatientID": []}) == frozenset()
    assert not mentions("anything", frozenset())
