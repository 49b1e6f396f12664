"""How similar two subjects' metadata are, as a weight in [0, 1].

A kernel turns metadata of shape (N, M) into weights of shape (N, N): 1 on the diagonal, symmetric, and
0 wherever the similarity is unknown. `w[i, k]` says how much subject k is a positive of anchor i.

Unknown values are NaN. A subject whose metadata are unknown has weight 1 with itself (its own second view is
its only positive) and 0 with everybody else (it stays a negative for them).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from bundle.pretext.arguments import check_choice, is_number

UNKNOWN_RULES = ("exclude", "ignore")
BANDWIDTH_RULES = ("scott", "silverman")


class Kernel(nn.Module):
    """Similarity of one column of metadata. A subclass says how similar two known values are.

    Shape:
        metadata (N,) or (N, 1), output (N, N) float32 (float64 for float64 input), diagonal 1.

    Raises:
        ValueError: when the metadata have more than one column.
    """

    def similarity(self, values: Tensor) -> Tensor:
        """Weights (N, N) of values (N,); NaN where either value is NaN."""
        raise NotImplementedError

    def forward(self, metadata: Tensor) -> Tensor:
        """Weights (N, N) of metadata (N, 1)."""
        weights = self.similarity(_as_columns(metadata, ("metadata",))[:, 0])
        return _with_unit_diagonal(weights.nan_to_num(nan=0.0))


class ContinuousKernel(Kernel):
    """Similarity of one continuous column, such as age, that falls with the distance.

    Args:
        sigma: Bandwidth in the unit of the column (years for age): a standard deviation, never its square.

    Raises:
        ValueError: when sigma is not a positive finite number.
    """

    def __init__(self, sigma: float) -> None:
        super().__init__()
        check_bandwidth(sigma)
        self.sigma = float(sigma)

    def shape(self, distance: Tensor) -> Tensor:
        """Similarity at a distance given in bandwidths."""
        raise NotImplementedError

    def similarity(self, values: Tensor) -> Tensor:
        """Weights (N, N) of values (N,); NaN where either value is NaN."""
        return self.shape((values[:, None] - values[None, :]) / self.sigma)

    def extra_repr(self) -> str:
        """Show what the kernel was made with."""
        return f"sigma={self.sigma}"


class GaussianKernel(ContinuousKernel):
    """Gaussian similarity, exp(−d² / 2σ²): the paper's kernel.

    Args:
        sigma: σ, a standard deviation in the unit of the column (years for age).

    Example:
        >>> GaussianKernel(sigma=5.0)(torch.tensor([20.0, 25.0])).round(decimals=3)
        tensor([[1.0000, 0.6070],
                [0.6070, 1.0000]])
    """

    def shape(self, distance: Tensor) -> Tensor:
        """Similarity at a distance given in bandwidths."""
        return torch.exp(-0.5 * distance**2)


class ExponentialKernel(ContinuousKernel):
    """Exponential (Laplace) similarity, exp(−|d| / σ)."""

    def shape(self, distance: Tensor) -> Tensor:
        """Similarity at a distance given in bandwidths."""
        return torch.exp(-distance.abs())


class CauchyKernel(ContinuousKernel):
    """Cauchy similarity, 1 / (1 + d² / σ²): the slowest to fall."""

    def shape(self, distance: Tensor) -> Tensor:
        """Similarity at a distance given in bandwidths."""
        return 1.0 / (1.0 + distance**2)


class EpanechnikovKernel(ContinuousKernel):
    """Epanechnikov similarity, max(0, 1 − d² / σ²): exactly zero beyond σ."""

    def shape(self, distance: Tensor) -> Tensor:
        """Similarity at a distance given in bandwidths."""
        return (1.0 - distance**2).clamp(min=0.0)


class DiscreteKernel(Kernel):
    """Similarity of one categorical column, such as sex or site: 1 when equal, else `mismatch`.

    Args:
        mismatch: Weight of two different categories, in [0, 1). With 0 alone in a loss this is supervised
            contrastive learning.

    Raises:
        ValueError: when mismatch is outside [0, 1).
    """

    def __init__(self, mismatch: float = 0.0) -> None:
        super().__init__()
        if not is_number(mismatch) or not 0.0 <= mismatch < 1.0:
            raise ValueError(f"`mismatch` is a weight in [0, 1), but {mismatch!r} was given.")
        self.mismatch = float(mismatch)

    def similarity(self, values: Tensor) -> Tensor:
        """Weights (N, N) of category codes (N,); NaN where either code is NaN."""
        difference = values[:, None] - values[None, :]
        weights = torch.where(difference == 0, 1.0, self.mismatch).to(difference.dtype)
        return weights + 0.0 * difference  # 0 · NaN keeps the unknown unknown

    def extra_repr(self) -> str:
        """Show what the kernel was made with."""
        return f"mismatch={self.mismatch}"


class CombinedKernel(nn.Module):
    """Similarity of metadata rows from one kernel per named column; a subclass says how they combine.

    Args:
        unknown: What a NaN in one of several columns does to the pair. `exclude` (default) makes the whole pair
            unknown, weight 0. `ignore` leaves that column out for that pair. The default is the cautious one: in
            a product, leaving a column out counts the two subjects as *equal* in it, so that a subject of unknown
            age would attract every age more strongly than a subject of known age does. Choose `ignore` when a
            column is missing for most subjects.
        columns: Column name = kernel, in the order of the metadata's columns.

    Shape:
        metadata (N, M) with M = len(columns), output (N, N) float32 (float64 for float64 input), diagonal 1.

    Raises:
        ValueError: without columns, for what is no kernel of one column, for an unknown rule, or when the metadata have
            another number of columns.
    """

    def __init__(self, unknown: str = "exclude", **columns: Kernel) -> None:
        super().__init__()
        if not columns:
            raise ValueError(f"{type(self).__name__} needs at least one column, for example age=GaussianKernel(5.0).")
        check_choice("unknown", unknown, UNKNOWN_RULES)
        for name, kernel in columns.items():
            if not isinstance(kernel, Kernel):
                raise ValueError(
                    f"`{name}` must be the kernel of one column, such as GaussianKernel(5.0), not {kernel!r}."
                )
        self.kernels = nn.ModuleDict(columns)
        self.unknown = unknown

    @property
    def columns(self) -> list[str]:
        """Names of the metadata columns, in order."""
        return list(self.kernels)

    def combine(self, weights: Tensor, known: Tensor) -> Tensor:
        """Weights (M, N, N) of the columns become one (N, N); entries that are not `known` are NaN."""
        raise NotImplementedError

    def forward(self, metadata: Tensor) -> Tensor:
        """Weights (N, N) of metadata (N, M)."""
        metadata = _as_columns(metadata, self.columns)
        kernels = cast("Iterable[Kernel]", self.kernels.values())
        weights = torch.stack([kernel.similarity(metadata[:, m]) for m, kernel in enumerate(kernels)])
        known = ~weights.isnan()
        usable = known.all(0) if self.unknown == "exclude" else known.any(0)
        return _with_unit_diagonal(self.combine(weights, known).masked_fill(~usable, 0.0))

    def extra_repr(self) -> str:
        """Show what the kernel was made with."""
        return f"unknown={self.unknown}"


class ProductKernel(CombinedKernel):
    """Similar in every column: the product of the columns' weights. See `CombinedKernel` for the arguments.

    Example:
        >>> kernel = ProductKernel(age=GaussianKernel(5.0), sex=DiscreteKernel(0.5))
        >>> kernel(torch.tensor([[20.0, 0.0], [20.0, 1.0], [float("nan"), 1.0]]))
        tensor([[1.0000, 0.5000, 0.0000],
                [0.5000, 1.0000, 0.0000],
                [0.0000, 0.0000, 1.0000]])
    """

    def combine(self, weights: Tensor, known: Tensor) -> Tensor:
        """The product of the known weights."""
        return weights.masked_fill(~known, 1.0).prod(0)


class MeanKernel(CombinedKernel):
    """Similar on average: the mean of the columns' weights. See `CombinedKernel` for the arguments."""

    def combine(self, weights: Tensor, known: Tensor) -> Tensor:
        """The mean of the known weights."""
        return weights.masked_fill(~known, 0.0).sum(0) / known.sum(0).clamp(min=1)


def check_bandwidth(sigma: float) -> None:
    """Refuse a bandwidth that is not a positive finite number.

    Raises:
        ValueError: with what was found and what to do.
    """
    if not is_number(sigma) or sigma <= 0:
        raise ValueError(
            f"`sigma` is a standard deviation in the unit of its column and must be a positive number, but {sigma!r} "
            "was given. For SimCLR use the loss InfoNCE rather than a sigma of 0."
        )


def bandwidth(sigma: float | str, values: Sequence[float]) -> float:
    """A bandwidth as a number: the number itself, or by a rule from the training table.

    Scott: σ = s·n^(−1/5). Silverman: σ = s·(3n/4)^(−1/5). s is the sample's standard deviation, n its number of
    known values.

    Args:
        sigma: A positive number in the unit of the column, or `scott`, or `silverman`.
        values: The column in the training table; NaN = unknown, left out.

    Raises:
        ValueError: for an unknown rule, a non-positive number, or a column without spread.

    Source:
        Scott, Multivariate Density Estimation, 1992; Silverman, Density Estimation, 1986.
    """
    if not isinstance(sigma, str):
        check_bandwidth(sigma)
        return float(sigma)
    check_choice("sigma", sigma, BANDWIDTH_RULES)
    table = torch.as_tensor(values, dtype=torch.float64)
    table = table[~table.isnan()]
    if len(table) < 2 or table.std() == 0:
        raise ValueError(
            f"The rule '{sigma}' needs a column with spread, but {len(table)} known value(s) were found that do not "
            "differ; give sigma as a number."
        )
    n = len(table) if sigma == "scott" else 0.75 * len(table)
    return float(table.std() * n**-0.2)


def effective_positives(weights: Tensor) -> Tensor:
    """Effective number of positives of each anchor, Kish's (Σw)² / Σw², over the 2N − 1 other views.

    1 means that only the anchor's own second view attracts it (SimCLR); 2N − 1 that all views attract equally.

    Args:
        weights: Similarity of N subjects, as a kernel returns it.

    Shape:
        weights (N, N), output (N,).

    Source:
        Kish, Survey Sampling, 1965 (effective sample size of a weighted mean).
    """
    others = 2 * weights.sum(1) - weights.diagonal()
    squares = 2 * (weights**2).sum(1) - weights.diagonal() ** 2
    return others**2 / squares


def positives_report(kernel: nn.Module, metadata: Tensor, batch_size: int, seed: int = 0) -> dict[str, float]:
    """How many positives an anchor has in a batch: the number by which to choose sigma.

    Draws 200 random batches from the table and summarises `effective_positives` over all anchors.

    Args:
        kernel: A kernel of this module.
        metadata: The training table; NaN = unknown.
        batch_size: Subjects per batch.
        seed: Seed of the draws.

    Shape:
        metadata (N, M).

    Returns:
        mean, 5th, 50th and 95th percentile, and the share of anchors that have no positive but their own second
        view (effective number below 1.01).
    """
    generator = torch.Generator().manual_seed(seed)
    size = min(batch_size, len(metadata))
    batches = (torch.randperm(len(metadata), generator=generator)[:size] for _ in range(200))
    counts = torch.cat([effective_positives(kernel(metadata[rows])) for rows in batches])
    low, median, high = torch.quantile(counts, torch.tensor([0.05, 0.5, 0.95], dtype=counts.dtype)).tolist()
    return {
        "mean": float(counts.mean()),
        "p05": low,
        "p50": median,
        "p95": high,
        "own_view_only": float((counts < 1.01).double().mean()),
    }


def _as_columns(metadata: Tensor, columns: Sequence[str]) -> Tensor:
    """Metadata as floats of shape (N, M), refused when M is not the number of columns."""
    if metadata.ndim == 1:
        metadata = metadata[:, None]
    if metadata.ndim != 2 or metadata.shape[1] != len(columns):
        raise ValueError(
            f"The kernel compares {len(columns)} column(s) ({', '.join(columns)}), but the metadata have shape "
            f"{tuple(metadata.shape)}; expected (N, {len(columns)})."
        )
    return metadata if metadata.dtype == torch.float64 else metadata.float()


def _with_unit_diagonal(weights: Tensor) -> Tensor:
    return weights.masked_fill(torch.eye(len(weights), dtype=torch.bool, device=weights.device), 1.0)
