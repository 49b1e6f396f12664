"""One image on disk: reading it within limits, its grid, and what a map must be like."""

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
from bundle.scans.reference_region import relative_to_cerebellum
from bundle.scans.scan import Scan, ScanError, find_scans
from bundle.scans.volumes import checked_volume, read_volume, volume_faults, within_limits

__all__ = [
    "MODALITIES",
    "Check",
    "Contract",
    "Examination",
    "Grid",
    "Limit",
    "Modality",
    "Scan",
    "ScanError",
    "UnreadableError",
    "VolumeError",
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
