"""Two datalists joined by person and session: who has both maps, and what is refused."""

import json

import pytest

from bundle.cohort.joined import FIRST, SECOND, join, load_joined_section, of_modality, with_both
from bundle.cohort.participants import CohortError


def item(name, modality, **known):
    record = {
        "participant_id": name,
        "session_id": "1",
        "site": "a",
        "age": 30.0,
        "sex": "F",
        "tiv": 1400.0,
        "label": 0,
    }
    return {**record, "image": f"{modality}/{name}.npy", **known}


def both(*names, **known):
    return [item(n, "gm", **known) for n in names], [item(n, "fa", **known) for n in names]


@pytest.fixture
def lists(tmp_path):
    """`lists(first, second, …)`: two datalists, whose other section holds two people of its own."""

    def write(first, second, section="training", **more):
        paths = []
        for name, records in (("gm", first), ("fa", second)):
            other = "validation" if section == "training" else "training"
            content = {section: records, other: both("x1", "x2")[name == "fa"], "test": [], **more.get(name, {})}
            paths.append(tmp_path / f"{name}.json")
            paths[-1].write_text(json.dumps(content))
        return paths

    return write


def read(paths, section="training", **options):
    return load_joined_section(*paths, section, **options)


def test_people_are_joined_by_participant_and_session_in_any_order(lists, tmp_path):
    first, second = both("1", "2", "3")
    found = read(lists(first, [*second[::-1], item("4", "fa")]), metadata_columns=["age", "sex"])
    assert [r["participant_id"] for r in found] == ["1", "2", "3", "4"]
    assert [r[FIRST] for r in found] == [*(str(tmp_path / f"gm/{n}.npy") for n in (1, 2, 3)), ""]
    assert [r[SECOND] for r in found] == [str(tmp_path / f"fa/{n}.npy") for n in (1, 2, 3, 4)]
    assert found[3]["metadata"].tolist() == [30.0, 0.0]
    assert [r["image"] for r in of_modality(found, SECOND)] == [r[SECOND] for r in found]
    assert [r["participant_id"] for r in of_modality(found, FIRST)] == ["1", "2", "3"]
    assert len(with_both({"training": found})["training"]) == 3


def test_prefixes_do_not_matter_and_sessions_do(lists):
    first, second = both("1", "2")
    second = [{**r, "participant_id": f"sub-{r['participant_id']}", "session_id": "ses-1"} for r in second]
    again = [item("1", "fa", session_id="2", image="fa/again.npy")]
    found = read(lists(first, [*second, *again]))
    assert [(bool(r[FIRST]), bool(r[SECOND])) for r in found] == [(True, True), (True, True), (False, True)]


def test_what_one_datalist_does_not_know_is_taken_from_the_other(lists):
    first, second = both("1", "2")
    first[0] |= {"age": None, "sex": None, "site": None}
    second[0] |= {"tiv": None, "age": 52.0, "sex": "M", "site": "b"}
    second[1] |= {"tiv": None, "age": 30.9}  # a rounded age
    found = read(lists(first, second), metadata_columns=["age", "site"])
    assert (found[0]["age"], found[0]["sex"], found[0]["site"], found[0]["tiv"]) == (52.0, "M", "b", 1400.0)
    assert found[1]["age"] == 30.0
    assert [r["metadata"].tolist() for r in found] == [[52.0, 1.0], [30.0, 0.0]]


def test_a_draw_takes_people_and_not_maps(lists):
    first, second = both(*map(str, range(10)))
    found = read(lists(first, second[:6]), size=4, seed=1)
    assert len({r["participant_id"] for r in found}) == 4
    other_order = read(lists(first[::-1], second[:6]), size=4, seed=1)
    assert {r["participant_id"] for r in found} == {r["participant_id"] for r in other_order}


def test_two_sites_that_use_the_same_ids_are_told_apart_by_site(lists):
    first, second = both("1", "2")
    for part, modality in ((first, "gm"), (second, "fa")):
        part.append(item("1", modality, site="b", age=70.0, image=f"{modality}/b1.npy"))
    found = read(lists(first, second[::-1]))
    names = [(r["site"], r[SECOND].rsplit("/", 1)[1]) for r in found]
    assert names == [("a", "1.npy"), ("a", "2.npy"), ("b", "b1.npy")]


def test_a_session_with_two_maps_of_one_modality_is_refused(lists):
    first, second = both("1", "2")
    with pytest.raises(CohortError, match=r"same participant_id, session_id and site \('1 1 a'\)"):
        read(lists([*first, item("1", "gm", image="gm/other.npy")], second))


def test_one_datalist_twice_and_images_in_both_are_refused(lists):
    first, second = both("1", "2")
    paths = lists(first, second)
    with pytest.raises(CohortError, match="Both modalities name the datalist"):
        load_joined_section(paths[0], paths[0], "training")
    with pytest.raises(CohortError, match=r"share 2 image\(s\), such as .*gm/1.npy: a map would be compared with its"):
        read(lists(first, first))


def test_nobody_in_both_is_refused_with_the_ids_or_the_sessions():
    for names, section, words in (
        (("7", "8"), {}, r"Nobody is in both .*such as '1', '2' and '7', '8', have none in common"),
        (("1", "2"), {"session_id": "2"}, r"No session is in both .*2 people are.*\('1' in '1' and in '2'\)"),
    ):
        first = {"training": both("1", "2")[0]}
        second = {"training": both(*names, **section)[1]}
        with pytest.raises(CohortError, match=words):
            join(first, second, "gm.json and fa.json")


def test_too_few_in_both_of_a_section_are_refused(lists):
    with pytest.raises(CohortError, match=r"In the section 'training' of .* who have both maps: 1; expected"):
        read(lists(both("1", "2")[0], both("1", "3")[1]))


def test_sections_that_disagree_are_refused(lists):
    first, second = both("1", "2", "3")
    paths = lists(first, second[:2])
    content = json.loads(paths[1].read_text())
    content["validation"].append(second[2])
    paths[1].write_text(json.dumps(content))
    for section in ("training", "validation"):
        with pytest.raises(CohortError, match=r"in different sections .*: 1, such as '3' in training and val"):
            read(paths, section)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("age", 31.5, r"ages differ by a year or more: '1' 30.0 and 31.5"),
        ("sex", "M", r"sex differs: '1' F and M"),
        ("site", "b", r"site differs: '1' a and b"),
        ("label", 1, r"label differs: '1' 0 and 1"),
    ],
)
def test_ages_sexes_sites_and_labels_that_disagree_are_refused(lists, name, value, words):
    first, second = both("1", "2", "3")
    second[0][name] = value
    with pytest.raises(CohortError, match=f"In 1 of 5 sessions .* the {words}"):
        read(lists(first, second))


def test_an_unknown_column_is_refused(lists):
    with pytest.raises(ValueError, match="No metadata column 'aeg'; did you mean 'age'"):
        read(lists(*both("1", "2")), metadata_columns=["aeg"])
