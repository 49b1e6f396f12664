"""The published splits: rules that everybody can apply, and the lists that they made."""

import doctest
import hashlib
import json
import re
from collections import Counter
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

from bundle.cli.main import main
from bundle.cohort import published
from bundle.cohort.published import Rule, read_rule, split_by_file
from bundle.files import SECTIONS
from bundle.people import folded
from tests.conftest import ROOT

SPLITS = ROOT / "configs/splits"
RULES = sorted(SPLITS.glob("*.json"))
LISTS = sorted(SPLITS.glob("*.tsv"))
ABIDE_SITES = {  # as the consortium publishes them
    "CALTECH": 38, "CMU": 27, "KKI": 55, "LEUVEN_1": 29, "LEUVEN_2": 35, "MAX_MUN": 57, "NYU": 184, "OHSU": 28,
    "OLIN": 36, "PITT": 57, "SBL": 30, "SDSU": 36, "STANFORD": 40, "TRINITY": 49, "UCLA_1": 82, "UCLA_2": 27,
    "UM_1": 110, "UM_2": 35, "USM": 101, "YALE": 56,
}  # fmt: skip


def people(*names, **more):
    return [{"participant_id": name, "image": f"{name}.npy", **more} for name in names]


def test_documented_examples_run():
    assert doctest.testmod(published).failed == 0


def naive(salt, unit, shares):
    """The section of a unit, with whole numbers instead of floats."""
    digest = int(hashlib.sha256(f"{salt}:{unit}".encode()).hexdigest()[:13], 16)
    limits = np.cumsum([Fraction(str(share)) for share in shares.values()])
    return next(name for name, limit in zip(shares, limits, strict=True) if Fraction(digest, 16**13) < limit)


def test_a_rule_divides_by_the_digest_of_the_number():
    shares = {"training": 0.6, "validation": 0.2, "test": 0.2}
    rule = Rule("any", "number", shares)
    found = [rule.section(f"sub-{number:05d}") for number in range(5000)]
    assert found == [naive("any", number, shares) for number in range(5000)]
    for section, share in shares.items():
        assert found.count(section) / 5000 == pytest.approx(share, abs=0.02)
    assert found != [Rule("other", "number", shares).section(number) for number in range(5000)]


def test_an_institution_is_in_one_section_with_all_its_samples():
    rule = Rule("any", "institution", {"training": 0.5, "test": 0.5})
    sections = {f"place{n}": {rule.section("1", f"Place{n}_{sample}") for sample in (1, 2)} for n in range(50)}
    assert all(len(found) == 1 for found in sections.values())
    assert set.union(*sections.values()) == {"training", "test"}


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_a_published_rule_says_of_what_it_is_and_whence(path):
    about = json.loads(path.read_text())
    read_rule(path)
    assert all(about[key] for key in ("dataset", "version", "licence", "source", "command", "note"))
    assert f"configs/splits/{path.name}" in about["command"]
    assert (about["list"] is not None) == path.with_suffix(".tsv").exists()


def test_no_id_of_adni_is_passed_on():
    assert json.loads((SPLITS / "adni.json").read_text())["list"] is None


@pytest.mark.parametrize("path", LISTS, ids=lambda path: path.stem)
def test_a_published_list_is_made_again_byte_for_byte(path, tmp_path):
    """From a table in another order, with ids in another spelling and columns that are not passed on."""
    table = pd.read_csv(path, sep="\t", dtype=str).sample(frac=1, random_state=0)
    assert set(table) <= {"participant_id", "site", "section"}
    given = table.drop(columns="section").assign(participant_id="sub-00" + table["participant_id"], age="30")
    given.to_csv(tmp_path / "table.csv", index=False)
    made = ["--table", str(tmp_path / "table.csv"), "--output", str(tmp_path / "made.tsv")]
    assert main(["split", "--rule", str(path.with_suffix(".json")), *made]) == 0
    assert (tmp_path / "made.tsv").read_bytes() == path.read_bytes()


def test_the_lists_hold_everybody_of_the_releases():
    for name in ("abide1", "abide1_sites"):
        table = pd.read_csv(SPLITS / f"{name}.tsv", sep="\t", dtype=str)
        assert Counter(table["site"]) == ABIDE_SITES
        assert table["participant_id"].is_unique
    cnp = pd.read_csv(SPLITS / "cnp.tsv", sep="\t", dtype=str)["participant_id"]
    assert cnp.is_unique
    assert Counter(cnp.str[0]) == {"1": 130, "5": 50, "6": 49, "7": 43}  # the groups of the release
    sites = pd.read_csv(SPLITS / "abide1_sites.tsv", sep="\t").groupby("section")["site"].unique()
    assert not set(sites["training"]) & set(sites["test"])


def test_a_list_divides_whatever_the_spelling_of_ids(tmp_path):
    (tmp_path / "s.tsv").write_text("participant_id\tsection\n7\ttraining\n8\ttest\n9\tvalidation\n")
    split = split_by_file(people("sub-0007", "SUB-8", "sub-0007"), tmp_path / "s.tsv")
    assert {name: [r["participant_id"] for r in found] for name, found in split.items()} == {
        "training": ["sub-0007", "sub-0007"],
        "test": ["SUB-8"],
    }


def test_lists_of_others_are_read_in_their_words(tmp_path):
    (tmp_path / "s.tsv").write_text("participant_id\tsplit\trank\nsub-07\tTrain\t1\nsub-08\tVAL\t2\nsub-09\ttest\t3\n")
    split = split_by_file(people("7", "8", "9"), tmp_path / "s.tsv")
    assert {name: len(found) for name, found in split.items()} == dict.fromkeys(SECTIONS, 1)


def test_names_of_the_preprocessed_release_go_by_the_rule():
    by_rule = split_by_file(people("Pitt_0050003", "CMU_a_0050649"), SPLITS / "abide1.json")
    listed = split_by_file(people("50003", "50649"), SPLITS / "abide1.tsv")
    assert {n: len(found) for n, found in by_rule.items()} == {n: len(found) for n, found in listed.items()}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("participant_id\tsection\n1\ttraining\n", "gives no section to '2'"),
        ("participant_id\tsection\n1\ttraining\n2\tn/a\n", "has the sections ''"),
        ("participant_id\tsection\n1\ttraining\n2\tfold3\n", "has the sections 'fold3'"),
        ("participant_id\tsection\n1\ttraining\nsub-01\ttest\n2\ttest\n", "'sub-01' into two sections"),
        ("participant_id\tfold\n1\t1\n", "is no list of a split"),
    ],
)
def test_a_list_that_leaves_questions_is_refused(content, sentence, tmp_path):
    (tmp_path / "s.tsv").write_text(content)
    with pytest.raises(ValueError, match=sentence):
        split_by_file(people("1", "2"), tmp_path / "s.tsv")


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        (None, "holds no rule of a split"),
        ({"salt": "a", "unit": "number"}, "holds no rule of a split"),
        ({"salt": "a", "unit": "number", "shares": {"training": 0.6, "test": 0.3}}, "add up to 1"),
        ({"salt": "a", "unit": "number", "shares": {"training": 2, "test": -1}}, "above 0"),
        ({"salt": "a", "unit": "eval", "shares": {"training": 1}}, "expected a unit among"),
        ({"salt": "a", "unit": "number", "shares": {"train": 1}}, "expected a unit among"),
    ],
)
def test_a_rule_of_no_known_form_is_refused(rule, sentence, tmp_path):
    (tmp_path / "r.json").write_text(json.dumps({"rule": rule}))
    with pytest.raises(ValueError, match=sentence):
        split_by_file(people("1"), tmp_path / "r.json")


def test_who_cannot_be_placed_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'anna' has no number in its id"):
        split_by_file(people("anna"), SPLITS / "cnp.json")
    with pytest.raises(ValueError, match="'50003' has no site"):
        split_by_file(people("50003", site=None), SPLITS / "abide1_sites.json")
    (tmp_path / "t.csv").write_text("participant_id,site\n1,UM_1\n1,NYU\n")
    made = ["--table", str(tmp_path / "t.csv"), "--output", str(tmp_path / "o.tsv")]
    assert main(["split", "--rule", str(SPLITS / "abide2_sites.json"), *made]) == 1


@pytest.fixture
def study(tmp_path):
    """Maps and a table of five people of CNP."""
    for i in (10159, 10171, 50004, 60006, 70015):
        np.save(tmp_path / f"mwp1sub-{i}.npy", np.random.default_rng(i).random((4, 5, 4)).astype(np.float32))
    lines = [f"sub-{i}\t30" for i in (10159, 10171, 50004, 60006, 70015)]
    (tmp_path / "p.tsv").write_text("\n".join(["participant_id\tage", *lines]) + "\n")
    return tmp_path


def cohort(folder, *more):
    arguments = ["cohort", "--table", str(folder / "p.tsv"), "--images", "mwp1{participant_id}.npy", "--workers", "1"]
    return main([*arguments, "--output", str(folder / "out.json"), "--shape", "4", "5", "4", *more])


def test_the_command_takes_a_list_or_a_rule_and_both_agree(study):
    assert cohort(study, "--split", str(SPLITS / "cnp.tsv")) == 0
    by_list = json.loads((study / "out.json").read_text())
    assert cohort(study, "--split", "configs/splits/cnp.json") == 0  # as it comes with the package
    assert json.loads((study / "out.json").read_text()) == by_list
    listed = pd.read_csv(SPLITS / "cnp.tsv", sep="\t", dtype=str).set_index("participant_id")["section"]
    for section in SECTIONS:
        assert all(listed[folded(record["participant_id"])] == section for record in by_list[section])
    assert sum(len(by_list[section]) for section in SECTIONS) == 5


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--test-sites", "A"], "--split and --test-sites"),
        (["--fractions", "training=1"], "--split and --fractions"),
        (["--split-column", "age"], "--split-column and --split"),
    ],
)
def test_two_ways_of_dividing_are_refused(more, named, study, capsys):
    assert cohort(study, "--split", str(SPLITS / "cnp.tsv"), *more) == 2
    assert f"{named} are several ways to divide the participants" in capsys.readouterr().err


def test_a_stranger_to_the_list_is_refused(study, capsys):
    assert cohort(study, "--split", str(SPLITS / "abide1.tsv")) == 1
    assert re.search(r"gives no section to '(sub-)?10159'", capsys.readouterr().err)


def test_the_official_files_of_openbhb_are_read(tmp_path):
    """As released: three words in `split`, two folders, ids of twelve digits, sites as numbers."""
    words = {"train": "training", "internal_test": "validation", "external_test": "test"}
    lines = ["participant_id\tstudy\tsex\tage\tsite\tdiagnosis\ttiv\tsiteXacq\tsplit"]
    for number, word in enumerate(list(words) * 2):
        name = f"{100000000000 + number}"
        lines.append(f"{name}\t1\tfemale\t{20 + number}.0\t{number}.0\tcontrol\t1400.0\t1\t{word}")
        place = tmp_path / ("train" if word == "train" else "val") / "derivatives" / f"sub-{name}" / "ses-1"
        place.mkdir(parents=True)
        volume = np.random.default_rng(number).random((1, 1, 4, 5, 4)).astype(np.float32)
        np.save(place / f"sub-{name}_preproc-cat12vbm_desc-gm_T1w.npy", volume)
    (tmp_path / "participants.tsv").write_text("\n".join(lines) + "\n")
    images = ["--images", "*/derivatives/sub-{participant_id}/ses-1/*gm_T1w.npy", "--split-column", "split"]
    made = ["--output", str(tmp_path / "out.json"), "--shape", "4", "5", "4", "--workers", "1"]
    assert main(["cohort", "--table", str(tmp_path / "participants.tsv"), *images, *made]) == 0
    content = json.loads((tmp_path / "out.json").read_text())
    assert {s: {r["split"] for r in content[s]} for s in SECTIONS} == {s: {word} for word, s in words.items()}
    assert all(r["label"] == 0 for s in SECTIONS for r in content[s])
