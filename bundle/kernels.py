"""How similar two subjects' metadata are, as a weight in [0, 1].

A kernel turns metadata of shape (N, M) into weights of shape (N, N): 1 on the diagonal, symmetric, and
0 wherever the similarity is unknown. `w[i, k]` says how much subject k is a positive of anchor i.

Unknown values are NaN. A subject whose metadata are unknown has weight 1 with itself (its own second view is
its only positive) and 0 with everybody else (it stays a negative for them).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from bundle.names import nearest

UNKNOWN_RULES = ("exclude", "ignore")
BANDWIDTH_RULES = ("scott", "silverman")


def gaussian(distance: Tensor, sigma: float) -> Tensor:
    """Gaussian similarity, exp(−d² / 2σ²)."""
    return torch.exp(-0.5 * (distance / sigma) ** 2)


def exponential(distance: Tensor, sigma: float) -> Tensor:
    """Exponential (Laplace) similarity, exp(−|d| / σ)."""
    return torch.exp(-distance.abs() / sigma)


def cauchy(distance: Tensor, sigma: float) -> Tensor:
    """Cauchy similarity, 1 / (1 + d² / σ²): the slowest to fall."""
    return 1.0 / (1.0 + (distance / sigma) ** 2)


def epanechnikov(distance: Tensor, sigma: float) -> Tensor:
    """Epanechnikov similarity, max(0, 1 − d² / σ²): exactly zero beyond σ."""
    return (1.0 - (distance / sigma) ** 2).clamp(min=0.0)


SHAPES = {f.__name__: f for f in (gaussian, exponential, cauchy, epanechnikov)}


class ContinuousKernel(nn.Module):
    """Similarity of one continuous column, such as age.

    Args:
        sigma: bandwidth in the unit of the column (years for age): a standard deviation, never its square.
        shape: `gaussian` (the paper's), `exponential`, `cauchy` or `epanechnikov`.

    Shape:
        input (N,), output (N, N).

    Raises:
        ValueError: when sigma is not a positive finite number, or the shape is unknown.

    Example:
        >>> ContinuousKernel(5.0)(torch.tensor([20.0, 25.0])).round(decimals=3)
        tensor([[1.0000, 0.6070],
                [0.6070, 1.0000]])
    """

    def __init__(self, sigma: float, shape: str = "gaussian") -> None:
        super().__init__()
        check_bandwidth(sigma)
        if shape not in SHAPES:
            raise ValueError(f"No kernel has the shape '{shape}'{nearest(shape, SHAPES)}")
        self.sigma, self.shape = float(sigma), shape

    def forward(self, values: Tensor) -> Tensor:
        """Weights (N, N) of values (N,); NaN where either value is NaN."""
        return SHAPES[self.shape](values[:, None] - values[None, :], self.sigma)

    def extra_repr(self) -> str:
        """Show what the kernel was made with."""
        return f"sigma={self.sigma}, shape={self.shape}"


class DiscreteKernel(nn.Module):
    """Similarity of one categorical column, such as sex or site: 1 when equal, else `mismatch`.

    Args:
        mismatch: weight of two different categories, in [0, 1). With 0 alone in a loss this is supervised
            contrastive learning.

    Shape:
        input (N,) of category codes, output (N, N).

    Raises:
        ValueError: when mismatch is outside [0, 1).
    """

    def __init__(self, mismatch: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= mismatch < 1.0:
            raise ValueError(f"`mismatch` is a weight in [0, 1), but {mismatch} was given.")
        self.mismatch = float(mismatch)

    def forward(self, values: Tensor) -> Tensor:
        """Weights (N, N) of codes (N,); NaN where either code is NaN."""
        difference = values[:, None] - values[None, :]
        weights = torch.where(difference == 0, 1.0, self.mismatch).to(difference.dtype)
        return weights + 0.0 * difference  # 0 · NaN keeps the unknown unknown

    def extra_repr(self) -> str:
        """Show what the kernel was made with."""
        return f"mismatch={self.mismatch}"


class MetadataKernel(nn.Module):
    """Similarity of metadata rows: the product (or mean) of one kernel per named column.

    Args:
        columns: column name → kernel, in the order of the metadata's columns.
        combine: `product` (similar in every column) or `mean` (similar on average).
        unknown: what a NaN in one of several columns does to the pair. `exclude` (default) makes the whole pair
            unknown, weight 0. `ignore` leaves that column out for that pair: a product over the remaining
            columns. The default is the cautious one: in a product, leaving a column out counts the two
            subjects as *equal* in it, so that a patient of unknown age would attract every age more strongly
            than a patient of known age does. Choose `ignore` when a column is missing for most subjects.

    Shape:
        metadata (N, M) with M = len(columns), output (N, N) float32 (float64 for float64 input), diagonal 1.

    Raises:
        ValueError: without columns, for an unknown rule, or when the metadata have another number of columns.

    Example:
        >>> kernel = MetadataKernel({"age": ContinuousKernel(5.0), "sex": DiscreteKernel(0.5)})
        >>> kernel(torch.tensor([[20.0, 0.0], [20.0, 1.0], [float("nan"), 1.0]]))
        tensor([[1.0000, 0.5000, 0.0000],
                [0.5000, 1.0000, 0.0000],
                [0.0000, 0.0000, 1.0000]])
    """

    def __init__(self, columns: Mapping[str, nn.Module], combine: str = "product", unknown: str = "exclude") -> None:
        super().__init__()
        if not columns:
            raise ValueError("A metadata kernel needs at least one column, for example age.")
        _check_choice("combine", combine, ("product", "mean"))
        _check_choice("unknown", unknown, UNKNOWN_RULES)
        self.kernels = nn.ModuleDict(columns)
        self.combine, self.unknown = combine, unknown

    @property
    def columns(self) -> list[str]:
        """Names of the metadata columns, in order."""
        return list(self.kernels)

    def forward(self, metadata: Tensor) -> Tensor:
        """Weights (N, N) of metadata (N, M)."""
        metadata = self._as_columns(metadata)
        weights = torch.stack([k(metadata[:, m]) for m, k in enumerate(self.kernels.values())])
        known = ~weights.isnan()
        if self.combine == "product":
            combined = weights.masked_fill(~known, 1.0).prod(0)
        else:
            combined = weights.masked_fill(~known, 0.0).sum(0) / known.sum(0).clamp(min=1)
        usable = known.all(0) if self.unknown == "exclude" else known.any(0)
        combined = combined.masked_fill(~usable, 0.0)
        return combined.masked_fill(torch.eye(len(combined), dtype=torch.bool, device=combined.device), 1.0)

    def _as_columns(self, metadata: Tensor) -> Tensor:
        if metadata.ndim == 1:
            metadata = metadata[:, None]
        if metadata.ndim != 2 or metadata.shape[1] != len(self.kernels):
            raise ValueError(
                f"The kernel compares {len(self.kernels)} column(s) ({', '.join(self.columns)}), but the metadata "
                f"have shape {tuple(metadata.shape)}; expected (N, {len(self.kernels)})."
            )
        return metadata if metadata.dtype == torch.float64 else metadata.float()


class IdentityKernel(nn.Module):
    """Every subject is similar to itself alone: InfoNCE / NT-Xent (SimCLR), whatever the metadata.

    Not the same as a tiny sigma: two subjects of equal (integer!) age have Gaussian weight 1 at any sigma.

    Shape:
        metadata (N, ...), output (N, N).
    """

    columns: tuple[str, ...] = ()

    def forward(self, metadata: Tensor) -> Tensor:
        """The identity matrix (N, N)."""
        dtype = torch.float64 if metadata.dtype == torch.float64 else torch.float32
        return torch.eye(len(metadata), dtype=dtype, device=metadata.device)


def check_bandwidth(sigma: float) -> None:
    """Refuse a bandwidth that is not a positive finite number.

    Raises:
        ValueError: with what was found and what to do.
    """
    is_number = isinstance(sigma, (int, float)) and not isinstance(sigma, bool)
    if not is_number or not 0.0 < sigma < float("inf"):
        raise ValueError(
            f"`sigma` is a standard deviation in the unit of its column and must be a positive number, but {sigma!r} "
            "was given. For SimCLR use IdentityKernel rather than a sigma of 0."
        )


def bandwidth(sigma: float | str, values: Sequence[float]) -> float:
    """A bandwidth as a number: the number itself, or by a rule from the training table.

    Scott: σ = s·n^(−1/5). Silverman: σ = s·(3n/4)^(−1/5). s is the sample's standard deviation, n its number of
    known values.

    Args:
        sigma: a positive number in the unit of the column, or `scott`, or `silverman`.
        values: the column in the training table; NaN = unknown, left out.

    Raises:
        ValueError: for an unknown rule, a non-positive number, or a column without spread.

    Source:
        Scott, Multivariate Density Estimation, 1992; Silverman, Density Estimation, 1986.
    """
    if not isinstance(sigma, str):
        check_bandwidth(sigma)
        return float(sigma)
    _check_choice("sigma", sigma, BANDWIDTH_RULES)
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
        weights: similarity of N subjects, as a kernel returns it.

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
        kernel: a kernel of this module.
        metadata: the training table; NaN = unknown.
        batch_size: subjects per batch.
        seed: of the draws.

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


def _check_choice(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ValueError(f"`{name}` is one of {', '.join(known)}, but '{value}' was given.")
