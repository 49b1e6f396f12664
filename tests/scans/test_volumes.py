"""Image files: which belong to which row, and what makes one unusable."""

import doctest
import gzip

import nibabel as nib
import numpy as np
import pytest

from bundle.cohort.patterns import expand_pattern, find_images
from bundle.scans import nifti, volumes
from bundle.scans.volumes import VolumeError, checked_volume, read_volume, volume_fault, volume_faults

SHAPE = (5, 6, 7)


def noise(shape=SHAPE, dtype=np.float32):
    return (np.random.default_rng(0).random(shape) * 100).astype(dtype)


def save(path, volume):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, volume)
    else:
        nib.save(nib.Nifti1Image(volume, np.eye(4)), path)
    return path


def test_the_examples_in_the_docstrings_run():
    assert doctest.testmod(volumes).failed == 0


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.npy"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [SHAPE, (1, 1, *SHAPE), (*SHAPE, 1)])
def test_three_formats_are_read_and_squeezed(tmp_path, name, dtype, shape):
    path = save(tmp_path / name, noise(shape, dtype))
    assert volume_fault(path, SHAPE) is None
    np.testing.assert_array_equal(read_volume(path, SHAPE), noise(shape, dtype).reshape(SHAPE))


def test_the_scaling_of_a_nifti_is_applied(tmp_path):
    image = nib.Nifti1Image(noise(dtype=np.uint8), np.eye(4))
    image.header.set_slope_inter(0.01, 1)
    nib.save(image, tmp_path / "a.nii.gz")
    stored = np.asarray(nib.load(tmp_path / "a.nii.gz").dataobj)
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii.gz"), stored)


@pytest.mark.parametrize(
    ("volume", "sentence"),
    [
        (noise((7, 6, 5)), "has 7×6×5 voxels, expected 5×6×7. If all images have this size"),
        (noise((*SHAPE, 3)), "holds several volumes (shape 5×6×7×3)"),
        (noise((5, 6)), "has shape 5×6, expected a 3D map"),
        (np.zeros(SHAPE, np.float32), "is constant (every voxel is 0)"),
        (np.where(noise() > 99, np.nan, noise()), "NaN or infinite voxels of 210"),
        (np.where(noise() > 99, -np.inf, noise()), "NaN or infinite voxels of 210"),
        (noise(dtype=np.complex64), "holds values of type complex64"),
    ],
)
@pytest.mark.parametrize("name", ["a.nii.gz", "a.npy"])
def test_unusable_volumes_are_refused_in_a_sentence(tmp_path, name, volume, sentence):
    if name.endswith(".gz") and volume.ndim == 2:
        volume = volume[..., None]
        sentence = "has 5×6×1 voxels"
    assert sentence in volume_fault(save(tmp_path / name, volume), SHAPE)


def test_any_3d_shape_is_accepted_when_none_is_expected(tmp_path):
    assert volume_fault(save(tmp_path / "a.npy", noise((3, 4, 5)))) is None
    assert "expected a 3D map" in volume_fault(save(tmp_path / "b.npy", noise((0, 4, 5))))


@pytest.mark.parametrize("keep", [0, 50, 0.5, -4])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.npy"])
def test_truncated_files_are_refused(tmp_path, name, keep):
    content = save(tmp_path / name, noise()).read_bytes()
    end = int(keep * len(content)) if isinstance(keep, float) else keep
    (tmp_path / name).write_bytes(content[:end])
    assert "copy or convert it again" in volume_fault(tmp_path / name, SHAPE)


def test_a_flipped_bit_is_found_by_the_checksum(tmp_path):
    content = bytearray(save(tmp_path / "a.nii", noise()).read_bytes())
    packed = bytearray(gzip.compress(bytes(content), compresslevel=0))
    packed[-100] ^= 1  # stored uncompressed: only the checksum can tell
    (tmp_path / "a.nii.gz").write_bytes(packed)
    assert "CRC" in volume_fault(tmp_path / "a.nii.gz", SHAPE)


def with_scaling(volume, slope, inter, order="<"):
    header = nib.Nifti1Header(endianness=order)
    header.set_data_dtype(volume.dtype.newbyteorder(order))
    image = nib.Nifti1Image(volume, np.eye(4), header)
    content = bytearray(image.to_bytes())
    content[112:120] = np.array([slope, inter], dtype=f"{order}f4").tobytes()
    return bytes(content)


def with_extension(volume):
    image = nib.Nifti1Image(volume, np.eye(4))
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"x" * 3000))
    return image.to_bytes()


def one_voxel(value):
    volume = noise()
    volume[4, 5, 6] = value
    return nib.Nifti1Image(volume, np.eye(4)).to_bytes()


GOOD = nib.Nifti1Image(noise(), np.eye(4)).to_bytes()
NUMBERS = noise(dtype=np.int16)
PACKED = {  # content of a .nii.gz file: whether it can be used
    "as it is": (gzip.compress(GOOD), True),
    "in two members": (gzip.compress(GOOD[:900]) + gzip.compress(GOOD[900:]), True),
    "padded": (gzip.compress(GOOD) + bytes(64), True),
    "followed by other bytes": (gzip.compress(GOOD) + b"other", False),
    "with a footer": (gzip.compress(GOOD + bytes(5000)), True),
    "with too much behind": (gzip.compress(GOOD + bytes(2 << 20)), False),
    "a voxel short": (gzip.compress(GOOD[:-4]), False),
    "cut": (gzip.compress(GOOD)[:-9], False),
    "with a wrong checksum": (gzip.compress(GOOD)[:-8] + bytes(8), False),
    "with an extension": (gzip.compress(with_extension(noise())), True),
    "NaN": (gzip.compress(one_voxel(np.nan)), False),
    "infinite": (gzip.compress(one_voxel(np.inf)), False),
    "below everything": (gzip.compress(one_voxel(-np.inf)), False),
    "scaled": (gzip.compress(with_scaling(NUMBERS, 0.01, 1)), True),
    "reversed": (gzip.compress(with_scaling(NUMBERS, -0.01, 1)), True),
    "not scaled": (gzip.compress(with_scaling(NUMBERS, np.nan, np.nan)), True),
    "of the other order of bytes": (gzip.compress(with_scaling(NUMBERS, 0.01, 1, ">")), True),
    "constant once scaled": (gzip.compress(with_scaling(NUMBERS, 1e-30, 1)), False),
    "infinite once scaled": (gzip.compress(with_scaling(noise() * 1e30, 1e30, 0)), None),
    "constant": (gzip.compress(with_scaling(np.full(SHAPE, 7, np.int16), 0.5, 1)), False),
}


@pytest.mark.parametrize("piece", [64, 1 << 18])
@pytest.mark.parametrize("kind", PACKED)
def test_a_packed_volume_is_judged_piece_by_piece_as_whole(tmp_path, monkeypatch, kind, piece):
    monkeypatch.setattr(nifti, "PIECE", piece)
    content, good = PACKED[kind]
    (tmp_path / "a.nii.gz").write_bytes(content)
    try:
        checked_volume(tmp_path / "a.nii.gz", SHAPE)
        expected = None
    except VolumeError as error:
        expected = str(error)
    assert good is None or (expected is None) == good
    assert volume_fault(tmp_path / "a.nii.gz", SHAPE) == expected


def test_a_good_packed_volume_is_not_read_a_second_time(tmp_path, monkeypatch):
    path = save(tmp_path / "a.nii.gz", noise())
    monkeypatch.setattr(volumes, "read_volume", None)
    assert volume_fault(path, SHAPE) is None


def test_pickles_and_other_files_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"x": 1}], dtype=object))
    assert "cannot be read (ValueError" in volume_fault(tmp_path / "a.npy")
    (tmp_path / "a.mgz").write_text("x")
    assert "ends in '.mgz', expected .nii, .nii.gz or .npy" in volume_fault(tmp_path / "a.mgz")
    (tmp_path / "a.nii.gz").write_text("not compressed")
    assert "cannot be read" in volume_fault(tmp_path / "a.nii.gz")
    assert volume_fault(tmp_path / "b.nii") == "the image file does not exist"


def test_many_volumes_are_checked_in_order(tmp_path):
    paths = [save(tmp_path / f"{i}.npy", noise() * (i % 3)) for i in range(9)]
    answers = volume_faults(paths, SHAPE, workers=3)
    assert [answer is None for answer in answers] == [i % 3 != 0 for i in range(9)]


def found(tmp_path, pattern, files, rows):
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    matches, orphans = find_images(pattern, tmp_path, rows)
    inside = [[str(p.relative_to(tmp_path)) for p in paths] for paths in matches]
    return inside, [str(p.relative_to(tmp_path)) for p in orphans]


def row(participant, session=""):
    return {"participant_id": participant, "session_id": session}


@pytest.mark.parametrize(
    ("pattern", "files"),
    [
        ("mwp1{participant_id}_T1w.nii", ["mwp1sub-01_T1w.nii", "mwp1sub-02_T1w.nii"]),
        ("sub-{participant_id}.nii", ["sub-01.nii", "sub-02.nii"]),
        ("*{participant_id}*", ["mwp1sub-01.nii", "mwp1sub-02.nii"]),
        ("**/*{participant_id}*.npy", ["a/b/x-01_gm.npy", "02.npy"]),
        ("{participant_id}/**/*gm*.npy", ["sub-01/a/b/gm.npy", "sub-02/xgmx.npy"]),
        ("{participant_id}*/**", ["sub-01/a/b/gm.npy", "sub-02_x/y"]),
        ("a?/[!x]/{participant_id}.nii", ["ab/y/01.nii", "ac/z/sub-02.nii"]),
        ("*/sub-{participant_id}/sub-{participant_id}_[ab].nii", ["t/sub-01/sub-01_a.nii", "v/sub-02/sub-02_b.nii"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("names", [("01", "02"), ("sub-01", "sub-02")])
def test_rows_find_their_images(tmp_path, pattern, files, names):
    matches, orphans = found(tmp_path, pattern, files, [row(name) for name in names])
    assert matches == [[files[0]], [files[1]]]
    assert orphans == []


def test_an_absolute_pattern_is_followed(tmp_path):
    save(tmp_path / "images" / "01.npy", noise())
    matches, _ = find_images(f"{tmp_path}/images/{{participant_id}}.npy", tmp_path / "x", [row("01")])
    assert matches == [[tmp_path / "images" / "01.npy"]]


def test_an_id_beside_a_wildcard_must_be_whole(tmp_path):
    files = ["x11.nii", "joann.nii", "mwp1sub-1.nii", "mwp1ann.nii"]
    matches, orphans = found(tmp_path, "*{participant_id}*.nii", files, [row("1"), row("ann")])
    assert matches == [["mwp1sub-1.nii"], ["mwp1ann.nii"]]
    assert orphans == ["joann.nii", "x11.nii"]


def test_sessions_tell_images_apart_with_or_without_prefix(tmp_path):
    files = ["sub-1_ses-a.nii", "sub-1_ses-b.nii"]
    rows = [row("1", "a"), row("sub-1", "ses-b"), None]
    assert found(tmp_path, "sub-{participant_id}_ses-{session_id}.nii", files, rows) == (
        [[files[0]], [files[1]], []],
        [],
    )
    assert found(tmp_path, "sub-{participant_id}_*.nii", files, rows[:1])[0] == [files]


@pytest.mark.parametrize("name", ["../secret", "../../x", "..", "a/../../secret", "*", "sub-?", "[a-z]"])
def test_no_id_leaves_the_folder_or_is_a_wildcard(tmp_path, name):
    (tmp_path / "secret.nii").write_text("")
    matches, orphans = found(tmp_path / "images", "{participant_id}.nii", ["a.nii"], [row(name)])
    assert (matches, orphans) == ([[]], ["a.nii"])


def test_folders_and_hidden_files_are_no_images(tmp_path):
    (tmp_path / "02.nii").mkdir()
    rows = [row("01"), row("02")]
    assert found(tmp_path, "*{participant_id}.nii", ["._01.nii", "01.nii"], rows) == (
        [["01.nii"], []],
        [],
    )


def test_a_pattern_is_written_out_as_it_was_looked_for():
    assert expand_pattern("sub-{participant_id}/*.nii", row("sub-1")) == "sub-1/*.nii"
    assert expand_pattern("mwp1{participant_id}.nii", row("sub-1")) == "mwp1sub-1.nii"
