import pytest

from bundle.cli.options import FOLDER, OptionError, merged_config
from bundle.cli.unused import refuse_half_a_method, refuse_of_another_protocol, refuse_unused

PRETRAIN = ["pretrain.yaml"]


@pytest.mark.parametrize(
    ("files", "option", "said"),
    [
        ([*PRETRAIN, "phantom.yaml"], "lr_factor", "lr_scheduler is torch.optim.lr_scheduler.OneCycleLR"),
        ([*PRETRAIN, "pretext_simclr.yaml"], "sigma", "loss is bundle.pretext.InfoNCE"),
        ([*PRETRAIN, "pretext_models_genesis.yaml"], "temperature", "loss is bundle.pretext.ReconstructionLoss"),
        (["train.json", "evaluate.json"], "storage", "Leave the option out"),
        (["train.json", "evaluate.json"], "weights", "Leave the option out"),
        (["train.json", "evaluate.json"], "epochs", "Leave the option out"),
        (["train.json", "evaluate.json"], "size", "Leave the option out"),
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


@pytest.mark.parametrize(
    ("protocol", "option", "said"),
    [
        ("folds", "sizes", "with --protocol folds nothing uses it. Leave it out, or give --protocol draws."),
        ("sites", "draws", "or give --protocol draws or folds."),
        ("draws", "n_folds", "or give --protocol folds."),
        ("draws", "site_groups", "or give --protocol sites."),
        ("sites", "sizes", "or give --protocol draws."),
    ],
)
def test_an_option_of_another_protocol_is_refused(protocol, option, said):
    with pytest.raises(OptionError, match=f"--{option} was given") as refused:
        refuse_of_another_protocol({"protocol": protocol, option: 1}, {option: 1})
    assert str(refused.value).endswith(said)


def test_an_option_of_the_protocol_is_taken():
    for protocol, option in (("draws", "sizes"), ("folds", "n_folds"), ("folds", "draws"), ("sites", "site_groups")):
        refuse_of_another_protocol({"protocol": protocol}, {option: 1})
    refuse_of_another_protocol({"epochs": 2}, {"sizes": [1]})  # no config with protocols


@pytest.mark.parametrize(
    ("overlays", "said"),
    [
        (["pretext_simclr.yaml", "pretext_supervised_sex.yaml"], "sets kernel, which nothing in this run reads"),
        (["pretext_supervised_sex.yaml", "pretext_simclr.yaml"], "sets kernel, which nothing in this run reads"),
        (["pretext_simclr.yaml", "phantom.yaml", "metadata_age_sex.yaml"], "so that 'y-Aware .age and sex.|in part"),
        (["pretext_models_genesis.yaml", "pretext_simclr.yaml"], "both set loss, so that of 'Models Genesis' and 'Sim"),
        (["pretext_within_site.yaml", "pretext_exponential.yaml"], "both set loss"),
    ],
)
def test_half_a_method_is_refused(overlays, said):
    with pytest.raises(OptionError, match=said):
        refuse_half_a_method([FOLDER / name for name in ("pretrain.yaml", *overlays)])


@pytest.mark.parametrize(
    "overlays",
    [
        *([path.name] for path in sorted(FOLDER.glob("pretext_*.yaml"))),
        ["metadata_age_sex.yaml", "pretext_within_site.yaml"],
        ["pretext_conditional.yaml", "metadata_age_sex.yaml", "phantom.yaml"],
        ["pretext_simclr.yaml", "recipe_hundreds.yaml"],  # which has no method of its own
    ],
    ids=str,
)
def test_methods_that_fit_together_are_taken(overlays):
    refuse_half_a_method([FOLDER / name for name in ("pretrain.yaml", *overlays)])
