"""An average of a network's weights over the steps of a training, which is validated and kept in their place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

WARM_UP = 10  # in the first t steps the decay is at most (1 + t) / (10 + t): the average soon forgets random weights
_Tensors = tuple[Tensor, ...] | list[Tensor]


class WeightAverage:
    """Averages a network's weights exponentially over the steps; attach to the trainer.

    After step t the average θ̄ becomes d θ̄ + (1 − d) θ, with d the smaller of `decay` and (1 + t) / (10 + t); the first
    step's weights are taken as they are. The running statistics of batch norm are averaged in the same way, so that
    they are those of the weights that were averaged; their counters are those of the network. The average changes
    nothing of the training. It is part of a checkpoint, and a resumed run has that of the whole run.

    Args:
        network: Network that is trained, with or without a parallel wrapper.
        decay: d, between 0 and 1: the average is over about 1 / (1 − d) steps. None: no average.

    Attributes:
        network: Network to validate and keep: the average, or without a decay the network itself.

    Raises:
        ValueError: for a decay that cannot be.

    Source:
        Polyak and Juditsky 1992; torch.optim.swa_utils; the decay of the first steps as in TensorFlow's
        ExponentialMovingAverage.

    Example:
        >>> average = WeightAverage(nn.Linear(1, 1), 0.99)
        >>> round(average.decay_after(1), 3), average.decay_after(10_000)
        (0.182, 0.99)
    """

    def __init__(self, network: nn.Module, decay: float | None) -> None:
        if decay is not None and not (isinstance(decay, (int, float)) and 0 < decay < 1):
            raise ValueError(
                f"`average` is the decay of an average of the weights, a number between 0 and 1 such as 0.99, or null "
                f"for none, but {decay!r} was given."
            )
        self.decay, self._trained = decay, getattr(network, "module", network)
        self._average = (
            None if decay is None else AveragedModel(self._trained, multi_avg_fn=self._mix, use_buffers=True)
        )
        self.network = network if self._average is None else self._average.module

    @property
    def encoder(self) -> nn.Module:
        """The encoder of the network to validate and keep."""
        return getattr(self.network, "module", self.network).get_submodule("encoder")

    def attach(self, engine: Engine) -> None:
        """Average after each step."""
        if self._average is not None:
            engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:  # noqa: ARG002
        """Take in the weights of one step."""
        assert self._average is not None
        self._average.update_parameters(self._trained)

    def decay_after(self, steps: int) -> float:
        """The decay when the weights of `steps` steps are in the average."""
        assert self.decay is not None
        return min(self.decay, (1 + steps) / (WARM_UP + steps))

    @torch.no_grad()
    def _mix(self, average: _Tensors, current: _Tensors, steps: Tensor | int) -> None:  # noqa: ARG002
        assert self._average is not None
        if not average[0].is_floating_point():
            torch._foreach_copy_(average, current)
            return
        taken = int(self._average.get_buffer("n_averaged"))  # on the host, where nothing has to be waited for
        torch._foreach_lerp_(average, current, 1 - self.decay_after(taken))

    def state_dict(self) -> dict[str, Any]:
        """The average, for a checkpoint; empty without one."""
        return {} if self._average is None else self._average.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the average of a checkpoint."""
        if self._average is not None:
            self._average.load_state_dict(state)
