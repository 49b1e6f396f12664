"""More than forty kinds of files, each with the verdict it must get; none may raise."""

import gzip
import json
import os
import struct

import nibabel as nib
import numpy as np
import pytest

from bundle.scans.contract import PASS, REFUSE, WARN, Contract
from bundle.scans.grid import REFERENCE, Grid, templates, to_grid
from bundle.scans.limits import LIMITS
from bundle.scans.measures import measure
from bundle.scans.profile import LEVELS, profile

GRID = Grid.of((40, 48, 40), [[-4.5, 0, 0, 87.75], [0, 4.5, 0, -123.75], [0, 0, 4.5, -69.75], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def brain():
    """A grey-matter map as good as they come: the template, a little irregular."""
    noise = np.random.default_rng(0).normal(1, 0.15, GRID.shape)
    return (0.85 * templates(GRID)["grey matter"] * noise).clip(0).astype(np.float32)


@pytest.fixture(scope="module")
def contract():
    empty = {name: [0.0] * len(LEVELS) for name in ()}
    return Contract({"grid": GRID.card, "measures": empty})


def save(path, volume, affine=None, **header):
    image = nib.Nifti1Image(volume, GRID.matrix if affine is None else affine)
    for name, value in header.items():
        image.header[name] = value
    nib.save(image, path)
    return path


def patched(path, offset, content):
    """Change bytes of a header that nibabel would not write."""
    raw = bytearray(path.read_bytes())
    raw[offset : offset + len(content)] = content
    path.write_bytes(raw)
    return path


def raw_bytes(path, content):
    path.write_bytes(content)
    return path


def other_tissue(name):
    return lambda folder, brain: save(folder / "x.nii", templates(GRID)[name])


def scaled(factor):
    return lambda folder, brain: save(folder / "x.nii.gz", brain * factor)


def shifted(folder, brain):
    affine = GRID.matrix
    affine[:3, 3] += 45
    return save(folder / "x.nii", brain, affine)


def turned(folder, brain):
    return save(folder / "x.nii", np.ascontiguousarray(brain[:, :, ::-1]))


def disagreeing(mirror):
    def build(folder, brain):
        image = nib.Nifti1Image(brain, GRID.matrix)
        other = GRID.matrix
        if mirror:
            other[0] *= -1
        else:
            other[:3, 3] += 8
        image.set_qform(other, code=1)
        image.set_sform(GRID.matrix, code=4)
        nib.save(image, folder / "x.nii")
        return folder / "x.nii"

    return build


def without_codes(folder, brain):
    image = nib.Nifti1Image(brain, None)
    image.set_sform(None, code=0)
    image.set_qform(None, code=0)
    nib.save(image, folder / "x.nii")
    return folder / "x.nii"


def singular(folder, brain):
    path = save(folder / "x.nii", brain)
    return patched(path, 280, struct.pack("<12f", *([0.0] * 12)))


def zero_voxel_size(with_sform):
    def build(folder, brain):
        image = nib.Nifti1Image(brain, None)
        image.set_qform(GRID.matrix, code=1)
        image.set_sform(GRID.matrix if with_sform else None, code=2 if with_sform else 0)
        nib.save(image, folder / "x.nii")
        return patched(folder / "x.nii", 80, struct.pack("<f", 0.0))

    return build


def nan_intercept(folder, brain):
    path = patched(save(folder / "x.nii", brain), 112, struct.pack("<f", 1.0))
    return patched(path, 116, struct.pack("<f", float("nan")))


def slope_zero(folder, brain):
    return patched(save(folder / "x.nii", brain), 112, struct.pack("<2f", 0.0, 0.0))


def big_endian(folder, brain):
    image = nib.Nifti1Image(brain, GRID.matrix, nib.Nifti1Header(endianness=">"))
    nib.save(image, folder / "x.nii")
    assert struct.unpack(">i", (folder / "x.nii").read_bytes()[:4])[0] == 348
    return folder / "x.nii"


def mgz(folder, brain):
    nib.save(nib.MGHImage(brain, GRID.matrix), folder / "x.mgz")
    return folder / "x.mgz"


def analyze(folder, brain):
    nib.save(nib.AnalyzeImage(brain, GRID.matrix), folder / "x.img")
    return folder / "x.img"


def pair(folder, brain):
    nib.save(nib.Nifti1Pair(brain, GRID.matrix), folder / "x.img")
    return folder / "x.img"


def pair_without_header(folder, brain):
    path = pair(folder, brain)
    path.with_suffix(".hdr").unlink()
    return path


def npy(transform=lambda b: b):
    def build(folder, brain):
        np.save(folder / "x.npy", transform(brain))
        return folder / "x.npy"

    return build


def pickled_npy(folder, brain):
    np.save(folder / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return folder / "x.npy"


def truncated(folder, brain):
    path = save(folder / "x.nii.gz", brain)
    return raw_bytes(path, path.read_bytes()[: path.stat().st_size // 2])


def bad_checksum(folder, brain):
    path = save(folder / "x.nii.gz", brain)
    raw = bytearray(path.read_bytes())
    raw[-8] ^= 255
    return raw_bytes(path, raw)


def cut_off(folder, brain):
    path = save(folder / "x.nii", brain)
    return raw_bytes(path, path.read_bytes()[:5000])


def header_says_more(folder, brain):
    return patched(save(folder / "x.nii", brain), 42, struct.pack("<3h", 400, 480, 400))


def loop(folder, brain):
    (folder / "a.nii").symlink_to(folder / "b.nii")
    (folder / "b.nii").symlink_to(folder / "a.nii")
    return folder / "a.nii"


def finer(folder, brain):
    return save(folder / "x.nii.gz", to_grid(brain, GRID.matrix, REFERENCE), REFERENCE.matrix)


def newer_cat12(folder, brain):
    """113×137×113, as newer CAT12-type tools write."""
    affine = [[-1.5, 0, 0, 84], [0, 1.5, 0, -120], [0, 0, 1.5, -72], [0, 0, 0, 1]]
    grid = Grid.of((113, 137, 113), affine)
    return save(folder / "x.nii.gz", to_grid(brain, GRID.matrix, grid), grid.matrix)


def other_orientation(folder, brain):
    image = nib.as_closest_canonical(nib.Nifti1Image(brain, GRID.matrix))
    nib.save(
        nib.Nifti1Image(np.asarray(image.dataobj).transpose(2, 0, 1), image.affine[:, [2, 0, 1, 3]]), folder / "x.nii"
    )
    return folder / "x.nii"


def changed(function):
    def build(folder, brain):
        return save(folder / "x.nii", np.asarray(function(brain.copy())))

    return build


def with_nan(brain):
    brain[5, 5, 5] = np.nan
    return brain


def as_bytes(folder, brain):
    slope = brain.max() / 255
    return save(folder / "x.nii.gz", np.round(brain / slope).astype(np.uint8), scl_slope=slope, scl_inter=0)


def far_away(folder, brain):
    affine = GRID.matrix
    affine[:3, 3] += 5000
    return save(folder / "x.nii", brain, affine)


def noise(brain):
    return np.random.default_rng(0).random(brain.shape, dtype=np.float32)


def ct(brain):
    return np.where(brain > 0.1, 40, -1000).astype(np.int16)


def unmodulated(brain):
    """Probabilities: almost all of the grey matter is certain."""
    return (brain > 0.35).astype(np.float32)


KINDS = {
    # name: (builder, verdict, part of a reason)
    "good": (changed(lambda b: b), PASS, ""),
    "as uint8 with a scale": (as_bytes, PASS, ""),
    "array on the grid": (npy(), PASS, ""),
    "OpenBHB's axes of one": (npy(lambda b: b[None, None]), PASS, ""),
    "voxels of 1.5 mm": (finer, PASS, ""),
    "113×137×113": (newer_cat12, PASS, ""),
    "other orientation": (other_orientation, PASS, ""),
    "big-endian": (big_endian, PASS, ""),
    "mgz": (mgz, PASS, ""),
    "NIfTI pair": (pair, PASS, ""),
    "slope of zero": (slope_zero, PASS, ""),
    "float64": (changed(lambda b: b.astype(np.float64)), PASS, ""),
    "sform and qform 8 mm apart": (disagreeing(mirror=False), WARN, "disagree by up to 8 mm"),
    "unmodulated": (changed(unmodulated), WARN, "unmodulated"),
    "clipped": (changed(lambda b: b.clip(0, 0.55)), WARN, "clipped"),
    "sform mirrors qform": (disagreeing(mirror=True), REFUSE, "disagree about left and right"),
    "no orientation at all": (without_codes, REFUSE, "neither sform nor qform"),
    "singular affine": (singular, REFUSE, "no size"),
    "zero voxel size": (zero_voxel_size(with_sform=False), REFUSE, "mm, expected sizes above 0"),
    "zero voxel size, but an sform": (zero_voxel_size(with_sform=True), WARN, "disagree"),
    "NaN intercept": (nan_intercept, REFUSE, ""),
    "Analyze pair": (analyze, REFUSE, "which side is left"),
    "pair without header": (pair_without_header, REFUSE, "cannot be read"),
    "array of another shape": (npy(lambda b: b[:-3]), REFUSE, "no affine"),
    "pickled array": (pickled_npy, REFUSE, "cannot be read"),
    "complex": (changed(lambda b: b.astype(np.complex64)), REFUSE, "type complex64"),
    "white matter": (other_tissue("white matter"), REFUSE, "white matter"),
    "skull-stripped T1w in MNI space": (other_tissue("T1w"), REFUSE, "T1w"),
    "raw T1w intensities": (lambda f, b: save(f / "x.nii", 900 * templates(GRID)["T1w"]), REFUSE, "raw or rescaled"),
    "CT": (changed(ct), REFUSE, "CT"),
    "z-scored": (changed(lambda b: (b - b.mean()) / b.std()), REFUSE, "z-scored"),
    "times 255": (scaled(255), REFUSE, "raw or rescaled"),
    "times two": (scaled(2), REFUSE, "rescaled, or modulated twice"),
    "a thousandth": (scaled(0.001), REFUSE, "too small"),
    "a quarter": (scaled(0.25), REFUSE, "mL"),
    "upside down": (turned, REFUSE, "turned"),
    "shifted by 45 mm": (shifted, REFUSE, "MNI"),
    "far away": (far_away, REFUSE, "field of view"),
    "noise": (changed(noise), REFUSE, "too few voxels are empty"),
    "NaN": (changed(with_nan), REFUSE, "NaN or infinite"),
    "infinite": (changed(lambda b: b / 0 + b), REFUSE, "NaN or infinite"),
    "empty": (changed(lambda b: b * 0), REFUSE, "Every voxel is 0"),
    "constant": (changed(lambda b: b * 0 + 7), REFUSE, "Every voxel is 7"),
    "4D": (changed(lambda b: np.stack([b, b], -1)), REFUSE, "several volumes"),
    "2D": (changed(lambda b: b[:, :, 20]), REFUSE, "expected a 3D map"),
    "truncated gz": (truncated, REFUSE, "cannot be read"),
    "gz with a wrong checksum": (bad_checksum, REFUSE, "cannot be read"),
    "cut off": (cut_off, REFUSE, "cannot be read"),
    "header larger than the file": (header_says_more, REFUSE, "cannot be read"),
    "no gzip": (lambda f, b: raw_bytes(f / "x.nii.gz", b"hello"), REFUSE, "cannot be read"),
    "gzip of rubbish": (lambda f, b: raw_bytes(f / "x.nii.gz", gzip.compress(b"hello" * 99)), REFUSE, "cannot be read"),
    "text": (lambda f, b: raw_bytes(f / "x.nii", b"not an image" * 50), REFUSE, "cannot be read"),
    "wrong ending": (lambda f, b: raw_bytes(f / "x.dcm", b"DICM"), REFUSE, "ends in '.dcm'"),
    "no ending": (lambda f, b: raw_bytes(f / "x", b"DICM"), REFUSE, "ends in ''"),
    "zero bytes": (lambda f, b: raw_bytes(f / "x.nii", b""), REFUSE, "0 bytes"),
    "a folder": (lambda f, b: f, REFUSE, "a folder"),
    "missing": (lambda f, b: f / "nowhere.nii", REFUSE, "does not exist"),
    "loop of links": (loop, REFUSE, "The file"),
    "name with a NUL": (lambda f, b: str(f / "a\0b.nii"), REFUSE, "The file"),
    "name of 5,000 letters": (lambda f, b: f / ("x" * 5000 + ".nii"), REFUSE, "The file"),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_gets_its_verdict(kind, contract, brain, tmp_path):
    build, verdict, reason = KINDS[kind]
    with np.errstate(all="ignore"):
        path = build(tmp_path, brain)
    seen = contract.examine(path)
    assert seen.verdict == verdict, seen.reasons
    assert reason in " ".join(seen.reasons)
    assert all("Traceback" not in text for text in seen.reasons)
    assert (seen.volume is None) <= (verdict == REFUSE)


def test_there_are_at_least_forty_kinds_that_are_not_good():
    assert sum(verdict != PASS for _, verdict, _ in KINDS.values()) >= 40


def test_a_file_nobody_may_read(contract, brain, tmp_path):
    path = save(tmp_path / "x.nii", brain)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    assert contract.examine(path).verdict == REFUSE


@pytest.mark.parametrize("build", [finer, newer_cat12, other_orientation, big_endian, mgz, pair])
def test_the_same_brain_lands_on_the_same_voxels_however_it_is_stored(build, contract, brain, tmp_path):
    volume = contract.examine(build(tmp_path, brain)).volume
    assert np.corrcoef(volume.ravel(), brain.ravel())[0, 1] > 0.97
    assert volume.sum() == pytest.approx(brain.sum(), rel=0.02)


def test_measures_on_a_known_volume():
    volume = np.zeros(GRID.shape, np.float32)
    volume[10:30, 10:30, 10:30] = 0.5
    found = measure(volume, GRID)
    assert found["grey matter"] == pytest.approx(8000 * 0.5 * 4.5**3 / 1000)
    assert found["background"] == pytest.approx(100 * (1 - 8000 / volume.size))
    assert found["plateau"] == pytest.approx(100)
    assert set(found) == set(LIMITS)


@pytest.fixture(scope="module")
def cohort(brain, tmp_path_factory):
    """Forty asymmetric brains: more on the right in front."""
    folder, random = tmp_path_factory.mktemp("cohort"), np.random.default_rng(1)
    lean = np.ones(GRID.shape, np.float32)
    lean[:15, 28:] = 1.3
    records = []
    for number in range(40):
        smooth = np.repeat(random.normal(1, 0.05, (40, 1, 1)), 1, 0).astype(np.float32)
        path = save(folder / f"{number}.nii.gz", brain * lean * smooth * random.normal(1, 0.05))
        records.append({"image": str(path)})
    return records


def test_a_profile_knows_its_cohort_and_warns_of_others(cohort, brain, tmp_path):
    card = json.loads(json.dumps(profile(cohort)))  # as it goes through a card
    assert card["scans"] == 40
    assert Grid.from_card(card["grid"]) == GRID
    contract = Contract(card)
    assert [contract.examine(r["image"]).verdict for r in cohort].count(PASS) >= 38
    smaller = contract.examine(save(tmp_path / "x.nii", brain * 0.6))
    assert smaller.verdict == WARN
    assert "unlike the training scans" in " ".join(smaller.reasons)


def test_exchanged_sides_are_told_where_the_cohort_is_asymmetric(cohort, tmp_path):
    contract = Contract(profile(cohort))
    mirrored = np.asarray(nib.load(cohort[0]["image"]).dataobj)[::-1]
    seen = contract.examine(save(tmp_path / "x.nii", np.ascontiguousarray(mirrored)))
    assert "left and right look exchanged" in " ".join(seen.reasons)
    flipped = GRID.matrix
    flipped[0] *= -1
    told = contract.examine(save(tmp_path / "y.nii", np.ascontiguousarray(mirrored), flipped))
    assert "exchanged" not in " ".join(told.reasons)  # the affine says so


def test_a_cohort_of_two_grids_is_refused(cohort, brain, tmp_path):
    other = save(tmp_path / "x.nii.gz", brain[:-1])
    with pytest.raises(ValueError, match=r"has 39×48×40 voxels.*but other training scans have 40×48×40"):
        profile([*cohort[:3], {"image": str(other)}])


@pytest.mark.long
def test_real_maps_pass_and_real_t1w_are_refused(real_maps):
    contract = Contract()
    for path in sorted(real_maps.glob("*.nii.gz"))[:6]:
        assert contract.examine(path).verdict == PASS
    others = sorted(real_maps.parent.glob("*t1*/*.nii*"))
    assert others
    for path in others:
        seen = contract.examine(path)
        assert seen.verdict == REFUSE
        assert "raw or rescaled image" in " ".join(seen.reasons)
        assert "white matter or a T1w" in " ".join(seen.reasons)


def made_by(folder, brain, stem, **pipeline):
    found = save(folder / f"{stem}.nii.gz", brain)
    if pipeline:
        (folder / f"{stem}.json").write_text(json.dumps({"pipeline": pipeline}))
    return found


def test_a_map_of_another_pipeline_than_the_trainings_is_a_warning(brain, tmp_path):
    trained = [made_by(tmp_path, brain, f"mwp1{n}", name="CAT12", version="12.9") for n in range(2)]
    known = profile([{"image": str(path)} for path in trained])
    assert known["pipelines"] == {"CAT12 12.9": 2}
    others = {
        made_by(tmp_path, brain, "same", name="CAT12", version="12.9 2577"): (PASS, ""),
        made_by(tmp_path, brain, "no_version", name="CAT12"): (PASS, ""),
        made_by(tmp_path, brain, "older", name="CAT12", version="12.5"): (WARN, "this map was made by CAT12 12.5"),
        made_by(tmp_path, brain, "other", name="yaware-ants", version="1"): (
            WARN,
            "this map was made by yaware-ants 1",
        ),
        made_by(tmp_path, brain, "nobody"): (WARN, "it is not known which pipeline made this map"),
    }
    for path, (verdict, reason) in others.items():
        (check,) = [check for check in Contract(known).examine(path).checks if check.name == "pipeline"]
        assert check.verdict == verdict
        assert check.reason.startswith(reason)
        assert "CAT12 12.9 (2)" in check.limit


def test_where_the_trainings_pipeline_is_unknown_or_a_phantoms_nothing_is_said_of_it(brain, tmp_path):
    path = made_by(tmp_path, brain, "map", name="CAT12", version="12.9")
    for pipelines in ({"unknown": 3}, {"phantom": 3}, {}):
        names = [c.name for c in Contract({"grid": GRID.card, "pipelines": pipelines}).examine(path).checks]
        assert "pipeline" not in names
    with pytest.raises(ValueError, match=r"is damaged \(pipelines\)"):
        Contract({"grid": GRID.card, "pipelines": {"CAT12": "many"}})
