"""Pretraining on fewer people: who is drawn, and that a datalist gives them."""

import pytest

from bundle.cohort import load_section, write_datalist
from bundle.cohort.folds import people_drawn

RECORDS = [{"participant_id": f"sub-{n:02d}", "session_id": f"ses-{s}"} for n in range(20) for s in (1, 2)]


def people(records):
    return {record["participant_id"] for record in records}


def test_people_are_drawn_whole_and_a_larger_draw_holds_a_smaller():
    few, many = (people_drawn(RECORDS, size, seed=3) for size in (5, 12))
    assert len(people(few)) == 5
    assert len(few) == 10
    assert people(few) < people(many)
    assert people(people_drawn(RECORDS, 5, seed=4)) != people(few)


def test_the_order_of_records_has_no_influence_and_none_takes_all():
    assert people(people_drawn(RECORDS[::-1], 5, seed=3)) == people(people_drawn(RECORDS, 5, seed=3))
    assert people_drawn(RECORDS, None, seed=3) is RECORDS


def test_more_people_than_there_are_is_refused():
    with pytest.raises(ValueError, match="`size` is 21, but the section has 20 participants"):
        people_drawn(RECORDS, 21, seed=0)


def test_a_datalist_is_read_in_part(tmp_path):
    records = [{**record, "image": str(tmp_path / "a.nii.gz"), "age": 20.0} for record in RECORDS]
    write_datalist(tmp_path / "d.json", {"training": records}, description="toy")
    read = load_section(tmp_path / "d.json", "training", ["age"], size=5, seed=3)
    assert people(read) == people(people_drawn(RECORDS, 5, seed=3))
    assert all(item["metadata"] == [20.0] for item in read)
