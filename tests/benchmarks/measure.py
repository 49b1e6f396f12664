"""What all benchmarks share: where they run, how they take time, how they print."""

import contextlib
import platform
import statistics
import time

import torch

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
FULL = (121, 145, 121)  # voxels of a CAT12 map at 1.5 mm


def synchronise():
    if CUDA:
        torch.cuda.synchronize()


def seconds(function, repeats=5):
    """Median of several runs, after one that does not count."""
    function()
    return statistics.median(once(function) for _ in range(repeats))


def once(function):
    synchronise()
    started = time.perf_counter()
    function()
    synchronise()
    return time.perf_counter() - started


@contextlib.contextmanager
def threads(count):
    """Compute on some cores of the CPU."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def setting():
    """Where numbers are from."""
    if CUDA:
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    return f"{torch.get_num_threads()} threads of {platform.machine()}, torch {torch.__version__}"


def table(title, header, rows):
    """A markdown table under a title."""
    lines = [header, [":--", *["--:"] * (len(header) - 1)], *rows]
    body = "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
    return f"\n{title} ({setting()})\n\n{body}\n"
