"""A classifier for other software: TorchScript, ONNX and torch.export, each compared with the original."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bundle.files import replacing
from bundle.hints import nearest
from bundle.networks.architecture import in_channels_of, made_classifier
from bundle.networks.cards import classifier_card
from bundle.networks.classifiers import Classifier
from bundle.networks.formats import weights_digest
from bundle.networks.weights import load_network

FORMATS = {"torchscript": ".ts", "onnx": ".onnx", "torch.export": ".pt2"}
OUTPUTS = ("logits", "embedding")
OPSET = 18
TOLERANCE = 1e-4  # of the largest absolute difference, relative to the largest value
logger = logging.getLogger(__name__)


class _Both(nn.Module):
    """Logits and embedding, as the exported files give them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.classifier = Classifier(network)

    def forward(self, volumes: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, classes) and embedding (N, E)."""
        return self.classifier.both(volumes)


class OnnxClassifier(nn.Module):
    """A classifier that onnxruntime computes on the CPU; see `networks.Classifier`.

    Args:
        path: The `.onnx` file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        try:
            import onnxruntime
        except ImportError as error:
            raise ValueError("--backend onnx needs onnxruntime: pip install onnxruntime") from error
        try:
            self.session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own
            raise ValueError(f"{path} is no ONNX file that can be computed ({error}); export it again.") from error

    def both(self, volumes: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, classes) and embedding (N, E)."""
        logits, embedding = self.session.run(list(OUTPUTS), {"image": volumes.cpu().numpy()})
        return torch.as_tensor(logits), torch.as_tensor(embedding)

    def forward(self, volumes: Tensor) -> Tensor:
        """Logits alone."""
        return self.both(volumes)[0]


def load_onnx(model: Path, card: Mapping[str, Any]) -> OnnxClassifier:
    """The ONNX file beside a model.

    Raises:
        ValueError: when it is missing, or was exported from other weights than the card's.
    """
    path = model.with_suffix(FORMATS["onnx"])
    if not path.is_file():
        raise ValueError(f"There is no {path}; make it with: python -m bundle export --model {model}")
    classifier = OnnxClassifier(path)
    made_from = classifier.session.get_modelmeta().custom_metadata_map.get("sha256")
    if made_from != card.get("sha256"):
        raise ValueError(f"{path} was exported from other weights than {model}; export it again.")
    return classifier


def export(network: nn.Module, model: Path, formats: list[str], shape: tuple[int, int, int]) -> dict[str, float]:
    """Write a classifier in other formats beside its weights, and compare each with the original.

    Every file has one input `image` (N, C, D, H, W) with N free, and two outputs: `logits` (N, 2), `embedding` (N, E).

    Args:
        network: MONAI's DenseNet, or an `EncoderClassifier`, with its weights.
        model: The file of weights whose name the others get.
        formats: Names among `FORMATS`.
        shape: Voxels of a volume, (D, H, W).

    Returns:
        Format → largest relative difference from eager torch, on random volumes and another batch size.

    Raises:
        ValueError: for another format, or when a file computes something else; it is not kept then.
    """
    for name in formats:
        if name not in FORMATS:
            raise ValueError(f"No format is named '{name}'{nearest(name, FORMATS)}")
    writers: dict[str, Callable[[_Both, Tensor, Path, str], Callable[[Tensor], Any]]] = {
        "torchscript": _torchscript,
        "onnx": _onnx,
        "torch.export": _torch_export,
    }
    both = _Both(network).eval().cpu()
    size = (in_channels_of(network) or 1, *shape)
    example = torch.randn(2, *size, generator=torch.Generator().manual_seed(0))
    differences = {}
    for name in formats:
        with replacing(model.with_suffix(FORMATS[name])) as temporary:
            run = writers[name](both, example, temporary, weights_digest(model))
            differences[name] = _difference(both, run, size)
            if differences[name] > TOLERANCE:
                raise ValueError(f"The {name} file differs from the network by {differences[name]:.1e}; not written.")
        logger.info(f"{model.with_suffix(FORMATS[name])}: differs from eager torch by {differences[name]:.1e} at most.")
    return differences


def _torchscript(both: _Both, example: Tensor, path: Path, digest: str) -> Callable[[Tensor], Any]:
    with torch.no_grad():
        traced = torch.jit.trace(both, example)
    torch.jit.save(traced, path, _extra_files={"sha256": digest})
    return torch.jit.load(path)


def _onnx(both: _Both, example: Tensor, path: Path, digest: str) -> Callable[[Tensor], Any]:
    import onnx

    batch = torch.export.Dim("batch", min=1)
    try:
        program = torch.onnx.export(
            both, (example,), input_names=["image"], output_names=list(OUTPUTS),
            dynamic_shapes=({0: batch},), opset_version=OPSET, dynamo=True, verbose=False,
        )  # fmt: skip
    except torch.onnx.OnnxExporterError as error:
        raise ValueError(
            f"torch {torch.__version__} cannot write this network as ONNX with the onnxscript that is installed; take "
            "the versions of requirements-dev.txt, or another format."
        ) from error
    assert program is not None
    program.save(str(path))
    content = onnx.load(str(path))
    content.metadata_props.add(key="sha256", value=digest)
    onnx.save(content, str(path))
    classifier = OnnxClassifier(path)
    return classifier.both


def _torch_export(both: _Both, example: Tensor, path: Path, digest: str) -> Callable[[Tensor], Any]:
    program = torch.export.export(both, (example,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
    torch.export.save(program, path, extra_files={"sha256": digest})
    return torch.export.load(path).module()


def _difference(both: _Both, run: Callable[[Tensor], Any], shape: tuple[int, ...]) -> float:
    worst = 0.0
    with torch.no_grad():
        for number, size in enumerate((1, 3)):
            volumes = torch.randn(size, *shape, generator=torch.Generator().manual_seed(1 + number))
            for ours, theirs in zip(both(volumes), run(volumes), strict=True):
                scale = float(ours.abs().max().clamp(min=1e-6))
                worst = max(worst, float((ours - torch.as_tensor(np.asarray(theirs.detach()))).abs().max()) / scale)
    return worst


def export_classifier(model: Path, formats: list[str]) -> dict[str, float]:
    """Export a classifier whose card says what its network and its grid are; see `export`.

    Raises:
        ValueError: when the card does not say so.
    """
    card = classifier_card(model)
    try:
        network = made_classifier(model, card["network"])
        shape = card["contract"]["grid"]["shape"]
    except KeyError as error:
        raise ValueError(f"The card of {model} does not say its {error}; train the classifier again.") from error
    load_network(model, network)
    return export(network, model, formats, tuple(shape))
