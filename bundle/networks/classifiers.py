"""Classifiers: MONAI's DenseNet, or a linear layer on top of any encoder."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from bundle.networks.encoders import check_encoder, embed


class EncoderClassifier(nn.Module):
    """A linear layer on top of any encoder.

    Names of its tensors: `encoder.…` as the encoder has them, and `class_layers.…` as MONAI's DenseNet calls its head.

    Args:
        encoder: Any module with `embedding_size`; see `networks.encoders.check_encoder`.
        classes: Outputs.

    Shape:
        volumes (N, C, D, H, W), output (N, classes).

    Raises:
        ValueError: for what can be no encoder.
    """

    def __init__(self, encoder: nn.Module, classes: int = 2) -> None:
        super().__init__()
        self.encoder = check_encoder(encoder)
        self.class_layers = nn.Linear(encoder.embedding_size, classes)  # type: ignore[arg-type]

    def both(self, volumes: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, classes) and embedding (N, E)."""
        embedding = embed(self.encoder, volumes)
        return self.class_layers(embedding), embedding

    def forward(self, volumes: Tensor) -> Tensor:
        """Logits alone."""
        return self.both(volumes)[0]


class Classifier(nn.Module):
    """A classifier that also gives the embedding its decision is made from, see `both`.

    Args:
        network: MONAI's DenseNet, an `EncoderClassifier` or an `Ensemble`; its tensors stay where they are.

    Shape:
        volumes (N, C, D, H, W), output (N, classes).

    Raises:
        ValueError: for another network, of whose embedding nothing is known.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        require_classifier(network)
        self.network = network

    def both(self, volumes: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, classes) and embedding (N, E)."""
        return both_of(self.network, volumes)

    def forward(self, volumes: Tensor) -> Tensor:
        """Logits alone."""
        return self.both(volumes)[0]


def require_classifier(network: nn.Module) -> None:
    """Refuse a network of whose embedding nothing is known.

    Args:
        network: MONAI's DenseNet, or one that gives both logits and embedding: an `EncoderClassifier`, an `Ensemble`.

    Raises:
        ValueError: says what a classifier is.
    """
    if not _is_densenet(network) and not hasattr(network, "both"):
        raise ValueError(
            f"The network {type(network).__name__} says nothing of an embedding. A classifier is MONAI's DenseNet"
            " or bundle.networks.EncoderClassifier with an encoder of yours; set network_def to one of them."
        )


def both_of(network: nn.Module, volumes: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and embedding of a classifier; see `require_classifier`.

    Args:
        network: Network that makes both.
        volumes: Preprocessed volumes.

    Shape:
        volumes (N, C, D, H, W), output (N, classes) and (N, E).
    """
    if hasattr(network, "both"):
        return network.both(volumes)  # type: ignore[operator]
    head = network.get_submodule("class_layers")
    assert isinstance(head, nn.Sequential)
    embedding = head[:-1](network.get_submodule("features")(volumes))
    return head[-1](embedding), embedding


def _is_densenet(network: nn.Module) -> bool:
    return isinstance(getattr(network, "class_layers", None), nn.Sequential) and hasattr(network, "features")


def freeze(network: nn.Module, trained: Sequence[str]) -> None:
    """Freeze a network but for some parts: no gradients, and batch norm keeps the statistics it has.

    A network in training mode would still let batch norm follow the batches; here the frozen ones stay in evaluation
    mode whatever mode the network is put in.

    Args:
        network: Changed in place.
        trained: Beginnings of the names of the parts that go on learning.
    """
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith(tuple(trained)))
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and not f"{name}.".startswith(tuple(trained)):
            module.register_forward_pre_hook(_stay_in_evaluation)


def _stay_in_evaluation(module: nn.Module, _: object) -> None:
    module.eval()
