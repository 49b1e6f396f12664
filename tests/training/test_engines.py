import logging

import pytest
import torch
from monai.engines import SupervisedTrainer

from bundle.networks.encoders import DenseNetEncoder
from bundle.networks.projector import ContrastiveNetwork
from bundle.pretext.infonce import YAwareInfoNCE
from bundle.pretext.kernels import GaussianKernel
from bundle.pretext.views import TwoViews
from bundle.training.engines import (
    ContrastivePrepareBatch,
    GradientCache,
    PrecisionInferer,
    RepresentationInferer,
    iteration_update,
    run_remaining,
)

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
    assert PrecisionInferer("auto").dtype_on(torch.device("cpu")) == torch.float32
    with pytest.raises(ValueError, match="float16 is for GPUs, but this is a CPU"):
        PrecisionInferer("float16")(torch.zeros(1), network)
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


class Dropping(ContrastiveNetwork):
    """With dropout, and a note of what came out."""

    def forward(self, volumes):
        output = torch.nn.functional.dropout(super().forward(volumes), 0.5)
        self.seen.append(output.detach().clone())
        return output


def contrastive(norm="group", kind=ContrastiveNetwork):
    torch.manual_seed(0)
    network = kind(DenseNetEncoder(1, 8, 8, (1, 1), norm=norm), 6, 5)
    network.seen = []
    return network


def step(micro_batch, network, precision="float32"):
    """One training step of five subjects: the trainer, and the gradients that its optimiser saw."""
    torch.manual_seed(1)
    engine = SupervisedTrainer(
        device="cpu",
        max_epochs=1,
        train_data_loader=[batch(5)],
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), 0.0),
        loss_function=YAwareInfoNCE(GaussianKernel(5.0)),
        prepare_batch=ContrastivePrepareBatch(TwoViews("all_tf")),
        inferer=PrecisionInferer(precision),
        iteration_update=iteration_update(micro_batch),
        decollate=False,
    )
    engine.run()
    return engine.state.output, {name: p.grad for name, p in network.named_parameters()}


@pytest.mark.parametrize("micro_batch", [1, 2, 5, 9])
def test_the_cache_gives_the_gradient_of_the_whole_batch(micro_batch):
    plain, expected = step(None, contrastive())
    cached, gradients = step(micro_batch, contrastive())
    torch.testing.assert_close(cached["loss"], plain["loss"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(cached["pred"], plain["pred"], rtol=1e-5, atol=1e-5)
    assert max(gradient.abs().max() for gradient in expected.values()) > 1e-3
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-5, atol=1e-5, msg=name)


def test_the_cache_follows_the_plain_step_in_bfloat16():
    _, expected = step(None, contrastive(), "bfloat16")
    _, gradients = step(2, contrastive(), "bfloat16")
    flat = [torch.cat([g.flatten() for g in found.values()]) for found in (expected, gradients)]
    assert torch.nn.functional.cosine_similarity(*flat, dim=0) > 0.99


def test_the_second_look_draws_the_random_numbers_of_the_first():
    network = contrastive(kind=Dropping)
    step(2, network)
    looks = len(network.seen) // 2
    assert looks == 3
    for first, second in zip(network.seen[:looks], network.seen[looks:], strict=True):
        assert torch.equal(first, second)
    assert not torch.equal(network.seen[0] == 0, network.seen[1] == 0)


def test_running_statistics_count_each_micro_batch_once():
    network = contrastive("batch")
    step(2, network)
    assert network.encoder.features.norm0.num_batches_tracked == 3
    whole, plain = contrastive("batch"), contrastive("batch")
    step(5, whole)
    step(None, plain)
    for (name, buffer), expected in zip(whole.named_buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(buffer, expected, msg=name)


def test_no_micro_batch_is_the_trainers_own_step_and_nonsense_is_refused():
    assert iteration_update(None) is None
    with pytest.raises(ValueError, match="at least 1, but 0 was given"):
        GradientCache(0)


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
