"""Names of maps, and which scans they were made from: a scan is left out for its own map only."""

import doctest
from pathlib import PurePosixPath

import pytest

from bundle.scans import map_names
from bundle.scans.map_names import sources_of


def test_the_examples_hold():
    assert doctest.testmod(map_names).failed == 0


@pytest.mark.parametrize(
    ("images", "maps", "left_out"),
    [
        (["a/T1.nii", "b/T1.nii"], ["a/mri/mwp1T1.nii"], ["a/T1.nii"]),
        (["a/T1.nii", "b/T1.nii"], ["a/mwp1T1.nii", "b/mwp1T1.nii"], ["a/T1.nii", "b/T1.nii"]),
        (["b/T1.nii"], ["a/mri/mwp1T1.nii"], []),  # may be another person
        (["T1.nii"], ["cat/mwp1T1.nii"], []),
        (["raw/sub-1_T1w.nii"], ["cat/sub-1/mwp1sub-1_T1w.nii"], ["raw/sub-1_T1w.nii"]),
        (["raw/sub-1_T1w.nii"], ["deepmriprep/sub-1/anat/sub-1_mwp1.nii.gz"], ["raw/sub-1_T1w.nii"]),
        (["a/sub-1_T1w.nii", "b/sub-1_T1w.nii"], ["cat/mwp1sub-1_T1w.nii"], []),  # of which of the two?
        (["sub-1_T1w.nii", "sub-1_acq-2_T1w.nii"], ["mri/mwp1sub-1_T1w.nii"], ["sub-1_T1w.nii"]),
        (["sub-1_T1w.nii", "sub-1.nii"], ["mri/mwp1sub-1_T1w.nii"], ["sub-1_T1w.nii"]),
        (["sub-1.nii"], ["sub-1/mwp1sub-1.nii.gz"], ["sub-1.nii"]),
        (["sub-1.nii"], ["mwp1/sub-1.nii.gz"], ["sub-1.nii"]),
    ],
)
def test_a_scan_is_known_by_its_folder_or_by_a_participant_that_is_there_once(images, maps, left_out):
    found = sources_of([PurePosixPath(name) for name in images], [PurePosixPath(name) for name in maps])
    assert sorted(map(str, found)) == left_out
