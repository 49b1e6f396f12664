"""What a card may state of a preprocessing: steps that compute, and nothing that runs or reads."""

import copy
import json

import pytest
import torch

from bundle.cli.options import FOLDER, read_config
from bundle.networks import as_config, steps_of
from bundle.networks.cards import check_card, read_card
from bundle.networks.encoders import DenseNetEncoder
from bundle.networks.preprocessing import are_steps, require_preprocessing
from bundle.networks.weights import save_weights

SHIPPED = [read_config(FOLDER / name)["preprocessing"] for name in ("pretrain.yaml", "resolution_4mm.yaml")]
PLAIN = SHIPPED[0]["transforms"]


@pytest.mark.parametrize(
    "name", ["pretrain.yaml", "probe.yaml", "train.json", "resolution_4mm.yaml", "published_recipe.yaml"]
)
def test_every_shipped_preprocessing_goes_through_a_card_unchanged(name, tmp_path):
    written = read_config(FOLDER / name)["preprocessing"]
    save_weights(tmp_path / "x.pt", DenseNetEncoder(1, 8, 4, (1, 1)), {"preprocessing_steps": steps_of(written)})
    assert as_config(read_card(tmp_path / "x.pt")["preprocessing_steps"]) == written


@pytest.mark.parametrize(
    "step",
    [
        {"_target_": "os.system", "command": "true"},
        {"_target_": "SaveImaged", "keys": "image", "output_dir": "."},
        {"_target_": "LoadImaged", "keys": "image", "reader": "NumpyReader"},
        {"_target_": "Lambdad", "keys": "image", "func": "$print"},
        {"_target_": "Lambdad", "keys": "image", "func": {"_target_": "os.system", "_mode_": "callable"}},
        {"_target_": "Resized", "keys": "image", "spatial_size": "$[1, 2, 3]"},
        {"_target_": "Resized", "keys": "image", "spatial_size": ["$1", 2, 3]},
        {"_target_": "Resized", "keys": "image", "spatial_size": {"_target_": "os.getcwd"}},
        {"_target_": "Resized", "keys": "image", "_mode_": "callable"},
        {"_target_": "EnsureTyped", "keys": "image", "dtype": "$torch.load('x')"},
        {"_target_": "@network", "keys": "image"},
        {"_target_": ["os.system"]},
        "LoadImaged",
    ],
)
def test_a_step_that_could_run_or_read_anything_is_refused(step, tmp_path):
    assert not are_steps([*PLAIN, step])
    with pytest.raises(ValueError, match=r"has preprocessing_steps .* expected a list of known transforms"):
        check_card({"preprocessing_steps": [step]}, tmp_path / "card.json")


def test_what_a_card_cannot_state_is_left_out_and_said(caplog):
    own = copy.deepcopy(SHIPPED[0])
    own["transforms"].append({"_target_": "Lambdad", "keys": "image", "func": "$lambda x: x * 2"})
    assert steps_of(own) is None
    assert "give its overlay again" in caplog.text
    assert steps_of({"_target_": "mine.Compose", "more": 1}) is None


def test_another_preprocessing_is_refused_by_its_first_difference():
    one, other = (config["transforms"] for config in SHIPPED)
    require_preprocessing(one, json.loads(json.dumps(one)), "w.pt")
    require_preprocessing(None, one, "w.pt")
    require_preprocessing(one, None, "w.pt")
    with pytest.raises(ValueError, match=r"w\.pt was trained .*: step 4 was NormalizeIntensityd .*, and is Resized"):
        require_preprocessing(one, other, "w.pt")
    with pytest.raises(ValueError, match=r"step 5 was EnsureTyped .* and is nothing more"):
        require_preprocessing(one, one[:-1], "w.pt")


def test_steps_compute_what_the_config_computes(tmp_path):
    from monai.bundle import ConfigParser

    torch.save({}, tmp_path / "unused.pt")
    volume = torch.arange(2 * 3 * 4.0).reshape(1, 2, 3, 4)
    written, stated = SHIPPED[0], as_config(steps_of(SHIPPED[0]))
    both = [
        ConfigParser({"imports": ["$import torch"], "p": config}).get_parsed_content("p")
        for config in (written, stated)
    ]
    first, second = (chain({"image": volume}, start=2)["image"] for chain in both)
    assert torch.equal(first, second)
