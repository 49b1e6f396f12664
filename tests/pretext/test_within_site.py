import pytest
import torch

from bundle.pretext.infonce import YAwareInfoNCE
from bundle.pretext.kernels import DiscreteKernel, GaussianKernel, MeanKernel, ProductKernel
from bundle.pretext.within_site import WithinSiteInfoNCE, within_site_infonce

NAN = float("nan")
AGES = torch.tensor([20.0, 20, 23, 31, NAN, 90, 40, 41], dtype=torch.float64)
SITES = torch.tensor([0.0, 0, 0, 1, 1, 2, NAN, NAN], dtype=torch.float64)  # one alone at site 2, two of unknown site


def kernel(mismatch=0.0):
    return ProductKernel(age=GaussianKernel(5.0), site=DiscreteKernel(mismatch))


def case(n=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2 * n, 5, generator=generator, dtype=torch.float64), torch.stack([AGES, SITES], dim=1)[:n]


def loop(projections, weights, sites, temperature, share=None):
    """The mean over anchors that have somebody at their site, each against the views of its site alone."""
    z = (projections / projections.norm(dim=1, keepdim=True)).unbind(0)
    views, subjects = len(z), len(sites)
    terms = []
    for i in range(views):
        own = (i + subjects) % views
        here = [k for k in range(views) if k not in (i, own) and sites[k % subjects] == sites[i % subjects]]
        if not here:
            continue
        s = {k: z[i] @ z[k] / temperature for k in [own, *here]}
        log_sum = torch.stack(list(s.values())).exp().sum().log()
        w = {k: float(weights[i % subjects, k % subjects]) for k in here}
        mass = sum(w.values())
        if share is None:
            part = {own: 1 / (1 + mass)} | {k: w[k] / (1 + mass) for k in here}
        elif mass / 2 > 1e-6:
            part = {own: share} | {k: (1 - share) * w[k] / mass for k in here}
        else:
            part = {own: 1.0}
        terms.append(-sum(value * (s[k] - log_sum) for k, value in part.items()))
    return sum(terms) / len(terms)


def with_gradient(function, projections):
    leaf = projections.clone().requires_grad_()
    value = function(leaf)
    return value.detach(), torch.autograd.grad(value, leaf)[0]


@pytest.mark.parametrize("mismatch", [0.0, 0.5])  # whatever the kernel says of other sites
@pytest.mark.parametrize("share", [None, 0.0, 0.4, 1.0])
def test_value_and_gradient_equal_the_loop(mismatch, share):
    projections, metadata = case()
    loss = WithinSiteInfoNCE(kernel(mismatch), 0.2, share)
    found = with_gradient(lambda z: loss(z, metadata), projections)
    expected = with_gradient(lambda z: loop(z, kernel(mismatch)(metadata), SITES, 0.2, share), projections)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-10)


def test_somebody_alone_at_a_site_changes_nothing_for_the_others_and_learns_nothing():
    projections, metadata = case()
    loss = WithinSiteInfoNCE(kernel(), 0.2)
    value, gradient = with_gradient(lambda z: loss(z, metadata), projections)
    alone = [5, 6, 7]
    assert not gradient.unflatten(0, (2, -1))[:, alone].any()
    together = [0, 1, 2, 3, 4]
    rest = projections.unflatten(0, (2, -1))[:, together].flatten(0, 1)
    assert torch.isclose(loss(rest, metadata[together]), value, atol=1e-12)


def test_one_site_is_y_aware_and_nobody_to_compare_with_is_zero():
    projections, metadata = case(4)
    one_site = torch.stack([metadata[:, 0], torch.zeros(4, dtype=torch.float64)], dim=1)
    expected = YAwareInfoNCE(GaussianKernel(5.0), 0.2)(projections, metadata[:, :1])
    assert torch.isclose(WithinSiteInfoNCE(kernel(), 0.2)(projections, one_site), expected, atol=1e-12)
    each_alone = torch.stack([metadata[:, 0], torch.arange(4.0, dtype=torch.float64)], dim=1)
    value, gradient = with_gradient(lambda z: WithinSiteInfoNCE(kernel(), 0.2)(z, each_alone), projections)
    assert value == 0
    assert not gradient.any()


def test_an_embedding_that_knows_the_site_alone_gains_nothing_within_sites():
    sites = torch.arange(8).double() % 2
    knows_the_site = torch.nn.functional.one_hot(sites.long(), 6).double().repeat(2, 1)
    metadata = torch.stack([torch.arange(8).double() * 20, sites], dim=1)
    within = WithinSiteInfoNCE(kernel(), 0.5)(knows_the_site, metadata)
    assert torch.isclose(within, torch.tensor(7.0).double().log(), atol=1e-12)  # 4 people: chance among 7 other views
    usual = YAwareInfoNCE(GaussianKernel(5.0), 0.5)(knows_the_site, metadata[:, 0])
    assert usual < torch.tensor(15.0).log() - 0.3  # better than chance among 15


def test_any_combined_kernel_with_a_site_is_taken_and_others_are_refused():
    projections, metadata = case()
    loss = WithinSiteInfoNCE(MeanKernel(age=GaussianKernel(5.0), site=DiscreteKernel()), own_share=0.5)
    assert torch.isfinite(loss(projections, metadata))
    assert "own_share=0.5" in str(loss)
    for without in (GaussianKernel(5.0), ProductKernel(age=GaussianKernel(5.0))):
        with pytest.raises(ValueError, match="column `site` of its kernel"):
            WithinSiteInfoNCE(without)
    with pytest.raises(ValueError, match="but 2 was given"):
        within_site_infonce(projections, torch.eye(8), SITES, own_share=2)
