"""One batch on several CPU processes (gloo) must be one batch: the same loss, the same gradients."""

import copy
import datetime

import pytest
import torch
import torch.distributed as dist
from torch import nn

from bundle.networks.encoders import DenseNetEncoder
from bundle.networks.projector import ContrastiveNetwork
from bundle.pretext import age_regression, infonce, models_genesis, rank_n_contrast, uniformity, within_site
from bundle.pretext.kernels import DiscreteKernel, GaussianKernel, ProductKernel
from bundle.training.distributed import GlobalLoss, gather, in_order, parallel, share_of

SUBJECTS = 7  # shared out unevenly by two and by three
CPU = torch.device("cpu")
KERNEL = GaussianKernel(5.0)
LOSSES = {
    "y-Aware": infonce.YAwareInfoNCE(KERNEL),
    "y-Aware, column": infonce.YAwareInfoNCE(KERNEL, normalize="column"),
    "y-Aware, own share": infonce.YAwareInfoNCE(KERNEL, own_share=0.4),
    "within sites": within_site.WithinSiteInfoNCE(ProductKernel(age=KERNEL, site=DiscreteKernel()), own_share=0.4),
    "InfoNCE": infonce.InfoNCE(),
    "exponential": infonce.ExponentialInfoNCE(KERNEL),
    "threshold": infonce.ThresholdInfoNCE(KERNEL),
    "Rank-N-Contrast": rank_n_contrast.RankNContrast(),
    "decoupled uniformity": uniformity.DecoupledUniformity(KERNEL),
    "conditional": uniformity.ConditionalAlignmentUniformity(KERNEL),
    "age regression": age_regression.AgeRegressionLoss([20.0, 40.0, 60.0]),
    "reconstruction": models_genesis.ReconstructionLoss(),
}


def ages(n=SUBJECTS):
    """Some equal, some near, one unknown."""
    return torch.tensor([20.0, 20.0, 23.0, 31.0, 55.0, torch.nan, 58.0])[:n, None]


def vectors(name):
    """Inputs (2N, …), network and target that fit a loss."""
    torch.manual_seed(0)
    inputs = torch.randn(2 * SUBJECTS, 6)
    width = {"age regression": 1, "reconstruction": 6}.get(name, 4)
    network = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, width))
    if name == "within sites":
        return inputs, network, torch.cat([ages(), torch.tensor([0.0, 0, 1, 0, 1, 1, 2])[:, None]], dim=1)
    return inputs, network, inputs[:SUBJECTS] if name == "reconstruction" else ages()


def volumes(n=SUBJECTS):
    """The same with an encoder as it is trained, without batch norm."""
    torch.manual_seed(0)
    network = ContrastiveNetwork(DenseNetEncoder(1, 8, 8, (1, 1), norm="group"), 6, 5)
    return torch.randn(2 * n, 1, 16, 18, 16), network, ages(n)


def dealt(rows, rank, world):
    """A process' share of a batch, as a sampler deals subjects out."""
    return rows[rank::world]


def dealt_views(inputs, rank, world):
    return torch.cat([dealt(view, rank, world) for view in inputs.chunk(2)])


def outcome(network, loss, inputs, target):
    """Loss and parameter gradients."""
    value = loss(network(inputs), target)
    value.backward()
    return value.detach(), [parameter.grad for parameter in network.parameters()]


def one_process(rank, world, loss, inputs, network, target):
    network, inputs = parallel(copy.deepcopy(network), CPU), dealt_views(inputs, rank, world)
    return outcome(network, GlobalLoss(loss), inputs, dealt(target, rank, world))


def work(rank, world, folder):
    """What each process does; its findings are written to a file."""
    store = dist.FileStore(str(folder / "store"), world)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world, timeout=datetime.timedelta(minutes=2))
    torch.set_num_threads(1)
    found = {name: one_process(rank, world, loss, *vectors(name)) for name, loss in LOSSES.items()}
    found["encoder"] = one_process(rank, world, LOSSES["y-Aware"], *volumes())
    found["even"] = gather(torch.full((2, 3), float(rank)), uneven=False)
    found["in order"] = in_order(dealt(ages(), rank, world)), in_order(dealt(list("abcdefg"), rank, world))
    found["share"] = share_of(12)
    try:
        share_of(13)
    except ValueError as error:
        found["refusal"] = str(error)
    torch.save(found, folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module", params=[2, 3])
def found(request, tmp_path_factory):
    """What every process found."""
    world, folder = request.param, tmp_path_factory.mktemp("processes")
    torch.multiprocessing.start_processes(work, (world, folder), nprocs=world, start_method="fork")
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(world)]


@pytest.mark.parametrize("name", [*LOSSES, "encoder"])
def test_loss_and_gradients_are_those_of_one_process(name, found):
    inputs, network, target = volumes() if name == "encoder" else vectors(name)
    # Subjects in the order in which the processes hold them: the losses do not care, rounding does.
    value, gradients = outcome(network, LOSSES.get(name, LOSSES["y-Aware"]), inputs, target)
    assert value.abs() > 1e-3
    assert any(gradient.abs().max() > 1e-3 for gradient in gradients)
    for process in found:
        torch.testing.assert_close(process[name][0], value, rtol=1e-5, atol=1e-5)
        for actual, expected in zip(process[name][1], gradients, strict=True):
            torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def test_rows_come_in_the_order_of_the_processes(found):
    expected = torch.arange(len(found)).repeat_interleave(2)[:, None].expand(-1, 3)
    assert all(torch.equal(process["even"], expected.float()) for process in found)


def test_what_was_dealt_out_is_put_back_in_order(found):
    for process in found:
        numbers, letters = process["in order"]
        torch.testing.assert_close(numbers, ages(), equal_nan=True)
        assert letters == list("abcdefg")


def test_a_batch_is_shared_out_evenly_or_refused(found):
    assert [process["share"] for process in found] == [12 // len(found)] * len(found)
    assert f"13 subjects cannot be shared out evenly among {len(found)} processes" in found[0]["refusal"]


def test_one_process_alone_is_left_as_it_is():
    rows = torch.randn(3, 2, requires_grad=True)
    assert gather(rows) is rows
    assert in_order(["a", "b"]) == ["a", "b"]
    inputs, network, target = vectors("y-Aware")
    loss = LOSSES["y-Aware"]
    assert torch.equal(GlobalLoss(loss)(network(inputs), target), loss(network(inputs), target))


def test_synchronised_batch_norm_is_refused_on_a_cpu():
    with pytest.raises(ValueError, match=r"needs GPUs, .*encoder_group_norm\.yaml"):
        parallel(nn.BatchNorm3d(2), CPU, sync_batch_norm=True)
