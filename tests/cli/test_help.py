"""What `--help` lists: what a person sets, in words, and nothing else."""

import re
import subprocess
import sys

import pytest

from bundle.cli.help import options_of
from bundle.cli.main import main
from bundle.cli.options import FOLDER, read_config

COMMANDS = {
    "pretrain": ["pretrain.yaml"],
    "probe": ["probe.yaml"],
    "train": ["train.json"],
    "evaluate": ["train.json", "evaluate.json"],
    "predict": ["inference.json"],
    "compare": ["compare.yaml"],
}


def listed(command):
    return options_of([FOLDER / name for name in COMMANDS[command]])


def shown(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    return capsys.readouterr().out


def test_an_option_is_read_with_its_default_its_words_and_its_heading():
    (sigma,) = [option for option in listed("pretrain")["Method"] if option.name == "sigma"]
    assert sigma.default == "5.0"
    assert sigma.words.startswith("σ, years")
    (folder,) = [option for option in listed("pretrain")["Data"] if option.name == "datalist"]
    assert folder.default == "data/pretraining.json"
    (size,) = [option for option in listed("train")["Optimisation"] if option.name == "batch_size"]
    assert (size.default, size.words) == ("8", "subjects")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_says_what_it_is_and_none_is_plumbing(command):
    groups = listed(command)
    options = [option for group in groups.values() for option in group]
    assert len({option.name for option in options}) == len(options) >= 5
    for option in options:
        assert len(option.words) > 3, f"{command} --{option.name} has no description"
        assert not re.search(r"[$@]|_target_", option.default), f"{command} --{option.name} {option.default}"
    names = {option.name for option in options}
    assert not names & {"placed_network", "lower_is_better", "monitor", "network_def", "run", "loss", "imports"}


@pytest.mark.parametrize("name", ["pretrain.yaml", "probe.yaml"])
def test_what_stands_above_the_plumbing_is_for_people_and_what_stands_below_is_not(name):
    text = (FOLDER / name).read_text()
    above, below = text.split("\n# Plumbing\n")
    assert "_target_" not in above
    config = read_config(FOLDER / name)
    plain = [k for k in re.findall(r"^(\w+):", below, re.MULTILINE) if isinstance(config[k], (int, float, bool))]
    assert set(plain) <= {"first_process", "lr_scheduler_steps_per_epoch"}


def test_evaluation_lists_the_folder_of_its_own(capsys):
    text = shown("evaluate", capsys)
    assert text.count("--output_dir") == 1
    assert "predictions.csv, metrics.json" in " ".join(text.split())


@pytest.mark.parametrize(("command", "width"), [("pretrain", 80), ("predict", 80), ("train", 120)])
def test_help_is_wrapped_at_the_width_of_the_terminal(command, width, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    lines = shown(command, capsys).splitlines()
    assert max(map(len, lines)) <= width
    assert any(len(line) > width - 20 for line in lines)
    for heading in listed(command):
        assert f"{heading}:" in lines


def test_predict_lists_no_option_that_it_sets_itself(capsys):
    text = shown("predict", capsys)
    assert "--dataset_dir" not in text
    assert "SOURCE" in text


def test_help_of_everything_imports_nothing_heavy():
    code = "import sys, bundle.cli.main as m; m._parser().format_help(); print([n for n in %r if n in sys.modules])"
    heavy = ["torch", "monai", "numpy", "pandas", "sklearn", "ignite", "nibabel"]
    done = subprocess.run([sys.executable, "-c", code % heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
