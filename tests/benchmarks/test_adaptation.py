"""The measurement of adaptations: what it varies, and that it runs."""

import numpy as np
import pytest

from benchmarks import adaptation
from bundle.phantom import model
from bundle.phantom.cohort import draw_factors


def test_the_strength_of_a_site_is_what_is_varied():
    person = draw_factors("alzheimer", 2, 0).to_dict("records")[0]
    brain = model.render(person, resolution=adaptation.CELL, with_site=False)
    strong, weak, none = (adaptation.scanned(brain, person, 0, factor) for factor in (3.0, 0.3, 0.0))
    assert np.linalg.norm(strong - none) > 3 * np.linalg.norm(weak - none) > 0


def test_every_adaptation_is_measured():
    rng = np.random.default_rng(0)
    sites = np.repeat(list("abcdef"), 20)
    people = [
        {"participant_id": f"p{row}", "session_id": "", "site": site, "label": row % 2, "age": 20.0 + row % 40}
        | {"sex": "F", "tiv": 1500.0}
        for row, site in enumerate(sites)
    ]
    features = rng.normal(size=(120, 30)) + 2 * rng.normal(size=(6, 30))[np.arange(120) // 20]
    features[:, 0] += 4 * (np.arange(120) % 2)
    held = [["a", "b"], ["c", "d"], ["e", "f"]]
    found = {kind: adaptation.measured(features, people, held, kind) for kind in ("none", "project", "coral")}
    assert all(0.5 < values["auc"] <= 1 and values["age_error"] > 0 for values in found.values())
    assert found["project"]["site_accuracy"] < found["none"]["site_accuracy"] == pytest.approx(1, abs=0.05)
