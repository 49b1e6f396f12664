"""Weights rewritten: those of other projects as ours, and ours in another format.

What a file of another project holds is said, and what fits no encoder is refused.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from bundle.files import sha256
from bundle.networks.architecture import described
from bundle.networks.cards import read_card
from bundle.networks.formats import read_state_dict, write_weights
from bundle.networks.safetensors_file import SUFFIX, is_safetensors
from bundle.networks.weights import load_encoder, save_weights

KINDS = {  # the first tensor whose name is in a file says what the file holds
    "head_projection.weight": "a contrastive network with its projector",
    "head.2.weight": "a contrastive network with its projector",
    "projector.output.weight": "a contrastive network with its projector",
    "classifier.weight": "a classifier",
    "class_layers.out.weight": "a classifier",
}
DENSE = re.compile(r"\.denselayer\d+\.(?!layers\.)")  # as the paper's released file has it
NORM = "features.norm5.weight"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Conversion:
    """What a conversion did.

    Attributes:
        kind: What the file holds.
        layout: Software that has given the tensors their names.
        prefix: What stands before the names of the encoder's tensors.
        parallel: Whether names carry the `module.` of a parallel wrapper.
        loaded: Number of the encoder's tensors, all of which were found.
        left_out: Names of tensors that belong to no encoder.
        weights: The file that was written.
    """

    kind: str
    layout: str
    prefix: str
    parallel: bool
    loaded: int
    left_out: tuple[str, ...]
    weights: Path

    def __str__(self) -> str:
        """One sentence."""
        wrapper = ", of a parallel wrapper" if self.parallel else ""
        wrapper += f", its names beginning with `{self.prefix}`" if self.prefix not in ("", "encoder.") else ""
        left = f"; left out: {', '.join(self.left_out)}" if self.left_out else ""
        return (
            f"{self.kind} in {self.layout}{wrapper}: all {self.loaded} tensors of the encoder → {self.weights}{left}."
        )


def change_format(path: Path, output: Path, ending: str | None = None) -> Path:
    """Write weights that have a card in another format: every tensor and every entry of the card as it is.

    Args:
        path: Path of a network's weights.
        output: Folder that gets the file, under the same name.
        ending: `.pt` or `.safetensors`; None: the one that `path` has not.

    Returns:
        The file.

    Raises:
        ValueError: when the weights have no card, or a file of that name is there.
    """
    _require_folder(output)
    card, content = read_card(path), read_state_dict(path)
    if not card:
        raise ValueError(f"{path} has no card, so that nobody could say what its weights are; convert them as foreign.")
    target = output / f"{path.stem}{ending or ('.pt' if is_safetensors(path) else SUFFIX)}"
    taken = [file for file in (target, target.with_suffix(".json")) if file.exists()]
    if target.exists() or (taken and not is_safetensors(target)):
        raise ValueError(f"{taken[0]} is there already; move it away, or give another --output.")
    write_weights(target, content, card)
    if read_card(target).get("kind") != card.get("kind") or not _are_equal(content, read_state_dict(target)):
        raise ValueError(f"{target} does not hold what {path} does; the disk may be damaged. Convert again.")
    logger.info(f"{path}: all {len(content)} tensors and the card → {target}")
    return target


def _require_folder(output: Path) -> None:
    if output.suffix in (".pt", SUFFIX) and not output.is_dir():
        raise ValueError(f"--output is the folder {output}, which has the name of a file; give the folder for it.")


def _are_equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    same = one.keys() == other.keys() and all(one[n].dtype == other[n].dtype for n in one)
    return same and all(one[name].equal(other[name]) for name in one)


def convert_weights(path: Path, output: Path, ending: str = ".pt") -> Conversion:
    """Write an encoder of ours, with a card, from weights in a released layout or in MONAI's.

    Args:
        path: Path of the paper's DenseNet121, AnatCL's ResNet-18 or a network of MONAI: a state dict, or a dict that
            holds one under `model`; of an encoder, a contrastive network or a classifier; with or without the `module.`
            of a parallel wrapper.
        output: Folder that gets `NAME.pt` and its card `NAME.json`, or `NAME.safetensors` with the card inside.
        ending: `.pt` or `.safetensors`.

    Raises:
        ValueError: when the file holds pickled objects, is damaged, matches no encoder, or would be overwritten.
    """
    _require_folder(output)
    content = read_state_dict(path)
    target = output / f"{path.stem}{ending}"
    if target.exists() and target.samefile(path):
        raise ValueError(f"{path} would be overwritten by its own conversion; give another --output.")
    report = load_encoder(path)
    names = [name.removeprefix("module.").removeprefix(report.prefix) for name in content]
    conversion = Conversion(
        kind=_kind(names),
        layout=_layout(names),
        prefix=report.prefix,
        parallel=any(name.startswith("module.") for name in content),
        loaded=len(report.loaded),
        left_out=report.ignored,
        weights=target,
    )
    save_weights(target, report.encoder, _card(path, conversion, content, report.encoder))
    logger.info(str(conversion))
    return conversion


def _layout(names: list[str]) -> str:
    if "conv1.weight" in names:
        return "AnatCL's layout"
    return "the paper's released layout" if any(DENSE.search(name) for name in names) else "MONAI's layout"


def _kind(names: list[str]) -> str:
    found = next((kind for name, kind in KINDS.items() if name in names), "an encoder")
    return f"{found} with a final norm" if NORM in names else found


def _card(path: Path, conversion: Conversion, content: Mapping[str, Tensor], encoder: nn.Module) -> dict[str, object]:
    return {
        "kind": "encoder",
        "network": described(encoder),
        "converted_from": {
            "file": path.name,
            "sha256": sha256(path),
            "tensors": len(content),
            "kind": conversion.kind,
            "prefix": conversion.prefix,
        },
        "licence": "that of the file it was converted from; ask its authors where none is stated",
        "preprocessing": "that of the file it was converted from; for the paper's file, configs/published_recipe.yaml",
        "intended_use": "research only; not a medical device",
    }
