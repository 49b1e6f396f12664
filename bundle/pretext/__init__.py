"""What pretraining compares: kernels of metadata, losses and views."""

from bundle.pretext.age_regression import AgeRegressionLoss, AgeRegressor
from bundle.pretext.infonce import (
    ExponentialInfoNCE,
    InfoNCE,
    KernelLoss,
    ThresholdInfoNCE,
    YAwareInfoNCE,
    exponential_infonce,
    threshold_infonce,
    weighted_infonce,
)
from bundle.pretext.kernels import (
    CauchyKernel,
    CombinedKernel,
    ContinuousKernel,
    DiscreteKernel,
    EpanechnikovKernel,
    ExponentialKernel,
    GaussianKernel,
    Kernel,
    MeanKernel,
    ProductKernel,
    bandwidth,
    positives_report,
)
from bundle.pretext.models_genesis import (
    LocalShuffle,
    NonlinearIntensity,
    Paint,
    ReconstructionLoss,
    ReconstructionNetwork,
)
from bundle.pretext.rank_n_contrast import RankNContrast
from bundle.pretext.transform import Transform
from bundle.pretext.two_modalities import TwoModalityInfoNCE, cross_modal_infonce
from bundle.pretext.uniformity import (
    ConditionalAlignmentUniformity,
    DecoupledUniformity,
    conditional_alignment_uniformity,
    decoupled_uniformity,
)
from bundle.pretext.views import (
    CropResize,
    Cutout,
    Flip,
    GaussianBlur,
    GaussianNoise,
    LeftRightFlip,
    TwoViews,
    ZScore,
)
from bundle.pretext.within_site import WithinSiteInfoNCE, within_site_infonce

__all__ = [
    "AgeRegressionLoss",
    "AgeRegressor",
    "CauchyKernel",
    "CombinedKernel",
    "ConditionalAlignmentUniformity",
    "ContinuousKernel",
    "CropResize",
    "Cutout",
    "DecoupledUniformity",
    "DiscreteKernel",
    "EpanechnikovKernel",
    "ExponentialInfoNCE",
    "ExponentialKernel",
    "Flip",
    "GaussianBlur",
    "GaussianKernel",
    "GaussianNoise",
    "InfoNCE",
    "Kernel",
    "KernelLoss",
    "LeftRightFlip",
    "LocalShuffle",
    "MeanKernel",
    "NonlinearIntensity",
    "Paint",
    "ProductKernel",
    "RankNContrast",
    "ReconstructionLoss",
    "ReconstructionNetwork",
    "ThresholdInfoNCE",
    "Transform",
    "TwoModalityInfoNCE",
    "TwoViews",
    "WithinSiteInfoNCE",
    "YAwareInfoNCE",
    "ZScore",
    "bandwidth",
    "conditional_alignment_uniformity",
    "cross_modal_infonce",
    "decoupled_uniformity",
    "exponential_infonce",
    "positives_report",
    "threshold_infonce",
    "weighted_infonce",
    "within_site_infonce",
]


def __getattr__(name: str) -> object:  # `pretrain`, which stands above all rooms
    import bundle.later

    return bundle.later.attribute_of(__name__, name)
