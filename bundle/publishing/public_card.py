"""A card that everybody may read: without paths of a machine, and without whom it can name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bundle.cohort.overlap import id_digest
from bundle.hub import as_address

PERSONAL = ("fingerprints",)  # entries that describe single participants
_PATHS = ("datalist", "pretrained", "made_by")  # entries in which a run writes paths
_START = r"(?<![\w.:/\\-])(?:file:|~[/\\]|/(?=[\w.~])|[A-Za-z]:[\\/]|\\\\)"
_ABSOLUTE = re.compile(_START + r"[^\s'\",;=\[\](){}]*")
_BIDS = re.compile(r"\bsub-[A-Za-z]*[0-9][A-Za-z0-9]*")
_WORD = re.compile(r"[\w.-]{4,}")  # shorter ones are numbers of something else too often


def public_card(card: Mapping[str, Any], weights: Path, personal: bool) -> dict[str, Any]:
    """A card as it is published.

    Paths in `datalist`, `pretrained` and `made_by` lose their folders where they begin at the root of a machine; the
    weights of the Hub are named by their address.

    Args:
        card: Card of the weights.
        weights: Path of the weights, for the message.
        personal: Keep the digests of participants and images.

    Raises:
        ValueError: when another entry holds such a path, or any entry names a participant.
    """
    shown = {name: _without_folders(value) if name in _PATHS else value for name, value in card.items()}
    known = set((card.get("fingerprints") or {}).get("participants", ()))
    for place, text in _texts({name: value for name, value in shown.items() if name not in PERSONAL}):
        if found := _ABSOLUTE.search(text):
            raise ValueError(
                f"The card of {weights} is not published: `{place}` holds {found[0]!r}, a path of a machine, which may "
                "tell names. Train with relative paths, or take it out of the card."
            )
        if who := _named(text, known):
            raise ValueError(
                f"The card of {weights} is not published: `{place}` names the participant {who!r}. Take it out of the "
                "card, or train from files whose names are nobody's."
            )
    return {name: value for name, value in shown.items() if personal or name not in PERSONAL}


def _named(text: str, known: set[str]) -> str | None:
    """A participant of the training whom a text names, or what BIDS calls one."""
    words = {*_WORD.findall(text), *re.findall(r"[^\W_]{4,}", text)}
    trained = (word for word in sorted(words) if id_digest({"participant_id": word}) in known)
    bids = _BIDS.search(text)
    return next(trained, bids[0] if bids else None)


def _without_folders(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_folders(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_without_folders(item) for item in value]
    return _ABSOLUTE.sub(_last_part, as_address(value)) if isinstance(value, str) else value


def _last_part(path: re.Match[str]) -> str:
    return re.split(r"[/\\]", path[0])[-1] or "…"


def _texts(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Every text of a card with the place where it stands, names of entries too."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield place or str(name), str(name)
            yield from _texts(item, f"{place}.{name}".lstrip("."))
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, place)
    elif isinstance(value, str):
        yield place, value
