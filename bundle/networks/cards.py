"""What a card may say: its format, and the kind of every entry that anything is computed from."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bundle.files import check_format, read_json, sha256, without_nan
from bundle.hub import located
from bundle.networks.formats import weights_digest
from bundle.networks.preprocessing import are_steps
from bundle.networks.safetensors_file import card_inside, is_safetensors

CARD_FORMAT = 1  # a card without one is of this format, too
LARGEST = 4096  # filters of a layer
MEMBERS = 32  # of an ensemble, at most
NETWORK = ("init_features", "growth_rate", "block_config")
_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")  # of a class, with its module where it is not ours
Rule = tuple[Callable[[Any], bool], str]  # whether a value is possible, and what was expected


def check_card(card: Any, path: Path) -> dict[str, Any]:
    """Refuse a card that is damaged or of an unknown format; what it says beyond the known entries is left alone.

    Args:
        card: Content of the JSON file.
        path: Path of the card, for the message.

    Raises:
        ValueError: names the entry, what was found and what was expected.
    """
    if not isinstance(card, dict):
        raise ValueError(f"The card {path} is no JSON object; restore it, or delete it.")
    check_format(card.get("format", CARD_FORMAT), CARD_FORMAT, path)
    rules = _EVERY | (_CLASSIFIER if card.get("kind") == "classifier" else {})
    for name, (holds, expected) in rules.items():
        if card.get(name) is not None and not holds(card[name]):
            found = f"{str(card[name])[:60]!r}"
            raise ValueError(f"The card {path} has {name} {found}, expected {expected}; restore it, or delete it.")
    return {name: value for name, value in card.items() if value is not None or name not in rules}


def read_card(weights: str | Path) -> dict[str, Any]:
    """The card of a weights file: in the header of a `.safetensors` file, else beside it; empty when there is none.

    Raises:
        ValueError: when the card is damaged, of an unknown format, or belongs to other weights; or when a card beside
            a `.safetensors` file says something else than the one inside.
    """
    path = located(weights)
    inside = check_card(without_nan(card_inside(path)), path) if is_safetensors(path) and path.is_file() else {}
    beside = _card_beside(path)
    if inside and beside and inside != beside:
        differing = ", ".join(sorted(n for n in {*inside, *beside} if inside.get(n) != beside.get(n)))
        raise ValueError(
            f"{path.with_suffix('.json')} is no card of {path}, whose header has another one; they differ in "
            f"{differing}. Delete the one beside, or give the weights that it belongs to."
        )
    card = inside or beside
    if path.is_file() and card.get("sha256") not in (None, weights_digest(path) if card else None):
        where = f"in the header of {path}" if inside else f"{path.with_suffix('.json')}"
        raise ValueError(f"The card {where} belongs to other weights than {path}: their sha256 differs; restore it.")
    return card


def _card_beside(path: Path) -> dict[str, Any]:
    """The JSON file of a weights file's name, unless it is the card of a `.pt` file beside a `.safetensors` one."""
    file = path.with_suffix(".json")
    if not file.is_file():
        return {}
    card = check_card(without_nan(read_json(file, "The card ")), file)
    other = path.with_suffix(".pt")
    of_other = is_safetensors(path) and other.is_file() and card.get("sha256") == sha256(other)
    return {} if of_other else card


def classifier_card(weights: str | Path) -> dict[str, Any]:
    """The card of a classifier, which knows its classes and its operating point.

    Raises:
        ValueError: when there is none, or it is another kind's.
    """
    card = read_card(weights)
    known = "class_names" in card and (card.get("validation") or {}).get("val_threshold") is not None
    if card.get("kind") != "classifier" or not known:
        kind = f"that of {card.get('kind', 'something else')}; give a classifier" if card else "missing"
        raise ValueError(
            f"{weights} needs the card of a classifier, with its classes and operating point, but the card is {kind}"
            f"{', or train one first' if card else '; train the classifier first, or keep the .json with the .pt'}."
        )
    return card


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e30


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 < value <= LARGEST


def _is_metrics(value: Any) -> bool:
    return isinstance(value, dict) and all(v is None or _is_number(v) for v in value.values())


def _is_network(value: Any) -> bool:
    """These become options of a config, where a text could be an expression."""
    if isinstance(value, dict) and "members" in value:
        rest = {name: entry for name, entry in value.items() if name != "members"}
        return _is_count(value["members"]) and 2 <= value["members"] <= MEMBERS and _is_network(rest)
    if isinstance(value, dict) and "encoder" in value:
        return _is_encoder(value)
    if not isinstance(value, dict) or not set(value) <= {*NETWORK, "in_channels"}:
        return False
    blocks = value.get("block_config", [1])
    layers = isinstance(blocks, list) and 0 < len(blocks) <= 8 and all(_is_count(n) and n <= 256 for n in blocks)
    return layers and all(_is_count(v) for name, v in value.items() if name != "block_config")


def _is_encoder(value: dict[str, Any]) -> bool:
    """The name of a class, and plain numbers by the names of its arguments."""
    name, arguments = value["encoder"], value.get("arguments", {})
    if set(value) - {"encoder", "arguments"} or not isinstance(name, str) or not _NAME.fullmatch(name):
        return False
    return isinstance(arguments, dict) and all(
        argument.isidentifier() and not argument.startswith("_") and _is_size(size)
        for argument, size in arguments.items()
    )


def _is_size(value: Any) -> bool:
    """A number of filters, heads or voxels, several of them, or the name of a norm."""
    if isinstance(value, list):
        return 0 < len(value) <= 8 and all(map(_is_count, value))
    return _is_count(value) or value in ("batch", "group")


def _is_digests(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(digests, list) and all(isinstance(d, str) for d in digests) for digests in value.values()
    )


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_text, value)) and value[0] != value[1]


def _are_members(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) and _is_text(one.get("sha256")) for one in value)


def _is_modality(value: Any) -> bool:
    return isinstance(value, (str, Mapping))


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping)


_EVERY: dict[str, Rule] = {
    "sha256": (_is_text, "a text"),
    "kind": (_is_text, "a text"),
    "warning": (_is_text, "a text"),
    "validation": (_is_metrics, "numbers by name"),
    "network": (_is_network, f"{', '.join(NETWORK)} as whole numbers, or encoder and its arguments"),
    "modality": (_is_modality, "the name of a modality, or its entries"),
    "fingerprints": (_is_digests, "lists of digests"),
    "contract": (_is_mapping, "the profile of the training scans"),
    "made_by": (_is_mapping, "entries by name"),
    "method": (_is_text, "a text"),
    "ensemble": (_are_members, "a list of members with file, sha256 and seed"),
    "preprocessing_steps": (are_steps, "a list of known transforms with plain values"),
}
_CLASSIFIER: dict[str, Rule] = {
    "class_names": (_is_pair, "two names that differ"),
    "subjects": (_is_mapping, "numbers by name"),
}
