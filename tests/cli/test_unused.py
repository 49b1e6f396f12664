import pytest

from bundle.cli.options import FOLDER, OptionError, merged_config
from bundle.cli.unused import refuse_unused

PRETRAIN = ["pretrain.yaml"]


@pytest.mark.parametrize(
    ("files", "option", "said"),
    [
        ([*PRETRAIN, "phantom.yaml"], "lr_factor", "lr_scheduler is torch.optim.lr_scheduler.OneCycleLR"),
        ([*PRETRAIN, "pretext_simclr.yaml"], "sigma", "loss is bundle.pretext.InfoNCE"),
        ([*PRETRAIN, "pretext_models_genesis.yaml"], "temperature", "loss is bundle.pretext.ReconstructionLoss"),
        (["train.json", "evaluate.json"], "storage", "Leave the option out"),
    ],
)
def test_an_option_that_nothing_reads_is_refused(files, option, said):
    config = merged_config([FOLDER / name for name in files], {})
    with pytest.raises(OptionError, match=f"--{option} was given, but nothing in this run uses it.*{said[-20:]}"):
        refuse_unused(config, {option: 1})


@pytest.mark.parametrize("files", [PRETRAIN, ["probe.yaml"], ["train.json"], ["inference.json"]])
def test_every_option_of_a_config_is_read_without_overlays(files):
    config = merged_config([FOLDER / name for name in files], {})
    said_by_the_card = ("recipe", "_desc_")
    refuse_unused(config, {name: value for name, value in config.items() if name not in said_by_the_card})
