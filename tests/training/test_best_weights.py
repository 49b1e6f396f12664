import logging
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from bundle.networks.cards import read_card
from bundle.training.engines import report_training
from bundle.training.handlers import BestWeights


def validations(path, keep, losses):
    """Validate once an epoch; the weight is the number of the epoch."""
    module = nn.Linear(1, 1, bias=False)
    handler = BestWeights(path, module, {"kind": "encoder"}, keep=keep)
    state = SimpleNamespace(key_metric_name="val_loss", best_metric=float("inf"), best_metric_epoch=-1, metrics={})
    for epoch, loss in enumerate(losses, start=1):
        state.epoch, state.metrics = epoch, {"val_loss": loss}
        if loss < state.best_metric:
            state.best_metric, state.best_metric_epoch = loss, epoch
        nn.init.constant_(module.weight, float(epoch))
        handler(SimpleNamespace(state=state))
    return SimpleNamespace(state=state)


@pytest.mark.parametrize(("keep", "epoch"), [("best", 2), ("last", 4)])
def test_the_best_epoch_stays_or_the_last(tmp_path, keep, epoch, caplog):
    path = tmp_path / "encoder.pt"
    evaluator = validations(path, keep, [3.0, 1.0, 2.0, 2.5])
    assert torch.load(path, weights_only=True)["weight"].item() == epoch
    card = read_card(path)
    assert (card["epoch"], card["validation"]["val_loss"]) == (epoch, [3.0, 1.0, 2.0, 2.5][epoch - 1])
    with caplog.at_level(logging.INFO):
        report_training(evaluator, path, keep)
    said = "Best val_loss 1.0000 at epoch 2" if keep == "best" else "Kept the last epoch"
    assert said in caplog.text


def test_another_keep_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`keep` is best or last, but 'lst' was given; did you mean 'last'"):
        BestWeights(tmp_path / "encoder.pt", nn.Linear(1, 1), {}, keep="lst")
