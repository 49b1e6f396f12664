"""Names that give the diagnosis away, and names that do not."""

import numpy as np
import pytest

from bundle.cohort.telltales import telltales

LABELS = np.tile([0, 1], 100)
IDS = [f"sub-{number:04d}" for number in np.random.default_rng(0).permutation(9000)[:200]]


def names(paths=None, ids=IDS):
    return telltales(paths or [f"mri/mwp1{name}_T1w.nii" for name in ids], ids, LABELS.tolist())


def test_plain_names_say_nothing():
    found, tried = names()
    assert found == []
    assert tried > 10


def test_chance_is_corrected_for():
    said = 0
    for seed in range(40):
        labels = np.random.default_rng(seed).permutation(LABELS)
        said += bool(telltales([f"{name}.nii" for name in IDS], IDS, labels.tolist())[0])
    assert said <= 2


@pytest.mark.parametrize(
    ("path", "feature"),
    [
        ("{kind}/{name}.nii", "the folder 'patients'"),
        ("mri/{name}_{kind}.nii", "'patients' in the path"),
        ("mri/{name}.{ending}", "'npy' in the path"),
    ],
)
def test_a_telling_part_of_the_path_is_named(path, feature):
    words = [{"kind": ("controls", "patients")[y], "ending": ("nii", "npy")[y]} for y in LABELS]
    found, _ = names([path.format(name=name, **word) for name, word in zip(IDS, words, strict=True)])
    opposite = feature.replace("patients", "controls").replace("npy", "nii")
    assert found[0].feature in (feature, opposite, "the length of the path")
    assert {feature, opposite} & {telltale.feature for telltale in found}
    assert found[0].association.auc == 1
    assert found[0].association.p < 1e-20


@pytest.mark.parametrize(
    ("ids", "feature"),
    [
        ([f"sub-{1 + 4 * y}{i:03d}" for i, y in enumerate(LABELS)], "begins with"),
        ([f"sub-{i + 100 * y:04d}" for i, y in zip(np.arange(200) // 2, LABELS, strict=True)], "number in the id"),
        ([f"sub-{'x' * (1 + y)}{i:03d}" for i, y in enumerate(LABELS)], "length of the id"),
        ([f"sub-{i:03d}" for i in range(200)], "last character"),
    ],
)
def test_telling_ids_are_named(ids, feature):
    found, _ = names(["mri/scan.nii"] * 200, ids)
    assert any(feature in telltale.feature for telltale in found)
    assert found[0].association.auc > 0.9


def test_many_folders_that_tell_a_little_each_count_together():
    folders = [f"site{i // 20}" for i in range(200)]
    labels = [int(i // 20 < 5) for i in range(200)]
    found, _ = telltales([f"{folder}/scan.nii" for folder in folders], IDS, labels)
    assert found[0].feature == "folder 1 of the path"
    assert found[0].association.auc == 1
