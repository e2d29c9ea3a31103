"""Measures of the experiments, against values by hand."""

import math
from pathlib import Path

import pytest
import torch

from spikelfp import data
from spikelfp.reproduce import Results
from spikelfp.reproduce.f3_fig2 import closed, epochs_of, last
from spikelfp.reproduce.objectives import ctc, rare, right_or_wrong, strings
from spikelfp.reproduce.snn import best, plain_gradient
from spikelfp.reproduce.snn_sweep import relative_change


def test_share_of_a_gap():
    assert closed(0.4, 0.1, 0.1) == 1
    assert closed(0.4, 0.1, 0.4) == 0
    assert closed(0.641, 0.583, 0.585) == pytest.approx(0.9655, abs=1e-4)  # wine quality of the paper
    assert math.isnan(closed(0.1, 0.1, 0.1))


def test_relative_change():
    assert relative_change(torch.tensor([1.0, -3.0]), torch.tensor([1.5, -3.5])) == pytest.approx(0.25)


def test_the_best_setting_is_that_of_the_validation_part():
    rows = [
        {"lr": 0.1, "seed": 0, "validation": 0.6, "accuracy": 0.9},
        {"lr": 0.5, "seed": 0, "validation": 0.8, "accuracy": 0.2},
        {"lr": 0.1, "seed": 1, "validation": 0.7, "accuracy": 0.9},
        {"lr": 0.5, "seed": 1, "validation": 0.6, "accuracy": 0.2},
    ]
    assert best(Results(rows, Path(), []), "lr") == 0.5
    assert best(Results(rows, Path(), []), "lr", seed=1) == 0.1


def test_values_after_the_last_epoch():
    run = {"epochs": [{"epoch": 1, "test_loss": 0.5, "test_accuracy": 0.75}, {"epoch": 2, "test_loss": 0.4}]}
    rows = epochs_of(run)
    assert rows == [{"epoch": 1, "loss": 0.5, "error": 25.0}, {"epoch": 2, "loss": 0.4}]
    assert last(Results(rows, Path(), []), "loss").tolist() == [0.4]


def test_plain_gradients_of_spikes_are_0():
    found = plain_gradient("mlp", data.load("digits"), 3, 0)
    assert found["largest_gradient"] == 0
    assert 0 <= found["accuracy"] <= 1


def test_an_environment_answers_right_or_wrong():
    outputs = torch.tensor(
        [[[0.0, 1, 0], [1, 0, 0]], [[0, 1, 0], [0, 1, 1]], [[0, 0, 0], [0, 0, 1]]]
    )  # counts 020, 112
    assert right_or_wrong(outputs, torch.tensor([1, 2])).tolist() == [1, 1]
    assert right_or_wrong(outputs, torch.tensor([0, 1])).tolist() == [-1, -1]


def test_strings_are_the_shown_digits_in_order():
    inputs, targets = strings(data.load("digits").test, 20, torch.Generator().manual_seed(0))
    assert inputs.shape == (60, 20, 64)
    shown = inputs.unflatten(0, (6, 10)).sum((1, 3)) > 0
    assert shown.sum(0).equal((targets >= 0).sum(1))
    assert ((targets[:, 1:] < 0) | (targets[:, :-1] >= 0)).all()
    assert targets.max() <= 10
    assert set(targets.unique().tolist()) & {0} == set()


def test_ctc_prefers_the_right_string():
    spikes = torch.zeros(60, 1, 11)
    for place, symbol in enumerate((3, 0, 3, 5, 0, 0)):
        spikes[10 * place : 10 * place + 10, 0, symbol] = 1
    right = ctc(spikes, torch.tensor([[3, 3, 5, -1, -1, -1]]))
    assert right < 0.01
    assert ctc(spikes, torch.tensor([[3, 5, -1, -1, -1, -1]])) > 1


def test_classes_are_rare():
    parts = rare(0, 8)
    labels = torch.cat([part.__getitems__(range(len(part)))[1] for part in parts])
    assert [len(part) for part in parts] == [250, 250, 500]
    assert torch.bincount(labels).tolist() == [880, 80, 40]
