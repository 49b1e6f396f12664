"""
3. Your own cohort, from table to learning curve
================================================

A table of participants is never tidy. This one is invented, and it has what real ones have: German column names, ages
in months, a code for "unknown", a diagnosis in words, one image that is missing. We bring it in order, and each
refusal says what to do next. Then we draw the learning curve: how many patients would we need?
"""

# %%
# An untidy table
# ---------------
#
# The images are a phantom's (:doc:`tutorial 2 <2_phantom>`), under other names, as if they were yours. *You would
# begin with your own table and images, and skip this cell.*

import shutil
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

import bundle
from bundle.cohort import CohortError, hold_out_sites, load_sections, read_cohort, write_datalist
from bundle.phantom import make_phantom, reference_grid

plt.style.use("bundle.yaware")
temporary = tempfile.TemporaryDirectory()
folder = Path(temporary.name)

make_phantom(folder / "phantom", resolution=9, n_pretraining=400, n_per_task=160, progress=False)
known = pd.read_csv(folder / "phantom/alzheimer/participants.tsv", sep="\t")
table = pd.DataFrame(
    {
        "VP-Code": [f"VP{number:03d}" for number in range(1, len(known) + 1)],
        "Alter": (known["age"] * 12).round().astype(int).astype(str),  # months, but the name does not say so
        "Geschlecht": known["sex"].map({"F": "1", "M": "2"}),
        "Diagnose": known["diagnosis"].map({"control": "gesund", "alzheimer": "AD"}),
        "Zentrum": "Klinik " + known["site"].str[-2:],
        "TIV": known["tiv"].astype(str),
    }
)
table.loc[3, "Alter"] = "-999"  # somebody's code for unknown
table.loc[7, "Diagnose"] = "V.a. AD"  # suspected
(folder / "mri").mkdir()
for code, participant in zip(table["VP-Code"], known["participant_id"], strict=True):
    shutil.copy(folder / f"phantom/alzheimer/{participant}_gm.nii.gz", folder / f"mri/{code}.nii.gz")
(folder / "mri/VP012.nii.gz").unlink()  # was never scanned
table.to_csv(folder / "Probanden.csv", sep=";", index=False)
table.head(9)

# %%
# First try: say nothing
# ----------------------
#
# ``read_cohort`` reads the table, finds the image of each row, and opens it. What is not clear is refused: it does
# not guess.

shape, _ = reference_grid(9)  # your maps have the default, 121×145×121


def attempt(**options):
    """Read the cohort, and print the sentence where it is refused."""
    try:
        return read_cohort(folder / "Probanden.csv", "mri/{participant_id}.nii.gz", expected_shape=shape, **options)
    except CohortError as refused:
        print(str(refused).replace(str(folder), "…"))


attempt()

# %%
# The other column names are known: German, English, French, Spanish and Italian ones are. Only the id was not
# found. We name it.

columns = {"participant_id": "VP-Code"}
attempt(columns=columns)

# %%
# There are three words for the diagnosis. Who is a patient? That is our decision, and it should be written down. A
# suspected case is neither:

diagnoses = {"gesund": 0, "AD": 1, "V.a. AD": None}
attempt(columns=columns, label_values=diagnoses)

# %%
# Ages of 800 are months. Now the table is read, but nobody passes:

records, problems = attempt(columns=columns, label_values=diagnoses, age_unit="months")
print(f"{len(records)} scans without a problem, {len(problems)} with one. The first:\n{problems[0].reason}")

# %%
# In some studies 1 is a man, in others a woman. So it has to be said:

records, problems = attempt(columns=columns, label_values=diagnoses, age_unit="months", sex_values={"1": "F", "2": "M"})
print(f"{len(records)} scans without a problem, {len(problems)} with one:")
for problem in problems:
    print(f"{problem.participant_id}: {problem.reason.replace(str(folder), '…')}")

# %%
# One scan is left out, with its reason. The age of -999 became *unknown*, not 83 years before birth:

records[3]

# %%
# On the command line, all of it is one line. Its refusals are the same sentences::
#
#     python -m bundle cohort --table Probanden.csv --images 'mri/{participant_id}.nii.gz' --participant-column VP-Code
#         --label-values gesund=0 AD=1 'V.a. AD=n/a' --age-unit months --sex-values 1=F 2=M --skip-invalid
#         --test-sites 'Klinik 02' 'Klinik 03' … --output data/own.json
#
# Who is tested?
# --------------
#
# Whole hospitals are held out. A model that works only where it was trained is of no use elsewhere. And a person
# without a diagnosis can neither train nor test.

diagnosed = [record for record in records if record["label"] is not None]
sites = sorted({record["site"] for record in diagnosed})
rest, held_out = hold_out_sites(diagnosed, sites[1::2])
write_datalist(folder / "own.json", {"training": rest, "test": held_out}, description="Probanden.csv")

own = pd.DataFrame([{**r, "section": name} for name, rows in load_sections(folder / "own.json").items() for r in rows])
figure, axes = plt.subplots(figsize=(8, 3.6))
counts = own.groupby(["site", "label"]).size().unstack(fill_value=0)
for place, (label, name) in enumerate({0: "controls", 1: "patients"}.items()):
    axes.bar([x + 0.4 * (place - 0.5) for x in range(len(counts))], counts[label], 0.38, label=name)
for x, site in enumerate(counts.index):
    if site in sites[1::2]:
        axes.axvspan(x - 0.48, x + 0.48, color="0.93", zorder=0, label="held out for the test" if x == 1 else None)
axes.set_xticks(range(len(counts)), [site.replace(" ", "\n") for site in counts.index])
axes.set(
    ylabel="participants", title="Every hospital has patients and controls: the diagnosis is not confounded with site"
)
figure.legend(loc="outside right center")

# %%
# Look at this figure before any network runs. If one hospital had only patients, a model could recognise the
# scanner instead of the disease, and no statistics would repair that. ``python -m bundle check-cohort`` looks for
# this and for a dozen other traps.
#
# An encoder
# ----------
#
# Yours would come from thousands of healthy scans. Here it is trained on the phantom's 400 in some seconds.

report = bundle.pretrain(
    folder / "phantom/pretraining.json",
    config="configs/phantom.yaml",
    output=folder / "pretrain",
    epochs=10,
    learning_rate=2e-3,
    block_config=[2, 4],
    verbose=False,
)
embeddings = bundle.EmbeddingTransformer(report.weights, batch_size=32).fit_transform(own["image"])

# %%
# The learning curve
# ------------------
#
# N people are drawn from the training hospitals, five times for each N. The probe is tested on the other hospitals.

result = bundle.probe(embeddings, own, sizes=[20, 40, 80], method="y-Aware", task="Alzheimer's disease (phantom)")
result.plot_learning_curve()

# %%
# Does the curve still rise at its right end? Then more people would help. The vertical lines are 95 % intervals,
# over test subjects and draws. The grey lines are what age, sex, head size, or the hospital tell without any image.
# The dashed one lies below 0.5: what age, sex and head size seemed to tell in the training hospitals is wrong in the
# others. In this phantom they tell nothing.

result.table().round(2)

# %%
# ``gain`` is the difference from *age, sex, TIV* on the same people. It says something only where its whole
# interval is above 0.
#
# What not to conclude
# --------------------
#
# - The brains are a phantom's. Your curve will have another height and another slope.
# - A curve does not tell how it goes on. It tells what was measured up to its last point.
# - Good answers do not show that the *pretraining* helped: :doc:`tutorial 4 <4_what_it_knows>`.
#
# :doc:`../howto/own_cohort` goes on to fine-tuning, testing and predicting.
