"""The loss across two modalities: value and gradient against the equation as loops, in float64."""

import pytest
import torch

from bundle.pretext.infonce import YAwareInfoNCE
from bundle.pretext.kernels import DiscreteKernel, GaussianKernel, ProductKernel
from bundle.pretext.two_modalities import TwoModalityInfoNCE, cross_modal_infonce, cross_shares

NAN = float("nan")
AGES = torch.tensor([20.0, 20, 23, 31, NAN, 300, 40, 41], dtype=torch.float64)
THERE = torch.tensor([[1, 1], [1, 1], [1, 0], [1, 1], [0, 1], [1, 1], [1, 0], [1, 1]], dtype=torch.float64)
ALL = torch.ones_like(THERE)


def case(there=THERE, seed=0):
    generator = torch.Generator().manual_seed(seed)
    projections = torch.randn(2 * len(there), 2, 5, generator=generator, dtype=torch.float64)
    return projections, torch.cat([AGES[: len(there), None], there], dim=1)


def unit(rows):
    return (rows / rows.norm(dim=-1, keepdim=True)).unbind(0)


def across(first, second, weights, both, temperature, share):
    """Each view of one modality against all views of the other, of those who have both."""
    people = [i for i in range(len(weights)) if both[i]]
    n, terms = len(weights), []
    for anchors, candidates in ((unit(first), unit(second)), (unit(second), unit(first))):
        for i in (v * n + p for v in (0, 1) for p in people):
            own = i % n
            others = [k for k in people if k != own]
            views = [v * n + p for v in (0, 1) for p in people]
            s = {k: anchors[i] @ candidates[k] / temperature for k in views}
            log_sum = torch.stack(list(s.values())).exp().sum().log()
            w = {k: float(weights[own, k]) for k in people}
            mass = sum(w[k] for k in others)
            if share is None:
                part = {k: w[k % n] / (2 * (1 + mass)) for k in views}
            elif mass > 1e-6:
                part = {k: share / 2 if k % n == own else (1 - share) * w[k % n] / (2 * mass) for k in views}
            else:
                part = {k: 0.5 * (k % n == own) for k in views}
            assert sum(part.values()) == pytest.approx(1)
            terms.append(-sum(p * (s[k] - log_sum) for k, p in part.items()))
    return sum(terms) / len(terms) if terms else torch.zeros((), dtype=torch.float64)


def within(views, weights, there, temperature, share):
    """The usual loss of those who have a modality."""
    people = torch.tensor([i for i in range(len(weights)) if there[i]])
    rows = torch.cat([people, people + len(weights)])

    class Given(torch.nn.Module):
        def forward(self, _):
            return weights[people][:, people]

    return YAwareInfoNCE(Given(), temperature, own_share=share)(views[rows], torch.zeros(len(people), 1))


def loop(projections, weights, there, temperature, share, omega):
    first, second = projections.unbind(1)
    cross = across(first, second, weights, there.all(1), temperature, share)
    own = sum(within(v, weights, there[:, m], temperature, share) for m, v in enumerate((first, second))) / 2
    return (1 - omega) * cross + omega * own


def with_gradient(function, projections):
    leaf = projections.clone().requires_grad_()
    value = function(leaf)
    return value.detach(), torch.autograd.grad(value, leaf)[0]


@pytest.mark.parametrize("there", [ALL, THERE], ids=["everybody has both", "some lack one"])
@pytest.mark.parametrize("share", [None, 0.0, 0.4, 1.0])
@pytest.mark.parametrize("omega", [0.0, 0.5, 1.0])
def test_value_and_gradient_equal_the_loops(there, share, omega):
    projections, target = case(there)
    kernel = GaussianKernel(5.0)
    loss = TwoModalityInfoNCE(kernel, 0.2, share, omega)
    found = with_gradient(lambda z: loss(z, target), projections)
    weights = kernel(target[:, :1])
    expected = with_gradient(lambda z: loop(z, weights, there.bool(), 0.2, share, omega), projections)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-10)


def test_who_lacks_a_modality_is_in_no_pair_across_whatever_stands_in_its_row():
    projections, target = case()
    loss = TwoModalityInfoNCE(GaussianKernel(5.0), 0.2, within_share=0.0)
    value, gradient = with_gradient(lambda z: loss(z, target), projections)
    lacking = [2, 4, 6]
    assert not gradient.unflatten(0, (2, -1))[:, lacking].any()
    blank = projections.unflatten(0, (2, -1)).clone()
    blank[:, lacking] = 0
    assert torch.isclose(loss(blank.flatten(0, 1), target), value, atol=1e-12)


def test_who_has_one_modality_teaches_its_encoder_alone():
    projections, target = case()
    _, gradient = with_gradient(lambda z: TwoModalityInfoNCE(GaussianKernel(5.0), 0.2)(z, target), projections)
    by_person = gradient.unflatten(0, (2, -1)).abs().sum((0, 3))  # (people, modalities)
    assert torch.equal(by_person > 0, THERE.bool())


def test_the_first_modality_alone_is_the_usual_loss():
    projections, target = case(torch.tensor([[1.0, 0]] * 8, dtype=torch.float64))
    usual = YAwareInfoNCE(GaussianKernel(5.0), 0.2)(projections[:, 0], target[:, :1])
    found = TwoModalityInfoNCE(GaussianKernel(5.0), 0.2, within_share=1.0)(projections, target)
    assert torch.isclose(found, usual / 2, atol=1e-12)  # the mean of both modalities, of which one is 0


@pytest.mark.parametrize("there", [[[1, 0], [0, 1]], [[1, 0], [1, 0]], [[0, 1], [0, 1]]])
def test_nobody_with_both_is_zero_and_not_nan(there):
    projections, target = case(torch.tensor(there, dtype=torch.float64))
    value, gradient = with_gradient(
        lambda z: TwoModalityInfoNCE(GaussianKernel(5.0), 0.2, within_share=0.0)(z, target), projections
    )
    assert value == 0
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_zero_rows_of_who_lacks_a_modality_leave_finite_gradients():
    projections, target = case()
    blank = projections * THERE.repeat(2, 1)[:, :, None]
    _, gradient = with_gradient(lambda z: TwoModalityInfoNCE(GaussianKernel(5.0), 0.1)(z, target), blank)
    assert gradient.isfinite().all()


def test_recognising_the_modality_gains_nothing_across():
    """Projections that know the modality and nothing else are at chance; InfoNCE of all views together gains."""
    knows = torch.eye(2, 5, dtype=torch.float64).expand(16, 2, 5)
    target = torch.cat([AGES[:, None], ALL], dim=1)
    found = TwoModalityInfoNCE(GaussianKernel(5.0), 0.2, within_share=0.0)(knows, target)
    assert found == pytest.approx(torch.tensor(16.0).double().log())  # 16 views of the other modality


def test_shares_add_up_to_one_and_a_person_similar_to_nobody_keeps_the_own_map():
    weights = GaussianKernel(5.0)(AGES[:, None])
    for share in (None, 0.0, 0.3):
        assert torch.allclose(2 * cross_shares(weights, share).sum(1), torch.ones(8).double())
    alone = cross_shares(weights, 0.3)[4]  # of unknown age
    assert alone[4] == 0.5
    assert alone.sum() == 0.5


def test_what_cannot_be_is_refused():
    projections, target = case()
    loss = TwoModalityInfoNCE(ProductKernel(age=GaussianKernel(5.0), sex=DiscreteKernel(0.5)), within_share=0.25)
    assert "within_share=0.25" in str(loss)
    assert torch.isfinite(loss(projections, torch.cat([target[:, :1], THERE], dim=1)[:, [0, 1, 1, 2]]))
    for share in (-0.1, 1.1, "half", None, True):
        with pytest.raises(ValueError, match="`within_share` is the share"):
            TwoModalityInfoNCE(GaussianKernel(5.0), within_share=share)
    with pytest.raises(ValueError, match=r"two modalities are \(2N, 2, D\), but \(16, 5\)"):
        loss(projections[:, 0], target)
    with pytest.raises(ValueError, match="two columns of what is there"):
        loss(projections, target[:, 1:])
    first, second = projections.unbind(1)
    with pytest.raises(ValueError, match="one per pair of subjects"):
        cross_modal_infonce(first, second, torch.ones(8, 7))
    with pytest.raises(ValueError, match="both modalities are"):
        cross_modal_infonce(first, second[:4], torch.eye(8))
