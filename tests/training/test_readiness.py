import numpy as np
import pytest
import torch
from torch import nn

from bundle.networks import ContrastiveNetwork, DenseNetEncoder
from bundle.pretext import (
    AgeRegressionLoss,
    DiscreteKernel,
    GaussianKernel,
    InfoNCE,
    ProductKernel,
    RankNContrast,
    ReconstructionLoss,
    ReconstructionNetwork,
    YAwareInfoNCE,
)
from bundle.training import require_loss, require_metadata, require_network, require_sections

NAN = float("nan")


def people(*ages):
    return [{"participant_id": f"sub-{i}", "metadata": np.array([age], dtype=np.float32)} for i, age in enumerate(ages)]


def y_aware(sigma=5.0):
    return YAwareInfoNCE(ProductKernel(age=GaussianKernel(sigma)))


@pytest.mark.parametrize(
    ("sections", "options", "sentence"),
    [
        ({"training": []}, {}, "'training' of list.json is empty"),
        ({"training": people(20)}, {}, r"has 1 image\(s\) of 1 person"),
        ({"training": [*people(20), *people(20)]}, {}, r"has 2 image\(s\) of 1 person"),
        ({"training": people(20, 30), "validation": people(40)}, {}, "'validation' of list.json has 1"),
        ({}, {"batch_size": 5}, "Give --batch_size 4 or less"),
        ({}, {"val_interval": 3}, "Give --val_interval 2 or less"),
        (
            {},
            {"epochs": 5, "val_interval": 2, "keep": "last"},
            "comes after epoch 4. Give a --val_interval",
        ),
    ],
)
def test_sections_that_no_training_can_use_are_refused(sections, options, sentence):
    usable = {"training": people(20, 30, 40, 50), "validation": people(20, 30)}
    with pytest.raises(ValueError, match=sentence):
        require_sections(
            {**usable, **sections}, **{"batch_size": 2, "epochs": 2, "val_interval": 1, **options}, datalist="list.json"
        )
    require_sections(usable, 4, 2, 2, "list.json")
    require_sections(usable, 4, 4, 2, "list.json", keep="last")
    require_sections(usable, 4, 5, 2, "list.json")


@pytest.mark.parametrize(
    ("loss", "ages", "sentence"),
    [
        (y_aware(), [NAN, NAN, NAN], "`age` is known of nobody"),
        (y_aware(), [30.0, 30.0, NAN], "the same wherever it is known, 30 in 2 of 3 images"),
        (RankNContrast(), [NAN, 30.0], "`age` is the same"),
        (y_aware(1e-6), [20.0, 30.0, 40.0], "the loss would be SimCLR"),
        (y_aware(1e6), [20.0, 30.0, 40.0], "calls all of 3 training images equal"),
    ],
)
def test_metadata_that_make_another_method_are_refused(loss, ages, sentence):
    with pytest.raises(ValueError, match=sentence):
        require_metadata(loss, people(*ages), ["age"], "list.json")


def test_metadata_that_a_method_can_use_or_does_not_read_are_taken(caplog):
    require_metadata(y_aware(), people(20, 30, NAN), ["age"], "list.json")
    require_metadata(InfoNCE(), people(NAN, NAN), ["age"], "list.json")
    assert not caplog.records
    require_metadata(y_aware(), people(20, 30, *[NAN] * 3), ["age"], "list.json")
    assert "`age` is known of 2 of 5 training images only" in caplog.text


@pytest.mark.parametrize(
    ("loss", "columns"),
    [
        (y_aware(), ["sex"]),
        (y_aware(), ["age", "sex"]),
        (YAwareInfoNCE(ProductKernel(age=GaussianKernel(5.0), sex=DiscreteKernel(0.5))), ["sex", "age"]),
        (AgeRegressionLoss([20.0, 30.0]), ["sex"]),
    ],
)
def test_columns_that_a_loss_would_read_as_others_are_refused(loss, columns):
    rows = [{"metadata": np.array([value] * len(columns), dtype=np.float32)} for value in (0, 1, 0, 1)]
    with pytest.raises(ValueError, match=rf"`metadata_columns` are \[{', '.join(columns)}\], but .* by \[age"):
        require_metadata(loss, rows, columns, "list.json")


def test_a_kernel_without_names_takes_any_column():
    require_metadata(YAwareInfoNCE(DiscreteKernel()), people(0, 1, 0, 1), ["sex"], "list.json")


def test_a_network_deeper_than_its_volumes_is_refused():
    def network(blocks):
        return ContrastiveNetwork(DenseNetEncoder(init_features=4, growth_rate=4, block_config=blocks), 8, 8)

    images = [{"image": torch.zeros(1, 24, 24, 24)}]
    fitting = network([1, 1])
    before = {name: value.clone() for name, value in fitting.state_dict().items()}
    require_network(fitting, images, 4)
    assert all(torch.equal(before[name], value) for name, value in fitting.state_dict().items())
    with pytest.raises(ValueError, match=r"cannot be trained on 4 volume\(s\) of 24×24×24 voxels .* Give fewer blocks"):
        require_network(network([1] * 5), images, 4)


def test_a_loss_of_another_output_than_the_networks_is_refused():
    encoder = DenseNetEncoder(init_features=4, growth_rate=4, block_config=[1, 1])
    contrastive, restoring = ContrastiveNetwork(encoder, 8, 8), ReconstructionNetwork(encoder, width=4)
    images = [{**record, "image": torch.zeros(1, 24, 24, 24)} for record in people(20, 30)]
    before = torch.get_rng_state()
    require_loss(y_aware(), contrastive, images)
    require_loss(ReconstructionLoss(), restoring, images, "volumes")
    assert torch.equal(torch.get_rng_state(), before)
    sentence = r"InfoNCE does not fit what ReconstructionNetwork gives, \(4, 1, 24, 24, 24\).* leave one of them out"
    with pytest.raises(ValueError, match=sentence):
        require_loss(InfoNCE(), restoring, images, "volumes")


def test_a_batch_of_one_is_refused_where_batch_norm_sees_one_value():
    network = nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.BatchNorm3d(1))
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        require_network(network, [{"image": torch.zeros(1, 4, 4, 4)}], 1)
