"""Which activations LFP trains through: the pattern of LFP v3, Table 3."""

import math
import warnings

import pytest
import torch

from spikelfp import Trainer, data, models
from spikelfp.errors import SignWarning
from spikelfp.nn import sign_complaints

LEARNS = ("relu", "leaky-relu", "silu", "gelu", "elu", "tanh")


def accuracy(splits: data.DataSplits, activation: str, hidden: list[int], epochs: int, noise: float = 0.0) -> float:
    torch.manual_seed(0)
    net = models.mlp([math.prod(splits.shape), *hidden, splits.classes], activation=activation, noise=noise)
    trainer = Trainer(net)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SignWarning)
        trainer.fit(splits.train, epochs)
    return trainer.evaluate(splits.test).accuracy


@pytest.mark.parametrize("activation", LEARNS)
def test_activations_that_keep_the_sign_learn(activation):
    assert accuracy(data.load("digits"), activation, [64, 64], 30) > 0.9


def test_sigmoid_fails_and_is_named_beforehand():
    net = models.mlp([64, 16, 10], activation="sigmoid")
    (complaint,) = sign_complaints(net)
    assert complaint.startswith("Sigmoid")
    with pytest.warns(SignWarning, match="opposite_sign=True"):
        net(torch.rand(1, 2, 64))
    plain = accuracy(data.load("digits"), "sigmoid", [64, 64], 30)
    assert plain < 0.3
    assert accuracy(data.load("digits"), "sigmoid-opposite", [64, 64], 30) > plain


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_heaviside_networks_learn_somewhat(noise):
    assert accuracy(data.load("digits"), "heaviside", [64, 64], 30, noise) > 0.5


@pytest.mark.slow
def test_the_pattern_holds_on_mnist(mnist_folder):
    mnist = data.load("mnist", mnist_folder)
    reached = {name: accuracy(mnist, name, [256, 256], 1) for name in ("relu", "silu", "elu", "tanh", "sigmoid")}
    assert all(reached[name] > 0.9 for name in ("relu", "silu", "elu", "tanh")), reached
    assert reached["sigmoid"] < 0.3, reached
