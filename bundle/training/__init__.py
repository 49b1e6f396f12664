"""Engines and handlers of training, several processes, and going on after an interruption."""

from bundle.training.allocator import keep_freed_memory
from bundle.training.averaging import WeightAverage
from bundle.training.distributed import GlobalLoss, parallel, share_of, start
from bundle.training.divergence import CollapseWarning, FiniteSteps
from bundle.training.engines import (
    ContrastivePrepareBatch,
    GradientCache,
    PrecisionInferer,
    RepresentationInferer,
    iteration_update,
    report_training,
    run_remaining,
)
from bundle.training.ensembles import EnsembleWeights, require_one
from bundle.training.handlers import BestWeights, PredictionWriter, SameBuffers, ViewEpoch, mlflow_store
from bundle.training.history import History, chance_levels
from bundle.training.monitors import ContrastiveMonitor, OperatingPoint, ParticipantAUC, RepresentationMonitor
from bundle.training.readiness import require_loss, require_metadata, require_network, require_sections
from bundle.training.resume import EpochSampler, RandomState, Resume, scalars
from bundle.training.same_run import require_same_run
from bundle.training.site_sampler import SiteSampler
from bundle.training.two_modalities import (
    TwoModalityInferer,
    TwoModalityMonitor,
    TwoModalityPrepareBatch,
    require_two_files,
    require_two_networks,
)

__all__ = [
    "BestWeights",
    "CollapseWarning",
    "ContrastiveMonitor",
    "ContrastivePrepareBatch",
    "EnsembleWeights",
    "EpochSampler",
    "FiniteSteps",
    "GlobalLoss",
    "GradientCache",
    "History",
    "OperatingPoint",
    "ParticipantAUC",
    "PrecisionInferer",
    "PredictionWriter",
    "RandomState",
    "RepresentationInferer",
    "RepresentationMonitor",
    "Resume",
    "SameBuffers",
    "SiteSampler",
    "TwoModalityInferer",
    "TwoModalityMonitor",
    "TwoModalityPrepareBatch",
    "ViewEpoch",
    "WeightAverage",
    "chance_levels",
    "iteration_update",
    "keep_freed_memory",
    "mlflow_store",
    "parallel",
    "report_training",
    "require_loss",
    "require_metadata",
    "require_network",
    "require_one",
    "require_same_run",
    "require_sections",
    "require_two_files",
    "require_two_networks",
    "run_remaining",
    "scalars",
    "share_of",
    "start",
]
