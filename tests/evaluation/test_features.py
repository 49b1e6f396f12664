import copy

import numpy as np
import pandas as pd
import pytest
import torch

from bundle.evaluation import features
from bundle.evaluation.linear import fill_unknown
from bundle.networks.encoders import DenseNetEncoder, ResNetEncoder


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
    one = features.features_of(embed, [{"image": v[None]} for v in volumes], 5)["m"]
    all_at_once = features.features_of(embed, [{"image": volumes}], 5)["m"]
    assert one.shape == (5, encoder.embedding_size)
    assert one == pytest.approx(all_at_once, rel=0.05, abs=0.05)
    assert np.array_equal(features.features_of(embed, [{"image": volumes}], 5)["voxels"], volumes.flatten(1))


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
    found = features.features_of({"m": features.Images(None, pool=2).encoder(encoder)}, batches, 14)["m"]
    with torch.no_grad():
        expected = torch.cat([encoder(batch["image"], 2) for batch in batches]).numpy()
    assert np.array_equal(found, expected)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("kind", [DenseNetEncoder, ResNetEncoder])
def test_pooling_with_channels_last_changes_no_digit(kind):
    torch.manual_seed(0)
    small = {"init_features": 8, "growth_rate": 4, "block_config": (1, 1, 1, 1)} if kind is DenseNetEncoder else {}
    plain, volumes, layouts = kind(**small).eval(), torch.randn(3, 1, 32, 32, 32), []
    placed = copy.deepcopy(plain)
    extractor = features.Images(None).encoder(placed)
    pool = next(m for m in placed.modules() if isinstance(m, torch.nn.MaxPool3d))
    pool.register_forward_hook(lambda _, given, pooled: layouts.append((given[0].stride(1), pooled.is_contiguous())))
    with torch.no_grad():
        assert np.array_equal(features.features_of({"m": extractor}, [{"image": volumes}], 3)["m"], plain(volumes, 2))
    assert layouts == [(1, True)]
    calibrated = [features.calibrate(one, [{"image": volumes}], "cpu") for one in (plain, placed)]
    assert all(torch.equal(a, b) for a, b in zip(*(one.state_dict().values() for one in calibrated), strict=True))


class Own(torch.nn.Module):
    """An encoder of somebody else."""

    embedding_size = 4

    def __init__(self, **pooling):
        super().__init__()
        self.convs = torch.nn.Sequential(torch.nn.Conv3d(1, 4, 3), torch.nn.Conv3d(4, 4, 3))
        self.pool = torch.nn.MaxPool3d(2, **pooling)

    def forward(self, volumes):
        pooled = self.pool(self.convs(volumes))
        return (pooled if isinstance(pooled, torch.Tensor) else pooled[0]).flatten(2).mean(2)


@pytest.mark.parametrize("pooling", [{}, {"return_indices": True}])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_pooling_of_an_encoder_of_somebody_else_keeps_its_values(pooling, layout):
    own, volumes = Own(**pooling).to(memory_format=layout), torch.randn(2, 1, 8, 8, 8)
    with torch.no_grad():
        expected = copy.deepcopy(own)(volumes)
    found = features.features_of({"m": features.Images(None).encoder(own)}, [{"image": volumes}], 2)["m"]
    assert np.array_equal(found, expected)
    assert bool(own.pool._forward_hooks) == (not pooling and layout == torch.contiguous_format)


def test_a_table_of_an_embedding_is_what_pandas_writes():
    values = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32) * 10.0 ** np.arange(-9, 9, 3)
    values[0, :4] = [np.nan, np.inf, -np.inf, -0.0]
    ids = pd.DataFrame({"participant_id": ["01", 'a"b', "a\tb", "a\nb"], "age": [20.123456789, np.nan, 3, 1e7]})
    ids["site"] = ["", "x,y", "nan", None]
    table = pd.concat([ids, pd.DataFrame(values).add_prefix("e")], axis=1)
    assert features.embedding_table(ids, values) == table.to_csv(sep="\t", index=False, float_format="%.6g")


def test_a_broken_batch_ends_in_its_own_error():
    def broken(volumes):
        raise ValueError("no such volume")

    before = torch.get_num_threads()
    with pytest.raises(ValueError, match="no such volume"):
        features.features_of({"m": broken}, [{"image": torch.zeros(1, 1, 2, 2, 2)}] * 9, 9)
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


@pytest.mark.parametrize("subjects", [5, 3])
def test_another_number_of_volumes_than_was_said_is_refused(subjects):
    batches = [{"image": torch.zeros(2, 1, 2, 2, 2)}] * 2
    with pytest.raises(ValueError, match=f"gave 4 volumes, but `subjects` is {subjects}"):
        features.features_of({"voxels": features.voxels}, batches, subjects)
