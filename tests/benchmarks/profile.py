"""Where one training step goes, beside what it needs: seconds, share, and the floor by arithmetic and by bytes.

    python -m tests.benchmarks.profile            # full size: DenseNet121, 121×145×121 voxels, as configs/fast.yaml
    python -m tests.benchmarks.profile phantom    # 4.5 mm: the network and batch of configs/phantom.yaml, in float32

prints a table. Each operation is timed by itself as torch dispatches it, after steps that warm up.
"""

import argparse
import sys
import time
from collections import defaultdict

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from bundle.networks.encoders import DenseNetEncoder
from bundle.networks.projector import ContrastiveNetwork
from bundle.pretext.infonce import YAwareInfoNCE
from bundle.pretext.kernels import GaussianKernel
from bundle.pretext.views import TwoViews
from bundle.training.allocator import keep_freed_memory
from bundle.training.engines import ContrastivePrepareBatch, PrecisionInferer
from tests.benchmarks.measure import CUDA, DEVICE, FULL, synchronise, table
from tests.benchmarks.test_training import batch, rates

WARM = 4  # until freed memory is no longer taken from the system anew
PHANTOM = {"init_features": 16, "growth_rate": 16, "block_config": (3, 6, 8)}
SIZES = {  # subjects, voxels, network, precision
    "full": (64 if CUDA else 2, FULL, {}, "bfloat16"),
    "phantom": (16, (40, 48, 40), PHANTOM, "float32"),
}
KINDS = {  # of the network's operations, by what begins or is in their names
    "convolution, forward": ("convolution", "mkldnn_convolution", "cudnn_convolution"),
    "convolution, backward": ("convolution_backward",),
    "batch norm": ("native_batch_norm", "cudnn_batch_norm", "native_batch_norm_backward", "cudnn_batch_norm_backward"),
    "ReLU": ("relu_", "relu", "threshold_backward", "clamp_min_"),
    "pooling": ("max_pool3d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool3d", "_adaptive_avg_pool3d"),
    "concatenation": ("cat",),
    "adding gradients": ("add", "add_"),
    "between types and layouts": ("_to_copy", "copy_", "clone"),
    "filling": ("fill_", "zeros", "zero_", "new_zeros", "zeros_like", "empty", "empty_like", "empty_strided"),
}


def kind_of(name):
    for kind, names in KINDS.items():
        if name in names or (kind == "pooling" and name.startswith(names)):
            return kind
    return "the rest of the network"


class Watch(TorchDispatchMode):
    """Adds up seconds, floating-point operations and bytes of each kind of operation."""

    def __init__(self):
        super().__init__()
        self.phase, self.found = "", defaultdict(lambda: [0.0, 0, 0])

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        synchronise()
        started = time.perf_counter()
        output = func(*args, **kwargs)
        synchronise()
        spent = self.found[self.phase or kind_of(func.overloadpacket.__name__)]
        spent[0] += time.perf_counter() - started
        if func.overloadpacket in flop_registry:
            spent[1] += flop_registry[func.overloadpacket](*args, **kwargs, out_val=output)
        if not func.is_view:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, output)) if isinstance(leaf, torch.Tensor)]
            spent[2] += sum(t.numel() * t.element_size() for t in tensors)
        return output


def profiled(size):
    """What a step of a size spends, by kind of operation, and seconds of an unwatched step."""
    subjects, shape, arguments, precision = SIZES[size]
    keep_freed_memory()
    torch.manual_seed(0)
    network = ContrastiveNetwork(DenseNetEncoder(**arguments)).to(DEVICE, memory_format=torch.channels_last_3d)
    optimizer, loss = torch.optim.Adam(network.parameters(), 1e-4, fused=CUDA), YAwareInfoNCE(GaussianKernel(5.0))
    prepare, infer = ContrastivePrepareBatch(TwoViews("all_tf")), PrecisionInferer(precision)
    data, watch = batch(subjects, shape), Watch()

    def step():
        watch.phase = "views"
        views, metadata = prepare(data, DEVICE)
        watch.phase = ""
        projections = infer(views, network)
        watch.phase = "loss"
        value = loss(projections.float(), metadata)
        watch.phase = ""
        value.backward()
        watch.phase = "optimizer"
        optimizer.step()
        optimizer.zero_grad()
        synchronise()

    for _ in range(WARM):
        step()
    started = time.perf_counter()
    step()
    whole = time.perf_counter() - started
    with watch:
        step()
    return watch.found, whole


def main(arguments):
    parser = argparse.ArgumentParser(description="Where one training step goes.")
    parser.add_argument("size", nargs="?", choices=SIZES, default="full")
    size = parser.parse_args(arguments).size
    found, whole = profiled(size)
    speed, bandwidth = rates(torch.bfloat16 if SIZES[size][3] == "bfloat16" else torch.float32)
    total = sum(seconds for seconds, _, _ in found.values())
    rows = [
        [
            kind,
            f"{seconds * 1e3:.1f} ms",
            f"{seconds / total:.1%}",
            f"{flops / speed / 1e6:.1f} ms" if flops else "",
            f"{volume / bandwidth / 1e6:.1f} ms",
        ]
        for kind, (seconds, flops, volume) in sorted(found.items(), key=lambda item: -item[1][0])
    ]
    title = f"Where a step of {SIZES[size][0]} subjects goes: {total:.2f} s watched, {whole:.2f} s unwatched"
    sys.stdout.write(table(title, ["", "spent", "share", "floor by arithmetic", "floor by bytes"], rows))
    sys.stdout.write(f"\nRates of this machine, one after the other: {speed:.0f} GFLOP/s, {bandwidth:.0f} GB/s.\n")


if __name__ == "__main__":
    main(sys.argv[1:])
