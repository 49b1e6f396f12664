"""Names of the tensors of a file: whose layout they have, what stands before them, and what an encoder has of them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from torch import Tensor

HEAD = ("class_layers.", "features.norm5.")  # of MONAI's DenseNet; no encoder has them
BESIDE = (  # first parts of the names of what is trained on top of an encoder
    *("projector", "decoder", "output", "class_layers", "hidden_representation", "head_projection"),
    *("classifier", "head", "fc"),
)
PROJECTOR = {"projector.hidden.": "hidden_representation.", "projector.output.": "head_projection."}  # ours: released
SCRATCH = "scratch"  # in place of a file: start from random weights
LISTED = 5  # names of tensors in a sentence
FIRST = (  # tensors by which a DenseNet, and a ResNet alone or among others, are known
    ("features.conv0.weight",),
    ("features.conv1.weight", "features.layer1.0.conv1.weight"),
    ("conv1.weight", "layer1.0.conv1.weight"),
)


def to_released(network_state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A contrastive network's state dict in the layout of the paper's released file, to be stored under "model".

    Args:
        network_state: State dict of `networks.encoders.ContrastiveNetwork` with a DenseNet encoder.

    Source:
        Key names of DenseNet121_BHB-10K_yAwareContrastive.pth, whose authors publish no licence: it is not shipped.
    """
    return {f"module.{_released_name(name)}": tensor for name, tensor in network_state.items()}


def from_released(released: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `to_released`: a state dict for `networks.encoders.ContrastiveNetwork`.

    Args:
        released: What the released file has under "model".
    """
    ours = (_our_name(name.removeprefix("module.")) for name in released)
    return {
        name if name.startswith("projector.") else f"encoder.{name}": tensor
        for name, tensor in zip(ours, released.values(), strict=True)
    }


def _released_name(name: str) -> str:
    name = name.removeprefix("encoder.")
    for ours, released in PROJECTOR.items():
        name = name.replace(ours, released)
    return re.sub(r"(\.denselayer\d+)\.layers\.", r"\1.", name)


def _our_name(name: str) -> str:
    for ours, released in PROJECTOR.items():
        name = name.replace(released, ours)
    return re.sub(r"(\.denselayer\d+)\.(?!layers\.)", r"\1.layers.", name)


def split(
    path: Path, content: Mapping[str, Tensor], expected: Collection[str] = ()
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The tensors of an encoder by its names, and the others of a file.

    Args:
        path: Path of the file, for the message.
        content: Content of the file.
        expected: Names of the encoder's tensors; without, a DenseNet or a ResNet is looked for.

    Raises:
        ValueError: when the file holds several such encoders.
    """
    plain = {name.removeprefix("module."): tensor for name, tensor in content.items()}
    before = prefix_of(path, plain, expected)
    inside = {name.removeprefix(before): tensor for name, tensor in plain.items() if name.startswith(before)}
    outside = {name: tensor for name, tensor in plain.items() if not name.startswith(before)}
    if not expected or not set(expected) <= set(inside):
        inside = _with_our_names(inside)
    own = {name: tensor for name, tensor in inside.items() if _is_own(name, expected)}
    return own, {**{name: tensor for name, tensor in inside.items() if name not in own}, **outside}


def prefix_of(path: Path, content: Iterable[str], expected: Collection[str] = ()) -> str:
    """What stands before the names of an encoder's tensors, such as `encoder.` or `backbone.`; nothing: an empty text.

    Args:
        path: Path of the file, for the message.
        content: Names of a file's tensors.
        expected: Tensors; see `split`.

    Raises:
        ValueError: when several encoders are in the file, each with a beginning of its own.

    Example:
        >>> prefix_of(Path("a.pt"), ["module.backbone.features.conv0.weight"])
        'backbone.'
    """
    names = {name.removeprefix("module.") for name in content}
    for wanted in [tuple(expected)] if expected else FIRST:
        ends = {name.removesuffix(wanted[0]) for name in names if name.endswith(wanted[0])}
        shares = {end: sum(f"{end}{name}" in names for name in wanted) for end in ends if end == "" or end[-1] == "."}
        found = sorted(end for end, share in shares.items() if share == max(shares.values()))
        if len(found) > 1 and max(shares.values()) == len(wanted) and "" not in found:
            raise ValueError(
                f"{path} holds {len(found)} encoders, whose names begin with {' and '.join(found[:LISTED])}; keep the "
                "tensors of one of them. Nothing was loaded."
            )
        if found and (expected or max(shares.values()) == len(wanted)):
            return found[0]
    return "encoder." if any(name.startswith("encoder.") for name in names) else ""


def _with_our_names(plain: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names as our DenseNet and ResNet have them (`features.…`), from those of released files."""
    if "conv1.weight" in plain:
        plain = _resnet_with_our_names(plain)
    return {_our_name(name): tensor for name, tensor in plain.items()}


def _is_own(name: str, expected: Collection[str]) -> bool:
    """Whether a tensor is an encoder's, and not of what is trained on top of one; an unknown one is, to be refused."""
    if name in expected:
        return True
    if all(own.startswith("features.") for own in expected):
        return name.startswith("features.") and not name.startswith(HEAD)
    return name.split(".")[0] not in BESIDE


def _resnet_with_our_names(plain: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A ResNet whose parts stand alone, as AnatCL's; its shortcuts have no bias, where MONAI's have one: zero."""
    ours = {f"features.{n}" if n.startswith(("conv1.", "bn1.", "layer")) else n: t for n, t in plain.items()}
    shortcuts = {n.removesuffix("weight"): t for n, t in ours.items() if n.endswith(".downsample.0.weight")}
    return {**{f"{name}bias": t.new_zeros(len(t)) for name, t in shortcuts.items()}, **ours}


def refuse_mismatch(path: Path, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Refuse tensors that are not those of a network: missing, unknown, or of another shape.

    Args:
        path: Path of the file, for the message.
        expected: State dict of the network.
        found: Tensors of the file.

    Raises:
        ValueError: names the tensors.
    """
    shapes = [
        f"{name} {tuple(found[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in expected
        if name in found and found[name].shape != expected[name].shape
    ]
    problems = {
        "missing in the file": [name for name in expected if name not in found],
        "unknown to the network": [name for name in found if name not in expected],
        "of another shape": shapes,
    }
    if any(problems.values()):
        matching = len(set(expected) & set(found)) - len(shapes)
        reasons = "; ".join(f"{len(names)} {what} ({listed(names)})" for what, names in problems.items() if names)
        raise ValueError(
            f"{path} does not fit this network: {matching} of its {len(expected)} tensors match, {reasons}. "
            "Nothing was loaded; use the settings that the weights were trained with."
        )


def listed(names: Sequence[str]) -> str:
    """Some names for a sentence: the first few, and how many more there are."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
