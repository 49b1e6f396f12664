import nibabel as nib
import numpy as np
import pytest
from nilearn.datasets import fetch_coords_seitzman_2018
from nilearn.image import resample_img

from bundle.scans.grid import Grid, templates
from bundle.scans.parcels import brain_on, grown_parcels, parcels_on, read_parcels

COARSE = Grid.of((40, 48, 40), [[-4.5, 0, 0, 87.75], [0, 4.5, 0, -123.75], [0, 0, 4.5, -69.75], [0, 0, 0, 1]])
MIRRORED = Grid.of((40, 48, 40), [[4.5, 0, 0, -87.75], [0, 4.5, 0, -123.75], [0, 0, 4.5, -69.75], [0, 0, 0, 1]])
ELSEWHERE = Grid.of((10, 10, 10), [[2, 0, 0, 400], [0, 2, 0, 400], [0, 0, 2, 400], [0, 0, 0, 1]])


def write_atlas(path, labels, affine, dtype=np.int16):
    nib.save(nib.Nifti1Image(labels.astype(dtype), affine), path)
    return path


def blocks():
    """A file of labels on a grid of its own: other voxels, other axes."""
    affine = np.array([[0, 3.0, 0, -90], [3.0, 0, 0, -126], [0, 0, 3.0, -72], [0, 0, 0, 1]])
    labels = np.zeros((73, 61, 61), np.int16)
    labels[20:40, 10:25, 20:40], labels[20:40, 35:50, 20:40], labels[45:60, 20:40, 20:40] = 3, 17, 900
    return labels, affine


@pytest.mark.parametrize("grid", [COARSE, MIRRORED])
def test_a_voxel_belongs_to_the_nearest_centre_within_reach_in_grey_matter(grid):
    parcels, atlas = grown_parcels(grid), fetch_coords_seitzman_2018()
    centres, grey = atlas.rois[["x", "y", "z"]].to_numpy(), templates(grid)["grey matter"]
    assert parcels.labels.shape == grid.shape
    for index in np.random.default_rng(0).permutation(np.argwhere(grey > 0.05))[:300]:
        away = np.linalg.norm((grid.matrix @ [*index, 1])[:3] - centres, axis=1)
        number = parcels.labels[tuple(index)]
        if grey[tuple(index)] <= 0.2 or away.min() > 25:
            assert number == 0
        else:
            k = away.argmin()
            assert parcels.names[number - 1] == f"{atlas.networks[k]} {atlas.regions[k]} {k + 1}"


def test_almost_every_centre_has_a_parcel_and_every_parcel_a_voxel():
    parcels = grown_parcels(COARSE)
    assert len(parcels.names) > 290
    assert np.bincount(parcels.labels.ravel(), minlength=len(parcels.names) + 1).min() > 0
    assert parcels.labels.max() == len(parcels.names)


def test_left_is_left():
    parcels = grown_parcels(COARSE)
    x = COARSE.matrix[0, 0] * np.arange(40) + COARSE.matrix[0, 3]
    sides = {"cortexL": [], "cortexR": []}
    for number, name in enumerate(parcels.names, 1):
        if (side := name.split()[1]) in sides:
            sides[side].append(((parcels.labels == number).sum((1, 2)) @ x) / (parcels.labels == number).sum())
    assert np.mean(sides["cortexL"]) < -20
    assert np.mean(sides["cortexR"]) > 20


@pytest.mark.parametrize("grid", [COARSE, MIRRORED])
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_a_file_is_brought_onto_the_grid_by_the_nearest_voxel(tmp_path, grid, dtype):
    labels, affine = blocks()
    parcels = parcels_on(grid, write_atlas(tmp_path / f"{dtype.__name__}.nii.gz", labels, affine, dtype))
    image = nib.Nifti1Image(labels.astype(np.float32), affine)
    options = {"interpolation": "nearest", "force_resample": True, "copy_header": True}
    expected = resample_img(image, grid.matrix, grid.shape, **options).get_fdata()
    assert parcels.names == ("region 3", "region 17", "region 900")
    named = np.array([0, 3, 17, 900])[parcels.labels]
    assert (named == expected).mean() > 0.999  # a voxel midway between two is either's
    assert (named > 0).sum() > 1000


def test_a_region_without_a_voxel_is_left_out_with_a_sentence(tmp_path, caplog):
    labels, affine = blocks()
    labels[0, 0, 0] = 5
    parcels = read_parcels(write_atlas(tmp_path / "a.nii", labels, affine), COARSE)
    assert parcels.names == ("region 3", "region 17", "region 900")
    assert set(np.unique(parcels.labels)) == {0, 1, 2, 3}
    assert "1 region(s) of the atlas" in caplog.text
    assert "'region 5' are left out" in caplog.text


def spoilt(labels, kind):
    if kind == "no whole numbers":
        return labels * 0.5, np.float32
    if kind == "negative":
        return -labels, np.int16
    return np.where(labels == 3, 3, 0), np.int16


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("no whole numbers", "holds 1.5, expected whole numbers from 0"),
        ("negative", "holds -900, expected whole numbers from 0"),
        ("one region", "has 1 region, expected at least 2"),
    ],
)
def test_what_is_no_atlas_is_refused(tmp_path, kind, reason):
    labels, affine = blocks()
    values, dtype = spoilt(labels, kind)
    with pytest.raises(ValueError, match=reason):
        read_parcels(write_atlas(tmp_path / "a.nii", values, affine, dtype), COARSE)


def test_an_atlas_that_lies_elsewhere_is_refused(tmp_path):
    labels, affine = blocks()
    path = write_atlas(tmp_path / "a.nii", labels, affine)
    with pytest.raises(ValueError, match=r"0 region\(s\) of 3 have a voxel where the images lie \(10×10×10 voxels"):
        read_parcels(path, ELSEWHERE)
    with pytest.raises(ValueError, match="expected at least 2"):
        grown_parcels(ELSEWHERE)


def test_a_file_that_cannot_be_placed_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(COARSE.shape))
    with pytest.raises(ValueError, match="is an array, of which nothing says where it lies"):
        parcels_on(COARSE, tmp_path / "a.npy")
    with pytest.raises(ValueError, match=r"nowhere.nii cannot be used: The file does not exist"):
        parcels_on(COARSE, tmp_path / "nowhere.nii")
    image = nib.Nifti1Image(blocks()[0], None)
    image.header["pixdim"][1:4] = 3
    nib.save(image, tmp_path / "unplaced.nii")
    with pytest.raises(ValueError, match="neither sform nor qform"):
        parcels_on(COARSE, tmp_path / "unplaced.nii")


def test_the_brain_is_the_template_s_or_a_file_s(tmp_path):
    inside = brain_on(COARSE)
    assert 1.5e6 < inside.sum() * 4.5**3 < 2.2e6  # mm³
    labels, affine = blocks()
    path = write_atlas(tmp_path / "m.nii", labels, affine)
    assert np.array_equal(brain_on(COARSE, path), parcels_on(COARSE, path).labels > 0)
    with pytest.raises(ValueError, match=r"The mask .*m.nii has no voxel where the images lie"):
        brain_on(ELSEWHERE, path)
