"""Pictures that a page holds in itself, as data URIs."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imsave
from numpy.typing import NDArray

from bundle.drawing import styled

Pixels = NDArray[np.uint8]
GREY = "0.6"


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
    figure.legend(loc="outside lower center", ncols=2, fontsize="small")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, facecolor=figure.get_facecolor())
    return data_uri(buffer.getvalue(), "image/png")
