import pytest
import torch

from bundle.networks.encoders import DenseNetEncoder, ResNetEncoder
from bundle.pretext.age_regression import AgeRegressionLoss, AgeRegressor
from bundle.pretext.models_genesis import ReconstructionLoss, ReconstructionNetwork

NAN = float("nan")


def test_the_loss_is_the_mean_absolute_error_of_both_views_in_standard_deviations():
    ages = [20.0, 30.0, 40.0, NAN]
    prediction = torch.tensor([[0.5], [0.0], [2.0], [-1.0], [0.0], [9.0]], requires_grad=True)
    loss = AgeRegressionLoss(ages)(prediction, torch.tensor([[40.0], [20.0], [NAN]]))
    assert loss.item() == pytest.approx((0.5 + 1.0 + 2.0 + 1.0) / 4)
    loss.backward()
    assert prediction.grad[2] == prediction.grad[5] == 0


def test_unknown_ages_alone_give_loss_and_gradient_zero():
    prediction = torch.ones(4, 1, requires_grad=True)
    loss = AgeRegressionLoss([20.0, 30.0])(prediction, torch.full((2, 1), NAN))
    loss.backward()
    assert loss.item() == 0
    assert prediction.grad.abs().max() == 0


def test_refusals():
    with pytest.raises(ValueError, match=r"2 known age\(s\) were found"):
        AgeRegressionLoss([30.0, 30.0, NAN])
    with pytest.raises(ValueError, match=r"\(2N, 1\) and ages \(N, 1\), but \(4, 3\) and \(2, 1\)"):
        AgeRegressionLoss([20.0, 30.0])(torch.zeros(4, 3), torch.zeros(2, 1))


def test_the_regressor_is_linear_on_the_embedding():
    network = AgeRegressor(DenseNetEncoder(1, 8, 4, (1, 1, 1, 1))).eval()
    volumes = torch.randn(2, 1, 32, 32, 32)
    with torch.no_grad():
        assert torch.equal(network(volumes), network.projector(network.encoder(volumes)))
        assert network(volumes).shape == (2, 1)


ENCODERS = [DenseNetEncoder(1, 8, 4, (1, 1, 1, 1)), DenseNetEncoder(1, 8, 4, (1, 2, 1)), ResNetEncoder(1, width=4)]


@pytest.mark.parametrize("encoder", ENCODERS, ids=["densenet", "three blocks", "resnet"])
@pytest.mark.parametrize("shape", [(32, 48, 32), (33, 40, 47)])
def test_a_reconstruction_has_the_size_of_the_volume_and_teaches_the_encoder(encoder, shape):
    network = ReconstructionNetwork(encoder, width=4)
    volumes = torch.randn(4, 1, *shape)
    restored = network(volumes)
    assert restored.shape == volumes.shape
    ReconstructionLoss()(restored, volumes[:2]).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_making_the_network_leaves_the_encoder_as_it_was():
    encoder = DenseNetEncoder(1, 8, 4, (1, 1, 1)).train()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    ReconstructionNetwork(encoder, width=4)
    assert encoder.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())


def test_the_reconstruction_loss_is_the_mean_squared_error_of_both_views():
    volumes = torch.zeros(2, 1, 2, 2, 2)
    reconstruction = torch.cat([torch.full((2, 1, 2, 2, 2), 1.0), torch.full((2, 1, 2, 2, 2), 3.0)])
    assert ReconstructionLoss()(reconstruction, volumes).item() == pytest.approx((1 + 9) / 2)


@pytest.mark.long
def test_a_small_network_learns_to_reconstruct():
    torch.manual_seed(0)
    volumes = torch.nn.functional.interpolate(torch.randn(4, 1, 5, 5, 5), 32, mode="trilinear")  # smooth
    network = ReconstructionNetwork(DenseNetEncoder(1, 8, 4, (1, 1, 1)), width=4)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    losses = []
    for _ in range(30):
        loss = ReconstructionLoss()(network(volumes.repeat(2, 1, 1, 1, 1)), volumes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * volumes.var().item()
