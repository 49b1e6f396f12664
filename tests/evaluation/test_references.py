"""What the reference lines read of images, against naive loops, and where they have nothing to read."""

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose, EnsureTyped, Lambdad, LoadImaged, NormalizeIntensityd, Resized

from bundle.cli import rules
from bundle.cohort.folds import Trial
from bundle.evaluation.features import Images
from bundle.evaluation.native import region_means, voxels_inside, without_moving
from bundle.evaluation.pipeline import Probe, probe_pools
from bundle.evaluation.plan import (
    FEATURES,
    KNOWN,
    NATIVE,
    NATIVE_LOGISTIC,
    NATIVE_RIDGE,
    RANDOM,
    REFERENCES,
    REGIONS,
    REGIONS_NET,
    REGIONS_SVM,
    SITE,
    VOXELS,
    references_of,
)
from bundle.evaluation.references import References, features_of_pool, sites_of
from bundle.evaluation.subjects import Pool
from bundle.scans.grid import Grid
from bundle.scans.parcels import brain_on, grown_parcels

GRID = Grid.of((20, 24, 20), [[-9, 0, 0, 85.5], [0, 9, 0, -121.5], [0, 0, 9, -67.5], [0, 0, 0, 1]])
LOADED = [
    LoadImaged(keys="image", image_only=True),
    Lambdad(keys="image", func=lambda volume: volume.squeeze()[None]),
]
SCALED = [NormalizeIntensityd(keys="image"), EnsureTyped(keys="image", dtype=torch.float32, track_meta=False)]
SHRINK = Resized(keys="image", spatial_size=[10, 12, 10], mode="area")
PLAIN, SHRUNK = Compose([*LOADED, *SCALED]), Compose([*LOADED, SHRINK, *SCALED])


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """Forty people whose images differ by the diagnosis, at two sites each of training and test, and one elsewhere."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    records = []
    for k in range(40):
        values = rng.normal(size=GRID.shape) + (k % 2) * (np.indices(GRID.shape)[0] > 10)
        path = folder / f"{k}.nii.gz"
        nib.save(nib.Nifti1Image(values.astype(np.float32), GRID.matrix), path)
        known = {"age": 20.0 + k, "sex": "FM"[k % 2], "tiv": 1500.0, "site": "away" if k == 39 else "ab"[k // 2 % 2]}
        ids = {"participant_id": f"sub-{k}", "session_id": "", "label": k % 2, "section": "", "image": str(path)}
        records.append({**known, **ids})
    return Pool("t", records, [Trial(24, 0, np.arange(24), np.arange(24, 40))])


def volume_of(record):
    values = nib.load(record["image"]).get_fdata().astype(np.float32)
    return (values - values.mean()) / values.std()


@pytest.mark.parametrize("preprocessing", [PLAIN, SHRUNK])
def test_regions_and_voxels_are_read_before_any_shrinking(pool, preprocessing):
    references = References(Images(preprocessing, batch_size=7))
    found = features_of_pool(references.images, references.sources(), pool)
    assert list(found) == [VOXELS, NATIVE_LOGISTIC, NATIVE_RIDGE, REGIONS_NET, REGIONS_SVM, KNOWN, SITE]
    parcels, brain = grown_parcels(GRID), brain_on(GRID)
    inside = []
    for record, means in zip(pool.records, found[REGIONS_NET], strict=True):
        volume = volume_of(record)
        inside.append(volume[brain])
        for number in (1, 7, len(parcels.names)):
            own = [volume[tuple(index)] for index in np.argwhere(parcels.labels == number)]
            assert means[number - 1] == pytest.approx(sum(own) / len(own), abs=1e-5)
    products = np.array(inside, dtype=float) @ np.array(inside, dtype=float).T
    np.testing.assert_allclose(found[NATIVE_RIDGE] @ found[NATIVE_RIDGE].T, products, rtol=1e-4, atol=0.05)
    assert found[VOXELS].shape == (40, 10 * 12 * 10 if preprocessing is SHRUNK else 20 * 24 * 20)
    assert found[REGIONS_SVM] is found[REGIONS_NET]


def test_an_image_is_read_once_and_once_more_where_it_is_shrunk(pool):
    for steps, times in ((PLAIN, 1), (SHRUNK, 2)):
        read = []
        counting = Compose(
            [Lambdad(keys="image", func=lambda path, read=read: read.append(path) or path), *steps.transforms]
        )
        references = References(Images(counting))
        references.native.extractors([], [], "")
        features_of_pool(references.images, references.sources(), pool)
        assert len(read) == 40 * times + 1  # one is looked at first, for its shape


def test_steps_that_move_or_shrink_are_left_out_and_no_others():
    shrunk = without_moving(Images(SHRUNK))
    assert [type(step) for step in shrunk.preprocessing.transforms] == [type(step) for step in PLAIN.transforms]
    plain = Images(PLAIN)
    assert without_moving(plain) is plain
    nested = without_moving(Images(Compose([Compose([*LOADED, SHRINK]), *SCALED])))
    assert len(nested.preprocessing.transforms) == 4


def test_means_and_masks_keep_channels_apart():
    volumes = torch.randn(3, 2, 4, 4, 4)
    labels = torch.zeros(4, 4, 4, dtype=torch.int32)
    labels[0], labels[2] = 2, 1
    means = region_means(volumes, labels)
    expected = torch.stack([volumes[:, c, x].mean((1, 2)) for c in (0, 1) for x in (2, 0)], dim=1)
    torch.testing.assert_close(means.float(), expected)
    index = torch.tensor([5, 40])
    assert torch.equal(voxels_inside(volumes, index), volumes.flatten(2)[:, :, index].flatten(1))


def test_every_line_is_probed_and_tells_the_diagnosis(pool):
    references = References(Images(PLAIN))
    found = {p.method: p.scores for p in probe_pools(references.images, Probe(), references.sources(), [pool])}
    for method in (*FEATURES, VOXELS):
        patients, controls = (found[method].query("label == @k")["score"].mean() for k in (1, 0))
        assert patients > controls
    assert set(found) == set(references.sources())


def test_adjusting_takes_sex_out_of_images_and_leaves_the_site(pool):
    references = References(Images(PLAIN), [REGIONS_NET, SITE])
    adjusted = {
        p.method: p.scores for p in probe_pools(references.images, Probe(adjust=["sex"]), references.sources(), [pool])
    }
    plain = {p.method: p.scores for p in probe_pools(references.images, Probe(), references.sources(), [pool])}
    assert adjusted[REGIONS_NET]["score"].std() < 0.5 * plain[REGIONS_NET]["score"].std()  # sex is the diagnosis here
    assert adjusted[SITE]["score"].tolist() == plain[SITE]["score"].tolist()


def test_the_site_has_a_row_only_where_sites_are_tested_that_train(pool):
    columns = sites_of(pool)
    assert columns.shape == (40, 2)
    for record, row in zip(pool.records, columns, strict=True):
        assert row.tolist() == [float(record["site"] == "a"), float(record["site"] == "b")]
    a, b = (np.array([k for k, r in enumerate(pool.records) if r["site"] == s]) for s in "ab")
    assert sites_of(pool._replace(trials=[Trial(20, 0, a, b), Trial(19, 0, b, a)])) is None
    assert sites_of(pool._replace(trials=[Trial(10, 0, a[:10], a[10:])])) is None
    nowhere = [{**record, "site": ""} for record in pool.records]
    assert sites_of(pool._replace(records=nowhere)) is None


def arrays(pool, folder):
    records = []
    for record in pool.records:
        path = folder / f"{record['participant_id']}.npy"
        np.save(path, nib.load(record["image"]).get_fdata().astype(np.float32), allow_pickle=False)
        records.append({**record, "image": str(path)})
    return pool._replace(records=records)


def test_where_voxels_lie_is_not_known_the_lines_are_left_out_or_refused(pool, tmp_path, caplog):
    placeless = arrays(pool, tmp_path)
    references = References(Images(PLAIN))
    found = features_of_pool(references.images, references.sources(), placeless)
    assert list(found) == [VOXELS, KNOWN, SITE]
    assert "the task t: no row of regions and voxels, native, because an array (.npy) does not say" in caplog.text
    for option in ("atlas", "mask"):
        named = References(Images(PLAIN), **{option: str(tmp_path / "a.nii")})
        with pytest.raises(ValueError, match=f"`{option}` cannot be used with the task t: an array"):
            named.check([(placeless.records, "the task t")])


def test_a_step_of_somebody_that_shrinks_is_noticed(pool, caplog):
    half = Compose([*LOADED, Lambdad(keys="image", func=lambda volume: volume[:, ::2]), *SCALED])
    references = References(Images(half), [REGIONS_NET])
    assert not features_of_pool(references.images, references.sources(), pool)
    assert "images of 20×24×20 voxels are preprocessed to 10×24×20" in caplog.text


def test_a_file_takes_the_place_of_atlas_and_mask(pool, tmp_path):
    labels = np.zeros(GRID.shape, np.int16)
    labels[:10], labels[10:] = 1, 2
    nib.save(nib.Nifti1Image(labels, GRID.matrix), tmp_path / "halves.nii.gz")
    path = str(tmp_path / "halves.nii.gz")
    references = References(Images(PLAIN), [REGIONS_NET, NATIVE_RIDGE], path, path)
    found = features_of_pool(references.images, references.sources(), pool)
    volume = volume_of(pool.records[3])
    assert found[REGIONS_NET][3] == pytest.approx([volume[:10].mean(), volume[10:].mean()], abs=1e-6)
    assert (found[NATIVE_RIDGE][3] ** 2).sum() == pytest.approx((volume**2).sum(), rel=1e-4)


def test_names_of_lines_are_looked_at():
    assert references_of("all") == REFERENCES
    assert references_of([SITE, VOXELS]) == (RANDOM, VOXELS, SITE)
    assert references_of([]) == (RANDOM,)
    with pytest.raises(ValueError, match="There is no reference 'regions, svm'; did you mean 'regions, RBF-SVM'"):
        references_of(["regions, svm"])
    with pytest.raises(ValueError, match="`atlas` was given, but `references` leaves out 'regions, elastic net' and"):
        References(Images(PLAIN), [VOXELS], atlas="a.nii")
    assert References(Images(PLAIN), [REGIONS_SVM]).of_age().keys() == {REGIONS}
    assert References(Images(PLAIN)).of_age().keys() == {VOXELS, NATIVE, REGIONS}


def test_the_command_line_knows_every_line():
    assert rules.REFERENCES == REFERENCES
    assert not list(rules.faults("probe", {"references": ["site", "voxels"]}))
    said = "".join(rules.faults("probe", {"references": ["sites"]}))
    assert "all, or a list of any of 'random initialisation'" in said


def test_what_the_lines_would_misread_is_refused(pool):
    references = References(Images(PLAIN), [KNOWN])
    references.check([(pool.records, "the task t")])
    for wrong, sentence in (
        ({"age": 420.0}, "The task t: 1 of 40 scans have age outside of 0 to 120 years, the first 420"),
        ({"tiv": -4.0}, "1 of 40 scans have tiv outside of 100 to 5000 mL, the first -4"),
        ({"sex": "female"}, "The task t: 1 of 40 scans have a sex other than F, M or null, such as 'female'"),
    ):
        with pytest.raises(ValueError, match=sentence):
            references.check([([*pool.records[1:], {**pool.records[0], **wrong}], "the task t")])
