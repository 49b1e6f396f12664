"""Two modalities from the command line: pretrained, resumed, probed, and refused where they cannot be."""

import json

import pandas as pd
import pytest
import torch

from bundle.cli.main import main
from bundle.networks.weights import load_encoder
from bundle.phantom.second import make_second
from tests.conftest import OVERLAY, SMALL, with_full_paths
from tests.integration.conftest import same

pytestmark = pytest.mark.long
PRETRAIN = ["pretrain", "--config", "configs/two_modalities.yaml", OVERLAY]
PROBE = ["probe", "--config", "configs/probe_two_modalities.yaml", OVERLAY]


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    """The tiny phantom, of whose people one in seven lacks the second modality."""
    from bundle.phantom.cohort import make_phantom

    folder = tmp_path_factory.mktemp("phantom")
    make_phantom(folder, resolution=9.0, n_pretraining=64, n_per_task=40, workers=1, progress=False)
    make_second(folder, missing=0.15, workers=1, progress=False)
    return folder


def pretrain(phantom, folder, epochs, *more):
    places = ["--dataset_dir", str(phantom), "--output_dir", str(folder)]
    places += ["--weights", str(folder / "gm.pt"), "--second_weights", str(folder / "fa.pt")]
    size = [*SMALL, "--block_config", "[1, 1]", "--batch_size", "16", "--epochs", str(epochs), "--precision", "float32"]
    # a constant rate, so that a run does not depend on how many epochs were planned
    rate = "{_target_: torch.optim.lr_scheduler.ConstantLR, optimizer: '@optimizer', factor: 1.0}"
    assert main([*PRETRAIN, *places, *size, "--lr_scheduler", rate, *more]) == 0
    return torch.load(folder / f"checkpoint_{epochs}.pt", weights_only=True)


@pytest.fixture(scope="module")
def straight(phantom, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        from tests.conftest import ROOT

        patch.chdir(ROOT)
        folder = tmp_path_factory.mktemp("straight")
        return folder, pretrain(phantom, folder, 2)


def test_a_resumed_run_ends_where_the_uninterrupted_one_does(phantom, straight, tmp_path):
    pretrain(phantom, tmp_path, 1)
    resumed = pretrain(phantom, tmp_path, 2, "--resume")
    for part in ("network", "optimizer", "trainer", "evaluator"):
        assert same(straight[1][part], resumed[part]), part
    for name in ("gm.pt", "fa.pt"):
        kept = [torch.load(folder / name, weights_only=True) for folder in (straight[0], tmp_path)]
        assert same(*kept), name
    assert (tmp_path / "history.csv").read_text() == (straight[0] / "history.csv").read_text()


def test_both_encoders_are_kept_with_cards_of_their_own(phantom, straight):
    folder, checkpoint = straight
    cards = [json.loads((folder / f"{name}.json").read_text()) for name in ("gm", "fa")]
    lists = [json.loads((phantom / f"pretraining{end}.json").read_text()) for end in ("", "_fa")]
    for card, name, datalist in zip(cards, ("first", "second"), lists, strict=True):
        assert card["subjects"] == len(datalist["training"])
        assert card["kind"] == "encoder"
        assert card["loss"].startswith("TwoModalityInfoNCE( temperature=0.1, within_share=0.5")
        assert {"val_second_effective_rank", "val_effective_rank", "val_alignment"} <= set(card["validation"])
        encoder = load_encoder(folder / ("gm.pt" if name == "first" else "fa.pt")).encoder
        trained = checkpoint["network"][f"{name}.encoder.features.conv0.weight"]
        assert torch.equal(encoder.features.conv0.weight, trained) or card["epoch"] < 2
    assert [card["datalist"] for card in cards] == [str(phantom / f"pretraining{end}.json") for end in ("", "_fa")]
    assert cards[0]["sha256"] != cards[1]["sha256"]
    assert cards[0]["fingerprints"] == cards[1]["fingerprints"]  # they were trained against each other
    images = len(cards[0]["fingerprints"]["images"])
    assert images == sum(len(datalist["training"]) for datalist in lists)


def test_a_second_encoder_is_probed_like_any_other(phantom, straight, tmp_path):
    tasks = "{alzheimer: " + str(phantom / "alzheimer_fa.json") + "}"
    data = ["--tasks", tasks, "--age_datalist", str(phantom / "pretraining_fa.json"), "--output_dir", str(tmp_path)]
    command = ["probe", "--config", OVERLAY, *data, "--weights", str(straight[0] / "fa.pt"), "--references", "[]"]
    assert main([*command, "--protocol", "folds", "--n_folds", "2", "--draws", "1", "--num_workers", "0"]) == 0
    assert set(pd.read_csv(tmp_path / "results.csv")["method"]) >= {"y-Aware, two modalities"}


def test_both_are_probed_on_those_who_have_both(phantom, straight, tmp_path, capsys):
    lists = {end: "{alzheimer: " + str(phantom / f"alzheimer{end}.json") + "}" for end in ("", "_fa")}
    command = [*PROBE, "--dataset_dir", str(phantom), "--tasks", lists[""], "--second_tasks", lists["_fa"]]
    command += ["--weights", str(straight[0] / "gm.pt"), "--second_weights", str(straight[0] / "fa.pt")]
    command += ["--output_dir", str(tmp_path), "--protocol", "folds", "--n_folds", "2", "--draws", "1"]
    assert main([*command, "--num_workers", "0"]) == 0
    scores = pd.read_csv(tmp_path / "scores.csv")
    second = json.loads((phantom / "alzheimer_fa.json").read_text())
    there = {item["participant_id"] for name in ("training", "validation", "test") for item in second[name]}
    assert set(scores["participant_id"]) == there
    lines = ["y-Aware, two modalities", "random initialisation", "voxels"]
    expected = {f"{name}{end}" for name in lines for end in ("", ", second modality", ", both modalities")}
    assert set(scores["method"]) == {*expected, "age, sex, TIV"}
    assert scores.groupby("method")["participant_id"].nunique().nunique() == 1
    table = pd.read_csv(tmp_path / "modalities.csv")
    assert list(table["than"]) == ["first alone", "second alone"] * 3
    assert "Both modalities less each alone" in (tmp_path / "table.md").read_text()
    assert set(pd.read_csv(tmp_path / "age.csv")["method"]) == {*expected, "mean age"}
    assert main([*command, "--adapt", "batch_norm"]) == 1
    assert "`adapt` is of one encoder; with two modalities use `adapt: none`" in capsys.readouterr().err


def test_what_cannot_be_is_refused_before_anything_is_written(phantom, tmp_path, capsys):
    command = [*PRETRAIN, *SMALL, "--block_config", "[1, 1]", "--batch_size", "16"]
    command += ["--dataset_dir", str(phantom), "--output_dir", str(tmp_path / "out")]
    second = with_full_paths(phantom / "pretraining_fa.json")

    def refused(words, *more, **changed):
        (tmp_path / "changed.json").write_text(json.dumps({**second, **changed}))
        more = more or ("--second_datalist", str(tmp_path / "changed.json"))
        assert main([*command, *more]) in (1, 2)
        assert words in capsys.readouterr().err

    training, validation = second["training"], second["validation"]
    refused("Both modalities name the datalist", "--second_datalist", str(phantom / "pretraining.json"))
    refused(
        "Nobody is in both", training=[{**r, "participant_id": f"x{i}"} for i, r in enumerate(training)], validation=[]
    )
    refused("People in different sections", training=[*training, *validation[:1]], validation=validation[1:])
    refused("the ages differ by a year or more", training=[{**training[0], "age": 3.0}, *training[1:]])
    other = json.loads((phantom / "alzheimer_fa.json").read_text())["training"][0]["image"]
    with_another_grid = _on_another_grid(phantom / other, tmp_path)
    refused("lie on 2 grids", training=[{**training[0], "image": with_another_grid}, *training[1:]])
    refused("would replace the first", "--weights", str(tmp_path / "a.pt"), "--second_weights", str(tmp_path / "a.pt"))
    refused("within_share is 2, but a number in [0, 1] is expected", "--within_share", "2")
    refused("no such file", "--second_datalist", str(phantom / "pretraining_md.json"))
    assert not (tmp_path / "out").exists()


def _on_another_grid(path, folder):
    import nibabel as nib
    import numpy as np

    image = nib.load(path)
    affine = image.affine @ np.diag([1.1, 1.1, 1.1, 1])
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj, dtype=np.float32), affine), folder / "other.nii.gz")
    return str(folder / "other.nii.gz")


def test_a_dry_run_says_what_would_be_done(phantom, tmp_path, capsys):
    command = [*PRETRAIN, *SMALL, "--block_config", "[1, 1]", "--dataset_dir", str(phantom)]
    assert main([*command, "--output_dir", str(tmp_path), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "TwoModalityNetwork" in said
    assert "about" in said
    assert not list(tmp_path.iterdir())
