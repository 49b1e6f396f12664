"""The device can be chosen: in every config, by its name or as MONAI's configs spell it."""

import pytest
import torch

from bundle.cli.main import main
from bundle.cli.options import FOLDER, RUNNABLE, resolve
from bundle.cli.run import value_of
from bundle.networks import chosen_device

CONFIGS = [["pretrain.yaml"], ["probe.yaml"], ["train.json"], ["train.json", "evaluate.json"], ["inference.json"]]


@pytest.mark.parametrize("files", CONFIGS, ids=lambda files: files[-1])
def test_every_config_takes_a_device_by_its_name_and_as_monai_spells_it(files, tmp_path):
    files = [FOLDER / name for name in files]
    assert value_of(files, {}, "torch_device") == chosen_device("auto")
    assert value_of(files, resolve(files, {"device": "cpu"}, RUNNABLE), "torch_device") == torch.device("cpu")
    overlay = tmp_path / "mine.yaml"
    for written in ("cpu", "$torch.device('cpu')"):
        overlay.write_text(f'device: "{written}"\n')
        resolve([*files, overlay], {}, RUNNABLE)
        assert value_of([*files, overlay], {}, "torch_device") == torch.device("cpu")


@pytest.mark.parametrize("files", CONFIGS, ids=lambda files: files[-1])
def test_nothing_but_the_choice_itself_refers_to_the_option(files):
    for name in files:
        text = (FOLDER / name).read_text()
        assert text.count("@device") == (name != "evaluate.json"), name


@pytest.mark.parametrize("command", ["pretrain", "probe", "train", "evaluate", "compare"])
def test_what_is_no_device_is_refused_before_any_work(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([command, "--device", "gpu"]) == 2
    assert "--device is 'gpu', but auto, cpu, cuda" in capsys.readouterr().err
