import pytest

from bundle.cli.main import main
from bundle.cli.options import OptionError, read_config
from bundle.cli.pretexts import check_readings, read_networks, read_pretexts
from tests.conftest import ROOT

SIMCLR = "configs/pretext_simclr.yaml"


def test_a_pretext_is_overlays_or_overlays_and_options(monkeypatch):
    monkeypatch.chdir(ROOT)
    written = {
        "y-Aware": [],
        "SimCLR": [SIMCLR],
        "as SimCLR": {"overlays": [SIMCLR]},
        "colder": {"overlays": [SIMCLR], "options": {"temperature": 0.05}},
        "plain": {"options": {}},
    }
    overlays, options = read_pretexts(written)
    assert overlays == {"y-Aware": [], "SimCLR": [SIMCLR], "as SimCLR": [SIMCLR], "colder": [SIMCLR], "plain": []}
    assert options == {"colder": {"temperature": 0.05}}


@pytest.mark.parametrize(
    ("pretext", "sentence"),
    [
        (SIMCLR, "The pretext 'mine' is 'configs/pretext_simclr.yaml', but overlays are expected"),
        ({"option": {"sigma": 2.0}}, "has an entry 'option', which there is not; did you mean 'options'?"),
        ({"overlays": SIMCLR}, "`overlays` of the pretext 'mine' is .* but a list of files"),
        ({"options": ["sigma"]}, "`options` of the pretext 'mine' is .* but options by their names"),
    ],
)
def test_anything_else_is_refused(pretext, sentence):
    with pytest.raises(OptionError, match=sentence):
        read_pretexts({"mine": pretext})


def test_a_network_is_a_start_or_a_start_and_overlays(monkeypatch):
    monkeypatch.chdir(ROOT)
    first = {"network": "plain", "task": "sex"}
    written = {"plain": "y-Aware", "after sex": first, "mine": {"start": "y-Aware", "overlays": [SIMCLR]}}
    written |= {"both": {"start": first, "overlays": [SIMCLR]}, "same": {"start": "scratch", "overlays": []}}
    starts, overlays = read_networks(written)
    assert starts == {"plain": "y-Aware", "after sex": first, "mine": "y-Aware", "both": first, "same": "scratch"}
    assert overlays == {"mine": [SIMCLR], "both": [SIMCLR]}


@pytest.mark.parametrize(
    ("network", "sentence"),
    [
        ({"start": "scratch", "overlay": []}, "has an entry 'overlay', which there is not; did you mean 'overlays'?"),
        ({"overlays": [SIMCLR]}, "The network 'mine' is .*, but what it starts from and a list of files are expected"),
        ({"start": "scratch", "overlays": SIMCLR}, "but what it starts from and a list of files are expected"),
    ],
)
def test_any_other_network_is_refused(network, sentence):
    with pytest.raises(OptionError, match=sentence):
        read_networks({"mine": network})


def test_overlays_of_a_network_are_checked_before_any_work(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(ROOT)
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("# Overlay\nbatch_sise: 4\n")
    networks = f"{{mine: {{start: scratch, overlays: [{wrong}]}}}}"
    command = ["compare", "--config", "configs/compare.yaml", "--dataset_dir", str(tmp_path), "--dry-run"]
    assert main([*command, "--networks", networks]) == 2
    assert "sets 'batch_sise', which no config has; did you mean 'batch_size'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("reading", "sentence"),
    [
        ("y-Aware", "The reading 'mine' is 'y-Aware', but {of: y-Aware, probing: {harmonize: project}} is expected"),
        ({"probing": {}}, "The reading 'mine' is {'probing': {}}, but {of: "),
        ({"of": "y-Aware", "probe": {}}, "has an entry 'probe', which there is not; did you mean 'probing'?"),
        ({"of": "y-Aware", "probing": ["coral"]}, "`probing` of the reading 'mine' is no mapping"),
    ],
)
def test_a_reading_is_of_something_with_options(reading, sentence):
    with pytest.raises(OptionError, match=sentence):
        check_readings({"mine": reading})
    check_readings({"mine": {"of": "y-Aware"}, "projected": {"of": "y-Aware", "probing": {"harmonize": "project"}}})


@pytest.mark.parametrize("name", ["study_hundreds_loss", "study_hundreds_training"])
def test_every_setting_of_a_study_is_one_that_there_is(name, monkeypatch, tmp_path, capsys):
    """All overlays and options are checked before the datalists are looked for, of which there are none."""
    monkeypatch.chdir(ROOT)
    study = read_config(ROOT / "configs" / f"{name}.yaml")
    files = ["configs/compare_sites.yaml", f"configs/{name}.yaml"]
    assert main(["compare", "--config", *files, "--dataset_dir", str(tmp_path), "--dry-run"]) == 1
    assert "pretraining.json" in capsys.readouterr().err
    assert list(read_pretexts(study["pretexts"])[0]) == list(study["pretexts"])
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("# Overlay\npretexts: {mine: {options: {own_share: 1.5}}}\n")
    assert main(["compare", "--config", *files, str(wrong), "--dataset_dir", str(tmp_path), "--dry-run"]) == 2
    assert "own_share is 1.5, but a number in [0, 1]" in capsys.readouterr().err
    wrong.write_text(f"# Overlay\npretexts: {{mine: {{overlays: [{SIMCLR}], options: {{sigma: 2.0}}}}}}\n")
    assert main(["compare", "--config", *files, str(wrong), "--dataset_dir", str(tmp_path), "--dry-run"]) == 2
    assert "--sigma was given, but nothing in this run uses it" in capsys.readouterr().err
