"""The unit test of several processes in the Model Zoo's form."""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import pytest

from tests.zoo.test_brain_mri_yaware_classification import ROOT, SMALL, made_up_datalist

SINGLE = "configs/train.json"
OVERLAY = "configs/multi_gpu_train.json"


@pytest.mark.long
class TestBrainMriYawareClassificationDist(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp())
        made_up_datalist(self.folder)

    def tearDown(self):
        shutil.rmtree(self.folder)

    def test_train_in_two_processes(self):
        places = {"dataset_dir": self.folder, "output_dir": self.folder / "out", "model": self.folder / "model.pt"}
        options = [word for name, value in {**SMALL, **places}.items() for word in (f"--{name}", str(value))]
        run = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
        command = [*run, "-m", "monai.bundle", "run", "training", "--config_file", str([SINGLE, OVERLAY]), *options]
        subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        self.assertTrue((self.folder / "model.pt").is_file())


if __name__ == "__main__":
    unittest.main()
