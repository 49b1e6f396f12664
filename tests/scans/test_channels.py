"""Scans of several files: loaded as channels, measured and examined each by its own modality."""

import json

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose, EnsureTyped, NormalizeIntensityd

from bundle.cohort import require_modality
from bundle.networks.preprocessing import are_steps
from bundle.scans import Contract, LoadChannelsd, VolumeError, profile
from bundle.scans.contract import PASS, REFUSE, WARN
from bundle.scans.grid import Grid, templates
from bundle.scans.modality import MODALITIES
from bundle.scans.regions import regional_values

GRID = Grid.of((30, 36, 30), [[-6, 0, 0, 87], [0, 6, 0, -123], [0, 0, 6, -69], [0, 0, 0, 1]])
GM_WM = MODALITIES["gm_wm"]


def tissue(seed, name):
    noise = np.random.default_rng(seed).normal(0.75, 0.05, GRID.shape)
    return (templates(GRID)[name] * noise).clip(0, None).astype(np.float32)


def save(path, volume, affine=GRID.matrix):
    nib.save(nib.Nifti1Image(volume, affine), path)
    return str(path)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """24 scans, of which two have no white matter."""
    folder = tmp_path_factory.mktemp("gm_wm")
    records = []
    for n in range(24):
        image = save(folder / f"mwp1_{n}.nii.gz", tissue(n, "grey matter"))
        white = save(folder / f"mwp2_{n}.nii.gz", tissue(100 + n, "white matter"))
        records.append({"image": image, "channels": ["" if n in (3, 7) else white]})
    return records


@pytest.fixture(scope="module")
def card(cohort):
    return json.loads(json.dumps(profile(cohort, modality="gm_wm"), allow_nan=False))


def both(record):
    return record["image"], record["channels"]


def test_channels_against_a_loop(cohort):
    """Each file by itself, normalised by itself."""
    steps = [NormalizeIntensityd("image", channel_wise=True), EnsureTyped("image", track_meta=False)]
    found = Compose([LoadChannelsd("image", ["gm", "wm"]), *steps])(dict(cohort[0]))["image"]
    assert found.shape == (2, *GRID.shape)
    for place, path in enumerate((cohort[0]["image"], *cohort[0]["channels"])):
        values = nib.load(path).get_fdata()
        assert np.abs(found[place].numpy() - (values - values.mean()) / values.std()).max() < 1e-4
    loaded = LoadChannelsd("image", ["gm", "wm"])(dict(cohort[0]))["image"]
    assert np.allclose(loaded.affine, GRID.matrix)


def test_a_missing_channel_is_zero_or_refused(cohort):
    zero = LoadChannelsd("image", ["gm", "wm"], missing="zero")
    found = Compose([zero, NormalizeIntensityd("image", channel_wise=True)])(dict(cohort[3]))["image"]
    assert (float(found[1].abs().max()), round(float(found[0].std()), 2)) == (0.0, 1.0)
    with pytest.raises(VolumeError, match=r"mwp1_3.nii.gz has no white-matter map"):
        LoadChannelsd("image", ["gm", "wm"])(dict(cohort[3]))


def test_arrays_and_images_of_other_axes_are_channels_too(tmp_path):
    volume = np.random.default_rng(0).random((5, 6, 7)).astype(np.float32)
    first = save(tmp_path / "a.nii", volume, np.diag([2, 2, 2, 1]))
    save(tmp_path / "b.nii.gz", 2 * volume[..., None], np.diag([2, 2, 2, 1]))
    np.save(tmp_path / "c.npy", 3 * volume[None, None])
    load = LoadChannelsd("image", ["gm", "wm", "fa"])
    found = load({"image": first, "channels": [str(tmp_path / "b.nii.gz"), str(tmp_path / "c.npy")]})["image"]
    for place, factor in enumerate((1, 2, 3)):
        assert torch.equal(found[place].as_tensor(), torch.as_tensor(factor * volume))


@pytest.mark.parametrize("kind", ["affine", "shape"])
def test_channels_of_different_grids_are_refused(tmp_path, kind):
    volume = np.random.default_rng(0).random((5, 6, 7)).astype(np.float32)
    first = save(tmp_path / "a.nii", volume, np.eye(4))
    affine, size = (np.diag([-1, 1, 1, 1]), 7) if kind == "affine" else (np.eye(4), 6)
    other = save(tmp_path / "b.nii", volume[..., :size], affine)
    with pytest.raises(VolumeError, match=r"different grids: .*a\.nii has 5×6×7 .* but .*b\.nii has 5×6×"):
        LoadChannelsd("image", ["gm", "wm"])({"image": first, "channels": [other]})


def test_what_is_not_understood_is_refused(cohort):
    with pytest.raises(ValueError, match="did you mean 'zero'"):
        LoadChannelsd("image", ["gm", "wm"], missing="zeros")
    with pytest.raises(ValueError, match="No modality is named 'gw'"):
        LoadChannelsd("image", ["gm", "gw"])
    with pytest.raises(VolumeError, match=r"has 1 channel.* expected 2"):
        LoadChannelsd("image", ["gm", "wm"])({"image": cohort[0]["image"]})


def test_a_card_may_state_it_with_plain_values():
    step = {"_target_": "bundle.scans.LoadChannelsd", "keys": "image", "channels": ["gm", "wm"], "missing": "zero"}
    assert are_steps([step])
    assert not are_steps([{**step, "channels": ["$import os", "wm"]}])


def test_the_profile_has_each_channel_as_its_own_modality(cohort, card):
    first = profile([{"image": record["image"]} for record in cohort])
    there = [{"image": record["channels"][0]} for record in cohort if record["channels"][0]]
    assert {name: card[name] for name in first} == json.loads(json.dumps(first))
    assert card["channels"] == json.loads(json.dumps([{**profile(there, modality="wm"), "missing": 2}]))
    assert card["modality"] == "gm_wm"


def test_each_channel_is_examined_by_its_own_limits(cohort, card):
    seen = Contract(card).examine(*both(cohort[0]))
    assert seen.verdict in (PASS, WARN), seen.reasons  # values of so few scans differ in their last digits
    names = {check.name for check in seen.checks}
    assert names >= {"grey-matter map: grey matter", "white-matter map: likeness to white matter"}
    assert np.array_equal(seen.others[0], nib.load(cohort[0]["channels"][0]).get_fdata(dtype=np.float32))


def test_exchanged_channels_are_refused(cohort, card):
    seen = Contract(card).examine(cohort[0]["channels"][0], [cohort[0]["image"]])
    refused = {check.name for check in seen.checks if check.verdict == REFUSE}
    assert "grey-matter map: likeness to grey matter" in refused
    assert "white-matter map: likeness to the training maps" in refused


def test_a_missing_channel_is_judged_by_the_training(cohort, card):
    (check,) = [c for c in Contract(card).examine(*both(cohort[3])).checks if c.name == "white-matter map: file"]
    assert (check.verdict, "as of 2 training scan(s)" in check.reason) == (WARN, True)
    complete = {**card, "channels": [{**card["channels"][0], "missing": 0}]}
    seen = Contract(complete).examine(*both(cohort[3]))
    assert (seen.verdict, seen.others) == (REFUSE, (None,))
    assert "all training scans had one" in seen.reasons[0]


def test_channels_that_lie_elsewhere_are_refused(cohort, card, tmp_path):
    moved = GRID.matrix.copy()
    moved[0, 3] += 6
    seen = Contract(card).examine(cohort[0]["image"], [save(tmp_path / "x.nii.gz", tissue(1, "white matter"), moved)])
    (check,) = [check for check in seen.checks if check.name == "white-matter map: grid"]
    assert check.verdict == REFUSE


@pytest.mark.parametrize("damage", [[], "x", [{"modality": "gm", "missing": 0}], [{"modality": "wm"}]])
def test_a_damaged_profile_is_refused(card, damage):
    with pytest.raises(ValueError, match=r"damaged .*channels"):
        Contract({**card, "channels": damage})


def test_without_a_model_each_is_compared_with_anatomy(cohort):
    contract = Contract(None, "gm_wm")
    assert [own.modality.name for own in contract.channels] == ["gm", "wm"]
    assert contract.examine(*both(cohort[3])).others == (None,)


def test_no_modality_holds_itself():
    """MONAI's DataLoader walks through all attributes of a dataset, to any depth."""
    for modality in MODALITIES.values():
        assert modality.each[0].plural
        assert not any(isinstance(value, tuple) and modality in value for value in vars(modality).values())


def test_regions_are_of_the_first_channel():
    volume = tissue(1, "grey matter")
    assert np.array_equal(regional_values(volume, GRID, GM_WM), regional_values(volume, GRID, MODALITIES["gm"]))


def test_what_would_read_the_first_file_alone_is_refused(tmp_path):
    for name in ("gm_wm", "gm"):
        (tmp_path / f"{name}.json").write_text(json.dumps({"modality": name, "training": []}))
    loading, plain = Compose([LoadChannelsd("image", ["gm", "wm"])]), Compose([NormalizeIntensityd("image")])
    require_modality(tmp_path / "gm_wm.json", preprocessing=loading)
    require_modality(tmp_path / "gm.json", preprocessing=plain)
    with pytest.raises(ValueError, match="loads the first file alone"):
        require_modality(tmp_path / "gm_wm.json", preprocessing=plain)
    with pytest.raises(ValueError, match=r"loads \(wm, gm\)"):
        require_modality(tmp_path / "gm_wm.json", preprocessing=Compose([LoadChannelsd("image", ["wm", "gm"])]))
    with pytest.raises(ValueError, match="one file each, but the preprocessing loads gm, wm"):
        require_modality(tmp_path / "gm.json", preprocessing=loading)
