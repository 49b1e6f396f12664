import numpy as np
import pytest
import torch

from bundle.evaluation import features
from bundle.evaluation.probing import fill_unknown
from bundle.networks.encoders import DenseNetEncoder


def test_covariates_and_their_unknown_values():
    rows = features.covariates(
        [
            {"age": 20.0, "sex": "F", "tiv": 1400.0},
            {"age": float("nan"), "sex": "M", "tiv": 1600.0},
            {"age": 40, "sex": "", "tiv": float("nan")},
        ]
    )
    assert rows[1, 1] == 1
    train, test = fill_unknown(rows, np.full((1, 3), np.nan))
    assert train[1, 0] == 30
    assert test.tolist() == [[30.0, 0.5, 1500.0]]
    all_unknown, _ = fill_unknown(np.full((2, 1), np.nan), np.zeros((1, 1)))
    assert all_unknown.tolist() == [[0.0], [0.0]]


def test_embedding_does_not_depend_on_the_batch_size():
    encoder = DenseNetEncoder(init_features=8, growth_rate=4, block_config=(1, 1, 1, 1))
    volumes = torch.randn(5, 1, 32, 32, 32)
    embed = {"m": features.Images(None, pool=1).encoder(encoder), "voxels": features.voxels}
    one = features.features_of(embed, [{"image": v[None]} for v in volumes])["m"]
    all_at_once = features.features_of(embed, [{"image": volumes}])["m"]
    assert one.shape == (5, encoder.embedding_size)
    assert one == pytest.approx(all_at_once, rel=0.05, abs=0.05)
    assert np.array_equal(features.features_of(embed, [{"image": volumes}])["voxels"], volumes.flatten(1))


def test_calibration_gives_batch_norm_the_statistics_of_the_data_and_learns_nothing():
    encoder = DenseNetEncoder(init_features=8, growth_rate=4, block_config=(1, 1, 1, 1))
    weights = [p.clone() for p in encoder.parameters()]
    volumes = 3 + 2 * torch.randn(6, 1, 32, 32, 32)
    features.calibrate(encoder, [{"image": volumes[:3]}, {"image": volumes[3:]}], "cpu")
    assert all(torch.equal(a, b) for a, b in zip(weights, encoder.parameters(), strict=True))
    with torch.no_grad():
        stem = encoder.features.conv0(volumes)
    norm = encoder.features.norm0
    assert torch.allclose(norm.running_mean, stem.mean((0, 2, 3, 4)), rtol=1e-3, atol=1e-3)
    assert not encoder.training


def test_every_image_is_read_once_and_its_features_keep_their_place():
    read = []

    def preprocessing(record):
        read.append(record["number"])
        return {"image": torch.full((1, 2, 2, 2), float(record["number"]))}

    images = features.Images(preprocessing, batch_size=3)
    records = [{"number": i} for i in range(17)]
    found = images.features({"mean": lambda v: v.mean((2, 3, 4)), "voxels": features.voxels}, records)
    assert read == list(range(17))
    assert found["mean"][:, 0].tolist() == read
    assert found["voxels"].tolist() == [[float(i)] * 8 for i in read]
    assert found["voxels"].dtype == np.float32
    assert images.features({}, records) == {}
    assert len(read) == 17


def test_batches_side_by_side_give_the_digits_of_one_after_the_other():
    encoder = DenseNetEncoder(init_features=8, growth_rate=4, block_config=(1, 1, 1, 1)).eval()
    batches = [{"image": torch.randn(2, 1, 32, 32, 32)} for _ in range(7)]
    before = torch.get_num_threads()
    found = features.features_of({"m": features.Images(None, pool=2).encoder(encoder)}, batches)["m"]
    with torch.no_grad():
        expected = torch.cat([encoder(batch["image"], 2) for batch in batches]).numpy()
    assert np.array_equal(found, expected)
    assert torch.get_num_threads() == before


def test_a_broken_batch_ends_in_its_own_error():
    def broken(volumes):
        raise ValueError("no such volume")

    before = torch.get_num_threads()
    with pytest.raises(ValueError, match="no such volume"):
        features.features_of({"m": broken}, [{"image": torch.zeros(1, 1, 2, 2, 2)}] * 9)
    assert torch.get_num_threads() == before


def test_an_embedding_is_written_with_whose_it_is_and_nothing_that_is_pickled(tmp_path):
    who = {"session_id": "1", "site": "a", "age": 30.5, "label": 1, "section": "test"}
    ids = features.ids_of([{**who, "participant_id": name} for name in ("sub-1", "sub-02")], "bipolar")
    features.write_embedding(tmp_path / "e.npz", ids, np.ones((2, 3), np.float32))
    arrays = np.load(tmp_path / "e.npz", allow_pickle=False)
    assert set(arrays) == {*features.IDS, "task", "embedding"}
    assert arrays["participant_id"].tolist() == ["sub-1", "sub-02"]
    assert (arrays["age"].dtype.kind, arrays["label"].dtype.kind, arrays["task"].dtype.kind) == ("f", "i", "U")
    assert arrays["embedding"].dtype == np.float32
