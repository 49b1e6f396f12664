"""Kinds of brain maps: what the value of a voxel is, and what follows for checks, preprocessing, views and words."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

from bundle.hints import nearest
from bundle.scans.grid import NEWER, REFERENCE, TISSUES, Grid

INF = math.inf
NORMALISATIONS = {
    "volume": "mean 0, SD 1 over all voxels",
    "inside": "mean 0, SD 1 over voxels that are not 0",
    "cerebellum": "divided by the mean of the cerebellum",
}
CUSTOM = "custom"
LONGEST_TEXT = 120  # characters of a name or of words that a datalist or card may state
_FSL_1 = Grid.of((182, 218, 182), [[-1, 0, 0, 90], [0, 1, 0, -126], [0, 0, 1, -72], [0, 0, 0, 1]])
_FSL_2 = Grid.of((91, 109, 91), [[-2, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]])
_FMRI = Grid.of((61, 73, 61), [[-3, 0, 0, 90], [0, 3, 0, -126], [0, 0, 3, -72], [0, 0, 0, 1]])


@dataclass(frozen=True)
class Modality:
    """What is known of a kind of map.

    Attributes:
        name: Short name, as datalists, cards and options say it.
        words: What one map is called in sentences, such as `map of regional homogeneity (ReHo)`.
        quantity: What the value of a voxel is, such as `regional homogeneity`.
        unit: Unit of that value; empty where it has none.
        lowest: Range in which the lowest value of a map lies.
        highest: Range in which the highest value of a map lies.
        tissue: Template in which regions lie: one of `grid.TISSUES`.
        likeness: Correlation with that template below which a map is refused, and below which a warning is given.
        outside: Percent of the sum of all values outside the brain beyond which a warning is given, and a refusal.
        is_amount: Whether values are amounts of tissue, so that those of a region are summed to mL; else averaged.
        grids: Grids on which such maps usually lie; of any other one the table of a cohort has to say its shape.
        normalisation: One of `NORMALISATIONS`, which the overlay of the modality sets.
        views: Words that say which random changes of a map leave the person the same.
        source: Whose values and ranges these are.
        channels: Names of the modalities that one scan has a file of each, in the order in which a network sees them;
            empty where one file is all. Of several, what else is said here is of the first.
    """

    name: str
    words: str
    quantity: str
    unit: str = ""
    lowest: tuple[float, float] = (-INF, INF)
    highest: tuple[float, float] = (-INF, INF)
    tissue: str = "T1w"
    likeness: tuple[float, float] = (-INF, -INF)
    outside: tuple[float, float] = (15.0, 30.0)
    is_amount: bool = False
    grids: tuple[Grid, ...] = ()
    normalisation: str = "volume"
    views: str = "cutout, crop"
    source: str = ""
    channels: tuple[str, ...] = ()

    @property
    def each(self) -> tuple[Modality, ...]:
        """The modality of each channel; itself where there is one.

        Example:
            >>> [channel.words for channel in MODALITIES["gm_wm"].each]
            ['grey-matter map', 'white-matter map']
        """
        # Not cached: MONAI's DataLoader walks through the attributes of a dataset, and would not come out of a circle.
        return tuple(MODALITIES[name] for name in self.channels) or (self,)

    @property
    def first(self) -> Modality:
        """The modality of the first channel, which pictures, regions and fingerprints are of."""
        return self.each[0]

    @cached_property
    def plural(self) -> str:
        """What several maps are called.

        Example:
            >>> MODALITIES["reho"].plural
            'maps of regional homogeneity (ReHo)'
        """
        noun = "image" if "image" in self.words else "map"
        return self.words.replace(noun, f"{noun}s", 1)

    @property
    def option(self) -> str:
        """What `cohort --modality` takes, in words: the name, or FILE of a modality of one's own."""
        return self.name if self.name in MODALITIES else "FILE"

    @property
    def overlay(self) -> str:
        """The config that loads such maps, in words: FILE of a modality of one's own."""
        return f"configs/modality_{self.name}.yaml" if self.name in MODALITIES else "FILE"

    @property
    def rest(self) -> str:
        """What lies inside the tissue and in no named region, in words."""
        return f"rest of the {self.tissue if self.is_amount else 'map'}"

    @property
    def card(self) -> str | dict[str, Any]:
        """What a datalist or a card states: a name of the table, or everything of a modality of one's own."""
        if MODALITIES.get(self.name) == self:
            return self.name
        if self.channels:
            return {"name": self.name, "words": self.words, "channels": list(self.channels)}
        return {name: _plain(getattr(self, name)) for name in _STATED} | {"name": self.name}


GREY_MATTER = Modality(
    "gm", "grey-matter map", "grey matter", "mL per mL", (-0.1, 0.3), (0.3, 6.0), "grey matter", (0.5, 0.6),
    (6.0, 12.0), True, (REFERENCE, NEWER), "volume", "cutout, crop; exchanging left and right hides asymmetry",
    source="modulated density of CAT12, T1Prep, deepmriprep or `prepare`",
)  # fmt: skip
_RESTING = "cutout, crop, noise, smoothing; left and right may be exchanged"
_ONE_CHANNEL = {
    modality.name: modality
    for modality in (
        GREY_MATTER,
        Modality(
            "wm", "white-matter map", "white matter", "mL per mL", (-0.1, 0.3), (0.3, 6.0), "white matter", (0.4, 0.5),
            (6.0, 12.0), True, (REFERENCE, NEWER), "volume", "cutout, crop",
            source="modulated density of CAT12 (mwp2)",
        ),
        Modality(
            "t1w", "T1w image in MNI space", "T1w intensity", "arbitrary units", (-INF, INF), (0.0, INF), "T1w",
            (0.5, 0.7), (6.0, 15.0), grids=(REFERENCE, NEWER, _FSL_1, _FSL_2), normalisation="inside",
            views="cutout, crop, noise, smoothing", source="brain-extracted and affinely registered, by any software",
        ),
        Modality(
            "fa", "map of fractional anisotropy (FA)", "fractional anisotropy", "", (-0.05, 0.1), (0.5, 1.3),
            "white matter", (0.2, 0.35), grids=(_FSL_1, _FSL_2), normalisation="inside",
            views="cutout, crop", source="FSL (dtifit, registered to FMRIB58); eigenvalues below 0 give values above 1",
        ),
        Modality(
            "md", "map of mean diffusivity (MD)", "mean diffusivity", "mm²/s", (-0.001, 0.0005), (0.0012, 0.02), "T1w",
            grids=(_FSL_1, _FSL_2), normalisation="inside", views="cutout, crop",
            source="FSL (dtifit); water of 37 °C has 0.003 mm²/s",
        ),
        Modality(
            "reho", "map of regional homogeneity (ReHo)", "regional homogeneity", "Kendall's W", (-0.01, 0.05),
            (0.1, 1.0), "grey matter", (0.4, 0.5), grids=(_FMRI,), normalisation="inside", views=_RESTING,
            source="Zang et al., 2004; ranges from 614 maps of ABIDE (Preprocessed Connectomes Project)",
        ),
        Modality(
            "alff", "map of low-frequency fluctuations (ALFF)", "amplitude of low-frequency fluctuations",
            "arbitrary units", (-0.01, INF), (0.0, INF), "grey matter", (0.2, 0.3), grids=(_FMRI,),
            normalisation="inside", views=_RESTING, source="Zang et al., 2007",
        ),
        Modality(
            "falff", "map of fractional ALFF (fALFF)", "share of low-frequency fluctuations", "", (-0.01, 0.3),
            (0.1, 1.0), "grey matter", (0.2, 0.3), grids=(_FMRI,), normalisation="inside", views=_RESTING,
            source="Zou et al., 2008",
        ),
        Modality(
            "pet", "FDG-PET image in MNI space", "tracer uptake", "arbitrary units", (-INF, INF), (0.0, INF),
            "grey matter", (0.2, 0.3), grids=(_FSL_2,), normalisation="cerebellum", views="cutout, crop, smoothing",
            source="uptake relative to the cerebellum, as is usual in dementia",
        ),
    )
}  # fmt: skip
_SEVERAL = (
    ("gm_wm", "map of grey and white matter", ("gm", "wm"), "both of one run of CAT12 (mwp1, mwp2)"),
    ("fa_md", "map of FA and MD", ("fa", "md"), "both of one tensor fit (FSL's dtifit)"),
)
MODALITIES = _ONE_CHANNEL | {
    name: replace(_ONE_CHANNEL[channels[0]], name=name, words=words, channels=channels, source=source)
    for name, words, channels, source in _SEVERAL
}
_OPEN = {"likeness": (-INF, -INF), "outside": (INF, INF)}  # what null is of two ends of one side
# What somebody may say of a modality of their own; the other attributes follow, or are of the table's alone.
_STATED = (
    *("words", "quantity", "unit", "lowest", "highest", "tissue", "likeness", "outside", "is_amount", "normalisation"),
    "views",
)
_OF_CHANNELS = ("name", "words", "channels")  # the same of one with several files a scan
_STATED_BY = "stated by those who made the datalist"


def modality_of(stated: Any, where: str) -> Modality:
    """The modality that a datalist, a card or a config states.

    Args:
        stated: A name of the table; the entries of a modality of one's own, with `name`; or None, which is `gm`:
            what says no modality was made before there were others.
        where: Words that say what states it, for messages.

    Raises:
        ValueError: it is no known name, or an entry is not understood.

    Example:
        >>> mine = {"name": "rest", "words": "map of ReHo and ALFF", "channels": ["reho", "alff"]}
        >>> modality_of(mine, "mine.yaml").quantity
        'regional homogeneity'
    """
    if stated is None:
        return GREY_MATTER
    if isinstance(stated, Modality):
        return stated
    if isinstance(stated, str) and stated in MODALITIES:
        return MODALITIES[stated]
    if isinstance(stated, Mapping):
        return _own(stated, where)
    if stated == CUSTOM:
        raise ValueError(
            f"{where} states the modality 'custom'; a modality of one's own is stated by its entries, as "
            "configs/modality_custom.yaml has them: give that file, with your words and ranges."
        )
    raise ValueError(f"{where} states the modality {str(stated)[:60]!r}{nearest(str(stated), MODALITIES)}")


def _own(stated: Mapping[str, Any], where: str) -> Modality:
    if "channels" in stated:
        return _own_of_channels(stated, where)
    kinds = {field.name: field.type for field in fields(Modality) if field.name in ("name", *_STATED)}
    if unknown := [str(name) for name in stated if name not in kinds]:
        raise ValueError(f"{where} states a modality with an entry '{unknown[0]}'{nearest(unknown[0], kinds)}")
    if missing := [name for name in ("name", "words", "quantity") if not stated.get(name)]:
        raise ValueError(f"{where} states a modality without {missing[0]}; see configs/modality_custom.yaml.")
    _require_new(stated["name"], where)
    values = {str(name): _value(name, str(kinds[name]), value, where) for name, value in stated.items()}
    made = Modality(**values)
    for name, known in (("tissue", TISSUES), ("normalisation", NORMALISATIONS)):
        if getattr(made, name) not in known:
            raise ValueError(f"{where} states a modality with {name} '{values[name]}'{nearest(values[name], known)}")
    return replace(made, source=_STATED_BY)


def _own_of_channels(stated: Mapping[str, Any], where: str) -> Modality:
    """A modality whose scans have a file of each of several kinds of the table."""
    how = "of several files a scan has name, words and channels, and nothing else: the rest is known of each channel."
    if unknown := [str(name) for name in stated if name not in _OF_CHANNELS]:
        raise ValueError(f"{where} states a modality with channels and '{unknown[0]}'; one {how}")
    if missing := [name for name in _OF_CHANNELS if not stated.get(name)]:
        raise ValueError(f"{where} states a modality with channels and without {missing[0]}; one {how}")
    names = stated["channels"]
    if not isinstance(names, (list, tuple)) or len(names) < 2:
        raise ValueError(f"{where} states the channels {str(names)[:60]!r}, expected at least two modalities.")
    if unknown := [str(name) for name in names if not (isinstance(name, str) and name in _ONE_CHANNEL)]:
        raise ValueError(f"{where} states the channel {unknown[0][:60]!r}{nearest(unknown[0], _ONE_CHANNEL)}")
    if len(set(names)) < len(names):
        raise ValueError(f"{where} states the channels {', '.join(names)}; each may be there once.")
    _require_new(stated["name"], where)
    name, words = (_value(entry, "str", stated[entry], where) for entry in ("name", "words"))
    return replace(_ONE_CHANNEL[names[0]], name=name, words=words, channels=tuple(names), source=_STATED_BY)


def _require_new(name: Any, where: str) -> None:
    """Refuse a name of the table for a modality of one's own."""
    if isinstance(name, str) and name in MODALITIES:
        raise ValueError(
            f"{where} states a modality of its own with the name '{name}', which the table has; give it another name, "
            "or the name alone."
        )


def _value(name: str, kind: str, value: Any, where: str) -> Any:
    """A value of its kind: a text, true or false, or two numbers of which null is without a limit."""
    if kind == "bool" and isinstance(value, bool):
        return value
    if kind == "str" and isinstance(value, str) and len(value) <= LONGEST_TEXT and value.isprintable():
        return value
    if kind.startswith("tuple") and isinstance(value, (list, tuple)) and len(value) == 2:
        ends = [limit if one is None else one for one, limit in zip(value, _OPEN.get(name, (-INF, INF)), strict=True)]
        if all(type(one) in (int, float) and not math.isnan(one) for one in ends):
            return tuple(map(float, ends))
    expected = {"bool": "true or false", "str": f"a line of at most {LONGEST_TEXT} characters"}
    raise ValueError(
        f"{where} states a modality with {name} {str(value)[:60]!r}, expected "
        f"{expected.get(kind, 'two numbers, or null for no limit')}."
    )


def _plain(value: Any) -> Any:
    """A value as JSON has it: no limit is null."""
    return [None if math.isinf(one) else one for one in value] if isinstance(value, tuple) else value


def table_of_modalities() -> str:
    """The modalities as a table in Markdown."""
    import pandas as pd

    return pd.DataFrame([_row(one) for one in MODALITIES.values()]).to_markdown(index=False)


def _row(one: Modality) -> dict[str, str]:
    """A line of the table; what is said of a voxel is said of each channel."""

    def of_each(text: Callable[[Modality], str]) -> str:
        return "; ".join(dict.fromkeys(map(text, one.each)))

    return {
        "modality": f"`{one.name}`",
        "one image is a": one.words,
        "channels": ", ".join(f"`{name}`" for name in one.channels) or "one",
        "unit of a voxel": of_each(lambda channel: channel.unit or "none"),
        "highest value": of_each(lambda channel: _range(channel.highest)),
        "regions in": one.tissue,
        "said of a region": "mL" if one.is_amount else "mean",
        "grids": ", ".join("×".join(map(str, grid.shape)) for grid in one.grids),
        "normalised": NORMALISATIONS[one.normalisation],
        "views": one.views,
        "source": one.source,
    }


def _range(ends: tuple[float, float]) -> str:
    low, high = ends
    if math.isinf(high):
        return "any" if math.isinf(low) else f"above {low:g}"
    return f"{low:g} to {high:g}"
