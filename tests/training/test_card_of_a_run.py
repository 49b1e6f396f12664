"""The card of a pretraining says what was done, however an option was given."""

import json

from bundle.cli.main import main
from bundle.networks import read_card
from tests.conftest import with_full_paths

SMALL = ["--init_features", "8", "--growth_rate", "4", "--block_config", "[1, 1]", "--batch_size", "8"]


def test_a_part_that_was_changed_inside_a_component_stands_in_the_card(tiny_phantom, tmp_path):
    """An option is what a component is made with; a component that was given other values counts."""
    overlay = tmp_path / "views.yaml"
    overlay.write_text("train#prepare_batch#views#transforms: [{_target_: bundle.pretext.Flip}]\n")
    files = ["--datalist", str(tiny_phantom / "pretraining.json"), "--output_dir", str(tmp_path / "out")]
    weights = ["--weights", str(tmp_path / "own.pt"), "--num_workers", "0", "--train#trainer#max_epochs", "1"]
    assert main(["pretrain", "--config", "configs/phantom.yaml", str(overlay), *files, *weights, *SMALL]) == 0
    card = read_card(tmp_path / "own.pt")
    assert card["config"]["views"] == "[Flip(prob=1.0)]"
    assert card["config"]["epochs"] == 1


def test_ages_of_another_unit_are_refused_before_training(tiny_phantom, tmp_path, capsys):
    content = with_full_paths(tiny_phantom / "pretraining.json")
    for record in content["training"]:
        record["age"] *= 12
    datalist = tmp_path / "months.json"
    datalist.write_text(json.dumps(content))
    command = ["pretrain", "--config", "configs/phantom.yaml", "--datalist", str(datalist), "--dry-run"]
    assert main([*command, "--output_dir", str(tmp_path / "out"), "--num_workers", "0"]) == 1
    assert "have age outside of 0 to 120 years" in capsys.readouterr().err
    assert main(["positives", "--datalist", str(datalist)]) == 1
    assert "have age outside of 0 to 120 years" in capsys.readouterr().err
