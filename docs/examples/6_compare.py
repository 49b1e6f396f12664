"""
6. Compare pretexts, and read the intervals
===========================================

Which pretraining is best for your question? A single run per method cannot say: another seed gives another order.
``compare`` pretrains each method several times, probes all of them on the same people, and gives the *difference* an
interval.

This tutorial is small on purpose: three methods, two seeds, one disease. It shows how to read the result, and how
little so few runs can show.
"""

# %%
# What to compare
# ---------------
#
# A comparison is a file. The first pretext is tested against all others. Overlays say what each changes.

import logging
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import yaml

from bundle.cli.main import main
from bundle.phantom import make_phantom

# sphinx_gallery_thumbnail_number = 2
plt.style.use("bundle.yaware")
temporary = tempfile.TemporaryDirectory()
folder = Path(temporary.name)

make_phantom(folder / "phantom", resolution=9, n_pretraining=240, n_per_task=160, progress=False)
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
    "pretraining": {"epochs": 4, "learning_rate": 0.002, "block_config": [2, 4]},
}
text = yaml.safe_dump(comparison, sort_keys=False)
(folder / "compare.yaml").write_text(text)
print(text)

# %%
# In a terminal, this is ``python -m bundle compare --config compare.yaml``. It can be stopped at any time, and goes
# on where it was.

logging.disable(logging.WARNING)  # a line for each epoch
assert main(["compare", "--config", str(folder / "compare.yaml")]) == 0
logging.disable(logging.NOTSET)

# %%
# The printed tables are those of ``table.md``. Here are the same numbers as pictures.
#
# Another seed, another number
# ----------------------------

results = pd.read_csv(folder / "compare/results.csv")
largest = results[results["n"] == 80]
methods = list(dict.fromkeys(largest["method"]))
figure, axes = plt.subplots(figsize=(7.5, 3.6))
for place, method in enumerate(methods):
    runs = largest[largest["method"] == method]
    colour = "C0" if method in comparison["pretexts"] else "0.45"
    axes.plot(runs["auc"], [place] * len(runs), "-", color=colour, linewidth=1, alpha=0.5)
    for seed, marker in zip(comparison["seeds"], "os", strict=True):
        axes.plot(runs["auc"].iloc[seed], place, marker, color=colour, markersize=8, alpha=0.9)
for seed, marker in zip(comparison["seeds"], "os", strict=True):
    axes.plot([], [], marker, color="0.2", label=f"seed {seed}")
axes.axvline(0.5, color="0.7", linestyle=":")
axes.set_yticks(range(len(methods)), methods)
axes.set(ylim=(len(methods) - 0.5, -0.5), xlabel="ROC-AUC at unseen sites, 80 training subjects")
axes.set_title("One method, two seeds: the order changes")
figure.legend(loc="outside right center")

# %%
# Circles and squares are the same methods with another seed: another initialisation, other draws of training subjects.
# Cover the squares, and you would tell one story. Cover the circles, and you would tell another.
#
# Blue: pretrained encoders. Grey: the references that a pretraining has to beat. *Random* encoders have learned
# nothing; *voxels* use no encoder at all.
#
# Differences, with intervals
# ---------------------------
#
# Two methods are compared over the same subjects and draws, so that luck with the subjects counts for both.

tests = pd.read_csv(folder / "compare/tests.csv")
tests = tests[(tests["n"] == 80) & (tests["method"] == "y-Aware")]
figure, axes = plt.subplots(figsize=(7.5, 3.4))
for place, row in enumerate(tests.itertuples()):
    clear = row.low > 0 or row.high < 0
    axes.plot([row.low, row.high], [place, place], color="C0" if clear else "0.45")
    axes.plot(row.difference, place, "o", color="C0" if clear else "0.45", markersize=8)
axes.axvline(0, color="0.3", linestyle="--")
axes.set_yticks(range(len(tests)), [f"than {name}" for name in tests["other"]])
axes.set(ylim=(len(tests) - 0.5, -0.5), xlabel="difference in ROC-AUC (95 % interval); right: y-Aware is better")
axes.set_title("Is y-Aware better? With two seeds nobody can say")

# %%
# Read each line like this:
#
# - **Grey: the interval contains 0.** The data agree with "no difference", with a gain, and with a loss. That is not
#   the same as "the methods are equal".
# - **Blue: it does not contain 0.** These runs differ. With several comparisons, look at the corrected p values, too
#   (``p_holm`` in ``tests.csv``), and remember that two seeds are few.
#
# Why are the lines so long? The spread between seeds is estimated from two numbers, and two numbers say little about a
# spread. Five seeds make them several times shorter (:doc:`../evidence/results`). The price of an interval that can be
# trusted is more runs.

tests[["other", "difference", "low", "high", "p_holm"]].round(3)

# %%
# What does each embedding know of age and site? The comparison measures that, too. Lower is better for both: the error
# of an age in years, and how well the site is recognised. ``openbhb_score`` puts both into one number.

knowledge = pd.read_csv(folder / "compare/knowledge.csv")
knowledge.drop(columns="seed").groupby("method", sort=False).mean(numeric_only=True).round(2)

# %%
# What not to conclude
# --------------------
#
# - *An order of methods.* Two seeds, eighty subjects and a few epochs show how to read a comparison. They do not rank
#   anything.
# - *"Not significant" is not "equal".* The intervals here are wide enough for differences that would matter.
# - *Anything about patients.* The long comparison, with five seeds and three diseases, is a phantom's, too
#   (:doc:`../evidence/results`). It found no diagnosis that is read clearly better from y-Aware's frozen embedding than
#   from a random encoder's.
#
# For your own data, write your datalists into such a file: :doc:`../howto/own_cohort`, step 6. Decide before you start
# which comparison is the one that counts.
