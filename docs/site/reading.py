"""Draws the picture of "How to read this" and prints its numbers: `python docs/site/reading.py`.

All of it is arithmetic about two normal distributions of equal width; no person and no phantom is behind it.
"""

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, PercentFormatter
from scipy.stats import norm

from bundle.drawing import BLUE, GREEN, GREY, ORANGE, PALE, Drawing, save, styled

PICTURE = Path(__file__).parents[1] / "images" / "reading.png"
AUCS = (0.60, 0.75, 0.90)
COLOURS = dict(zip(AUCS, (ORANGE, BLUE, GREEN), strict=True))
SPECIFICITY = 0.9
PREVALENCES = (0.5, 0.1, 0.02)
PEOPLE = (25, 80, 400)  # of each class
DIFFERENCES = (0.06, 0.03, -0.02, 0.05, 0.01, 0.04, -0.01, 0.08)  # an invented example of eight sites


def shift(auc: float) -> float:
    """How far patients lie above controls, in standard deviations, if this is the ROC-AUC.

    Source:
        Hanley & McNeil, Radiology 143 (1982), 29–36.
    """
    return float(np.sqrt(2) * norm.ppf(auc))


def sensitivity(auc: float, specificity: float = SPECIFICITY) -> float:
    """Share of patients above the threshold below which this share of controls lies."""
    return float(norm.sf(norm.ppf(specificity) - shift(auc)))


def right_when_positive(auc: float, prevalence: float, specificity: float = SPECIFICITY) -> float:
    """Share of patients among those who are called patients."""
    found, wrong = prevalence * sensitivity(auc, specificity), (1 - prevalence) * (1 - specificity)
    return found / (found + wrong)


def half_width(auc: float, people: float) -> float:
    """Half of the 95 % interval of a ROC-AUC, with so many people of each class.

    Source:
        Hanley & McNeil, Radiology 143 (1982), 29–36.
    """
    first, second = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc) + (people - 1) * (first + second - 2 * auc**2)
    return float(norm.ppf(0.975) * np.sqrt(variance) / people)


def sign_flip(differences: Sequence[float]) -> float:
    """Two-sided p value: share of all sign patterns whose mean is at least as far from 0."""
    found = np.asarray(differences)
    signs = np.array(list(itertools.product((1, -1), repeat=len(found))))
    means = np.abs((signs * found).mean(axis=1))
    return float((means >= abs(found.mean()) - 1e-12).mean())


def numbers() -> str:
    """The table of the page."""
    rows = [
        {
            "ROC-AUC": f"{auc:.2f}",
            "95 % interval, 25 / 80 / 400 people of each class": " / ".join(
                f"±{half_width(auc, n):.2f}" for n in PEOPLE
            ),
            "sensitivity at 90 % specificity": f"{100 * sensitivity(auc):.0f} %",
            "of those called patients, ill, if 50 / 10 / 2 % are": " / ".join(
                f"{100 * right_when_positive(auc, share):.0f} %" for share in PREVALENCES
            ),
        }
        for auc in AUCS
    ]
    return pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)


@styled
def draw() -> None:
    """How far two groups overlap, how wide an interval is, and what a positive answer is worth."""
    figure = Drawing(figsize=(10.4, 4.1))
    overlap, width, worth = figure.subplots(1, 3, width_ratios=(1, 1.05, 1.15))
    _overlap(overlap)
    _width(width)
    _worth(worth)
    save(figure, PICTURE)


def _overlap(axes: Axes) -> None:
    score, height = np.linspace(-3.6, 5.9, 400), 0.58
    for place, auc in enumerate(reversed(AUCS)):
        base, cut = place * height, norm.ppf(SPECIFICITY)
        controls, patients = base + norm.pdf(score), base + norm.pdf(score, shift(auc))
        axes.fill_between(score, base, controls, color=PALE, alpha=0.7, linewidth=0)
        axes.plot(score, patients, color=COLOURS[auc])
        above = score >= cut
        axes.fill_between(score[above], base, patients[above], color=COLOURS[auc], alpha=0.45, linewidth=0)
        axes.plot([cut, cut], [base, base + 0.42], color="0.2", linewidth=1, linestyle="--")
        said = f"ROC-AUC {auc:.2f}\nfound: {100 * sensitivity(auc):.0f} %"
        axes.text(5.9, base + 0.49, said, color=COLOURS[auc], ha="right", va="top", fontsize="small")
    axes.set(title="What a ROC-AUC looks like", xlabel="score", yticks=[], xticks=[])
    axes.set(xlim=(-3.6, 6.0), ylim=(0, 3 * height + 0.08))
    axes.text(-3.5, 2 * height + 0.3, "grey:\ncontrols", color=GREY, fontsize="small", va="center")
    said = "90 % of the controls lie left of the line"
    axes.text(norm.ppf(SPECIFICITY), 2 * height + 0.53, said, fontsize="x-small", ha="center")
    axes.spines["left"].set_visible(False)


def _width(axes: Axes) -> None:
    people = np.geomspace(10, 1000, 200)
    for auc in AUCS:
        half = np.array([half_width(auc, n) for n in people])
        axes.fill_between(people, auc - half, np.minimum(1, auc + half), color=COLOURS[auc], alpha=0.25, linewidth=0)
        axes.axhline(auc, color=COLOURS[auc])
    axes.axhline(0.5, color=GREY, linestyle=":", linewidth=1)
    axes.text(1000, 0.505, "chance", color=GREY, fontsize="small", ha="right", va="bottom")
    axes.set(title="What a test can tell", xscale="log", xlabel="people of each class in the test", ylabel="ROC-AUC")
    axes.set(xlim=(10, 1000), ylim=(0.35, 1.0))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _worth(axes: Axes) -> None:
    share = np.geomspace(0.01, 0.5, 200)
    for auc in AUCS:
        right = [right_when_positive(auc, one) for one in share]
        axes.plot(share, right, color=COLOURS[auc], label=f"ROC-AUC {auc:.2f}")
    axes.plot(share, share, color=GREY, linestyle=":", linewidth=1, label="no test: the prevalence")
    axes.set(title="What a positive answer is worth", xscale="log", xlabel="prevalence of the disease in the clinic")
    axes.set(xlim=(0.01, 0.5), ylim=(0, 1), ylabel="ill, of those called patients (specificity 90 %)")
    axes.set_xticks([0.01, 0.02, 0.05, 0.1, 0.2, 0.5], minor=False)
    axes.minorticks_off()
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.legend(loc="upper left", fontsize="small")


if __name__ == "__main__":
    draw()
    sites = f"{len(DIFFERENCES)} sites: mean {np.mean(DIFFERENCES):+.3f}, p = {sign_flip(DIFFERENCES):.3f}"
    sys.stdout.write(f"{numbers()}\n\n{sites}\n")
