"""What is drawn of brains whose truth is known: a bright ball at a known place, on either order of the x axis."""

import base64
import io

import numpy as np
import pytest
from matplotlib.image import imread

from bundle.prediction import slices
from bundle.prediction.slices import GRID, HEIGHTS, Overlay, drawn
from bundle.scans.grid import REFERENCE, Grid, templates

PLACE = (39.0, -60.0, 24.0)  # mm: right, back, up
BRAIN = templates(GRID)["brain"] > 0.5


def ball(grid, centre=PLACE, radius=9):
    """1 inside a ball."""
    mm = np.einsum("ij,jxyz->ixyz", grid.matrix, np.concatenate([np.indices(grid.shape), np.ones((1, *grid.shape))]))
    return (np.square(mm[:3] - np.reshape(centre, (3, 1, 1, 1))).sum(0) < radius**2).astype(np.float32)


def picture(uri):
    assert uri.startswith("data:image/webp;base64,")
    return imread(io.BytesIO(base64.b64decode(uri.partition(",")[2])), format="webp")


def middle(image):
    """Centre of the brightest pixels, from the left and from the top, without the scale bar."""
    rows, columns = np.nonzero(image[:-6].max(-1) > 200)
    return columns.mean(), rows.mean()


@pytest.mark.parametrize("grid", [REFERENCE, GRID], ids=["x falls", "x grows"])
def test_left_is_left_and_the_picture_is_where_its_label_says(grid):
    found = drawn(ball(grid), grid.matrix, None)
    at = dict(zip((f"z = {z} mm".replace("-", "−") for z in HEIGHTS), found["tiles"], strict=True))
    assert [tile["label"] for tile in found["tiles"]] == list(at)
    x, y = middle(picture(at["z = 24 mm"]["image"]))
    assert abs(x - (39 + 78) / 1.5) < 1  # right of the middle
    assert abs(y - (81 + 60) / 1.5) < 1  # the front is above
    assert picture(at["z = −48 mm"]["image"])[:-6].max() < 60


def test_a_map_is_drawn_in_the_brain_alone_and_in_its_unit():
    found = np.full(REFERENCE.shape, -0.001, np.float32) + 0.021 * ball(REFERENCE)
    overlay = Overlay.of(found, REFERENCE, "percentage points", 100.0)
    assert np.isclose(overlay.strongest, 2.0, atol=0.01)
    assert not overlay.values[~BRAIN].any()
    assert not overlay.is_coloured[~BRAIN].any()
    assert np.allclose(overlay.place, PLACE, atol=1.5)
    assert overlay.is_signed
    assert np.isclose(Overlay.of(7 * found, REFERENCE, "arbitrary", None).strongest, 100)


def test_the_strongest_tenth_is_coloured():
    found = np.random.default_rng(0).normal(size=GRID.shape).astype(np.float32)
    overlay = Overlay.of(found, GRID, "unit", 1.0)
    assert np.isclose(overlay.is_coloured[BRAIN].mean(), 0.1, atol=0.002)
    weakest = np.abs(overlay.values[overlay.is_coloured]).min()
    assert weakest >= np.abs(overlay.values[BRAIN & ~overlay.is_coloured]).max()
    alpha = overlay.colours(overlay.values)[..., 3]
    assert np.array_equal(alpha > 0, overlay.is_coloured)
    assert alpha.max() < 255, "anatomy shows through"


def test_a_map_without_values_and_one_with_a_plateau():
    assert not Overlay.of(np.zeros(GRID.shape, np.float32), GRID, "unit", None).is_coloured.any()
    half = np.where(np.arange(GRID.shape[0])[:, None, None] > 52, 3.0, 0.0) + np.zeros(GRID.shape)
    plateau = Overlay.of(half.astype(np.float32), GRID, "unit", 1.0)
    assert np.array_equal(plateau.is_coloured, BRAIN & (half > 0))
    share = float(drawn(ball(GRID), GRID.matrix, plateau)["bar"]["share"].removesuffix(" %"))
    assert abs(share - 100 * plateau.is_coloured[BRAIN].mean()) < 1, "the page says how much is coloured"


def test_warm_speaks_for_and_cold_against():
    values = np.array([2.0, -2.0, 0.5], np.float32)
    red, _, blue, alpha = Overlay(values, "unit", 1.0, 2.0).colours(values).T.astype(int)
    assert red[0] > blue[0]
    assert blue[1] > red[1]
    assert alpha.tolist() == [166, 166, 0]


@pytest.mark.parametrize(("low", "ends"), [(-0.004, ("−0.8", "+0.8")), (0.0, ("0", "0.8"))])
def test_the_bar_says_its_ends_and_its_unit(low, ends):
    found = ball(GRID) * 0.008 + low * ball(GRID, (-39.0, -60.0, 24.0))
    bar = drawn(ball(GRID), GRID.matrix, Overlay.of(found, GRID, "percentage points", 100.0))["bar"]
    assert (bar["low"], bar["high"]) == ends
    assert bar["unit"] == "percentage points"
    assert [slices._digits(v) for v in (100.0, 0.00123, 1.26e-7, 12.0)] == ["100", "0.0012", "0.00000013", "12"]


def test_the_sheet_of_the_viewer_holds_every_voxel():
    found = np.random.default_rng(0).normal(size=GRID.shape).astype(np.float32)
    overlay = Overlay.of(found, GRID, "unit", 1.0)
    sheet, (nx, ny, nz) = picture(drawn(ball(GRID), GRID.matrix, overlay)["viewer"]["map"]), GRID.shape
    for z in (0, 37, nz - 1):
        row, column = divmod(z, slices.SPRITE_COLUMNS)
        tile = sheet[row * ny : (row + 1) * ny, column * nx : (column + 1) * nx]
        assert np.array_equal(tile, overlay.colours(overlay.values[:, :, z]).swapaxes(0, 1)[::-1])


def test_an_empty_scan_is_black():
    assert max(picture(tile["image"])[:-6].max() for tile in drawn(np.zeros(GRID.shape), np.eye(4), None)["tiles"]) < 9


def test_the_grid_of_pictures_is_a_part_of_the_grid_of_scans():
    corner = np.linalg.inv(REFERENCE.matrix) @ [*GRID.matrix[:3, 3], 1]
    assert np.allclose(corner, corner.round())
    assert isinstance(GRID, Grid)
