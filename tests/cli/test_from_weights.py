"""What weights say themselves: nobody has to say architecture and preprocessing again."""

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.networks.nets import DenseNet

from bundle.cli.from_weights import preprocessing_of_card, stated_by_weights
from bundle.cli.main import main
from bundle.cli.options import FOLDER, read_config
from bundle.networks import SwinEncoder, described, encoder_like, load_encoder, method_of, start_from, steps_of
from bundle.networks.architecture import stated_network
from bundle.networks.encoders import DenseNetEncoder, ResNetEncoder
from bundle.networks.weights import save_weights
from bundle.prediction import CheckedDataset
from bundle.scans import Check, Contract, Examination, Grid
from bundle.scans.grid import REFERENCE
from tests.networks.foreign import ThreeLayers

TRAIN, OVERLAY = FOLDER / "train.json", FOLDER / "resolution_4mm.yaml"
COARSE = steps_of(read_config(OVERLAY)["preprocessing"])


@pytest.fixture
def weights(tmp_path):
    """An encoder that was pretrained at 4.5 mm, and a card that says so."""
    path = tmp_path / "encoder.pt"
    save_weights(path, DenseNetEncoder(1, 16, 8, (1, 2), "batch"), {"preprocessing_steps": COARSE, "method": "SimCLR"})
    return path


def test_training_takes_architecture_and_preprocessing_from_the_weights(weights):
    stated = stated_by_weights("train", [TRAIN], {"weights": weights}, {})
    assert stated.pop("preprocessing")["transforms"] == COARSE
    assert stated == {"init_features": 16, "growth_rate": 8, "block_config": [1, 2]}


def test_what_is_given_on_the_command_line_stays(weights):
    stated = stated_by_weights("train", [TRAIN], {"weights": weights}, {"growth_rate": 4})
    assert "growth_rate" not in stated


def test_an_overlay_that_says_the_same_is_taken_and_one_that_says_another_is_refused(weights, tmp_path):
    assert stated_by_weights("train", [TRAIN, OVERLAY], {"weights": weights}, {})
    with pytest.raises(ValueError, match="was trained on volumes that were preprocessed in another way: step 4"):
        stated_by_weights("train", [TRAIN, FOLDER / "published_recipe.yaml"], {"weights": weights}, {})


MAKERS = {
    "ResNet": lambda: ResNetEncoder(width=8),
    "group norm": lambda: DenseNetEncoder(1, 16, 16, (1, 2), "group"),
    "Swin": lambda: SwinEncoder(1, 6, (1, 1, 1, 1), (1, 1, 1, 2), 3),
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_classifier_stands_on_the_encoder_that_the_weights_or_their_card_show(name, tmp_path):
    if name == "Swin":
        pytest.importorskip("einops")
    path, made = tmp_path / "x.pt", MAKERS[name]()
    save_weights(path, made, {"network": described(made)})
    stated = stated_by_weights("train", [TRAIN], {"weights": path}, {})
    network = ConfigParser(stated).get_parsed_content("network_def")
    start_from(network, path)
    assert all(torch.equal(tensor, made.state_dict()[name]) for name, tensor in network.encoder.state_dict().items())
    card = {"kind": "classifier", "class_names": ["a", "b"], "validation": {"val_threshold": 0.5}}
    save_weights(path, network, {**card, "network": described(network)})
    assert stated_by_weights("evaluate", [TRAIN], {"model": path}, {}) == stated
    assert stated_by_weights("inference", [TRAIN], {"model": path}, {"network_def": {}}) == {}


def test_an_encoder_that_is_not_ours_is_made_by_an_overlay_and_never_from_a_card(tmp_path):
    path, overlay = tmp_path / "x.pt", tmp_path / "own.yaml"
    made = ThreeLayers()
    save_weights(path, made, {"network": described(made)})
    with pytest.raises(ValueError, match=r"holds an encoder tests\.networks\.foreign\.ThreeLayers, none of this"):
        stated_by_weights("train", [TRAIN], {"weights": path}, {})
    with pytest.raises(ValueError, match=r"Give an overlay that makes it: `encoder` for the probe"):
        encoder_like(path)
    overlay.write_text("network_def: {_target_: bundle.networks.EncoderClassifier}\n")
    assert stated_by_weights("train", [TRAIN, overlay], {"weights": path}, {}) == {}


def test_from_scratch_and_without_a_card_nothing_is_stated(tmp_path):
    save_weights(tmp_path / "x.pt", DenseNetEncoder(1, 16, 8, (1, 2)), {})
    assert stated_by_weights("train", [TRAIN], {"datalist": tmp_path / "d.json"}, {}) == {}
    assert "preprocessing" not in stated_by_weights("train", [TRAIN], {"weights": tmp_path / "x.pt"}, {})
    assert stated_by_weights("pretrain", [FOLDER / "pretrain.yaml"], {"weights": tmp_path / "x.pt"}, {}) == {}


@pytest.mark.parametrize("made", [DenseNetEncoder(1, 16, 16, (1, 2), "group"), ResNetEncoder(width=8)])
def test_a_probe_makes_the_encoder_that_the_weights_show_as_initialised(made, tmp_path):
    save_weights(tmp_path / "x.pt", made, {})
    torch.manual_seed(0)
    like = encoder_like(tmp_path / "x.pt")
    assert {n: t.shape for n, t in like.state_dict().items()} == {n: t.shape for n, t in made.state_dict().items()}
    assert not torch.equal(next(like.parameters()), next(made.parameters())), "nothing is loaded into it"
    torch.manual_seed(0)
    again = encoder_like(tmp_path / "x.pt")
    assert torch.equal(next(like.parameters()), next(again.parameters())), "the seed decides"
    assert load_encoder(tmp_path / "x.pt", like).encoder is like


def test_a_method_is_called_as_the_card_says_or_as_the_user_says(weights):
    assert method_of(weights) == "SimCLR"
    assert method_of(weights, "mine") == "mine"
    save_weights(weights, DenseNetEncoder(1, 16, 8, (1, 2)), {})
    assert method_of(weights) == "y-Aware"


def test_the_files_that_come_with_the_package_are_found_from_any_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["predict", "nowhere.nii", "--config", "configs/resolution_4mm.yaml", "--dry-run"]) in (0, 1)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/phantom.yaml").write_text("epoch: 3\n")
    assert main(["pretrain", "--config", "configs/phantom.yaml", "--dry-run"]) == 2
    assert "did you mean 'epochs'" in capsys.readouterr().err, "the user's own file comes first"
    assert main(["pretrain", "--config", "configs/nothing.yaml"]) == 2
    assert (
        "There is no config configs/nothing.yaml; the configs are adaptation_adversarial.yaml"
        in capsys.readouterr().err
    )


PLAIN = steps_of(read_config(TRAIN)["preprocessing"])
FINE, PHANTOM = REFERENCE.card, {"shape": [40, 48, 40], "affine": read_config(FOLDER / "inference.json")["grid_affine"]}
ALONE = [{"_target_": "LoadImaged", "keys": "image"}, {"_target_": "NormalizeIntensityd", "keys": "image"}]
CHANNEL = [ALONE[0], {"_target_": "EnsureChannelFirstd", "keys": "image"}, ALONE[1]]


@pytest.mark.parametrize(
    ("grid", "stated", "shape"),
    [
        (PHANTOM, PLAIN, (40, 48, 40)),
        (FINE, PLAIN, (121, 145, 121)),
        (FINE, COARSE, (40, 48, 40)),
        (PHANTOM, ALONE, (40, 48, 40)),
        (PHANTOM, CHANNEL, (40, 48, 40)),
    ],
    ids=["4.5 mm", "1.5 mm", "1.5 mm on 4.5 mm", "loaded alone", "with a channel"],
)
def test_the_card_suffices_to_preprocess_a_scan(grid, stated, shape, tmp_path):
    save_weights(tmp_path / "x.pt", DenseNetEncoder(1, 4, 2, (1, 1)), {"preprocessing_steps": stated})
    contract = Contract({"grid": grid})
    dataset = CheckedDataset([], contract, None, preprocessing_of_card(str(tmp_path / "x.pt")))
    volume = np.random.default_rng(0).random(Grid.from_card(grid).shape, dtype=np.float32)
    ready = dataset.preprocess(Examination((Check("x", "", "", "", "pass"),), volume))
    assert ready.shape == (1, *shape)
    assert ready.mean().abs() < 1e-3, "no step of the card is left out"
    assert ready.std() == pytest.approx(1, abs=1e-3)


def test_a_card_without_steps_leaves_the_preprocessing_to_the_config(tmp_path):
    save_weights(tmp_path / "x.pt", DenseNetEncoder(1, 4, 2, (1, 1)), {})
    assert preprocessing_of_card(str(tmp_path / "x.pt")) is None


def test_the_network_is_that_of_the_card():
    given = DenseNet(3, 1, 2, init_features=4, growth_rate=2, block_config=(1, 2))
    assert stated_network(Path("m.pt"), {}, given) is given
    assert stated_network(Path("m.pt"), {"init_features": 4, "growth_rate": 2, "block_config": [1, 2]}, given) is given
    other = stated_network(Path("m.pt"), {"growth_rate": 4, "block_config": [1, 1, 1]}, given)
    like = DenseNet(3, 1, 2, init_features=4, growth_rate=4, block_config=(1, 1, 1))
    assert {n: t.shape for n, t in other.state_dict().items()} == {n: t.shape for n, t in like.state_dict().items()}


INFERENCE = FOLDER / "inference.json"
CODE = "preprocessing: {_target_: Compose, transforms: [{_target_: Lambdad, keys: image, func: '$lambda v: v'}]}\n"


@pytest.mark.parametrize(
    ("overlay", "given", "reason"),
    [
        ("", {"grid_shape": [121, 145, 121]}, r"--grid_shape is \[121, 145, 121\], but the card of"),
        ("", {"init_features": 16}, "--init_features is 16, but the card of .* says 4"),
        (CODE, {}, "with code that cannot be compared"),
        ("", {"preprocessing#transforms#2#nonzero": True}, "with code that cannot be compared"),
        (OVERLAY.read_text(), {}, "was preprocessed in another way|were preprocessed in another way"),
    ],
)
def test_what_contradicts_the_card_of_a_classifier_is_refused(overlay, given, reason, tmp_path):
    card = {"kind": "classifier", "class_names": ["a", "b"], "validation": {"val_threshold": 0.5}}
    card |= {"network": {"init_features": 4}, "contract": {"grid": PHANTOM}, "preprocessing_steps": PLAIN}
    save_weights(tmp_path / "model.pt", DenseNetEncoder(1, 4, 2, (1, 1)), card)
    (tmp_path / "mine.yaml").write_text(overlay)
    files = [INFERENCE, *([tmp_path / "mine.yaml"] if overlay else [])]
    with pytest.raises(ValueError, match=reason):
        stated_by_weights("inference", files, {"model": tmp_path / "model.pt"}, given)
    same = {"grid_shape": [40, 48, 40], "init_features": 4}
    assert stated_by_weights("inference", [INFERENCE], {"model": tmp_path / "model.pt"}, same)
