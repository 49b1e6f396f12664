"""The adversary: its value and gradient are those of the equations, and it hides the site where it can."""

import math

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from torch import nn

from bundle.adaptation import (
    AdversarialLoss,
    AdversarialNetwork,
    AdversaryRamp,
    number_of_sites,
    ramp,
    reversed_gradient,
    site_entropy,
)
from bundle.metrics.representation import site_balanced_accuracy
from bundle.pretext import DiscreteKernel, GaussianKernel, ProductKernel, WithinSiteInfoNCE, YAwareInfoNCE
from bundle.training import GlobalLoss, require_metadata
from tests.adaptation.flat import Flat

NAN = float("nan")


def network(sites=3, seed=0):
    torch.manual_seed(seed)
    return AdversarialNetwork(Flat(), sites, hidden_size=7, projection_size=4).double()


def y_aware():
    return YAwareInfoNCE(ProductKernel(age=GaussianKernel(5.0)), temperature=0.5)


VOLUMES = torch.randn(8, 1, 1, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
METADATA = torch.tensor([[20.0, 0], [24.0, 2], [31.0, NAN], [22.0, 1]], dtype=torch.float64)


def by_loops(logits, sites):
    total, count = 0.0, 0
    for row, values in enumerate(logits.tolist()):
        site = sites[row % len(sites)]
        if math.isnan(site):
            continue
        total -= values[int(site)] - math.log(sum(math.exp(v) for v in values))
        count += 1
    return total / max(count, 1)


def test_cross_entropy_is_that_of_a_loop_without_unknown_sites():
    logits = torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert float(site_entropy(logits, METADATA[:, 1])) == pytest.approx(by_loops(logits, METADATA[:, 1].tolist()))
    assert float(site_entropy(logits, torch.full((4,), NAN))) == 0.0


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_gradients_are_those_of_both_losses_by_hand(strength):
    """Encoder: gradient of the loss less λ w that of the cross-entropy; head: w that of the cross-entropy."""
    net, weight = network(), 0.7
    net.strength.fill_(strength)
    loss = AdversarialLoss(y_aware(), ["age", "site"], 3, projection_size=4, site_weight=weight)
    loss(net(VOLUMES), METADATA).backward()
    found = {name: value.grad.clone() for name, value in net.named_parameters()}

    embedding = net.encoder(VOLUMES)
    own = y_aware()(net.projector(embedding), METADATA[:, :1])
    entropy = site_entropy(net.site_head(embedding), METADATA[:, 1])
    parameters = dict(net.named_parameters())
    of_own, of_sites = (
        dict(
            zip(
                parameters,
                torch.autograd.grad(value, list(parameters.values()), retain_graph=True, allow_unused=True),
                strict=True,
            )
        )
        for value in (own, entropy)
    )
    for name, gradient in found.items():
        part, other = (0 if value is None else value for value in (of_own[name], of_sites[name]))
        factor = weight if name.startswith("site_head") else -strength * weight
        assert gradient.numpy() == pytest.approx((part + factor * other).numpy(), abs=1e-10), name


def test_reversal_changes_no_value_and_turns_the_gradient_round():
    values = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.equal(reversed_gradient(values, 0.4), values)
    (reversed_gradient(values, 0.4) ** 2).sum().backward()
    assert torch.allclose(values.grad, -0.4 * 2 * values.detach())


def test_in_evaluation_it_is_the_loss_of_projections():
    net = network().eval()
    loss = AdversarialLoss(y_aware(), ["age", "site"], 3, projection_size=4)
    output = net(VOLUMES)
    assert output.shape == (8, 4)
    assert torch.equal(loss(output, METADATA), y_aware()(output, METADATA[:, :1]))
    with pytest.raises(ValueError, match="takes 4 numbers of a projection and 3 of sites, but the network gives 6"):
        loss(torch.zeros(8, 6), METADATA)


def test_a_loss_within_sites_gets_the_site_too():
    kernel = ProductKernel(age=GaussianKernel(5.0), site=DiscreteKernel())
    loss = AdversarialLoss(WithinSiteInfoNCE(kernel), ["age", "site"], 3, projection_size=4)
    output = network().eval()(VOLUMES)
    assert torch.equal(loss(output, METADATA), WithinSiteInfoNCE(kernel)(output, METADATA))


def test_several_processes_gather_what_the_adversary_reads():
    loss = AdversarialLoss(y_aware(), ["age", "site"], 3, projection_size=4)
    output = network()(VOLUMES)
    assert torch.allclose(GlobalLoss(loss)(output, METADATA), loss(output, METADATA))


def test_the_strength_grows_with_the_steps_alone():
    net, seen = network(), []
    engine = Engine(lambda *_: seen.append(float(net.strength)))
    AdversaryRamp(net, 10.0).attach(engine)
    engine.run(range(4), max_epochs=5)
    expected = [2 / (1 + math.exp(-10 * step / 20)) - 1 for step in range(20)]
    assert seen == pytest.approx(expected)
    assert ramp(0) == 0


def records(sites):
    return [{"metadata": np.array([20.0 + row, site]), "age": 20.0 + row} for row, site in enumerate(sites)]


def test_sites_are_counted_and_one_is_refused():
    assert number_of_sites(records([0, 3, NAN, 1]), ["age", "site"]) == 4
    with pytest.raises(ValueError, match=r"needs two sites, but the 3 training scans are of 1 known site\(s\)"):
        number_of_sites(records([2, 2, NAN]), ["age", "site"])
    for wrong in (lambda: number_of_sites(records([0, 1]), ["age"]), lambda: AdversarialLoss(y_aware(), ["age"], 2)):
        with pytest.raises(ValueError, match="The adversary reads a column `site` of the metadata"):
            wrong()


def test_metadata_are_still_checked():
    loss = AdversarialLoss(y_aware(), ["age", "site"], 2, projection_size=4)
    require_metadata(loss, records([0, 1, 0, 1]), ["age", "site"], "d.json")
    narrow = AdversarialLoss(YAwareInfoNCE(ProductKernel(age=GaussianKernel(0.01))), ["age", "site"], 2)
    with pytest.raises(ValueError, match="calls no two of 4 training images similar"):
        require_metadata(narrow, records([0, 1, 0, 1]), ["age", "site"], "d.json")
    of_sex = AdversarialLoss(y_aware(), ["sex", "site"], 2)
    with pytest.raises(ValueError, match=r"are \[sex, site\], but AdversarialLoss compares people by \[age, site\]"):
        require_metadata(of_sex, records([0, 1, 0, 1]), ["sex", "site"], "d.json")
    within = WithinSiteInfoNCE(ProductKernel(age=GaussianKernel(5.0), site=DiscreteKernel()))
    require_metadata(AdversarialLoss(within, ["age", "site"], 2), records([0, 1, 0, 1]), ["age", "site"], "d.json")


class Half(nn.Module):
    """Half of the squared distance of the first two projections from something that has nothing to do with sites."""

    def forward(self, output, metadata):
        return (output[:, 0] - metadata[:, 0].repeat(2)).pow(2).mean()


@pytest.mark.parametrize(("weight", "low", "high"), [(0.0, 0.9, 1.0), (1.0, 0.0, 0.75)])
def test_a_trained_encoder_hides_its_sites(weight, low, high):
    rng = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    sites = torch.arange(120) % 2
    signal = torch.randn(120, generator=rng)
    images = torch.randn(120, 6, generator=rng) * 0.3
    images[:, 0] += signal
    images[:, 1] += 3.0 * sites
    metadata = torch.stack([signal, sites.float()], 1)
    net = AdversarialNetwork(Flat(), 2, hidden_size=7, projection_size=4)
    loss = AdversarialLoss(Half(), ["age", "site"], 2, projection_size=4, site_weight=weight)
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for step in range(600):
        net.strength.fill_(3 * ramp(step / 600))
        optimizer.zero_grad()
        loss(net(images.repeat(2, 1)), metadata).backward()
        optimizer.step()
    found = net.eval().encoder(images).detach().numpy()
    assert low <= site_balanced_accuracy(found, sites.numpy()) <= high
    assert float(Half()(net(images.repeat(2, 1)), metadata).detach()) < 0.4  # and reads what it shall
