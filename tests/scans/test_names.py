"""Names of files for scans are safe, different and the same every time."""

import re

from bundle.scans.names import safe_names, stem_of


def test_names_are_safe_and_different():
    names = safe_names(["a", "A", "b/../c", "", "x" * 90, "d"], ["1", "2", "3", "4", "5", "6"])
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,69}", name) for name in names)
    assert len({name.lower() for name in names}) == len(names)
    assert names[-1] == "d"
    assert names == safe_names(["a", "A", "b/../c", "", "x" * 90, "d"], ["1", "2", "3", "4", "5", "6"])


def test_the_ending_is_that_of_the_image():
    assert [stem_of(name) for name in ("a.b.nii.gz", "A.NII", "c.txt")] == ["a.b", "A", "c.txt"]
