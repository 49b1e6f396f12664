import logging

import pytest
import torch
from monai.engines import SupervisedTrainer

from bundle.engines import ContrastivePrepareBatch, PrecisionInferer, RepresentationInferer, run_remaining
from bundle.networks import ContrastiveNetwork, DenseNetEncoder
from bundle.views import TwoViews

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def batch(n=3):
    return {
        "image": torch.randn(n, 1, 12, 14, 12),
        "metadata": torch.arange(n)[:, None].float(),
        "participant_id": [f"sub-{i}" for i in range(n)],
        "session_id": ["ses-1"] * n,
    }


def test_a_batch_becomes_two_views_and_metadata():
    data = batch()
    prepare = ContrastivePrepareBatch(TwoViews("cutout"))
    volumes, metadata = prepare(data, "cpu")
    assert volumes.shape == (6, 1, 12, 14, 12)
    assert torch.equal(metadata, data["metadata"])
    expected = TwoViews("cutout")(data["image"], [f"sub-{i}/ses-1" for i in range(3)], 0)
    assert torch.equal(volumes, expected)


def test_views_follow_the_epoch_and_originals_are_kept_on_demand():
    data = batch()
    prepare = ContrastivePrepareBatch(TwoViews("cutout"), keep_original=True)
    first = prepare(data, "cpu")[0]
    assert torch.equal(first[6:], data["image"])
    prepare.epoch = 1
    assert not torch.equal(prepare(data, "cpu")[0][:6], first[:6])


def test_precision_is_what_was_asked_for():
    seen = []

    def network(x):
        seen.append(torch.is_autocast_enabled("cpu"))
        return x

    PrecisionInferer("float32")(torch.zeros(1), network)
    PrecisionInferer("bfloat16")(torch.zeros(1), network)
    assert seen == [False, True]
    assert not PrecisionInferer("auto").uses_bfloat16(torch.device("cpu"))
    with pytest.raises(ValueError, match="did you mean 'float32'"):
        PrecisionInferer("float23")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_representation_inferer_gives_both_in_float32(precision):
    network = ContrastiveNetwork(DenseNetEncoder(1, 8, 4, (1, 1, 1, 1)), 6, 5).eval()
    volumes = torch.randn(6, 1, 32, 32, 32)
    output = RepresentationInferer(precision)(volumes, network)
    assert output["embedding"].shape == (2, network.encoder.embedding_size)
    assert output["output"].shape == (4, 5)
    assert {value.dtype for value in output.values()} == {torch.float32}
    if precision == "float32":
        torch.testing.assert_close(output["embedding"], network.encoder(volumes[4:]))
        torch.testing.assert_close(output["output"], network(volumes[:4]))


def test_the_target_is_metadata_or_the_volumes():
    data = batch()
    _, target = ContrastivePrepareBatch(TwoViews("cutout"), target="volumes")(data, "cpu")
    assert torch.equal(target, data["image"])
    with pytest.raises(ValueError, match="metadata or volumes, but 'volume' was given; did you mean 'volumes'"):
        ContrastivePrepareBatch(TwoViews("cutout"), target="volume")


def trainer(epochs):
    network = torch.nn.Linear(2, 1)
    loader = torch.utils.data.DataLoader([{"image": torch.ones(2), "label": torch.ones(1)}] * 4, batch_size=2)
    return SupervisedTrainer(
        "cpu", epochs, loader, network, torch.optim.SGD(network.parameters(), 0.1), torch.nn.MSELoss(), decollate=False
    )


def test_a_complete_run_is_reported_and_left_alone(caplog):
    engine = trainer(epochs=2)
    run_remaining(engine)
    weights = engine.network.weight.clone()
    with caplog.at_level(logging.INFO):
        run_remaining(engine)
    assert torch.equal(engine.network.weight, weights)
    assert "Nothing to train: 2 of 2 epochs are done" in caplog.text


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_cuda)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16])
def test_what_is_stored_compactly_becomes_float32_on_the_device(dtype, device):
    data = batch()
    stored = (data["image"] * 20 + 100).clip(0, 255).to(dtype)
    intensity = torch.tensor([[0.5, -1.0], [0.25, 0.0], [1.0, 2.0]])
    prepare = ContrastivePrepareBatch(TwoViews("cutout"), target="volumes")
    _, volumes = prepare({**data, "image": stored, "intensity": intensity}, device, non_blocking=True)
    expected = torch.stack([v.float() * scale + offset for v, (scale, offset) in zip(stored, intensity, strict=True)])
    assert (volumes.dtype, volumes.device.type) == (torch.float32, device)
    torch.testing.assert_close(volumes.cpu(), expected)
