"""The models that read features: what is fitted, how features are scaled for it, and which penalties are tried."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.svm import SVC

from bundle.evaluation.elastic_net import ElasticNetClassifier
from bundle.evaluation.plan import KNOWN, NATIVE_LOGISTIC, NATIVE_RIDGE, REGIONS_NET, REGIONS_SVM, SITE, VOXELS
from bundle.evaluation.side_by_side import OF_BOTH, OF_SECOND

Model = Callable[[float], Any]


def logistic(penalty: float) -> LogisticRegression:
    """The paper's probe: logistic regression with an L2 penalty."""
    return LogisticRegression(solver="liblinear", C=penalty)


def rbf_svm(penalty: float) -> SVC:
    """Support-vector machine with Gaussian kernel."""
    return SVC(kernel="rbf", gamma="scale", C=penalty)


def ridge_classifier(penalty: float) -> RidgeClassifier:
    """Ridge regression of ±1, in the kernel form where features have been rotated onto the training subjects' span."""
    return RidgeClassifier(alpha=1 / penalty, solver="cholesky")


@dataclass(frozen=True)
class Reader:
    """How features are read.

    Attributes:
        model: Penalty C → a classifier with `decision_function`; a larger C is a weaker penalty.
        option: Argument of `Probe` that holds the candidates for C.
        scaling: Scaling of the features; see `linear.fit_predict`.
        rotated: Whether rotating features onto the span of the training subjects changes nothing of the model.
        is_log_odds: Whether scores are log odds, of which probabilities can be made.
    """

    model: Model = logistic
    option: str = "penalties"
    scaling: str = "overall"
    rotated: bool = True
    is_log_odds: bool = True


LOGISTIC = Reader()  # of embeddings
READERS = {
    VOXELS: Reader(option="voxel_penalties", scaling="none"),
    NATIVE_LOGISTIC: Reader(option="native_penalties", scaling="length"),
    NATIVE_RIDGE: Reader(ridge_classifier, "native_penalties", "length", is_log_odds=False),
    REGIONS_NET: Reader(ElasticNetClassifier, "net_penalties", "each", rotated=False),
    REGIONS_SVM: Reader(rbf_svm, "svm_penalties", "each", rotated=False, is_log_odds=False),
    KNOWN: Reader(scaling="each"),
    SITE: Reader(scaling="each"),
}


def reader_of(method: str) -> Reader:
    """How the features of a method are read, of whichever modality.

    Args:
        method: Name of the features.
    """
    return READERS.get(method.removesuffix(OF_SECOND).removesuffix(OF_BOTH), LOGISTIC)
