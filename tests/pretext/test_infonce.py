import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from bundle.pretext.infonce import (
    ExponentialInfoNCE,
    InfoNCE,
    ThresholdInfoNCE,
    YAwareInfoNCE,
    exponential_infonce,
    weighted_infonce,
)
from bundle.pretext.kernels import DiscreteKernel, GaussianKernel

NAN = float("nan")
FOLDER = Path(__file__).parents[1] / "reference"
REFERENCE = json.loads((FOLDER / "loss_values.json").read_text())["cases"]
RIVALS = json.loads((FOLDER / "rival_values.json").read_text())


def naive_loss(projections, weights, temperature):
    """The paper's equation, term by term, in float64."""
    z = (projections.double() / projections.double().norm(dim=1, keepdim=True)).tolist()
    views, subjects = len(z), len(weights)
    total = 0.0
    for i in range(views):
        others = [k for k in range(views) if k != i]
        s = {k: sum(a * b for a, b in zip(z[i], z[k], strict=True)) / temperature for k in others}
        w = {k: float(weights[i % subjects, k % subjects]) for k in others}
        log_sum = math.log(sum(math.exp(v) for v in s.values()))
        total += sum(w[k] / sum(w.values()) * (s[k] - log_sum) for k in others)
    return -total / views


def age_kernel(sigma=5.0):
    return GaussianKernel(sigma)


def random_case(n=7, d=6, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    projections = torch.randn(2 * n, d, generator=generator, dtype=dtype)
    return projections, (20 + 30 * torch.rand(n, 1, generator=generator)).to(dtype)


def reference_views(n, d):
    i, k = torch.meshgrid(torch.arange(n).double(), torch.arange(d).double(), indexing="ij")
    phase = 1.7 * i + 0.3 * k + 0.11 * i * k
    return torch.sin(phase), torch.sin(phase + 0.25 * torch.cos(k + i))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("temperature", [0.05, 0.1, 1.0])
def test_equals_the_double_loop(seed, temperature):
    projections, ages = random_case(seed=seed)
    expected = naive_loss(projections, age_kernel()(ages), temperature)
    assert YAwareInfoNCE(age_kernel(), temperature)(projections, ages).item() == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("case", REFERENCE, ids=lambda c: f"n={c['n']}")
def test_reference_values(case):
    view_1, view_2 = reference_views(case["n"], case["d"])
    ages = torch.tensor(case["ages"], dtype=torch.float64)
    kernel, tau = age_kernel(case["sigma"]), case["temperature"]
    anchor = YAwareInfoNCE(kernel, tau)(torch.cat([view_1, view_2]), ages)
    assert anchor.item() == pytest.approx(case["per_anchor_mean"], abs=1e-9)
    view_1.requires_grad_()
    column = YAwareInfoNCE(kernel, tau, normalize="column")(torch.cat([view_1, view_2]), ages)
    column.backward()
    assert column.item() == pytest.approx(case["released_code_value"], rel=1e-6)
    assert view_1.grad.norm().item() == pytest.approx(case["released_code_grad_norm_view1"], rel=1e-6)
    ntxent = 2 * InfoNCE(tau)(torch.cat([view_1, view_2]))  # the factor of the released code
    assert ntxent.item() == pytest.approx(case["released_code_ntxent"], rel=1e-6, abs=1e-12)


def cross_entropy_ntxent(projections, temperature):
    z = F.normalize(projections, dim=1)
    logits = (z @ z.T / temperature).fill_diagonal_(-torch.inf)
    n = len(z) // 2
    return F.cross_entropy(logits, torch.arange(2 * n).roll(n))


def test_small_sigma_is_ntxent_including_its_scale():
    projections, ages = random_case()
    expected = cross_entropy_ntxent(projections, 0.1).item()
    assert YAwareInfoNCE(age_kernel(1e-3), 0.1)(projections, ages).item() == pytest.approx(expected, abs=1e-12)
    assert InfoNCE(0.1)(projections).item() == pytest.approx(expected, abs=1e-12)


def test_tied_ages_stay_positives_at_any_sigma():
    projections, _ = random_case(n=3)
    ages = torch.tensor([20.0, 20.0, 50.0], dtype=torch.float64)
    tied = YAwareInfoNCE(age_kernel(1e-6))(projections, ages)
    assert abs(tied - InfoNCE()(projections, ages)) > 1e-3


def test_large_sigma_attracts_all_views_equally():
    projections, ages = random_case()
    expected = naive_loss(projections, torch.ones(7, 7), 0.1)
    assert YAwareInfoNCE(age_kernel(1e9))(projections, ages).item() == pytest.approx(expected, abs=1e-9)


def supervised_contrastive(projections, labels, temperature):
    """Khosla et al. 2020, equation 2 (L_out), by index sets."""
    z, total = F.normalize(projections, dim=1), 0.0
    labels = labels.repeat(2)
    for i in range(len(z)):
        others = [a for a in range(len(z)) if a != i]
        positives = [p for p in others if labels[p] == labels[i]]
        log_sum = torch.logsumexp(torch.stack([z[i] @ z[a] / temperature for a in others]), 0)
        total = total - sum(z[i] @ z[p] / temperature - log_sum for p in positives) / len(positives)
    return total / len(z)


def test_discrete_kernel_is_supervised_contrastive_loss():
    projections, _ = random_case(n=8)
    sex = torch.tensor([0.0, 1, 0, 1, 1, 0, 0, 1], dtype=torch.float64)
    loss = YAwareInfoNCE(DiscreteKernel(), 0.1)(projections, sex)
    assert loss.item() == pytest.approx(supervised_contrastive(projections, sex, 0.1).item(), abs=1e-10)


def test_permuting_subjects_and_swapping_views_change_nothing():
    projections, ages = random_case()
    loss = YAwareInfoNCE(age_kernel())
    expected, order = loss(projections, ages), torch.tensor([3, 0, 6, 2, 1, 5, 4])
    view_1, view_2 = projections.chunk(2)
    assert torch.isclose(loss(torch.cat([view_1[order], view_2[order]]), ages[order]), expected, atol=1e-12)
    assert torch.isclose(loss(torch.cat([view_2, view_1]), ages), expected, atol=1e-12)


def test_anchor_weights_sum_to_one():
    from bundle.pretext.shares import shares_of

    _, ages = random_case(n=20)
    shares = shares_of(age_kernel()(ages), "anchor")
    others = 2 * shares.sum(1) - shares.diagonal()  # both views of everybody, but not the anchor itself
    assert torch.allclose(others, torch.ones(20, dtype=torch.float64), atol=1e-12)


@pytest.mark.parametrize("normalize", ["anchor", "column"])
def test_gradients_are_those_of_finite_differences(normalize):
    projections, ages = random_case(n=4, d=3)
    loss = YAwareInfoNCE(age_kernel(), 0.5, normalize)
    assert torch.autograd.gradcheck(lambda z: loss(z, ages), projections.requires_grad_())


def test_unknown_metadata_keep_their_own_view_and_stay_negatives():
    projections, ages = random_case(n=4)
    ages[1] = NAN
    weights = age_kernel()(ages)
    assert weights[1].tolist() == [0, 1, 0, 0]
    loss = YAwareInfoNCE(age_kernel())(projections, ages)
    assert loss.item() == pytest.approx(naive_loss(projections, weights, 0.1), abs=1e-10)
    known = [0, 2, 3, 4, 6, 7]
    without = YAwareInfoNCE(age_kernel())(projections[known], ages[[0, 2, 3]])
    assert abs(loss - without) > 1e-3


def test_all_unknown_metadata_is_ntxent():
    projections, ages = random_case()
    loss = YAwareInfoNCE(age_kernel())
    assert torch.isclose(loss(projections, torch.full_like(ages, NAN)), InfoNCE()(projections, ages))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision_gives_a_finite_float32_loss(dtype):
    projections, ages = random_case(n=512, d=128, dtype=torch.float32)
    half = (1e3 * projections).to(dtype).requires_grad_()
    loss = YAwareInfoNCE(age_kernel(), 0.05)(half, ages)
    loss.backward()
    assert loss.dtype == torch.float32
    assert half.grad.isfinite().all()
    exact = YAwareInfoNCE(age_kernel(), 0.05)(projections, ages)
    assert loss.item() == pytest.approx(exact.item(), rel=2e-2)


def test_autocast_does_not_lower_the_precision():
    projections, ages = random_case(n=64, dtype=torch.float32)
    loss = YAwareInfoNCE(age_kernel(), 0.05)
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = loss(projections, ages)
    assert torch.equal(under_autocast, loss(projections, ages))


def test_one_subject_has_loss_and_gradient_zero():
    projections = torch.randn(2, 8, dtype=torch.float64, requires_grad=True)
    loss = YAwareInfoNCE(age_kernel())(projections, torch.tensor([[30.0]], dtype=torch.float64))
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert projections.grad.abs().max() < 1e-12


def test_memory_is_quadratic_in_views_and_linear_in_features():
    """No (2N, 2N, D) tensor: the largest tensor autograd keeps has (2N)² elements."""
    sizes = []
    projections, ages = random_case(n=32, d=512, dtype=torch.float32)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
        YAwareInfoNCE(age_kernel())(projections.requires_grad_(), ages)
    assert max(sizes) <= max(64 * 64, 64 * 512)


@pytest.mark.parametrize("temperature", [0, -0.1, NAN, 1e-30, 1e4, "0.1", True, None])
def test_an_implausible_temperature_is_refused_when_the_loss_is_made(temperature):
    for make in (InfoNCE, lambda t: YAwareInfoNCE(age_kernel(), t), lambda t: ExponentialInfoNCE(age_kernel(), t)):
        with pytest.raises(ValueError, match=r"`temperature` must be a number from 0.001 to 100, but .* was given"):
            make(temperature)
    with pytest.raises(ValueError, match="`temperature` must be a number"):
        weighted_infonce(torch.zeros(8, 4), torch.eye(4), temperature)


def test_a_misspelt_choice_gets_the_nearest_name():
    with pytest.raises(ValueError, match="`normalize` cannot be 'columns'; did you mean 'column'"):
        YAwareInfoNCE(age_kernel(), normalize="columns")
    with pytest.raises(ValueError, match="`form` cannot be 'release'; did you mean 'released'"):
        ThresholdInfoNCE(age_kernel(), form="release")
    with pytest.raises(ValueError, match="`form` cannot be 'x'; there is 'paper', 'released'"):
        exponential_infonce(torch.zeros(8, 4), torch.eye(4), form="x")


def test_the_text_of_a_loss_says_how_it_was_made_since_cards_keep_it():
    assert "temperature=0.1, form=released" in str(ThresholdInfoNCE(age_kernel(), form="released"))
    assert "temperature=0.1, normalize=column" in str(YAwareInfoNCE(age_kernel(), normalize="column"))
    assert str(InfoNCE(0.5)) == "InfoNCE(temperature=0.5)"


def test_what_is_no_kernel_is_refused():
    with pytest.raises(ValueError, match=r"`kernel` must be a kernel such as GaussianKernel\(sigma=5.0\), but 5.0"):
        YAwareInfoNCE(5.0)


def test_wrong_shapes_are_refused_with_a_sentence():
    with pytest.raises(ValueError, match=r"\(2N, D\).*\(7, 4\) was found for 4 subject"):
        weighted_infonce(torch.zeros(7, 4), torch.eye(4))
    with pytest.raises(ValueError, match=r"Weights are \(N, N\).*\(4, 3\)"):
        weighted_infonce(torch.zeros(8, 4), torch.zeros(4, 3))
    with pytest.raises(ValueError, match=r"\(7, 4\) was found for 3 subject"):
        InfoNCE()(torch.zeros(7, 4))
    with pytest.raises(ValueError, match="for 0 subject"):
        weighted_infonce(torch.zeros(0, 4), torch.zeros(0, 0))
    with pytest.raises(ValueError, match="`normalize` cannot be 'rows'; there is 'anchor', 'column'"):
        YAwareInfoNCE(age_kernel(), normalize="rows")
    with pytest.raises(ValueError, match="`normalize` cannot be 'rows'; there is 'anchor', 'column'"):
        weighted_infonce(torch.zeros(8, 4), torch.eye(4), normalize="rows")


def naive_graded(projections, weights, temperature, denominator):
    """Graded positives against a denominator(w, s, k) of the other views' weights and similarities."""
    z = projections / projections.norm(dim=1, keepdim=True)
    views, subjects, total = len(z), len(weights), 0.0
    for i in range(views):
        others = [k for k in range(views) if k != i]
        s = {k: (z[i] @ z[k]).item() / temperature for k in others}
        w = {k: weights[i % subjects, k % subjects].item() for k in others}
        total += sum(w[k] / sum(w.values()) * (s[k] - math.log(denominator(w, s, k))) for k in others)
    return -total / views


def exponential(w, s, k):
    return sum(math.exp(s[j] * (1 - w[j])) for j in s)


def threshold(w, s, k):
    return math.exp(s[k]) + sum(math.exp(s[j]) for j in s if w[j] < w[k])


WEIGHTINGS = [(ExponentialInfoNCE, exponential), (ThresholdInfoNCE, threshold)]


@pytest.mark.parametrize(("loss", "denominator"), WEIGHTINGS)
@pytest.mark.parametrize("seed", range(3))
def test_other_weightings_equal_the_double_loop(loss, denominator, seed):
    projections, ages = random_case(seed=seed)
    ages[1], ages[2], ages[3] = ages[0], NAN, ages[4] + 1
    expected = naive_graded(projections, age_kernel()(ages), 0.2, denominator)
    assert loss(age_kernel(), 0.2)(projections, ages).item() == pytest.approx(expected, abs=1e-10)


def naive_released(projections, weights, temperature, repulsion):
    """The released code of Barbano et al. in loops: rows without their maximum, one denominator for each anchor."""
    z = projections / projections.norm(dim=1, keepdim=True)
    views, subjects, total = len(z), len(weights), 0.0
    w = [[weights[i % subjects, k % subjects].item() for k in range(views)] for i in range(views)]
    for i in range(views):
        row = [(z[i] @ z[k]).item() / temperature for k in range(views)]
        s = [value - max(row) for value in row]
        others = [k for k in range(views) if k != i]
        against = math.log(sum(repulsion(w, s, i, j) for j in others))
        total += sum(w[i][k] * (s[k] - against) for k in others) / sum(w[i][k] for k in others)
    return -total / views


def released_exponential(w, s, i, j):
    return math.exp(s[j] * (1 - w[i][j]))


def released_threshold(w, s, i, j):
    return math.exp(s[j]) * sum(w[j][k] < w[i][j] for k in range(len(w)))


RELEASED = [(ExponentialInfoNCE, released_exponential), (ThresholdInfoNCE, released_threshold)]


@pytest.mark.parametrize(("loss", "repulsion"), RELEASED)
@pytest.mark.parametrize("seed", range(3))
def test_released_forms_equal_the_loops(loss, repulsion, seed):
    projections, ages = random_case(seed=seed)
    ages[1], ages[2], ages[3] = ages[0], NAN, ages[4] + 1
    expected = naive_released(projections, age_kernel()(ages), 0.2, repulsion)
    assert loss(age_kernel(), 0.2, form="released")(projections, ages).item() == pytest.approx(expected, abs=1e-10)


def rival_views():
    i, j = torch.meshgrid(torch.arange(2.0 * RIVALS["n"]), torch.arange(float(RIVALS["d"])), indexing="ij")
    z = torch.sin(1.7 * i.double() + 0.9 * j.double()) + torch.cos(0.37 * i.double() * j.double() + 0.5)
    return F.normalize(z, dim=1).requires_grad_()


@pytest.mark.parametrize("case", RIVALS["cases"], ids=lambda c: f"{c['method']}-{c['temperature']}-{c['sigma']}")
def test_values_and_gradients_of_the_released_rivals(case):
    views, ages = rival_views(), torch.tensor(RIVALS["ages"], dtype=torch.float64)
    kernel, tau = age_kernel(case["sigma"]), case["temperature"]
    loss = {
        "y-Aware": YAwareInfoNCE(kernel, tau),
        "exponential": ExponentialInfoNCE(kernel, tau, form="released"),
        "threshold": ThresholdInfoNCE(kernel, tau, form="released"),
    }[case["method"]]
    value = loss(views, ages)
    value.backward()
    assert value.item() == pytest.approx(case["loss"], rel=1e-9)
    assert views.grad.norm().item() == pytest.approx(case["gradient_norm"], rel=1e-9)
    assert views.grad[0].tolist() == pytest.approx(case["gradient_first_row"], abs=1e-9)


@pytest.mark.parametrize("loss", [ExponentialInfoNCE, ThresholdInfoNCE])
def test_the_two_forms_differ_as_the_documentation_says(loss):
    """The numbers that the documentation states of the reference case with sigma 5."""
    ages, found = torch.tensor(RIVALS["ages"], dtype=torch.float64), {}
    for tau in (0.1, 1.0):
        values, gradients = [], []
        for form in ("paper", "released"):
            views = rival_views()
            value = loss(age_kernel(), tau, form=form)(views, ages)
            value.backward()
            values.append(round(value.item(), 2))
            gradients.append(views.grad.flatten())
        found[tau] = (*values, round(F.cosine_similarity(*gradients, dim=0).item(), 2))
    expected = {
        ExponentialInfoNCE: {0.1: (6.47, 10.82, 0.62), 1.0: (3.17, 3.49, 0.99)},
        ThresholdInfoNCE: {0.1: (6.82, 9.14, 0.88), 1.0: (3.0, 5.51, 0.89)},
    }
    assert found == expected[loss]


def test_one_subject_or_equal_ages_leave_the_released_threshold_form_at_0():
    projections, ages = random_case(n=4)
    views = projections.requires_grad_()
    value = ThresholdInfoNCE(age_kernel(), form="released")(views, torch.full_like(ages, 30.0))
    value.backward()
    assert value.item() == 0
    assert views.grad.abs().max() == 0


@pytest.mark.parametrize("form", ["paper", "released"])
@pytest.mark.parametrize("loss", [ExponentialInfoNCE, ThresholdInfoNCE])
def test_other_weightings_have_gradients_and_survive_low_precision(loss, form):
    projections, ages = random_case(n=4, d=3)
    assert torch.autograd.gradcheck(lambda z: loss(age_kernel(), 0.5, form)(z, ages), projections.requires_grad_())
    projections, ages = random_case(n=512, d=128, dtype=torch.float32)
    half = projections.to(torch.bfloat16).requires_grad_()
    value = loss(age_kernel(), 0.05, form)(half, ages)
    value.backward()
    assert value.dtype == torch.float32
    assert half.grad.isfinite().all()


def loop_with_own_share(projections, weights, temperature, share):
    """The loss by its definition: λ for the own second view, the rest in proportion to the weights of the others."""
    z = (projections / projections.norm(dim=1, keepdim=True)).unbind(0)
    views, subjects = len(z), len(weights)
    total = 0.0
    for i in range(views):
        own = (i + subjects) % views
        s = {k: z[i] @ z[k] / temperature for k in range(views) if k != i}
        log_sum = torch.stack(list(s.values())).exp().sum().log()
        w = {k: float(weights[i % subjects, k % subjects]) for k in s if k != own}
        mass = sum(w.values()) / 2
        part = {own: share if mass > 1e-6 else 1.0}
        if mass > 1e-6:
            part |= {k: (1 - share) * w[k] / (2 * mass) for k in w}
        assert sum(part.values()) == pytest.approx(1)
        total = total + sum(value * (s[k] - log_sum) for k, value in part.items())
    return -total / views


def with_gradient(function, projections):
    leaf = projections.clone().requires_grad_()
    value = function(leaf)
    return value.detach(), torch.autograd.grad(value, leaf)[0]


@pytest.mark.parametrize("share", [0, 0.25, 0.5, 0.9, 1])
@pytest.mark.parametrize("sigma", [1.0, 5.0])
def test_the_own_views_share_equals_the_loop(share, sigma):
    projections, _ = random_case(n=6)
    ages = torch.tensor([20.0, 20, 23, 31, NAN, 90], dtype=torch.float64)[:, None]  # two of them similar to nobody
    weights = age_kernel(sigma)(ages)
    loss = YAwareInfoNCE(age_kernel(sigma), 0.2, own_share=share)
    found = with_gradient(lambda z: loss(z, ages), projections)
    expected = with_gradient(lambda z: loop_with_own_share(z, weights, 0.2, share), projections)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-10)


def test_all_for_the_own_view_is_simclr_to_the_last_bit():
    projections, ages = random_case(dtype=torch.float32)
    loss = YAwareInfoNCE(age_kernel(), 0.1, own_share=1)
    assert not loss.reads_metadata
    for one, other in zip(
        with_gradient(lambda z: loss(z, ages), projections),
        with_gradient(lambda z: InfoNCE(0.1)(z), projections),
        strict=True,
    ):
        assert torch.equal(one, other)


def test_without_a_share_the_loss_is_the_papers_and_its_own_view_is_one_of_many():
    projections, ages = random_case()
    assert YAwareInfoNCE(age_kernel()).reads_metadata
    equal = torch.full_like(ages, 30.0)  # all ages the same: each of the 13 other views has the same share
    paper = YAwareInfoNCE(age_kernel())(projections, equal)
    assert torch.isclose(YAwareInfoNCE(age_kernel(), own_share=1 / 13)(projections, equal), paper, atol=1e-12)
    assert not torch.isclose(YAwareInfoNCE(age_kernel(), own_share=0.5)(projections, equal), paper, atol=1e-3)


def test_people_who_are_similar_to_nobody_keep_their_own_view_whatever_the_share():
    projections, _ = random_case(n=3)
    apart = torch.tensor([20.0, 50.0, 80.0], dtype=torch.float64)
    for share in (0, 0.3):
        value = YAwareInfoNCE(age_kernel(), own_share=share)(projections, apart)
        assert torch.isclose(value, InfoNCE()(projections), atol=1e-12)
    assert torch.isclose(
        YAwareInfoNCE(age_kernel(), own_share=0)(projections[[0, 3]], apart[:1]), torch.tensor(0.0).double()
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"own_share": 1.5}, r"`own_share` is the own second view's share .* but 1\.5 was given"),
        ({"own_share": True}, "but True was given"),
        ({"own_share": 0.5, "normalize": "column"}, "take `normalize` anchor"),
    ],
)
def test_a_share_that_cannot_be_is_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        YAwareInfoNCE(age_kernel(), **arguments)


def test_the_card_says_the_share_and_nothing_where_there_is_none():
    assert "own_share=0.5" in str(YAwareInfoNCE(age_kernel(), own_share=0.5))
    assert "own_share" not in str(YAwareInfoNCE(age_kernel()))
