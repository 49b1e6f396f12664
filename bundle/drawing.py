"""How figures look: one style sheet, colours for colour-blind readers, and figures that a notebook shows."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib import rc_context, rc_params_from_file
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bundle.files import replacing

SHEET = Path(__file__).with_name("yaware.mplstyle")
STYLE = rc_params_from_file(SHEET, use_default_template=False)
styled = rc_context(STYLE)  # decorates what draws
# Okabe & Ito's colours; markers repeat the distinction in print.
BLUE, ORANGE, GREEN, PINK, YELLOW, SKY = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
COLOURS, MARKERS = (BLUE, ORANGE, GREEN, PINK, YELLOW, SKY), "os^DvP"
GREY, PALE = "0.45", "0.7"  # of references, and of levels such as chance
APART = 0.075  # of an axis' height, between two labels at the ends of lines


class Drawing(Figure):
    """A figure that Jupyter, and pages of documentation, show without pyplot.

    Example:
        >>> drawing = Drawing(figsize=(1, 1))
        >>> drawing._repr_html_()[:27]
        '<img alt="figure" width="10'
    """

    def _repr_html_(self) -> str:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        content = base64.b64encode(buffer.getvalue()).decode()
        said = html.escape(self.get_suptitle() or ", ".join(filter(None, (a.get_title() for a in self.axes))))
        width = round(100 * self.get_figwidth())
        return f'<img alt="{said or "figure"}" width="{width}" src="data:image/png;base64,{content}">'


class End(NamedTuple):
    """Where a line ends, and what is written there.

    Attributes:
        x: X of the end, in the unit of the axis.
        y: The same.
        text: Name of the line.
        colour: Colour of the line.
    """

    x: float
    y: float
    text: str
    colour: str


def label_ends(axes: Axes, ends: Sequence[End]) -> None:
    """Write the name of each line at its right end, one above the other where lines end side by side.

    Args:
        axes: Axes whose limits are final; the names stand to the right of the lines.
        ends: Ends of the lines.
    """
    low, high = axes.get_ylim()
    last = -1.0
    for end in sorted(ends, key=lambda one: one.y):
        last = max((end.y - low) / (high - low), last + APART)
        axes.annotate(
            end.text.replace("$", r"\$"), (end.x, end.y), (1.02, last), color=end.colour, fontsize="small", va="center",
            textcoords="axes fraction", annotation_clip=False,
        )  # fmt: skip


def save(figure: Figure, path: Path | None, **options: Any) -> Figure:
    """Write a figure atomically.

    Args:
        figure: The figure.
        path: The PNG; None: it is only handed on.
        options: Options of matplotlib's `savefig`.

    Returns:
        The same figure.
    """
    if path is not None:
        with replacing(path) as temporary:
            figure.savefig(temporary, **{"format": Path(path).suffix[1:] or "png", **options})
    return figure
