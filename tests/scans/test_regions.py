import numpy as np
import pytest

from bundle.phantom import tables
from bundle.scans.grid import NEWER, REFERENCE, Grid, templates, to_grid
from bundle.scans.regions import ELLIPSOIDS, REGIONS, region_and_side, region_weights, regional_volumes

COARSE = Grid.of((40, 48, 40), [[-4.5, 0, 0, 87.75], [0, 4.5, 0, -123.75], [0, 0, 4.5, -69.75], [0, 0, 0, 1]])
MIRRORED = Grid.of((40, 48, 40), [[4.5, 0, 0, -87.75], [0, 4.5, 0, -123.75], [0, 0, 4.5, -69.75], [0, 0, 0, 1]])


def naive_weights(grid, index):
    """Membership of one voxel, region by region, by the equation."""
    x, y, z = (grid.matrix @ [*index, 1])[:3]
    inside = []
    for sign in (-1, 1):
        for shape in ELLIPSOIDS.values():
            away = (np.array([sign * x, y, z]) - shape.centre) / shape.radii
            inside.append(1 / (1 + np.exp(7 * (np.sqrt(away @ away) - 1))))
    inside = np.array(inside)
    inside[inside < 0.001] = 0
    inside /= max(1.0, inside.sum())
    return [*inside, 1 - inside.sum()]


def test_there_are_35_regions_and_the_phantom_has_the_same():
    assert len(REGIONS) == 35
    assert tuple(tables.REGIONS) == tuple(ELLIPSOIDS)


@pytest.mark.parametrize("grid", [COARSE, MIRRORED])
def test_memberships_are_those_of_the_equation(grid):
    weights = region_weights(grid).toarray().reshape(35, *grid.shape)
    grey = templates(grid)["grey matter"] > 0.05
    for index in np.random.default_rng(0).permutation(np.argwhere(grey))[:40]:
        assert weights[(slice(None), *index)] == pytest.approx(naive_weights(grid, index), abs=2e-3)
    assert weights.sum(0)[grey] == pytest.approx(1, abs=1e-5)
    assert not weights[:, ~grey].any()


def test_left_is_left():
    weights = region_weights(COARSE).toarray().reshape(35, *COARSE.shape)
    x = COARSE.matrix[0, 0] * np.arange(40) + COARSE.matrix[0, 3]
    for name, own in zip(REGIONS[:-1], weights, strict=False):
        middle = (own.sum((1, 2)) @ x) / own.sum()
        assert middle < -5 if name.endswith("_left") else middle > 5


def test_millilitres_do_not_depend_on_how_the_voxels_lie():
    grey = templates(REFERENCE)["grey matter"]
    whole = regional_volumes(grey, REFERENCE)
    assert whole.sum() == pytest.approx(grey[grey > 0.05].sum() * 1.5**3 / 1000, rel=1e-5)
    assert regional_volumes(to_grid(grey, REFERENCE.matrix, NEWER), NEWER) == pytest.approx(whole, rel=0.01)
    for grid in (COARSE, MIRRORED):
        assert regional_volumes(to_grid(grey, REFERENCE.matrix, grid), grid) == pytest.approx(whole, rel=0.06)
    assert 2 < whole[REGIONS.index("hippocampus_left")] < 8


def test_a_region_that_loses_a_tenth_loses_a_tenth_of_its_volume():
    grey, number = templates(COARSE)["grey matter"], REGIONS.index("hippocampus_right")
    own = region_weights(COARSE)[[number]].toarray().reshape(COARSE.shape)
    before, after = (regional_volumes(v, COARSE) for v in (grey, grey * (1 - 0.1 * (own > 0))))
    assert after[number] / before[number] == pytest.approx(0.9)
    assert after[REGIONS.index("hippocampus_left")] == before[REGIONS.index("hippocampus_left")]


def test_names_are_words_and_sides():
    assert len({region_and_side(name) for name in REGIONS}) == 35
    assert region_and_side("pars_opercularis_right") == ("pars opercularis", "right")
