"""One image on disk: reading it within limits, its grid, and what a map must be like."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bundle.scans.channels import channels_fault
from bundle.scans.contract import Check, Contract, Examination
from bundle.scans.grid import Grid, templates, to_grid
from bundle.scans.limits import Limit, limits_of
from bundle.scans.made_by import pipeline_of
from bundle.scans.modality import MODALITIES, Modality, modality_of
from bundle.scans.names import safe_names
from bundle.scans.nifti import UnreadableError, VolumeError
from bundle.scans.npy import open_array, read_arrays
from bundle.scans.placement import grid_of, grids_of, in_words
from bundle.scans.profile import profile
from bundle.scans.scan import Scan, ScanError, find_scans
from bundle.scans.volumes import checked_volume, read_volume, volume_faults, within_limits

if TYPE_CHECKING:  # these need torch, which headers and values do not: see `bundle.later`
    from bundle.scans.load_channels import LoadChannelsd
    from bundle.scans.reference_region import relative_to_cerebellum

__all__ = [
    "MODALITIES",
    "Check",
    "Contract",
    "Examination",
    "Grid",
    "Limit",
    "LoadChannelsd",
    "Modality",
    "Scan",
    "ScanError",
    "UnreadableError",
    "VolumeError",
    "channels_fault",
    "checked_volume",
    "find_scans",
    "grid_of",
    "grids_of",
    "in_words",
    "limits_of",
    "modality_of",
    "open_array",
    "pipeline_of",
    "profile",
    "read_arrays",
    "read_volume",
    "relative_to_cerebellum",
    "safe_names",
    "templates",
    "to_grid",
    "volume_faults",
    "within_limits",
]


def __getattr__(name: str) -> object:
    import bundle.later

    return bundle.later.attribute_of(__name__, name)
