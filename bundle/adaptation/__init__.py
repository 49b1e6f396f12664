"""Sites one does not have: what is done about them to features, encoders and losses."""

from bundle.adaptation.adversary import (
    AdversarialLoss,
    AdversarialNetwork,
    AdversaryRamp,
    number_of_sites,
    ramp,
    reversed_gradient,
    site_entropy,
)
from bundle.adaptation.batch_norm import LEAST, batch_norms, estimate_statistics, even_batches, share_of_initial
from bundle.adaptation.coral import aligned
from bundle.adaptation.projection import without_site_directions
from bundle.adaptation.shrinkage import ledoit_wolf

__all__ = [
    "LEAST",
    "AdversarialLoss",
    "AdversarialNetwork",
    "AdversaryRamp",
    "aligned",
    "batch_norms",
    "estimate_statistics",
    "even_batches",
    "ledoit_wolf",
    "number_of_sites",
    "ramp",
    "reversed_gradient",
    "share_of_initial",
    "site_entropy",
    "without_site_directions",
]
