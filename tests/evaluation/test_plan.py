"""What a comparison may ask for: what its networks start from."""

import pytest

from bundle.evaluation.plan import CALIBRATED, Plan, Reading


@pytest.fixture
def made(tmp_path):
    for task in ("pretraining", "sex", "autism"):
        (tmp_path / f"{task}.json").write_text("{}")
    (tmp_path / "mine.pt").write_bytes(b"weights")

    def plan(networks, **more):
        fixed = {"pretexts": {"y-Aware": []}, "sizes": [20, 40], "seeds": [0], "overlays": [], "fine_tuning": {}}
        options = {"pretraining": {}, "probing": {}, "tasks": ["sex", "autism"]}
        return Plan(tmp_path, tmp_path / "out", networks=networks, **{**fixed, **options, **more})

    return plan


def after(network, task):
    return {"network": network, "task": task}


def test_a_network_that_starts_from_a_task_skips_that_task(made):
    plan = made({"after sex": after("scratch", "sex"), "scratch": "scratch"})  # whatever their order
    assert plan.trainings() == [
        *(("scratch", task, size) for task in ("sex", "autism") for size in (20, 40)),
        *(("after sex", "autism", size) for size in (20, 40)),
    ]


def test_where_a_network_starts(made, tmp_path):
    mine = str(tmp_path / "mine.pt")
    plan = made({"scratch": "scratch", "tuned": "y-Aware", "file": mine, "after sex": after("scratch", "sex")})
    out = tmp_path / "out/runs"
    expected = [None, out / "y_aware/seed_3/pretraining/pretrained.pt", tmp_path / "mine.pt"]
    expected.append(out / "scratch/seed_3/sex_20/model.pt")
    assert [plan.start_file(start, 3, 20) for start in plan.networks.values()] == expected
    assert plan.given_weights() == {"file": tmp_path / "mine.pt"}
    assert made({}, pretexts={"a": [], "b": []}, pretext_options={"b": {"start": mine}}).given_weights() == {
        "b": tmp_path / "mine.pt"
    }


def test_without_a_task_go_the_networks_that_need_it(made):
    first = {"scratch": "scratch", "after sex": after("scratch", "sex"), "third": after("after sex", "autism")}
    plan = made({**first, "after autism": after("scratch", "autism")})
    assert list(plan.with_tasks(["autism"]).networks) == ["scratch", "after autism"]
    assert list(plan.with_tasks(["sex"]).networks) == ["scratch", "after sex"]
    assert list(plan.with_tasks(["sex", "autism"]).networks) == list(plan.networks)


@pytest.mark.parametrize(
    "start",
    [
        after("nobody", "sex"),
        after("scratch", "age"),
        after("after sex", "sex"),
        {"network": "scratch"},
        {**after("scratch", "sex"), "size": 20},
    ],
)
def test_a_first_stage_that_there_is_not_is_refused(made, start):
    networks = {"scratch": "scratch", "after sex": after("scratch", "sex"), "mine": start, "later": "scratch"}
    with pytest.raises(ValueError, match=r"'mine' starts from .* \{network: NAME, task: TASK\} is expected"):
        made(networks)


def test_networks_that_start_from_each_other_are_refused(made):
    with pytest.raises(ValueError, match="'a', 'b' start from each other"):
        made({"a": after("b", "sex"), "b": after("a", "autism")})


def test_what_is_no_pretext_and_no_file_is_refused(made):
    with pytest.raises(ValueError, match="starts from 'y-aware', which is no pretext and no file; did you mean"):
        made({"mine": "y-aware"})


def test_a_reading_may_adapt_encoders_that_have_seen_data_alone(made):
    adapt = {"adapt": "batch_norm"}
    for of in ("random initialisation", "voxels", "regions, RBF-SVM"):
        with pytest.raises(ValueError, match=f"The reading 'r' adapts '{of}', which has no batch norm with statistics"):
            made({}, readings={"r": Reading(of, adapt)})
        assert made({}, readings={"r": Reading(of, {"adapt": "none"})}).adapted_of("r") is None
    readings = {"r": Reading("y-Aware", adapt), "c": Reading(CALIBRATED, adapt), "plain": Reading("y-Aware", {})}
    plan = made({}, readings=readings)
    found = {name: plan.adapted_of(name) for name in plan.probed}
    assert {name: of for name, of in found.items() if of} == {"r": "y-Aware", "c": CALIBRATED}
    everywhere = made({}, probing=adapt, readings={"v": Reading("voxels", {"adjust": ["age"]})})
    assert {name for name in everywhere.probed if everywhere.adapted_of(name)} == {"y-Aware", CALIBRATED}


@pytest.mark.parametrize(
    ("part", "options", "said"),
    [
        (
            "pretraining",
            {"epochs": 1, "seed": 4},
            "`pretraining` has seed, .* `seeds`, each with its own. Leave it out",
        ),
        ("pretraining", {"weights": "a.pt"}, "`pretraining` has weights"),
        ("fine_tuning", {"size": 10}, "`fine_tuning` has size"),
        (
            "probing",
            {"protocol": "folds"},
            "`probing` has protocol, .* `tasks`, `sizes`, `seeds` and `protocol` of its",
        ),
        ("probing", {"layers": "all"}, "`probing` has layers, .* for each of the encoders"),
    ],
)
def test_what_a_comparison_sets_itself_is_refused(made, part, options, said):
    with pytest.raises(ValueError, match=said):
        made({}, **{part: options})


def test_so_it_is_of_a_pretext_and_of_a_reading(made):
    with pytest.raises(ValueError, match="`pretraining` has seed"):
        made({}, pretext_options={"y-Aware": {"seed": 3}})
    with pytest.raises(ValueError, match="`probing` has draws"):
        made({}, readings={"v": Reading("y-Aware", {"draws": 3})})
