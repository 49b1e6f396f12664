import json
import subprocess
import sys

import numpy as np
import pytest

from bundle.cli.main import main
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_help_of_the_module():
    command = [sys.executable, "-m", "bundle", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert shown.returncode == 0
    assert "usage: python -m bundle" in shown.stdout


@pytest.mark.parametrize("command", ["phantom", "cohort", "check-cohort", "cache", "positives", "pretrain", "probe"])
def test_help_of_a_command(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert "usage: " in capsys.readouterr().out


def test_an_option_given_twice_is_refused_before_anything_else(capsys, tmp_path):
    words = ["check-cohort", "--datalist", str(tmp_path / "missing.json"), "--with", "a.json", "--with", "b.json"]
    assert main(words) == 2
    assert "--with is given twice" in capsys.readouterr().err


LIGHT = """
import contextlib, sys
from bundle.cli.main import COMMANDS, main
for command in ([], *([name] for name in COMMANDS)):
    with contextlib.suppress(SystemExit):
        main([*command, "--help"])
assert main(["pretrain", "--config", "configs/phantom.yaml", "--epochs", "0"]) == 2
sys.stdout.write("imported: " + " ".join(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_help_and_refusals_import_nothing_heavy():
    """They take a fraction of a second: tests/benchmarks/test_start.py measures it."""
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    imported = set(done.stdout.rpartition("imported: ")[2].split())
    assert "bundle" in imported
    assert not imported & {"torch", "monai", "ignite", "numpy", "scipy", "pandas", "sklearn", "nibabel", "matplotlib"}


def test_help_of_pretrain_lists_the_configs_options(capsys):
    with pytest.raises(SystemExit):
        main(["pretrain", "--help"])
    assert "--sigma 5.0" in capsys.readouterr().out


def test_a_misspelt_option_is_an_error_with_the_nearest_names(capsys):
    assert main(["pretrain", "--temprature", "0.5"]) == 2
    assert "There is no option --temprature; did you mean 'temperature'" in capsys.readouterr().err


def test_a_wrong_type_and_an_expression_are_refused(capsys):
    assert main(["pretrain", "--epochs", "many"]) == 2
    assert main(["pretrain", "--views", "$exit()"]) == 2
    assert "a whole number of at least 1 is expected" in capsys.readouterr().err


def test_a_refusal_deep_in_a_component_is_one_sentence(tmp_path, capsys):
    assert main(["pretrain", "--datalist", str(tmp_path / "none.json")]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert "none.json" in error


def volumes_and_table(folder, n=12, rows=()):
    for i in range(n):
        np.save(folder / f"sub-{i:02d}.npy", np.random.default_rng(i).random((1, 1, 6, 7, 6)).astype(np.float32))
    lines = [f"sub-{i:02d}\t{20 + i}\t{'FM'[i % 2]}\tsite{i % 3}\t{i % 2}" for i in range(n)]
    header = "participant_id\tage\tgender\tsiteXacq\tlabel"
    (folder / "participants.tsv").write_text("\n".join([header, *lines, *rows]) + "\n")


def cohort(folder, *more):
    table, output = str(folder / "participants.tsv"), str(folder / "datalist.json")
    pattern = "{participant_id}.npy"
    return main(["cohort", "--table", table, "--images", pattern, "--output", output, "--shape", "6", "7", "6", *more])


def test_causes_that_go_round_in_a_circle_hold_no_refusal(monkeypatch):
    error, other = RuntimeError("first"), RuntimeError("second")
    error.__cause__, other.__cause__ = other, error

    def fail(*_):
        raise error

    monkeypatch.setattr("bundle.cli.main._check", fail)
    with pytest.raises(RuntimeError, match="first"):
        main(["phantom", "--output", "nowhere"])


def test_cohort_writes_a_datalist_split_by_participant(tmp_path):
    volumes_and_table(tmp_path)
    assert cohort(tmp_path, "--fractions", "training=0.75", "validation=0.25") == 0
    datalist = json.loads((tmp_path / "datalist.json").read_text())
    assert [len(datalist[s]) for s in ("training", "validation", "test")] == [9, 3, 0]
    first = datalist["training"][0]
    assert set(first) >= {"image", "participant_id", "session_id", "site", "age", "sex", "tiv", "label"}
    assert first["sex"] in "FM"
    assert not first["image"].startswith("/")


def test_cohort_holds_out_sites(tmp_path):
    volumes_and_table(tmp_path)
    assert cohort(tmp_path, "--test-sites", "site2") == 0
    datalist = json.loads((tmp_path / "datalist.json").read_text())
    assert {r["site"] for r in datalist["test"]} == {"site2"}
    assert "site2" not in {r["site"] for r in datalist["training"] + datalist["validation"]}


def test_cohort_leaves_studies_out(tmp_path):
    volumes_and_table(tmp_path)
    assert cohort(tmp_path, "--study-column", "siteXacq", "--exclude-studies", "site1") == 0
    datalist = json.loads((tmp_path / "datalist.json").read_text())
    assert {r["site"] for r in datalist["training"] + datalist["validation"]} == {"site0", "site2"}


def test_cohort_refuses_two_ways_to_make_a_test_section(tmp_path, capsys):
    volumes_and_table(tmp_path)
    assert cohort(tmp_path, "--test-sites", "site2", "--fractions", "training=0.8", "test=0.2") == 2
    assert "either --test-sites or a share" in capsys.readouterr().err


def test_cohort_reports_all_problems_and_skips_them_on_demand(tmp_path, capsys):
    volumes_and_table(tmp_path, rows=["sub-98\told\tF\tsite1\t0", "sub-99\t30\tF\tsite1\t1"])
    assert cohort(tmp_path) == 1
    error = capsys.readouterr().err
    assert "sub-98" in error
    assert "sub-99" in error
    assert not (tmp_path / "datalist.json").exists()
    assert cohort(tmp_path, "--skip-invalid") == 0
    excluded = (tmp_path / "excluded.tsv").read_text()
    assert "sub-98" in excluded
    assert "sub-99" in excluded


@pytest.mark.parametrize(
    "option", [["--label-values", "control"], ["--label-values", "a=2"], ["--fractions", "training=x"]]
)
def test_cohort_refuses_malformed_pairs(tmp_path, option, capsys):
    volumes_and_table(tmp_path)
    assert cohort(tmp_path, *option) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_positives_prints_a_table(tiny_phantom, capsys):
    assert main(["positives", "--datalist", str(tiny_phantom / "pretraining.json"), "--batch-size", "32"]) == 0
    table = capsys.readouterr().out
    assert "silverman" in table
    assert "out of 63 other views" in table
    assert main(["positives", "--datalist", str(tiny_phantom / "pretraining.json"), "--sigma", "wide"]) == 2
