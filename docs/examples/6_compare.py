"""
6. Compare pretexts, and read the intervals
===========================================

Which pretraining is best for your question? A single run per method cannot say: another seed gives another order. ``compare`` pretrains each
method several times, probes all of them on the same people, and gives the *difference* an interval.

This tutorial is small on purpose: three methods, two seeds, one disease. It shows how to read the result, and how little so few runs can show.
"""

# %%
# What to compare
# ---------------
#
# A comparison is a file. The first pretext is tested against all others. Overlays say what each changes.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import yaml

from bundle.cli.main import main
from bundle.phantom import make_phantom

plt.style.use("bundle.yaware")
temporary = tempfile.TemporaryDirectory()
folder = Path(temporary.name)

make_phantom(folder / "phantom", resolution=9, n_pretraining=320, n_per_task=160, progress=False)
comparison = {
    "dataset_dir": str(folder / "phantom"),
    "phantom": str(folder / "phantom"),
    "output_dir": str(folder / "compare"),
    "tasks": ["alzheimer"],
    "pretexts": {
        "y-Aware": [],
        "SimCLR": ["configs/pretext_simclr.yaml"],
        "age regression": ["configs/pretext_age_regression.yaml"],
    },
    "networks": {},  # no fine-tuning here
    "sizes": [20, 80],
    "seeds": [0, 1],
    "overlays": ["configs/phantom.yaml"],
    "pretraining": {"epochs": 5, "learning_rate": 0.002, "block_config": [2, 4]},
}
(folder / "compare.yaml").write_text(yaml.safe_dump(comparison, sort_keys=False))

# %%
# In a terminal, this is ``python -m bundle compare --config compare.yaml``. It can be stopped at any time, and goes on where it was.

main(["compare", "--config", str(folder / "compare.yaml")])

# %%
# The results
# -----------

results = folder / "compare"
sorted(path.name for path in results.iterdir() if path.is_file())
