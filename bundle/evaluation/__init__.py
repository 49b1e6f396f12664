"""Probes, comparisons and the tables and figures of both."""

from bundle.evaluation.centring import require_people_of_sites
from bundle.evaluation.classifier import report_evaluation
from bundle.evaluation.clinic import Asked
from bundle.evaluation.comparison import Comparison
from bundle.evaluation.features import Images, voxels
from bundle.evaluation.given import probe, probe_age
from bundle.evaluation.outcome import AgeResult, ProbeResult
from bundle.evaluation.pipeline import Probe
from bundle.evaluation.plan import Plan
from bundle.evaluation.references import References
from bundle.evaluation.results import write_results
from bundle.evaluation.same_task import require_same_task
from bundle.evaluation.several_encoders import SeveralEncodersStudy
from bundle.evaluation.study import Pretrained, ProbeStudy
from bundle.evaluation.subjects import Subjects
from bundle.evaluation.two_modalities import TwoModalityStudy

__all__ = [
    "AgeResult",
    "Asked",
    "Comparison",
    "Images",
    "Plan",
    "Pretrained",
    "Probe",
    "ProbeResult",
    "ProbeStudy",
    "References",
    "SeveralEncodersStudy",
    "Subjects",
    "TwoModalityStudy",
    "probe",
    "probe_age",
    "report_evaluation",
    "require_people_of_sites",
    "require_same_task",
    "voxels",
    "write_results",
]
