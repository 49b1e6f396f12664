"""The comparison over sites, run for real on a tiny phantom: planned, killed, resumed, refused."""

import contextlib
import io
import json
import os
import re
import signal
import time

import numpy as np
import pandas as pd
import pytest
import yaml

from bundle.adaptation import LEAST
from bundle.cli.main import main
from bundle.evaluation.plan import REFERENCES
from tests.conftest import ROOT
from tests.integration.test_interruption import Command

pytestmark = pytest.mark.long

TABLES = ("sites.csv", "summary.csv", "tests.csv", "knowledge.csv", "scores.csv", "table.md")
METHODS = {"y-Aware", "from scratch", *(name for name in REFERENCES if name != "site")}  # held-out sites do not train
SITES = [f"schizophrenia-{number:02}" for number in range(1, 11)]


def write_plan(phantom, folder, **changes):
    scale = {"init_features": 4, "growth_rate": 4, "block_config": [1, 1], "batch_size": 16}
    (folder / "small.yaml").write_text("# Overlay\n" + yaml.safe_dump(scale))
    plan = {
        "protocol": "sites", "dataset_dir": str(phantom), "tasks": ["schizophrenia"], "pretexts": {"y-Aware": []},
        "networks": {"from scratch": "scratch"}, "seeds": [3], "site_groups": {"first": SITES[:5], "last": SITES[5:]},
        "overlays": ["configs/phantom.yaml", str(folder / "small.yaml")], "pretraining": {"epochs": 2},
        "fine_tuning": {"epochs": 1}, "output_dir": str(folder / "out"), **changes,
    }  # fmt: skip
    (folder / "plan.yaml").write_text(yaml.safe_dump(plan))
    return ["compare", "--config", str(folder / "plan.yaml")]


def tables(folder):
    return {name: (folder / name).read_text() for name in TABLES}


@pytest.fixture(scope="module")
def compared(tiny_phantom, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sites")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        assert main(write_plan(tiny_phantom, folder)) == 0
    return folder


def test_every_group_has_its_own_pretraining_without_it(compared, tiny_phantom):
    sites = pd.read_csv(compared / "out" / "sites.csv")
    assert set(sites["method"]) == METHODS
    assert sites.groupby(["method", "group"]).size().eq(1).all()
    assert set(sites["group"]) == {"first", "last"}
    cards = [
        json.loads((compared / "out/sites" / g / "runs/y_aware/seed_3/pretraining/pretrained.json").read_text())
        for g in ("first", "last")
    ]
    assert all("This is a phantom" in card["warning"] for card in cards)
    trained = [
        json.loads((compared / "out/sites" / g / "runs/from_scratch/seed_3/schizophrenia_all/model.json").read_text())
        for g in ("first", "last")
    ]
    assert trained[0]["subjects"] == {"training": 16, "validation": 4}
    assert not set(trained[0]["fingerprints"]["participants"]) & set(trained[1]["fingerprints"]["participants"])


def test_the_plan_says_people_runs_and_time_and_writes_nothing(tiny_phantom, tmp_path, capsys):
    assert main([*write_plan(tiny_phantom, tmp_path), "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    assert "schizophrenia 10 + 10 people" in text
    assert f"{2 * (3 + len(REFERENCES))} in 2 groups: 2 of pretraining (0 done)" in text
    assert "estimated from 3 training steps" in text
    assert "Nothing was started" in text


def test_the_plan_refuses_what_the_runs_would(tiny_phantom, tmp_path, capsys):
    """Twelve people in groups of four are too few to adapt batch norm to, and nobody has to begin to learn it."""
    few = {"site_groups": {"few": SITES[:2], "others": SITES[2:]}, "probing": {"adapt": "batch_norm"}}
    assert main([*write_plan(tiny_phantom, tmp_path, **few), "--dry-run"]) != 0
    said = capsys.readouterr()
    assert f"needs at least {LEAST} people who are tested at a site" in said.err + said.out
    assert "Nothing was started" not in said.out
    assert not (tmp_path / "out").exists()


def test_a_plan_half_done_is_estimated_from_what_was_done(compared, tiny_phantom, capsys):
    lost = compared / "out/sites/last/runs/y_aware/seed_3/probe/settings.json"
    kept = lost.read_text()
    lost.unlink()
    assert main([*write_plan(tiny_phantom, compared), "--dry-run"]) == 0
    lost.write_text(kept)
    assert "by the mean time of those that ended" in capsys.readouterr().out


def test_a_run_that_is_killed_in_the_middle_gives_the_same_tables(compared, tiny_phantom, tmp_path):
    command = Command(["-m", "bundle", *write_plan(tiny_phantom, tmp_path)], tmp_path)
    pretraining = tmp_path / "out/sites/last/runs/y_aware/seed_3/pretraining"

    def killed_when(is_there):
        process = command.start()
        deadline = time.monotonic() + 600
        while process.poll() is None and not is_there() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert process.poll() is None, command.said()[-2000:].decode()
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    first = tmp_path / "out/sites/first/runs/y_aware/seed_3"
    killed_when(lambda: (first / "pretraining" / "settings.json").is_file())  # between two runs
    killed_when(lambda: list(pretraining.glob("checkpoint_1.pt")))  # within a pretraining
    assert not (pretraining / "settings.json").exists()
    command.run()
    assert b"resume" in command.said().lower()
    assert tables(tmp_path / "out") == tables(compared / "out")


def test_a_cache_is_read_in_place_of_images(compared, tiny_phantom, tmp_path):
    with contextlib.redirect_stdout(io.StringIO()):
        for name in ("pretraining", "schizophrenia"):
            cache = ["--datalist", str(tiny_phantom / f"{name}.json"), "--output", str(tmp_path / "cache")]
            assert main(["cache", *cache, "--workers", "0"]) == 0
        assert main(write_plan(tmp_path / "cache", tmp_path)) == 0
    cached, read = (pd.read_csv(folder / "out" / "sites.csv") for folder in (tmp_path, compared))
    lines = ("voxels, native", "regions")  # a cache does not say where voxels lie
    read = read[~read["method"].str.startswith(lines)].reset_index(drop=True)
    keys = ["task", "method", "group", "seed", "n", "patients"]
    assert cached[keys].equals(read[keys])
    known = cached["method"] == "age, sex, TIV"
    assert cached["auc"][known].tolist() == read["auc"][known].tolist()
    assert (cached["auc"] - read["auc"]).abs().max() < 0.35  # half precision moves a network that was hardly trained
    datalist = json.loads((tmp_path / "out/sites/first/data/schizophrenia.json").read_text())
    assert datalist["training"][0]["image"].endswith(".npy")


def test_batch_norm_is_adapted_to_what_is_held_out(compared, tiny_phantom, capsys):
    """Sites of four people each are one where they are tested together; nothing that is done is done again."""
    before = {path: path.stat().st_mtime_ns for path in (compared / "out").rglob("settings.json")}
    adapt = {"probing": {"adapt": "batch_norm"}}
    adapted = {"adapted": {"of": "random, calibrated batch norm", **adapt}}
    assert main(write_plan(tiny_phantom, compared, readings=adapted)) == 0
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    found = pd.read_csv(compared / "out" / "sites.csv").pivot(index="group", columns="method", values="auc")
    assert found["adapted"].between(0, 1).all()
    text = (compared / "out" / "table.md").read_text()
    assert "adapted: Adaptive batch norm: features of tested subjects come from copies of the encoder whose" in text
    folder = compared / "out/sites/first/runs/adapted/seed_3/probe"
    ids = np.load(folder / "embeddings.npz", allow_pickle=False)
    assert sorted(set(ids["adapted_to"])) == ["", "; ".join(SITES[:5])]
    assert ((ids["adapted_to"] == "") == (ids["section"] == "training")).all()
    known = json.loads((folder / "knowledge.json").read_text())
    assert known["site_accuracy"] is known["openbhb_score"] is None
    assert known["age_mae"] > 0
    few = {"mine": {"of": "y-Aware", **adapt}}  # after two epochs
    assert main(write_plan(tiny_phantom, compared, readings=few)) == 1
    said = r"[1-9]\d % of the batch-norm statistics of 'y-Aware', seed 3, are still as initialised"
    assert re.search(said, capsys.readouterr().err)
    three = {"first": SITES[:2], "second": SITES[2:5], "last": SITES[5:]}
    few_people = write_plan(tiny_phantom, compared, readings=adapted, site_groups=three, output_dir=str(compared / "b"))
    assert main(few_people) == 1
    assert "in schizophrenia there are 8 of 'schizophrenia-01', 'schizophrenia-02'" in capsys.readouterr().err
    assert not list((compared / "b").rglob("runs"))


def test_a_document_shows_the_results(compared, tiny_phantom):
    document = compared / "results.md"
    document.write_text("# Mine\n<!-- comparison -->\nold\n<!-- /comparison -->\nmy words\n")
    assert main(write_plan(tiny_phantom, compared, document=str(document))) == 0
    text = document.read_text()
    assert text.startswith("# Mine\n")
    assert text.endswith("\nmy words\n")
    assert "old" not in text
    assert "| y-Aware" in text
    assert "images/comparison_sites.png" in text
    assert (compared / "images" / "comparison_sites.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        ({"pretrain_on": "everybody", "pretraining": {"epochs": 3}}, 1, "pretraining was made with other settings"),
        ({"site_groups": {"first": SITES[:4], "last": SITES[4:]}}, 1, "was made of other people, groups or options"),
        ({"site_groups": {"first": ["schizophrenia-1"]}}, 1, "did you mean"),
        ({"protocol": "folds"}, 2, "protocol is 'folds', but draws or sites is expected"),
        ({"diagnoses": ["schizofrenia"]}, 1, "did you mean 'schizophrenia'"),
        ({"pretrain_on": "control"}, 2, "did you mean 'controls'"),
    ],
)
def test_refusals(compared, tiny_phantom, tmp_path, capsys, changes, status, reason):
    before = {path: path.read_bytes() for path in (compared / "out" / "sites").rglob("data/*.json")}
    command = write_plan(tiny_phantom, tmp_path, **{"output_dir": str(compared / "out"), **changes})
    assert main(command) == status
    assert reason in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in (compared / "out" / "sites").rglob("data/*.json")}
