import itertools

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import SpatialResample
from nilearn import datasets

from bundle.scans.grid import NEWER, REFERENCE, Grid, templates, to_grid
from bundle.scans.placement import (
    difference,
    grid_of,
    grids_of,
    grouped,
    in_words,
    is_only_moved,
    require_one_grid,
    write_regridded,
)
from bundle.scans.scan import read_scan

OFFSET = np.outer([87.75, -123.75, -69.75, 0], [0, 0, 0, 1])
RNG = np.random.default_rng(0)
SMALL = Grid.of((10, 12, 9), [[-3, 0, 0, 15], [0, 3, 0, -18], [0, 0, 3, -9], [0, 0, 0, 1]])


def turned(volume, affine, flips=(), order=(0, 1, 2)):
    """The same volume with axes flipped and exchanged, and its right affine."""
    steps = np.eye(4)[:, [*order, 3]]
    volume = volume.transpose(order)
    for axis in flips:
        move = np.eye(4)
        move[axis, axis], move[axis, 3] = -1, volume.shape[axis] - 1
        volume, steps = np.flip(volume, axis), steps @ move
    return np.ascontiguousarray(volume), affine @ steps


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
@pytest.mark.parametrize("flips", [(), (0,), (0, 2), (0, 1, 2)])
def test_a_volume_with_other_axes_comes_back_value_for_value(flips, order):
    volume = RNG.random(SMALL.shape).astype(np.float32)
    other, affine = turned(volume, SMALL.matrix, flips, order)
    assert np.array_equal(to_grid(other, affine, SMALL), volume)
    assert is_only_moved(Grid.of(other.shape, affine), SMALL)


def test_the_newer_box_of_cat12_is_the_older_one_with_a_border_of_zeros():
    inner = RNG.random(NEWER.shape).astype(np.float32)
    expected = np.pad(inner, ((4, 4), (4, 4), (0, 8)))
    assert expected.shape == REFERENCE.shape
    assert np.array_equal(to_grid(inner, NEWER.matrix, REFERENCE), expected)
    assert np.array_equal(to_grid(expected, REFERENCE.matrix, NEWER), inner)


def test_half_a_voxel_is_interpolated_and_far_away_is_empty():
    volume = RNG.random(SMALL.shape).astype(np.float32)
    half = SMALL.matrix
    half[0, 3] += 1.5
    between = to_grid(volume, half, SMALL)
    assert between[5, 6, 4] == pytest.approx((volume[5, 6, 4] + volume[6, 6, 4]) / 2, abs=1e-5)
    far = SMALL.matrix
    far[1, 3] += 300
    assert not to_grid(volume, far, SMALL).any()


def sampled(volume, affine, grid, parts):
    """Means of samples between eight voxels each, by loops; beyond the volume there is zero."""
    padded, found = np.pad(volume.astype(float), 1), np.zeros(grid.shape)
    steps = [(np.arange(k) + 0.5) / k - 0.5 for k in parts]
    for index in np.ndindex(grid.shape):
        for part in itertools.product(*steps):
            place = (np.linalg.inv(affine) @ grid.matrix @ [*(np.array(index) + part), 1])[:3]
            low = np.floor(place).astype(int)
            for corner in itertools.product((0, 1), repeat=3):
                weight = np.prod(np.where(corner, place - low, 1 - (place - low)))
                voxel = low + corner + 1
                if (voxel >= 0).all() and (voxel < padded.shape).all():
                    found[index] += weight * padded[tuple(voxel)] / np.prod(parts)
    return found


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
@pytest.mark.parametrize(("size", "parts"), [((6.6, 7.5, 9.0), (2, 2, 3)), ((1.7, 2.9, 4.0), (1, 1, 1))])
@pytest.mark.parametrize("askew", [0.0, 0.05])
def test_other_voxel_sizes_are_sampled_as_by_loops(order, size, parts, askew):
    """Where axes are parallel one after the other, elsewhere by MONAI, whose coordinates are float32."""
    volume, affine = turned(RNG.random(SMALL.shape).astype(np.float32), SMALL.matrix, (0,), order)
    matrix = np.diag([-size[0], size[1], size[2], 1.0])
    matrix[0, 1], matrix[:3, 3] = askew, (14.0, -17.0, -10.0)
    grid = Grid.of((4, 5, 3), matrix)
    expected = sampled(volume, affine, grid, parts)
    assert np.abs(to_grid(volume, affine, grid) - expected).max() < (1e-5 if askew else 5e-7)
    assert expected.max() > 0.1


@pytest.mark.parametrize("grid", [REFERENCE, Grid.of((40, 48, 40), np.diag([-4.5, 4.5, 4.5, 1]) + OFFSET)])
def test_the_brain_ends_where_it_ended_when_cards_were_measured(grid):
    """Signal is outside the brain where the mask is 0 to its last digit, as of MONAI's float32 coordinates."""
    image = datasets.load_mni152_brain_mask(resolution=1)
    source = MetaTensor(torch.as_tensor(image.get_fdata(dtype=np.float32))[None], affine=torch.as_tensor(image.affine))
    parts = 1 if grid is REFERENCE else 4
    fine = grid.matrix
    fine[:3, :3] /= parts
    fine[:3, 3] -= grid.matrix[:3, :3] @ np.full(3, (parts - 1) / (2 * parts))
    resample = SpatialResample(mode="bilinear", padding_mode="zeros", align_corners=True, dtype=np.float32)
    moved = resample(source, dst_affine=torch.as_tensor(fine), spatial_size=[n * parts for n in grid.shape])
    expected = torch.nn.functional.avg_pool3d(moved.as_tensor(), parts)[0].numpy()
    assert np.array_equal(templates(grid)["brain"], expected)


def images(folder):
    """One image on a grid, one mirrored, one moved, one of another voxel size, and an array of a known shape."""
    volume = RNG.random(SMALL.shape).astype(np.float32)
    flipped, flipped_affine = turned(volume, SMALL.matrix, (0,))
    moved = SMALL.matrix
    moved[2, 3] += 6
    coarse = SMALL.matrix
    coarse[:3, :3] *= 2
    made = {"usual": (volume, SMALL.matrix), "flipped": (flipped, flipped_affine)}
    made |= {"moved": (volume, moved), "coarse": (volume, coarse)}
    for name, (values, affine) in made.items():
        nib.save(nib.Nifti1Image(values, affine), folder / f"{name}.nii.gz")
    np.save(folder / "known.npy", np.zeros((1, 1, *NEWER.shape), np.float16))
    np.save(folder / "unknown.npy", volume)
    return [{"image": str(p)} for p in sorted(folder.iterdir())]


def test_grids_are_read_from_headers_and_told_in_words(tmp_path):
    records = {record["image"].rpartition("/")[2].split(".")[0]: record for record in images(tmp_path)}
    found = dict(zip(records, grids_of(list(records.values())), strict=True))
    assert found["usual"] == SMALL
    assert found["known"] == NEWER
    assert found["unknown"] is None
    assert grid_of(tmp_path / "known.npy") == NEWER
    assert difference(found["flipped"], SMALL) == (
        "its axes run towards right, anterior, superior, those of most images towards left, anterior, superior"
    )
    assert difference(found["moved"], SMALL) == "its first voxel lies 6.0 mm from that of most images"
    assert "10×12×9 voxels of 6×6×6 mm" in difference(found["coarse"], SMALL)
    assert [is_only_moved(found[n], SMALL) for n in ("flipped", "moved", "coarse")] == [True, True, False]
    assert in_words(SMALL).endswith("axes towards left, anterior, superior, first voxel at (15, -18, -9) mm")
    usual = next(iter(grouped([found["flipped"], found["usual"]])))
    assert usual == SMALL  # of equally many, the one with CAT12's axes


def test_several_grids_are_refused_with_what_can_be_done(tmp_path):
    records = {record["image"].rpartition("/")[2].split(".")[0]: record for record in images(tmp_path)}
    with pytest.raises(
        ValueError, match=r"The images of a\.json lie on 2 grids.*make the datalist with `cohort --regrid"
    ):
        require_one_grid([records["usual"], records["flipped"]], "a.json")
    with pytest.raises(ValueError, match="differ in size or are turned: preprocess all images in one way"):
        require_one_grid([records["usual"], records["coarse"]], "a.json")
    require_one_grid([records["usual"], records["usual"], records["unknown"]], "a.json")


def test_a_regridded_image_is_written_whole(tmp_path):
    images(tmp_path)
    write_regridded(tmp_path / "flipped.nii.gz", SMALL, tmp_path / "new" / "a.nii.gz")
    made, expected = (read_scan(tmp_path / name, SMALL) for name in ("new/a.nii.gz", "usual.nii.gz"))
    assert np.array_equal(made.volume, expected.volume)
    assert np.allclose(made.affine, SMALL.matrix)
