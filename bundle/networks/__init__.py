"""Encoders and classifiers, their weights and cards, and how they go to and from other software."""

from bundle.networks.conversion import convert_weights
from bundle.networks.encoders import (
    AveragePool,
    Classifier,
    ContrastiveNetwork,
    DenseNetEncoder,
    Encoder,
    MaxPool,
    Projector,
    ResNetEncoder,
    checkpointed_units,
    statistics_kept,
)
from bundle.networks.export import export_classifier, load_onnx
from bundle.networks.weights import (
    LoadReport,
    classifier_card,
    load_encoder,
    load_network,
    origin,
    read_card,
    save_weights,
    start_from,
)

__all__ = [
    "AveragePool",
    "Classifier",
    "ContrastiveNetwork",
    "DenseNetEncoder",
    "Encoder",
    "LoadReport",
    "MaxPool",
    "Projector",
    "ResNetEncoder",
    "checkpointed_units",
    "classifier_card",
    "convert_weights",
    "export_classifier",
    "load_encoder",
    "load_network",
    "load_onnx",
    "origin",
    "read_card",
    "save_weights",
    "start_from",
    "statistics_kept",
]
