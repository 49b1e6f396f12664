"""
1. The loss by hand, on 20 points
=================================

The y-Aware loss pulls brains together in proportion to how similar their ages are. One number, σ, says what "similar"
means.

Here 20 brains are 20 points on a circle. No network and no image is involved: the loss itself moves the points. So
you see what the loss wants, before any encoder has to find out how to get there.
"""

# %%
# Twenty ages, three years apart. Each brain has two *views*, as in pretraining, so there are 40 points. They begin
# at random places.

import matplotlib.pyplot as plt
import torch
from torch.nn import functional as F

from bundle.pretext import GaussianKernel, InfoNCE, YAwareInfoNCE

# sphinx_gallery_thumbnail_number = 2
plt.style.use("bundle.yaware")
ages = torch.linspace(20, 77, 20)  # years
start = torch.randn(40, 2, generator=torch.Generator().manual_seed(1))  # all first views, then all second views

# %%
# What σ means
# ------------
#
# The kernel turns two ages into a weight between 0 and 1. Look at one brain, the *anchor*, 47 years old: how
# strongly does each other brain attract it?

sigmas = [0.5, 2, 5, 15, 50]  # years
anchor = 9
figure, axes = plt.subplots(figsize=(7, 3.8))
for sigma, marker in zip(sigmas, "v^oDs", strict=True):
    weights = GaussianKernel(sigma)(ages)[anchor]
    axes.plot(ages, weights, marker=marker, label=f"σ = {sigma:g} years")
axes.set(xlabel="age of the other brain, years", ylabel="weight w", title="Who attracts a brain of 47 years?")
figure.legend(loc="outside right center")

# %%
# With σ = 0.5 years only the anchor itself has a weight: its own second view. That is SimCLR. With σ = 50 years
# nearly everybody attracts it equally, and there is no contrast left. The paper uses σ = 5 years.
#
# The loss moves the points
# -------------------------
#
# 600 steps of gradient descent on the positions. Nothing else is learned.


def moved(loss, steps=600):
    """The places of all 40 points after each step, on the circle."""
    points = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([points], lr=0.05)
    places = [F.normalize(points.detach(), dim=1)]
    for _ in range(steps):
        optimizer.zero_grad()
        loss(points, ages).backward()
        optimizer.step()
        places.append(F.normalize(points.detach(), dim=1))
    return torch.stack(places)


temperature = 0.2
losses = {"SimCLR": InfoNCE(temperature)}
losses |= {f"σ = {sigma:g} years": YAwareInfoNCE(GaussianKernel(sigma), temperature) for sigma in sigmas}
paths = {name: moved(loss) for name, loss in losses.items()}

# %%


def draw_circle(axes, places, title):
    """Points on the circle, coloured by age."""
    axes.add_patch(plt.Circle((0, 0), 1, fill=False, color="0.85", zorder=0))
    dots = axes.scatter(*places.T, c=ages.repeat(2), s=55, edgecolor="white", linewidth=0.6)
    axes.set(title=title, xlim=(-1.2, 1.2), ylim=(-1.2, 1.2), aspect="equal")
    axes.axis("off")
    return dots


figure, grid = plt.subplots(2, 3, figsize=(8.4, 5.6))
for axes, (name, places) in zip(grid.flat, paths.items(), strict=True):
    dots = draw_circle(axes, places[-1], name)
figure.colorbar(dots, ax=grid, label="age, years", shrink=0.7)
figure.suptitle("The same 20 brains, moved by six losses")

# %%
# Read it from the top left:
#
# - *SimCLR* and *σ = 0.5*: every brain keeps away from every other one. Neighbours on the circle have any age.
# - *σ = 2*: neighbours have similar ages in most places. A few points are caught on the wrong side, because they
#   cannot pass the others.
# - *σ = 5*: the points lie in the order of their ages, and they use most of the circle.
# - *σ = 15* and *σ = 50*: the order is kept, but the points move together. At σ = 50 all brains look nearly the same.
#
# The two views of a brain have become one dot everywhere: all six losses pull them together.
#
# How it happens
# --------------

moments = [0, 10, 30, 100, 600]
figure, row = plt.subplots(1, 5, figsize=(10, 2.6))
for axes, step in zip(row, moments, strict=True):
    dots = draw_circle(axes, paths["σ = 5 years"][step], f"step {step}")
figure.colorbar(dots, ax=row, label="age, years")
figure.suptitle("σ = 5 years: from disorder to the order of ages")

# %%
# How far age carries
# -------------------
#
# A circle is easy to look at, but a real embedding has hundreds of dimensions. So look at what can be measured
# there, too: how similar are two brains whose ages differ by so many years?


def similarity_by_difference(places):
    """Mean cosine similarity of the first views of all pairs that are 3, 6, 9, … years apart."""
    cosines = places[:20] @ places[:20].T
    return [cosines.diagonal(offset).mean() for offset in range(1, 20)]


differences = ages[1:] - ages[0]
figure, axes = plt.subplots(figsize=(7, 3.8))
for name, places in paths.items():
    look = {"color": "0.2", "linestyle": "--", "zorder": 3} if name == "SimCLR" else {}
    axes.plot(differences, similarity_by_difference(places[-1]), label=name, **look)
axes.set(
    xlabel="difference in age, years",
    ylabel="mean cosine similarity",
    ylim=(-1.05, 1.05),
    title="σ sets the reach of age",
)
figure.legend(loc="outside right center")

# %%
# With SimCLR, and with σ = 0.5, the similarity does not depend on age (at the right end each point is only a few
# pairs). With σ = 5 years it falls steadily, and brains some 35 years apart lie opposite each other. (They come
# nearer again beyond that, because a circle closes. A sphere of many dimensions has room, and does not have this
# limit.)
#
# What not to conclude
# --------------------
#
# - *The loss does not know the disease.* It sees ages alone. Whether the order of ages helps a diagnosis has to be
#   measured (:doc:`tutorial 4 <4_what_it_knows>`).
# - *No value of σ is right for every cohort.* It depends on the ages that are there, and on the batch. How many
#   positives an anchor has in your cohort, says ``python -m bundle positives --datalist data/pretraining.json``
#   (:doc:`../howto/sigma`).
# - *These points are free.* An encoder can move a brain only where its image allows.
#
# The equation is explained in :doc:`../concepts/loss`, other kernels in :doc:`../concepts/kernels`.
