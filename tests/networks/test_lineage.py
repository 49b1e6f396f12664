"""The chain of trainings that a card tells, and what cannot be started from."""

import json

import pytest
import torch
from monai.networks.nets import DenseNet

from bundle.networks import (
    DenseNetEncoder,
    EncoderClassifier,
    Ensemble,
    described,
    lineage,
    load_encoder,
    method_of,
    origin,
    read_card,
    require_classifier_weights,
    save_weights,
    start_from,
)
from bundle.networks.lineage import stages

SIZES = {"init_features": 8, "growth_rate": 4, "block_config": (1, 1)}
QUESTION = {"kind": "classifier", "class_names": ["F", "M"], "validation": {"val_threshold": 0.5}}
PEOPLE = {"fingerprints": {"participants": ["a"], "images": ["b"]}}


def classifier():
    return DenseNet(spatial_dims=3, in_channels=1, out_channels=2, **SIZES)


@pytest.fixture
def chain(tmp_path):
    """An encoder, a classifier that started from it, and another that started from that one."""
    encoder, first, second = (tmp_path / f"{name}.pt" for name in ("encoder", "sex", "autism"))
    card = {"kind": "encoder", "method": "y-Aware", "subjects": 153, "pretrained": "scratch", **PEOPLE}
    save_weights(encoder, DenseNetEncoder(1, 8, 4, (1, 1)), card)
    counts = {"training": 200, "validation": 74}
    said = {**QUESTION, "task": "sex", "subjects": counts, **PEOPLE}
    save_weights(first, classifier(), {**said, "pretrained": origin(encoder)})
    said = {**QUESTION, "task": "autism", "class_names": ["control", "autism"], "subjects": {"training": 9}}
    save_weights(second, classifier(), {**said, "pretrained": origin(first)})
    return encoder, first, second


def test_a_chain_is_told_the_last_training_first(chain):
    encoder, first, second = chain
    assert lineage("scratch") == ""
    assert lineage(encoder) == "y-Aware encoder, trained on 153 scans"
    assert lineage(first) == f"classifier of sex (F or M), trained on 274 scans ← {lineage(encoder)}"
    assert lineage(second) == f"classifier of autism (control or autism), trained on 9 scans ← {lineage(first)}"
    assert [stage.get("task") for stage in stages(second)] == ["autism", "sex", None]
    assert [stage["people_known"] for stage in stages(second)] == [False, True, True]


def test_a_card_keeps_path_and_digest_of_every_stage(chain):
    encoder, first, second = chain
    told = read_card(second)["pretrained"]
    assert told["path"] == str(first)
    assert told["sha256"] == read_card(first)["sha256"]
    assert told["pretrained"]["sha256"] == read_card(encoder)["sha256"]
    assert told["pretrained"]["pretrained"] == "scratch"


def test_weights_without_a_card_and_cards_that_say_little_have_no_chain(tmp_path, chain):
    torch.save(classifier().state_dict(), tmp_path / "plain.pt")
    assert lineage(tmp_path / "plain.pt") == ""
    earlier = {"pretrained": {"path": "e.pt", "sha256": "x"}, "subjects": {"training": "many"}, "class_names": 3}
    (tmp_path / "plain.json").write_text(json.dumps({"format": 1, **earlier}))
    assert lineage(tmp_path / "plain.pt") == ""


@pytest.mark.parametrize("kind", ["monai", "on an encoder"])
def test_the_encoder_of_a_classifier_is_taken_and_its_head_is_not(tmp_path, kind, caplog):
    caplog.set_level("INFO")
    made = classifier if kind == "monai" else lambda: EncoderClassifier(DenseNetEncoder(1, 8, 4, (1, 1)))
    torch.manual_seed(1)
    source = made()
    save_weights(tmp_path / "sex.pt", source, {**QUESTION, "task": "sex", "network": described(source)})
    torch.manual_seed(2)
    target, fresh = made(), None
    fresh = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    start_from(target, tmp_path / "sex.pt")
    head = ("class_layers.", "features.norm5.")
    for name, tensor in target.state_dict().items():
        assert torch.equal(tensor, (fresh if name.startswith(head) else source.state_dict())[name]), name
    assert "Started from: classifier of sex (F or M)." in caplog.text


@pytest.fixture
def ensemble(tmp_path):
    network = Ensemble(classifier(), 2)
    members = [{"file": f"member_{k}/model.pt", "sha256": "x", "val_auc": auc} for k, auc in enumerate((0.6, 0.7))]
    save_weights(tmp_path / "e.pt", network, {**QUESTION, "network": described(network), "ensemble": members})
    return tmp_path / "e.pt"


@pytest.mark.parametrize("use", [require_classifier_weights, load_encoder, lambda path: start_from(classifier(), path)])
def test_an_ensemble_is_refused_and_its_best_member_named(ensemble, use):
    with pytest.raises(ValueError, match=r"ensemble of 2 classifiers.*such as .*member_1/model.pt, which has the best"):
        use(ensemble)


def test_from_expects_a_classifier(chain, tmp_path):
    require_classifier_weights(chain[1])
    with pytest.raises(ValueError, match=r"the card of .*encoder.pt says encoder; give it as --weights"):
        require_classifier_weights(chain[0])
    torch.save({}, tmp_path / "bare.pt")
    with pytest.raises(ValueError, match="it has no card, which would say its question"):
        require_classifier_weights(tmp_path / "bare.pt")


def test_a_table_does_not_call_the_encoder_of_a_classifier_y_aware(chain):
    assert method_of(chain[1]) == "classifier of sex"
    assert method_of(chain[0]) == "y-Aware"
