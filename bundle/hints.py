"""Hints: the names that an unknown one may have meant, and what is worth saying once."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable
from difflib import get_close_matches

logger = logging.getLogger(__name__)


@functools.cache
def say_once(sentence: str) -> None:
    """Warn of something the first time that it happens.

    Args:
        sentence: What happens, and what to do.
    """
    logger.warning(sentence)


def nearest(name: object, known: Iterable[str]) -> str:
    """End a sentence about an unknown name with the names it may have meant, or with all there are.

    Args:
        name: What was asked for; case is ignored.
        known: What there is.

    Example:
        >>> nearest("gendr", ["age", "gender"])
        "; did you mean 'gender'?"
        >>> nearest("zzz", ["age", "gender"])
        "; there is 'age', 'gender'."
    """
    names = {choice.lower(): choice for choice in sorted(known)}
    near = [names[key] for key in get_close_matches(str(name).lower(), names, n=3)]
    return f"; did you mean {quoted(near)}?" if near else f"; there is {quoted(names.values()) or 'none'}."


def quoted(names: Iterable[object]) -> str:
    """Write names as a list in quotes, for a sentence; beyond 20 only their number.

    Args:
        names: What to list.
    """
    listed = list(names)
    more = f", … ({len(listed)} in all)" if len(listed) > 20 else ""
    return ", ".join(f"'{name}'" for name in listed[:20]) + more
