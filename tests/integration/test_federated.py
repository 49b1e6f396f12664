"""Federated training with MONAI's stock client: nothing of ours is between the server and the configs."""

import json

import numpy as np
import pytest
import torch
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems, WeightType
from monai.fl.utils.exchange_object import ExchangeObject

from tests.conftest import ROOT

pytestmark = pytest.mark.long

SMALL = {"init_features": 8, "growth_rate": 4, "block_config": [1, 1, 1, 1], "num_workers": 0, "epochs": 9}
PRETRAIN = ["configs/pretrain.yaml", "configs/phantom.yaml"]
TRAIN = ["configs/train.json", "configs/task_alzheimer.yaml", "configs/phantom.yaml"]
CONSTANT = {"_target_": "torch.optim.lr_scheduler.ConstantLR", "optimizer": "@optimizer", "factor": 1.0}


def divided(datalist, folder, parts=2):
    """A site's share of a datalist for each client."""
    content = json.loads(datalist.read_text())
    for number in range(parts):
        share = {k: v[number::parts] if isinstance(v, list) else v for k, v in content.items()}
        for items in share.values():
            for item in items if isinstance(items, list) else []:
                item["image"] = str(datalist.parent / item["image"])
        (folder / f"client_{number}.json").write_text(json.dumps(share))
    return [folder / f"client_{number}.json" for number in range(parts)]


def client(number, files, datalist, folder, **more):
    places = {"datalist": str(datalist), "output_dir": str(folder / f"run_{number}"), "bundle_root": str(ROOT)}
    weights = {"weights": str(folder / f"client_{number}.pt")}
    algo = MonaiAlgo(
        bundle_root=str(ROOT),
        local_epochs=1,
        send_weight_diff=False,
        config_train_filename=files,
        train_kwargs={**SMALL, **weights, **places, "lr_scheduler": CONSTANT, **more},
        config_evaluate_filename=None,
        save_dict_key=None,
    )
    algo.initialize(extra={ExtraItems.CLIENT_NAME: f"client_{number}"})
    return algo


def state_of(algo):
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in algo.trainer.network.state_dict().items()}


def average(states):
    stacked = {name: torch.stack([torch.as_tensor(s[name]) for s in states]) for name in states[0]}
    return {name: (v.float().mean(0) if v.is_floating_point() else v[0]).numpy() for name, v in stacked.items()}


def federate(clients, rounds):
    """The server: send, train, collect, average."""
    weights, history = state_of(clients[0]), []
    for _ in range(rounds):
        for algo in clients:
            algo.train(ExchangeObject(weights=weights, weight_type=WeightType.WEIGHTS), extra={})
        sent = [algo.get_weights(extra={}).weights for algo in clients]
        history.append(sent)
        weights = average(sent)
    return weights, history


@pytest.fixture
def pretraining_clients(tiny_phantom, tmp_path):
    shares = divided(tiny_phantom / "pretraining.json", tmp_path)
    return [client(n, PRETRAIN, share, tmp_path, val_interval=1) for n, share in enumerate(shares)]


def test_two_clients_pretrain_one_encoder_over_several_rounds(pretraining_clients):
    before = state_of(pretraining_clients[0])
    weights, history = federate(pretraining_clients, rounds=2)
    assert len(history) == 2
    first, second = history[0]
    assert any(not torch.equal(first[name], second[name]) for name in first)  # each learned from its own subjects
    assert any(np.any(weights[name] != before[name]) for name in weights)
    for algo in pretraining_clients:
        assert algo.trainer.state.epoch == 2
    assert all(torch.as_tensor(value).isfinite().all() for value in weights.values())


def test_a_round_starts_from_the_weights_of_the_server(pretraining_clients):
    algo = pretraining_clients[0]
    algo.trainer.optimizer.param_groups[0]["lr"] = 0.0
    target = {name: value * 0 + 1 if value.dtype.kind == "f" else value for name, value in state_of(algo).items()}
    target = {name: value for name, value in target.items() if "running" not in name and "num_batches" not in name}
    algo.train(ExchangeObject(weights={**state_of(algo), **target}, weight_type=WeightType.WEIGHTS), extra={})
    sent = algo.get_weights(extra={}).weights
    assert all((sent[name] == 1).all() for name in target if target[name].dtype.kind == "f")


def test_two_clients_fine_tune_one_classifier(tiny_phantom, encoder, tmp_path):
    shares = divided(tiny_phantom / "alzheimer.json", tmp_path)
    start = {"weights": str(encoder)}
    clients = [client(n, TRAIN, s, tmp_path, model=str(tmp_path / f"{n}.pt"), **start) for n, s in enumerate(shares)]
    weights, _ = federate(clients, rounds=2)
    assert weights["class_layers.out.weight"].shape == (2, clients[0].trainer.network.class_layers.out.in_features)
    evaluated = clients[0].trainer.state
    assert evaluated.epoch == 2
