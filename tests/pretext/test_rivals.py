"""Each loss against a loop over its formula."""

import itertools
import math

import pytest
import torch

from bundle.pretext.kernels import GaussianKernel
from bundle.pretext.rank_n_contrast import RankNContrast
from bundle.pretext.uniformity import (
    ConditionalAlignmentUniformity,
    DecoupledUniformity,
    conditional_alignment_uniformity,
)

NAN = float("nan")
LOSSES = [
    RankNContrast(),
    DecoupledUniformity(GaussianKernel(5.0)),
    ConditionalAlignmentUniformity(GaussianKernel(5.0)),
]


def random_case(n=6, d=5, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    projections = torch.randn(2 * n, d, generator=generator, dtype=dtype)
    ages = (20 + 30 * torch.rand(n, 1, generator=generator)).to(dtype)
    ages[1], ages[2] = ages[0], NAN
    return projections, ages


def normalized(projections):
    return projections / projections.norm(dim=1, keepdim=True)


def age_distance(ages, i, k):
    if i == k:
        return 0.0
    distance = abs(ages[i] - ages[k]).item()
    return math.inf if math.isnan(distance) else distance


def naive_rank_n_contrast(projections, ages, temperature):
    n, views, total = len(ages), len(projections), 0.0
    for i in range(views):
        others = [k for k in range(views) if k != i]
        s = {k: -(projections[i] - projections[k]).norm().item() / temperature for k in others}
        d = {k: age_distance(ages, i % n, k % n) for k in others}
        positives = [j for j in others if math.isfinite(d[j])]
        for j in positives:
            against = sum(math.exp(s[k]) for k in others if d[k] >= d[j])
            total += (s[j] - math.log(against)) / len(positives)
    return -total / views


@pytest.mark.parametrize("seed", range(4))
def test_rank_n_contrast_equals_the_triple_loop(seed):
    projections, ages = random_case(seed=seed)
    expected = naive_rank_n_contrast(projections, ages, 1.5)
    assert RankNContrast(1.5)(projections, ages).item() == pytest.approx(expected, abs=1e-10)


def test_rank_n_contrast_is_lowest_for_projections_in_the_order_of_age():
    ages = torch.linspace(20, 80, 8)[:, None]
    ordered = ages.repeat(2, 1)
    shuffled = ages[torch.randperm(8, generator=torch.Generator().manual_seed(0))].repeat(2, 1)
    assert RankNContrast()(ordered, ages) < RankNContrast()(shuffled, ages)


def naive_decoupled_uniformity(projections, weights, regularization):
    n = len(weights)
    z = normalized(projections)
    means = (z[:n] + z[n:]) / 2
    smooth = torch.linalg.inv(weights + regularization * torch.eye(n, dtype=weights.dtype)) @ weights @ means
    pairs = list(itertools.combinations(range(n), 2))
    return math.log(sum(math.exp(-2 * ((smooth[i] - smooth[j]) ** 2).sum().item()) for i, j in pairs) / len(pairs))


@pytest.mark.parametrize("seed", range(4))
def test_decoupled_uniformity_equals_the_loop(seed):
    projections, ages = random_case(seed=seed)
    kernel = GaussianKernel(5.0)
    expected = naive_decoupled_uniformity(projections, kernel(ages), 0.1)
    assert DecoupledUniformity(kernel, 0.1)(projections, ages).item() == pytest.approx(expected, abs=1e-9)


def naive_conditional(projections, weights, balance):
    n, z = len(weights), normalized(projections)
    pairs = [(i, j) for i in range(2 * n) for j in range(2 * n) if i != j]
    w = {(i, j): weights[i % n, j % n].item() for i, j in pairs}
    d = {(i, j): ((z[i] - z[j]) ** 2).sum().item() for i, j in pairs}
    attraction = sum(w[p] * d[p] for p in pairs) / sum(w.values())
    repulsion = sum((1 - w[p]) * math.exp(-2 * d[p]) for p in pairs) / sum(1 - w[p] for p in pairs)
    return attraction + balance * math.log(repulsion)


@pytest.mark.parametrize("seed", range(4))
def test_conditional_alignment_and_uniformity_equals_the_loop(seed):
    projections, ages = random_case(seed=seed)
    kernel = GaussianKernel(5.0)
    expected = naive_conditional(projections, kernel(ages), 0.5)
    loss = ConditionalAlignmentUniformity(kernel, balance=0.5)
    assert loss(projections, ages).item() == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_are_those_of_finite_differences(loss):
    projections, ages = random_case(n=4, d=3)
    assert torch.autograd.gradcheck(lambda z: loss(z, ages), projections.requires_grad_())


@pytest.mark.parametrize("loss", LOSSES)
def test_order_of_subjects_and_views_changes_nothing(loss):
    projections, ages = random_case()
    view_1, view_2 = projections.chunk(2)
    order = torch.tensor([3, 0, 5, 2, 1, 4])
    expected = loss(projections, ages)
    assert torch.isclose(loss(torch.cat([view_1[order], view_2[order]]), ages[order]), expected, atol=1e-9)
    assert torch.isclose(loss(torch.cat([view_2, view_1]), ages), expected, atol=1e-9)


@pytest.mark.parametrize("loss", LOSSES)
def test_low_precision_gives_a_finite_float32_loss(loss):
    projections, ages = random_case(n=256, d=64, dtype=torch.float32)
    half = projections.to(torch.bfloat16).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(half, ages)
    value.backward()
    assert value.dtype == torch.float32
    assert value.isfinite()
    assert half.grad.isfinite().all()


@pytest.mark.parametrize("loss", LOSSES)
def test_one_subject_has_a_finite_gradient(loss):
    projections = torch.randn(2, 8, requires_grad=True)
    value = loss(projections, torch.tensor([[30.0]]))
    value.backward()
    assert value.isfinite()
    assert projections.grad.isfinite().all()


@pytest.mark.parametrize("loss", LOSSES)
def test_wrong_shapes_are_refused(loss):
    with pytest.raises(ValueError, match=r"\(7, 4\) was found for 4 subject"):
        loss(torch.zeros(7, 4), torch.zeros(4, 1))


def test_impossible_options_are_refused():
    with pytest.raises(ValueError, match="`temperature` must be a number from"):
        RankNContrast(1e-30)
    with pytest.raises(ValueError, match=r"`regularization` must be a number above 0 \(0.01 is usual\), but 0.0"):
        DecoupledUniformity(GaussianKernel(5.0), 0.0)
    with pytest.raises(ValueError, match=r"`balance` must be a number of at least 0 \(1 is usual\), but nan"):
        ConditionalAlignmentUniformity(GaussianKernel(5.0), NAN)
    with pytest.raises(ValueError, match="`balance` must be a number"):
        conditional_alignment_uniformity(torch.zeros(8, 4), torch.eye(4), balance="1")
