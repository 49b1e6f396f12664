"""How many threads the preparation uses; ITK reads the number once, when it is first needed."""

from __future__ import annotations

import logging
import os
from typing import Any

import torch

from bundle.extras import require

ITK = "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"
SEED = 1
VARIABLES = (ITK, "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_used: list[int] = []  # threads that ANTs runs with, once it does

logger = logging.getLogger(__name__)


def set_threads(number: int) -> None:
    """Set the threads of torch, and of ANTs where it does not run yet; processes that are started later inherit them.

    Args:
        number: Threads of one preparation. The same scan gives the same map for the same number.

    Raises:
        ValueError: When the number is below one.
    """
    if number < 1:
        raise ValueError(f"The number of threads is {number}, expected at least 1.")
    if _used and _used != [number]:
        logger.warning("ANTs already runs with %d threads and keeps them.", _used[0])
    else:
        os.environ.update(dict.fromkeys(VARIABLES, str(number)))
    torch.set_num_threads(number)


def load_ants(number: int) -> Any:
    """ANTs, with threads, and with a seed for every registration that follows.

    Args:
        number: Threads, as of `set_threads`.

    Raises:
        ValueError: When ANTs is not installed; says how to install it.
    """
    set_threads(number)
    ants = require("ants", "Preparing a T1w scan")
    _used[:] = _used or [number]
    ants.config.set_ants_deterministic(False, SEED)  # ANTsPy 0.6.3 ignores `random_seed` of `ants.registration`
    return ants
