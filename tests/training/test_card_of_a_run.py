"""The card of a pretraining says what was done, however an option was given."""

from bundle.cli.main import main
from bundle.networks import read_card

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
