"""
4. What does this encoder know?
===============================

An encoder turns a brain into a vector. What can be read from that vector: age, sex, the scanner's site, a disease?
And is it the training that put it there, or would any network do?

So we always ask two encoders the same questions: the pretrained one, and **one with random weights**.
"""

# %%
# A small phantom and an encoder
# ------------------------------
#
# As in :doc:`tutorial 2 <2_phantom>`.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import bundle
from bundle.cohort import load_sections
from bundle.networks import encoder_like, save_weights
from bundle.phantom import make_phantom

# sphinx_gallery_thumbnail_number = 3
plt.style.use("bundle.yaware")
temporary = tempfile.TemporaryDirectory()
folder = Path(temporary.name)

make_phantom(folder / "phantom", resolution=9, n_pretraining=400, n_per_task=160, progress=False)
report = bundle.pretrain(
    folder / "phantom/pretraining.json",
    config="configs/phantom.yaml",
    output=folder / "pretrain",
    epochs=12,
    learning_rate=2e-3,
    block_config=[2, 4],
    verbose=False,
)

# %%
# The random encoder has the same architecture and preprocessing. Nothing was trained in it.

torch.manual_seed(0)
card = {"method": "random weights", "preprocessing_steps": report.card["preprocessing_steps"]}
save_weights(folder / "random.pt", encoder_like(report.weights), card)
encoders = {"y-Aware": report.weights, "random weights": folder / "random.pt"}


def table_of(datalist):
    """A row per scan, with its section."""
    sections = load_sections(folder / "phantom" / datalist)
    return pd.DataFrame([{**record, "section": name} for name, records in sections.items() for record in records])


def embedded(table):
    """Embeddings of the images of a table by each encoder."""
    return {
        name: bundle.EmbeddingTransformer(file, batch_size=32).fit_transform(table["image"])
        for name, file in encoders.items()
    }


healthy = table_of("pretraining.json")
healthy_embeddings = embedded(healthy)
patients = table_of("alzheimer.json")
patient_embeddings = embedded(patients)

# %%
# A map of the embeddings
# -----------------------
#
# First a look. The vectors have 88 dimensions; a map shows the plane in which they differ most (the first two
# principal components, or UMAP where umap-learn is installed).

found = {
    name: bundle.probe(values, patients, method=name, task="alzheimer", sizes=[20, 40, 80])
    for name, values in patient_embeddings.items()
}
found["y-Aware"].plot_embedding()

# %%
# Left: the colours change smoothly, since age orders the embedding. Middle: the sites are mixed. Right: patients
# and controls overlap, and patients lie where older people lie. A map cannot say more. Whether something *can be
# read* is a question for a probe.
#
# Age
# ---

ages = {name: bundle.probe_age(values, healthy, method=name) for name, values in healthy_embeddings.items()}
rows = pd.concat([result.table() for result in ages.values()]).drop_duplicates("method").sort_values("mae")


def draw_intervals(axes, rows, value, title, xlabel, chance=None):
    """A line per method: the value with its 95 % interval."""
    for place, row in enumerate(rows.to_dict("records")):
        colour = "C0" if row["method"] == "y-Aware" else "0.45"
        axes.plot([row["low"], row["high"]], [place, place], color=colour)
        axes.plot(row[value], place, "o", color=colour, markersize=8)
        axes.annotate(
            f"{row[value]:.2f}", (row[value], place), (0, 8), textcoords="offset points", ha="center", color=colour
        )
    if chance is not None:
        axes.axvline(chance, color="0.7", linestyle=":")
    axes.set_yticks(range(len(rows)), rows["method"])
    axes.set(title=title, xlabel=xlabel, ylim=(len(rows) - 0.4, -0.7))


figure, axes = plt.subplots(figsize=(7, 2.6))
draw_intervals(
    axes,
    rows,
    "mae",
    "Age is what the encoder was taught",
    "mean absolute error of age, years (95 % interval); left is better",
)
axes.set_xlim(left=0)

# %%
# The pretrained encoder reads age better than random weights do. Note how much the random ones know already. Grey
# matter shrinks with age, and any network sees how much of it there is. Other random weights give another number:
# write ``torch.manual_seed(1)`` above, and look again.
#
# Sex and site
# ------------
#
# Nobody taught these. A logistic regression on the embedding, cross-validated over subjects, gives a balanced
# accuracy: the mean share of each group that is recognised. The interval is a bootstrap over subjects.


def recognised(values, groups, rng):
    """Balanced accuracy with a 95 % interval."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    said = cross_val_predict(model, values, groups, cv=StratifiedKFold(5, shuffle=True, random_state=0))
    hit = pd.Series(said == groups.to_numpy())
    shares = [hit[groups.to_numpy() == name].to_numpy(float) for name in groups.unique()]
    draws = np.mean([rng.choice(share, (1000, len(share))).mean(1) for share in shares], axis=0)
    low, high = np.quantile(draws, [0.025, 0.975])
    return {"accuracy": np.mean([share.mean() for share in shares]), "low": low, "high": high}


rng = np.random.default_rng(0)
figure, panels = plt.subplots(1, 2, figsize=(10, 2.6), sharey=True)
for axes, column in zip(panels, ("sex", "site"), strict=True):
    answers = [
        {"method": name, **recognised(values, healthy[column], rng)} for name, values in healthy_embeddings.items()
    ]
    chance = 1 / healthy[column].nunique()
    draw_intervals(
        axes, pd.DataFrame(answers), "accuracy", column.capitalize(), "balanced accuracy (95 % interval)", chance
    )
    axes.set_xlim(0, 1)

# %%
# The dotted line is chance: two sexes, 24 sites. Whatever lies to its right is in the embedding, wanted or not. Here
# the random encoder knows *more* of the site. Training on age kept what changes with age, and lost some of the rest.
#
# *Site is never wanted*: an embedding that knows the scanner can tell patients from controls where they come from
# different hospitals (:doc:`../concepts/confounds`).
#
# A disease
# ---------
#
# Subjects are drawn from the training sites and tested at sites that nobody trained on, five times for each number
# of training subjects.

summary = pd.concat([result.table() for result in found.values()]).drop_duplicates(["n", "method"])
figure, axes = plt.subplots(figsize=(7, 4))
looks = {"y-Aware": ("C0", "o", "-"), "random weights": ("C1", "s", "-"), "age, sex, TIV": ("0.45", "", "--")}
for shift, (method, (colour, marker, line)) in enumerate(looks.items()):
    rows = summary[summary["method"] == method]
    errors = [rows["auc"] - rows["low"], rows["high"] - rows["auc"]]
    axes.errorbar(
        rows["n"] * 1.03**shift,
        rows["auc"],
        errors,
        color=colour,
        marker=marker,
        linestyle=line,
        capsize=3,
        label=method,
    )
axes.axhline(0.5, color="0.7", linestyle=":")
axes.set_xscale("log")
axes.set_xticks([20, 40, 80], ["20", "40", "80"])
axes.minorticks_off()
axes.set(
    xlabel="training subjects N",
    ylabel="ROC-AUC at unseen sites (95 % interval)",
    title="Alzheimer's disease of the phantom",
    ylim=(0.2, 1),
)
figure.legend(loc="outside right center")

# %%
# More subjects, better answers. With 80, both encoders beat age, sex and head size. Now compare blue with orange: **the
# random encoder is better.** With 20 and 40 training subjects even the intervals lie apart. Other random weights move
# the orange line, but this short pretraining did not help with this disease.
#
# This is no accident of a tutorial. On the large phantom, with five seeds and a larger network, no diagnosis was read
# clearly better from y-Aware's embedding than from a random encoder's (:doc:`../evidence/results`). Without the orange
# line you would have reported a success.
#
# What not to conclude
# --------------------
#
# - *"The encoder has learned the disease."* A random network reads it better.
# - *"Pretraining harms."* It is one seed, and a probe is not fine-tuning.
# - *"The encoder does not know sex."* A linear probe hardly finds it with these subjects; a fine-tuned
#   network might.
# - Anything about people. This is a phantom, and a very small network.
#
# On the command line: ``python -m bundle probe`` writes the same tables, with a random encoder, one with calibrated
# batch norm, and voxels beside yours. :doc:`../concepts/probe` says what a probe can and cannot tell.
