"""The phantom's second modality: what is drawn, what the maps hold, what is common with the first, and the files."""

import hashlib
import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from bundle.cli.main import main
from bundle.phantom import fields, tracts
from bundle.phantom.anisotropy import (
    anisotropy_template,
    disease_shift,
    draw_tracts,
    lacking,
    render_anisotropy,
    tract_means,
    tract_weights,
)
from bundle.phantom.cohort import TASKS, VOLUMES, draw_factors, make_phantom
from bundle.phantom.second import make_second
from bundle.phantom.tracts import BILATERAL, PARTS, TRACTS, age_curve

SMALL = {"resolution": 9.0, "n_pretraining": 16, "n_per_task": 8, "progress": False, "workers": 2}


def drawn(cohort, n, seed=1):
    people = draw_factors(cohort, n, seed)
    return people, draw_tracts(cohort, people, seed)


def of_tract(table, name):
    """Both sides of a tract."""
    return table[[part for part in PARTS if part.removesuffix("_left").removesuffix("_right") == name]].mean(axis=1)


def with_tracts(cohort, n, seed=1):
    people, found = drawn(cohort, n, seed)
    return pd.concat([people, found.drop(columns=["participant_id", "session_id"])], axis=1).to_dict("records")


# What is drawn


def test_fa_rises_until_thirty_and_falls_at_the_stated_rates():
    ages = np.array([8.0, 20, 30, 40, 60, 80])
    curve = age_curve(ages)
    assert np.allclose(curve[3], 0)
    assert (curve[0] < curve[1]).all()
    assert (curve[1] < curve[2]).all()
    assert (np.diff(curve[3:], axis=0) < 0).all()
    late = np.linspace(45, 77, 200)
    rates = [*(tract.rate for tract in TRACTS.values()), tracts.REST_RATE]
    assert np.allclose(100 * np.polyfit(late, age_curve(late), 1)[0], rates, atol=0.002)


@pytest.mark.parametrize("task", TASKS)
def test_effects_of_disease_are_those_of_the_table(task):
    people, found = drawn(task, 3000)
    patient = people["label"].to_numpy() == 1
    years = np.c_[np.ones(len(people)), people["age"], people["age"] ** 2]
    number = TASKS.index(task)
    for name in BILATERAL:
        values = of_tract(found, name).to_numpy()
        weights = np.linalg.lstsq(years[~patient], values[~patient], rcond=None)[0]
        left = values - years @ weights  # ageing, as controls show it
        pooled = np.sqrt((left[patient].var(ddof=1) + left[~patient].var(ddof=1)) / 2)
        d = (left[patient].mean() - left[~patient].mean()) / pooled
        effects = TRACTS[name].effects if name in TRACTS else tracts.REST_EFFECTS
        assert d == pytest.approx(effects[number], abs=0.12), name
    assert (disease_shift(task) <= 0).all()


def test_one_factor_makes_up_the_stated_share_of_the_scatter():
    people, found = drawn("pretraining", 4000)
    parts = np.stack([of_tract(found, name) for name in BILATERAL], axis=1)
    left = parts - age_curve(people["brain_age"].to_numpy())
    correlation = np.corrcoef(left.T)[np.triu_indices(len(BILATERAL), 1)].mean()
    assert correlation == pytest.approx(tracts.GENERAL_SHARE, abs=0.03)
    assert 100 * left.std(axis=0) == pytest.approx(tracts.SCATTER, abs=0.3)
    male = people["sex"] == "M"
    assert found["general_factor"][male].mean() - found["general_factor"][~male].mean() == pytest.approx(0.2, abs=0.07)


def test_both_modalities_share_their_causes():
    people, found = drawn("pretraining", 4000)
    shared = np.corrcoef(found["general_factor"], people["global_factor"])[0, 1]
    assert shared == pytest.approx(tracts.SHARED_WITH_GREY, abs=0.04)
    beyond_age = people["brain_age"] - people["age"]
    radiation = (
        of_tract(found, "thalamic_radiation")
        - age_curve(people["age"].to_numpy())[:, BILATERAL.index("thalamic_radiation")]
    )
    old = people["age"] > 60
    assert np.corrcoef(beyond_age[old], radiation[old])[0, 1] < -0.15


def test_a_person_does_not_depend_on_how_many_are_drawn():
    few, many = drawn("bipolar", 8)[1], drawn("bipolar", 20)[1]
    pd.testing.assert_frame_equal(few, many.head(8), check_exact=False, rtol=1e-12)


def test_who_lacks_a_map_is_drawn_by_person_and_more_lack_it_at_a_larger_share():
    people = draw_factors("pretraining", 600)
    some, more = lacking(people, 0.1), lacking(people, 0.4)
    assert some.mean() == pytest.approx(0.1, abs=0.04)
    assert not (some & ~more).any()
    assert not lacking(people, 0.0).any()
    assert np.array_equal(lacking(people.iloc[:50], 0.4), more[:50])


# Images


def test_tracts_share_out_every_voxel_and_lie_in_white_matter():
    weights = tract_weights(4.5)
    assert weights.shape[0] == len(PARTS) == len({*PARTS, *VOLUMES}) - len(VOLUMES)
    assert np.allclose(weights.sum(0), 1, atol=1e-5)
    assert weights.min() > -1e-5
    white = fields.template_at(list(np.ix_(*fields.axes(4.5))), 4.5, "white")
    for name, held in zip(PARTS[:-1], (weights[:-1] * white).sum((1, 2, 3)), strict=True):
        assert held * 4.5**3 / 1000 > 0.5, name  # mL of white matter


def test_a_map_has_the_drawn_fa_in_every_tract_and_lies_between_0_and_1():
    for person in with_tracts("alzheimer", 4):
        volume = render_anisotropy(person)
        assert volume.min() >= 0
        assert 0.4 < volume.max() <= 1
        assert volume.dtype == np.float32
        clean = render_anisotropy(person, with_site=False)
        still = dict(person, **dict.fromkeys(PARTS, 1.0))
        change = clean - render_anisotropy(still, with_site=False)  # the same head with the template's FA
        white = anisotropy_template(4.5) - tracts.GREY_FA * fields.template_at(
            list(np.ix_(*fields.axes(4.5))), 4.5, "grey"
        )
        found = tract_means(change / np.maximum(white, 0.05), 4.5)
        assert np.abs(found - np.array([person[name] - 1 for name in PARTS])).max() < 0.03


def test_a_map_is_the_same_at_another_resolution_and_by_name_alone():
    person = with_tracts("schizophrenia", 1)[0]
    coarse, fine = render_anisotropy(person), render_anisotropy(person, resolution=3.0)
    assert fine.sum() * 3.0**3 == pytest.approx(coarse.sum() * 4.5**3, rel=0.01)
    assert np.array_equal(coarse, render_anisotropy(person))
    assert not np.allclose(coarse, render_anisotropy({**person, "site": "elsewhere"}), atol=0.02)


# Files


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom")
    make_phantom(folder, **SMALL)
    before = {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}
    make_second(folder, missing=0.3, progress=False, workers=2)
    return folder, before


def test_the_first_modality_stays_byte_for_byte(made):
    folder, before = made
    assert {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in before} == before
    assert len(list(folder.rglob("*_gm.nii.gz"))) == 16 + 3 * 8


def test_datalists_name_those_who_have_a_map_with_the_same_ages_and_sections(made):
    folder, _ = made
    for cohort in ("pretraining", *TASKS):
        first, second = (json.loads((folder / f"{cohort}{end}.json").read_text()) for end in ("", "_fa"))
        assert "phantom" in second["description"]
        for section in ("training", "validation", "test"):
            known = {item["participant_id"]: item for item in first[section]}
            for item in second[section]:
                assert (folder / item["image"]).name == f"{item['participant_id']}_fa.nii.gz"
                assert {**item, "image": ""} == {**known[item["participant_id"]], "image": ""}
        there = sum(len(second[s]) for s in ("training", "validation", "test"))
        assert 0 < there < sum(len(first[s]) for s in ("training", "validation", "test"))
        assert len(pd.read_csv(folder / cohort / "participants_fa.tsv", sep="\t")) == there
        assert set(PARTS) <= set(pd.read_csv(folder / cohort / "factors_fa.tsv", sep="\t").columns)
    volume = nib.load(next(folder.rglob("*_fa.nii.gz"))).get_fdata()
    assert 0 <= volume.min() < 0.3 < volume.max() <= 1


def test_a_complete_second_modality_is_reused_and_another_is_refused(made, caplog, tmp_path):
    folder, _ = made
    caplog.set_level("INFO")
    make_second(folder, missing=0.3, progress=False)
    assert "Reusing the FA maps" in caplog.text
    with pytest.raises(ValueError, match=r"holds FA maps made with .*'missing': 0.3.* but .*'missing': 0.1"):
        make_second(folder, missing=0.1, progress=False)
    with pytest.raises(ValueError, match="holds no phantom, whose people"):
        make_second(tmp_path, progress=False)
    with pytest.raises(ValueError, match="no modality 'md'; choose fa"):
        make_second(folder, "md", progress=False)
    with pytest.raises(ValueError, match="second map is 1; expected 0 to below 1"):
        make_second(folder, missing=1, progress=False)


def test_the_command_makes_both_and_refuses_what_cannot_be(tmp_path, capsys):
    command = ["phantom", "--output", str(tmp_path), "--resolution", "9", "--pretraining", "8", "--per-task", "8"]
    assert main([*command, "--second", "fa", "--dry-run"]) == 0
    assert "maps of FA of the same people" in capsys.readouterr().out
    assert main([*command, "--second-missing", "0.1"]) == 1
    assert "give --second fa, too" in capsys.readouterr().err
    assert main([*command, "--second", "md"]) == 2
    assert "--second is 'md', but fa, or null is expected" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert main([*command, "--second", "fa", "--second-missing", "0.2"]) == 0
    assert (tmp_path / "phantom_fa.json").is_file()
