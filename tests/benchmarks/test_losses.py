"""The loss, forward and backward, beside other ways of writing it."""

import numpy as np
import pytest
import torch
from monai.losses import ContrastiveLoss
from sklearn.metrics.pairwise import rbf_kernel

from bundle.pretext.infonce import YAwareInfoNCE
from bundle.pretext.kernels import GaussianKernel
from tests.benchmarks.measure import DEVICE, seconds, table

pytestmark = pytest.mark.bench
SIGMA, TEMPERATURE, FEATURES = 5.0, 0.1, 128
SIZES = (64, 256, 512, 1024, 4096)
SLOW_FROM = 1024  # subjects, from which on MONAI's loss takes minutes


def matrices(projections, ages):
    """Whole matrices in NumPy with scikit-learn's kernel, float64, gradient by hand: (loss, gradient)."""
    norms = np.linalg.norm(projections, axis=1, keepdims=True)
    z, n = projections / norms, len(projections)
    weights = np.tile(rbf_kernel(ages, gamma=1 / (2 * SIGMA**2)), (2, 2))
    np.fill_diagonal(weights, 0)
    weights /= weights.sum(1, keepdims=True)
    logits = z @ z.T / TEMPERATURE
    np.fill_diagonal(logits, -np.inf)
    shifted = logits - logits.max(1, keepdims=True)
    powers = np.exp(shifted)
    log_probability = shifted - np.log(powers.sum(1, keepdims=True))
    np.fill_diagonal(log_probability, 0)
    slope = (powers / powers.sum(1, keepdims=True) - weights) / (n * TEMPERATURE)
    steep = (slope + slope.T) @ z
    return -(weights * log_probability).sum(1).mean(), (steep - z * (z * steep).sum(1, keepdims=True)) / norms


def anchors(projections, ages):
    """The same, an anchor at a time, as the equation is read."""
    norms = np.linalg.norm(projections, axis=1, keepdims=True)
    z, ages, n = projections / norms, np.tile(ages, (2, 1)), len(projections)
    loss, steep = 0.0, np.zeros_like(z)
    for i in range(n):
        others = np.arange(n) != i
        weights = rbf_kernel(ages[i : i + 1], ages[others], gamma=1 / (2 * SIGMA**2))[0]
        logits = z[others] @ z[i] / TEMPERATURE
        powers = np.exp(logits - logits.max())
        shares, probability = weights / weights.sum(), powers / powers.sum()
        loss -= shares @ np.log(probability) / n
        slope = (probability - shares) / (n * TEMPERATURE)
        steep[i] += slope @ z[others]
        steep[others] += np.outer(slope, z[i])
    return loss, (steep - z * (z * steep).sum(1, keepdims=True)) / norms


def row(n):
    generator = torch.Generator().manual_seed(0)
    plain = torch.randn(2 * n, FEATURES, generator=generator)
    ages = 20 + 60 * torch.rand(n, 1, generator=generator)
    projections, known = plain.to(DEVICE).requires_grad_(), ages.to(DEVICE)
    loss, stranger = YAwareInfoNCE(GaussianKernel(SIGMA), TEMPERATURE), ContrastiveLoss(TEMPERATURE)
    arrays = plain.detach().double().numpy(), ages.double().numpy()

    def ours():
        projections.grad = None
        value = loss(projections, known)
        value.backward()
        return value

    def monai():
        projections.grad = None
        stranger(projections[:n], projections[n:]).backward()

    for value, gradient in (matrices(*arrays), *([anchors(*arrays)] if n < SLOW_FROM else [])):
        assert abs(ours().item() - value) < 1e-4
        assert np.abs(projections.grad.cpu().numpy() - gradient).max() < 1e-5
    repeats = 20 if n < SLOW_FROM else 3
    first = seconds(ours, repeats)
    rest = [seconds(lambda: matrices(*arrays), repeats)]
    rest += [seconds(lambda: anchors(*arrays), 3), seconds(monai, 3)] if n < SLOW_FROM else [None, None]
    return first, rest


def test_the_loss(show):
    rows = []
    for n in SIZES:
        first, rest = row(n)
        others = [cell for t in rest for cell in ((f"{t * 1e3:.1f} ms", f"{t / first:.1f}") if t else ("", ""))]
        rows.append([n, f"{first * 1e3:.2f} ms", *others])
        if n == 512:
            assert rest[2] / first > 30
    header = ["subjects", "this bundle", "NumPy and scikit-learn's kernel, matrices", "ratio", "the same, an anchor"]
    header[4] += " at a time"
    show(table("The loss, forward and backward", [*header, "ratio", "MONAI's ContrastiveLoss", "ratio"], rows))
