"""Datalists with one thing wrong each, and what the audit says of them."""

import json

import numpy as np
import pandas as pd
import pytest

from bundle.cli.main import main
from bundle.cohort.audit import audit
from bundle.cohort.overlap import fingerprints
from bundle.cohort.participants import CohortError
from bundle.people import folded

SECTIONS = {"training": 40, "validation": 20, "test": 20}


def record(folder, section, number, **changes):
    """One scan with nothing wrong: labels alternate within sites, ages and names tell nothing."""
    image = folder / f"images/{section}{number}.npy"
    if not image.exists():
        np.save(image, np.random.default_rng([number, len(section)]).random((3, 4, 5)).astype(np.float32))
    name = f"sub-{'abcdefghij'[number % 10]}{'klmnopqrst'[number // 10]}{section}"
    age, tiv = 20 + 7.3 * (number // 2) % 50, 1300 + 37 * (number // 2) % 300
    known = {"image": str(image.relative_to(folder)), "participant_id": name, "session_id": "1", "age": age}
    known |= {"sex": "FM"[number // 2 % 2], "site": f"s{number // 2 % 4}", "tiv": tiv}
    return {**known, "label": (number + number // 10) % 2, **changes}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    return tmp_path


@pytest.fixture
def write(folder):
    """Writes a datalist in which some scans are changed: `{(section, number): changes}`, or all by a function."""

    def written(changes=None, every=lambda section, number: {}, name="datalist.json"):
        lists = {
            s: [record(folder, s, i, **every(s, i), **(changes or {}).get((s, i), {})) for i in range(n)]
            for s, n in SECTIONS.items()
        }
        (folder / name).write_text(json.dumps(lists))
        return folder / name

    return written


def found(datalist, severity="error", **options):
    return {(f.check, f.sentence) for f in audit(datalist, **options) if f.severity == severity}


def only(datalist, check, severity="error", **options):
    """The single finding of a severity; errors mean that nothing else is worse."""
    sentences = found(datalist, severity, **options)
    assert [name for name, _ in sentences] == [check], sentences
    return sentences.pop()[1]


def test_nothing_is_said_of_a_sound_datalist(write):
    assert found(write()) == found(write(), "warning") == set()
    notes = [(f.check, f.auc) for f in audit(write()) if f.severity == "note"]
    assert {name for name, _ in notes} == {"site", "sex", "age", "tiv", "file names"}
    assert all(auc is None or auc < 0.75 for _, auc in notes)


@pytest.mark.parametrize("name", ["sub-aktraining", "aktraining"])
def test_a_participant_in_two_sections_is_an_error(write, name):
    sentence = only(write({("test", 3): {"participant_id": name}}), "participants")
    assert f"1 participant(s) are in two sections: sub-aktraining (training) = {name} (test)." in sentence


def test_spellings_of_an_id_are_a_warning(write):
    changes = {("training", 0): "sub-1", ("training", 1): "sub-100", ("validation", 0): "SUB-001", ("test", 0): "01"}
    datalist = write({where: {"participant_id": name} for where, name in changes.items()})
    sentence = only(datalist, "spellings", "warning")
    assert "1 id(s) are spelt in two ways" in sentence
    assert "sub-1 (training) = SUB-001 (validation) = 01 (test)" in sentence
    assert len({folded(name) for name in ("10", "100", "1", "1a", "a1", "sub-x", "subject")}) == 7


def test_a_copy_under_another_id_is_found_by_its_voxels(write, folder):
    np.save(folder / "images/copy.npy", np.load(folder / "images/training4.npy") if write() else None)
    across, within = {("test", 2): {"image": "images/copy.npy"}}, {("training", 2): {"image": "images/copy.npy"}}
    sentence = only(write(across), "duplicates")
    assert "in two sections: sub-ektraining (training) = sub-cktest (test)." in sentence
    assert "within a section: sub-cktraining (training) = sub-ektraining" in only(
        write(within), "duplicates", "warning"
    )
    assert found(write(across), read_images=False) == set()


def test_one_file_of_two_participants_is_found_without_reading_it(write):
    datalist = write({("test", 2): {"image": "images/training4.npy"}})
    assert "sub-ektraining (training) = sub-cktest" in only(datalist, "duplicates", read_images=False)


def test_cached_scans_are_compared_by_the_images_they_were_made_of(write):
    changes = {
        (s, i): {"image_digest": f"{s}{i}", "intensity": [1.0, 0.0]} for s, n in SECTIONS.items() for i in range(n)
    }
    changes["test", 2]["image_digest"] = "training4"
    assert "sub-ektraining (training) = sub-cktest" in only(write(changes), "duplicates", read_images=False)


def test_images_that_cannot_be_used_are_errors(write, folder):
    datalist = write()
    (folder / "images/test1.npy").write_bytes(b"no image")
    (folder / "images/test2.npy").unlink()
    sentence = only(datalist, "images")
    assert "sub-bktest: the image cannot be read" in sentence
    assert "sub-cktest: the image file does not exist" in sentence


def test_scans_without_an_id_are_errors(write):
    assert "test2.npy" in only(write({("test", 2): {"participant_id": None}}), "ids")


def test_contradicting_scans_of_one_participant_are_warnings(write):
    datalist = write({("training", 0): {"participant_id": "sub-bktraining", "sex": "M"}})
    checks = {sentence for check, sentence in found(datalist, "warning") if check == "contradictions"}
    assert any("different sex: sub-bktraining" in sentence for sentence in checks)


def test_who_trains_here_and_tests_there_is_an_error(write):
    other = write({("test", 5): {"participant_id": "sub-aktraining"}}, name="other.json")
    content = json.loads(other.read_text())
    other.write_text(json.dumps({"training": content["training"][8:10], "test": content["test"][5:6]}))
    errors = found(write(), others=[other])
    assert any("by participant id also in another section" in text for _, text in errors)
    assert any("sub-aktraining (training) = sub-aktraining (test)" in text for _, text in errors)
    same = found(write(), "warning", others=[other])
    assert {name for name, _ in same} == {"overlap"}
    assert any("2 participant(s) are by participant id also in the same section" in text for _, text in same)


def test_whom_weights_know_must_not_be_tested(write, folder):
    datalist = write()
    lists = json.loads(datalist.read_text())
    known = [{**r, "image": str(folder / r["image"])} for r in (lists["training"][0], lists["test"][1])]
    known[1]["participant_id"] = "sub-other"
    (folder / "encoder.json").write_text(json.dumps({"fingerprints": fingerprints(known)}))
    sentence = only(datalist, "pretraining", weights=[folder / "encoder.pt"])
    assert "1 participant(s) were by image in the training of" in sentence
    assert "sub-bktest (test)" in sentence
    trained = found(datalist, "warning", weights=[folder / "encoder.pt"])
    assert {("sub-aktraining (training)" in s, "do not cross-validate" in s) for _, s in trained} == {(True, True)}
    assert "overlap with it cannot be seen" in only(datalist, "pretraining", "warning", weights=[folder / "none.pt"])


def test_a_site_of_patients_is_a_warning_with_numbers(write):
    datalist = write(every=lambda s, i: {"site": f"s{(i + i // 10) % 2}"})
    warnings = found(datalist, "warning")
    assert {name for name, _ in warnings} == {"site"}
    training = next(s for _, s in warnings if s.startswith("In training the site alone"))
    assert (
        "ROC-AUC of 1.00 (p < .001; cross-validated; balanced accuracy 1.00, Cramér's V 1.00; 0 of 2 sites" in training
    )
    assert "hold whole sites out" in training
    assert any(s.startswith("From training to test the site alone") for _, s in warnings)


def test_sites_that_training_lacks_do_not_help(write):
    datalist = write(every=lambda s, i: {"site": f"{s}{(i + i // 10) % 2}"})
    notes = [f.sentence for f in audit(datalist) if f.severity == "note"]
    assert any("No site of test is in training" in sentence for sentence in notes)


def test_spellings_of_a_site_are_a_warning_and_one_site(write):
    datalist = write(every=lambda s, i: {"site": ("UCLA", "ucla")[s == "test"]})
    warnings = found(datalist, "warning")
    sentence = next(text for name, text in warnings if name == "sites" and "spelt" in text)
    assert "1 site(s) are spelt in several ways" in sentence
    assert "UCLA (training, validation) = ucla (test)" in sentence
    assert not any("No site of test is in training" in f.sentence for f in audit(datalist))
    one = found(write(every=lambda s, i: {"site": ("1", "01")[i % 2]}), "warning")
    assert any("test has a single site" in text for _, text in one)


def test_a_code_for_an_unknown_site_is_a_warning(write):
    sentence = only(write({("training", 0): {"site": -9999}, ("test", 0): {"site": "n/a"}}), "sites", "warning")
    assert "2 scan(s) have a code for unknown as their site: -9999; n/a. Write null there" in sentence


def test_older_patients_are_a_warning_and_so_is_age_that_only_patients_have(write):
    older = write(every=lambda s, i: {"age": 30 + i / 10 + 20 * ((i + i // 10) % 2)})
    assert any("In training age alone" in s and "patients are older" in s for _, s in found(older, "warning"))
    asked = write(every=lambda s, i: {"tiv": None if (i + i // 10) % 2 else 1300 + i})
    assert any("In training whether tiv is known" in text for _, text in found(asked, "warning"))


def test_a_folder_for_each_diagnosis_is_a_warning(write, folder):
    for kind in ("hc", "sz"):
        (folder / "images" / kind).mkdir()

    def moved(section, number):
        image = f"images/{('hc', 'sz')[(number + number // 10) % 2]}/{section}{number}.npy"
        np.save(folder / image, np.random.default_rng([number, len(section)]).random((3, 4, 5)))
        return {"image": image}

    sentence = only(write(every=moved), "file names", "warning")
    assert "'hc'" in sentence
    assert "ROC-AUC of 1.00, p < .001 corrected for" in sentence


@pytest.mark.parametrize(
    ("every", "check", "text"),
    [
        (lambda s, i: {"label": 0} if s == "test" else {}, "classes", "test has only controls"),
        (lambda s, i: {"site": "one"} if s == "test" else {}, "sites", "test has a single site, 'one'"),
        (lambda s, i: {"sex": "F"}, "constant", "sex is F in all 80 scans"),
        (lambda s, i: {"age": 400.0 + i // 2}, "ages", "they look like months or weeks. Divide them by 12 or 52.179."),
        (lambda s, i: {"age": 9000.0 + i // 2}, "ages", "they look like days"),
        (
            lambda s, i: {"age": -3.0} if i == 9 else {},
            "ages",
            "3 age(s) are outside 0–110 years (sub-jktraining is -3",
        ),
        (lambda s, i: {"label": None, "age": None if i < 4 else 30.0 + i}, "ages", "4 of 40 scans of training"),
    ],
)
def test_implausible_values_are_warnings(write, every, check, text):
    warnings = found(write(every=every), "warning")
    assert any(name == check and text in sentence for name, sentence in warnings), warnings


def test_a_damaged_datalist_is_refused(folder):
    (folder / "none.json").write_text('{"trainings": []}')
    with pytest.raises(CohortError, match="none of the sections 'training', 'validation', 'test'"):
        audit(folder / "none.json")


def test_items_that_are_no_records_are_refused_and_unusual_ones_are_not(folder):
    (folder / "bare.json").write_text('{"training": ["a.npy", {"image": "b.npy", "participant_id": 7}]}')
    with pytest.raises(CohortError, match="section 'training' has an item that is no record"):
        audit(folder / "bare.json")
    (folder / "odd.json").write_text(
        '{"training": [{"image": "b.npy", "participant_id": 7, "site": 3}], "test": ["a.npy"]}'
    )
    assert [name for name, _ in found(folder / "odd.json", read_images=False)] == ["ids"]
    (folder / "empty.json").write_text('{"training": [], "test": []}')
    assert audit(folder / "empty.json", [folder / "odd.json"]) == []


def test_the_command_says_writes_and_answers(write, folder, capsys):
    assert main(["check-cohort", "--datalist", str(write()), "--output", str(folder / "findings.tsv")]) == 0
    assert "0 error(s), 0 warning(s)" in capsys.readouterr().out
    datalist = write({("test", 3): {"participant_id": "sub-aktraining"}})
    assert main(["check-cohort", "--datalist", str(datalist), "--output", str(folder / "findings.json")]) == 1
    said = capsys.readouterr().out
    assert said.startswith("Errors:\n  participants: ")
    assert "1 error(s)" in said
    rows = json.loads((folder / "findings.json").read_text())["findings"]
    assert rows[0]["participants"] == ["sub-aktraining (training) = sub-aktraining (test)"]
    table = pd.read_csv(folder / "findings.tsv", sep="\t")
    assert list(table) == ["severity", "check", "sentence", "auc", "p", "participants"]
    assert set(table["severity"]) == {"note"}


def test_pretraining_and_a_task_of_the_phantom_are_sound(tiny_phantom, capsys):
    task = str(tiny_phantom / "alzheimer.json")
    assert main(["check-cohort", "--datalist", str(tiny_phantom / "pretraining.json"), "--with", task]) == 0
    assert "0 error(s)" in capsys.readouterr().out
