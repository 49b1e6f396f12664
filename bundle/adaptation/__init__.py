"""Sites one does not have: what is done about them to features, encoders and losses."""

from bundle.adaptation.adversary import (
    AdversarialLoss,
    AdversarialNetwork,
    AdversaryRamp,
    Reversing,
    number_of_sites,
    ramp,
    reversed_gradient,
    site_entropy,
)
from bundle.adaptation.batch_norm import LEAST, batch_norms, estimate_statistics, even_batches, share_of_initial
from bundle.adaptation.classifier_adversary import (
    ClassifierAdversary,
    groups_with_adversary,
    mean_site_entropy,
    with_site_numbers,
)
from bundle.adaptation.coral import aligned
from bundle.adaptation.projection import without_site_directions
from bundle.adaptation.shrinkage import ledoit_wolf

__all__ = [
    "LEAST",
    "AdversarialLoss",
    "AdversarialNetwork",
    "AdversaryRamp",
    "ClassifierAdversary",
    "Reversing",
    "aligned",
    "batch_norms",
    "estimate_statistics",
    "even_batches",
    "groups_with_adversary",
    "ledoit_wolf",
    "mean_site_entropy",
    "number_of_sites",
    "ramp",
    "reversed_gradient",
    "share_of_initial",
    "site_entropy",
    "with_site_numbers",
    "without_site_directions",
]
