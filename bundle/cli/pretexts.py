"""The pretexts, readings and networks of a comparison as somebody writes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bundle.cli.options import OptionError
from bundle.hints import nearest
from bundle.places import found

KEYS = ("overlays", "options")
READING = ("of", "probing")
NETWORK = ("start", "overlays")


def read_pretexts(pretexts: Mapping[str, Any]) -> tuple[dict[str, list[str]], dict[str, dict[str, Any]]]:
    """Overlays and options of each pretext.

    Args:
        pretexts: Name → overlays, or name → {overlays: overlays, options: options of pretrain.yaml}.

    Returns:
        Name → overlays, with those that come with the package where the user has none of that name; and name → options
        of those pretexts that have any.

    Raises:
        OptionError: a pretext is neither, or has an entry that there is not.

    Example:
        >>> read_pretexts({"y-Aware": [], "σ 2": {"options": {"sigma": 2.0}}})
        ({'y-Aware': [], 'σ 2': []}, {'σ 2': {'sigma': 2.0}})
    """
    parts = {str(name): _parts(str(name), pretext) for name, pretext in pretexts.items()}
    overlays = {name: [str(found(path)) for path in pretext.get("overlays", [])] for name, pretext in parts.items()}
    return overlays, {name: dict(pretext["options"]) for name, pretext in parts.items() if pretext.get("options")}


def check_readings(readings: Mapping[str, Any]) -> None:
    """Refuse readings that are not written as name → {of: a pretext or a reference, probing: options of probe.yaml}.

    Args:
        readings: What a comparison reads once more, by its names.

    Raises:
        OptionError: a reading is something else, or has an entry that there is not.
    """
    for name, reading in readings.items():
        if not isinstance(reading, Mapping) or not isinstance(reading.get("of"), str):
            raise OptionError(
                f"The reading '{name}' is {reading!r}, but {{of: y-Aware, probing: {{harmonize: project}}}} is "
                "expected."
            )
        for key in reading:
            if key not in READING:
                raise OptionError(
                    f"The reading '{name}' has an entry '{key}', which there is not{nearest(key, READING)}"
                )
        if not isinstance(reading.get("probing", {}), Mapping):
            raise OptionError(f"`probing` of the reading '{name}' is no mapping; options by their names are expected.")


def read_networks(networks: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """What each network starts from, and its own overlays on train.json.

    Args:
        networks: Name → start, or name → {start: start, overlays: overlays}; a start is a pretext, `scratch`, a file,
            or {network: name, task: task}.

    Returns:
        Name → start; and name → overlays of those networks that have any, with those that come with the package where
        the user has none of that name.

    Raises:
        OptionError: a network has no start, an entry that there is not, or overlays that are no list.

    Example:
        >>> read_networks({"plain": "y-Aware", "mine": {"start": "y-Aware", "overlays": ["mine.yaml"]}})
        ({'plain': 'y-Aware', 'mine': 'y-Aware'}, {'mine': ['mine.yaml']})
    """
    starts, overlays = dict(networks), dict[str, list[str]]()
    for name, network in networks.items():
        if not isinstance(network, Mapping) or {"network", "task"} & set(network):
            continue
        for key in network:
            if key not in NETWORK:
                raise OptionError(
                    f"The network '{name}' has an entry '{key}', which there is not{nearest(key, NETWORK)}"
                )
        files = network.get("overlays", [])
        if "start" not in network or not isinstance(files, list):
            raise OptionError(
                f"The network '{name}' is {dict(network)!r}, but what it starts from and a list of files are expected: "
                "{start: y-Aware, overlays: [configs/adaptation_adversarial_classifier.yaml]}."
            )
        starts[name] = network["start"]
        if files:
            overlays[name] = [str(found(path)) for path in files]
    return starts, overlays


def _parts(name: str, pretext: Any) -> Mapping[str, Any]:
    if isinstance(pretext, list):
        return {"overlays": pretext}
    if not isinstance(pretext, Mapping):
        raise OptionError(
            f"The pretext '{name}' is {pretext!r}, but overlays are expected, [configs/pretext_simclr.yaml], or "
            "{overlays: […], options: {sigma: 2.0}}."
        )
    for key, value in pretext.items():
        if key not in KEYS:
            raise OptionError(f"The pretext '{name}' has an entry '{key}', which there is not{nearest(key, KEYS)}")
        kind, words = (list, "a list of files") if key == "overlays" else (Mapping, "options by their names")
        if not isinstance(value, kind):
            raise OptionError(f"`{key}` of the pretext '{name}' is {value!r}, but {words} are expected.")
    return pretext
