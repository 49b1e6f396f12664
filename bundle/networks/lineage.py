"""Where weights come from: the trainings that they went through, one after another, as their card tells them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bundle.hub import as_address, located
from bundle.networks.cards import read_card
from bundle.networks.formats import weights_digest
from bundle.networks.names import SCRATCH

_TEXTS = ("kind", "method", "task")  # of a card, by the one that started from it

_NOTHING = "weights"  # of which a card says nothing


def origin(weights: str | Path) -> dict[str, Any] | str:
    """What a card says of the weights that training started from, and of what those started from.

    Args:
        weights: An encoder or a classifier, or `scratch`.

    Returns:
        `scratch`, or path and digest, what their own card says of kind, question and scans, whether it knows who took
        part (`people_known`), and under `pretrained` the same of the training before.
    """
    if str(weights) == SCRATCH:
        return SCRATCH
    path = located(weights)
    return {"path": as_address(str(path)), "sha256": weights_digest(path), **_stage(read_card(path))}


def stages(weights: str | Path) -> Iterator[Mapping[str, Any]]:
    """The trainings of some weights, the last first; nothing of `scratch`, or where no card says anything.

    Args:
        weights: An encoder or a classifier.
    """
    stage: Any = {} if str(weights) == SCRATCH else _stage(read_card(weights))
    while isinstance(stage, Mapping):
        if "people_known" in stage:
            yield stage
        stage = stage.get("pretrained")


def lineage(weights: str | Path) -> str:
    """The trainings of some weights in a few words, the last first.

    Args:
        weights: An encoder or a classifier.

    Returns:
        Such as `classifier of sex (F or M), trained on 274 scans ← y-Aware encoder, trained on 153 scans`; empty where
        no card says anything.
    """
    told = [_words(stage) for stage in stages(weights)]
    return " ← ".join(told) if set(told) - {_NOTHING} else ""


def _stage(card: Mapping[str, Any]) -> dict[str, Any]:
    """What is handed on of a card; nothing of an empty one, which a missing card is."""
    if not card:
        return {}
    stage: dict[str, Any] = {name: card[name] for name in _TEXTS if isinstance(card.get(name), str)}
    if isinstance(names := card.get("class_names"), list):
        stage["class_names"] = names
    subjects = card.get("subjects")
    counts = list(subjects.values()) if isinstance(subjects, Mapping) else [subjects]
    if counts and all(type(count) is int for count in counts):
        stage["scans"] = sum(counts)  # training and validation of a classifier
    stage["people_known"] = "fingerprints" in card
    return {**stage, "pretrained": card["pretrained"]} if card.get("pretrained") else stage


def _words(stage: Mapping[str, Any]) -> str:
    kind, names = str(stage.get("kind", _NOTHING)), stage.get("class_names")
    if kind == "classifier":
        kind = f"classifier of {stage.get('task', 'something')}"
        kind += f" ({' or '.join(map(str, names))})" if isinstance(names, list) else ""
    elif method := stage.get("method"):
        kind = f"{method} {kind}"
    return f"{kind}, trained on {stage['scans']} scans" if "scans" in stage else kind


def refuse_ensemble(weights: str | Path) -> None:
    """Refuse an ensemble where one encoder is wanted, and name the member that validated best.

    Args:
        weights: Weights with a card.

    Raises:
        ValueError: the card says that they are several networks.
    """
    path = located(weights)
    card = read_card(path)
    if not (count := card.get("network", {}).get("members")):
        return
    members = [member for member in card.get("ensemble", ()) if member.get("file")]
    best = max(members, key=lambda member: member.get("val_auc") or 0.0, default=None)
    which = f", such as {path.parent / best['file']}, which has the best ROC-AUC on validation" if best else ""
    raise ValueError(
        f"{path} is an ensemble of {count} classifiers, which have an encoder each, and one encoder is expected. Give "
        f"one of its members{which}."
    )


def require_classifier_weights(weights: str | Path) -> None:
    """Refuse, as a classifier to start from, weights whose card says something else or is missing.

    Args:
        weights: Weights, as given by `--from`.

    Raises:
        ValueError: they are no classifier's, or of an ensemble.
    """
    kind = read_card(weights).get("kind")
    if kind == "encoder":
        raise ValueError(f"--from expects a classifier, but the card of {weights} says encoder; give it as --weights.")
    if kind != "classifier":
        found = f"its card says {kind}" if kind else "it has no card, which would say its question and who trained it"
        raise ValueError(
            f"--from expects a classifier, but of {weights} {found}. Keep the .json with the .pt, or start from its "
            "tensors all the same with --weights."
        )
    refuse_ensemble(weights)
