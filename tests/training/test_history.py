"""What each epoch measured, as a table and a figure."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from ignite.engine import Engine, Events
from matplotlib.image import imread

from bundle.pretext import ExponentialInfoNCE, GaussianKernel, InfoNCE, YAwareInfoNCE
from bundle.training import History, chance_levels
from bundle.training.curves import draw_curves


def run(history, epochs, evaluator, interval=1):
    """A trainer whose loss is 1 / epoch, validated every `interval` epochs."""
    trainer = Engine(lambda engine, batch: None)

    @trainer.on(Events.EPOCH_COMPLETED)
    def measure():
        epoch = trainer.state.epoch
        trainer.state.metrics = {"train_loss": 1 / epoch}
        if epoch % interval == 0:
            evaluator.state.epoch, evaluator.state.metrics = epoch, {"val_loss": 2 / epoch}

    history.attach(trainer)
    trainer.state.epoch = 0 if not history._rows else int(history._rows[-1]["epoch"])
    trainer.run([0], max_epochs=epochs)
    return trainer


@pytest.fixture
def evaluator():
    return Engine(lambda engine, batch: None)


def test_a_row_per_epoch_and_nothing_where_nothing_was_validated(tmp_path, evaluator):
    history = History(tmp_path, evaluator)
    run(history, 4, evaluator, interval=2)
    table = pd.read_csv(tmp_path / "history.csv")
    assert table["epoch"].tolist() == [1, 2, 3, 4]
    np.testing.assert_allclose(table["train_loss"], [1, 1 / 2, 1 / 3, 1 / 4])
    np.testing.assert_allclose(table["val_loss"], [np.nan, 1, np.nan, 0.5])
    assert imread(tmp_path / "curves.png").std() > 0.01
    assert not list(tmp_path.glob(".part-*"))


def test_a_resumed_run_has_the_rows_of_the_whole_run_and_each_once(tmp_path, evaluator):
    straight = History(tmp_path / "straight", evaluator)
    run(straight, 5, evaluator)
    first = History(tmp_path / "resumed", evaluator)
    run(first, 2, evaluator)
    saved = first.state_dict()
    run(first, 3, evaluator)  # an epoch that a kill took, behind the checkpoint
    resumed = History(tmp_path / "resumed", evaluator)
    resumed.load_state_dict(saved)
    saved["rows"].clear()
    run(resumed, 5, evaluator)
    assert (tmp_path / "resumed" / "history.csv").read_text() == (tmp_path / "straight" / "history.csv").read_text()


def test_another_process_than_the_first_writes_nothing(tmp_path, evaluator, monkeypatch):
    monkeypatch.setattr("bundle.training.history.idist.get_rank", lambda: 1)
    run(History(tmp_path, evaluator), 2, evaluator)
    assert list(tmp_path.iterdir()) == []


def test_chance_is_the_loss_of_a_network_that_tells_nobody_apart():
    alike, ages = torch.ones(16, 8), torch.arange(8.0)[:, None]
    for loss in (YAwareInfoNCE(GaussianKernel(5.0)), InfoNCE()):
        levels = chance_levels(loss, training=8, validation=30)
        assert levels["train_loss"] == pytest.approx(loss(alike, ages).item(), abs=1e-5)
        assert levels["val_loss"] == pytest.approx(math.log(59))
    assert chance_levels(YAwareInfoNCE(GaussianKernel(5.0), normalize="column"), 8, 30) == {}
    assert chance_levels(ExponentialInfoNCE(GaussianKernel(5.0)), 8, 30) == {}


def test_curves_have_a_panel_per_quantity_levels_and_the_epoch_that_is_kept():
    epochs = np.arange(1, 9)
    losses = {"train_loss": 3 - 0.1 * epochs, "val_loss": np.abs(epochs - 5) + 1.0, "val_age_mae": 9.0 - epochs}
    history = pd.DataFrame({"epoch": epochs, **losses, "val_threshold": 0.5})
    figure = draw_curves(history, {"train_loss": 3.4})
    assert [axes.get_title() for axes in figure.axes[:2]] == ["Loss", "Age read from the embedding"]
    assert [axes.get_ylabel() for axes in figure.axes[:2]] == ["loss", "mean absolute error, years"]
    circles = [line.get_xydata()[0].tolist() for line in figure.axes[0].lines if line.get_markersize() == 10]
    assert circles == [[5, 1]]
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert {"training", "validation", "training by chance: 3.40", "kept"} == set(texts)


def test_a_run_that_measured_nothing_is_not_drawn():
    with pytest.raises(ValueError, match="no epoch has a loss or a validation"):
        draw_curves(pd.DataFrame({"epoch": [1], "val_threshold": [0.5]}), {})
