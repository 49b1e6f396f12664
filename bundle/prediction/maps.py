"""Where a network looks: maps of what changes a class's probability, or the likeness to a group of subjects."""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from monai.visualize import GradCAMpp, OcclusionSensitivity, SmoothGrad
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor, nn

from bundle.extras import require
from bundle.hints import nearest
from bundle.networks.classifiers import Classifier
from bundle.networks.ensembles import Ensemble
from bundle.networks.nearby import near

METHODS = ("regions", "occlusion", "integrated_gradients", "gradcam++", "smoothgrad")
TARGETS = ("class", "similarity")
WINDOWS = 6  # occluding windows along the longest side of a volume
OVERLAP = 0.25
ASKED = {
    "class": "the network's own probability of {name}",
    "similarity": "the similarity to the training subjects that are {name}",
}
SENTENCES = {
    "regions": "Warm: {what} falls when a region is replaced by that of the average healthy training subject, compared "
    "with the region's size. Cold: it rises. A region is an ellipsoid about an anatomical centre, not an anatomical "
    "parcel; what lies outside the named regions is not coloured.",
    "occlusion": "Warm: {what} falls when a place is replaced by that of the average healthy training subject. "
    "Cold: it rises. A place is a cube of about {extent:.0f} mm, and the map shows nothing smaller.",
    "integrated_gradients": "Warm: how this place differs from that of the average healthy training subject speaks for "
    "{what}. Cold: it speaks against it (integrated gradients).",
    "gradcam++": "Where features that raise {what} are found (GradCAM++). The map is coarse and has no sign.",
    "smoothgrad": "Where small changes of the scan change {what} most (SmoothGrad). The map has no sign.",
}
SAMPLES = 25  # noisy copies of SmoothGrad
NOISE = 0.1  # their noise, of the range of the values
STEPS = 24  # of integrated gradients
MOST_VOLUMES, MOST_VOXELS = 8, 2**20  # of a batch; on a CPU, more voxels than that do not stay in its cache
INCOMPLETE = 0.05  # of the score's difference that integrated gradients may miss without a warning
logger = logging.getLogger(__name__)


class Similarity(nn.Module):
    """How much more like one group's mean embedding than like all training subjects' a brain is.

    Args:
        classifier: Gives the embedding.
        group: Mean embedding of the group.
        everybody: Mean embedding of all training subjects.

    Shape:
        volumes (N, C, D, H, W), group (E,), everybody (E,); output (N, 2): minus the similarity, and the similarity,
        the cosine between a brain's and the group's embedding, both seen from the mean of everybody.
    """

    def __init__(self, classifier: Classifier, group: Tensor, everybody: Tensor) -> None:
        super().__init__()
        self.classifier = classifier
        self.register_buffer("centre", everybody)
        self.register_buffer("direction", group - everybody)

    def forward(self, volumes: Tensor) -> Tensor:
        """Similarity to the group."""
        _, embedding = self.classifier.both(volumes)
        centre, direction = self.get_buffer("centre"), self.get_buffer("direction")
        similarity = F.cosine_similarity(embedding - centre, direction[None])
        return torch.stack([-similarity, similarity], dim=1)


@dataclass(frozen=True)
class Question:
    """What a map is asked.

    Attributes:
        method: One of `METHODS`.
        network: Gives (N, 2) scores.
        index: Index of the score that is explained.
        probability: Whether scores are logits whose probability is explained; otherwise they are explained as they are.
        reference: (1, C, D, H, W) that occlusion and regions show in place of what they hide, and where integrated
            gradients begin, such as the mean of healthy training subjects; None is 0. In a disease that takes tissue
            away, hiding tissue is no absence of disease: with 0, the places that matter would speak against it.
        weights: (35, D · H · W) memberships in `scans.regions.REGIONS`, which `regions` needs.
    """

    method: str
    network: nn.Module
    index: int = 1
    probability: bool = True
    reference: Tensor | None = None
    weights: csr_array | None = None

    def score(self, volumes: Tensor) -> Tensor:
        """What is explained, of each volume.

        Shape:
            volumes (N, C, D, H, W), output (N,).
        """
        scores = self.network(volumes)
        return (scores.softmax(1) if self.probability else scores)[:, self.index]


@dataclass(frozen=True)
class Meaning:
    """How a map is read.

    Attributes:
        sentence: What high and low values are.
        unit: Unit of the values that are shown, in words.
        factor: Factor, from the values of a map to the unit; None where the strongest value is 100.
    """

    sentence: str
    unit: str
    factor: float | None


def meaning(method: str, target: str, name: str, extent: float) -> Meaning:
    """How a map of this kind is read.

    Args:
        method: One of `METHODS`.
        target: One of `TARGETS`.
        name: Name of the class that is explained.
        extent: Longest side of the network's input, mm.
    """
    what = ASKED[target].format(name=name)
    sentence = SENTENCES[method].format(what=what, extent=extent / WINDOWS)
    if method != "occlusion":
        return Meaning(sentence, "arbitrary units; the strongest value in the brain is 100", None)
    if target == "similarity":
        return Meaning(sentence, "change of the similarity, a cosine from −1 to 1", 1.0)
    return Meaning(sentence, "change of the network's own probability, percentage points", 100.0)


def at_a_time(volume: Tensor) -> int:
    """How many copies of a volume go through a network at once.

    On a CPU, torch leaves a lone small volume to a convolution that is three times slower, and large ones are quicker
    one after the other.

    Shape:
        volume (1, C, D, H, W).
    """
    return max(1, min(MOST_VOLUMES, MOST_VOXELS // volume.numel())) if volume.device.type == "cpu" else MOST_VOLUMES


def explain(question: Question, volume: Tensor, batch_size: int | None = None, seed: int = 0) -> NDArray[np.float32]:
    """Map how much each place matters to a score: positive where it speaks for it.

    Occlusion: by how much the score falls when the place is shown as in the reference, a window at a time; negative
    where it rises. Regions: the same, a region at a time, over the region's size. Integrated gradients add up to the
    score's difference from the reference's.
    GradCAM++ and SmoothGrad have no sign.

    Args:
        question: Method, network and score.
        volume: Preprocessed.
        batch_size: Occluded copies at a time; None: `at_a_time`.
        seed: Seed of SmoothGrad's noise.

    Shape:
        volume (1, C, D, H, W), output (D, H, W).

    Raises:
        ValueError: for another method.

    Source:
        Zeiler & Fergus, 2014; Chattopadhyay et al., 2018; Smilkov et al., 2017, as in MONAI; Sundararajan et al., 2017,
        as in captum.
    """
    if question.method not in METHODS:
        raise ValueError(f"No method is named '{question.method}'{nearest(question.method, METHODS)}")
    volume = volume.detach().clone()
    question.network.eval()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        compute: dict[str, Callable[..., Tensor]] = {
            "regions": _regions,
            "occlusion": _occlusion,
            "integrated_gradients": _integrated_gradients,
            "gradcam++": _gradcam,
            "smoothgrad": _smoothgrad,
        }
        found = compute[question.method](question, volume, batch_size or at_a_time(volume))
    return found.detach().cpu().numpy().astype(np.float32)


def regional_changes(question: Question, volume: Tensor, batch_size: int | None = None) -> NDArray[np.float64]:
    """By how much a score falls when each region is shown as in the reference; negative where it rises.

    Args:
        question: Network, score, reference and weights.
        volume: Preprocessed.
        batch_size: Volumes at a time; None: `at_a_time`.

    Shape:
        volume (1, C, D, H, W), output (35,).
    """
    assert question.weights is not None
    reference = torch.zeros_like(volume) if question.reference is None else question.reference
    count, scores = batch_size or at_a_time(volume), []
    with torch.inference_mode():
        for first in range(0, question.weights.shape[0], count):
            rows = question.weights[first : first + count].toarray().astype(np.float32)
            shown = torch.as_tensor(rows, device=volume.device).reshape(len(rows), 1, *volume.shape[2:])
            scores.append(question.score(volume + shown * (reference - volume)).double().cpu())
        return (question.score(volume).double().cpu() - torch.cat(scores)).numpy()


def in_regions(changes: NDArray[np.float64], weights: csr_array, shape: Sequence[int]) -> NDArray[np.float32]:
    """A map of changes by region, whose sum over the voxels is that of the changes; 0 outside the named regions.

    Each voxel has its regions' changes over their sizes: a large region changes more because there is more of it.

    Args:
        changes: Changes of each of `scans.regions.REGIONS`.
        weights: Memberships.
        shape: Shape of the map.

    Shape:
        changes (35,), weights (35, voxels), output (D, H, W).
    """
    named = weights[:-1]
    return ((changes[:-1] / np.maximum(named.sum(1), 1e-9)) @ named).reshape(shape).astype(np.float32)


def _regions(question: Question, volume: Tensor, batch_size: int) -> Tensor:
    assert question.weights is not None
    return torch.as_tensor(
        in_regions(regional_changes(question, volume, batch_size), question.weights, volume.shape[2:])
    )


def _integrated_gradients(question: Question, volume: Tensor, batch_size: int) -> Tensor:
    """From the reference to the volume; says where the steps were too few."""
    captum = require("captum.attr", "The method integrated_gradients")
    reference = torch.zeros_like(volume) if question.reference is None else question.reference
    found, missing = captum.IntegratedGradients(question.score).attribute(
        volume,
        baselines=reference,
        n_steps=STEPS,
        internal_batch_size=max(1, batch_size // 4),  # gradients need more memory
        return_convergence_delta=True,
    )
    share = abs(float(missing)) / max(abs(float(found.sum())), 1e-6)
    sentence = (
        f"Integrated gradients miss {100 * share:.1f} % of the score's difference from the average healthy brain."
    )
    logger.log(logging.WARNING if share > INCOMPLETE else logging.INFO, sentence)
    return found[0].sum(0)


def _occlusion(question: Question, volume: Tensor, batch_size: int) -> Tensor:
    """A window is filled with the reference: in what differs from it, MONAI fills it with 0."""
    reference = torch.zeros_like(volume) if question.reference is None else question.reference
    activate: Callable[[Tensor], Tensor] = (lambda s: s.softmax(1)) if question.probability else (lambda s: s)
    network = near(question.network, volume - reference + reference)  # with the rounding of what MONAI fills
    masked = OcclusionSensitivity(
        _FromReference(network, reference).eval(),  # MONAI puts it back into the mode it had
        mask_size=max(2, round(max(volume.shape[2:]) / WINDOWS)),
        n_batch=batch_size,
        verbose=False,
        mode=0.0,
        overlap=OVERLAP,
        activate=activate,
    )
    with torch.no_grad():
        scores = masked(volume - reference)[0][0, question.index]
        return activate(question.network(volume))[0, question.index] - torch.as_tensor(scores)


class _FromReference(nn.Module):
    """A network of what differs from a reference."""

    def __init__(self, network: nn.Module, reference: Tensor) -> None:
        super().__init__()
        self.network, self.reference = network, reference

    def forward(self, difference: Tensor) -> Tensor:
        """The network's scores of the reference and what differs from it."""
        return self.network(difference + self.reference)


# The two below work on a copy: MONAI never removes the hooks that it puts on a network.


def _gradcam(question: Question, volume: Tensor, batch_size: int) -> Tensor:  # noqa: ARG001
    found = GradCAMpp(
        copy.deepcopy(question.network), target_layers=last_map(question.network), postprocessing=lambda m: m
    )
    return torch.as_tensor(found(volume, class_idx=question.index))[0, 0]


def last_map(network: nn.Module) -> str:
    """The name of the module whose output is the last feature map of a network.

    Args:
        network: A classifier of MONAI's DenseNet or on top of an encoder.

    Raises:
        ValueError: when nothing is known of the network's feature maps, or they are several networks'.
    """
    if any(isinstance(module, Ensemble) for module in network.modules()):
        raise ValueError(
            "gradcam++ needs the last feature map of one network, and this is an ensemble, which has one of each "
            "member; take --explain regions or occlusion, or give the --model of a member."
        )
    names = [name for name, _ in network.named_modules()]
    dense = [name for name in names if re.search(r"(^|\.)denseblock\d+$", name)]
    found = [name for name in names if re.search(r"(^|\.)last_map$", name)] or dense
    if not found:
        raise ValueError(
            "gradcam++ needs the last feature map of a network, and this encoder does not say which it is (a module "
            "`last_map`, through which it passes); take --explain occlusion, which needs none."
        )
    return found[-1]


def _smoothgrad(question: Question, volume: Tensor, batch_size: int) -> Tensor:  # noqa: ARG001
    found = SmoothGrad(
        copy.deepcopy(question.network), stdev_spread=NOISE, n_samples=SAMPLES, magnitude=True, verbose=False
    )(volume, index=question.index)
    return torch.as_tensor(found)[0, 0]


def randomised(network: nn.Module, seed: int = 0) -> nn.Module:
    """A copy of a network with new random weights, to see whether a map depends on what was learned.

    Source:
        Adebayo et al., Sanity checks for saliency maps, NeurIPS 2018.
    """
    other = copy.deepcopy(network)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for module in other.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
    return other
