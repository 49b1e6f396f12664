"""Draws the pictures of the concept pages: `python docs/site/pictures.py` writes them to docs/images."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes

from bundle.pretext import kernels
from bundle.pretext.kernels import ContinuousKernel, GaussianKernel

IMAGES = Path(__file__).parents[1] / "images"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")  # Okabe and Ito: told apart by everybody
SIGMA = 5.0
NAMES = ("GaussianKernel", "ExponentialKernel", "CauchyKernel", "EpanechnikovKernel")


def draw_kernels() -> None:
    """Four kernels of a bandwidth of five years, against the difference in age."""
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    differences = torch.linspace(-20, 20, 801)
    for name, colour in zip(NAMES, COLOURS, strict=True):
        kernel: ContinuousKernel = getattr(kernels, name)(SIGMA)
        axes.plot(differences, kernel.shape(differences / SIGMA), color=colour, linewidth=2, label=name)
    axes.legend(frameon=False, loc="upper right")
    axes.set(xlabel="difference in age, years (σ = 5)", ylabel="weight w", xlim=(-20, 20), ylim=(0, 1.05))
    _plain(axes)
    figure.savefig(IMAGES / "kernels.png", dpi=150)


def draw_loss() -> None:
    """Who attracts an anchor: its own second view alone, or every brain by its age."""
    generator = np.random.default_rng(3)
    ages = np.array([22, 25, 31, 34, 45, 52, 60, 68, 75])
    angles = generator.permutation(np.linspace(0, 2 * np.pi, len(ages), endpoint=False))
    places = np.stack([np.cos(angles), np.sin(angles)], 1)
    anchor = 3
    weights = GaussianKernel(SIGMA)(torch.tensor(ages, dtype=torch.float32))[anchor].numpy()
    figure, panels = plt.subplots(1, 2, figsize=(9, 4.6), layout="constrained")
    _pull(panels[0], places, ages, anchor, np.eye(len(ages))[anchor], "SimCLR: the own second view attracts")
    _pull(panels[1], places, ages, anchor, weights, "y-Aware, σ = 5 years: similar ages attract")
    figure.savefig(IMAGES / "loss.png", dpi=150)


def _pull(axes: Axes, places: np.ndarray, ages: np.ndarray, anchor: int, weights: np.ndarray, title: str) -> None:
    """Points on the circle, two views each, and lines to the anchor whose thickness is the weight."""
    axes.add_patch(plt.Circle((0, 0), 1, fill=False, color="0.85"))
    second = places @ np.array([[np.cos(0.16), -np.sin(0.16)], [np.sin(0.16), np.cos(0.16)]])
    for number, weight in enumerate(weights):
        ends = (second,) if number == anchor else (places, second)
        for end in ends:
            line = np.stack([places[anchor], end[number]])
            if weight > 0.01:
                axes.plot(*line.T, color=COLOURS[0], linewidth=5 * weight, alpha=0.75, zorder=1)
            elif end is places:
                axes.plot(*line.T, color="0.8", linewidth=0.8, linestyle=":", zorder=0)
    shown = axes.scatter(*np.concatenate([places, second]).T, c=np.tile(ages, 2), cmap="viridis", s=80, zorder=2)
    axes.scatter(*places[anchor], s=220, facecolors="none", edgecolors=COLOURS[1], linewidths=2.5, zorder=3)
    for age, place in zip(ages, places, strict=True):
        axes.annotate(f"{age}", place * 1.2, ha="center", va="center", fontsize=11)
    axes.set(title=title, xlim=(-1.4, 1.4), ylim=(-1.4, 1.4), aspect="equal")
    axes.axis("off")
    if title.startswith("y-Aware"):
        plt.colorbar(shown, ax=axes, label="age, years", shrink=0.7)


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    draw_kernels()
    draw_loss()
