"""Options that change nothing: those of rewards inside a layer, under methods that send none."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
import torch

from spikelfp import TemporalTrainer, methods, models, nn, rewards, rules
from spikelfp.errors import LearningWarning, UserError

GRADIENT = {
    "e-prop": methods.EProp, "OTTT": methods.OTTT, "DECOLLE": methods.DECOLLE, "surrogate": methods.SurrogateGradient,
    "gradient": lambda: methods.GradientDescent(rules.Surrogate()), "DFA": lambda: methods.DFA(credit="surrogate"),
    "LLO": lambda: methods.LLO(credit="surrogate"),
}  # fmt: skip
REWARD = {
    "LFP": lambda: methods.LFP(rewards.SpikeSequence()),
    "DFA": lambda: methods.DFA(credit="scan"),
    "F3": lambda: methods.F3(credit="step"),
    "warm-up": lambda: methods.WarmUp(methods.SurrogateGradient(), methods.LFP(rewards.SpikeSequence()), 3),
}


def net(readout=nn.LIF, **options):
    return nn.Sequential(nn.Linear(4, 5), nn.LIF(**options), nn.Linear(5, 3), readout())


def told(network, method):
    """Lines that a trainer warns of when it is made."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        TemporalTrainer(network, method=method, steps=5)
    lines = [str(each.message) for each in caught if issubclass(each.category, LearningWarning)]
    return [line for line in lines if "changes nothing" in line]


@pytest.mark.parametrize("name", GRADIENT)
@pytest.mark.parametrize(("option", "value"), [("floor", 2.5), ("margin", 0.5), ("denominator", "increment")])
def test_methods_without_rewards_inside_layers_say_that_they_do_nothing(name, option, value):
    readout = nn.LI if name == "e-prop" else nn.LIF
    (line,) = told(net(readout, **{option: value}), GRADIENT[name]())
    assert line.startswith(f"{option} of layer 1: of rewards inside a layer, and ")
    assert "\n" not in line
    assert not told(net(readout), GRADIENT[name]())


@pytest.mark.parametrize("name", REWARD)
def test_methods_that_use_them_say_nothing(name):
    assert not told(net(floor=2.5, margin=0.5, denominator="increment"), REWARD[name]())


@pytest.mark.parametrize(
    "kind",
    [nn.LIF, nn.ALIF, nn.Synaptic, lambda **own: nn.RecurrentLIF(5, **own), lambda **own: nn.RecurrentALIF(5, **own)],
)
def test_every_kind_of_neurons_is_named_in_one_line(kind):
    network = nn.Sequential(nn.Linear(4, 5), kind(floor=2.5, margin=0.5), nn.Linear(5, 3), nn.LIF(floor=2.5))
    (line,) = told(network, methods.SurrogateGradient())
    assert line.startswith("floor of layer 1, 3; margin of layer 1: of rewards")


def test_they_do_nothing_indeed():
    x, labels, after = torch.rand(6, 4), torch.arange(6) % 3, []
    for options in ({}, {"floor": 2.5, "margin": 0.5, "denominator": "increment"}):
        torch.manual_seed(0)
        network = net(**options)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            TemporalTrainer(network, method=methods.SurrogateGradient(), steps=5).train_step(x, labels)
        after.append(network[0].weight.detach())
    assert torch.equal(*after)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: rules.Composite(rules.Surrogate()), "a Composite takes a list of pairs"),
        (lambda: rules.Composite(rules.Gamma()), "got one rule: one rule for all layers needs none"),
        (lambda: rules.Composite({nn.Linear: rules.Gamma()}), "got dict"),
        (lambda: rules.Composite(3), "got int"),
        (lambda: rules.Composite("gamma"), "got str"),
        (lambda: nn.DelayLinear(3, 2, 4), "taps are delays in steps, such as (0, 1, 2, 4), got 4"),
        (lambda: nn.Taps("0,1"), "got '0,1'"),
        (lambda: models.lif_mlp(5), "all whole numbers of at least 1, such as [784, 1000, 10], got 5"),
        (lambda: models.mlp("5,3"), "got '5,3'"),
    ],
)
def test_one_thing_in_place_of_several_is_one_line(make, says):
    with pytest.raises(UserError, match=re.escape(says)) as refused:
        make()
    assert "\n" not in str(refused.value)


def test_sizes_may_be_an_array():
    assert models.lif_mlp(np.array([4, 3, 2]))(torch.zeros(2, 1, 4)).shape == (2, 1, 2)
