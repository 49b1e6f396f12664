"""Whether a DICOM series is a T1w scan of the head as a preparation needs it, by rules, with the reason in words."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bundle.preparation.dicom_geometry import THICKEST
from bundle.preparation.dicom_headers import Slice

MR, ENHANCED = "1.2.840.10008.5.1.4.1.1.4", ("1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.4.4")
SCREENSHOT = "1.2.840.10008.5.1.4.1.1.7"  # and those that begin with it
LONG_ECHO = 12.0  # ms; T1w scans by gradient echo have 2–8
SMALL_FLIP, BETWEEN = 8.0, (15.0, 60.0)  # degrees, and TR in ms, of a gradient echo that weights proton density
T1_NAMES = r"(?:3d)?s?t1w?|mp-?2?-?rage|bravo|(?:ir)?f?spgr|tfe|tfl|flash"
OTHER_NAMES = {  # a word of the name, as a regular expression: what it says
    r"s?flair|dark-?fluid|tirm|stir": "a FLAIR or STIR scan",
    r"s?t2w?|t2star|tse|blade|ciss|fiesta|haste": "a T2-weighted scan",
    r"dwi|dti|diff\w*|adc|trace\w*|tensor|hardi|noddi": "a diffusion scan",
    r"bold|fmri|epi|ep2d|resting": "a functional or echo-planar scan",
    r"asl|pcasl|pasl|perf\w*|dsc|dce|cbf": "a perfusion scan",
    r"swi|swan|susc\w*|mip|phase|qsm|field ?map\w*": "a susceptibility, phase or field map",
    r"tof|mra|angio\w*|venogram": "an angiogram",
    r"pdw?|mt|mtsat|mtc": "a proton-density or magnetisation-transfer scan",
    r"loc|localizer|localiser|scout|survey|smartbrain|aascout|aahead\w*|topogram": "a localizer",
}
_WITHOUT_CONTRAST = r"ohne|nativ|pre|without|w/o|unenhanced|non?[- ]?contrast"
_WITH_CONTRAST = r"ce|gd|gad\w*|km|post|contrast|kontrast|c\+|\+c|dotarem"
_DERIVED = {
    "LOCALIZER": "a localizer", "MPR": "a reformatted copy (MPR) of another series", "MNIP": "a projection (MIP)",
    "PROJECTION IMAGE": "a projection (MIP)", "MIP": "a projection (MIP)", "CSA MPR": "a reformatted copy (MPR)",
    "REFORMATTED": "a reformatted copy of another series", "PHASE": "a phase image", "P": "a phase image",
    "SCREEN SAVE": "a screenshot", "ADC": "a diffusion map", "T1 MAP": "a map of T1 times",
}  # fmt: skip
_TIMES = {"TR": "RepetitionTime", "TE": "EchoTime", "TI": "InversionTime"}


@dataclass(frozen=True)
class Fault:
    """Why a series is not taken.

    Attributes:
        reason: A clause about the series, without its subject.
        is_final: Whether asking for the series by its number does not change it.
    """

    reason: str
    is_final: bool = True


def contrast_fault(one: Slice, spacing: float | None) -> Fault | None:
    """Why a series is no T1w scan that can be prepared; None where it is one.

    Args:
        one: Any of its slices.
        spacing: Distance between its slices, mm; None where they form no stack.
    """
    return _object_fault(one) or _made_fault(one) or _sequence_fault(one, spacing) or _doubt(one)


def why_taken(one: Slice, spacing: float) -> str:
    """In words, what makes a series a T1w scan.

    Args:
        one: Any of its slices.
        spacing: Distance between its slices, mm.
    """
    kind = "inversion recovery" if _is_inversion(one) else "gradient echo"
    times = [f"{short} {value:g} ms" for short, word in _TIMES.items() if (value := one.number(word)) is not None]
    return (
        f"3D, {kind}, slices every {spacing:.2g} mm, {', '.join(times) or 'no times stated'}, no contrast agent named"
    )


def _object_fault(one: Slice) -> Fault | None:
    """What holds for any image: kind of object, modality, text in the picture."""
    if one.text("SOPClassUID").startswith(SCREENSHOT) or one.text("ConversionType"):
        return Fault("it is a screenshot or scanned paper (secondary capture), not the scan itself")
    if one.text("Modality") != "MR":
        shown = re.sub(r"[^A-Z0-9]", "", one.text("Modality").upper())[:4]
        return Fault(f"its modality is {shown or 'not stated'}, expected MR")
    if one.text("SamplesPerPixel") not in ("", "1"):
        return Fault("its pictures are in colour, expected grey values of a scan")
    if one.text("BurnedInAnnotation").upper() == "YES":
        return Fault("text is burnt into its pictures, which may name the patient")
    if one.text("SOPClassUID") in ENHANCED:
        return Fault("it is an enhanced (multi-frame) MR file; convert it with `dcm2niix`, and give the NIfTI file")
    if one.text("SOPClassUID") != MR or not one.text("Rows"):
        return Fault("it holds no MR pictures")
    return None


def _made_fault(one: Slice) -> Fault | None:
    """How the pictures came about: computed ones are not taken."""
    kinds = [kind.upper() for kind in one.tags.get("ImageType", ())]
    if known := next((what for kind, what in _DERIVED.items() if kind in kinds), ""):
        return Fault(f"it is {known}, expected the original")
    if "DERIVED" in kinds or "SECONDARY" in kinds:
        return Fault("it was computed from another series (derived), expected the original")
    if other := next((what for word, what in OTHER_NAMES.items() if _has_word(one, word)), ""):
        return Fault(f"it is {other} by its name")
    return None


def _sequence_fault(one: Slice, spacing: float | None) -> Fault | None:
    """What the scanner played out."""
    if one.text("AngioFlag").upper() == "Y":
        return Fault("it is an angiogram")
    if "EP" in one.tags.get("ScanningSequence", ()):
        return Fault("it is an echo-planar scan")
    if one.text("MRAcquisitionType") == "2D":
        return Fault("it was acquired in 2D, slice by slice, expected 3D")
    thickness = max(one.number("SliceThickness") or 0.0, spacing or 0.0)
    if thickness > THICKEST + 1e-3:
        return Fault(f"its slices are {thickness:.3g} mm thick, expected at most {THICKEST:g} mm")
    echo = one.number("EchoTime")
    if echo is not None and echo > LONG_ECHO:
        return Fault(f"its echo time of {echo:g} ms is that of a T2-weighted, FLAIR or susceptibility scan")
    sequence = one.tags.get("ScanningSequence", ())
    if sequence and not {"GR", "IR"} & set(sequence):
        return Fault("it is a spin echo, expected a gradient echo or an inversion recovery")
    return None


def _doubt(one: Slice) -> Fault | None:
    """What leaves a doubt that the user can settle with `--series`."""
    if one.text("ContrastBolusAgent").strip().upper() not in ("", "NO", "NONE", "N", "NO CONTRAST", "0"):
        return Fault("a contrast agent is named in its header", is_final=False)
    if _has_word(one, _WITH_CONTRAST) and not _has_word(one, _WITHOUT_CONTRAST):
        return Fault("its name says that it was taken with a contrast agent", is_final=False)
    if one.text("MRAcquisitionType") != "3D":
        return Fault("it does not say whether it was acquired in 3D", is_final=False)
    if not _is_inversion(one) and not _has_word(one, T1_NAMES):
        return Fault("neither its times nor its name say that it is T1-weighted", is_final=False)
    if not _is_inversion(one) and _is_proton_density(one):
        return Fault("its flip angle is that of a proton-density scan", is_final=False)
    return None


def _is_inversion(one: Slice) -> bool:
    inversion = one.number("InversionTime")
    return inversion is not None and 200 <= inversion <= 1500


def _is_proton_density(one: Slice) -> bool:
    repetition, flip = one.number("RepetitionTime"), one.number("FlipAngle")
    return repetition is not None and flip is not None and BETWEEN[0] <= repetition <= BETWEEN[1] and flip < SMALL_FLIP


def _has_word(one: Slice, word: str) -> bool:
    """Whether a word stands in one of the names of a series."""
    names = " ".join(one.text(keyword) for keyword in ("SeriesDescription", "ProtocolName", "SequenceName"))
    return (
        re.search(rf"(?<![a-z0-9])(?:{word})(?![a-z])", names.lower().replace("*", " ").replace("_", " ")) is not None
    )
