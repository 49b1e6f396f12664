import json

import pytest
import torch

from bundle.cli.settings import settings_of
from bundle.training import require_same_run

CONFIG = {
    "epochs": 4,
    "sigma": 5.0,
    "block_config": [1, 1],
    "num_workers": 4,
    "encoder": {"_target_": "bundle.networks.DenseNetEncoder", "norm": "batch"},
    "train": {"handlers": [{"_target_": "StatsHandler"}], "trainer": {"max_epochs": "@epochs"}},
}


def settings(tmp_path, **changes):
    datalist = tmp_path / changes.pop("datalist", "list.json")
    if not datalist.exists():
        datalist.write_text(datalist.name)
    return settings_of("pretrain", {**CONFIG, "datalist": str(datalist), **changes})


def saved(tmp_path, content):
    state = {"format": 2, "network": {}, "trainer": {}, **content}
    torch.save(state, tmp_path / "checkpoint_2.pt")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"sigma": 10.0}, "sigma was 5.0 and is 10.0"),
        ({"block_config": [1, 2]}, "block_config.1 was 1 and is 2"),
        ({"encoder": {**CONFIG["encoder"], "norm": "group"}}, "encoder.norm was batch and is group"),
        ({"temperature": 0.2}, "temperature was not set and is 0.2"),
        ({"epochs": 3}, "epochs was 4 and is 3"),
        ({"datalist": "other.json"}, "the content of datalist is another"),
    ],
)
def test_a_run_that_is_resumed_is_the_same_run(change, sentence, tmp_path):
    saved(tmp_path, {"settings": settings(tmp_path)})
    with pytest.raises(ValueError, match=f"is of a run with other settings: {sentence}. Resume"):
        require_same_run(tmp_path, True, settings(tmp_path, **change))
    require_same_run(tmp_path, False, settings(tmp_path, **change))


def test_epochs_may_grow_and_places_speed_and_intervals_may_change(tmp_path, caplog):
    saved(tmp_path, {"settings": settings(tmp_path)})
    (tmp_path / "moved.json").write_text("list.json")
    change = {"epochs": 9, "num_workers": 0, "device": "cuda", "datalist": "moved.json", "block_config": [1.0, 1]}
    handlers = {"handlers": [], "trainer": {"max_epochs": "@epochs"}}
    require_same_run(tmp_path, True, settings(tmp_path, **change, train=handlers))
    require_same_run(tmp_path / "empty", True, settings(tmp_path))
    assert not caplog.records


@pytest.mark.parametrize(("held", "now"), [({}, True), ({"settings": {"sigma": 5.0}}, False)])
def test_what_cannot_be_compared_is_said(held, now, tmp_path, caplog):
    saved(tmp_path, held)
    require_same_run(tmp_path, True, settings(tmp_path) if now else None)
    assert "cannot be compared with this run's settings" in caplog.text


def test_the_best_weights_lie_where_the_run_will_say_that_they_are(tmp_path):
    saved(tmp_path, {"settings": settings(tmp_path), "evaluator": {"best_metric": 0.5, "best_metric_epoch": 2}})
    path = tmp_path / "pretrained.pt"

    def resumed(*weights):
        require_same_run(tmp_path, True, settings(tmp_path), *weights)

    resumed()
    with pytest.raises(ValueError, match=r"best weights, of epoch 2, but .*pretrained.pt, in which .* is not there"):
        resumed(path)
    torch.save({}, path)
    resumed(str(path))  # without a card, whose it is cannot be told
    for epoch in (2, 3):  # or it was killed between a better epoch and its checkpoint
        path.with_suffix(".json").write_text(json.dumps({"epoch": epoch}))
        resumed(path)
    path.with_suffix(".json").write_text(json.dumps({"epoch": 1}))
    with pytest.raises(ValueError, match=r"is of epoch 1, and so of another run\. Resume with the file of"):
        resumed([path])
    saved(tmp_path, {"settings": settings(tmp_path), "evaluator": {}})
    resumed(tmp_path / "not_yet.pt")
