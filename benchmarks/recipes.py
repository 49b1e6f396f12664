"""The table of a study of recipes: each setting beside the baseline, with what the rules of the study say of it.

    python -m bundle compare --config configs/compare_sites.yaml configs/study_hundreds_loss.yaml mine.yaml …
    python -m benchmarks.recipes eval/study_loss

prints a row per setting: means over held-out groups, and in brackets the paired difference from the first setting with
its 95 % interval, over people in tasks and over groups in age. Bold: the interval excludes 0. Where there are several
seeds it also prints the spread over seeds, and what the mean of their scores comes to.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from bundle.metrics.classification import roc_auc

AGE = "age"


def difference(tests: pd.DataFrame, task: str, method: str, baseline: str) -> tuple[float, float, float]:
    """Difference of a method from the baseline, and its interval."""
    of_task = tests[tests["task"] == task]
    low, high = ("low", "high") if task == AGE else ("people_low", "people_high")
    for first, second, sign in ((method, baseline, 1), (baseline, method, -1)):
        found = of_task[(of_task["method"] == first) & (of_task["other"] == second)]
        if len(found):
            row = found.iloc[0]
            ends = sorted((sign * row[low], sign * row[high]))
            return sign * row["difference"], ends[0], ends[1]
    raise ValueError(f"There is no test of {method} against {baseline} in {task}.")


def cell(tests: pd.DataFrame, summary: pd.DataFrame, task: str, method: str, baseline: str) -> str:
    """Mean, and difference from the baseline."""
    row = summary[(summary["task"] == task) & (summary["method"] == method)]
    if row.empty:
        return ""
    digits = 2 if task == AGE else 3
    mean = f"{row['mean'].iloc[0]:.{digits}f}"
    if method == baseline:
        return mean
    gap, low, high = difference(tests, task, method, baseline)
    text = f"{gap:+.{digits}f}, {low:+.{digits}f} to {high:+.{digits}f}".replace("-", "−")
    return f"{mean} (**{text}**)" if low > 0 or high < 0 else f"{mean} ({text})"


def table(folder: Path, others: list[str]) -> str:
    """Markdown: a row per setting, the first being the baseline."""
    summary, tests, knowledge = (pd.read_csv(folder / f"{name}.csv") for name in ("summary", "tests", "knowledge"))
    sites = knowledge.groupby("method")["site_accuracy"].mean()
    methods = list(dict.fromkeys(summary["method"]))
    baseline = others[0] if others else methods[0]
    tasks = list(dict.fromkeys(summary["task"]))
    units = ["age error, years" if task == AGE else f"{task}, ROC-AUC" for task in tasks]
    lines = [["setting", *units, "site"]]
    for method in methods:
        cells = [cell(tests, summary, task, method, baseline) for task in tasks]
        lines.append([method, *cells, f"{sites[method]:.2f}" if method in sites else ""])
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def over_seeds(folder: Path) -> str:
    """Markdown: the spread over seeds, and the ROC-AUC of the mean of their scores; nothing of a single seed."""
    scores = pd.read_csv(folder / "scores.csv")
    if scores["seed"].nunique() < 2:
        return ""
    spread = pd.read_csv(folder / "summary.csv").pivot(index="method", columns="task", values="seed_sd")
    people = ["task", "method", "group", "participant_id"]
    mean = scores.groupby([*people, "label"], sort=False, as_index=False)["score"].mean()
    by_group = mean.groupby(people[:3], sort=False)[["label", "score"]]
    aucs = by_group.apply(lambda rows: roc_auc(rows["label"], rows["score"])).groupby(["method", "task"], sort=False)
    found = aucs.mean().unstack("task").add_suffix(", scores averaged")
    together = found.join(spread.add_suffix(", SD over seeds")).reset_index()
    return together.to_markdown(index=False, floatfmt=".3f") + "\n"


if __name__ == "__main__":
    sys.stdout.write(table(Path(sys.argv[1]), sys.argv[2:]) + "\n\n" + over_seeds(Path(sys.argv[1])))
