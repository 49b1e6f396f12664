"""Encoders and classifiers, their weights and cards, and how they go to and from other software."""

from bundle.networks.architecture import described
from bundle.networks.cards import classifier_card, read_card
from bundle.networks.classifiers import Classifier, EncoderClassifier
from bundle.networks.conversion import convert_weights
from bundle.networks.devices import chosen_device
from bundle.networks.encoders import (
    DenseNetEncoder,
    Encoder,
    ResNetEncoder,
    check_encoder,
    checkpointed_units,
    set_checkpointing,
    statistics_kept,
)
from bundle.networks.ensembles import Ensemble
from bundle.networks.export import export_classifier, load_onnx
from bundle.networks.lineage import lineage, origin, require_classifier_weights
from bundle.networks.members import load_members, members_of
from bundle.networks.pools import AveragePool, MaxPool
from bundle.networks.preprocessing import as_config, steps_of
from bundle.networks.projector import ContrastiveNetwork, Projector
from bundle.networks.transformers import SwinEncoder, ViTEncoder
from bundle.networks.two_modalities import ModalityBatch, TwoModalityNetwork
from bundle.networks.weights import (
    LoadReport,
    architecture_of,
    encoder_like,
    load_encoder,
    load_network,
    method_of,
    network_of,
    refuse_other_preprocessing,
    save_weights,
    start_encoder,
    start_from,
)

__all__ = [
    "AveragePool",
    "Classifier",
    "ContrastiveNetwork",
    "DenseNetEncoder",
    "Encoder",
    "EncoderClassifier",
    "Ensemble",
    "LoadReport",
    "MaxPool",
    "ModalityBatch",
    "Projector",
    "ResNetEncoder",
    "SwinEncoder",
    "TwoModalityNetwork",
    "ViTEncoder",
    "architecture_of",
    "as_config",
    "check_encoder",
    "checkpointed_units",
    "chosen_device",
    "classifier_card",
    "convert_weights",
    "described",
    "encoder_like",
    "export_classifier",
    "lineage",
    "load_encoder",
    "load_members",
    "load_network",
    "load_onnx",
    "members_of",
    "method_of",
    "network_of",
    "origin",
    "read_card",
    "refuse_other_preprocessing",
    "require_classifier_weights",
    "save_weights",
    "set_checkpointing",
    "start_encoder",
    "start_from",
    "statistics_kept",
    "steps_of",
]
