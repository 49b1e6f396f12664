"""What representations and classifiers are worth, in numbers with intervals."""

from bundle.metrics.associations import (
    Association,
    by_level,
    by_number,
    cramers_v,
    cross_validated_number,
    enough,
    presence_p,
    transferred,
)
from bundle.metrics.classification import (
    calibrated,
    calibration_error,
    decisions,
    operating_point,
    platt,
    reliability,
    roc_auc,
)
from bundle.metrics.representation import (
    OverallScaler,
    age_errors,
    alignment,
    effective_rank,
    openbhb_score,
    ridge,
    site_balanced_accuracy,
    uniformity,
)
from bundle.metrics.resampling import bootstrap_auc, bootstrap_mean, holm, interval

__all__ = [
    "Association",
    "OverallScaler",
    "age_errors",
    "alignment",
    "bootstrap_auc",
    "bootstrap_mean",
    "by_level",
    "by_number",
    "calibrated",
    "calibration_error",
    "cramers_v",
    "cross_validated_number",
    "decisions",
    "effective_rank",
    "enough",
    "holm",
    "interval",
    "openbhb_score",
    "operating_point",
    "platt",
    "presence_p",
    "reliability",
    "ridge",
    "roc_auc",
    "site_balanced_accuracy",
    "transferred",
    "uniformity",
]
