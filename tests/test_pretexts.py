import pytest
import torch

from bundle.networks import DenseNetEncoder
from bundle.pretexts import AgeRegressionLoss, AgeRegressor

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
