"""The phantom: its grids, its people, its files."""

import json
import logging

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from monai.data import load_decathlon_datalist

from bundle.phantom import cohort, fields, model, tables
from bundle.phantom.cohort import TASKS, VOLUMES, draw_factors, make_phantom, reference_grid, regional_volumes, render

NAMES = list(tables.REGIONS)
REFERENCE = [[-1.5, 0, 0, 90], [0, 1.5, 0, -126], [0, 0, 1.5, -72], [0, 0, 0, 1]]
SMALL = {"resolution": 9.0, "n_pretraining": 16, "n_per_task": 8, "progress": False}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom")
    return folder, make_phantom(folder, **SMALL, workers=2)


# Grids and anatomy


def test_the_reference_grid_is_spm_and_cat12s():
    shape, affine = reference_grid(1.5)
    assert shape == (121, 145, 121)
    assert np.array_equal(affine, REFERENCE)


def test_a_coarse_grid_is_centred_on_the_same_box():
    shape, affine = reference_grid(4.5)
    assert shape == (40, 48, 40)
    centre = affine @ [*(np.array(shape) - 1) / 2, 1]
    assert np.allclose(centre[:3], [0, -18, 18])


def test_an_impossible_resolution_is_refused():
    with pytest.raises(ValueError, match=r"0\.2 mm; expected 1 to 12 mm"):
        reference_grid(0.2)


@pytest.mark.parametrize("resolution", [1.5, 3.0, 4.5])
def test_the_template_keeps_its_1008_ml(resolution):
    held = model.template(resolution).sum(dtype=float) * resolution**3 / 1000
    assert held == pytest.approx(1008, rel=0.002)


def test_the_template_is_where_the_brain_is():
    x, y, z = np.linalg.inv(reference_grid(4.5)[1])[:3] @ [27, -22, -14, 1]  # right hippocampus
    assert model.template(4.5)[round(x), round(y), round(z)] > 0.4


def test_regions_share_out_every_voxel_and_lie_on_their_side():
    weights = model.region_weights(4.5)
    assert np.allclose(weights.sum(0), 1, atol=1e-5)
    assert weights.min() > -1e-5
    x = fields.axes(4.5)[0]
    centres = np.einsum("rxyz,x->r", weights, x)
    assert (centres[: len(NAMES)] < 0).all()
    assert (centres[len(NAMES) : -1] > 0).all()


def test_waves_and_their_slopes_follow_the_formula():
    coefficients = np.zeros((4, 4, 4))
    coefficients[1, 2, 3] = 1
    x, y, z = np.ix_(*fields.axes(9.0))
    k = [np.pi * n / mm for n, mm in zip((1, 2, 3), (181.5, 217.5, 181.5), strict=True)]
    a, b, c = k[0] * (x + 90.75), k[1] * (y + 126.75), k[2] * (z + 72.75)
    assert np.allclose(fields.waves(coefficients, 9.0), np.cos(a) * np.cos(b) * np.cos(c), atol=1e-5)
    slopes = -k[1] * np.cos(a) * np.sin(b) * np.cos(c)
    assert np.allclose(fields.waves(coefficients, 9.0, slope_along=1), slopes, atol=1e-6)


# The same person, always


def test_a_subject_does_not_depend_on_how_many_are_drawn():
    for name in tables.COHORTS:
        few, many = draw_factors(name, 9, seed=3), draw_factors(name, 30, seed=3)
        pd.testing.assert_frame_equal(few, many.head(9), check_exact=False, rtol=1e-12)


def test_another_seed_gives_other_people():
    one, other = draw_factors("bipolar", 8, seed=0), draw_factors("bipolar", 8, seed=1)
    assert not np.isclose(one["brain_age"], other["brain_age"]).any()


def test_an_unknown_cohort_is_refused():
    with pytest.raises(ValueError, match="no cohort 'autism'; choose one of"):
        draw_factors("autism", 2)


def test_rendered_volumes_are_the_drawn_ones():
    for person in draw_factors("alzheimer", 6, seed=2).to_dict("records"):
        grey = render(person, with_site=False) * model.TIV_REFERENCE / person["tiv"]
        drawn = np.array([person[name] for name in VOLUMES])
        assert np.allclose(regional_volumes(grey, 4.5), drawn, atol=0.003)
        assert grey.sum() / model.template(4.5).sum() == pytest.approx(person["total"], abs=0.001)


@pytest.mark.long
@pytest.mark.parametrize("resolution", [3.0, 1.5])
def test_a_subject_is_the_same_at_another_resolution(resolution):
    for person in draw_factors("schizophrenia", 2, seed=2).to_dict("records"):
        coarse = regional_volumes(render(person, with_site=False), 4.5)
        fine = regional_volumes(render(person, with_site=False, resolution=resolution), resolution)
        assert np.allclose(fine, coarse, atol=0.02)  # regions scatter by 0.05 to 0.12
        assert fine @ model.shares() == pytest.approx(coarse @ model.shares(), abs=0.005)


def test_full_resolution_has_the_reference_shape_and_a_sane_range():
    volume = render(draw_factors("bipolar", 1).to_dict("records")[0], resolution=1.5)
    assert volume.shape == (121, 145, 121)
    assert volume.dtype == np.float32
    assert 0 <= volume.min() < 0.8 < volume.max() < 2


def test_a_site_marks_its_images_and_only_the_seed_changes_the_mark():
    person = draw_factors("pretraining", 1).to_dict("records")[0]
    here, again = render(person), render(person)
    moved = render({**person, "site": "pretraining-99"})
    assert np.array_equal(here, again)
    assert not np.allclose(here, moved, atol=0.05)
    assert fields.site_effect("x", 0).gain != fields.site_effect("x", 1).gain


# Files


def test_files_are_where_the_contract_says(small):
    folder, summary = small
    assert summary == json.loads((folder / "phantom.json").read_text())
    assert "phantom" in summary["warning"]
    assert set(summary["best_auc"]) == set(TASKS)
    for name, n in {"pretraining": 16, **dict.fromkeys(TASKS, 8)}.items():
        people = pd.read_csv(folder / name / "participants.tsv", sep="\t")
        columns = ["participant_id", "session_id", "site", "age", "sex", "tiv", "diagnosis"]
        assert list(people.columns) == columns
        assert len(people) == n
        factors = pd.read_csv(folder / name / "factors.tsv", sep="\t")
        assert {"brain_age", "severity", "global_factor", "texture_seed", *VOLUMES} <= set(factors.columns)
    assert not list(folder.rglob("*part-*"))


def test_datalists_are_valid(small):
    folder, _ = small
    for name in ("pretraining", *TASKS):
        seen = set()
        for section in ("training", "validation", "test"):
            raw = json.loads((folder / f"{name}.json").read_text())[section]
            items = load_decathlon_datalist(folder / f"{name}.json", True, section) if raw else []
            for item in items:
                keys = {"image", "participant_id", "session_id", "site", "age", "sex", "tiv", "label"}
                assert set(item) == keys
                assert nib.load(item["image"]).shape == reference_grid(9.0)[0]
                assert item["label"] in ((None,) if name == "pretraining" else (0, 1))
            people = {item["participant_id"] for item in items}
            assert not people & seen
            seen |= people


def test_images_are_compact_and_equal_the_rendered_ones(small):
    folder, _ = small
    person = draw_factors("bipolar", 8).to_dict("records")[3]
    image = nib.load(folder / "bipolar" / f"{person['participant_id']}_gm.nii.gz")
    assert image.get_data_dtype() == np.uint8
    assert np.array_equal(image.affine, reference_grid(9.0)[1])
    assert np.allclose(image.get_fdata(), render(person, resolution=9.0), atol=0.5 / 128 + 1e-6)


def test_participants_are_unique_over_the_whole_phantom():
    ids = pd.concat([draw_factors(name, 50)["participant_id"] for name in tables.COHORTS])
    assert ids.is_unique


def test_pretraining_is_split_at_random_over_all_sites():
    people = draw_factors("pretraining", 1500)
    sections = people.groupby("section").size() / len(people)
    assert sections["training"] == pytest.approx(0.87, abs=0.02)
    assert people["site"].nunique() >= 20
    assert people[people["section"] == "validation"]["site"].nunique() >= 20
    assert people["label"].isna().all()


@pytest.mark.parametrize("task", TASKS)
def test_tasks_test_on_unseen_sites_with_balanced_labels(task):
    people = draw_factors(task, 400)
    train, test = (people[people["section"] == s] for s in ("training", "test"))
    assert not set(train["site"]) & set(test["site"])
    assert not set(people["site"]) & set(draw_factors("pretraining", 100)["site"])
    assert len(train) / len(people) == pytest.approx(0.6, abs=0.05)
    assert (people.groupby("site")["label"].mean() == 0.5).all()


def test_the_number_of_workers_changes_nothing(small, tmp_path):
    folder, _ = small
    make_phantom(tmp_path, **SMALL, workers=1)
    for path in folder.rglob("*.*"):
        assert path.read_bytes() == (tmp_path / path.relative_to(folder)).read_bytes(), path


def test_a_complete_phantom_is_reused(small, caplog):
    folder, summary = small
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.nii.gz")}
    with caplog.at_level(logging.INFO, logger="bundle.phantom"):
        assert make_phantom(folder, **SMALL) == summary
    assert "Reusing the phantom" in caplog.text
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*.nii.gz")}


def test_a_phantom_with_other_settings_is_refused(small):
    folder, _ = small
    with pytest.raises(ValueError, match=r"'seed': 0.*'seed': 7.*choose another output folder"):
        make_phantom(folder, **SMALL, seed=7)


@pytest.mark.long
def test_an_interrupted_phantom_is_made_again(tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cohort, "write_tables", killed)
        with pytest.raises(KeyboardInterrupt):
            make_phantom(tmp_path, **SMALL)
    assert not (tmp_path / "phantom.json").exists()
    make_phantom(tmp_path, **SMALL)
    lost = tmp_path / "bipolar" / "sub-bd0002_gm.nii.gz"
    lost.unlink()
    make_phantom(tmp_path, **SMALL)
    assert lost.exists()


def test_a_phantom_is_called_complete_once_its_images_are_on_the_disk(tmp_path, monkeypatch):
    there = []
    monkeypatch.setattr(cohort, "flush_all", lambda: there.append({p.name for p in tmp_path.rglob("*.*")}))
    summary = make_phantom(tmp_path, **SMALL)
    (flushed,) = there
    assert sum(name.endswith(".nii.gz") for name in flushed) == 16 + 3 * 8
    assert "phantom.json" not in flushed
    assert json.loads((tmp_path / "phantom.json").read_text()) == summary


def test_too_few_subjects_are_refused(tmp_path):
    with pytest.raises(ValueError, match="n_per_task is 2; expected 8 to 99999"):
        make_phantom(tmp_path, **{**SMALL, "n_per_task": 2})
