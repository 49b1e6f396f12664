"""A folder of answers is refused, added to or replaced as a whole, and two writers at once lose nothing."""

import json
import multiprocessing

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock

from bundle import locks
from bundle.pages import GENERATOR
from bundle.prediction import output
from bundle.prediction.output import AnswerFolder, map_name

SHA = "a" * 64


def answers(*scans, sha256=SHA, probability=0.25):
    """A table of answers, and its embeddings."""
    table = pd.DataFrame({"participant_id": ["007"] * len(scans), "file": [f"/scans/{scan}.nii" for scan in scans]})
    table = table.assign(name=scans, verdict="pass", reasons="", probability=probability, known=True)
    table = table.assign(brain_age=np.nan, model="model", model_sha256=sha256)
    return table, table[["participant_id", "file"]].assign(e0=probability)


def listed(rows):
    return "\n".join(f"{row['name']} {row['probability']:.2f} {row['page']}" for row in rows)


def publish(folder, existing, *scans, pages=True, maps=(), **more):
    """What a run does: stage pages and maps, and bring all into the folder."""
    found = AnswerFolder(folder, existing)
    for name in scans if pages else ():
        (found.stage / "scans").mkdir(exist_ok=True)
        (found.stage / "scans" / f"{name}.html").write_text(f"{GENERATOR}: page of {name} {more}")
    for name in maps:
        (found.stage / "maps").mkdir(exist_ok=True)
        (found.stage / "maps" / name).write_text("map")
    found.publish(*answers(*scans, **more), listed, ["embeddings.tsv", *(["index.html"] if pages else [])])


def names(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.name != ".lock")


def rows(folder, table="predictions.csv"):
    cells = pd.read_csv(folder / table, sep="\t" if table.endswith("tsv") else ",", dtype=str)
    return cells["file"].str.extract(r"/scans/(\w+)")[0].tolist()


WHOLE = ["embeddings.tsv", "index.html", "predictions.csv"]


@pytest.mark.parametrize("held", ["predictions.csv", "index.html", "scans/a.html", "maps/a_occlusion.nii.gz"])
def test_a_folder_that_holds_answers_is_refused_with_both_flags(held, tmp_path):
    (tmp_path / held).parent.mkdir(exist_ok=True)
    (tmp_path / held).write_text(f"file,{GENERATOR}\n")
    with pytest.raises(ValueError, match=r"holds answers already: .*--append .*--overwrite"):
        AnswerFolder(tmp_path).check(SHA)
    with pytest.raises(ValueError, match="holds answers already"):
        publish(tmp_path, "refuse", "b")
    assert names(tmp_path) == [held]


def test_a_folder_of_foreign_files_takes_answers_and_keeps_the_files(tmp_path):
    foreign = ["maps/mwp1a.nii.gz", "notes.txt", "scans/a.nii.gz", "scans/quality.html"]
    for name in foreign:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    publish(tmp_path, "refuse", "a")
    publish(tmp_path, "overwrite", "b")
    assert names(tmp_path) == sorted([*foreign, *WHOLE, "scans/b.html"])
    with pytest.raises(ValueError, match="of somebody else"):
        publish(tmp_path, "overwrite", "quality")
    assert names(tmp_path) == sorted([*foreign, *WHOLE, "scans/b.html"])


def test_appended_answers_join_those_that_are_there(tmp_path):
    publish(
        tmp_path, "append", "a", "b", maps=[map_name("a", "occlusion", "class"), map_name("b", "occlusion", "class")]
    )
    first = (tmp_path / "predictions.csv").read_text()
    publish(tmp_path, "append", "b", "c", probability=0.75, maps=[map_name("b", "gradcam++", "similarity")])
    assert rows(tmp_path) == rows(tmp_path, "embeddings.tsv") == ["a", "b", "c"]
    assert (tmp_path / "predictions.csv").read_text().splitlines()[:2] == first.splitlines()[:2], "to the last digit"
    maps = ["maps/a_occlusion.nii.gz", "maps/b_gradcampp_similarity.nii.gz"]
    assert names(tmp_path) == sorted([*WHOLE, *maps, *(f"scans/{name}.html" for name in "abc")])
    index = "a 0.25 scans/a.html\nb 0.75 scans/b.html\nc 0.75 scans/c.html"
    assert (tmp_path / "index.html").read_text() == index
    assert "0.75" in (tmp_path / "scans/b.html").read_text()


def test_no_page_of_an_earlier_answer_stays_where_the_new_one_has_none(tmp_path):
    publish(tmp_path, "append", "a", "b")
    publish(tmp_path, "append", "b", probability=0.75, pages=False)
    assert names(tmp_path) == sorted([*WHOLE, "scans/a.html"])
    assert (tmp_path / "index.html").read_text() == "a 0.25 scans/a.html\nb 0.75 "


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        ("participant_id,file,model,model_sha256\na,a.nii,other,bbbb\n", "another model: other"),
        (f"participant_id,file,model,model_sha256\na,a.nii,model,{SHA}\n", "other columns .*it lacks brain_age, known"),
        ("participant_id,probability\na,1\n", "answers of another model: none named"),
        ('a,"b\n', "cannot be read as a table"),
        (None, "answers without predictions.csv"),
    ],
)
def test_answers_that_do_not_belong_together_are_refused_by_name_and_stay(before, reason, tmp_path):
    held = "index.html" if before is None else "predictions.csv"
    (tmp_path / held).write_text(before or "")
    with pytest.raises(ValueError, match=reason):
        publish(tmp_path, "append", "a")
    assert names(tmp_path) == [held]
    assert (tmp_path / held).read_text() == (before or "")
    publish(tmp_path, "overwrite", "a")
    assert rows(tmp_path) == ["a"]


def test_answers_at_another_prevalence_do_not_join(tmp_path):
    table, embeddings = answers("a", "b")
    AnswerFolder(tmp_path).publish(table.assign(prevalence=[0.1, np.nan]), embeddings, listed)
    before = (tmp_path / "predictions.csv").read_text()
    AnswerFolder(tmp_path, "append").check(SHA, 0.1)
    with pytest.raises(ValueError, match=r"at a prevalence of 0\.1, but the new ones are at 0\.5: .*--prevalence 0\.1"):
        AnswerFolder(tmp_path, "append").publish(table.assign(prevalence=0.5), embeddings, listed)
    assert (tmp_path / "predictions.csv").read_text() == before


def test_overwriting_replaces_everything(tmp_path):
    publish(tmp_path, "refuse", "a", "b", maps=["a_occlusion.nii.gz"])
    publish(tmp_path, "overwrite", "c", pages=False, sha256="b" * 64)
    assert names(tmp_path) == ["embeddings.tsv", "predictions.csv"]
    assert rows(tmp_path) == ["c"]


@pytest.mark.parametrize("existing", ["overwrite", "append"])
def test_a_run_that_fails_loses_no_earlier_answer(existing, tmp_path):
    publish(tmp_path, "refuse", "a", "b")
    before = {name: (tmp_path / name).read_text() for name in names(tmp_path)}

    def fails(_):
        raise OSError("the disk is full")

    for index in (fails, None):
        folder = AnswerFolder(tmp_path, existing)
        for name in ("scans/a.html", "scans/c.html", "maps/c_occlusion.nii.gz"):
            (folder.stage / name).parent.mkdir(exist_ok=True)
            (folder.stage / name).write_text("new")
        if index is None:  # it fails while the files are moved
            (tmp_path / "maps").write_text("a file where a folder should be")
        with pytest.raises(OSError):
            folder.publish(*answers("a", "c"), index, ["index.html"])
        (tmp_path / "maps").unlink(missing_ok=True)
        assert {name: (tmp_path / name).read_text() for name in names(tmp_path)} == before


def test_the_page_of_another_scan_is_never_replaced(tmp_path):
    publish(tmp_path, "append", "Ann")
    (tmp_path / "predictions.csv").write_text((tmp_path / "predictions.csv").read_text().replace("/scans/", "/other/"))
    with pytest.raises(ValueError, match="is of another scan"):
        publish(tmp_path, "append", "ANN")
    assert names(tmp_path) == sorted([*WHOLE, "scans/Ann.html"])


def test_appended_scans_of_one_name_have_files_of_their_own(tmp_path):
    files = ["/one/scan.nii", "/two/scan.nii", "/one/scan.nii"]
    records = [{"image": image, "name": "scan"} for image in files]
    found = [record["name"] for record in AnswerFolder(tmp_path, "append").named(records)]
    assert len(set(found)) == 3
    assert all(name.startswith("scan_") for name in found)
    again = [record["name"] for record in AnswerFolder(tmp_path, "append").named(records[1:])]
    assert again[0] == found[1], "a scan that is predicted again has its name again"
    assert [record["name"] for record in AnswerFolder(tmp_path).named(records)] == ["scan"] * 3


def test_ids_stay_text_and_numbers_are_numbers_in_the_index(tmp_path):
    seen = []
    AnswerFolder(tmp_path).publish(*answers("a"), lambda given: seen.extend(given) or "", ["index.html"])
    (row,) = seen
    assert (row["participant_id"], row["probability"], row["reasons"], row["known"]) == ("007", 0.25, "", True)
    assert np.isnan(row["brain_age"])


def test_two_processes_that_append_at_once_lose_no_row(tmp_path):
    fork = multiprocessing.get_context("fork").Process
    scans = {number: [f"s{number}x{n}" for n in range(6)] for number in range(3)}
    writers = [fork(target=append_each, args=(tmp_path, own)) for own in scans.values()]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    everyone = sorted(name for own in scans.values() for name in own)
    assert sorted(rows(tmp_path)) == sorted(rows(tmp_path, "embeddings.tsv")) == everyone
    assert names(tmp_path) == sorted([*WHOLE, *(f"scans/{name}.html" for name in everyone)])
    assert len((tmp_path / "index.html").read_text().splitlines()) == 18


def append_each(folder, scans):
    for scan in scans:
        publish(folder, "append", scan)


def test_a_writer_that_waits_in_vain_says_who_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(output, "LOCK_SECONDS", 0.05)
    with FileLock(tmp_path / locks.LOCK):
        (tmp_path / locks.HOLDER).write_text(json.dumps({"process": 4711, "host": "ward", "since": "noon"}))
        with pytest.raises(OSError, match=r"is being written by process 4711 on ward \(since noon\)"):
            publish(tmp_path, "append", "a")
    assert names(tmp_path) == [locks.HOLDER]
    publish(tmp_path, "append", "a")
    assert rows(tmp_path) == ["a"]
