"""Pictures of one scan and of where it stands among others, as PNG or as HTML that needs no network."""

from __future__ import annotations

import base64
import io
import warnings

import nibabel as nib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from nilearn import plotting
from numpy.typing import ArrayLike, NDArray

from bundle.scans.grid import Grid

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "0.6"  # Okabe & Ito: told apart by colour-blind readers
STRONGEST = 98.0  # percentile of a map's absolute values at which colours saturate
SHOWN = 90.0  # percentile below which a map is not drawn


def slices(scan: NDArray[np.float32], grid: Grid, found: NDArray[np.float32] | None = None) -> str:
    """A scan in three planes, with a map over it; a PNG as a data URI.

    Shape:
        scan and found `grid.shape`.
    """
    figure = Figure(figsize=(9, 3.2), facecolor="black")
    options = {"figure": figure, "display_mode": "ortho", "black_bg": True, "annotate": True, "draw_cross": False}
    background = _image(scan, grid)
    if found is None:
        plotting.plot_anat(background, vmin=0, vmax=float(np.percentile(scan, 99.5)), **options)
    else:
        limits = {"threshold": _threshold(found), "vmin": None, "vmax": _strongest(found)}
        plotting.plot_stat_map(_image(found, grid), bg_img=background, **limits, **_colours(found), **options)
    return _data_uri(figure)


def viewer(scan: NDArray[np.float32], grid: Grid, found: NDArray[np.float32] | None, title: str) -> str:
    """An interactive viewer of a map over a scan, as an HTML document without outside links.

    Shape:
        scan and found `grid.shape`.
    """
    overlay = scan if found is None else found
    signed = bool(overlay.min() < 0)
    colours = "gray" if found is None else _colours(found)["cmap"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        view = plotting.view_img(
            _image(overlay, grid), bg_img=_image(scan, grid), threshold=_threshold(overlay), title=title, black_bg=True,
            resampling_interpolation="continuous", vmax=_strongest(overlay), cmap=colours, symmetric_cmap=signed,
        )  # fmt: skip
    return str(view.get_standalone())


def position(values: ArrayLike, own: float, label: str) -> str:
    """Where a value stands among those of the training subjects; a PNG as a data URI."""
    figure = Figure(figsize=(4.2, 2.4), layout="constrained")
    axes = figure.subplots()
    axes.hist(np.asarray(values), bins=30, color=GREY, label="training subjects")
    axes.axvline(own, color=ORANGE, linewidth=2.5, label="this scan")
    axes.set(xlabel=label, ylabel="subjects")
    axes.legend(frameon=False, fontsize="small")
    return _finished(figure, axes)


def ages(known: ArrayLike, estimate: float, error: float, own: float) -> str:
    """The age a brain looks like, among those of the healthy training subjects; a PNG as a data URI.

    Args:
        known: ages of healthy training subjects, years.
        estimate: age the brain looks like.
        error: mean absolute error of such estimates.
        own: true age; NaN = unknown.
    """
    figure = Figure(figsize=(4.2, 2.4), layout="constrained")
    axes = figure.subplots()
    axes.hist(np.asarray(known), bins=25, color=GREY, label="healthy training subjects")
    axes.axvspan(estimate - error, estimate + error, color=BLUE, alpha=0.25)
    axes.axvline(estimate, color=BLUE, linewidth=2.5, label="looks like")
    if np.isfinite(own):
        axes.axvline(own, color=ORANGE, linewidth=2.5, linestyle="--", label="is")
    axes.set(xlabel="age, years", ylabel="subjects")
    axes.legend(frameon=False, fontsize="small")
    return _finished(figure, axes)


def reliability(table: pd.DataFrame, own: float, name: str) -> str:
    """How often validation subjects of similar probability were patients; a PNG as a data URI.

    Args:
        table: of `metrics.reliability`.
        own: probability of this scan.
        name: of the class.
    """
    figure = Figure(figsize=(4.2, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":")
    axes.plot(table["predicted"], table["observed"], color=BLUE, marker="o", label="validation subjects")
    axes.axvline(own, color=ORANGE, linewidth=2.5, label="this scan")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    # As it is: between two dollar signs of a name there is no formula.
    axes.set_xlabel(f"calibrated probability of {name}", parse_math=False)
    axes.set_ylabel(f"share that was {name}", parse_math=False)
    axes.legend(frameon=False, fontsize="small")
    return _finished(figure, axes)


def _image(volume: NDArray[np.float32], grid: Grid) -> nib.Nifti1Image:
    return nib.Nifti1Image(np.asarray(volume, dtype=np.float32), grid.matrix)


def _strongest(found: NDArray[np.float32]) -> float:
    return float(np.percentile(np.abs(found), STRONGEST)) or float(np.abs(found).max()) or 1.0


def _threshold(found: NDArray[np.float32]) -> float:
    return float(np.percentile(np.abs(found), SHOWN))


def _colours(found: NDArray[np.float32]) -> dict[str, object]:
    signed = bool(found.min() < 0)
    return {"cmap": "cold_hot" if signed else "hot", "symmetric_cbar": signed}


def _finished(figure: Figure, axes: Axes) -> str:
    axes.spines[["top", "right"]].set_visible(False)
    return _data_uri(figure)


def _data_uri(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, facecolor=figure.get_facecolor())
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
