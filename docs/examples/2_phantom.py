"""
2. The phantom in five minutes
==============================

The bundle brings its own cohort: a **phantom**, synthetic grey-matter maps with known causes. It needs no download
and no data agreement. This tutorial makes a small one, pretrains an encoder on it, and asks what the encoder has
learned.

Everything here is small, so that it takes a minute: 9 mm voxels, a few hundred subjects, a tiny network. ``make
train`` does the same at 4.5 mm with 1,500 subjects.
"""

# %%
# Make it
# -------
#
# All files go to a temporary folder, which is deleted at the end. Give a folder of your own to keep them.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import nibabel as nib
import pandas as pd

import bundle
from bundle.cohort import load_sections
from bundle.phantom import make_phantom

plt.style.use("bundle.yaware")
temporary = tempfile.TemporaryDirectory()
folder = Path(temporary.name)

summary = make_phantom(folder / "phantom", resolution=9, n_pretraining=400, n_per_task=120, progress=False)
print(summary["warning"])

# %%
# On the command line: ``python -m bundle phantom --output data/phantom``.
#
# Look at it
# ----------
#
# A few of them again, at 3 mm, because 9 mm is too coarse for the eye. They are the same people: a subject depends on
# its number and the seed, not on the voxel size.

make_phantom(folder / "fine", resolution=3, n_pretraining=24, n_per_task=8, progress=False)
people = pd.read_csv(folder / "fine/pretraining/participants.tsv", sep="\t").sort_values("age")

figure, row = plt.subplots(1, 4, figsize=(9.6, 3))
for axes, (_, person) in zip(row, people.iloc[[2, 9, 16, 23]].iterrows(), strict=True):
    volume = nib.load(folder / f"fine/pretraining/{person['participant_id']}_gm.nii.gz").get_fdata()
    shown = axes.imshow(volume[:, :, 27].T[:, ::-1], cmap="gray", origin="lower", vmin=0, vmax=1.2)
    axes.set(title=f"{person['age']:.0f} years, {person['sex']}", xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
figure.colorbar(shown, ax=row, label="modulated grey matter")
figure.suptitle("Four subjects of the phantom. They are synthetic; nobody has these brains")

# %%
# The older brains are a little darker, since they have less grey matter. But people of one age differ, too: no single
# image tells its age by eye.
#
# The truth is known
# ------------------
#
# ``factors.tsv`` holds every cause behind every image. Here is the total of grey matter, with head size removed,
# for the task *alzheimer*:

causes = pd.read_csv(folder / "phantom/alzheimer/factors.tsv", sep="\t")
figure, axes = plt.subplots(figsize=(7, 4))
for label, name, marker in ((0, "controls", "o"), (1, "patients", "s")):
    group = causes[causes["label"] == label]
    axes.scatter(group["age"], 100 * group["total"], marker=marker, label=f"{len(group)} {name}", alpha=0.8)
axes.set(
    xlabel="age, years",
    ylabel="grey matter, % of the template",
    title="Patients have less grey matter, and overlap with controls",
)
axes.legend()

# %%
# A linear reader of the true causes reaches this ROC-AUC. It is not 1, because the groups overlap. An image holds
# nothing beyond these causes but noise, so this is the ceiling.

summary["best_auc"]["alzheimer"]

# %%
# Pretrain
# --------
#
# ``configs/phantom.yaml`` is an *overlay*: it makes the paper's settings small. ``block_config`` makes the network
# smaller still.

report = bundle.pretrain(
    folder / "phantom/pretraining.json",
    config="configs/phantom.yaml",
    output=folder / "pretrain",
    epochs=12,
    learning_rate=2e-3,
    block_config=[2, 4],
    verbose=False,
)
report.plot_learning_curve()

# %%
# On the command line: ``python -m bundle pretrain --config configs/phantom.yaml``.
#
# Top left: the loss begins near the dotted lines, where an encoder tells nobody apart, and falls. Top right: the error
# of an age that a simple regression reads from the embedding falls, too. The loss never saw an age as a target. It only
# saw which ages are similar. Below: the embedding uses fewer and fewer dimensions. Age is one number, and the loss asks
# for little else.
#
# What has it learned?
# --------------------
#
# ``EmbeddingTransformer`` turns images into embeddings; ``probe_age`` asks a ridge regression for the age of people
# it was not fitted on.

sections = load_sections(folder / "phantom/pretraining.json")
table = pd.DataFrame([{**record, "section": name} for name, records in sections.items() for record in records])
embedder = bundle.EmbeddingTransformer(report.weights, batch_size=32)
ages = bundle.probe_age(embedder.fit_transform(table["image"]), table, method="y-Aware")
ages.plot()

# %%
# Each dot is a subject that neither the encoder nor the regression has trained on. The dotted line would be
# perfect. The table has the intervals, and beside them the error of somebody who says the mean age to everyone:

ages.table().round(2)

# %%
# And the disease? The encoder has never seen a patient.

sections = load_sections(folder / "phantom/alzheimer.json")
patients = pd.DataFrame([{**record, "section": name} for name, records in sections.items() for record in records])
found = bundle.probe(embedder.transform(patients["image"]), patients, method="y-Aware", task="alzheimer")
found.plot()

# %%
# The blue line is the encoder, at sites that nobody trained on. The grey lines say what age, sex, head size or the
# site tell alone. Look at the width of the intervals: 48 people tell little.
#
# What not to conclude
# --------------------
#
# - *Nothing here is about people.* The phantom shows that everything runs, and how methods behave where the truth
#   is known.
# - *A ROC-AUC above chance does not show that pretraining helped.* A network with random weights reads this
#   disease, too: :doc:`tutorial 4 <4_what_it_knows>` puts one beside it.
# - :doc:`../evidence/phantom` says what the phantom is calibrated to, and what it lacks.
