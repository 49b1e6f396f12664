from pathlib import Path

import pytest

from bundle.cohort.overlap import id_digest
from bundle.publishing.public_card import public_card

MODEL = Path("model.pt")


def known(*ids):
    return {"fingerprints": {"participants": [id_digest({"participant_id": name}) for name in ids], "images": []}}


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"note": "kept in /data/study"}, "`note` holds '/data/study', a path of a machine"),
        ({"note": ["x", {"y": "C:\\study"}]}, "`note.y` holds"),
        ({"note": "see ~/study"}, "a path of a machine"),
        ({"note": "\\\\server\\share"}, "a path of a machine"),
        ({"note": "file:///data"}, "a path of a machine"),
        ({"/data/x": 1}, "a path of a machine"),
        ({"note": "without sub-017"}, "names the participant 'sub-017'"),
        ({"datalist": "./sub-A01/x.json"}, "names the participant 'sub-A01'"),
        ({"note": "all but MRN48213"}, "names the participant 'MRN48213'"),
        ({"made_by": {"command": "train --weights ./MRN48213_best.pt"}}, "names the participant 'MRN48213'"),
        ({"datalist": "/data/MRN48213"}, "names the participant 'MRN48213'"),
    ],
)
def test_paths_and_people_are_refused_with_the_place(entry, sentence):
    with pytest.raises(ValueError, match="is not published: ") as found:
        public_card({**known("MRN48213"), **entry}, MODEL, True)
    assert sentence in str(found.value)


@pytest.mark.parametrize(
    "text",
    [
        "1/2 of them",
        "./data/x.json",
        "and/or",
        "https://arxiv.org/abs/2106.08808",
        "hf://a/b@v1/c",
        "a - / b",
        "subjects",
    ],
)
def test_what_is_no_path_stays(text):
    assert public_card({"note": text}, MODEL, True) == {"note": text}


def test_weights_of_the_hub_are_named_by_their_address():
    cached = "/home/somebody/.cache/huggingface/hub/models--a--b/snapshots/" + 40 * "c" + "/model.safetensors"
    shown = public_card({"pretrained": {"path": cached, "sha256": "x"}}, MODEL, True)
    assert shown["pretrained"]["path"] == f"hf://a/b@{40 * 'c'}/model.safetensors"


def test_digests_stay_or_go():
    card = {**known("someone"), "kind": "encoder"}
    assert public_card(card, MODEL, True) == card
    assert public_card(card, MODEL, False) == {"kind": "encoder"}
