import re
from pathlib import Path

import pytest
import yaml

from bundle.cli.options import (
    OptionError,
    check_overlay,
    check_overrides,
    parse_overrides,
    read_config,
    refuse_repeated,
    resolve,
)

FOLDER = Path(__file__).parents[2] / "configs"
RUNNABLE = [FOLDER / name for name in ("pretrain.yaml", "probe.yaml", "train.json")]
LAID_OVER = [  # as evaluate over train
    FOLDER / name for name in ("two_modalities.yaml", "probe_two_modalities.yaml", "probe_several_encoders.yaml")
]
KNOWN = [*RUNNABLE, *LAID_OVER, FOLDER / "evaluate.json", FOLDER / "inference.json", FOLDER / "compare.yaml"]


@pytest.mark.parametrize("path", RUNNABLE, ids=lambda p: p.name)
def test_runnable_configs_have_the_ids_that_monai_runs(path):
    config = read_config(path)
    assert {"initialize", "run", "finalize"} <= set(config)
    assert "training" in config or "evaluating" in config


def test_pretraining_defaults_are_the_papers():
    config = read_config(FOLDER / "pretrain.yaml")
    expected = {"sigma": 5.0, "temperature": 0.1, "views": "cutout", "batch_size": 64, "epochs": 100}
    assert {name: config[name] for name in expected} == expected
    assert (config["learning_rate"], config["weight_decay"]) == (1e-4, 5e-5)
    assert config["block_config"] == [6, 12, 24, 16]
    assert (config["lr_step"], config["lr_factor"]) == (10, 0.9)


def test_fine_tuning_defaults_are_the_papers():
    config = read_config(FOLDER / "train.json")
    expected = {"batch_size": 8, "epochs": 50, "learning_rate": 1e-4, "weight_decay": 5e-5}
    assert {name: config[name] for name in expected} == expected
    assert (config["lr_step"], config["lr_factor"]) == (10, 0.2)


def test_all_configs_agree_on_network_and_preprocessing():
    pretrain, probe, train = (read_config(path) for path in RUNNABLE)
    assert pretrain["preprocessing"] == probe["preprocessing"] == train["preprocessing"]
    for name in ("init_features", "growth_rate", "block_config"):
        assert pretrain[name] == train[name]
        assert name not in probe, "an architecture is stated once: a probe reads it from the weights"


@pytest.mark.parametrize(
    "path", sorted(set(FOLDER.glob("*.yaml")) - {*RUNNABLE, *LAID_OVER, FOLDER / "compare.yaml"}), ids=lambda p: p.name
)
def test_overlays_are_short_say_what_they_change_and_set_only_what_exists(path):
    text = path.read_text()
    assert text.startswith("# Overlay on ")
    assert text.count("\n") <= 25
    runnable = [FOLDER / "compare.yaml"] if path.stem.startswith("compare_") else KNOWN
    known = [key for one in runnable for key in read_config(one)]
    check_overlay({}, yaml.safe_load(text), known, path.name)


def test_the_comparison_names_overlays_that_there_are():
    plan = read_config(FOLDER / "compare.yaml")
    assert next(iter(plan["pretexts"])) == "y-Aware"
    for path in [*plan["overlays"], *(p for overlays in plan["pretexts"].values() for p in overlays)]:
        assert Path(FOLDER.parent / path).is_file()


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda p: p.name)
def test_no_number_is_written_so_that_yaml_reads_a_string(path):
    assert not re.findall(r":\s*\d+[eE]-?\d+", path.read_text())


def test_overrides_are_parsed_as_yaml():
    arguments = ["--epochs", "3", "--learning-rate=1e-3", "--resume", "--sizes", "[50, 100]", "--weights", "a.pt"]
    assert parse_overrides(arguments) == {
        "epochs": 3,
        "learning_rate": 1e-3,
        "resume": True,
        "sizes": [50, 100],
        "weights": "a.pt",
    }
    with pytest.raises(OptionError, match="found 'epochs'"):
        parse_overrides(["epochs", "3"])


CONFIG = {"epochs": 100, "sigma": 5.0, "resume": False, "views": "cutout", "dir": "$@root", "train": {"lr": 0.1}}


@pytest.mark.parametrize(
    "override", [{"epochs": 3}, {"sigma": 3}, {"sigma": "scott"}, {"resume": True}, {"dir": "x"}, {"train#lr": 0.5}]
)
def test_good_overrides_pass(override):
    check_overrides(CONFIG, override)


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ({"epoch": 3}, "did you mean 'epochs'"),
        ({"train#rl": 3.0}, "'lr'"),
        ({"zzz": 3}, "there is 'dir', 'epochs'"),
        ({"epochs": "many"}, "a whole number of at least 1 is expected"),
        ({"epochs": 3.5}, "a whole number of at least 1 is expected"),
        ({"epochs": True}, "a whole number of at least 1 is expected"),
        ({"sigma": "scot"}, "did you mean 'scott'"),
        ({"resume": 1}, "expected the same type"),
        ({"views": "$__import__('os')"}, "expressions are for config files"),
    ],
)
def test_bad_overrides_are_refused(override, reason):
    with pytest.raises(OptionError, match=reason):
        check_overrides(CONFIG, override)


def test_an_overlay_with_an_unknown_key_is_refused(tmp_path):
    overlay = tmp_path / "mine.yaml"
    overlay.write_text("epoch: 3\n")
    with pytest.raises(OptionError, match=r"mine.yaml sets 'epoch', which no config has; did you mean 'epochs'"):
        resolve([RUNNABLE[0], overlay], {}, RUNNABLE)
    overlay.write_text("epochs: [1")
    with pytest.raises(OptionError, match="cannot be read"):
        resolve([RUNNABLE[0], overlay], {}, RUNNABLE)
    with pytest.raises(OptionError, match="There is no config"):
        read_config(tmp_path / "absent.yaml")


def test_an_overlays_values_are_what_overrides_are_checked_against():
    files = [RUNNABLE[0], FOLDER / "phantom.yaml"]
    assert resolve(files, {"init_features": 8}, RUNNABLE) == {"init_features": 8}


@pytest.mark.parametrize(
    "words",
    [
        ["--where", "age<80", "--where", "sex=F"],
        ["--hold-out", "a.json", "--hold_out=b.json"],
    ],
)
def test_a_list_given_twice_is_refused(words):
    with pytest.raises(OptionError, match="is given twice, and only the values of one of both would count"):
        refuse_repeated(words, ["where", "hold_out"])


def test_of_an_option_of_one_value_the_last_one_counts_and_a_warning_says_so(caplog):
    refuse_repeated(["--where", "age<80", "sex=F", "--loss#sigma", "1", "--loss::sigma", "2", "--seed", "1"], ["where"])
    assert caplog.messages == ["--loss::sigma is given more than once: the last one counts."]


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.yaml", "epochs: 1\nepochs: 2\n"), ("a.json", '{"epochs": 1, "epochs": 2}'), ("b.yaml", "tasks: {a: 1, a: 2}")],
)
def test_a_key_that_is_there_twice_is_refused(name, text, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(OptionError, match="twice in one mapping, of which only one would count"):
        read_config(tmp_path / name)


def test_a_value_with_a_key_twice_is_refused():
    with pytest.raises(OptionError, match="'north' twice in one mapping"):
        parse_overrides(["--site_groups", "{north: [a], south: [b], north: [c]}"])
