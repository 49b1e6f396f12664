"""Probes, comparisons and the tables and figures of both."""

from bundle.evaluation.classifier import report_evaluation
from bundle.evaluation.comparison import Comparison
from bundle.evaluation.plan import Plan
from bundle.evaluation.probing import voxels
from bundle.evaluation.results import write_findings
from bundle.evaluation.study import ProbeStudy, batches, sections_of, trials_of

__all__ = [
    "Comparison",
    "Plan",
    "ProbeStudy",
    "batches",
    "report_evaluation",
    "sections_of",
    "trials_of",
    "voxels",
    "write_findings",
]
