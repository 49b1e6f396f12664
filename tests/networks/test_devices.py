import doctest

import pytest
import torch

from bundle.networks import chosen_device, devices


def test_examples_in_the_docstrings_run():
    assert doctest.testmod(devices).failed == 0


def test_auto_is_a_gpu_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert chosen_device("auto") == torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert chosen_device() == torch.device("cpu")


def test_torchs_own_spelling_is_taken(monkeypatch):
    assert chosen_device(torch.device("cpu")) == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert chosen_device("cuda:1") == chosen_device(torch.device("cuda", 1)) == torch.device("cuda", 1)


@pytest.mark.parametrize(
    ("device", "reason"),
    [
        ("cuda:7", "'cuda:7' was asked for, but torch finds"),
        ("gpu", "There is no device 'gpu'; use auto, cpu"),
        ("mps", "torch finds none here"),
    ],
)
def test_a_device_that_is_not_there_is_refused(device, reason):
    with pytest.raises(ValueError, match=reason):
        chosen_device(device)
