"""What kind of maps a datalist holds, and which weights may see them."""

import json

import nibabel as nib
import numpy as np
import pytest
import torch

from bundle.cohort import modality_for_card, modality_of_datalist, require_modality
from bundle.cohort.table import read_cohort
from bundle.networks import save_weights
from bundle.scans.modality import MODALITIES
from bundle.scans.volumes import volume_fault

OWN = {"name": "thickness", "words": "map of cortical thickness", "quantity": "thickness", "unit": "mm"}


def datalist(folder, name, modality):
    stated = {} if modality is None else {"modality": modality}
    path = folder / f"{name}.json"
    path.write_text(json.dumps({**stated, "training": [], "validation": [], "test": []}))
    return path


def weights(folder, name, card):
    path = folder / f"{name}.pt"
    save_weights(path, torch.nn.Linear(1, 1), card)
    return path


def test_what_a_datalist_states(tmp_path):
    assert modality_of_datalist(datalist(tmp_path, "a", "reho")).name == "reho"
    assert modality_of_datalist(datalist(tmp_path, "b", None)).name == "gm"
    assert modality_of_datalist(tmp_path / "nowhere.json").name == "gm"
    assert modality_for_card(datalist(tmp_path, "c", OWN))["words"] == OWN["words"]
    assert modality_for_card(datalist(tmp_path, "d", "fa")) == "fa"
    with pytest.raises(ValueError, match="did you mean 'reho'"):
        modality_of_datalist(datalist(tmp_path, "e", "rheo"))


@pytest.mark.parametrize("place", ["modality", "contract"])
def test_maps_of_another_kind_than_the_weights_are_refused(tmp_path, place):
    stated = {"modality": "reho"} if place == "modality" else {"contract": {"modality": "reho"}}
    trained, plain = weights(tmp_path, "reho", stated), weights(tmp_path, "gm", {"kind": "encoder"})
    reho, grey = datalist(tmp_path, "a", "reho"), datalist(tmp_path, "b", None)
    require_modality(reho, trained)
    require_modality(grey, plain)
    require_modality([reho], "scratch")
    with pytest.raises(ValueError, match=r"holds grey-matter maps, but .* was trained on maps of regional homogeneity"):
        require_modality(grey, trained)
    with pytest.raises(ValueError, match="holds maps of regional homogeneity"):
        require_modality(reho, plain)


def test_an_overlay_of_another_kind_and_two_kinds_are_refused(tmp_path):
    reho, falff = datalist(tmp_path, "a", "reho"), datalist(tmp_path, "b", "falff")
    require_modality(reho, modality="reho")
    with pytest.raises(ValueError, match="but the option modality says fa"):
        require_modality(reho, modality="fa")
    with pytest.raises(ValueError, match="compare maps of one modality"):
        require_modality([reho, falff])


def test_a_card_that_states_something_else_is_refused(tmp_path):
    with pytest.raises(ValueError, match="states the modality 'x'"):
        require_modality(datalist(tmp_path, "a", "reho"), weights(tmp_path, "x", {"modality": "x"}))


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".npy"])
def test_values_beyond_a_modality_are_faults(tmp_path, ending):
    volume = np.random.default_rng(0).uniform(0, 0.4, (6, 6, 6)).astype(np.float32)
    volume[0, 0, 0] = 0
    table = tmp_path / "participants.tsv"
    table.write_text("participant_id\nsub-1\n")
    image = tmp_path / f"sub-1{ending}"

    def save(values):
        np.save(image, values) if ending == ".npy" else nib.save(nib.Nifti1Image(values, np.eye(4)), image)

    save(volume)
    (_,), problems = read_cohort(table, f"{{participant_id}}{ending}", expected_shape=None, modality=MODALITIES["reho"])
    assert problems == []
    save(100 * volume)
    _, (problem,) = read_cohort(table, f"{{participant_id}}{ending}", expected_shape=None, modality=MODALITIES["reho"])
    assert "the highest value of the image is" in problem.reason
    assert "expected 0.1 to 1" in problem.reason
    assert volume_fault(image) is None  # without a modality, values are not looked at
