"""What a user of `cohort` and `positives` is told, and whom `--hold-out` leaves out."""

import json

import numpy as np
import pytest

from bundle.cli.main import main
from bundle.cohort.datalist import RECORD_KEYS


@pytest.fixture
def folder(tmp_path):
    for i in range(8):
        np.save(tmp_path / f"mwp1sub-{i}.npy", np.random.default_rng(i).random((4, 5, 4)).astype(np.float32))
    return tmp_path


def cohort(folder, header, rows, *more):
    lines = [header, *(";".join(map(str, row)) for row in rows)]
    (folder / "p.csv").write_text("\n".join(lines), encoding="cp1252")
    arguments = ["cohort", "--table", str(folder / "p.csv"), "--images", "mwp1{participant_id}.npy"]
    arguments += ["--output", str(folder / "out.json"), "--shape", "4", "5", "4", "--workers", "1", *more]
    return main(arguments)


def people(folder):
    content = json.loads((folder / "out.json").read_text())
    return {r["participant_id"]: r for name in ("training", "validation", "test") for r in content[name]}


def test_a_german_table_is_understood(folder):
    rows = [(f"sub-{i}", f"{20 + i},5", "mw"[i % 2], ("gesund", "Psychose für immer")[i % 2]) for i in range(8)]
    assert cohort(folder, "Proband;Alter;Geschlecht;Diagnose", rows) == 0
    records = people(folder)
    assert [(r["age"], r["sex"], r["label"]) for r in (records["sub-0"], records["sub-1"])] == [
        (20.5, "M", 0), (21.5, "F", 1),
    ]  # fmt: skip


def test_what_is_unknown_in_every_row_is_said_last_and_loud(folder, caplog):
    caplog.set_level("INFO")
    rows = [(f"sub-{i}", 20 + i, "k") for i in range(8)]
    assert cohort(folder, "subject;wiek;diagnoza", rows) == 0
    loud = [r.message for r in caplog.records if r.levelname == "WARNING"]
    assert [message.partition(".")[0] for message in loud] == ["NO SCAN HAS AN AGE", "NO SCAN HAS A DIAGNOSIS"]
    assert "--age-column NAME" in loud[0]
    assert [r.message for r in caplog.records][-2:] == loud
    assert "Columns not used: 'wiek', 'diagnoza'" in caplog.text


def test_some_unknown_ages_are_counted(folder, caplog):
    assert cohort(folder, "subject;age", [(f"sub-{i}", "?" if i < 3 else 20 + i) for i in range(8)]) == 0
    assert "3 of 8 scans do not have an age." in caplog.text


def test_codes_may_be_said_to_be_unknown_and_ages_to_be_months(folder):
    rows = [(f"sub-{i}", 240 + 12 * i, i % 3, ("AD", "CN", "MCI")[i % 3]) for i in range(8)]
    more = ["--sex-values", "0=n/a", "1=M", "2=F", "--label-values", "AD=1", "cn=0", "MCI=n/a", "--age-unit", "months"]
    assert cohort(folder, "participant_id;age_months;sex;diagnosis", rows, "--age-column", "age_months", *more) == 0
    records = people(folder)
    assert [(records[f"sub-{i}"]["sex"], records[f"sub-{i}"]["label"]) for i in range(3)] == [
        (None, 1), ("M", 0), ("F", None),
    ]  # fmt: skip
    assert records["sub-2"]["age"] == 22


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--label-values", "AD=?"], "A label is 0 (control), 1 (patient) or n/a (unknown), but '?' was given"),
        (["--label-values", "AD=1", "AD=0"], "'AD' was given twice, as 1 and as 0"),
        (["--label-values", "AD"], "Expected NAME=VALUE, but found 'AD'"),
    ],
)
def test_options_that_say_nothing_are_refused(folder, more, sentence, capsys):
    assert cohort(folder, "participant_id;dx", [("sub-1", "AD")], *more) == 2
    assert sentence in capsys.readouterr().err


def held_out(folder, *tested):
    for number, names in enumerate(tested):
        records = [{"image": f"{name}.npy", "participant_id": name} for name in names]
        (folder / f"other{number}.json").write_text(json.dumps({"training": [], "test": records}))
    rows = [(f"sub-{i}", 20 + i) for i in range(8)]
    others = [str(folder / f"other{number}.json") for number in range(len(tested))]
    return cohort(folder, "participant_id;age", rows, "--hold-out", *others)


def test_whom_other_datalists_test_on_is_left_out(folder, caplog):
    """By person, with or without the prefix of BIDS; their images may have other names."""
    caplog.set_level("INFO")
    assert held_out(folder, ["sub-0", "1", "sub-99"], ["2"]) == 0
    assert set(people(folder)) == {f"sub-{i}" for i in range(3, 8)}
    assert "2 scans of 2 participants were left out: these are among the 3 participants" in caplog.text
    assert "1 scans of 1 participants were left out: these are among the 1 participants" in caplog.text


def test_hold_out_says_when_it_did_nothing_or_ids_look_alike(folder, caplog):
    assert held_out(folder, ["sub-004", "x"]) == 0
    assert len(people(folder)) == 8
    assert "Nobody of the test section of" in caplog.text
    assert "1 participant(s) stay, whose ids differ from those that" in caplog.text
    assert "4 = 004" in caplog.text


@pytest.mark.parametrize(
    ("tested", "sentence"),
    [([], "is empty, so nobody can be held out"), (list(map(str, range(8))), "nobody is left")],
)
def test_hold_out_of_nobody_or_everybody_is_refused(folder, tested, sentence, capsys):
    assert held_out(folder, tested) == 1
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("sigma", ["scott", "5"])
def test_positives_of_subjects_without_ages_are_refused(tmp_path, sigma, capsys):
    (tmp_path / "d.json").write_text(json.dumps({"training": [{"image": "a.npy", "age": None}] * 3}))
    assert main(["positives", "--datalist", str(tmp_path / "d.json"), "--sigma", sigma]) == 1
    assert "No age is known of the 3 training subjects" in capsys.readouterr().err


def test_positives_count_unknown_ages(tmp_path, capsys):
    records = [{"image": "a.npy", "age": age} for age in (20, 30, 40, None)]
    (tmp_path / "d.json").write_text(json.dumps({"training": records}))
    assert main(["positives", "--datalist", str(tmp_path / "d.json"), "--sigma", "5", "--batch-size", "4"]) == 0
    assert "of 4 training subjects (1 of unknown age)" in capsys.readouterr().out


def populations(folder, *more, header="participant_id;age;dx;iq"):
    rows = [(f"sub-{i}", 10 + i, ("HC", "SZ")[i % 2], ("80", "n/a")[i == 7]) for i in range(8)]
    return cohort(folder, header, rows, *more)


def sections(folder):
    content = json.loads((folder / "out.json").read_text())
    return {name: [r["participant_id"] for r in content[name]] for name in ("training", "validation", "test")}


def test_one_population_trains_and_another_is_tested(folder, caplog):
    caplog.set_level("INFO")
    assert populations(folder, "--test-where", "age>=14", "--fractions", "training=0.5", "validation=0.5") == 0
    found = sections(folder)
    assert found["test"] == ["sub-4", "sub-5", "sub-6", "sub-7"]
    assert len(found["training"]) == len(found["validation"]) == 2
    assert "Tested, where 'age>=14' holds: 4 people, age 14 to 17, 2 of label 0, 2 of label 1" in caplog.text
    content = json.loads((folder / "out.json").read_text())
    assert content["description"] == "made from p.csv; tested where age>=14"


def test_only_a_population_takes_part_and_its_columns_are_not_written(folder):
    assert populations(folder, "--where", "iq!=n/a", "iq<100", "age<12 or age>=15") == 0
    found = sections(folder)
    assert sorted(found["training"] + found["validation"]) == ["sub-0", "sub-1", "sub-5", "sub-6"]
    assert all("iq" not in record for record in people(folder).values())


@pytest.mark.parametrize(
    ("more", "status", "sentence"),
    [
        (["--where", "age"], 2, "'age' is no condition. Expected a column"),
        (["--where", "iqq<3"], 1, "has no column 'iqq'; did you mean 'iq'?"),
        (
            ["--where", "iq<90"],
            1,
            "Nobody can tell whether 'iq<90' holds for 1 scan(s) of 'sub-7': their iq is not known",
        ),
        (["--test-where", "age>=14", "--test-sites", "a"], 2, "are several ways to divide the participants"),
        (["--test-where", "age>=14", "--fractions", "training=0.5", "test=0.5"], 2, "either --test-where or a share"),
        (["--test-where", "age>99"], 1, "Nobody would be tested, where 'age>99' holds"),
        (["--test-where", "dx=SZ"], 1, "Nobody of label 0 would be tested"),
    ],
)
def test_populations_that_cannot_be_made_are_refused(folder, more, status, sentence, capsys):
    assert populations(folder, *more) == status
    assert sentence in capsys.readouterr().err
    assert not (folder / "out.json").exists()


def test_sites_that_differ_in_spelling_are_said_and_never_parted(folder, caplog, capsys):
    rows = [(f"sub-{i}", ("UCLA", "ucla", "NYU", "-9999")[i % 4]) for i in range(8)]
    assert cohort(folder, "participant_id;site", rows) == 0
    assert "1 site(s) are spelt in several ways, which are taken for different ones: 'UCLA = ucla'" in caplog.text
    assert people(folder)["sub-3"]["site"] is None
    assert cohort(folder, "participant_id;site", rows, "--test-sites", "UCLA") == 1
    assert "'UCLA = ucla' differ in spelling alone: with 'UCLA' only some" in capsys.readouterr().err
    assert cohort(folder, "participant_id;site", rows, "--test-sites", "UCLA", "ucla") == 0
    assert sections(folder)["test"] == ["sub-0", "sub-1", "sub-4", "sub-5"]


def test_studies_without_their_column_get_the_option_that_names_it(folder, capsys):
    rows = [(f"sub-{i}", "abide1") for i in range(8)]
    assert cohort(folder, "participant_id;study", rows, "--exclude-studies", "abide1") == 1
    assert "name the column of the table that holds it: --study-column NAME" in capsys.readouterr().err


def test_a_condition_on_age_is_in_years_however_the_table_writes_the_column(folder):
    rows = [(f"sub-{i}", 12 * (10 + i)) for i in range(8)]
    assert cohort(folder, "participant_id;Age", rows, "--age-unit", "months", "--where", "Age>=14") == 0
    assert sorted(people(folder)) == ["sub-4", "sub-5", "sub-6", "sub-7"]
    assert all(set(record) == set(RECORD_KEYS) for record in people(folder).values())
