"""Codes are those of the standards, and ours are what DICOM allows."""

import re
from importlib import import_module

from bundle.dicom import codes
from bundle.dicom.codes import Code, of_name, plain, short
from tests.conftest import ROOT
from tests.dicom.needed import pydicom

ALL = [value for value in vars(codes).values() if isinstance(value, Code)]
ALL += [
    one for table in (codes.UNITS, codes.STATES, codes.SIDES, codes.TISSUES, codes.REGIONS) for one in table.values()
]


def test_every_standard_code_has_the_meaning_that_its_scheme_gives_it():
    concepts = import_module(f"{pydicom.__name__}.sr._concepts_dict").concepts
    known = {}
    for scheme, words in concepts.items():
        for found in words.values():
            for value, (meaning, _) in found.items():
                known.setdefault((scheme, value), set()).add(meaning.casefold())
    checked = [code for code in ALL if code.scheme not in ("UMLS", codes.SCHEME) and code != codes.MILLILITRES]
    assert len(checked) > 25
    for code in checked:
        assert code.meaning.casefold() in known[code.scheme, code.value]


def test_a_code_of_ours_fits_into_dicom_and_is_given_once():
    ours = [code for code in ALL if code.scheme == codes.SCHEME]
    assert len({code.value for code in ours}) == len(ours)
    for code in [*ours, of_name("region", "superior temporal"), of_name("class", "x" * 300)]:
        assert len(code.value) <= 16
        assert 0 < len(code.meaning) <= 64


def test_a_name_has_one_code_and_another_name_another():
    assert of_name("class", "dementia") == of_name("class", "dementia")
    assert of_name("class", "dementia").value != of_name("class", "Dementia").value
    assert of_name("class", "\ud800").meaning == ""
    assert codes.region("superior_temporal").meaning == "superior temporal"
    assert codes.region("hippocampus").scheme == "SCT"


def test_a_short_text_cannot_be_taken_for_several_values():
    assert short("a\\b\nc\x00d") == "a/b c d"
    assert short("ab" * 40, 8) == "abababa…"
    assert plain("a\x1bb\nc") == "a b\nc"


def test_the_documentation_lists_every_code_of_ours():
    text = (ROOT / "docs" / "howto" / "dicom.md").read_text()
    rows = set(re.findall(r"^\| `([a-z-]+)` \| (.+) \|$", text, re.MULTILINE))
    assert rows == {(code.value, code.meaning) for code in ALL if code.scheme == codes.SCHEME}
    for code in [*codes.TISSUES.values(), *codes.REGIONS.values()]:
        assert f"{code.value} {code.meaning}" in text
