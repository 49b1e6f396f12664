"""Which device computes."""

from __future__ import annotations

import torch


def chosen_device(device: str | torch.device = "auto") -> torch.device:
    """The device of an option: `auto` is the first GPU where there is one, else the CPU.

    Args:
        device: `auto`, or what torch calls a device: `cpu`, `cuda`, `cuda:1`, `mps`; or torch's device itself.

    Raises:
        ValueError: there is no such device on this machine.

    Example:
        >>> chosen_device("cpu")
        device(type='cpu')
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"There is no device '{device}'; use auto, cpu, cuda, cuda:1 or mps.") from error
    count = torch.cuda.device_count()
    if chosen.type == "cuda" and (chosen.index or 0) >= count:
        raise ValueError(
            f"The device '{device}' was asked for, but torch finds {count} CUDA devices here; use auto or cpu."
        )
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError("The device 'mps' was asked for, but torch finds none here; use auto or cpu.")
    return chosen
