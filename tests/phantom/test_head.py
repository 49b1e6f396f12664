import numpy as np
import pytest

from bundle.phantom.head import SCALE, make_head
from bundle.scans.grid import Grid
from bundle.scans.nifti import PHANTOM, is_phantom


@pytest.fixture(scope="module")
def made():
    return make_head(4.0, seed=1)


def test_it_says_that_it_is_a_phantom_and_holds_one_volume(made, tmp_path):
    image, _ = made
    image.to_filename(tmp_path / "head.nii.gz")
    assert is_phantom(tmp_path / "head.nii.gz")
    assert bytes(image.header["descrip"].tobytes()).rstrip(b"\0") == PHANTOM
    assert image.ndim == 3
    np.testing.assert_allclose(image.header.get_zooms(), 4)
    assert 0.8 * SCALE < np.percentile(image.get_fdata(), 99) < 1.3 * SCALE


def test_the_same_seed_gives_the_same_head_and_another_another(made):
    image, truth = made
    again, _ = make_head(4.0, seed=1)
    np.testing.assert_array_equal(np.asarray(again.dataobj), np.asarray(image.dataobj))
    assert make_head(4.0, seed=2)[1].volumes["gm"] != truth.volumes["gm"]


def test_tissues_have_the_volumes_of_adults_and_add_up(made):
    _, truth = made
    assert 1200 < truth.volumes["tiv"] < 1800
    assert truth.volumes["tiv"] == pytest.approx(sum(truth.volumes[name] for name in ("gm", "wm", "csf")))
    assert 0.40 < truth.volumes["gm"] / truth.volumes["tiv"] < 0.55


def test_the_way_back_is_the_inverse(made):
    _, truth = made
    points = np.random.default_rng(0).uniform(-70, 70, (500, 3))
    np.testing.assert_allclose(truth.to_template(truth.to_head(points)), points, atol=1e-3)
    assert np.linalg.norm(truth.to_head(points) - points, axis=1).max() > 5


def test_the_ratio_of_volumes_is_the_derivative_of_the_way_back(made):
    _, truth = made
    points = np.random.default_rng(0).uniform(-60, 60, (50, 3))
    step = 0.01
    sides = [truth.to_head(points + step * axis) - truth.to_head(points - step * axis) for axis in np.eye(3)]
    expected = np.linalg.det(np.stack(sides, -1) / (2 * step))
    np.testing.assert_allclose(truth.volume_ratio(points), expected, rtol=2e-3)


def test_the_faultless_map_has_the_volume_of_the_head(made):
    coarse = Grid.of((61, 73, 61), [[-3, 0, 0, 90], [0, 3, 0, -126], [0, 0, 3, -72], [0, 0, 0, 1]])
    grey = made[1].grey_matter(coarse)
    assert float(grey.sum(dtype=float)) * coarse.voxel_ml == pytest.approx(made[1].volumes["gm"], rel=0.01)


@pytest.mark.parametrize("resolution", [0.1, 9.0])
def test_an_odd_resolution_is_refused(resolution):
    with pytest.raises(ValueError, match=r"expected 0\.5 to 4 mm"):
        make_head(resolution)
