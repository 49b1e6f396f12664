"""The pretraining config, run for real on a tiny phantom."""

import json
import math

import pytest
import torch

from bundle.cli.main import main
from bundle.files import sha256
from bundle.networks.weights import load_encoder
from tests.conftest import OVERLAY, ROOT, SMALL, run_monai, with_full_paths
from tests.integration.conftest import same

pytestmark = pytest.mark.long


def pretrain(phantom, folder, epochs, *more):
    data = ["--dataset_dir", str(phantom), "--output_dir", str(folder), "--weights", str(folder / "best.pt")]
    size = ["--batch_size", "16", "--epochs", str(epochs), "--precision", "float32"]
    # a constant rate, so that a run does not depend on how many epochs were planned
    rate = ["--lr_scheduler", "{_target_: torch.optim.lr_scheduler.ConstantLR, optimizer: '@optimizer', factor: 1.0}"]
    overlay = [] if "--config" in more else ["--config", str(OVERLAY)]
    assert main(["pretrain", *overlay, *data, *size, *rate, *SMALL, *more]) == 0
    return torch.load(folder / f"checkpoint_{epochs}.pt", weights_only=True)


@pytest.fixture(scope="module")
def straight(tiny_phantom, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        folder = tmp_path_factory.mktemp("straight")
        return folder, pretrain(tiny_phantom, folder, 3)


def test_the_same_seed_gives_the_same_weights(tiny_phantom, straight, tmp_path):
    _, first = straight
    assert same(first["network"], pretrain(tiny_phantom, tmp_path, 3)["network"])
    other = pretrain(tiny_phantom, tmp_path, 3, "--seed", "1")
    assert not same(first["network"], other["network"])


def test_the_number_of_workers_changes_nothing(tiny_phantom, straight, tmp_path):
    assert same(straight[1]["network"], pretrain(tiny_phantom, tmp_path, 3, "--num_workers", "2")["network"])


def test_a_resumed_run_ends_where_the_uninterrupted_one_does(tiny_phantom, straight, tmp_path):
    pretrain(tiny_phantom, tmp_path, 2)
    resumed = pretrain(tiny_phantom, tmp_path, 3, "--resume")
    expected = straight[1]
    for part in ("network", "optimizer", "trainer", "evaluator"):
        assert same(expected[part], resumed[part]), part
    history = (tmp_path / "history.csv").read_text()
    assert history == (straight[0] / "history.csv").read_text()
    assert history.count("\n") == 1 + 3
    assert (tmp_path / "curves.png").is_file()


def test_resuming_a_finished_run_leaves_its_weights(tiny_phantom, straight):
    folder, finished = straight
    before = (folder / "best.pt").read_bytes()
    assert same(finished, pretrain(tiny_phantom, folder, 3, "--resume"))
    assert (folder / "best.pt").read_bytes() == before


def test_the_best_weights_have_a_card_and_the_run_has_scalars(straight):
    folder, checkpoint = straight
    card = json.loads((folder / "best.json").read_text())
    assert card["epoch"] == checkpoint["evaluator"]["best_metric_epoch"]
    assert card["validation"]["val_loss"] == pytest.approx(checkpoint["evaluator"]["best_metric"], abs=1e-5)
    assert {"val_alignment", "val_uniformity", "val_effective_rank"} <= set(card["validation"])
    assert "GaussianKernel(sigma=5.0" in card["loss"]
    assert list(folder.glob("events.out.tfevents.*"))
    weights = torch.load(folder / "best.pt", weights_only=True)
    assert all(name.startswith("features.") for name in weights)
    assert card["config"]["batch_size"] > 0
    assert card["made_by"]["packages"]["torch"]
    assert {"command", "seed", "commit"} <= set(card["made_by"])


def test_a_one_cycle_schedule_is_not_stretched_by_resuming(tiny_phantom, tmp_path, capsys):
    data = ["--dataset_dir", str(tiny_phantom), "--output_dir", str(tmp_path), "--weights", str(tmp_path / "best.pt")]
    command = ["pretrain", "--config", str(OVERLAY), *data, *SMALL, "--batch_size", "16"]
    assert main([*command, "--epochs", "1"]) == 0
    assert main([*command, "--epochs", "2", "--resume"]) == 1
    assert "Resume with the epochs and batch size of the first run" in capsys.readouterr().err
    assert main([*command, "--epochs", "1", "--resume"]) == 0


def test_two_checkpoints_are_kept(straight):
    assert sorted(p.name for p in straight[0].glob("checkpoint_*")) == ["checkpoint_2.pt", "checkpoint_3.pt"]


def test_leaking_participants_are_refused(tiny_phantom, tmp_path, capsys):
    datalist = with_full_paths(tiny_phantom / "pretraining.json")
    datalist["validation"].append(datalist["training"][0])
    leaking = tmp_path / "leaking.json"
    leaking.write_text(json.dumps(datalist))
    assert main(["pretrain", "--config", str(OVERLAY), "--datalist", str(leaking), "--output_dir", str(tmp_path)]) == 1
    assert "share 1 participant(s): 'pre0001'" in capsys.readouterr().err


PRETEXTS = [*sorted(p.name for p in (ROOT / "configs").glob("pretext_*.yaml")), "metadata_age_sex.yaml"]


@pytest.mark.parametrize("pretext", PRETEXTS)
def test_every_pretext_trains_by_an_overlay(tiny_phantom, tmp_path, pretext):
    overlays = ["--config", f"configs/{pretext}", str(OVERLAY)]
    data = ["--dataset_dir", str(tiny_phantom), "--output_dir", str(tmp_path), "--weights", str(tmp_path / "best.pt")]
    narrow = ["--network_def#width", "2"] if "genesis" in pretext else []
    assert main(["pretrain", *overlays, *data, *SMALL, *narrow, "--epochs", "1", "--batch_size", "16"]) == 0
    card = json.loads((tmp_path / "best.json").read_text())
    assert math.isfinite(card["validation"]["val_loss"])
    assert card["loss"].startswith("YAwareInfoNCE(") == ("supervised" in pretext or "metadata" in pretext)


def test_options_for_few_people_work_together_and_go_on_after_an_interruption(tiny_phantom, straight, tmp_path):
    """Start from weights, age, sex and site, own share, flips, three layers, an average of the weights, last epoch."""
    overlays = ["--config", "configs/metadata_age_sex.yaml", "configs/pretext_within_site.yaml"]
    start = ["--start", str(straight[0] / "best.pt"), "--projector_layers", "3", "--views", "cutout_flip"]
    options = [*overlays, *start, "--own_share", "0.5", "--average", "0.9", "--keep", "last", "--sigma", "silverman"]
    whole = pretrain(tiny_phantom, tmp_path / "whole", 3, *options)
    pretrain(tiny_phantom, tmp_path / "parts", 2, *options)
    resumed = pretrain(tiny_phantom, tmp_path / "parts", 3, *options, "--resume")
    for part in ("network", "average", "optimizer", "trainer", "evaluator"):
        assert same(whole[part], resumed[part]), part
    kept = {f: torch.load(tmp_path / f / "best.pt", weights_only=True) for f in ("whole", "parts")}
    assert same(kept["whole"], kept["parts"])
    average = {name.removeprefix("module.encoder."): tensor for name, tensor in whole["average"].items()}
    assert all(torch.equal(tensor, average[name]) for name, tensor in kept["whole"].items())
    trained = whole["network"]["encoder.features.conv0.weight"]
    assert not torch.equal(trained, average["features.conv0.weight"])
    card = json.loads((tmp_path / "whole" / "best.json").read_text())
    assert card["epoch"] == 3
    assert card["method"] == "y-Aware within sites"
    assert card["loss"].startswith("WithinSiteInfoNCE( temperature=0.1, own_share=0.5")
    assert "DiscreteKernel(mismatch=0.5)" in card["loss"]
    assert "sigma=5.0" not in card["loss"]
    assert card["pretrained"]["sha256"] == sha256(straight[0] / "best.pt")
    said = {name: card["config"][name] for name in ("average", "keep", "projector_layers", "views")}
    views = "[LeftRightFlip(prob=0.5), Cutout(prob=1.0, fraction=0.25)]"
    assert said == {"average": 0.9, "keep": "last", "projector_layers": 3, "views": views}


ADVERSARY = ["--config", "configs/adaptation_adversarial.yaml"]


def test_an_adversary_is_trained_beside_the_loss_and_kept_out_of_the_weights(tiny_phantom, tmp_path):
    whole = pretrain(tiny_phantom, tmp_path / "whole", 2, *ADVERSARY)
    card = json.loads((tmp_path / "whole" / "best.json").read_text())
    assert card["method"] == "y-Aware, site adversary"
    assert card["loss"].startswith("AdversarialLoss( sites=24, site_weight=0.1")
    assert whole["network"]["site_head.weight"].shape[0] == 24
    encoder = load_encoder(tmp_path / "whole" / "best.pt").encoder  # which has no adversary
    assert not any("site" in name for name in encoder.state_dict())
    one = pretrain(tiny_phantom, tmp_path / "one", 1, *ADVERSARY)
    assert not same(one["network"], whole["network"])
    plain = pretrain(tiny_phantom, tmp_path / "plain", 1, "--metadata_columns", "[age]")
    assert not same(
        {name: tensor for name, tensor in one["network"].items() if name in plain["network"]}, plain["network"]
    )


def test_an_adversary_needs_two_sites(tiny_phantom, tmp_path, capsys):
    datalist = with_full_paths(tiny_phantom / "pretraining.json")
    for record in (*datalist["training"], *datalist["validation"]):
        record["site"] = "here"
    (tmp_path / "one.json").write_text(json.dumps(datalist))
    command = ["pretrain", *ADVERSARY, str(OVERLAY), *SMALL, "--datalist", str(tmp_path / "one.json")]
    assert main([*command, "--output_dir", str(tmp_path / "out")]) == 1
    assert "needs two sites, but the" in capsys.readouterr().err
    assert not (tmp_path / "out" / "history.csv").exists()


def test_whoever_was_in_the_start_is_known_to_the_new_card(tiny_phantom, straight, tmp_path):
    datalist = with_full_paths(tiny_phantom / "pretraining.json")
    known = json.loads((straight[0] / "best.json").read_text())["fingerprints"]["participants"]
    datalist["training"] = datalist["training"][:20]
    few = tmp_path / "few.json"
    few.write_text(json.dumps(datalist))
    pretrain(tiny_phantom, tmp_path, 1, "--datalist", str(few), "--start", str(straight[0] / "best.pt"))
    card = json.loads((tmp_path / "best.json").read_text())
    assert card["fingerprints"]["participants"] == known
    assert len(known) > 20


def test_a_start_that_does_not_fit_is_refused_before_anything_is_written(tiny_phantom, straight, tmp_path, capsys):
    start = ["--start", str(straight[0] / "best.pt"), "--output_dir", str(tmp_path / "out")]
    command = ["pretrain", "--config", str(OVERLAY), "--dataset_dir", str(tiny_phantom), *start]
    assert main([*command, *SMALL, "--growth_rate", "8"]) == 1
    assert "Nothing was loaded" in capsys.readouterr().err
    assert main(["pretrain", "--config", "configs/resolution_4mm.yaml", *command[2:], *SMALL]) == 1
    assert "preprocessed in another way" in capsys.readouterr().err
    assert main([*command[:-2], *SMALL, "--start", str(tmp_path / "none.pt")]) == 1
    assert "no such file" in capsys.readouterr().err
    assert not (tmp_path / "out" / "history.csv").exists()


def test_a_cohort_of_one_site_cannot_be_compared_within_sites(tiny_phantom, tmp_path, capsys):
    datalist = with_full_paths(tiny_phantom / "pretraining.json")
    command = ["pretrain", "--config", "configs/pretext_within_site.yaml", str(OVERLAY), *SMALL]
    for site, words in (("here", "the same wherever it is known, one site in"), (None, "known of nobody")):
        for record in (*datalist["training"], *datalist["validation"]):
            record["site"] = site
        (tmp_path / "one.json").write_text(json.dumps(datalist))
        assert main([*command, "--datalist", str(tmp_path / "one.json"), "--output_dir", str(tmp_path / "out")]) == 1
        said = capsys.readouterr().err
        assert "the metadata column `site` is " + words in said
    assert (
        main(
            [
                *command,
                "--dataset_dir",
                str(tiny_phantom),
                "--loss#kernel",
                "{_target_: bundle.pretext.GaussianKernel, sigma: 5}",
            ]
        )
        == 1
    )
    assert "column `site` of its kernel" in capsys.readouterr().err


def test_a_resnet_trains_by_an_overlay_and_loads_by_its_path(tiny_phantom, tmp_path):
    overlays = ["--config", str(OVERLAY), "configs/encoder_resnet18.yaml"]
    data = ["--dataset_dir", str(tiny_phantom), "--output_dir", str(tmp_path), "--weights", str(tmp_path / "best.pt")]
    assert main(["pretrain", *overlays, *data, "--epochs", "1", "--batch_size", "16", "--encoder#width", "4"]) == 0
    assert load_encoder(tmp_path / "best.pt").encoder.embedding_size == 32


def test_the_plain_monai_command_trains(tiny_phantom, tmp_path, capsys):
    configs = ["--config_file", "['configs/pretrain.yaml','configs/phantom.yaml']"]
    data = ["--dataset_dir", tiny_phantom, "--output_dir", tmp_path, "--weights", tmp_path / "best.pt"]
    small = ["--init_features", "8", "--growth_rate", "4", "--block_config", "[1,1,1,1]"]
    size = ["--epochs", "1", "--batch_size", "16", "--sigma", "scott"]
    run_monai("run", "training", *configs, *data, *small, *size)
    assert (tmp_path / "best.pt").is_file()
    assert "val_loss" in capsys.readouterr().err


@pytest.mark.parametrize(
    "precision",
    [
        "bfloat16",
        pytest.param("float16", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="float16 needs a GPU")),
    ],
)
def test_low_precision_follows_float32(tiny_phantom, tmp_path, precision):
    """Two epochs end within 1 % of the loss and 5 % of the weights."""
    shallow = ["--block_config", "[2, 2]", "--growth_rate", "8"]  # deeper maps are smaller than torch's bfloat16 can
    exact = pretrain(tiny_phantom, tmp_path / "exact", 2, *shallow)
    low = pretrain(tiny_phantom, tmp_path / "low", 2, *shallow, "--precision", precision)
    assert low["evaluator"]["best_metric"] == pytest.approx(exact["evaluator"]["best_metric"], rel=0.01)
    for name, tensor in exact["network"].items():
        if tensor.ndim > 1:
            other = low["network"][name]
            assert (other - tensor).norm() < 0.05 * tensor.norm(), name
            assert not torch.equal(other, tensor), name
