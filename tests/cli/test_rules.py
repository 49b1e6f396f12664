"""Values that no command can use are refused before any work, wherever they were written."""

import json
import re
import shlex

import pytest

from bundle.cli import inputs, rules
from bundle.cli.main import main
from bundle.cli.options import FOLDER, RUNNABLE, merged_config, read_config, resolve
from tests.conftest import ROOT

DEFAULTS = ["pretrain.yaml", "probe.yaml", "train.json", "evaluate.json", "inference.json", "compare.yaml"]
DEFAULTS += ["two_modalities.yaml", "probe_two_modalities.yaml", "probe_several_encoders.yaml"]


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("name", DEFAULTS)
def test_all_defaults_follow_the_rules(name):
    command = name.partition(".")[0]
    assert list(rules.faults(command, read_config(ROOT / "configs" / name))) == []


def test_every_rule_is_of_an_option_that_there_is():
    known = {key for name in DEFAULTS for key in read_config(ROOT / "configs" / name)}
    assert set(rules.OPTIONS) <= known


def test_the_choices_are_those_of_the_code():
    from bundle.cohort.datalist import METADATA_COLUMNS
    from bundle.cohort.packing import STORAGES
    from bundle.evaluation.features import COVARIATES
    from bundle.evaluation.harmonizing import KINDS
    from bundle.evaluation.site_batch_norm import KINDS as ADAPTED
    from bundle.evaluation.site_effects import KEPT
    from bundle.evaluation.subjects import PROTOCOLS
    from bundle.networks.encoders import NORMS
    from bundle.networks.weights import save_weights
    from bundle.prediction.maps import METHODS
    from bundle.prediction.output import EXISTING
    from bundle.prediction.pages import TARGETS as EXPLAINED
    from bundle.prediction.table import BACKENDS
    from bundle.preparation.backends import NAMES
    from bundle.pretext.views import TwoViews
    from bundle.training.engines import PRECISIONS, TARGETS

    options, own = rules.OPTIONS, rules.OWN
    pairs = [
        (options["precision"], PRECISIONS),
        (options["target"], TARGETS),
        (own["inference"]["target"], EXPLAINED),
        (options["explain"], [*METHODS, "none"]),
        (options["backend"], BACKENDS),
        (own["prepare"]["backend"], NAMES),
        (options["existing"], EXISTING),
        (options["protocol"], PROTOCOLS),
        (options["harmonize"], KINDS),
        (options["adapt"], ADAPTED),
        (own["cache"]["storage"], STORAGES),
        (rules.ARGUMENTS["norm"], NORMS),
    ]
    for rule, names in pairs:
        assert set(rule.choices) == set(names)
    assert all(TwoViews(name, seed=0).transforms for name in options["views"].choices)
    assert all(options["metadata_columns"].holds([name]) for name in METADATA_COLUMNS)
    assert all(options["adjust"].holds([name]) for name in COVARIATES)
    assert options["harmonize_keep"].holds(list(KEPT))
    assert "float16" in save_weights.__doc__


BAD = [
    ("pretrain", "epochs", 0),
    ("pretrain", "epochs", 2.5),
    ("pretrain", "epochs", True),
    ("pretrain", "batch_size", 1),
    ("pretrain", "sigma", 0),
    ("pretrain", "sigma", float("nan")),
    ("pretrain", "sigma", "scot"),
    ("pretrain", "temperature", -0.1),
    ("pretrain", "temperature", 1e-30),
    ("pretrain", "loss", {"temperature": 1e30}),
    ("pretrain", "learning_rate", 0.0),
    ("pretrain", "learning_rate", "1e-4"),
    ("pretrain", "weight_decay", -1e-5),
    ("pretrain", "cache_rate", 1.5),
    ("pretrain", "num_workers", -1),
    ("pretrain", "val_interval", 0),
    ("pretrain", "checkpoint_interval", 0),
    ("pretrain", "micro_batch", 0),
    ("pretrain", "own_share", 1.1),
    ("pretrain", "own_share", True),
    ("pretrain", "average", 1),
    ("pretrain", "average", "ema"),
    ("pretrain", "keep", "lats"),
    ("pretrain", "projector_layers", 1),
    ("pretrain", "start", None),
    ("pretrain", "allow_other_grid", "yes"),
    ("pretrain", "train#sampler#people_per_site", 1),
    ("pretrain", "seed", -1),
    ("pretrain", "seed", 2**32),
    ("pretrain", "precision", "float64"),
    ("pretrain", "views", "cutuot"),
    ("pretrain", "storage", "uint8"),
    ("pretrain", "metadata_columns", ["gender"]),
    ("pretrain", "metadata_columns", []),
    ("pretrain", "block_config", [6, 0]),
    ("pretrain", "train#trainer#max_epochs", 0),
    ("pretrain", "encoder", {"_target_": "bundle.networks.DenseNetEncoder", "norm": "layer"}),
    ("pretrain", "lr_scheduler", {"step_size": 0}),
    ("probe", "protocol", "fold"),
    ("probe", "n_folds", 1),
    ("probe", "sizes", [100, 0]),
    ("probe", "draws", 0),
    ("probe", "pool", 0),
    ("probe", "adjust", ["site"]),
    ("probe", "harmonize", "center"),
    ("probe", "harmonize_keep", ["diagnosis"]),
    ("probe", "harmonize_keep", "age"),
    ("probe", "adapt", "batchnorm"),
    ("probe", "penalties", []),
    ("probe", "tasks", {}),
    ("train", "validation_share", 0.0),
    ("train", "validation_share", 0.9),
    ("train", "size", 1),
    ("train", "draw", -1),
    ("train", "patience", 0),
    ("train", "class_weight", "balance"),
    ("train", "class_names", ["control", "control"]),
    ("train", "operating_point", "best"),
    ("train", "operating_point", "sensitivity=90"),
    ("train", "operating_point", "sensitivity"),
    ("train", "operating_point", "accuracy=0.9"),
    ("evaluate", "conformal_level", 1.0),
    ("evaluate", "conformal_level", 90),
    ("evaluate", "specificities", 0.9),
    ("evaluate", "specificities", [0.9, 95]),
    ("evaluate", "specificities", []),
    ("inference", "explain", "gradcam"),
    ("inference", "backend", "tensorrt"),
    ("inference", "target", "metadata"),
    ("inference", "existing", "replace"),
    ("inference", "augmentations", -1),
    ("compare", "seeds", [-1]),
    ("phantom", "resolution", -1.0),
    ("phantom", "pretraining", 3),
    ("cohort", "workers", 0),
    ("cohort", "shape", [0, 1, 1]),
    ("cache", "storage", "float32"),
    ("positives", "batch_size", 1),
    ("export", "formats", ["onx"]),
]


@pytest.mark.parametrize(("command", "name", "value"), BAD, ids=[f"{c} {n} {v}" for c, n, v in BAD])
def test_a_value_out_of_range_is_refused(command, name, value):
    fault = next(rules.faults(command, {name: value}))
    assert fault.startswith(name)
    assert "expected" in fault


GOOD = [
    ("pretrain", {"sigma": "scott", "weight_decay": 0, "micro_batch": None, "cache_rate": 1, "learning_rate": "$1e-4"}),
    ("pretrain", {"views": [{"_target_": "bundle.pretext.Flip"}], "batch_size": {"_target_": "share_of"}, "seed": 0}),
    ("pretrain", {"own_share": None, "average": None, "start": "scratch", "keep": "last", "projector_layers": 3}),
    ("pretrain", {"own_share": 0, "average": 0.999, "start": "a.pt", "train#sampler#people_per_site": 2}),
    ("train", {"class_weight": None, "size": None, "operating_point": "sensitivity=0.9"}),
    ("train", {"operating_point": "probability=1.0", "validation_share": 0.5}),
    ("train", {"operating_point": "probability=1e-05"}),
    ("train", {"operating_point": "youden"}),
    ("probe", {"adjust": [], "tasks": {"a": {"training": "x.json", "test": "y.json"}}}),
    ("probe", {"harmonize": "combat", "harmonize_keep": ["age", "sex"]}),
    ("cache", {"workers": 0}),
    ("evaluate", {"conformal_level": 0.95, "specificities": [0.85]}),
]


@pytest.mark.parametrize(("command", "values"), GOOD)
def test_a_value_in_range_passes(command, values):
    assert list(rules.faults(command, values)) == []


def overlay(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("epochs: 0", "mine.yaml: epochs is 0, but a whole number of at least 1"),
        ("learning_rate: 1e-4", "learning_rate is '1e-4', but a number above 0"),
        ("compile: 'yes'", "sets compile to 'yes', but it is False; expected the same type"),
        ("train#samplr#seed: 1", "there is no 'samplr'; did you mean 'sampler'"),
        ("train#trainr: {a: 1}", "sets 'train#trainr', which nothing uses; did you mean 'trainer'"),
        ("train#trainer#max_epochs: 0", "train#trainer#max_epochs is 0"),
        ("loss: {_target_: bundle.losses.InfoNCE, temperature: 0}", "loss#temperature is 0"),
    ],
)
def test_an_overlays_values_are_checked_like_options(tmp_path, capsys, text, reason):
    assert main(["pretrain", "--config", overlay(tmp_path, text)]) == 2
    assert reason in capsys.readouterr().err


def overlays():
    """Every overlay with the configs that its first line names."""
    for path in sorted((ROOT / "configs").glob("*.*")):
        if found := re.search(r"Overlay on ([^:]*):", path.read_text()[:200]):
            words = re.findall(r"\w+", found[1])
            yield from ((name, path.name) for name in ("pretrain", "probe", "train", "inference") if name in words)


@pytest.mark.parametrize(("runnable", "overlay"), overlays())
def test_all_overlays_follow_the_rules(runnable, overlay):
    first = next(path for path in RUNNABLE if path.stem == runnable)
    resolve([first, FOLDER / overlay], {}, RUNNABLE)


def test_an_overlay_may_add_an_argument_or_what_something_refers_to(tmp_path):
    text = "train#sampler#drop_last: true\nvalidate#other: {a: 1}\nvalidate#dataloader#sampler: '@validate#other'\n"
    files = [FOLDER / "pretrain.yaml", tmp_path / "mine.yaml"]
    overlay(tmp_path, text)
    resolve(files, {}, RUNNABLE)


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("phantom --resolution -1", "--resolution is -1.0"),
        ("phantom --resoluton 3", "There is no option --resoluton; did you mean 'resolution'"),
        ("cohort --table t.csv --images a --output b --workers 0", "--workers is 0"),
        ("export --formats onx", "torchscript, onnx or torch.export"),
        ("compare --seeds [-1]", "--seeds is [-1]"),
        ("compare --szes [10]", "There is no option --szes; did you mean 'sizes'"),
        ("compare --dataset_dir models --pretraining '{epochs: 0}'", "--epochs is 0"),
        ("predict scans --explain gradcam", "did you mean 'gradcam++'"),
        ("train --class_weight balance", "did you mean 'balanced'"),
        ("pretrain --views '{cutout'", "The value '{cutout' cannot be read"),
        ("package --outpt x", "did you mean 'output'"),
    ],
)
def test_every_command_refuses_before_any_work(capsys, command, reason):
    assert main(shlex.split(command)) == 2
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("pretrain --datalist {folder}/pretrainin.json", "did you mean 'pretraining.json'"),
        ("pretrain --dataset_dir {folder}/none", "there is no folder {folder}/none"),
        ("probe --dataset_dir {folder} --weights {folder}/x.pt", "`weights` is {folder}/x.pt"),
        ("train --dataset_dir {folder} --weights scratch --task alzheimr", "did you mean 'alzheimer.json'"),
        ("evaluate --dataset_dir {folder} --model {folder}/x.pt", "`model` is {folder}/x.pt"),
        ("predict x.nii --model modl.pt", "`model` is modl.pt"),
        ("check x.nii --model models/modl.pt", "did you mean 'model.pt'"),
        ("cache --datalist {folder}/bipolr.json", "did you mean 'bipolar.json'"),
        ("convert-weights {folder}/none.pth", "`file` is {folder}/none.pth"),
    ],
)
def test_a_missing_file_is_refused_with_the_nearest_name(tmp_path, capsys, command, reason):
    for name in ("pretraining", "schizophrenia", "bipolar", "alzheimer"):
        (tmp_path / f"{name}.json").write_text("{}")
    assert main(command.format(folder=tmp_path).split()) == 1
    assert reason.format(folder=tmp_path) in capsys.readouterr().err


def test_the_files_of_a_probe_are_those_of_its_tasks():
    config = {"weights": "w.pt", "age_datalist": None, "tasks": {"a": "a.json", "b": {"training": "c", "test": "d"}}}
    found = inputs.input_files("probe", config)
    assert {name: str(path) for name, path in found.items()} == {
        "weights": "w.pt",
        "tasks#a": "a.json",
        "tasks#b#training": "c",
        "tasks#b#test": "d",
    }


def test_paths_are_read_without_evaluating_anything():
    config = {"root": ".", "dir": "$@root + '/data'", "loop": "@loop", "danger": "$__import__('os').getcwd()"}
    assert inputs.text_of(config, "$@dir + '/a.json'") == "./data/a.json"
    assert inputs.text_of(config, "@dir") == "./data"
    assert inputs.text_of(config, "@loop") is None
    assert inputs.text_of(config, "@danger") is None


def test_components_take_the_arguments_that_configs_give_them():
    from bundle.cli.components import check_components
    from bundle.cli.run_record import merged_as_written

    together = [
        ["pretrain.yaml", "multi_gpu_pretrain.yaml", "cached.yaml"],
        ["pretrain.yaml", "pretext_models_genesis.yaml", "phantom.yaml"],
        ["pretrain.yaml", "two_modalities.yaml", "phantom.yaml", "resolution_6mm.yaml"],
        ["probe.yaml"],
        ["probe.yaml", "probe_two_modalities.yaml", "phantom.yaml"],
        ["probe.yaml", "probe_several_encoders.yaml"],
        ["train.json", "evaluate.json", "multi_gpu_evaluate.json"],
        ["train.json", "multi_gpu_train.json"],
        ["inference.json"],
    ]
    for names in together:
        files = [FOLDER / name for name in names]
        config = merged_as_written(files, {})
        check_components(config)
        ours = merged_config(files, {})
        assert {name: config[name] for name in ours} == ours  # as MONAI merges them
    config["network_def"]["growth"] = 3
    with pytest.raises(ValueError, match=r"DenseNet121 an argument 'growth'.*did you mean 'growth_rate'"):
        check_components(config)
    with pytest.raises(ValueError, match="a is a 'NoSuchThing', but there is no such component"):
        check_components({"a": {"_target_": "NoSuchThing"}})


def test_what_a_run_refers_to_is_there():
    from bundle.cli.components import check_references
    from bundle.cli.run_record import merged_as_written

    def checked(*names):
        files = [FOLDER / name for name in names]
        check_references(merged_as_written(files, {}), files)

    for names in (
        ["pretrain.yaml", "multi_gpu_pretrain.yaml", "cached.yaml"],
        ["pretrain.yaml", "pretext_simclr.yaml", "phantom.yaml"],
        ["pretrain.yaml", "two_modalities.yaml"],
        ["probe.yaml", "phantom.yaml"],  # which names an optimizer that a probe does not come to
        ["train.json", "evaluate.json", "multi_gpu_evaluate.json"],
        ["inference.json"],
    ):
        checked(*names)
    sentence = (
        r"`loss` refers to `temperature`, which .*train.json does not have: .*simclr.yaml is an overlay on pretrain"
    )
    with pytest.raises(ValueError, match=sentence):
        checked("train.json", "pretext_simclr.yaml")


def test_the_table_of_rules_is_plain_data():
    assert json.dumps({name: rule.expected for name, rule in rules.OPTIONS.items()})
