"""What losses and kernels may be made with: an argument that cannot be is refused when the component is made."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Real

from torch import nn

from bundle.hints import nearest

COLDEST, HOTTEST = 1e-3, 1e2  # temperatures; beyond them a loss overflows float32, or has no gradient to speak of


def check_temperature(temperature: float) -> None:
    """Refuse a temperature that no similarity is divided by.

    Raises:
        ValueError: with what was found and what is usual.
    """
    if not is_number(temperature) or not COLDEST <= temperature <= HOTTEST:
        raise ValueError(
            f"`temperature` must be a number from {COLDEST:g} to {HOTTEST:g}, but {temperature!r} was given. The "
            "paper's is 0.1, of cosine similarities; Rank-N-Contrast's is 2, of distances."
        )


def check_number(name: str, value: float, low: float, *, without_low: bool, usual: float) -> None:
    """Refuse a value that is no finite number, or too low.

    Args:
        name: Name of the argument.
        value: Value that was given.
        low: Lowest value.
        without_low: The lowest value itself is refused, too.
        usual: What is usual, for the message.

    Raises:
        ValueError: with what was found, what was expected, and what is usual.
    """
    if not is_number(value) or value < low or (without_low and value == low):
        words = f"above {low:g}" if without_low else f"of at least {low:g}"
        raise ValueError(f"`{name}` must be a number {words} ({usual:g} is usual), but {value!r} was given.")


def check_choice(name: str, value: str, known: Iterable[str]) -> None:
    """Refuse a choice that there is not.

    Raises:
        ValueError: with the nearest choice, or all of them.
    """
    choices = list(known)
    if value not in choices:
        raise ValueError(f"`{name}` cannot be {value!r}{nearest(value, choices)}")


def check_kernel(kernel: nn.Module) -> None:
    """Refuse what cannot make weights from metadata.

    Raises:
        ValueError: with what was found and an example.
    """
    if not isinstance(kernel, nn.Module):
        raise ValueError(f"`kernel` must be a kernel such as GaussianKernel(sigma=5.0), but {kernel!r} was given.")


def is_number(value: object) -> bool:
    """Whether a value is a finite real number and no bool."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
