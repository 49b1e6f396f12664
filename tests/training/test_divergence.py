import json
import logging
import math

import pytest
import torch
from ignite.engine import Engine
from monai.data import DataLoader
from monai.engines import SupervisedTrainer

from bundle.training.divergence import CollapseWarning, FiniteSteps


def trainer(images, folder, network=None):
    data = [
        {"image": torch.tensor([v]), "label": torch.ones(1), "participant_id": f"sub-{i}", "session_id": "ses-1"}
        for i, v in enumerate(images)
    ]
    network = network or torch.nn.Linear(1, 1)
    return SupervisedTrainer(
        "cpu",
        2,
        DataLoader(data, batch_size=2),
        network,
        torch.optim.SGD(network.parameters(), 0.1),
        torch.nn.MSELoss(),
        train_handlers=[FiniteSteps(folder)],
        decollate=False,
    )


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_batch(tmp_path, bad):
    engine = trainer([1.0, 2.0, bad, 4.0], tmp_path)
    with pytest.raises(
        ValueError, match=r"not finite in step 2 \(epoch 1\), whose batch were sub-2 ses-1, sub-3 ses-1"
    ):
        engine.run()
    assert all(p.isfinite().all() for p in engine.network.parameters())
    assert json.loads((tmp_path / "diverged.json").read_text())["participants"] == ["sub-2 ses-1", "sub-3 ses-1"]
    saved = torch.load(tmp_path / "diverged.pt", weights_only=True)
    assert torch.equal(saved["network"]["weight"], engine.network.weight)


class Steep(torch.autograd.Function):
    @staticmethod
    def forward(_, x):
        return x.clone()

    @staticmethod
    def backward(_, gradient):
        return gradient * math.nan


class Broken(torch.nn.Linear):
    def forward(self, x):
        return Steep.apply(super().forward(x))


def test_a_gradient_that_is_not_finite_stops_it_too(tmp_path):
    engine = trainer([1.0, 2.0], tmp_path, Broken(1, 1))
    with pytest.raises(ValueError, match="not finite in step 1"):
        engine.run()
    assert math.isfinite(engine.state.output["loss"])


def test_a_healthy_run_is_left_alone(tmp_path):
    trainer([1.0, 2.0], tmp_path).run()
    assert not list(tmp_path.iterdir())


def test_a_collapsed_representation_is_reported_while_it_lasts(caplog):
    uniformities = iter([-0.01, -0.01, -0.02, -0.02, -2.0, -0.01])
    engine = Engine(lambda *_: None)
    CollapseWarning().attach(engine)
    said = []
    for uniformity in uniformities:
        engine.state.metrics = {"val_uniformity": uniformity, "val_effective_rank": 1.2}
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            engine.run([0])
        said.append("collapsed" in caplog.text)
    assert said == [False, False, True, True, False, False]
