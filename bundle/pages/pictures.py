"""Pictures that a page holds in itself, as data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave
from numpy.typing import NDArray

from bundle.drawing import styled

Pixels = NDArray[np.uint8]
Marks = Callable[[Axes], Sequence[Artist]]  # draws some and says which
GREY = "0.6"
DPI = 110


def webp(picture: Pixels, **encoding: Any) -> str:
    """A WebP, as small as JPEG and with transparency, as a data URI.

    Args:
        picture: RGB or RGBA.
        encoding: Pillow's options, such as `quality`.

    Shape:
        picture (H, W, 3 or 4).
    """
    return data_uri(webp_file(picture, **encoding), "image/webp")


def webp_file(picture: Pixels, **encoding: Any) -> bytes:
    """The same as the content of a file."""
    buffer = io.BytesIO()
    imsave(buffer, np.ascontiguousarray(picture), format="webp", pil_kwargs=encoding)
    return buffer.getvalue()


def data_uri(content: bytes, kind: str) -> str:
    """A file as part of a page.

    Args:
        content: Content of the file.
        kind: Its media type, such as `image/png`.
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


@styled
def chart(width: float = 4.2, height: float = 3.1) -> tuple[Figure, Axes]:
    """An empty chart, to be drawn in and given to `finished`.

    Args:
        width: Inches.
        height: Inches.
    """
    figure = Figure(figsize=(width, height))
    return figure, figure.subplots()


@styled
def finished(figure: Figure) -> str:
    """A chart as a PNG in a data URI; its legend stands below, where it covers nothing."""
    _add_legend(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, facecolor=figure.get_facecolor())
    return data_uri(buffer.getvalue(), "image/png")


class Backdrop:
    """A chart that is drawn once, for many pictures that differ by a few marks inside its axes.

    To lay a chart out and to draw its texts takes ten times as long as to draw marks over it.

    Args:
        figure: A chart with everything that all pictures show.
        axes: Its axes, whose limits stay as they are from now on.
        marks: Marks of one picture, which the legend names and the axes have room for; they are taken away again.
    """

    def __init__(self, figure: Figure, axes: Axes, marks: Marks) -> None:
        drawn = marks(axes)
        _add_legend(figure)
        axes.axis((*axes.get_xlim(), *axes.get_ylim()))
        for mark in drawn:
            mark.remove()
        for spine in axes.spines.values():
            spine.set_animated(True)  # drawn over the marks, and only there
        figure.set_dpi(DPI)
        self.axes, self.canvas = axes, FigureCanvasAgg(figure)
        self.canvas.draw()
        self.empty = self.canvas.copy_from_bbox(figure.bbox)

    def picture(self, marks: Marks) -> str:
        """The chart with marks over it, as a PNG in a data URI.

        Args:
            marks: Marks of the picture.
        """
        self.canvas.restore_region(self.empty)
        drawn = marks(self.axes)
        for artist in (*drawn, *self.axes.spines.values()):
            self.axes.draw_artist(artist)
        for mark in drawn:
            mark.remove()
        buffer = io.BytesIO()
        imsave(buffer, np.asarray(self.canvas.buffer_rgba()), format="png", dpi=DPI)
        return data_uri(buffer.getvalue(), "image/png")


def _add_legend(figure: Figure) -> None:
    figure.legend(loc="outside lower center", ncols=2, fontsize="small")
