"""A synthetic cohort with known causes, on which everything runs anywhere; no evidence about people."""

from bundle.phantom.cohort import make_phantom
from bundle.phantom.fields import SiteEffect, reference_grid
from bundle.phantom.second import make_second
from bundle.phantom.tables import Ages, Cohort, Region

__all__ = [
    "Ages",
    "Cohort",
    "Region",
    "SiteEffect",
    "make_phantom",
    "make_second",
    "reference_grid",
]
