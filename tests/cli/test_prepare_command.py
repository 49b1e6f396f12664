"""`prepare` on the command line, with the pipeline that takes no time."""

import pytest

from bundle.cli.main import main
from bundle.preparation import run
from tests.preparation import fake
from tests.preparation.conftest import in_this_process


@pytest.fixture(autouse=True)
def pipeline(monkeypatch):
    monkeypatch.setattr(run, "each_in_a_process", in_this_process)
    monkeypatch.setattr(run, "pipeline_of", lambda _: fake.PIPELINE)
    monkeypatch.setattr(run, "backend_of", lambda *_: fake.prepare)


def test_it_says_what_became_of_the_scans_and_what_is_kept(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for name, kind in (("a", fake.GOOD), ("b", fake.BAD)):
        fake.write_head(tmp_path / "in", name, kind)
    command = ["prepare", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    assert main([*command, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "a: would be prepared" in said
    assert "2 found, 0 refused; nothing was prepared." in said
    assert not (tmp_path / "out").exists()
    assert main(command) == 3
    said = capsys.readouterr().out
    assert "b: fail\n  Something of it is fail." in said
    assert f"1 ok, 1 fail. Look at {tmp_path / 'out' / 'index.html'}." in said
    assert main(command) == 3
    assert "1 ok, 1 fail (2 prepared before)" in capsys.readouterr().out


def test_where_nothing_can_be_read_the_exit_status_is_1(tmp_path, capsys):
    (tmp_path / "broken.nii.gz").write_bytes(b"no image")
    assert main(["prepare", str(tmp_path / "broken.nii.gz"), "--output", str(tmp_path / "out")]) == 1
    assert "broken: refused" in capsys.readouterr().out
    assert "broken" in (tmp_path / "out" / "qc.tsv").read_text()


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["--workers", "0"], 2, "--workers is 0, but a whole number of at least 1 is expected."),
        (["--backend", "ant"], 2, "did you mean 'ants'?"),
        (["--ouput", "x"], 2, "There is no option --ouput; did you mean 'output'?"),
        (["--output", "{folder}/out"], 2, "lies inside of"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_read(options, status, words, tmp_path, capsys, monkeypatch):
    (tmp_path / "scans").mkdir()
    monkeypatch.setattr(run, "prepare_scans", pytest.fail)
    options = [text.format(folder=tmp_path / "scans") for text in options]
    output = [] if "--output" in options else ["--output", str(tmp_path / "out")]
    assert main(["prepare", str(tmp_path / "scans"), *output, *options]) == status
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_path_that_does_not_exist_is_refused_with_the_nearest(tmp_path, capsys):
    (tmp_path / "scans").mkdir()
    assert main(["prepare", str(tmp_path / "scan"), "--output", str(tmp_path / "out")]) == 1
    assert "scan does not exist; did you mean 'scans'?" in capsys.readouterr().err


def test_derivatives_may_lie_in_their_dataset_and_stay_so(tmp_path, capsys):
    fake.write_head(tmp_path / "data" / "sub-1" / "anat", "sub-1_T1w")
    output = tmp_path / "data" / "derivatives" / "yaware"
    assert main(["prepare", str(tmp_path / "data"), "--output", str(output)]) == 0
    space = "space-MNI152NLin2009cAsym_label-GM_desc-modulated_probseg"
    assert (output / "sub-1" / "anat" / f"sub-1_{space}.nii.gz").is_file()
    assert main(["prepare", str(tmp_path / "data"), "--output", str(output), "--no-bids"]) == 1
    assert (
        "holds maps as BIDS derivatives, and tables list maps of one order alone; give --bids"
        in capsys.readouterr().err
    )
