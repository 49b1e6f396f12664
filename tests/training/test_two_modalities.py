"""Batches, network and monitor of two modalities, of which somebody may lack one."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from bundle.cohort.both_maps import BothMaps
from bundle.metrics.representation import alignment, effective_rank, uniformity
from bundle.networks import ContrastiveNetwork, DenseNetEncoder, ModalityBatch, TwoModalityNetwork
from bundle.pretext import GaussianKernel, TwoModalityInfoNCE, TwoViews
from bundle.training import (
    ContrastivePrepareBatch,
    GradientCache,
    PrecisionInferer,
    TwoModalityInferer,
    TwoModalityMonitor,
    TwoModalityPrepareBatch,
    require_two_files,
    require_two_networks,
)

THERE = torch.tensor([[1, 1], [1, 0], [1, 1], [0, 1]], dtype=torch.bool)


def batch(there=THERE):
    generator = torch.Generator().manual_seed(0)
    people = len(there)
    return {
        "image": torch.randn(people, 1, 16, 16, 16, generator=generator),
        "second_image": torch.randn(people, 1, 20, 16, 18, generator=generator),
        "there": there,
        "metadata": torch.tensor([[20.0], [24.0], [40.0], [60.0]])[:people],
        "participant_id": [f"sub-{i}" for i in range(people)],
        "session_id": ["1"] * people,
        "age": torch.tensor([20.0, 24, 40, 60])[:people],
        "site": ["a"] * people,
    }


def network(norm="group"):
    torch.manual_seed(0)
    parts = [ContrastiveNetwork(DenseNetEncoder(1, 16, 16, (1, 1), norm), 8, 6) for _ in range(2)]
    return TwoModalityNetwork(*parts)


def test_only_maps_that_are_there_become_views_and_the_first_are_the_usual_ones():
    data, views = batch(), TwoViews("cutout")
    volumes, target = TwoModalityPrepareBatch(views)(data, "cpu")
    assert volumes.first.shape == (6, 1, 16, 16, 16)
    assert volumes.second.shape == (6, 1, 20, 16, 18)
    assert volumes.first_rows.tolist() == [0, 1, 2, 4, 5, 6]
    assert volumes.second_rows.tolist() == [0, 2, 3, 4, 6, 7]
    assert torch.equal(target, torch.cat([data["metadata"], THERE.float()], dim=1))
    usual = ContrastivePrepareBatch(views)(data, "cpu")[0]
    assert torch.equal(volumes.first, usual[volumes.first_rows])
    same_size = {**data, "second_image": data["image"]}
    second = TwoModalityPrepareBatch(views)(same_size, "cpu")[0].second
    assert not torch.equal(second[0], volumes.first[0])  # cut out at a place of its own


def test_rows_of_who_lacks_a_modality_are_zero_and_the_others_are_their_own_networks():
    data, model = batch(), network().eval()
    volumes, _ = TwoModalityPrepareBatch(TwoViews("cutout"))(data, "cpu")
    output = model(volumes)
    assert output.shape == (8, 2, 6)
    assert not output[[3, 7], 0].any()
    assert not output[[1, 5], 1].any()
    assert torch.allclose(output[volumes.first_rows, 0], model.first(volumes.first))
    assert torch.allclose(output[volumes.second_rows, 1], model.second(volumes.second))
    nobody = ModalityBatch(volumes.first, volumes.second[:0], volumes.first_rows, volumes.second_rows[:0], 8)
    assert not model(nobody)[:, 1].any()
    everybody = torch.randn(3, 1, 16, 16, 16)
    assert torch.allclose(model(everybody)[:, 1], model.second(everybody))


def test_one_network_twice_or_two_spaces_are_refused():
    one = ContrastiveNetwork(DenseNetEncoder(1, 16, 16, (1, 1)), 8, 6)
    other = ContrastiveNetwork(DenseNetEncoder(1, 16, 16, (1, 1)), 8, 5)
    with pytest.raises(ValueError, match="same encoder or projector"):
        TwoModalityNetwork(one, one)
    with pytest.raises(ValueError, match="projection_size is 6 and 5"):
        TwoModalityNetwork(one, other)


def test_a_micro_batch_gives_the_gradient_of_the_whole_batch():
    data, loss = batch(), TwoModalityInfoNCE(GaussianKernel(5.0), 0.5)
    gradients = []
    for micro in (None, 2):
        model = network()
        prepare, inferer = TwoModalityPrepareBatch(TwoViews("cutout")), PrecisionInferer("float32")
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        engine = SimpleNamespace(
            network=model, optimizer=optimizer, optim_set_to_none=True, prepare_batch=prepare, inferer=inferer,
            loss_function=loss, scaler=None, non_blocking=False, to_kwargs={}, fire_event=lambda _: None,
            state=SimpleNamespace(device=torch.device("cpu"), output=None),
        )  # fmt: skip
        if micro is None:
            volumes, target = prepare(data, "cpu")
            loss(inferer(volumes, model.train()), target).backward()
        else:
            GradientCache(micro)(engine, data)
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 20
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_validation_embeds_both_and_measures_each_on_those_who_have_it():
    data, model = batch(), network().eval()
    volumes, target = TwoModalityPrepareBatch(TwoViews("cutout"), keep_original=True)(data, "cpu")
    with torch.no_grad():
        found = TwoModalityInferer()(volumes, model)
        first, second = model.encoder(data["image"]), model.second_encoder(data["second_image"])
    assert torch.allclose(found["embedding"], first * THERE[:, :1], atol=1e-5)
    assert torch.allclose(found["second_embedding"], second * THERE[:, 1:], atol=1e-5)
    monitor = TwoModalityMonitor(loss := TwoModalityInfoNCE(GaussianKernel(5.0)))
    state = SimpleNamespace(output={"pred": found, "label": target}, batch=data)
    monitor.iteration_completed(SimpleNamespace(state=state))
    values = monitor.compute()
    output = found["output"]
    both = THERE.all(1)
    assert values["val_loss"] == pytest.approx(float(loss(output, target)))
    assert values["val_alignment"] == pytest.approx(float(alignment(output[:4][both, 0], output[:4][both, 1])))
    spread = [float(uniformity(output[:4][THERE[:, m], m])) for m in (0, 1)]
    assert values["val_uniformity"] == pytest.approx(max(spread))
    assert values["val_effective_rank"] == pytest.approx(float(effective_rank(first[THERE[:, 0]])), rel=1e-3)
    assert values["val_second_effective_rank"] == pytest.approx(float(effective_rank(second[THERE[:, 1]])), rel=1e-3)
    found["second_embedding"][0] = torch.nan
    with pytest.raises(ValueError, match="Training has diverged"):
        monitor.compute()


class Read:
    """Stands in for a preprocessing: a volume of the number in the path."""

    def __init__(self, shape):
        self.shape, self.seen = shape, []

    def __call__(self, record):
        self.seen.append(record["image"])
        return {"image": torch.full(self.shape, float(record["image"]))}


def test_a_lacking_map_is_a_placeholder_of_its_modalitys_shape():
    records = [{"image": "", "second_image": "2", "age": 3.0}, {"image": "5", "second_image": "", "age": 4.0}]
    first, second = Read((1, 2, 2, 2)), Read((1, 3, 3, 3))
    maps = BothMaps(first, second, records)
    items = [maps(record) for record in [*records, records[0]]]
    assert items[0]["image"].shape == (1, 2, 2, 2)
    assert not items[0]["image"].any()
    assert (items[0]["second_image"] == 2).all()
    assert items[0]["there"].tolist() == [False, True]
    assert items[1]["there"].tolist() == [True, False]
    assert items[1]["second_image"].shape == (1, 3, 3, 3)
    assert items[1]["age"] == 4.0
    assert first.seen == ["5", "5"]  # the placeholder's shape is read once


def test_what_cannot_be_trained_is_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"both .*encoder.pt: the second encoder would replace the first"):
        require_two_files(tmp_path / "encoder.pt", str(tmp_path / "x" / ".." / "encoder.pt"))
    monkeypatch.setattr("bundle.training.two_modalities.world_size", lambda: 2)
    with pytest.raises(ValueError, match="one process, but 2 were started"):
        require_two_files("a.pt", "b.pt")
    with pytest.raises(ValueError, match="target of two modalities is metadata"):
        TwoModalityPrepareBatch(TwoViews("cutout"), target="volumes")
    item = {"image": torch.zeros(1, 16, 16, 16), "second_image": torch.zeros(1, 2, 2, 2)}
    with pytest.raises(ValueError, match=r"cannot be trained on 4 volume\(s\) of 2×2×2 voxels"):
        require_two_networks(network("batch"), [item], 4)
    assert isinstance(network(), nn.Module)
