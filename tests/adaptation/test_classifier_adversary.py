"""The adversary of a classifier: its gradients are those of the equations, and the classifier stays what it is."""

import copy
import logging
import math

import numpy as np
import pytest
import torch
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.networks.nets import DenseNet
from torch import nn

from bundle.adaptation import (
    ClassifierAdversary,
    groups_with_adversary,
    mean_site_entropy,
    ramp,
    site_entropy,
    with_site_numbers,
)
from bundle.networks import EncoderClassifier
from tests.adaptation.flat import Flat

NAN = float("nan")
SITES = [0.0, 2.0, NAN, 1.0, 0.0]
LABELS = torch.tensor([0, 1, 1, 0, 1])
WEIGHTS = torch.tensor([0.7, 1.6], dtype=torch.float64)
VOLUMES = torch.randn(5, 1, 12, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def densenet():
    torch.manual_seed(0)
    return DenseNet(3, 1, 2, init_features=4, growth_rate=2, block_config=(1, 1), bn_size=1).double()


def numbered(sites):
    return [{"site_number": site} for site in sites]


def trainer(network, adversary, loss, optimizer, batches, epochs, **more):
    return SupervisedTrainer(
        device="cpu", max_epochs=epochs, train_data_loader=batches, network=network, optimizer=optimizer,
        loss_function=loss, decollate=False, train_handlers=[adversary], **more,
    )  # fmt: skip


@pytest.mark.parametrize("make", [densenet, lambda: EncoderClassifier(Flat()).double()], ids=["densenet", "encoder"])
def test_gradients_are_those_of_both_losses_by_hand(make):
    """Trunk: gradient of the diagnosis less λ w that of the sites; adversary: w that of the sites."""
    network, weight = make(), 0.7
    volumes = VOLUMES if isinstance(network, DenseNet) else VOLUMES[:, :, :1, :2, :3]
    adversary = ClassifierAdversary(network, numbered(SITES), site_weight=weight)
    adversary.head.double()
    adversary.strength = adversary.strength.double()
    reference, head, loss = copy.deepcopy(network), copy.deepcopy(adversary.head), nn.CrossEntropyLoss(WEIGHTS)
    batch = {"image": volumes, "label": LABELS, "site_number": torch.tensor(SITES, dtype=torch.float64)}
    engine = trainer(network, adversary, loss, torch.optim.SGD(network.parameters(), 0.0), [batch], 3)
    found = []

    def keep():
        both = {**dict(network.named_parameters()), **{f"site.{n}": p for n, p in adversary.head.named_parameters()}}
        found.append({name: value.grad.clone() for name, value in both.items()})
        adversary.head.zero_grad()

    engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, keep)
    engine.run()

    layers = reference.class_layers
    seen = []
    (layers[-1] if isinstance(layers, nn.Sequential) else layers).register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0])
    )
    diagnosis = loss(reference.train()(volumes), LABELS)
    entropy = site_entropy(head(seen[0]), batch["site_number"])
    parameters = {**dict(reference.named_parameters()), **{f"site.{n}": p for n, p in head.named_parameters()}}
    parts = []
    for value in (diagnosis, entropy):
        got = torch.autograd.grad(value, list(parameters.values()), retain_graph=True, allow_unused=True)
        both = zip(parameters.items(), got, strict=True)
        parts.append({name: torch.zeros_like(p) if gradient is None else gradient for (name, p), gradient in both})
    for step, gradients in enumerate(found):
        for name, gradient in gradients.items():
            factor = weight if name.startswith("site.") else -ramp(step / 3) * weight
            expected = parts[0][name] + factor * parts[1][name]
            assert gradient.numpy() == pytest.approx(expected.numpy(), abs=1e-12), (step, name)
    assert parts[1]["site.weight"].abs().sum() > 0
    assert engine.state.output["loss"].item() == pytest.approx(diagnosis.item())  # what is measured is the diagnosis
    assert engine.state.output["site_entropy"].item() == pytest.approx(entropy.item())
    assert int(engine.state.output["known_sites"]) == 4


def test_the_classifier_neither_has_the_adversary_nor_gives_other_outputs():
    network = densenet()
    before = torch.get_rng_state()
    adversary = ClassifierAdversary(network, numbered(SITES), seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    assert network.state_dict().keys() == densenet().state_dict().keys()
    assert adversary.head.weight.shape == (3, network.class_layers.out.in_features)
    bound = network.class_layers.out.in_features**-0.5
    assert 0.5 * bound < float(adversary.head.weight.detach().abs().max()) <= bound
    again = ClassifierAdversary(network, numbered(SITES), seed=3)
    assert torch.equal(adversary.head.weight, again.head.weight)
    other = ClassifierAdversary(network, numbered(SITES), seed=4)
    assert not torch.equal(adversary.head.weight, other.head.weight)
    other.load_state_dict(adversary.state_dict())
    assert torch.equal(adversary.head.weight, other.head.weight)
    assert network.eval()(VOLUMES).shape == (5, 2)


def test_chance_is_the_entropy_of_the_training_sites():
    shares = [2 / 4, 1 / 4, 1 / 4]
    expected = -sum(share * math.log(share) for share in shares)
    assert ClassifierAdversary(densenet(), numbered(SITES)).chance == pytest.approx(expected)


def test_what_is_no_classifier_and_a_negative_weight_are_refused():
    with pytest.raises(ValueError, match="The network Flat has no linear layer `class_layers`"):
        ClassifierAdversary(Flat(), numbered(SITES))
    for weight in (-0.1, NAN, math.inf):
        with pytest.raises(ValueError, match=r"`site_weight` of the adversary is .* at least 0 is expected"):
            ClassifierAdversary(densenet(), numbered(SITES), site_weight=weight)


def test_the_optimiser_has_a_last_group_for_the_adversary():
    network = densenet()
    adversary = ClassifierAdversary(network, numbered(SITES))
    *groups, last = groups_with_adversary(
        adversary, 0.3, network=network, match_types=["filter"], lr_values=[0.2],
        layer_matches=[lambda item: item[0].startswith("class_layers.")],
    )  # fmt: skip
    assert [id(p) for p in last["params"]] == [id(p) for p in adversary.head.parameters()]
    assert last["lr"] == 0.3
    assert sum(len(list(group["params"])) for group in groups) == len(list(network.parameters()))


def test_the_site_loss_of_an_epoch_is_the_mean_over_scans_of_known_site():
    metric = mean_site_entropy()
    for mean, known in ((2.0, 3), (0.0, 0), (1.0, 1)):
        metric.update(metric._output_transform([{"site_entropy": mean, "known_sites": known}] * 4))
    assert metric.compute() == pytest.approx((2.0 * 3 + 1.0) / 4)


@pytest.mark.parametrize(("weight", "sign"), [(0.0, -1), (20.0, 1)])
def test_a_step_of_the_trunk_hides_the_site_from_the_adversary(weight, sign):
    """A network that gains by reading the site, since most patients are at one, loses it where an adversary reads."""
    rng = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    sites = torch.arange(200) % 2
    labels = torch.where(torch.arange(200) % 10 < 8, sites, 1 - sites)
    images = torch.randn(200, 6, generator=rng) * 0.3
    images[:, 1] += 2.0 * sites
    network = EncoderClassifier(Flat())
    adversary = ClassifierAdversary(network, numbered(sites.tolist()), weight)
    network.class_layers.load_state_dict(adversary.state_dict())  # both read the same: sites are labels, nearly
    batch = {"image": images, "label": labels, "site_number": sites.double()}
    optimizer = torch.optim.SGD(network.encoder.parameters(), 1e-3)
    engine = trainer(network, adversary, nn.CrossEntropyLoss(), optimizer, [batch], 4)
    losses = []  # λ is 0 in the first step
    engine.add_event_handler(
        IterationEvents.MODEL_COMPLETED, lambda: losses.append(engine.state.output["site_entropy"])
    )
    engine.run()
    assert sign * (losses[-1] - losses[1]) > 0


# Sites of the training subjects


def subjects(*sites, labels=None):
    labels = labels or [place % 2 for place in range(len(sites))]
    people = zip(sites, labels, strict=True)
    return [{"participant_id": f"p{place}", "site": s, "label": label} for place, (s, label) in enumerate(people)]


def test_sites_are_numbered_and_unknown_ones_are_not(caplog):
    caplog.set_level(logging.INFO)
    records = subjects("b", "b", "", "a", "a", None)
    found = with_site_numbers(records, subjects("a", "new", ""))
    assert [record["site_number"] for record in found] == pytest.approx([1, 1, NAN, 0, 0, NAN], nan_ok=True)
    assert [{k: v for k, v in record.items() if k != "site_number"} for record in found] == records
    assert "reads 2 sites of 6 training scans; 2 are of unknown site and take no part in it" in caplog.text
    assert "It does not know 'new', where nobody of the training was scanned" in caplog.text
    assert "tells the diagnosis" not in caplog.text


@pytest.mark.parametrize(
    ("sites", "validation", "sentence"),
    [
        (["a", "a", ""], ["b"], r"the 3 training scans are of 1 known site\(s\) \(1 of unknown site\)"),
        (["", ""], ["a", "b"], r"the 2 training scans are of 0 known site\(s\) \(2 of unknown site\)"),
        ([None, None], [], r"or fill in the column `site`"),
    ],
)
def test_less_than_two_sites_in_the_training_are_refused(sites, validation, sentence):
    with pytest.raises(ValueError, match=sentence):
        with_site_numbers(subjects(*sites), subjects(*validation))


def test_records_without_the_column_are_of_unknown_site():
    with pytest.raises(ValueError, match=r"0 known site\(s\)"):
        with_site_numbers([{"participant_id": "p", "label": 0}, {"participant_id": "q", "label": 1}])


def test_a_frozen_trunk_and_several_processes_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="`freeze` trains the head alone"):
        with_site_numbers(subjects("a", "a", "b", "b"), freeze=True)
    monkeypatch.setattr("ignite.distributed.get_world_size", lambda: 2)
    with pytest.raises(ValueError, match="trains on one device, but 2 processes train"):
        with_site_numbers(subjects("a", "a", "b", "b"))


def test_a_site_with_one_label_only_is_warned_of(caplog):
    with_site_numbers(subjects("a", "a", "b", "b", "c", "c", labels=[0, 1, 0, 1, 1, 1]))
    assert "The site tells the diagnosis of 6 training subjects: one label only at 1 of 3 sites ('c')." in caplog.text
    assert "hides the diagnosis, too" in caplog.text


def test_sites_of_other_shares_of_patients_are_warned_of(caplog):
    """Both labels are at each site, 36 of 40 at one and 4 of 40 at the other; each person counts once."""
    labels = [1] * 36 + [0] * 4 + [0] * 36 + [1] * 4
    records = subjects(*["a"] * 40, *["b"] * 40, labels=labels)
    with_site_numbers([*records, *records])
    assert "diagnosis of 80 training subjects: Cramér's V of site and label is 0.8" in caplog.text
    caplog.clear()
    shuffled = np.random.default_rng(0).permutation(labels).tolist()
    with_site_numbers(subjects(*["a"] * 40, *["b"] * 40, labels=shuffled))
    assert "tells the diagnosis" not in caplog.text
