"""The zoo's configs of a model: what metadata.json, inference.json and train.json say of it is what its card says."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from bundle.publishing.tested import Tested
from bundle.scans.profile import modality_of_profile


def zoo_metadata(
    metadata: Mapping[str, Any], card: Mapping[str, Any], embedding_size: int, tested: Tested | None
) -> dict[str, Any]:
    """`metadata.json` of a model.

    Args:
        metadata: Metadata of the bundle.
        card: Card of the model.
        embedding_size: E of its embedding.
        tested: Tested on a test section; None: it was not.
    """
    found = copy.deepcopy(dict(metadata))
    control, patient = card["class_names"]
    grid, warning = card["contract"]["grid"], card.get("warning", "")
    kind = modality_of_profile(card["contract"])
    about = f"Classifies {kind.plural}: {control} or {patient}. {warning}"
    size = abs(grid["affine"][0][0])
    found |= {"description": about.strip(), "intended_use": f"{card['intended_use']}; not for diagnosis"}
    found |= {"pred_classes": f"two probabilities after softmax: {control}, {patient}"}
    found |= {"label_classes": f"0: {control}; 1: {patient}", "data_source": warning or "see docs/README.md"}
    found["eval_metrics"] = {"validation_roc_auc": round(card["validation"]["val_auc"], 3)}
    for metric in tested.metrics if tested else ():
        values = {"": metric.value, "_low": metric.low, "_high": metric.high}
        found["eval_metrics"] |= {f"test_{metric.kind}{end}": round(value, 3) for end, value in values.items()}
    for name in ("network_data_format", "embedding_data_format"):
        image = found[name]["inputs"]["image"]
        image["spatial_shape"] = grid["shape"]
        image["channel_def"] = {"0": f"{kind.words}, {size:g} mm, MNI; its preprocessing: models/model.json"}
    found["network_data_format"]["outputs"]["pred"]["channel_def"] = {"0": control, "1": patient}
    found["embedding_data_format"]["outputs"]["embedding"]["num_channels"] = embedding_size
    return found


def zoo_inference(inference: Mapping[str, Any], card: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """`inference.json` of a model: its grid and its network.

    Args:
        inference: Inference of the bundle.
        card: Card of the model.
        options: Options that make its network, see `networks.network_of`.
    """
    grid = card["contract"]["grid"]
    return {**inference, **options, "grid_shape": grid["shape"], "grid_affine": grid["affine"]}


def zoo_train(train: Mapping[str, Any], card: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """`train.json` of a model, from which `monai.bundle.load` takes the network; it would fill another one in part.

    Args:
        train: Train of the bundle.
        card: Card of the model.
        options: Options that make its network, see `networks.network_of`.
    """
    return {**train, **options, "class_names": card["class_names"]}
