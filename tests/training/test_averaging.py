import pytest
import torch
from ignite.engine import Engine, Events
from torch import nn

from bundle.training.averaging import WeightAverage


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        self.head = nn.Linear(4, 1)

    def forward(self, x):
        return self.head(self.encoder(x))


def steps(network, average, count=25, seed=0):
    """Some real steps; the weights and buffers after each."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    kept = []

    def step(engine, batch):
        optimizer.zero_grad()
        network(torch.randn(5, 3, generator=generator)).square().mean().backward()
        optimizer.step()

    engine = Engine(step)
    average.attach(engine)
    engine.add_event_handler(
        Events.ITERATION_COMPLETED, lambda: kept.append({n: t.clone() for n, t in network.state_dict().items()})
    )
    engine.run(range(count))
    return kept


@pytest.mark.parametrize("decay", [0.5, 0.99])
def test_the_average_is_that_of_the_loop_and_training_is_as_without(decay):
    torch.manual_seed(0)
    network = Net()
    plain = Net()
    plain.load_state_dict(network.state_dict())
    average = WeightAverage(network, decay)
    seen = steps(network, average)
    unaveraged = steps(plain, WeightAverage(plain, None))
    assert all(torch.equal(seen[-1][name], tensor) for name, tensor in unaveraged[-1].items())
    expected = {name: tensor.double() for name, tensor in seen[0].items()}
    for t, state in enumerate(seen[1:], start=1):
        d = min(decay, (1 + t) / (10 + t))
        expected = {name: d * value + (1 - d) * state[name].double() for name, value in expected.items()}
    for name, tensor in average.network.state_dict().items():
        wanted = seen[-1][name].double() if "num_batches" in name else expected[name]
        assert torch.allclose(tensor.double(), wanted, atol=1e-6), name
    assert not torch.allclose(average.network.head.weight, network.head.weight, atol=1e-4)
    assert average.encoder is average.network.encoder


def test_a_resumed_average_is_that_of_the_whole_run():
    torch.manual_seed(0)
    network = Net()
    average = WeightAverage(network, 0.9)
    steps(network, average, 7)
    saved, weights = {k: v.clone() for k, v in average.state_dict().items()}, network.state_dict()
    other = Net()
    other.load_state_dict(weights)
    again = WeightAverage(other, 0.9)
    again.load_state_dict(saved)
    steps(network, average, 8, seed=1)
    steps(other, again, 8, seed=1)
    for name, tensor in average.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


def test_without_a_decay_it_is_the_network_itself():
    network = Net()
    average = WeightAverage(network, None)
    steps(network, average, 2)
    assert average.network is network
    assert average.encoder is network.encoder
    assert average.state_dict() == {}
    average.load_state_dict({})


def test_the_weights_under_a_parallel_wrapper_are_averaged():
    wrapped = nn.DataParallel(Net())
    average = WeightAverage(wrapped, 0.9)
    assert set(average.network.state_dict()) == set(Net().state_dict())
    assert WeightAverage(wrapped, None).encoder is wrapped.module.encoder


@pytest.mark.parametrize("decay", [0, 1, 1.5, "ema"])
def test_a_decay_that_cannot_be_is_refused(decay):
    with pytest.raises(ValueError, match="`average` is the decay"):
        WeightAverage(Net(), decay)
