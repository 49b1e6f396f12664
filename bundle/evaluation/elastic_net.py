"""Logistic regression with an elastic net, in few passes: Newton's steps by scikit-learn's coordinate descent."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import ElasticNet

from bundle.hints import say_once

Array = NDArray[np.float64]
SHARE = 0.5  # of the L1 penalty
STEPS, TOLERANCE = 100, 1e-3  # Newton's steps at most, and the change of the scores, of the largest, at which they end
LEAST = 1e-5  # weight of a subject whose probability is next to 0 or 1


class ElasticNetClassifier:
    """Minimises C · Σ log(1 + exp(−y f(x))) + ½ ‖w‖₁ + ¼ ‖w‖², with f(x) = w·x + b and y = ±1.

    Regions are much alike, so that stochastic solvers such as `saga` need hundreds of passes over the subjects. Here
    each of a few steps is a weighted least-squares problem with the same penalty, as in glmnet.

    Args:
        penalty: C; a larger one is a weaker penalty.

    Source:
        Friedman, Hastie & Tibshirani, Journal of Statistical Software 33 (2010).
    """

    def __init__(self, penalty: float) -> None:
        self.penalty = penalty
        self.coef_: Array = np.zeros(0)
        self.intercept_ = 0.0

    def fit(self, features: Array, labels: NDArray) -> ElasticNetClassifier:
        """Fit to subjects with the labels 0 and 1.

        Shape:
            features (n, p), labels (n,).
        """
        step = ElasticNet(l1_ratio=SHARE, warm_start=True, tol=TOLERANCE)
        scores = np.zeros(len(labels))
        for _ in range(STEPS):
            probability = expit(scores)
            weight = np.maximum(probability * (1 - probability), LEAST)
            step.alpha = 1 / (self.penalty * weight.sum())
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # the next step goes on from here
                step.fit(features, scores + (labels - probability) / weight, sample_weight=weight)
            before, scores = scores, features @ step.coef_ + step.intercept_
            if np.abs(scores - before).max() <= TOLERANCE * np.abs(scores).max():
                break
        else:
            say_once(
                f"The elastic net with C = {self.penalty:g} has not converged after {STEPS} steps: its penalty is too "
                "weak for these subjects. Give smaller `net_penalties`."
            )
        self.coef_, self.intercept_ = step.coef_.copy(), float(step.intercept_)
        return self

    def decision_function(self, features: Array) -> Array:
        """Log odds of being a patient.

        Shape:
            features (m, p), output (m,).
        """
        return np.asarray(features @ self.coef_ + self.intercept_)
