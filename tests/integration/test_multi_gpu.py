"""Two processes on the CPU; tests/zoo starts them with torchrun, as a user starts them on two GPUs."""

import json

import pandas as pd
import pytest
import torch

from tests.conftest import OVERLAY, SMALL, TASK, forked, run_monai

pytestmark = pytest.mark.long


def command_of(files, *options):
    entry = "training" if "evaluate" not in files[-1] else "evaluating"
    return ["run", entry, "--config_file", str(files), *SMALL, *map(str, options)]


def copies(processes, files, *options):
    """Run a workflow of MONAI in copies of this process, which need not import torch again."""

    def run():
        torch.set_num_threads(1)
        run_monai(*command_of(files, *options))

    forked(run, processes=processes)


@pytest.fixture(scope="module")
def places(tiny_phantom, tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    return folder, ["--dataset_dir", tiny_phantom, "--output_dir", folder, "--model", folder / "model.pt"]


@pytest.fixture(scope="module")
def trained_by_two(places, encoder):
    folder, options = places
    files = ["configs/train.json", TASK, OVERLAY, "configs/multi_gpu_train.json"]
    copies(2, files, *options, "--weights", encoder, "--epochs", "2", "--batch_size", "4")
    return folder


def test_two_processes_train_one_classifier(trained_by_two):
    card = json.loads((trained_by_two / "model.json").read_text())
    assert card["epoch"] in (1, 2)
    weights = torch.load(trained_by_two / "model.pt", weights_only=True)
    assert not [name for name in weights if name.startswith("module.")]
    assert (trained_by_two / "model_record.npz").is_file()


def test_two_processes_judge_everybody_once(trained_by_two, places, tiny_phantom):
    files = ["configs/train.json", "configs/evaluate.json", TASK, OVERLAY, "configs/multi_gpu_evaluate.json"]
    copies(2, files, *places[1])
    table = pd.read_csv(trained_by_two / "predictions.csv")
    tested = json.loads((tiny_phantom / "alzheimer.json").read_text())["test"]
    assert table["participant_id"].tolist() == [r["participant_id"] for r in tested]


PLAIN = """
optimizer: {_target_: torch.optim.SGD, params: $@network.parameters(), lr: 0.1}
lr_scheduler: {_target_: torch.optim.lr_scheduler.ConstantLR, optimizer: '@optimizer'}
"""  # Adam makes full steps of gradients that are nothing but rounding


def pretrain(processes, phantom, folder, *more):
    """Pretrain with group norm, so that the number of processes changes nothing but rounding."""
    folder.mkdir()
    (folder / "plain.yaml").write_text(PLAIN)
    files = ["configs/pretrain.yaml", OVERLAY, "configs/encoder_group_norm.yaml", str(folder / "plain.yaml")]
    files += ["configs/multi_gpu_pretrain.yaml"] if processes > 1 else []
    places = ["--dataset_dir", phantom, "--output_dir", folder, "--weights", folder / "encoder.pt"]
    options = ["--epochs", "2", "--growth_rate", "8", "--block_config", "[1, 1]", *more]
    copies(processes, files, *places, *options)
    weights = torch.load(folder / "encoder.pt", weights_only=True)
    return weights, json.loads((folder / "encoder.json").read_text())["validation"]


# 56 training subjects: four batches, the rest left out; or one uneven batch, of which each process sees micro-batches
@pytest.mark.parametrize(
    "options",
    [["--batch_size", "12"], ["--batch_size", "54", "--train#dataloader#drop_last", "False", "--micro_batch", "9"]],
)
def test_two_processes_pretrain_as_one_does(tiny_phantom, tmp_path, options):
    alone, expected = pretrain(1, tiny_phantom, tmp_path / "one", *options)
    together, validation = pretrain(2, tiny_phantom, tmp_path / "two", *options)
    assert validation == pytest.approx(expected, rel=1e-3, abs=2e-6)  # six decimals
    for name, tensor in together.items():
        torch.testing.assert_close(tensor, alone[name], rtol=1e-4, atol=1e-4, msg=name)
    assert len(list((tmp_path / "two").glob("events.out.tfevents.*"))) == 1  # of the first process
    histories = [pd.read_csv(tmp_path / folder / "history.csv") for folder in ("one", "two")]
    pd.testing.assert_frame_equal(*histories, rtol=1e-3, atol=1e-5)
    assert sorted(p.name for p in (tmp_path / "two").glob("checkpoint_*")) == ["checkpoint_1.pt", "checkpoint_2.pt"]
