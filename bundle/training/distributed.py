"""Several processes, one batch: what each process has is gathered, with gradient, so that a loss sees everybody."""

from __future__ import annotations

import functools
import logging

import torch
import torch.distributed as dist
from monai.utils import set_determinism
from torch import Tensor, nn


def start(device: torch.device, seed: int) -> None:
    """Join the processes that torchrun started; others than the first keep to warnings.

    Args:
        device: Device of this process.
        seed: Seed of every process.
    """
    set_determinism(seed)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    if dist.get_rank() > 0:
        logging.disable(logging.INFO)


def world_size() -> int:
    """Number of processes; 1 where none were started together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def share_of(batch_size: int) -> int:
    """How many subjects of a batch each process takes.

    Args:
        batch_size: Subjects of all processes together.

    Raises:
        ValueError: when the processes cannot take the same number.

    Example:
        >>> share_of(64)
        64
    """
    if batch_size % world_size():
        raise ValueError(
            f"`batch_size` is that of all processes together, but {batch_size} subjects cannot be shared out evenly "
            f"among {world_size()} processes; give a multiple of {world_size()}."
        )
    return batch_size // world_size()


def parallel(network: nn.Module, device: torch.device, sync_batch_norm: bool = False) -> nn.Module:
    """A network that several processes train together: each has it, and their gradients are averaged.

    Args:
        network: Moved to the device and changed in place.
        device: Device of this process.
        sync_batch_norm: Batch norm takes its statistics from the whole batch, not from this process' share. Without
            it the running statistics are those of the first process. CUDA only.

    Raises:
        ValueError: for synchronised batch norm on a CPU.
    """
    if sync_batch_norm and device.type == "cpu":
        raise ValueError(
            "`sync_batch_norm` needs GPUs, but this process computes on a CPU; leave it out, or take an encoder with "
            "group norm (configs/encoder_group_norm.yaml), which has no statistics to synchronise."
        )
    if sync_batch_norm:
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    device_ids = None if device.type == "cpu" else [device]
    return nn.parallel.DistributedDataParallel(network.to(device), device_ids, gradient_as_bucket_view=True)


class _AllGather(torch.autograd.Function):
    """Equal shapes (n, …) of every process become (processes, n, …); backward adds what all processes ask for."""

    @staticmethod
    def forward(_: torch.autograd.function.FunctionCtx, rows: Tensor) -> Tensor:
        gathered = rows.new_empty((dist.get_world_size(), *rows.shape))
        dist.all_gather(list(gathered), rows.contiguous())
        return gathered

    @staticmethod
    def backward(_: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient[dist.get_rank()]


def gather(rows: Tensor, uneven: bool = True) -> Tensor:
    """The rows of all processes, those of the first process first, with gradient.

    Each process gets the gradient of the sum of all processes' losses. Where they all compute the same loss of what was
    gathered, that is the number of processes times its gradient, and DistributedDataParallel, which averages, makes it
    the loss's own.

    Args:
        rows: Rows of this process.
        uneven: Processes may have different numbers of rows; asking for them waits for the host. False where the
            numbers are known to be equal.

    Shape:
        (n, …) per process to (Σ n, …).

    Example:
        >>> gather(torch.ones(2, 3)).shape
        torch.Size([2, 3])
    """
    if world_size() == 1:
        return rows
    counts = _counts(len(rows), rows.device) if uneven else [len(rows)] * world_size()
    missing = max(counts) - len(rows)
    padded = torch.cat([rows, rows.new_zeros((missing, *rows.shape[1:]))]) if missing else rows
    parts = _AllGather.apply(padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


def in_order(values: Tensor | list[str]) -> Tensor | list[str]:
    """What all processes have, in the order in which a `DistributedSampler` dealt it out: to each process in turn.

    Args:
        values: Values of this process; tensors (n, …), or strings.

    Returns:
        The same on every process, without gradient.
    """
    if world_size() == 1:
        return values
    parts: list = [None] * world_size()
    dist.all_gather_object(parts, values.detach().cpu() if isinstance(values, Tensor) else values)
    positions = [(place, process) for process, part in enumerate(parts) for place in range(len(part))]
    dealt = [parts[process][place] for place, process in sorted(positions)]
    return torch.stack(dealt).to(values.device) if isinstance(values, Tensor) else dealt


def agreed(number: int) -> int:
    """The largest number that any process gives, on all of them; for what all must do in the same step."""
    if world_size() == 1:
        return number
    numbers = torch.tensor(number)
    dist.all_reduce(numbers, dist.ReduceOp.MAX, group=_host_group())
    return int(numbers)


@functools.cache
def _host_group() -> dist.ProcessGroup | None:
    """All processes, by way of their hosts: no GPU has to be waited for."""
    return dist.group.WORLD if dist.get_backend() == "gloo" else dist.new_group(backend="gloo")


def share_buffers(network: nn.Module) -> None:
    """Give every process the first one's buffers, such as the running statistics of batch norm."""
    if world_size() > 1:
        for buffer in network.buffers():
            dist.broadcast(buffer, src=0)


def _counts(count: int, device: torch.device) -> list[int]:
    counts = torch.empty(world_size(), dtype=torch.long, device=device)
    dist.all_gather(list(counts.split(1)), torch.tensor([count], device=device))
    return counts.tolist()


class GlobalLoss(nn.Module):
    """A loss of the batch of all processes together: each subject is compared with everybody's subjects.

    Args:
        loss: Loss of views and what belongs to them, such as `pretext.YAwareInfoNCE`. One whose value is the mean over
            subjects says so by an attribute `separable`, and is averaged instead, which moves no volumes.
        uneven: Whether the shares are uneven; see `gather`.

    Shape:
        output (2n, …) of this process, all first views, then all second views; target (n, …); loss (), the same on
        every process.
    """

    def __init__(self, loss: nn.Module, uneven: bool = True) -> None:
        super().__init__()
        self.loss, self.uneven = loss, uneven

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Loss of all processes' subjects."""
        if getattr(self.loss, "separable", False):
            return self._mean(self.loss(output, target), len(target))
        wide = output.to(torch.promote_types(output.dtype, torch.float32))
        view_1, view_2 = gather(torch.stack(wide.chunk(2), dim=1), self.uneven).unbind(1)
        return self.loss(torch.cat([view_1, view_2]), gather(target, self.uneven))

    def _mean(self, loss: Tensor, count: int) -> Tensor:
        counted = torch.stack([loss * count, torch.full_like(loss, count)])
        total, subjects = gather(counted[None], uneven=False).sum(0)
        return total / subjects
