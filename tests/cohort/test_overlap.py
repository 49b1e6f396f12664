import json
import logging

import nibabel as nib
import numpy as np
import pytest

from bundle.cohort.overlap import fingerprints, refuse_overlap, say_seen


@pytest.fixture
def people(tmp_path):
    """Six participants, each with an image of their own."""
    records = []
    for i in range(6):
        path = tmp_path / f"scan{i}.npy"
        np.save(path, np.random.default_rng(i).random((3, 4, 5)).astype(np.float32))
        records.append({"participant_id": f"sub-{i}", "image": str(path)})
    return records


@pytest.fixture
def weights(people, tmp_path):
    """An encoder trained on the first three."""
    card = {"fingerprints": fingerprints(people[:3])}
    (tmp_path / "encoder.json").write_text(json.dumps(card))
    return tmp_path / "encoder.pt"


def test_strangers_pass(people, weights, caplog):
    refuse_overlap(weights, people[3:], "the test set")
    assert caplog.text == ""


def test_a_participant_is_known_by_id_even_with_another_image(people, weights):
    renamed = {"participant_id": "1", "image": people[5]["image"]}  # without the prefix of BIDS
    with pytest.raises(ValueError, match=r"of schizophrenia were .*encoder.pt: 1 by participant id \(1\)\. .*--allow"):
        refuse_overlap(weights, [renamed, *people[4:]], "schizophrenia")


def test_an_image_is_known_under_another_name_and_format(people, weights, tmp_path):
    volume = np.load(people[2]["image"])
    nib.save(nib.Nifti1Image(volume, np.diag([2, 2, 2, 1])), tmp_path / "other.nii.gz")
    stranger = {"participant_id": "new", "image": str(tmp_path / "other.nii.gz")}
    with pytest.raises(ValueError, match=r"1 by image \(new\)"):
        refuse_overlap(weights, [stranger], "the test set")


def test_overlap_can_be_allowed_and_is_still_said(people, weights, caplog):
    with caplog.at_level(logging.WARNING):
        refuse_overlap(weights, people, "the test set", allow=True)
    assert "3 by participant id (sub-0, sub-1, sub-2); 3 by image" in caplog.text


def test_without_a_card_a_warning_says_that_nobody_knows(people, tmp_path, caplog):
    refuse_overlap(tmp_path / "found_somewhere.pt", people, "the test set")
    assert "overlap with the test set cannot be seen" in caplog.text


def test_a_damaged_card_is_named(people, tmp_path):
    (tmp_path / "encoder.json").write_text("{")
    with pytest.raises(ValueError, match=r"card .*encoder.json is not valid JSON"):
        refuse_overlap(tmp_path / "encoder.pt", people, "the test set")


def test_a_card_names_nobody(people):
    assert not any("sub-" in digest for digests in fingerprints(people).values() for digest in digests)
    assert [len(digests) for digests in fingerprints([*people, people[0]]).values()] == [6, 6]


def test_whom_an_encoder_knows_its_classifier_knows_too(people, weights):
    inherited = fingerprints(people[3:4], inherited=weights)
    assert inherited == fingerprints(people[:4])
    assert fingerprints(people[3:4], inherited="scratch") == fingerprints(people[3:4])


def test_the_card_of_other_weights_is_refused(people, weights):
    weights.write_bytes(b"other weights")
    card = json.loads(weights.with_suffix(".json").read_text())
    weights.with_suffix(".json").write_text(json.dumps({**card, "sha256": "0"}))
    with pytest.raises(ValueError, match="belongs to other weights"):
        refuse_overlap(weights, people, "the test set")


def stage(folder, **card):
    (folder / "stage.json").write_text(json.dumps(card))
    return folder / "stage.pt"


def test_people_of_an_earlier_training_are_counted(people, tmp_path, caplog):
    caplog.set_level("INFO")
    weights = stage(tmp_path, kind="classifier", task="sex", fingerprints=fingerprints(people[:3]))
    say_seen(weights, {"training": people[1:4], "validation": people[4:]}, "autism")
    assert "2 of 3 of the training, 0 of 2 of the validation" in caplog.text
    assert all(record.levelname == "INFO" for record in caplog.records)
    caplog.clear()
    say_seen(weights, {"training": people[3:], "validation": []}, "autism")
    say_seen("scratch", {"training": people, "validation": []}, "autism")
    assert caplog.text == ""


@pytest.mark.parametrize("before", [False, True])
def test_the_same_question_to_the_same_people_is_said_loudly(people, tmp_path, caplog, before):
    first = {"kind": "classifier", "task": "autism"}
    second = {
        "kind": "classifier",
        "task": "sex",
        "pretrained": {"path": "a", "sha256": "b", **first, "people_known": True},
    }
    weights = stage(tmp_path, fingerprints=fingerprints(people[:3]), **(second if before else first))
    say_seen(weights, {"training": people[:2], "validation": people[2:]}, "autism")
    assert "2 of 2 of the training, 1 of 4 of the validation" in caplog.text
    assert "It was a classifier of the same task, autism, which has learned their labels" in caplog.text


def test_a_stage_whose_people_nobody_knows_is_said(people, tmp_path, caplog):
    before = {"path": "a", "sha256": "b", "kind": "classifier", "people_known": False}
    weights = stage(tmp_path, fingerprints=fingerprints(people[:3]), pretrained=before)
    refuse_overlap(weights, people[3:], "the test set")
    assert "started from weights whose card does not say who trained them" in caplog.text
