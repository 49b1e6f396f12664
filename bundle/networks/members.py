"""Members of an ensemble: trained classifiers that answer the same question of the same people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from bundle.networks.cards import classifier_card
from bundle.networks.ensembles import Ensemble
from bundle.networks.formats import weights_digest
from bundle.networks.weights import load_network

AGREEING = ("task", "class_names", "network", "preprocessing_steps", "fingerprints")  # of the cards of members


def load_members(ensemble: nn.Module, paths: Sequence[str | Path]) -> None:
    """Fill an ensemble with the weights of its members, which have to agree with each other.

    Args:
        ensemble: Ensemble; changed in place.
        paths: The file of each member, with its card.

    Raises:
        ValueError: see `require_agreement`; or when weights do not fit.
    """
    assert isinstance(ensemble, Ensemble)
    require_agreement(paths)
    for member, path in zip(ensemble.members, paths, strict=True):
        load_network(path, member)


def require_agreement(paths: Sequence[str | Path]) -> None:
    """Refuse members that answer different questions, or look at scans in different ways.

    Compared are task, classes, network, preprocessing, grid, and who trained and validated, since the ensemble is
    calibrated on the people whom no member was trained on.

    Args:
        paths: The file of each member, with its card.

    Raises:
        ValueError: names the member and what differs.
    """
    first, *others = paths
    expected = _agreed(classifier_card(first))
    for path in others:
        found = _agreed(classifier_card(path))
        if differing := [name for name in expected if found[name] != expected[name]]:
            name = differing[0]
            said = f" ({_short(expected[name])} and {_short(found[name])})" if name != "fingerprints" else ""
            raise ValueError(
                f"{path} is no member of an ensemble with {first}: their cards differ in "
                f"{', '.join(differing).replace('fingerprints', 'the subjects')}{said}. Train all members with the "
                "same options but the seed."
            )


def _agreed(card: Mapping[str, Any]) -> dict[str, Any]:
    return {**{name: card.get(name) for name in AGREEING}, "grid": card.get("contract", {}).get("grid")}


def _short(value: Any) -> str:
    return f"{str(value)[:80]!r}"


def members_of(folder: str | Path, paths: Sequence[str | Path]) -> list[dict[str, Any]]:
    """What the card of an ensemble says of its members: file, seen from the ensemble, sha256, seed and validation AUC.

    Args:
        folder: Folder of the ensemble.
        paths: The file of each member, with its card.
    """
    cards = [classifier_card(path) for path in paths]
    top = Path(folder).absolute()
    return [
        {
            "file": _seen_from(top, Path(path).absolute()),
            "sha256": weights_digest(Path(path)),
            "seed": card.get("made_by", {}).get("seed"),
            "val_auc": card["validation"].get("val_auc"),
        }
        for path, card in zip(paths, cards, strict=True)
    ]


def _seen_from(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name
