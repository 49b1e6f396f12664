"""A cohort preprocessed once: equal to what it stands for, resumable, and never mixed."""

import json
import logging
import multiprocessing
import os
import shutil
import signal
import time
from collections import namedtuple

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.transforms import Compose, Lambdad, LoadImaged, NormalizeIntensityd, RandFlipd

from bundle.cli.main import main
from bundle.cli.options import read_config
from bundle.cli.run import recipe_of, value_of
from bundle.cohort import cache
from bundle.cohort.cache import fill_cache
from bundle.cohort.datalist import load_section, warning_of
from bundle.cohort.overlap import fingerprints, refuse_overlap
from bundle.cohort.packing import ReadStoredd
from bundle.cohort.participants import CohortError
from bundle.training.engines import ContrastivePrepareBatch
from tests.conftest import ROOT

PRETRAIN = [ROOT / "configs" / "pretrain.yaml"]
SMALL = ["--init_features", "8", "--growth_rate", "4", "--block_config", "[1, 1, 1, 1]", "--epochs", "2"]
SLOW = """# Overlay on pretrain.yaml: so slow that it can be killed half-way
preprocessing:
  _target_: Compose
  transforms:
    - {_target_: LoadImaged, keys: image, image_only: true}
    - {_target_: Lambdad, keys: image, func: "$lambda v: (__import__('time').sleep(0.03), v[None])[1]"}
"""


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture
def cohort(tmp_path):
    """A datalist of eight scans, two of them for validation."""
    return make_cohort(tmp_path / "cohort")


def make_cohort(folder, n=8, name="pretraining.json", first=0):
    folder.mkdir(exist_ok=True)
    items = []
    for i in range(first, first + n):
        np.save(folder / f"scan{i}.npy", np.random.default_rng(i).random((6, 7, 8)).astype(np.float32))
        items.append({"image": f"scan{i}.npy", "participant_id": f"sub-{i}", "session_id": "ses-1", "age": 20 + i})
    content = {"description": "made for a test", "training": items[:-2], "validation": items[-2:]}
    (folder / name).write_text(json.dumps(content))
    return folder / name


class Counting:
    """The preprocessing of pretrain.yaml, which says whom it was applied to."""

    def __init__(self):
        self.seen = []
        self.plain = value_of(PRETRAIN, {}, "preprocessing")

    def __call__(self, record):
        self.seen.append(record["participant_id"])
        return self.plain(record)


def fill(datalist, output, storage="float16", recipe="the paper's", preprocessing=None):
    """Fill a cache; whom the preprocessing was applied to."""
    preprocessing = preprocessing or Counting()
    fill_cache(datalist, output, preprocessing, {"preprocessing": recipe}, storage=storage, workers=0)
    return getattr(preprocessing, "seen", None)


def command(datalist, output, *more):
    return main(["cache", "--datalist", str(datalist), "--output", str(output), "--workers", "0", *more])


def tree(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def on_device(records, transform):
    """The volumes of records, as pretraining has them on its device."""
    views = lambda volumes, keys, epoch: torch.cat([volumes, volumes])  # noqa: E731
    records = [{**record, "metadata": np.zeros(1, dtype=np.float32)} for record in records]
    (batch,) = DataLoader(Dataset(records, transform), batch_size=len(records))
    return batch["image"].dtype, ContrastivePrepareBatch(views, target="volumes")(batch, "cpu")[1]


# What is read


@pytest.mark.parametrize(("storage", "dtype"), [("float16", torch.float16), ("uint8", torch.uint8)])
def test_a_cached_volume_is_the_preprocessed_one(cohort, tmp_path, storage, dtype):
    assert command(cohort, tmp_path / "cache", "--storage", storage) == 0
    cached = load_section(tmp_path / "cache" / cohort.name, "training", cached=True)
    found, volumes = on_device(cached, value_of([*PRETRAIN, ROOT / "configs/cached.yaml"], {}, "preprocessing"))
    _, expected = on_device(load_section(cohort, "training"), value_of(PRETRAIN, {}, "preprocessing"))
    assert (found, volumes.dtype, volumes.shape) == (dtype, torch.float32, (6, 1, 6, 7, 8))
    steps = (expected.amax((1, 2, 3, 4)) - expected.amin((1, 2, 3, 4))) / 255
    tolerance = 2**-11 * expected.abs() + 1e-7 if storage == "float16" else steps.reshape(6, 1, 1, 1, 1) * 0.501
    assert ((volumes - expected).abs() <= tolerance).all()
    assert not torch.equal(volumes, expected)


def test_a_datalist_keeps_all_it_said(cohort, tmp_path):
    fill(cohort, tmp_path / "cache")
    original, cached = (json.loads((f / cohort.name).read_text()) for f in (cohort.parent, tmp_path / "cache"))
    assert cached.pop("cached_from") == "../cohort/pretraining.json"
    assert cached.pop("cache_format") == 1
    assert cached.keys() == original.keys()
    for before, after in zip(original["validation"], cached["validation"], strict=True):
        assert after.items() >= {**before, "image": after["image"], "intensity": [1.0, 0.0]}.items()
        assert before["participant_id"] not in after["image"]


def test_a_volume_is_mapped_and_its_file_cannot_be_changed(cohort, tmp_path):
    fill(cohort, tmp_path / "cache")
    record = load_section(tmp_path / "cache" / cohort.name, "training", cached=True)[0]
    before = tree(tmp_path / "cache")
    volume = ReadStoredd()(record)["image"]
    volume += 1
    assert tree(tmp_path / "cache") == before


def test_a_damaged_volume_is_named_and_made_again(cohort, tmp_path):
    fill(cohort, tmp_path / "cache")
    record = load_section(tmp_path / "cache" / cohort.name, "training", cached=True)[2]
    whole = tree(tmp_path / "cache")
    os.truncate(record["image"], 200)
    with pytest.raises(
        ValueError, match=r"The cached volume .*npy cannot be read .*; run the same cache command again"
    ):
        ReadStoredd()(record)
    assert fill(cohort, tmp_path / "cache") == ["sub-2"]
    assert tree(tmp_path / "cache") == whole


def test_values_beyond_float16_and_constant_volumes(cohort, tmp_path):
    large = Compose([LoadImaged("image"), Lambdad("image", lambda v: v[None] * 1e6)])
    with pytest.raises(CohortError, match="beyond float16's 65504; use --storage uint8"):
        fill(cohort, tmp_path / "cache", preprocessing=large)
    fill(cohort, tmp_path / "uint8", "uint8", preprocessing=large)
    constant = Compose([LoadImaged("image"), Lambdad("image", lambda v: v[None] * 0 + 3)])
    fill(cohort, tmp_path / "constant", "uint8", preprocessing=constant)
    records = load_section(tmp_path / "constant" / cohort.name, "training", cached=True)
    assert (on_device(records, ReadStoredd())[1] == 3).all()


# What is done, and not done again


def test_nothing_is_done_twice(cohort, tmp_path):
    assert len(fill(cohort, tmp_path / "cache")) == 8
    first = tree(tmp_path / "cache")
    assert fill(cohort, tmp_path / "cache") == []
    assert tree(tmp_path / "cache") == first
    more = make_cohort(cohort.parent, 4, "more.json", first=6)
    for i in (6, 7):  # written again by make_cohort
        os.utime(cohort.parent / f"scan{i}.npy", ns=(1, 1))
    assert set(fill(more, tmp_path / "cache")) == {"sub-6", "sub-7", "sub-8", "sub-9"}
    assert fill(more, tmp_path / "cache") == []


def test_a_changed_image_is_done_again_and_its_former_volume_goes(cohort, tmp_path):
    fill(cohort, tmp_path / "cache")
    shutil.copy(cohort, cohort.with_name("other.json"))
    fill(cohort.with_name("other.json"), tmp_path / "cache")
    np.save(cohort.parent / "scan3.npy", np.random.default_rng(99).random((6, 7, 8)))
    assert fill(cohort, tmp_path / "cache") == ["sub-3"]
    assert len(list((tmp_path / "cache/volumes").iterdir())) == 9  # other.json still names the former one
    assert fill(cohort.with_name("other.json"), tmp_path / "cache") == []
    assert len(list((tmp_path / "cache/volumes").iterdir())) == 8
    assert json.loads((tmp_path / "cache/cache.json").read_text())["volumes"] == 8
    records = load_section(tmp_path / "cache" / cohort.name, "training", cached=True)
    assert fingerprints(records) == fingerprints(load_section(cohort, "training"))


def test_another_preprocessing_or_storage_is_refused(cohort, tmp_path, caplog):
    fill(cohort, tmp_path / "cache")
    before = tree(tmp_path / "cache")
    with pytest.raises(
        ValueError, match=r"made with another preprocessing, as .*cache.json says; give another --output"
    ):
        fill(cohort, tmp_path / "cache", recipe="mine")
    with pytest.raises(ValueError, match="made with another preprocessing and another storage"):
        fill(cohort, tmp_path / "cache", "uint8", recipe="mine")
    assert tree(tmp_path / "cache") == before


def test_other_versions_are_said_and_both_are_kept(cohort, tmp_path, caplog):
    fill(cohort, tmp_path / "cache")
    settings = json.loads((tmp_path / "cache/cache.json").read_text())
    settings["versions"] = [{"monai": "1.0"}]
    (tmp_path / "cache/cache.json").write_text(json.dumps(settings))
    assert fill(cohort, tmp_path / "cache") == []
    assert "was begun with [{'monai': '1.0'}]" in caplog.text
    assert len(json.loads((tmp_path / "cache/cache.json").read_text())["versions"]) == 2


def test_a_recipe_is_the_entry_and_all_it_refers_to(tmp_path):
    overlay = tmp_path / "mine.yaml"
    overlay.write_text(
        "size: [3, 4, 5]\nunused: 1\npreprocessing: {_target_: Resized, keys: image, spatial_size: '@size'}"
    )
    recipe = recipe_of([*PRETRAIN, overlay], "preprocessing")
    assert recipe["size"] == [3, 4, 5]
    assert recipe.keys() == {"preprocessing", "size"}
    plain, coarse = (
        recipe_of([*PRETRAIN, *more], "preprocessing") for more in ([], [ROOT / "configs/resolution_4mm.yaml"])
    )
    assert plain["preprocessing"] == read_config(PRETRAIN[0])["preprocessing"] != coarse["preprocessing"]


def in_a_session(words):
    """A copy of this process with a group of its own, which can be killed with all that it starts."""
    os.setsid()
    main(words)


@pytest.mark.long
@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_killed_run_goes_on_and_ends_the_same(tmp_path, workers):
    datalist = make_cohort(tmp_path / "cohort", 40)
    (tmp_path / "slow.yaml").write_text(SLOW)
    config = ["--config", str(tmp_path / "slow.yaml")]
    assert command(datalist, tmp_path / "straight", *config) == 0
    words = ["cache", "--datalist", str(datalist), "--output", str(tmp_path / "killed"), "--workers", workers, *config]
    run = multiprocessing.get_context("fork").Process(target=in_a_session, args=(words,))
    run.start()
    ledger = tmp_path / "killed" / "volumes.jsonl"
    until = time.monotonic() + 60
    while not ledger.is_file() or len(ledger.read_text().splitlines()) < 7:
        assert time.monotonic() < until
        assert run.is_alive()
        time.sleep(0.01)
    os.killpg(run.pid, signal.SIGKILL)
    run.join()
    assert not (tmp_path / "killed" / datalist.name).exists()
    with ledger.open("a") as stream:
        stream.write('{"name": "cut off in the mid')
    (tmp_path / "killed/volumes/.part-1-x.npy").write_bytes(b"half")
    kept = {p: p.stat().st_mtime_ns for p in (tmp_path / "killed/volumes").glob("[!.]*.npy")}
    known = len(ledger.read_text().splitlines()) - 1
    assert 7 <= known < 40
    assert command(datalist, tmp_path / "killed", *config) == 0
    assert tree(tmp_path / "killed") == tree(tmp_path / "straight")
    assert sum(p.stat().st_mtime_ns == at for p, at in kept.items()) >= known


# What is refused


def test_a_disk_that_is_too_small_is_refused_before_it_is_full(cohort, tmp_path, monkeypatch, capsys):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(2**30, 2**30 - 1000, 1000))
    assert command(cohort, tmp_path / "cache") == 1
    assert "7 more volumes need 0.0 GiB" in (said := capsys.readouterr().err)
    assert "choose --storage uint8, which needs half" in said
    monkeypatch.undo()
    assert len(list((tmp_path / "cache/volumes").iterdir())) == 1
    assert command(cohort, tmp_path / "cache") == 0


def test_a_disk_that_fills_up_ends_the_run_and_not_the_scans(cohort, tmp_path, monkeypatch):
    def full(path, stored):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "_write_volume", full)
    with pytest.raises(OSError, match="No space left"):
        fill(cohort, tmp_path / "cache")


def test_bad_images_are_reported_together_and_the_others_stay(cohort, tmp_path, capsys):
    good = (cohort.parent / "scan1.npy").read_bytes()
    (cohort.parent / "scan1.npy").write_bytes(good[:300])
    (cohort.parent / "scan2.npy").unlink()
    np.save(cohort.parent / "scan4.npy", np.full((6, 7, 8), np.nan))
    np.save(cohort.parent / "scan5.npy", np.ones((6, 7), dtype=np.float32))
    assert command(cohort, tmp_path / "cache") == 1
    said = capsys.readouterr().err
    assert "4 problem(s) in 4 scan(s)" in said
    assert "sub-1 ses-1: the image cannot be read" in said
    assert "sub-2 ses-1: the image file does not exist" in said
    assert "sub-4 ses-1: the image has 336 NaN or infinite voxels" in said
    assert "sub-5 ses-1: the image has shape 6×7" in said
    assert "The other volumes are kept. Correct these images" in said
    assert not (tmp_path / "cache" / cohort.name).exists()
    assert len(list((tmp_path / "cache/volumes").iterdir())) == 4
    (cohort.parent / "scan1.npy").write_bytes(good)
    for i in (2, 4, 5):
        np.save(cohort.parent / f"scan{i}.npy", np.random.default_rng(i).random((6, 7, 8)))
    recipe = recipe_of(PRETRAIN, "preprocessing")
    again = Counting()
    fill_cache(cohort, tmp_path / "cache", again, recipe, workers=0)
    assert again.seen == ["sub-1", "sub-2", "sub-4", "sub-5"]


def test_what_preprocessing_makes_is_checked(cohort, tmp_path):
    np.save(cohort.parent / "scan6.npy", np.random.default_rng(0).random((6, 7, 9)))
    with pytest.raises(
        CohortError, match=r"sub-6 ses-1: is preprocessed to the shape \(1, 6, 7, 9\), expected \(1, 6, 7, 8\)"
    ):
        fill(cohort, tmp_path / "cache")
    with pytest.raises(CohortError, match=r"shape \(6, 7, 8\), expected \(channels, depth, height, width\)"):
        fill(cohort, tmp_path / "flat", preprocessing=LoadImaged("image"))
    infinite = Compose([LoadImaged("image"), Lambdad("image", lambda v: v[None] / 0)])
    with pytest.raises(CohortError, match="NaN or infinite voxels; correct the preprocessing"):
        fill(cohort, tmp_path / "infinite", preprocessing=infinite)
    broken = Compose([LoadImaged("image"), Lambdad("image", lambda v: v.absent)])
    with pytest.raises(CohortError, match=r"cannot be preprocessed \(AttributeError: .*absent"):
        fill(cohort, tmp_path / "broken", preprocessing=broken)


def test_an_unsuitable_preprocessing_is_refused(cohort, tmp_path, capsys):
    random = Compose([LoadImaged("image"), NormalizeIntensityd("image"), RandFlipd("image")])
    with pytest.raises(ValueError, match=r"draws at random \(RandFlipd\), which a cache would freeze"):
        fill(cohort, tmp_path / "cache", preprocessing=random)
    assert command(cohort, tmp_path / "cache", "--config", "configs/cached.yaml") == 1
    assert "leave configs/cached.yaml out when one is made" in capsys.readouterr().err
    assert command(cohort, tmp_path / "cache", "--storage", "float61") == 2
    assert "float16 or uint8 is expected; did you mean 'float16'?" in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()


def test_a_file_of_another_cohort_is_not_replaced(cohort, tmp_path):
    with pytest.raises(ValueError, match=r"pretraining.json is no datalist of a cache, and pretraining.json would"):
        fill(cohort, cohort.parent)
    fill(cohort, tmp_path / "cache")
    (tmp_path / "other").mkdir()
    with pytest.raises(ValueError, match=r"was cached from ../cohort/pretraining.json, and ../other/pretraining.json"):
        fill(make_cohort(tmp_path / "other"), tmp_path / "cache")


def test_damaged_and_empty_datalists_are_refused(cohort, tmp_path):
    (tmp_path / "empty.json").write_text('{"training": []}')
    with pytest.raises(CohortError, match="has no scans"):
        fill(tmp_path / "empty.json", tmp_path / "cache")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(CohortError, match="holds a list, expected the object of a datalist"):
        fill(tmp_path / "list.json", tmp_path / "cache")
    with pytest.raises(CohortError, match=r"nowhere.json does not exist; make it first"):
        fill(tmp_path / "nowhere.json", tmp_path / "cache")


# What stays known


def test_overlap_is_seen_through_a_cache(cohort, tmp_path):
    fill(cohort, tmp_path / "cache", "uint8")
    original = load_section(cohort, "training")
    cached = load_section(tmp_path / "cache" / cohort.name, "training", cached=True)
    assert fingerprints(cached) == fingerprints(original)
    (tmp_path / "encoder.json").write_text(json.dumps({"fingerprints": fingerprints(cached)}))
    with pytest.raises(ValueError, match=r"1 by image \(renamed\)"):
        refuse_overlap(tmp_path / "encoder.pt", [{**original[0], "participant_id": "renamed"}], "the test set")


def test_a_phantoms_cache_says_that_it_is_one(tiny_phantom, cohort, tmp_path):
    assert command(tiny_phantom / "pretraining.json", tmp_path / "cache") == 0
    assert warning_of(tmp_path / "cache/pretraining.json") == warning_of(tiny_phantom / "pretraining.json") != ""
    people = cohort.rename(cohort.with_name("people.json"))
    with pytest.raises(ValueError, match="made with another phantom"):
        fill_cache(people, tmp_path / "cache", Counting(), recipe_of(PRETRAIN, "preprocessing"), workers=0)


# Pretraining


def pretrain(folder, output, *overlays, batch=16):
    places = ["--dataset_dir", str(folder), "--output_dir", str(output), "--weights", str(output / "best.pt")]
    return main(
        ["pretrain", "--config", "configs/phantom.yaml", *overlays, *places, *SMALL, "--batch_size", str(batch)]
    )


@pytest.mark.long
def test_pretraining_from_a_cache_is_pretraining(tiny_phantom, tmp_path, caplog):
    assert command(tiny_phantom / "pretraining.json", tmp_path / "cache", "--config", "configs/phantom.yaml") == 0
    assert pretrain(tiny_phantom, tmp_path / "plain") == 0
    assert pretrain(tmp_path / "cache", tmp_path / "cached", "configs/cached.yaml") == 0
    plain, cached = (json.loads((tmp_path / name / "best.json").read_text()) for name in ("plain", "cached"))
    assert cached["validation"]["val_loss"] == pytest.approx(plain["validation"]["val_loss"], abs=2e-3)
    assert cached["fingerprints"] == plain["fingerprints"]
    assert cached["warning"] == plain["warning"] != ""


def test_a_cache_and_its_overlay_belong_together(cohort, tmp_path, capsys, caplog):
    fill(cohort, tmp_path / "cache")
    caplog.set_level(logging.CRITICAL)
    assert pretrain(tmp_path / "cache", tmp_path / "out") == 1
    assert "a volume of a cache; these are for `pretrain --config configs/cached.yaml`" in capsys.readouterr().err
    assert pretrain(cohort.parent, tmp_path / "out", "configs/cached.yaml") == 1
    assert "is no volume of a cache; give --dataset_dir the folder" in capsys.readouterr().err
    assert (
        pretrain(tmp_path / "cache", tmp_path / "out", "configs/cached.yaml", "configs/resolution_4mm.yaml", batch=6)
        == 1
    )
    assert "another preprocessing than that of configs/cached.yaml; give this overlay last" in capsys.readouterr().err
