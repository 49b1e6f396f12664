"""A result can be made again from the record beside it, and a dry run makes nothing."""

import json
import shlex
import sys

import pytest
import torch
from monai.bundle import ConfigParser

from bundle.cli import run_record
from bundle.cli.main import main
from tests.conftest import ROOT, SMALL, TASK, run_monai

OVERLAY = "configs/phantom.yaml"
PRETRAIN = ["pretrain", "--config", OVERLAY, *SMALL, "--epochs", "1", "--batch_size", "16"]


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def pretrained(tiny_phantom, tmp_path_factory):
    folder = tmp_path_factory.mktemp("first")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        data = ["--dataset_dir", str(tiny_phantom), "--output_dir", str(folder), "--weights", str(folder / "w.pt")]
        assert main([*PRETRAIN, *data]) == 0
    return folder


def same_weights(one, other):
    first, second = (torch.load(path, weights_only=True) for path in (one, other))
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def record(folder):
    return json.loads((folder / "run.json").read_text())


@pytest.mark.long
def test_a_pretraining_is_repeated_to_the_last_bit(pretrained, tmp_path):
    again = ["--output_dir", str(tmp_path), "--weights", str(tmp_path / "w.pt")]
    assert main(["pretrain", "--from-run", str(pretrained / "run.json"), *again]) == 0
    assert same_weights(pretrained / "w.pt", tmp_path / "w.pt")
    first, second = record(pretrained), record(tmp_path)
    assert {name for name in first if first[name] != second[name]} <= {"made_by", "output_dir", "weights"}


def test_a_record_says_what_made_a_result(pretrained, tiny_phantom):
    made_by = record(pretrained)["made_by"]
    assert {"command", "seed", "commit", "python", "packages", "kind", "inputs"} == set(made_by)
    datalist = made_by["inputs"]["datalist"]
    assert datalist["path"] == str(tiny_phantom / "pretraining.json")
    assert len(datalist["sha256"]) == 64
    assert record(pretrained)["epochs"] == 1
    assert str(ROOT) not in (pretrained / "run.json").read_text().replace(made_by["command"], "")


@pytest.mark.long
def test_a_classifier_and_its_test_are_repeated_to_the_last_bit(trained, tmp_path):
    model = ["--model", str(tmp_path / "model.pt")]
    assert main(["train", "--from-run", str(trained / "run.json"), "--output_dir", str(tmp_path), *model]) == 0
    assert same_weights(trained / "model.pt", tmp_path / "model.pt")
    data = record(trained)["dataset_dir"]
    shared = ["--config", TASK, OVERLAY, "--dataset_dir", data, *SMALL, *model]
    assert main(["evaluate", *shared, "--output_dir", str(tmp_path / "test")]) == 0
    assert main(["evaluate", "--from-run", str(tmp_path / "test/run.json"), "--output_dir", str(tmp_path / "b")]) == 0
    for name in ("predictions.csv", "metrics.json"):
        assert (tmp_path / "test" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.long
def test_a_probe_is_repeated_to_the_last_bit(pretrained, tiny_phantom, tmp_path):
    tasks = ["--tasks", f"{{bipolar: {tiny_phantom / 'bipolar.json'}}}", "--age_datalist", "null"]
    size = ["--sizes", "[10]", "--draws", "1", "--weights", str(pretrained / "w.pt")]
    assert main(["probe", "--config", OVERLAY, *tasks, *size, "--output_dir", str(tmp_path / "a")]) == 0
    assert main(["probe", "--from-run", str(tmp_path / "a/run.json"), "--output_dir", str(tmp_path / "b")]) == 0
    assert (tmp_path / "a/scores.csv").read_bytes() == (tmp_path / "b/scores.csv").read_bytes()


def edited(folder, target, change):
    content = record(folder)
    change(content)
    target.write_text(json.dumps(content))
    return str(target)


def test_a_changed_datalist_is_refused_unless_it_is_given_again(pretrained, tiny_phantom, tmp_path, capsys):
    copy = tmp_path / "pretraining.json"
    content = json.loads((tiny_phantom / "pretraining.json").read_text())
    copy.write_text(json.dumps({**content, "description": "changed"}))
    path = edited(pretrained, tmp_path / "run.json", lambda c: c.update(datalist=str(copy)))
    places = ["--output_dir", str(tmp_path / "o"), "--weights", str(tmp_path / "w.pt"), "--dry-run"]
    assert main(["pretrain", "--from-run", path, *places]) == 1
    assert f"What the run read has changed since: {copy} (`datalist`)" in capsys.readouterr().err
    given = tiny_phantom / "pretraining.json"
    assert main(["pretrain", "--from-run", path, *places, "--datalist", str(given)]) == 0


def test_other_versions_are_pointed_out(pretrained, tmp_path, caplog):
    path = edited(pretrained, tmp_path / "run.json", lambda c: c["made_by"]["packages"].update(torch="1.0"))
    assert main(["pretrain", "--from-run", path, "--dry-run"]) == 0
    assert "Other software than the run's: torch 1.0 → " in caplog.text


def test_what_json_cannot_say_stands_in_a_record_as_an_expression(tmp_path):
    config = {"seed": 0, "highest": float("inf"), "list": [{"low": float("-inf")}]}
    parser = ConfigParser(run_record.read_record(run_record.write_record(tmp_path, "evaluate", config), "evaluate")[0])
    assert parser.get_parsed_content("highest") == float("inf")
    assert parser.get_parsed_content("list#0#low") == float("-inf")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["probe", "--from-run", "{}/run.json"], "is the record of `pretrain`, not of `probe`"),
        (["pretrain", "--from-run", "configs/pretrain.yaml"], "is no record of a run"),
        (["pretrain", "--from-run", "{}/run.json", "--config", OVERLAY], "A record holds its overlays"),
        (["pretrain", "--from-run", "{}/run.json", "--epochs", "0"], "--epochs is 0"),
        (["pretrain", "--from-run", "{}/run.json", "--epoch", "3"], "did you mean 'epochs'"),
    ],
)
def test_what_is_no_such_record_is_refused(pretrained, capsys, arguments, reason):
    assert main([a.format(pretrained) for a in arguments]) == 2
    assert reason in capsys.readouterr().err


def listing(folder):
    return sorted((str(p), p.stat().st_mtime_ns) for p in folder.rglob("*"))


DRY = [
    (f"pretrain --config {OVERLAY} --dataset_dir {{data}} --output_dir {{out}} --weights {{out}}/w.pt", "steps"),
    (
        f"train --config {TASK} {OVERLAY} --dataset_dir {{data}} --weights scratch --output_dir {{out}} "
        "--model {out}/m.pt",
        "controls",
    ),
    (f"evaluate --config {TASK} {OVERLAY} --dataset_dir {{data}} --model {{model}} --output_dir {{out}}", "8 patients"),
    (
        f"probe --config {OVERLAY} --dataset_dir {{data}} --weights {{encoder}} --sizes [10] --output_dir {{out}}",
        "probes",
    ),
    ("predict {data}/alzheimer --model {model} --output {out}", "scans    40"),
    ("compare --dataset_dir {data} --sizes [10] --seeds [0] --output_dir {out}", "23 runs"),
    ("cache --datalist {data}/pretraining.json --output {out}", "float16"),
    ("phantom --output {out}", "40×48×40"),
]


@pytest.mark.parametrize(("command", "said"), DRY, ids=[c.split()[0] for c, _ in DRY])
def test_a_dry_run_says_the_plan_and_writes_nothing(tiny_phantom, trained, tmp_path, capsys, command, said):
    places = {"data": tiny_phantom, "out": tmp_path / "out", "model": trained / "model.pt"}
    places["encoder"] = record(trained)["weights"]
    small = SMALL if command.split()[0] in ("pretrain", "train", "evaluate") else []
    before = listing(tiny_phantom), listing(trained), listing(ROOT / "models")
    assert main([*shlex.split(command.format(**places)), *small, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert said in shown
    assert "Nothing was started, and no file was written." in shown
    assert not (tmp_path / "out").exists()
    assert before == (listing(tiny_phantom), listing(trained), listing(ROOT / "models"))


def test_a_dry_run_counts_steps_and_says_what_is_there(pretrained, tiny_phantom, capsys):
    data = ["--dataset_dir", str(tiny_phantom), "--output_dir", str(pretrained), "--weights", str(pretrained / "w.pt")]
    four = [word if word != "1" else "4" for word in PRETRAIN]  # epochs
    assert main([*four, *data, "--micro_batch", "4", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "3 an epoch, 12 in 4 epochs" in shown  # 56 subjects in whole batches of 16
    assert "16 subjects, 32 views; 4 subjects in memory at a time" in shown
    assert "w.pt, which is there and would be replaced" in shown
    assert "a run of 1 epochs is there, which --resume would continue" in shown


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_estimate_of_memory_counts_what_autograd_keeps(checkpointing):
    from bundle.cli.preview import activation_bytes
    from bundle.networks.encoders import DenseNetEncoder

    with torch.device("meta"):
        network = DenseNetEncoder(1, 8, 4, (2, 2))
    network.checkpointing = checkpointing
    one, two = (activation_bytes(network, (n, 1, 20, 24, 20)) for n in (2, 4))
    assert two == pytest.approx(2 * one, rel=0.01)
    assert activation_bytes(network, (2, 1, 20, 24, 20), each=2) == one // 2
    real = DenseNetEncoder(1, 8, 4, (2, 2))
    real.checkpointing = checkpointing
    kept = {}
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: kept.update({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes()}) or t, lambda t: t
    ):
        output = real(torch.zeros(2, 1, 20, 24, 20))
    assert output.requires_grad
    own = {p.untyped_storage().data_ptr() for p in (*real.parameters(), *real.buffers())}
    counted = sum(size for place, size in kept.items() if place not in own)
    assert (one == pytest.approx(counted, rel=0.02)) if not checkpointing else (one > counted)


# python -m monai.bundle run


def as_monai(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["/x/monai/bundle/__main__.py", "run", *arguments])


FILES = "['configs/pretrain.yaml','configs/phantom.yaml']"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["training", "--config_file", FILES, "--temprature", "0.5"], "did you mean 'temperature'"),
        (["--config_file=configs/pretrain.yaml", "--epoch=3"], "There is no option --epoch; did you mean 'epochs'"),
        (["--config_file", FILES, "--epochs", "0"], "--epochs is 0"),
        (["--config_file", FILES, "--head_learning_rate", "0.1"], "There is no option --head_learning_rate"),
        (["--config_file", "configs/train.json", "--trin#sampler#seed", "1"], "did you mean 'train'"),
    ],
)
def test_a_misspelt_option_of_monai_is_refused(monkeypatch, arguments, reason):
    as_monai(monkeypatch, *arguments)
    with pytest.raises(ValueError, match=reason):
        run_record.check_command()


@pytest.mark.parametrize(
    "arguments",
    [
        ["training", "--config_file", FILES, "--epochs", "3", "--sigma", "scott", "--views", "$'crop'"],
        ["--config_file", "['configs/train.json','configs/multi_gpu_train.json']", "--tracking", "mlflow"],
        ["--run_id", "evaluating", "--config_file", "configs/probe.yaml", "--sizes", "[10]", "--meta_file", "x.json"],
        ["--config_file", "['configs/pretrain.yaml','configs/multi_gpu_pretrain.yaml']", "--train#sampler#seed", "1"],
    ],
)
def test_good_options_of_monai_pass(monkeypatch, arguments):
    as_monai(monkeypatch, *arguments)
    run_record.check_command()


def test_an_arguments_file_of_monai_is_looked_at(monkeypatch, tmp_path):
    path = tmp_path / "args.json"
    path.write_text(json.dumps({"config_file": "configs/pretrain.yaml", "epoch": 3}))
    as_monai(monkeypatch, "--args_file", str(path))
    with pytest.raises(ValueError, match="did you mean 'epochs'"):
        run_record.check_command()


def test_elsewhere_nothing_is_checked_or_recorded(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["client.py", "--epoch", "3"])
    run_record.check_command()
    run_record.record_command(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_monai_refuses_before_training_and_records_what_it_runs(tiny_phantom, pretrained, tmp_path):
    places = ["--dataset_dir", tiny_phantom, "--output_dir", tmp_path, "--weights", tmp_path / "w.pt"]
    options = [*places, *SMALL, "--epochs", "1", "--batch_size", "16"]
    command = ["run", "training", "--config_file", FILES, *options]
    with pytest.raises(RuntimeError) as refusal:
        run_monai(*command, "--temprature", "1")
    assert "There is no option --temprature; did you mean 'temperature'" in str(refusal.value.__cause__)
    assert list(tmp_path.iterdir()) == []
    run_monai(*command)
    assert same_weights(pretrained / "w.pt", tmp_path / "w.pt")
    first, second = record(pretrained), record(tmp_path)
    assert {name for name in first if first[name] != second[name]} <= {"made_by", "output_dir", "weights"}
    assert second["made_by"]["kind"] == "pretrain"
