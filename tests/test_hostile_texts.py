"""Texts from outside stay texts: no page takes markup from them, no config runs them."""

import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bundle.cli import expressions
from bundle.cli.main import main
from bundle.cli.options import FOLDER, OptionError, check_overrides, parse_overrides, read_config
from bundle.cli.run import recipe_of, value_of
from bundle.cohort.datalist import load_section, write_datalist
from bundle.cohort.table import read_cohort
from bundle.evaluation import figures
from bundle.metrics.classification import reliability
from bundle.networks import network_of
from bundle.networks.encoders import DenseNetEncoder
from bundle.networks.weights import save_weights
from bundle.prediction import pictures
from bundle.prediction.pages import render
from bundle.scans.modality import Modality
from bundle.scans.names import safe_names
from tests.conftest import ROOT
from tests.fuzzing.targets import CACHED, DATALIST, TABLE, brain, card, npy

often = settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))

# Pages

MARKUP = [
    *("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "' onmouseover='x", "</title><svg/onload=x>"),
    *(
        "{{ 7 * 7 }}",
        "{% include 'scan.html' %}",
        "javascript:alert(1)",
        "&lt;b&gt;",
        "]]>",
        "<!--",
        "\0<b>",
        "a\u2028<i>",
    ),
]
TEXT = st.one_of(st.text(max_size=20), st.sampled_from(MARKUP))


class Outline(HTMLParser):
    """Tags with the names of their attributes, and all text."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.tags, self.texts, self.attributes = [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, *(name for name, _ in attrs)))
        self.attributes += [value for _, value in attrs]

    def handle_endtag(self, tag):
        self.tags.append(f"/{tag}")

    def handle_comment(self, data):
        self.tags.append("comment")

    def handle_data(self, data):
        self.texts.append(data)


def content(text):
    """Everything that the two pages show, with one text from outside in all places."""
    facts = {"facts": [(text, text)], "warning": text, "classes": text, "trained_on": text, "positive": text}
    checks = [dict.fromkeys(("name", "measured", "limit", "source", "verdict", "reason"), text)]
    shown = ("name", "predicted", "raw", "calibrated", "uncertainty", "threshold", "sensitivity", "specificity")
    more = ("percentile", "reliability", "distance", "ages", "brain_age", "age_error", "nearest", "gap")
    scan = dict.fromkeys(
        ("page", "participant_id", "verdict", "reason", "calibrated", "predicted", "brain_age", "percentile"), text
    )
    scan |= {"severity": text, "probability": text}
    picture = {"image": text, "label": text, "ends": text}
    axis = dict.fromkeys(("name", "plane", "ends", "low", "high", "at"), text)
    viewer = {**dict.fromkeys(("scan", "map", "columns", "step", "bar"), text), "axes": [axis]}
    bar = dict.fromkeys(("image", "low", "high", "threshold", "share", "unit"), text)
    region = {"name": text, **dict.fromkeys(("volume", "expected", "z", "percentile", "attribution"), text)}
    sides = {"name": text, "left": region, "right": region}
    modality = Modality("own", text, text, text)  # words that a datalist states
    return {
        "title": text,
        "preparation": {"page": text, "name": text, "version": text},
        "regions": {"norms": text, "picture": text, "rows": [sides], "rest": region, "unit": text, "of": modality},
        "modality": modality,
        "model": facts,
        "checks": checks,
        "reasons": [text],
        "counts": text,
        "scans": [scan],
        "row": {"participant_id": text, "file": text, "verdict": text},
        "method": text,
        "kinds": [text],
        "kind": text,
        "brain": {"tiles": [picture], "locators": [picture], "viewer": viewer, "bar": bar},
        "explanation": text,
        "map_file": text,
        "answer": dict.fromkeys((*shown, *more), text),
    }


@pytest.mark.long
@often
@given(TEXT.filter(bool))
@example("<script>alert(1)</script>")
@example("\"'><svg onload=alert(1)>")
@pytest.mark.parametrize("template", ["scan.html", "index.html"])
def test_no_text_becomes_markup(template, text):
    expected, found = Outline(render(template, content("plain"))), Outline(render(template, content(text)))
    assert found.tags == expected.tags
    if text.strip() and not set(text) & set("\0\r"):
        assert len(found.attributes) == len(expected.attributes)
        assert text in "".join(found.texts)


def test_templates_leave_escaping_on_and_quote_every_attribute():
    for path in (ROOT / "bundle").glob("*/templates/*.html"):
        page = path.read_text()
        assert not re.search(r"\|\s*safe|autoescape|Markup|\|\s*e\b", page)
        for tag in re.findall(r"<[a-z][^<>]*\{\{[^<>]*>", page):
            assert not re.search(r"=\s*\{\{", tag), f"{path.name}: an attribute without quotes in {tag}"
        assert not re.search(r"<(script|style)[^>]*>[^<]*\{\{", page)
    code = "".join(path.read_text() for path in (ROOT / "bundle").rglob("*.py"))
    assert "Markup" not in code
    assert "svg" not in code.lower(), "nothing writes SVG so far: escape its texts as those of pages"


@often
@given(st.lists(TEXT, min_size=1, max_size=5))
def test_names_of_files_hold_nothing_that_leads_elsewhere(ids):
    names = safe_names(ids, [f"/x/{i}" for i in range(len(ids))])
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,80}", name) for name in names)
    assert len({name.lower() for name in names}) == len(names)


@pytest.mark.parametrize("name", [r"a $\frac$ b $x_{$ c", r"$\input{x}$", "$", r"\$", "50 % & <b>", "a\nb", "é☃"])
def test_figures_take_names_as_they_are(name, tmp_path):
    import pandas as pd

    table = reliability([0, 1, 0, 1], [0.1, 0.9, 0.4, 0.6])
    assert pictures.reliability(table, 0.5, name).startswith("data:image/png")
    rows = [
        {"task": name, "method": m, "n": n, "auc": 0.7, "low": 0.6, "high": 0.8} for m in (name, "b") for n in (5, 9)
    ]
    figures.learning_curves(tmp_path / "x.png", pd.DataFrame(rows), {name: 0.9}, note=name)
    figures.calibration_curves(tmp_path / "y.png", {name: {name: table, "b": table}})


# Expressions


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture
def marker(tmp_path):
    path = tmp_path / "it_ran"
    yield path
    assert not path.exists(), "an expression was run"


def touching(marker):
    return f"$__import__('pathlib').Path('{marker}').touch()"


def calling(marker):
    return {"_target_": "os.mkdir", "path": str(marker)}


def test_the_payloads_work(tmp_path):
    from monai.bundle import ConfigParser

    for number, make in enumerate((touching, calling)):
        ConfigParser({"x": make(tmp_path / str(number))}).get_parsed_content("x")
        assert (tmp_path / str(number)).exists()


def test_a_datalist_runs_nothing(tmp_path, marker):
    records = json.loads(DATALIST)
    hostile = {name: touching(marker) for name in ("image", "participant_id", "session_id", "site", "extra")}
    records["training"] = [{**records["training"][0], **hostile, "more": calling(marker)}]
    (tmp_path / "d.json").write_text(json.dumps({**records, "description": touching(marker), "$x": touching(marker)}))
    files = [FOLDER / "pretrain.yaml"]
    (item,) = value_of(files, {"datalist": str(tmp_path / "d.json")}, "train#dataset#data")
    assert item["participant_id"] == touching(marker)
    assert item["more"] == calling(marker)
    (tmp_path / "phantom.json").write_text(json.dumps({"warning": touching(marker)}))
    warning = value_of(files, {"datalist": str(tmp_path / "d.json")}, "validate#card#warning")
    assert warning == touching(marker)


def test_a_table_runs_nothing(tmp_path, marker):
    table = TABLE.replace("\ta\t", f"\t{touching(marker)}\t").replace("sub-1", "1")
    (tmp_path / "t.tsv").write_text(table)
    for name in ("1", "2"):
        (tmp_path / f"{name}.npy").write_bytes(npy(brain()))
    records, problems = read_cohort(tmp_path / "t.tsv", "{participant_id}.npy", expected_shape=None)
    assert (records[0]["site"], problems) == (touching(marker), [])
    write_datalist(tmp_path / "d.json", {"training": records}, description="")
    assert load_section(tmp_path / "d.json", "training")[0]["site"] == touching(marker)
    data = value_of([FOLDER / "pretrain.yaml"], {"datalist": str(tmp_path / "d.json")}, "train#dataset#data")
    assert data[0]["site"] == touching(marker)


@pytest.mark.parametrize(
    "entries",
    [
        lambda m: {"network": {"init_features": touching(m)}},
        lambda m: {"network": {"block_config": [touching(m)]}},
        lambda m: {"network": {"init_features": calling(m)}},
        lambda m: {"network": {"initialize": [touching(m)]}},
        lambda m: {"network": {"logging_file": str(m)}},
        lambda m: {"network": touching(m)},
    ],
)
def test_the_network_of_a_card_runs_nothing(entries, tmp_path, marker, capsys):
    save_weights(tmp_path / "model.pt", DenseNetEncoder(1, 4, 2, (1, 1)), {})
    (tmp_path / "model.json").write_bytes(card(**entries(marker)))
    with pytest.raises(ValueError, match="has network"):
        network_of(tmp_path / "model.pt")
    assert main(["predict", str(tmp_path), "--model", str(tmp_path / "model.pt"), "--output", str(tmp_path)]) == 1
    assert "has network" in capsys.readouterr().err


def test_the_texts_of_a_card_run_nothing(tmp_path, marker):
    known = {name: touching(marker) for name in ("warning", "task", "name", "version", "intended_use", "datalist")}
    (tmp_path / "model.json").write_bytes(card(class_names=[touching(marker), "b"], made_by=calling(marker), **known))
    files = [FOLDER / name for name in ("train.json", "evaluate.json")]
    found = value_of(files, {"model": str(tmp_path / "model.pt")}, "card")
    assert found["class_names"][0] == touching(marker)
    handlers = value_of(files, {"model": str(tmp_path / "model.pt"), "output_dir": str(tmp_path)}, "validate#handlers")
    assert len(handlers) == 2


HOSTILE = {
    "an expression": touching,
    "in a list": lambda m: ["a", touching(m)],
    "in an object": lambda m: {"schizophrenia": touching(m)},
    "deep": lambda m: {"schizophrenia": {"training": [[{"x": touching(m)}]]}},
    "a target": calling,
    "a target deep": lambda m: {"schizophrenia": [calling(m)]},
    "a target through a module": lambda m: {"_target_": "torch.nn.functional.torch.os.mkdir", "name": str(m)},
    "a class through a module": lambda m: {"_target_": "torch.optim.lr_scheduler.types.FunctionType", "code": str(m)},
    "a target of MONAI by its short name": lambda m: {"_target_": "run_cmd", "cmd_list": ["mkdir", str(m)]},
    "a function of torch": lambda m: {"_target_": "torch.load", "f": str(m), "weights_only": False},
    "a target that is an expression": lambda m: {"_target_": touching(m)},
    "a disabled part": lambda m: {"_target_": "torch.nn.ReLU", "_disabled_": touching(m)},
    "requirements": lambda m: {"_target_": "torch.nn.ReLU", "_requires_": "@run"},
    "the debugger": lambda m: {"_target_": "torch.nn.ReLU", "_mode_": "debug"},
    "another file": lambda m: f"%{m}.yaml#x",
    "another file, deep": lambda m: {"schizophrenia": f"%{m}.yaml#x"},
    "a key that is an expression": lambda m: {touching(m): 1},
    "a key that merges": lambda m: {"+initialize": [1]},
    "a reference that is more": lambda m: {"schizophrenia": f"@output_dir + {touching(m)[1:]}"},
}


@pytest.mark.parametrize("option", ["tasks", "weights", "preprocessing", "sizes", "note", "evaluating"])
@pytest.mark.parametrize("kind", HOSTILE)
def test_no_option_runs_anything(kind, option, tmp_path, marker, capsys):
    (tmp_path / "it_ran.yaml").write_text(f'x: "{touching(marker)}"\n')
    value = json.dumps(HOSTILE[kind](marker))
    for arguments in ([f"--{option}", value], [f"--{option}={value}"]):
        assert main(["probe", *arguments, "--output_dir", str(tmp_path)]) == 2
        assert "error: " in capsys.readouterr().err


def test_what_options_of_a_config_may_be():
    scheduler = "{_target_: torch.optim.lr_scheduler.ConstantLR, optimizer: '@optimizer', factor: 1.0}"
    config = read_config(FOLDER / "pretrain.yaml")
    check_overrides(
        config, parse_overrides(["--lr_scheduler", scheduler, "--block_config", "[1, 2]", "--sigma", "scott"])
    )
    kernel = {
        "_target_": "bundle.pretext.ProductKernel",
        "age": {"_target_": "bundle.pretext.GaussianKernel", "sigma": 3.0},
    }
    check_overrides(config, {"kernel": kernel})
    with pytest.raises(OptionError, match="only classes of torch"):
        check_overrides(config, {"kernel": {"_target_": "GaussianKernel"}})


def test_every_class_that_an_option_may_name_only_computes():
    """A capitalised name one step below an allowed module is a class, a type or a constant, and no module."""
    import importlib
    import inspect

    for part in expressions._PARTS:
        module = importlib.import_module(part)
        for name in filter(lambda n: n[0].isupper(), dir(module)):
            found = getattr(module, name)
            own = str(getattr(found, "__module__", "")).startswith(("typing", "monai.networks.nets."))
            assert own or not inspect.isroutine(found), f"{part}.{name}"
            assert not inspect.ismodule(found) or name == "F", f"{part}.{name}"  # nothing can be called by F itself


@pytest.mark.long
@often
@given(st.recursive(st.text(max_size=8), lambda t: st.one_of(st.lists(t), st.dictionaries(st.text(max_size=8), t))))
def test_what_passes_holds_no_expression(value):
    try:
        expressions.refuse_code("x", value)
    except expressions.ExpressionError:
        return
    text = json.dumps(value)
    assert '"$' not in text
    assert '"%' not in text


@pytest.mark.parametrize("name", ["$x.nii", "@x", "%x"])
def test_a_file_named_like_an_expression_is_a_file(name, tmp_path, marker):
    path = expressions.plain_path(name)
    files = [FOLDER / "inference.json"]
    assert value_of(files, {"dataset_dir": path}, "dataset_dir") == f"./{name}"
    (scan,) = value_of(files, {"dataset_dir": expressions.plain_path(touching(marker))}, "scans")
    assert scan["image"] == touching(marker).removeprefix("./")


def test_predict_runs_no_path(tmp_path, marker, monkeypatch):
    seen = {}
    monkeypatch.setattr("bundle.cli.run.run_config", lambda files, overrides, kind: seen.update(overrides))
    monkeypatch.setattr("bundle.cli.inputs.require_paths", lambda paths: None)  # there is none of that name
    assert main(["predict", touching(marker), "--output", touching(marker)]) == 0
    assert value_of([FOLDER / "inference.json"], seen, "dataset_dir") == f"./{touching(marker)}"
    assert value_of([FOLDER / "inference.json"], seen, "output_dir") == f"./{touching(marker)}"


def test_a_cached_datalist_runs_nothing(tmp_path, marker):
    item = {**CACHED, "image_digest": touching(marker), "site": touching(marker)}
    (tmp_path / "pretraining.json").write_text(json.dumps({"training": [item], "cached_from": touching(marker)}))
    files = [FOLDER / "pretrain.yaml", FOLDER / "cached.yaml"]
    (found,) = value_of(files, {"dataset_dir": str(tmp_path)}, "train#dataset#data")
    assert found["image_digest"] == touching(marker)
    assert recipe_of(files, "preprocessing")
