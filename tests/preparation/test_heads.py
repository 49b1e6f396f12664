import nibabel as nib
import numpy as np
import pytest

from bundle.preparation.heads import check_head, check_image, open_head
from bundle.scans.grid import NEWER, REFERENCE
from bundle.scans.nifti import VolumeError


def head(shape=(64, 72, 60), size=3.0, low=0.0, high=900.0):
    """Noise of the size of a head."""
    values = np.random.default_rng(0).uniform(low, high, shape).astype(np.float32)
    return values, np.diag([*np.broadcast_to(size, 3), 1.0])


def hounsfield():
    values, affine = head(low=-100, high=80)
    values[:20] = -1000
    return values, affine


def with_value(value, where=np.s_[3, 4, 5]):
    values, affine = head()
    values[where] = value
    return values, affine


REFUSED = {
    "4D series": (head((64, 72, 60, 7)), "holds 7 volumes"),
    "one slice": (head((64, 72, 1)), "localiser"),
    "thick slices": (head((180, 200, 32), (1.0, 1.0, 5.0)), r"1×1×5 mm, expected at most 3 mm"),
    "wrong voxel size": (head(size=0.3), "covers"),
    "much too large": (head((181, 64, 64), 3.0), "covers 543"),
    "constant": (with_value(7.0, np.s_[:]), "7 in every voxel"),
    "NaN": (with_value(np.nan), "1 of 276480 voxels (that )?are NaN"),
    "CT": (hounsfield(), "Hounsfield"),
    "map": ((head(REFERENCE.shape, high=1.4)[0], REFERENCE.matrix), "already a grey-matter map"),
    "smaller map": ((head(NEWER.shape, high=1.4)[0], NEWER.matrix), "already a grey-matter map"),
    "map that lost its place": (head(REFERENCE.shape, 1.5, high=1.4), "already a grey-matter map"),
    "warped head": ((head(REFERENCE.shape)[0], REFERENCE.matrix), "has lost its volumes"),
}


@pytest.mark.parametrize(("given", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_head_is_refused_in_memory(given, words):
    values, affine = given
    with pytest.raises(VolumeError, match=words):
        check_image(nib.Nifti1Image(values, affine))


def test_voxels_without_a_size_are_refused():
    with pytest.raises(VolumeError, match="not invertible"):
        check_head(head()[0], np.diag([3.0, 3.0, 0.0, 1.0]))


@pytest.mark.parametrize("kind", ["4D series", "NaN", "CT", "map", "thick slices"])
def test_what_is_no_head_is_refused_on_disk_and_the_file_named(tmp_path, kind):
    values, affine = REFUSED[kind][0]
    nib.save(nib.Nifti1Image(values, affine), tmp_path / "scan.nii")
    with pytest.raises(VolumeError, match=r"^scan\.nii: .*\.$"):
        open_head(tmp_path / "scan.nii")


def test_a_map_is_known_by_its_name_on_any_grid(tmp_path):
    values, affine = head(high=1.4)
    for name, refused in (("mwp1sub-01.nii", True), ("sub-01_T1w.nii", False)):
        nib.save(nib.Nifti1Image(values, affine), tmp_path / name)
        if refused:
            with pytest.raises(VolumeError, match="predict"):
                open_head(tmp_path / name)
        else:
            assert open_head(tmp_path / name).shape == values.shape


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("nowhere.nii", None, "does not exist"),
        ("empty.nii.gz", b"", "empty"),
        ("text.nii", b"not an image" * 99, "begins like no NIfTI"),
        ("array.npy", b"x", "without an affine"),
        ("scan.dcm", b"x", "ends in '.dcm'"),
    ],
)
def test_what_is_no_image_is_refused(tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(VolumeError, match=words):
        open_head(tmp_path / name)


def test_a_head_keeps_its_values_and_place_and_is_turned_to_the_usual_axes(tmp_path):
    values, affine = head()
    affine[0, 0] *= -1
    nib.save(nib.Nifti1Image(values, affine), tmp_path / "sub-01.nii.gz")
    image = open_head(tmp_path / "sub-01.nii.gz")
    np.testing.assert_array_equal(image.get_fdata(dtype=np.float32), values)
    np.testing.assert_allclose(image.affine, affine)
    turned, place = check_image(image)
    np.testing.assert_array_equal(turned, values[::-1])
    assert (np.diag(place) > 0).all()
    np.testing.assert_allclose(place @ [0, 0, 0, 1], affine @ [len(values) - 1, 0, 0, 1])


def test_one_volume_in_four_dimensions_is_a_head():
    values, affine = head()
    np.testing.assert_array_equal(check_image(nib.Nifti1Image(values[..., None], affine))[0], values)
