"""A unit test in the Model Zoo's form: stock MONAI, and made-up images."""

import json
import os
import shutil
import tempfile
import unittest
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import ConfigWorkflow
from monai.utils import set_determinism

ROOT = Path(__file__).parents[2]
AFFINE = [[-4.5, 0, 0, 87.75], [0, 4.5, 0, -123.75], [0, 0, 4.5, -69.75], [0, 0, 0, 1]]
SMALL = {"epochs": 1, "batch_size": 4, "num_workers": 0, "weights": "scratch", "validation_share": 0.5}


def made_up_datalist(folder):
    """Images that have the values and the place of grey-matter maps, and nothing else of them."""
    random = np.random.default_rng(0)
    inside = (
        np.linalg.norm(np.stack(np.meshgrid(*(np.linspace(-1.3, 1.3, n) for n in (40, 48, 40)), indexing="ij")), axis=0)
        < 1
    )
    sections = {"training": 8, "validation": 0, "test": 4}
    content = {name: [] for name in sections}
    for name, count in sections.items():
        for number in range(count):
            volume = (random.uniform(0.2, 0.8, inside.shape) * inside).astype(np.float32)
            image = f"{name}_{number}.nii.gz"
            nib.save(nib.Nifti1Image(volume, np.array(AFFINE)), folder / image)
            person = {
                "participant_id": f"{name}{number}",
                "session_id": "1",
                "site": "A",
                "age": 50.0,
                "sex": "F",
                "tiv": None,
            }
            content[name].append({"image": image, **person, "label": number % 2})
    (folder / "schizophrenia.json").write_text(json.dumps(content))


def check_workflow(workflow, properties=True):
    """What the zoo's own helper does."""
    if properties:
        workflow.initialize()
        missing = workflow.check_properties()
        if missing:
            raise ValueError(f"properties {missing} are missing")
    workflow.run()
    workflow.finalize()


@pytest.mark.long
class TestBrainMriYawareClassification(unittest.TestCase):
    def setUp(self):
        set_determinism(0)
        self.before = Path.cwd()
        os.chdir(ROOT)
        self.folder = Path(tempfile.mkdtemp())
        made_up_datalist(self.folder)
        places = {"dataset_dir": str(self.folder), "output_dir": str(self.folder / "out")}
        self.options = {**SMALL, **places, "model": str(self.folder / "model.pt")}

    def tearDown(self):
        os.chdir(self.before)
        shutil.rmtree(self.folder)

    def run_configs(self, names, kind, **more):
        files = [f"configs/{name}" for name in names]
        check_workflow(ConfigWorkflow(files, workflow_type=kind, logging_file=False, **{**self.options, **more}))

    def test_train_evaluate_and_infer(self):
        self.run_configs(["train.json"], "train")
        self.assertTrue((self.folder / "model.pt").is_file())
        self.run_configs(["train.json", "evaluate.json"], "train")
        self.assertTrue((self.folder / "out" / "predictions.csv").is_file())
        scan = str(self.folder / "test_0.nii.gz")
        infer = {"dataset_dir": scan, "explain": "none", "report": False, "output_dir": str(self.folder / "inferred")}
        self.run_configs(["inference.json"], "infer", **infer)
        self.assertTrue((self.folder / "inferred" / "predictions.csv").is_file())


if __name__ == "__main__":
    unittest.main()
