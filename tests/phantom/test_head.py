import numpy as np
import pytest

from bundle.phantom.head import SCALE, SOURCE, make_head
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


def test_volumes_are_those_of_the_template_times_the_ratio(made):
    """Monte Carlo over the template's box: where a point is grey matter, it counts with the head's volume there."""
    from bundle.phantom.head import _tissues

    _, truth = made
    rng = np.random.default_rng(0)
    drawn = np.stack([rng.integers(0, n, 60_000) for n in SOURCE.shape], 1)
    grey = _tissues()["gm"][tuple(drawn.T)]
    points = drawn @ SOURCE.matrix[:3, :3].T + SOURCE.matrix[:3, 3]
    total = float((grey * truth.volume_ratio(points)).mean()) * np.prod(SOURCE.shape) / 1000
    assert total == pytest.approx(truth.volumes["gm"], rel=0.03)


@pytest.mark.parametrize("resolution", [0.1, 9.0])
def test_an_odd_resolution_is_refused(resolution):
    with pytest.raises(ValueError, match=r"expected 0\.5 to 4 mm"):
        make_head(resolution)
