"""
5. Predict, and read a report
=============================

A classifier gets scans from a clinic and answers. A good answer says three things: what the model computed, whether
the scan is one that it can judge, and how sure one may be. This tutorial asks the model that comes with the bundle,
and reads its answers from the table to the page.

**Research only. Not a medical device.** The shipped model knows only a phantom.
"""

# %%
# Five scans
# ----------
#
# The first two are maps of phantom subjects whom the model has never seen (another seed). The third is a young person;
# the model was trained on people of 53 years and more. The fourth lacks its lower half, as after a failed
# preparation. The fifth is no brain at all.

import html
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np
import pandas as pd

import bundle
from bundle.phantom import make_phantom

plt.style.use("bundle.yaware")
temporary = tempfile.TemporaryDirectory()
folder = Path(temporary.name)

make_phantom(folder / "phantom", resolution=4.5, n_pretraining=8, n_per_task=8, seed=11, progress=False)
tables = {task: pd.read_csv(folder / f"phantom/{task}/participants.tsv", sep="\t") for task in ("alzheimer", "bipolar")}
youngest = tables["bipolar"].nsmallest(1, "age").assign(task="bipolar")
older = tables["alzheimer"].assign(task="alzheimer")
people = pd.concat([older.iloc[:2], youngest, older.iloc[[3]]])
images = [nib.load(folder / f"phantom/{row.task}/{row.participant_id}_gm.nii.gz") for row in people.itertuples()]
(folder / "scans").mkdir()
for number, image in enumerate(images[:3], 1):
    nib.save(image, folder / f"scans/sub-{number}_gm.nii.gz")
cut = images[3].get_fdata()
cut[:, :, : cut.shape[2] // 2] = 0
nib.save(nib.Nifti1Image(cut, images[3].affine), folder / "scans/sub-4_gm.nii.gz")
noise = np.random.default_rng(0).uniform(0, 1, cut.shape)
nib.save(nib.Nifti1Image(noise, images[3].affine), folder / "scans/sub-5_gm.nii.gz")

# %%
# What the clinic knows of the people goes along. It is not needed for the answer. It is needed to compare volumes
# with healthy people of that age, sex and head size.

scans = pd.DataFrame({"file": [folder / f"scans/sub-{number}_gm.nii.gz" for number in range(1, 6)]})
scans["participant_id"] = [f"sub-{number}" for number in range(1, 6)]
scans.loc[:3, ["age", "sex", "tiv"]] = people[["age", "sex", "tiv"]].to_numpy()
scans.drop(columns="file")

# %%
# The answer, as a table
# ----------------------
#
# ``explain="regions"`` also asks which regions the answer rests on. That takes 36 more passes for each scan.

answers = bundle.predict(scans, output=folder / "answers", explain="regions", augmentations=2)
answers[["participant_id", "verdict", "answer", "predicted", "distance_percentile", "brain_age"]].round(1)

# %%
# On the command line: ``python -m bundle predict scans --output answers --model model.pt``.
#
# Begin with the *verdict*. A refused scan has no numbers, and the sentence says why:

for _, scan in answers.iterrows():
    print(f"{scan['participant_id']}: {scan['verdict']}", *scan["reasons"].split(" | "), sep="\n  ")

# %%
# Then the *answer*. *Not calibrated* means: too few people validated this model to turn its number into a
# probability. So it gives a call, and no percentage. A model of your own with 50 or more validation subjects gives
# one.
#
# How unlike the training are these scans?
# ----------------------------------------

shown = answers[answers["verdict"] != "refuse"]
figure, axes = plt.subplots(figsize=(7, 2.8))
far = shown["distance_percentile"] > 99
axes.barh(shown["participant_id"], shown["distance_percentile"], color=np.where(far, "C1", "C0"), height=0.55)
axes.axvline(99, color="0.3", linestyle="--")
axes.annotate("beyond: no answer", (99, -0.75), (-4, 0), textcoords="offset points", ha="right", color="0.3")
axes.set(xlim=(0, 104), ylim=(len(shown) - 0.4, -1), title="A model should answer only for scans like those it knows")
axes.set_xlabel("distance to the nearest training scans,\npercentile among the training scans themselves")

# %%
# 50 is as far as the training scans usually are from each other. Beyond 99 the model says that it cannot answer.
#
# Where does the answer come from?
# --------------------------------
#
# For each of 35 regions, two numbers. *z*: how its volume compares with healthy people of that age, sex and head
# size. *Change*: by how many percentage points the network's own number falls, when this region alone is shown as
# in the average healthy brain.

regions = pd.read_csv(folder / "answers/regions.tsv", sep="\t")
first = shown[~far]["participant_id"].iloc[0]
own = regions[regions["participant_id"] == first].dropna(subset=["z", "attribution"])
figure, axes = plt.subplots(figsize=(7, 4.2))
axes.axvspan(-2, 2, color="0.94", zorder=0)
axes.axhline(0, color="0.7", linestyle=":")
axes.scatter(own["z"], own["attribution"], s=45)
for rows, place, side in ((own.nlargest(3, "attribution"), 7, "left"), (own.nsmallest(3, "z"), -7, "right")):
    for region in rows.itertuples():
        name = f"{region.side} {region.region}".removeprefix("both ")
        at = (region.z, region.attribution)
        axes.annotate(name, at, (place, 0), textcoords="offset points", ha=side, va="center", fontsize="small")
axes.margins(x=0.4, y=0.15)
axes.set(
    xlabel="volume, z among healthy people (grey band: −2 to 2)",
    ylabel="change of the network's number,\npercentage points",
)
axes.set_title(f"{first}: the smallest regions are not those that move the answer most")

# %%
# Small volumes and large changes need not be the same regions. The volume is measured; the change is the network's
# way of reading. On the phantom, where the truth is known, the strongest region of such a map is often one that
# the disease changed, but almost as often where values are drawn at random (:doc:`../evidence/explanations`).
#
# The page
# --------
#
# Every scan has a page that can be read without this software. It is one file, with its pictures inside, so that it
# can be shown here:


class Page:
    """A page of HTML inside a notebook."""

    def __init__(self, path):
        self.text = path.read_text(encoding="utf-8")

    def _repr_html_(self):
        return f'<iframe srcdoc="{html.escape(self.text)}" width="100%" height="900" title="report"></iframe>'


name = shown[~far]["name"].iloc[0]
Page(folder / f"answers/scans/{name}.html")

# %%
# Read it from the top: verdict, answer, slices, volumes by region, and what was checked with which limit.
# :doc:`../howto/clinicians` explains each part. ``answers/index.html`` lists all scans.
#
# What not to conclude
# --------------------
#
# - *Nothing about a person.* The model knows a phantom. It refuses, or says that it cannot answer, for real scans.
# - *A pass is no proof.* "pass" means: the scan resembles the training scans. The answer can still be wrong.
# - *A map is no map of the disease.*
