"""Maps of CAT12, CAT26, T1Prep and deepmriprep, with the volumes and the quality that they report."""

import json

import nibabel as nib
import numpy as np
import pytest

from bundle.preparation.made import find_made
from bundle.scans.grid import NEWER, REFERENCE
from bundle.scans.made_by import pipeline_of
from bundle.scans.reports import ReportError, read_cat

# As CAT12 writes it: one block of explanations, one of numbers, and one of ratings.
CAT = """<?xml version="1.0" encoding="utf-8"?>
<S>
  <software><version_cat>{version}</version_cat><revision_cat>{revision}</revision_cat></software>
  <help><subjectmeasures><vol_TIV>total intracranial volume (GM+WM+VT)</vol_TIV></subjectmeasures></help>
  <qualityratings><NCR>1.9</NCR><IQR>2.25</IQR></qualityratings>
  <subjectmeasures>
    <vol_TIV>1500.5</vol_TIV>
    <vol_abs_CGW>[300.25 650 545.25 5 0]</vol_abs_CGW>
  </subjectmeasures>
  <subjectratings><vol_TIV>1.1</vol_TIV></subjectratings>
</S>"""
ANTS = {"name": "ants", "version": "1.0"}
VOLUMES = {"tiv": 1500.5, "csf": 300.25, "gm": 650.0, "wm": 545.25}


def put(path, content=None, grid=REFERENCE):
    path.parent.mkdir(parents=True, exist_ok=True)
    if content is None:
        nib.save(nib.Nifti1Image(np.zeros(grid.shape, np.uint8), grid.matrix), path)
    else:
        path.write_text(content)
    return path


def only(folder):
    (made,) = find_made(folder)
    return made


@pytest.mark.parametrize(
    ("version", "revision", "pipeline"),
    [("12.8.2", "2170", "CAT12"), ("CAT12.9", "2577", "CAT12"), ("CAT26.0", "rc3", "CAT26"), ("26.1", "", "CAT26")],
)
def test_maps_of_cat_have_volumes_quality_and_version(tmp_path, version, revision, pipeline):
    put(tmp_path / "mri/mwp1sub-01_T1w.nii")
    put(tmp_path / "mri/mwp2sub-01_T1w.nii")
    put(tmp_path / "report/cat_sub-01_T1w.xml", CAT.format(version=version, revision=revision))
    made = only(tmp_path)
    known = f"{version.removeprefix('CAT')} {revision}".strip()
    assert (made.name, made.pipeline, made.version) == ("sub-01", pipeline, known)
    assert pipeline_of(made.path) == made.by == f"{pipeline} {known}"
    assert made.volumes == VOLUMES
    assert made.quality == {"NCR": 1.9, "IQR": 2.25}
    assert (made.remarks, made.doubts) == ((), ())


def test_a_report_may_lie_beside_the_map(tmp_path):
    put(tmp_path / "sub-01/anat/mwp1sub-01_T1w.nii.gz", grid=NEWER)
    put(tmp_path / "sub-01/anat/cat_sub-01_T1w.xml", CAT.format(version="12.9", revision="").replace("2.25", "4.5"))
    made = only(tmp_path)
    assert made.volumes == VOLUMES
    assert "smaller box" in made.remarks[0]
    assert "CAT12 rates the image quality 4.5" in made.doubts[0]


@pytest.mark.parametrize(
    ("map_", "report"),
    [
        ("mri/mwp1sub-01_T1w.nii.gz", "report/log_sub-01_T1w.json"),
        (
            "sub-01_T1w_space-MNI152NLin2009cAsym-nonlinear-modulated_label-GM_probseg.nii",
            "sub-01_T1w_log.json",
        ),
    ],
)
def test_maps_of_t1prep_in_both_its_namings(tmp_path, map_, report):
    put(tmp_path / map_, grid=NEWER)
    content = {
        "software": {"version_t1prep": "0.8.1"},
        "subjectmeasures": {"vol_TIV": {"value": 1500.5}, "vol_abs_CGW": {"value": [300.25, 650.0, 545.25]}},
        "qualitymeasures": {"IQR": {"value": 2.5, "grade": "B"}, "NCR": {"value": None}},
    }
    put(tmp_path / report, json.dumps(content))
    made = only(tmp_path)
    assert (made.pipeline, made.version, made.volumes, made.quality) == ("T1Prep", "0.8.1", VOLUMES, {"IQR": 2.5})
    assert pipeline_of(made.path) == "T1Prep 0.8.1"


@pytest.mark.parametrize(
    ("map_", "tables"),
    [
        ("sub-01/mwp1sub-01.nii.gz", "sub-01/{}sub-01.csv"),
        ("sub-01/mri/mwp1sub-01.nii.gz", "sub-01/label/{}sub-01.csv"),
        ("mwp1/sub-01.nii.gz", "{}/sub-01.csv"),
        ("mwp1sub-01.nii.gz", "{}sub-01.csv"),
        ("sub-01/anat/sub-01_mwp1.nii.gz", "sub-01/anat/sub-01_{}.csv"),
    ],
)
def test_maps_of_deepmriprep_in_each_of_its_orders_of_folders(tmp_path, map_, tables):
    put(tmp_path / map_, grid=NEWER)
    columns = {"tiv": "tiv_cm3", "gmv": "gmv_cm3", "wmv": "wmv_cm3", "csfv": "csfv_cm3", "affine_loss": "0"}
    values = {"tiv": 1500.5, "gmv": 650, "wmv": 545.25, "csfv": 300.25, "affine_loss": 0.01}
    for output, column in columns.items():
        put(tmp_path / tables.format(output), f"{column}\n{values[output]}\n")
    made = only(tmp_path)
    assert (made.name, made.pipeline, made.volumes) == ("sub-01", "deepmriprep", VOLUMES)
    assert made.quality == {"affine_loss": 0.01}
    assert pipeline_of(made.path) == "deepmriprep"


def test_deepmriprep_s_own_table_is_read(tmp_path):
    put(tmp_path / "a/mwp1a.nii.gz", grid=NEWER)
    put(tmp_path / "b/mwp1b.nii.gz", grid=NEWER)
    rows = "".join(
        f"/x/{n}.nii,/elsewhere/{n}/mwp1{n}.nii.gz,{tiv},0.01\n" for n, tiv in (("a", 1400.5), ("b", 1500.5))
    )
    put(tmp_path / "deepmriprep_outputs.csv", f"t1,mwp1,tiv_value,affine_loss_value\n{rows}")
    assert [(made.name, made.volumes) for made in find_made(tmp_path)] == [
        ("a", {"tiv": 1400.5}),
        ("b", {"tiv": 1500.5}),
    ]


def test_our_own_maps_are_known_as_bids_derivatives(tmp_path):
    name = "sub-01_ses-2_space-MNI152NLin2009cAsym_label-GM_desc-modulated_probseg"
    put(tmp_path / f"sub-01/ses-2/anat/{name}.nii.gz")
    put(tmp_path / f"sub-01/ses-2/anat/{name}.json", json.dumps({"pipeline": ANTS, "volumes": VOLUMES}))
    made = only(tmp_path)
    assert (made.name, made.pipeline, made.version, made.volumes) == ("sub-01_ses-2", "ants", "1.0", VOLUMES)


def test_our_own_maps_are_known_and_maps_without_a_report_too(tmp_path):
    put(tmp_path / "mwp1a.nii.gz")
    put(tmp_path / "mwp1a.json", json.dumps({"pipeline": ANTS}))
    put(tmp_path / "mwp1b.nii.gz")
    first, second = find_made(tmp_path)
    assert (first.pipeline, first.version) == ("ants", "1.0")
    assert (second.pipeline, second.version, second.volumes) == ("unknown", "", {})
    assert "total intracranial volume is not known" in second.remarks[0]


BOMB = '<?xml version="1.0"?><!DOCTYPE S [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><S><x>&b;</x></S>'
OUTSIDE = '<?xml version="1.0"?><!DOCTYPE S [<!ENTITY a SYSTEM "file:///etc/passwd">]><S><x>&a;</x></S>'


@pytest.mark.parametrize(
    ("content", "reason"),
    [(BOMB, "document type"), (OUTSIDE, "document type"), ("<S><a></S>", "damaged"), ("", "damaged")],
)
def test_a_report_that_could_do_harm_is_not_read(tmp_path, content, reason):
    put(tmp_path / "mwp1a.nii")
    path = put(tmp_path / "cat_a.xml", content)
    with pytest.raises(ReportError, match=reason):
        read_cat(path)
    assert reason in " ".join(only(tmp_path).doubts)


def test_a_map_that_cannot_be_read_and_odd_numbers_are_remarks(tmp_path):
    put(tmp_path / "mwp1a.nii", "no image")
    put(tmp_path / "cat_a.xml", CAT.format(version="12", revision="").replace("1500.5", "NaN"))
    made = only(tmp_path)
    assert "tiv" not in made.volumes
    assert "cannot be read" in made.remarks[0]


def test_other_outputs_are_no_maps(tmp_path):
    for name in ("s8mwp1a.nii", "wp1a.nii", "m0wp1a.nii", "sub-01_label-GM_probseg.nii", "mwp2a.nii", "a.nii"):
        put(tmp_path / name, "x")
    assert find_made(tmp_path) == []
