import math

import pytest
import torch

from bundle.pretext import kernels
from bundle.pretext.kernels import (
    DiscreteKernel,
    GaussianKernel,
    MeanKernel,
    ProductKernel,
    bandwidth,
    effective_positives,
    positives_report,
)

NAN = float("nan")
FORMULAS = {
    "GaussianKernel": lambda d, s: math.exp(-(d**2) / (2 * s**2)),
    "ExponentialKernel": lambda d, s: math.exp(-abs(d) / s),
    "CauchyKernel": lambda d, s: 1 / (1 + d**2 / s**2),
    "EpanechnikovKernel": lambda d, s: max(0.0, 1 - d**2 / s**2),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_a_continuous_kernel_equals_its_formula(name):
    ages = torch.tensor([20.0, 22.5, 31.0, 60.0], dtype=torch.float64)
    weights = getattr(kernels, name)(sigma=5.0)(ages)
    for i, a in enumerate(ages.tolist()):
        for k, b in enumerate(ages.tolist()):
            assert weights[i, k].item() == pytest.approx(FORMULAS[name](a - b, 5.0), abs=1e-12)


def test_discrete_kernel_is_one_when_equal_and_mismatch_when_not():
    weights = DiscreteKernel(mismatch=0.3)(torch.tensor([0.0, 1.0, 0.0]))
    assert torch.allclose(weights, torch.tensor([[1, 0.3, 1], [0.3, 1, 0.3], [1, 0.3, 1]]))


def age_sex_site(combined=ProductKernel, **options):
    return combined(age=GaussianKernel(5.0), sex=DiscreteKernel(0.5), site=DiscreteKernel(0.8), **options)


def test_product_and_mean_of_mixed_columns():
    metadata = torch.tensor([[20.0, 0, 3], [25.0, 1, 3], [25.0, 1, 4]])
    age = math.exp(-0.5)
    product, mean = age_sex_site()(metadata), age_sex_site(MeanKernel)(metadata)
    assert product[0, 1].item() == pytest.approx(age * 0.5)
    assert product[0, 2].item() == pytest.approx(age * 0.5 * 0.8)
    assert product[1, 2].item() == pytest.approx(0.8)
    assert mean[0, 2].item() == pytest.approx((age + 0.5 + 0.8) / 3)


@pytest.mark.parametrize("combined", [ProductKernel, MeanKernel])
@pytest.mark.parametrize("unknown", ["exclude", "ignore"])
def test_weights_are_symmetric_in_the_unit_interval_with_unit_diagonal(combined, unknown):
    torch.manual_seed(0)
    metadata = torch.stack([torch.rand(30) * 80, torch.randint(2, (30,)).float(), torch.randint(4, (30,)).float()], 1)
    metadata[torch.rand(30, 3) < 0.2] = NAN
    weights = age_sex_site(combined, unknown=unknown)(metadata)
    assert weights.isfinite().all()
    assert (weights >= 0).all()
    assert (weights <= 1).all()
    assert torch.equal(weights, weights.T)
    assert torch.equal(weights.diagonal(), torch.ones(30))


def test_unknown_column_excludes_the_pair_or_is_left_out():
    metadata = torch.tensor([[20.0, 0, 1], [20.0, NAN, 2], [NAN, NAN, NAN]])
    assert age_sex_site(unknown="exclude")(metadata)[0, 1] == 0
    assert age_sex_site(unknown="ignore")(metadata)[0, 1] == pytest.approx(0.8)
    assert age_sex_site(MeanKernel, unknown="ignore")(metadata)[0, 1] == pytest.approx(0.9)
    for unknown in ("exclude", "ignore"):
        assert age_sex_site(unknown=unknown)(metadata)[2].tolist() == [0, 0, 1]


def test_metadata_of_one_column_may_be_a_vector():
    ages = torch.tensor([20.0, 30.0, NAN])
    for kernel in (GaussianKernel(5.0), ProductKernel(age=GaussianKernel(5.0))):
        assert torch.equal(kernel(ages), kernel(ages[:, None]))
        assert kernel(ages)[2].tolist() == [0, 0, 1]


@pytest.mark.parametrize("sigma", [0, 0.0, -5, NAN, float("inf"), "five", None, True])
def test_a_bandwidth_that_is_no_positive_number_is_refused(sigma):
    with pytest.raises(ValueError, match=r"`sigma` is a standard deviation .* must be a positive number"):
        GaussianKernel(sigma)


def test_refusals_name_what_is_known():
    with pytest.raises(ValueError, match=r"weight in \[0, 1\)"):
        DiscreteKernel(1.0)
    with pytest.raises(ValueError, match=r"weight in \[0, 1\), but 'half'"):
        DiscreteKernel("half")
    with pytest.raises(ValueError, match="at least one column"):
        ProductKernel()
    with pytest.raises(ValueError, match=r"`age` must be the kernel of one column, .* not 5.0"):
        ProductKernel(age=5.0)
    with pytest.raises(ValueError, match=r"`unknown` cannot be .*; there is 'exclude', 'ignore'"):
        age_sex_site(unknown="drop")
    with pytest.raises(ValueError, match=r"3 column\(s\) \(age, sex, site\).*shape \(4, 2\)"):
        age_sex_site()(torch.zeros(4, 2))
    with pytest.raises(ValueError, match=r"1 column\(s\).*shape \(4, 2\)"):
        GaussianKernel(5.0)(torch.zeros(4, 2))


def test_bandwidth_rules_equal_scipy():
    from scipy.stats import gaussian_kde

    ages = (32 + 19 * torch.randn(500, generator=torch.Generator().manual_seed(1), dtype=torch.float64)).tolist()
    for rule in ("scott", "silverman"):
        expected = gaussian_kde(ages, bw_method=rule).covariance[0, 0] ** 0.5
        assert bandwidth(rule, [*ages, NAN]) == pytest.approx(expected, rel=1e-9)
    assert bandwidth(5, ages) == 5.0


def test_bandwidth_refusals():
    with pytest.raises(ValueError, match=r"`sigma` cannot be .*'scott'"):
        bandwidth("scot", [1.0, 2.0])
    with pytest.raises(ValueError, match="needs a column with spread"):
        bandwidth("scott", [30.0, 30.0, NAN])


def test_effective_positives_of_the_two_limits():
    assert torch.allclose(effective_positives(torch.eye(5)), torch.ones(5))
    assert torch.allclose(effective_positives(torch.ones(5, 5)), torch.full((5,), 9.0))


def test_positives_report_grows_with_sigma_and_counts_lonely_anchors():
    ages = torch.cat([torch.linspace(20, 80, 200), torch.full((100,), NAN)])[:, None]
    reports = [positives_report(GaussianKernel(s), ages, 64) for s in (1.0, 5.0, 20.0)]
    assert reports[0]["mean"] < reports[1]["mean"] < reports[2]["mean"]
    assert reports[2]["own_view_only"] == pytest.approx(1 / 3, abs=0.02)
    assert reports[1]["p05"] <= reports[1]["p50"] <= reports[1]["p95"] <= 127
