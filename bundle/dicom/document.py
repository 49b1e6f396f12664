"""The page of a scan as a PDF: the content of the HTML page, for printers and archives."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from bundle.dicom import sentences
from bundle.dicom.answer import Answer, Chart, Region
from bundle.dicom.codes import plain
from bundle.dicom.equipment import RESEARCH
from bundle.extras import require

MARGIN, WIDTH = 14.0, 182.0  # mm, of A4
FONT = "DejaVu"  # has every sign of ours, and comes with matplotlib
INK, SOFT, LINE, BOX = (27, 31, 36), (87, 96, 106), (208, 215, 222), (246, 248, 250)
COLOURS = {"pass": (26, 107, 48), "warn": (138, 69, 0), "refuse": (161, 34, 27)}
GAP = 1.0  # mm between tiles
AXIAL = (105.0, 129.0)  # width and height of an axial tile, voxels; all tiles have one scale
LOCATORS = ((129.0, 109.0), (105.0, 109.0))  # of the sagittal and of the coronal tile


def document(answer: Answer) -> bytes:
    """The pages of an answer; the first line of each says that it is for research only.

    Args:
        answer: What the page says.

    Returns:
        A PDF.
    """
    pdf = _started(answer)
    _title(pdf, answer)
    _verdict(pdf, answer)
    _answer(pdf, answer)
    _brain(pdf, answer)
    _volumes(pdf, answer)
    _checks(pdf, answer.checks)
    _preparation(pdf, answer)
    _model(pdf, answer)
    return bytes(pdf.output())


def _started(answer: Answer) -> Any:
    """An empty document whose pages begin with the intended use and end with the name of the scan."""
    fpdf = require("fpdf", "Writing a PDF")

    class Pages(fpdf.FPDF):  # type: ignore[name-defined]
        """Pages with a line above and a line below."""

        def header(self) -> None:
            self.set_fill_color(*COLOURS["refuse"])
            self.set_text_color(255, 255, 255)
            self.set_font(FONT, "B", 9)
            self.cell(WIDTH, 7, RESEARCH, align="C", fill=True, new_x="LMARGIN", new_y="NEXT")
            self.set_text_color(*INK)
            self.ln(3)

        def footer(self) -> None:
            self.set_y(-12)
            self.set_font(FONT, "", 8)
            self.set_text_color(*SOFT)
            self.cell(WIDTH, 5, f"{answer.scan}: page {self.page_no()} of {{nb}}", align="C")
            self.set_text_color(*INK)

    pdf = Pages(format="A4")
    fonts = Path(str(files("matplotlib"))) / "mpl-data/fonts/ttf"
    pdf.add_font(FONT, "", fonts / "DejaVuSans.ttf")
    pdf.add_font(FONT, "B", fonts / "DejaVuSans-Bold.ttf")
    pdf.set_margins(MARGIN, 10, MARGIN)
    pdf.set_auto_page_break(True, 16)
    pdf.set_title(f"Research use only: {answer.scan}")
    pdf.set_lang("en")
    pdf.add_page()
    return pdf


def _title(pdf: Any, answer: Answer) -> None:
    _write(pdf, answer.scan, 15, "B")
    version = f", version {answer.model.version}" if answer.model.version else ""
    _write(pdf, f"Answer of the model {answer.model.name}{version}", 9, colour=SOFT)
    if answer.model.warning:
        _boxed(pdf, [f"The model is a demonstration. It was trained on this: {answer.model.warning}"], COLOURS["warn"])


def _verdict(pdf: Any, answer: Answer) -> None:
    """The verdict and its reasons, with a bar in its colour."""
    reasons = [f"• {reason}" for reason in answer.reasons]
    said = [f"{answer.verdict.upper()}: {sentences.verdict(answer)}", *reasons]
    _boxed(pdf, said, COLOURS[answer.verdict])


def _answer(pdf: Any, answer: Answer) -> None:
    _heading(pdf, "Answer")
    _write(pdf, sentences.headline(answer), 12, "B")
    for sentence in sentences.reading(answer):
        pdf.ln(1)
        _write(pdf, sentence)
    _charts(pdf, answer.charts)


def _charts(pdf: Any, charts: Sequence[Chart]) -> None:
    """Up to three pictures in a row, each over its caption."""
    if not charts:
        return
    width, height = (WIDTH - 8) / 3, 44.0
    _keep(pdf, height + 16)
    top, bottom = pdf.get_y() + 2, 0.0
    for column, chart in enumerate(charts[:3]):
        left = MARGIN + column * (width + 4)
        pdf.image(_decoded(chart.image), left, top, width, height, keep_aspect_ratio=True)
        pdf.set_xy(left, top + height)
        _write(pdf, chart.caption, 7.5, colour=SOFT, width=width)
        bottom = max(bottom, pdf.get_y())
    pdf.set_xy(MARGIN, bottom)


def _brain(pdf: Any, answer: Answer) -> None:
    """The slices of the page, black around them."""
    if not answer.brain:
        return
    shown = answer.attribution
    tiles, locators = answer.brain["tiles"], answer.brain["locators"]
    columns, rows = 6, -(-len(tiles) // 6)
    scale = (WIDTH - 2 * GAP - (columns + 1) * GAP) / (max(w for w, _ in LOCATORS) + columns * AXIAL[0])  # mm a voxel
    label = 4.0
    height = max(rows * (AXIAL[1] * scale + label), sum(h * scale + label for _, h in LOCATORS)) + 2 * GAP
    explanation = f"{shown.explanation} It is no map of the disease." if shown else ""
    _heading(pdf, "Where the network looks" if shown else "The scan", height + 30)
    if explanation:
        _write(pdf, explanation)
    _keep(pdf, height + 8)
    left, top = MARGIN + GAP, pdf.get_y() + GAP
    pdf.set_fill_color(0, 0, 0)
    pdf.rect(MARGIN, pdf.get_y(), WIDTH, height, style="F")
    y = top
    for tile, (w, h) in zip(locators, LOCATORS, strict=True):
        _tile(pdf, tile, tile["ends"], left, y, w * scale, h * scale)
        y += h * scale + label
    left += LOCATORS[0][0] * scale + GAP
    for place, tile in enumerate(tiles):
        row, column = divmod(place, columns)
        x, y = left + column * (AXIAL[0] * scale + GAP), top + row * (AXIAL[1] * scale + label)
        _tile(pdf, tile, "LR", x, y, AXIAL[0] * scale, AXIAL[1] * scale)
    pdf.set_xy(MARGIN, top + height)
    pdf.set_text_color(*INK)
    _bar(pdf, answer.brain.get("bar") or {})
    _write(pdf, _orientation(answer), 7.5, colour=SOFT)


def _orientation(answer: Answer) -> str:
    said = (
        "Neurological orientation: the left side of a picture is the left side of the person (L left, R right; P back, "
        "A front). The white bar is 30 mm long. Positions are MNI coordinates."
    )
    bar = answer.brain.get("bar") or {}
    return f"{said} Coloured are the {bar['share']} of the brain in which the map is strongest." if bar else said


def _tile(pdf: Any, tile: Mapping[str, str], ends: str, x: float, y: float, width: float, height: float) -> None:
    """A slice, its ends, and where it lies."""
    pdf.image(_decoded(tile["image"]), x, y, width, height)
    pdf.set_text_color(255, 255, 255)
    pdf.set_font(FONT, "B", 6.5)
    pdf.text(x + 0.5, y + 2.5, ends[0])
    pdf.text(x + width - 2.5, y + 2.5, ends[1])
    pdf.set_font(FONT, "", 6.5)
    pdf.set_xy(x, y + height)
    pdf.cell(width, 3.5, tile["label"], align="C")


def _bar(pdf: Any, bar: Mapping[str, str]) -> None:
    """The colours of the map and its unit."""
    if not bar:
        return
    pdf.set_font(FONT, "", 8)
    pdf.set_y(pdf.get_y() + 1)
    low, high = f"{bar['low']} ", f" {bar['high']}  {bar['unit']}"
    pdf.cell(pdf.get_string_width(low) + 2, 4, low)
    pdf.image(_decoded(bar["image"]), pdf.get_x(), pdf.get_y() + 0.5, 50, 3)
    pdf.set_x(pdf.get_x() + 51)
    pdf.cell(pdf.get_string_width(high) + 2, 4, high, new_x="LMARGIN", new_y="NEXT")


def _volumes(pdf: Any, answer: Answer) -> None:
    tissues = [
        (name, f"{answer.volumes[key]:,.0f} mL") for key, name in sentences.TISSUES.items() if key in answer.volumes
    ]
    if tissues:
        _heading(pdf, "Volumes")
        _table(pdf, ("tissue", "volume"), tissues, (60, 30), ("LEFT", "RIGHT"))
    if answer.regions:
        _heading(pdf, "Grey matter of regions")
        _write(pdf, "z: standard deviations from what is expected at that age, sex and head size.", 8, colour=SOFT)
        named = ("region", "left, mL", "left, z", "right, mL", "right, z", "both, mL", "both, z")
        rows = list(_region_rows(answer.regions))
        used = [i for i in range(len(named)) if any(row[i] for row in rows)]
        rows = [tuple(row[i] for i in used) for row in rows]
        alignment = ("LEFT", *["RIGHT"] * (len(used) - 1))
        _table(pdf, [named[i] for i in used], rows, (50, *[22] * (len(used) - 1)), alignment)


def _region_rows(regions: Sequence[Region]) -> Iterable[tuple[str, ...]]:
    """A row for each name: left, right, and what has no side."""
    for name in dict.fromkeys(region.name for region in regions):
        cells = [name.replace("_", " ")]
        for side in ("left", "right", ""):
            found = next((r for r in regions if r.name == name and r.side == side), None)
            z = None if found is None else found.z
            cells += [
                "" if found is None else f"{found.millilitres:.1f}",
                "" if z is None else f"{z:+.1f}".replace("-", "−"),
            ]
        yield tuple(cells)


def _checks(pdf: Any, checks: Sequence[Mapping[str, str]]) -> None:
    if not checks:
        return
    _heading(pdf, "What was checked")
    rows = [(c["name"], c["measured"], c["limit"], c["verdict"]) for c in checks]
    _table(pdf, ("check", "measured", "expected", "verdict"), rows, (45, 70, 47, 20))


def _preparation(pdf: Any, answer: Answer) -> None:
    made = answer.preparation
    if made is None:
        return
    _heading(pdf, "How the map was made")
    for sentence in sentences.preparation(answer):
        _write(pdf, sentence)
    rows = [(name, f"{value:.3g}") for name, value in made.measures.items()]
    if rows:
        _table(pdf, ("measure of quality control", "value"), rows, (80, 30), ("LEFT", "RIGHT"))


def _model(pdf: Any, answer: Answer) -> None:
    model = answer.model
    _heading(pdf, "The model, and what it is for")
    _write(pdf, RESEARCH, style="B")
    _write(pdf, sentences.limits(answer))
    rows = [
        ("intended use", model.intended_use),
        ("classes", " / ".join(model.classes)),
        *model.facts,
        ("model", model.name),
        ("version", model.version or "unknown"),
        ("SHA-256 of the weights", model.sha256),
    ]
    _table(pdf, (), rows, (45, 137))


def _heading(pdf: Any, text: str, room: float = 25.0) -> None:
    """A heading that stays with at least `room` mm of what follows."""
    _keep(pdf, room)
    pdf.ln(3)
    _write(pdf, text, 11, "B")
    pdf.set_draw_color(*LINE)
    pdf.line(MARGIN, pdf.get_y(), MARGIN + WIDTH, pdf.get_y())
    pdf.ln(1)


def _keep(pdf: Any, height: float) -> None:
    if pdf.will_page_break(height):
        pdf.add_page()


def _write(
    pdf: Any, text: str, size: float = 9, style: str = "", colour: Sequence[int] = INK, width: float = WIDTH
) -> None:
    pdf.set_font(FONT, style, size)
    pdf.set_text_color(*colour)
    pdf.multi_cell(width, size * 0.5, plain(text), align="L", new_x="LEFT", new_y="NEXT")
    pdf.set_text_color(*INK)


def _boxed(pdf: Any, paragraphs: Sequence[str], colour: Sequence[int]) -> None:
    """Paragraphs in a box with a bar at its left."""
    pdf.ln(2)
    top, page = pdf.get_y(), pdf.page
    pdf.set_left_margin(MARGIN + 4)
    pdf.set_x(MARGIN + 4)
    for number, paragraph in enumerate(paragraphs):
        _write(pdf, paragraph, 9, "" if number else "B", width=WIDTH - 5)
    pdf.set_left_margin(MARGIN)
    pdf.set_x(MARGIN)
    if pdf.page == page:
        pdf.set_fill_color(*colour)
        pdf.rect(MARGIN, top, 1.5, pdf.get_y() - top, style="F")


def _table(
    pdf: Any, names: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[float], alignment: Any = "LEFT"
) -> None:
    """A table with lines between its rows; its heading is repeated on every page."""
    fonts = require("fpdf.fonts", "Writing a PDF")
    pdf.set_font(FONT, "", 8)
    pdf.set_draw_color(*LINE)
    pdf.set_fill_color(255, 255, 255)
    with pdf.table(
        [[plain(cell) for cell in row] for row in ([names] if names else []) + list(rows)],
        width=sum(widths),
        col_widths=tuple(widths),
        align="LEFT",
        text_align=alignment,
        borders_layout="HORIZONTAL_LINES",
        first_row_as_headings=bool(names),
        headings_style=fonts.FontFace(emphasis="BOLD", fill_color=BOX),
        line_height=4.2,
        padding=(0.4, 1),
    ):
        pass


def _decoded(uri: str) -> io.BytesIO:
    """The bytes of a data URI."""
    return io.BytesIO(base64.b64decode(uri.partition(",")[2]))
