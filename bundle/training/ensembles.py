"""What a training knows of ensembles: that one run trains one member, and how their common weights are written."""

from __future__ import annotations

import ignite.distributed as idist
from monai.engines import Evaluator

from bundle.networks.weights import save_weights
from bundle.training.handlers import BestWeights, rounded


class EnsembleWeights(BestWeights):
    """Writes an ensemble's weights and card after its validation; attach to the evaluator.

    The metrics of the card, and with them the operating point, are those of the ensemble. It has no epoch: its members
    have one each.
    """

    def __call__(self, engine: Evaluator) -> None:
        """Write; of several processes, only the first."""
        if idist.get_rank() > 0:
            return
        metrics = {name: rounded(name, float(value)) for name, value in engine.state.metrics.items()}
        save_weights(self.path, self.module, {**self.card, "validation": metrics}, self.storage)


def require_one(ensemble: int | None) -> None:
    """Refuse to train an ensemble in a single run; the command line starts a run for each member.

    Args:
        ensemble: Members that were asked for; None: one classifier.

    Raises:
        ValueError: says what to do.
    """
    if ensemble is not None:
        raise ValueError(
            f"`ensemble` is {ensemble}, but one run of MONAI trains one classifier. `python -m bundle train --ensemble "
            f"{ensemble}` trains the members one after another and joins them; leave the option out here."
        )
