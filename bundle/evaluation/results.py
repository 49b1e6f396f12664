"""What a comparison found: tables, tests and figures of all its runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from bundle.cohort.datalist import load_sections, phantom_of
from bundle.evaluation import figures, probing
from bundle.evaluation.in_document import origin_of, show_in_document
from bundle.evaluation.plan import KNOWN, ONE_SEED, RANDOM, REFERENCES, VOXELS, Plan
from bundle.evaluation.probing import by_participant
from bundle.evaluation.readers import LOGISTIC, READERS
from bundle.evaluation.unknown import not_read
from bundle.files import write_json, write_text
from bundle.metrics.classification import calibration_error, reliability
from bundle.metrics.representation import OverallScaler
from bundle.provenance import provenance


def write_results(plan: Plan) -> None:
    """Write everything that the runs of a plan show to its `output_dir`.

    `results.csv` (a row per method, task, N and draw), `summary.csv`, `tests.csv`, `knowledge.csv`, `calibration.csv`,
    `table.md`, `learning_curves.png`, `embeddings.png`, `calibration.png`, `provenance.json`.
    """
    folder = Path(plan.output_dir)
    phantom = phantom_of([str(plan.datalist(task)) for task in plan.tasks])
    note = " ".join(filter(None, [phantom.get("warning", ""), *_site_effects(plan), not_read_in(plan)]))
    scores = collected_scores(plan)
    summary, tests = probing.summarize(scores, RANDOM), probing.paired_tests(scores)
    tables = {
        "results": probing.draw_aucs(scores),
        "summary": summary,
        "tests": tests,
        "knowledge": collected_knowledge(plan),
        "calibration": calibration_table(scores, plan),
    }
    for name, table in tables.items():
        write_text(folder / f"{name}.csv", table.to_csv(index=False))
    best = phantom.get("best_auc", {})
    write_text(folder / "table.md", _markdown(plan, tables, best, note))
    figures.learning_curves(folder / "learning_curves.png", summary, best, note, REFERENCES)
    figures.calibration_curves(folder / "calibration.png", _calibration_panels(scores), note)
    maps, kind = _maps(plan)
    figures.embedding_maps(folder / "embeddings.png", maps, f"{kind} of the embeddings. {note}")
    write_json(folder / "provenance.json", provenance(plan.seeds[0], {"seeds": str(list(plan.seeds))}))
    if plan.document is not None:
        titles = ("Learning curves", "Embeddings", "Calibration")
        pictures = {title: title.lower().replace(" ", "_") + ".png" for title in titles}
        show_in_document(Path(plan.document), folder, pictures, origin_of([plan]))
    sys.stdout.write(f"\n{(folder / 'table.md').read_text(encoding='utf-8')}\nTables and figures: {folder}\n")


def _site_effects(plan: Plan) -> list[str]:
    """How site effects were taken out of the features of probes; nothing where they were not."""
    said: dict[str, list[str]] = {}
    for method in plan.probed:
        files = [plan.folder(method, seed) / "probe" / "site_effects.md" for seed in plan.seeds]
        for text in {path.read_text(encoding="utf-8").strip() for path in files if path.is_file()}:
            said.setdefault(text, []).append(method)
    everybody = set(plan.pretexts) | set(plan.references)
    return [text if everybody <= set(by) else f"{', '.join(by)}: {text}" for text, by in sorted(said.items())]


def not_read_in(plan: Plan, training: Collection[str] = ("training",)) -> str:
    """What the line of age, sex and TIV does not read in the tasks of a plan; empty where nothing is to be said.

    Args:
        plan: What is compared.
        training: Sections of whom some train.
    """
    if KNOWN not in plan.references:
        return ""
    found = {task: load_sections(plan.datalist(task)) for task in plan.tasks}
    return not_read({task: [r for name in training for r in parts.get(name, [])] for task, parts in found.items()})


def collected_scores(plan: Plan) -> pd.DataFrame:
    """Scores of all methods in one table: log odds of every test image by the model of each trial."""
    probes = [
        _read(plan.folder(method, seed) / "probe" / "scores.csv") for seed in plan.seeds for method in plan.probed
    ]
    order = {method: place for place, method in enumerate(plan.methods)}
    table = pd.concat([part for part in (*probes, *_network_scores(plan)) if len(part)])
    return table.sort_values("method", key=lambda m: m.map(order), kind="stable")


def _network_scores(plan: Plan) -> Iterator[pd.DataFrame]:
    for draw, seed in enumerate(plan.seeds):
        for name, task, size in plan.trainings():
            table = _read(plan.folder(name, seed) / f"{task}_{size}" / "test" / "predictions.csv")
            probability = table.filter(like="probability_").iloc[:, 1].clip(1e-6, 1 - 1e-6)
            ids = table[["participant_id", "session_id", "label"]]
            yield ids.assign(task=task, method=name, n=size, draw=draw, score=logit(probability))


def _read(path: Path) -> pd.DataFrame:
    """A table whose ids are text: 01 is not 1."""
    return pd.read_csv(path, dtype={"participant_id": str, "session_id": str}, keep_default_na=False)


def collected_knowledge(plan: Plan) -> pd.DataFrame:
    """What each embedding knows of site and age: a row per method and seed."""
    rows = []
    for method in plan.probed:
        for seed in plan.seeds:
            path = plan.folder(method, seed) / "probe" / "knowledge.json"
            if path.is_file():
                known = json.loads(path.read_text(encoding="utf-8"))
                found = {name: np.nan if value is None else value for name, value in known.items()}
                rows.append({"method": method, "seed": seed, **found})
    return pd.DataFrame(rows)


def calibration_table(scores: pd.DataFrame, plan: Plan) -> pd.DataFrame:
    """Expected calibration error at the largest N over all draws, of each task and method whose scores are log odds."""
    log_odds = {m: READERS.get(plan.source_of(m), LOGISTIC).is_log_odds for m in scores["method"].unique()}
    scores = scores[scores["method"].map(log_odds)]
    rows = [
        (task, method, calibration_error(g["label"], expit(g["score"])))
        for (task, method), g in _largest(by_participant(scores)).groupby(["task", "method"], sort=False)
    ]
    return pd.DataFrame(rows, columns=["task", "method", "calibration_error"])


def _largest(scores: pd.DataFrame) -> pd.DataFrame:
    return scores[scores["n"] == scores["n"].max()]


def _calibration_panels(scores: pd.DataFrame) -> dict[str, dict[str, pd.DataFrame]]:
    shown = scores[~scores["method"].isin(set(REFERENCES) - {RANDOM, VOXELS})]
    drawn = _largest(by_participant(shown))
    return {
        str(task): {
            str(method): reliability(rows["label"], expit(rows["score"]))
            for method, rows in group.groupby("method", sort=False)
        }
        for task, group in drawn.groupby("task", sort=False)
    }


def _maps(plan: Plan) -> tuple[dict[str, pd.DataFrame], str]:
    """The first seed's embeddings of all tasks' subjects in a plane, by method, and what made the plane."""
    maps, kind = {}, ""
    for method in (*plan.pretexts, RANDOM):
        arrays = np.load(plan.folder(method, plan.seeds[0]) / "probe" / "embeddings.npz", allow_pickle=False)
        plane, kind = probing.to_plane(OverallScaler().fit(arrays["embedding"]).transform(arrays["embedding"]))
        diagnosis = np.where(arrays["label"] == 1, arrays["task"], "control")
        columns = {"x": plane[:, 0], "y": plane[:, 1], "age": arrays["age"], "site": arrays["site"]}
        maps[method] = pd.DataFrame({**columns, "diagnosis": diagnosis})
    return maps, kind


def _markdown(plan: Plan, tables: dict[str, pd.DataFrame], best: dict[str, float], note: str) -> str:
    first = plan.methods[0]
    seeds, several = f"over {len(plan.seeds)} seeds", len(plan.seeds) > 1
    mean, interval = (f"mean {seeds}", "subjects and seeds") if several else (ONE_SEED, "subjects")
    calibration = tables["calibration"].pivot(index="method", columns="task", values="calibration_error")
    calibrated = [method for method in plan.methods if method in calibration.index]
    calibration = calibration.reindex(index=calibrated, columns=list(plan.tasks)).reset_index()
    parts = [
        note,
        f"ROC-AUC on test subjects, {mean} (95 % interval over {interval})",
        figures.diagnosis_table(tables["summary"]),
        "Best achievable ROC-AUC: " + ", ".join(f"{t} {best[t]:.3f}" for t in best) if best else "",
        f"{first} against each other method: difference in ROC-AUC (95 % interval), p by a paired bootstrap t-test, "
        "corrected by Holm's method over all pairs of methods and sizes of a task",
        figures.test_table(tables["tests"], first),
        "What the embedding knows: balanced accuracy for the site of unseen subjects, error of age at unseen sites "
        f"(years), and the OpenBHB score made of both (lower is better); "
        f"{f'mean ± standard deviation {seeds}' if several else ONE_SEED}",
        _knowledge(tables["knowledge"]).to_markdown(index=False, disable_numparse=True),
        f"Expected calibration error at N = {max(plan.sizes)}",
        calibration.to_markdown(index=False, floatfmt=".3f"),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _knowledge(table: pd.DataFrame) -> pd.DataFrame:
    """What each embedding knows as text: mean over seeds, and their standard deviation where there are several."""
    by_method = table.drop(columns="seed").groupby("method", sort=False)
    means, spreads = by_method.mean(), by_method.std()
    shown = pd.DataFrame({"method": means.index})
    for name in means:
        digits = 3 if name == "site_accuracy" else 2
        ends = ["" if pd.isna(spread) else f" ± {spread:.{digits}f}" for spread in spreads[name]]
        cells = ["" if pd.isna(mean) else f"{mean:.{digits}f}" for mean in means[name]]
        shown[name] = [cell + end for cell, end in zip(cells, ends, strict=True)]
    return shown
