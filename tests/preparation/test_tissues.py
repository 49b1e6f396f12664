import numpy as np
import pytest

from bundle.preparation.tissues import CSF, GM, WM, Mixture, priors_of, segment

MEANS = np.array([0.15, 0.55, 0.85])


def ball(size=40, noise=0.05, slope=0.0):
    """Shells of CSF, grey and white matter, and priors that are blurred and off by two voxels."""
    radius = np.sqrt(sum(np.square(axis - size / 2 + 0.5) for axis in np.indices((size,) * 3)))
    truth = np.where(radius < 10, WM, np.where(radius < 14, GM, CSF))
    x = np.linspace(1 - slope, 1 + slope, size)[:, None, None]
    rng = np.random.default_rng(0)
    values = (MEANS[truth] * x + noise * rng.standard_normal(truth.shape)).astype(np.float32)
    outside = 1 / (1 + np.exp((radius - 12) / 1.5))
    inside = 1 / (1 + np.exp((radius - 8) / 1.5))
    return values, radius < 17, truth, priors_of((outside - inside).astype(np.float32), inside.astype(np.float32))


@pytest.mark.parametrize(("slope", "local_mm", "right"), [(0.0, 0.0, 0.985), (0.25, 8.0, 0.95)])
def test_tissues_and_their_means_are_found(slope, local_mm, right):
    values, mask, truth, priors = ball(slope=slope)
    found = segment(values, mask, priors, 1.0, Mixture(prior=0.6, local_mm=local_mm))
    assert (found.maps.argmax(0) == truth)[mask].mean() > right
    np.testing.assert_allclose(found.means, MEANS, atol=0.05)
    np.testing.assert_allclose(found.maps.sum(0)[mask], 1, atol=1e-5)
    assert (found.maps[:, ~mask] == 0).all()
    np.testing.assert_allclose(
        found.volumes(0.001), [np.count_nonzero(mask & (truth == tissue)) / 1000 for tissue in (CSF, GM, WM)], rtol=0.06
    )


def test_means_that_follow_the_brightness_are_better_than_one_mean():
    values, mask, truth, priors = ball(slope=0.3)
    wrong = [
        (segment(values, mask, priors, 1.0, Mixture(0.6, local_mm=mm)).maps.argmax(0) != truth)[mask].mean()
        for mm in (8.0, 0.0)
    ]
    assert wrong[0] < 0.6 * wrong[1]


def test_neighbours_smooth_noise():
    values, mask, truth, priors = ball(noise=0.13)
    wrong = [
        (segment(values, mask, priors, 1.0, Mixture(0.6, weight, 0.0)).maps.argmax(0) != truth)[mask].mean()
        for weight in (0.4, 0.0)
    ]
    assert wrong[0] < 0.8 * wrong[1]


def test_a_mask_that_touches_the_faces_has_no_neighbours_across():
    """White matter on the left face alone: rolled without a margin, the right face would see it."""
    values = np.full((12, 12, 12), 0.55, np.float32)
    values[:6], values[6] = 0.85, 0.15
    values += 0.02 * np.random.default_rng(0).standard_normal(values.shape).astype(np.float32)
    flat = np.full(values.shape, 1 / 3, np.float32)
    mixture = Mixture(prior=0.1, neighbours=0.5, local_mm=0.0)
    apart = segment(values, np.ones(values.shape, bool), priors_of(flat, flat), 1.0, mixture)
    padded = segment(
        np.pad(values, 3),
        np.pad(np.ones(values.shape, bool), 3),
        priors_of(np.pad(flat, 3), np.pad(flat, 3)),
        1.0,
        mixture,
    )
    np.testing.assert_allclose(apart.maps, padded.maps[:, 3:-3, 3:-3, 3:-3], atol=1e-6)


def test_contrast_to_noise_is_of_the_two_matters():
    values, mask, _, priors = ball(noise=0.05)
    found = segment(values, mask, priors, 1.0, Mixture(0.6, local_mm=0.0))
    assert found.contrast_to_noise == pytest.approx(0.3 / 0.05, rel=0.1)
