"""Ensembles: the mean of their members' probabilities, computed by hand, and members that do not belong together."""

import json

import numpy as np
import pytest
import torch
from monai.networks.nets import DenseNet

from bundle.networks.architecture import as_options, described, made_classifier
from bundle.networks.cards import check_card
from bundle.networks.classifiers import Classifier, EncoderClassifier
from bundle.networks.encoders import DenseNetEncoder
from bundle.networks.ensembles import Ensemble, ensemble_in, with_spread
from bundle.networks.members import load_members, members_of
from bundle.networks.weights import load_encoder, save_weights

SIZES = {"init_features": 8, "growth_rate": 4, "block_config": (1, 1)}


def dense():
    return DenseNet(spatial_dims=3, in_channels=1, out_channels=2, **SIZES).eval()


def on_encoder():
    return EncoderClassifier(DenseNetEncoder(1, 8, 4, (1, 1))).eval()


def card_of(network, **other):
    grid = {"shape": [32, 32, 32], "affine": [[1, 0, 0, 0]]}
    common = {"kind": "classifier", "class_names": ["control", "patient"], "task": "t", "contract": {"grid": grid}}
    known = {"network": described(network), "validation": {"val_threshold": 0.4, "val_auc": 0.7}}
    return {**common, **known, "fingerprints": {"participants": ["a"]}, "made_by": {"seed": 3}, **other}


@pytest.fixture
def members(tmp_path):
    paths, networks = [], []
    for number in range(3):
        torch.manual_seed(number)
        networks.append(dense())
        paths.append(tmp_path / f"member_{number}" / "model.pt")
        paths[-1].parent.mkdir()
        save_weights(paths[-1], networks[-1], card_of(networks[-1]))
    return paths, networks


def test_probabilities_are_the_mean_of_those_of_the_members(members):
    paths, networks = members
    ensemble = Ensemble(dense(), 3).eval()
    load_members(ensemble, paths)
    volumes = 5 * torch.randn(4, 1, 32, 32, 32)
    with torch.no_grad():
        each = np.stack([network(volumes).softmax(1).double().numpy() for network in networks])
        logits, embedding, spread = with_spread(Classifier(ensemble), volumes)
        embeddings = np.stack([Classifier(network).both(volumes)[1].numpy() for network in networks])
    np.testing.assert_allclose(logits.softmax(1), each.mean(0), atol=1e-6)
    np.testing.assert_allclose(logits.exp(), each.mean(0), atol=1e-6)
    np.testing.assert_allclose(embedding, embeddings.mean(0), atol=1e-5)
    np.testing.assert_allclose(spread, 100 * each[:, :, 1].std(0), atol=1e-4)
    assert spread.min() > 0
    assert torch.equal(ensemble(volumes), Classifier(ensemble)(volumes))


def test_one_classifier_has_no_spread():
    network = dense()
    assert ensemble_in(Classifier(network)) is None
    logits, _, spread = with_spread(Classifier(network), torch.randn(1, 1, 32, 32, 32))
    assert spread is None
    assert logits.shape == (1, 2)


@pytest.mark.parametrize("make", [dense, on_encoder])
def test_a_card_makes_the_same_ensemble_again(make, tmp_path):
    ensemble = Ensemble(make(), 2)
    stated = json.loads(json.dumps(described(ensemble)))
    assert stated["members"] == 2
    check_card({"network": stated}, tmp_path)
    again = made_classifier(tmp_path, stated)
    again.load_state_dict(ensemble.state_dict())
    options = as_options(tmp_path, stated)["network_def"]
    assert options["_target_"] == "bundle.networks.Ensemble"
    assert options["members"] == 2


@pytest.mark.parametrize("number", [1, 33, True, "2"])
def test_impossible_numbers_of_members_are_refused(number, tmp_path):
    with pytest.raises(ValueError, match="2 to 32 members"):
        Ensemble(dense(), number)
    with pytest.raises(ValueError, match="has network"):
        check_card({"network": {"members": number, **SIZES, "block_config": [1]}}, tmp_path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"task": "other"}, "differ in task"),
        ({"class_names": ["control", "bipolar"]}, "differ in class_names"),
        ({"contract": {"grid": {"shape": [40, 48, 40]}}}, "differ in grid"),
        ({"preprocessing_steps": [{"_target_": "NormalizeIntensityd", "keys": "image"}]}, "differ in preprocessing"),
        ({"fingerprints": {"participants": ["b"]}}, "differ in the subjects"),
    ],
)
def test_members_that_do_not_belong_together_are_refused(members, change, reason):
    paths, networks = members
    save_weights(paths[2], networks[2], card_of(networks[2], **change))
    with pytest.raises(ValueError, match=reason):
        load_members(Ensemble(dense(), 3), paths)


def test_a_card_names_the_members(members):
    paths, _ = members
    found = members_of(paths[0].parents[1], paths)
    assert [member["file"] for member in found] == [f"member_{number}/model.pt" for number in range(3)]
    assert {member["seed"] for member in found} == {3}
    assert all(len(member["sha256"]) == 64 for member in found)


def test_an_ensemble_is_no_encoder(members, tmp_path):
    paths, _ = members
    ensemble = Ensemble(dense(), 3)
    load_members(ensemble, paths)
    save_weights(tmp_path / "model.pt", ensemble, card_of(ensemble))
    with pytest.raises(ValueError, match=r"holds 3 encoders|encoder"):
        load_encoder(tmp_path / "model.pt")
