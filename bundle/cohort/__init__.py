"""Who takes part: tables, datalists, splits, and what makes results too good."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bundle.cohort.datalist import (
    load_section,
    load_sections,
    load_test_section,
    phantom_of,
    warning_of,
    write_datalist,
)
from bundle.cohort.finding import Finding
from bundle.cohort.folds import Trial, draw_trials, fold_trials, require_diagnoses, site_trials, with_validation
from bundle.cohort.participants import CohortError, Problem
from bundle.cohort.quantities import require_plausible
from bundle.cohort.sheet import read_table
from bundle.cohort.splits import assert_disjoint, hold_out_sites, split_by_column, split_by_participant
from bundle.cohort.table import read_cohort, write_excluded

if TYPE_CHECKING:  # these need torch, which a table and its images do not: see `bundle.later`
    from bundle.cohort.cache import fill_cache, recipe_of_cache
    from bundle.cohort.modality import modality_for_card, modality_of_datalist, require_modality
    from bundle.cohort.overlap import fingerprints, refuse_overlap, say_seen
    from bundle.cohort.packing import ReadStoredd
    from bundle.cohort.regrid import grid_of_cohort, require_grid

__all__ = [
    "CohortError",
    "Finding",
    "Problem",
    "ReadStoredd",
    "Trial",
    "assert_disjoint",
    "draw_trials",
    "fill_cache",
    "fingerprints",
    "fold_trials",
    "grid_of_cohort",
    "hold_out_sites",
    "load_section",
    "load_sections",
    "load_test_section",
    "modality_for_card",
    "modality_of_datalist",
    "phantom_of",
    "read_cohort",
    "read_table",
    "recipe_of_cache",
    "refuse_overlap",
    "require_diagnoses",
    "require_grid",
    "require_modality",
    "require_plausible",
    "say_seen",
    "site_trials",
    "split_by_column",
    "split_by_participant",
    "warning_of",
    "with_validation",
    "write_datalist",
    "write_excluded",
]


def __getattr__(name: str) -> object:
    import bundle.later

    return bundle.later.attribute_of(__name__, name)
