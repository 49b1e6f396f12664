"""Kinds of maps: the table, modalities of one's own, what is measured of each, and what is refused."""

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from bundle.scans import Contract, relative_to_cerebellum
from bundle.scans.contract import PASS, REFUSE, WARN
from bundle.scans.grid import Grid, templates
from bundle.scans.limits import LIMITS, limits_of
from bundle.scans.measures import MEAN, correlation, measure, pattern
from bundle.scans.modality import GREY_MATTER, MODALITIES, NORMALISATIONS, modality_of, table_of_modalities
from bundle.scans.profile import profile
from bundle.scans.regions import REGIONS, region_weights, regional_values, regional_volumes
from tests.conftest import ROOT

GRID = Grid.of((30, 36, 30), [[-6, 0, 0, 87], [0, 6, 0, -123], [0, 0, 6, -69], [0, 0, 0, 1]])
OWN = {"name": "thickness", "words": "map of cortical thickness", "quantity": "thickness", "unit": "mm"}
SEVERAL = {"name": "rest", "words": "map of ReHo and ALFF", "channels": ["reho", "alff"]}
REHO = MODALITIES["reho"]


def reho_like(seed):
    """Values such as those of regional homogeneity: grey matter, more at the back, with noise of each voxel."""
    known, random = templates(GRID), np.random.default_rng(seed)
    back = np.linspace(1.6, 0.4, GRID.shape[1], dtype=np.float32)[None, :, None]
    noise = random.normal(1, 0.1, GRID.shape)
    return (0.25 * known["grey matter"] * back * noise).clip(0, 1).astype(np.float32)


def save(path, volume):
    nib.save(nib.Nifti1Image(volume, GRID.matrix), path)
    return path


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reho")
    return [{"image": str(save(folder / f"{n}.nii.gz", reho_like(n)))} for n in range(24)]


@pytest.fixture(scope="module")
def card(cohort):
    return json.loads(json.dumps(profile(cohort, modality="reho")))


def test_every_modality_is_complete():
    for name, modality in MODALITIES.items():
        assert modality_of(name, "x") is modality
        assert modality.card == name
        assert modality.normalisation in NORMALISATIONS
        assert modality.words[:1] not in "aeiouAEIOU", "pages write 'a' before it"
        assert modality.plural != modality.words
        assert modality.source
        assert modality.grids
        assert modality.lowest[0] < modality.lowest[1] <= max(modality.highest[1], modality.lowest[1])
        for limit in limits_of(modality).values():
            assert limit.refuse[0] <= limit.warn[0]
            assert limit.refuse[1] >= limit.warn[1]


def test_what_states_nothing_is_grey_matter():
    assert modality_of(None, "x") is GREY_MATTER
    assert limits_of(GREY_MATTER) is LIMITS


def test_ones_own_modality_survives_a_card():
    own = modality_of({**OWN, "lowest": [None, 0.1], "highest": [1.0, 8.0], "tissue": "grey matter"}, "x")
    assert own.lowest == (-np.inf, 0.1)
    stated = json.loads(json.dumps(own.card, allow_nan=False))
    assert modality_of(stated, "y") == own
    assert own.plural == "maps of cortical thickness"


def test_ones_own_channels_survive_a_card():
    own = modality_of(SEVERAL, "x")
    assert (own.quantity, own.grids) == (REHO.quantity, REHO.grids)
    assert own.option == own.overlay == "FILE"
    assert modality_of(json.loads(json.dumps(own.card, allow_nan=False)), "y") == own


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ("rheo", "did you mean 'reho'"),
        ("custom", "configs/modality_custom.yaml"),
        (3, "states the modality '3'"),
        ({**OWN, "colour": "red"}, "an entry 'colour'"),
        ({"name": "x", "words": "map"}, "without quantity"),
        ({**OWN, "name": "gm"}, "which the table has"),
        ({**OWN, "highest": [1]}, "two numbers, or null"),
        ({**OWN, "highest": [float("nan"), 1]}, "two numbers, or null"),
        ({**OWN, "is_amount": "yes"}, "true or false"),
        ({**OWN, "tissue": "gray matter"}, "did you mean 'grey matter'"),
        ({**OWN, "words": "x" * 500}, "at most 120 characters"),
        ({**OWN, "words": "map\nof"}, "at most 120 characters"),
        ({**SEVERAL, "unit": "mm"}, "with channels and 'unit'"),
        ({**SEVERAL, "words": ""}, "with channels and without words"),
        ({**SEVERAL, "channels": []}, "without channels"),
        ({**SEVERAL, "channels": "reho"}, "at least two modalities"),
        ({**SEVERAL, "channels": ["reho"]}, "at least two modalities"),
        ({**SEVERAL, "channels": ["reho", "alf"]}, "did you mean 'alff'"),
        ({**SEVERAL, "channels": ["reho", "gm_wm"]}, "states the channel 'gm_wm'"),
        ({**SEVERAL, "channels": ["reho", ["alff"]]}, "states the channel"),
        ({**SEVERAL, "channels": ["reho", "reho"]}, "each may be there once"),
        ({**SEVERAL, "name": "gm"}, "which the table has"),
        ({**SEVERAL, "name": 3}, "at most 120 characters"),
    ],
)
def test_what_is_not_understood_is_refused(stated, said):
    with pytest.raises(ValueError, match=said):
        modality_of(stated, "The datalist x")


def test_the_page_has_the_table_as_it_is_printed():
    page = (ROOT / "docs/howto/modalities.md").read_text(encoding="utf-8")
    assert table_of_modalities() in page


def test_the_example_of_ones_own_is_understood():
    from bundle.cli.options import read_config

    own = modality_of(read_config(ROOT / "configs/modality_custom.yaml")["modality"], "x")
    assert own.name == "my_map"
    assert "highest value" in limits_of(own)
    several = read_config(ROOT / "configs/modality_custom_channels.yaml")
    assert [one.name for one in modality_of(several["modality"], "x").each] == ["reho", "alff"]
    assert several["preprocessing"]["transforms"][0]["channels"] == several["modality"]["channels"]


def test_overlays_normalise_as_the_table_says():
    from bundle.cli.options import read_config

    for name, modality in MODALITIES.items():
        path = ROOT / f"configs/modality_{name}.yaml"
        if name == "gm":
            assert not path.exists()
            continue
        config = read_config(path)
        assert config["modality"] == name
        written = path.read_text(encoding="utf-8")
        assert ("nonzero: true" in written) == (modality.normalisation == "inside")
        assert ("relative_to_cerebellum" in written) == (modality.normalisation == "cerebellum")


def test_a_map_of_its_kind_passes(cohort, card):
    seen = Contract(card).examine(cohort[0]["image"])
    assert seen.verdict == PASS, seen.reasons
    assert {check.name for check in seen.checks} >= {MEAN, "likeness to the template", "left and right"}
    assert Contract(card).modality == REHO


@pytest.mark.parametrize("kind", ["upside down", "another map", "front to back"])
def test_another_kind_of_map_is_refused_by_where_it_is_high(card, tmp_path, kind):
    volume = reho_like(99)
    other = {
        "upside down": volume[:, :, ::-1],
        "another map": 0.3
        * templates(GRID)["grey matter"]
        * np.linspace(0.4, 1.6, 36, dtype=np.float32)[None, :, None],
        "front to back": volume[:, ::-1],
    }[kind]
    seen = Contract(card).examine(save(tmp_path / "x.nii.gz", np.ascontiguousarray(other, np.float32)))
    refused = [check.name for check in seen.checks if check.verdict == REFUSE]
    assert MEAN in refused, [str(check) for check in seen.checks]


def test_values_of_another_unit_are_refused(card, tmp_path):
    seen = Contract(card).examine(save(tmp_path / "x.nii.gz", 100 * reho_like(99)))
    assert seen.verdict == REFUSE
    assert "Kendall's W" in seen.reasons[0]


def test_few_training_maps_only_warn(cohort, tmp_path):
    few = profile(cohort[:5], modality="reho")
    seen = Contract(few).examine(save(tmp_path / "x.nii.gz", np.ascontiguousarray(reho_like(99)[:, ::-1])))
    assert {check.verdict for check in seen.checks if check.name == MEAN} == {WARN}


def test_a_damaged_mean_is_said(card, cohort):
    short = {**card, "pattern": card["pattern"][:-1]}
    seen = Contract(short).examine(cohort[0]["image"])
    assert any("does not fit its grid" in check.reason for check in seen.checks)
    with pytest.raises(ValueError, match="pattern"):
        Contract({**card, "pattern": ["x"]})


def test_a_contract_of_weights_keeps_their_modality(card):
    with pytest.raises(ValueError, match="maps of regional homogeneity"):
        Contract(card, "gm")


def test_likeness_to_the_mean_against_a_loop(cohort, card):
    """Coarse cells by hand: means over blocks inside the brain, and Pearson's correlation with their mean."""
    from bundle.scans.measures import CELLS, INSIDE

    def edges(size, parts):
        return [(i * size // parts, -(-(i + 1) * size // parts)) for i in range(parts)]

    def by_hand(volume):
        cells = np.zeros(CELLS)
        for place in np.ndindex(CELLS):
            window = tuple(slice(*edges(n, k)[i]) for n, k, i in zip(volume.shape, CELLS, place, strict=True))
            cells[place] = volume[window].mean()
        return cells

    inside = by_hand(templates(GRID)["brain"].astype(float)) > INSIDE
    volume = reho_like(50)
    cells = by_hand(volume)[inside]
    assert pattern(volume, GRID) == pytest.approx((cells - cells.mean()) / cells.std(), abs=1e-4)
    rows = [by_hand(nib.load(record["image"]).get_fdata(dtype=np.float32))[inside] for record in cohort]
    mean = np.mean([(row - row.mean()) / row.std() for row in rows], axis=0)
    assert correlation(np.array(card["pattern"]), mean) == pytest.approx(1, abs=1e-4)


def test_measures_against_the_definition():
    volume, brain = reho_like(1), templates(GRID)["brain"]
    volume[0, 0, :5] = -0.005
    found = measure(volume, GRID, REHO)
    assert found["highest value"] == pytest.approx(volume.max())
    assert found["outside the brain"] == pytest.approx(
        100 * np.abs(volume)[brain <= 0].sum() / np.abs(volume).sum(), rel=1e-4
    )
    assert list(found) == list(limits_of(REHO))


def test_regions_are_means_or_sums():
    volume = reho_like(2)
    weights = region_weights(GRID, REHO.tissue).toarray()
    expected = [(row * volume.ravel()).sum() / row.sum() for row in weights]
    assert regional_values(volume, GRID, REHO) == pytest.approx(expected, rel=1e-5)
    assert (regional_values(volume, GRID, GREY_MATTER) == regional_volumes(volume, GRID)).all()
    white = MODALITIES["wm"]
    summed = region_weights(GRID, "white matter") @ volume.ravel().astype(float) * GRID.voxel_ml
    assert regional_values(volume, GRID, white) == pytest.approx(summed)
    away = replace(GRID, affine=((-6.0, 0, 0, 87), (0, 6.0, 0, 0.0), (0, 0, 6.0, -69), (0, 0, 0, 1.0)))
    assert np.isnan(regional_values(volume, away, REHO)).any()  # a region that the grid does not reach


def test_relative_to_the_cerebellum():
    volume = MetaTensor(torch.as_tensor(3 + reho_like(1))[None], affine=torch.as_tensor(GRID.matrix))
    found = relative_to_cerebellum(volume)
    rows = [n for n, name in enumerate(REGIONS) if name in ("cerebellum_left", "cerebellum_right")]
    weights = region_weights(GRID).toarray()[rows].sum(0)
    assert (found.numpy().ravel() * weights).sum() / weights.sum() == pytest.approx(1, abs=1e-5)
    assert found.affine.tolist() == volume.affine.tolist()
    with pytest.raises(ValueError, match="does not reach it"):
        relative_to_cerebellum(MetaTensor(torch.ones(1, 9, 9, 9)))
    with pytest.raises(ValueError, match="its mean there is"):
        relative_to_cerebellum(-volume)
