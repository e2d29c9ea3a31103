"""Cures that refusals of foreign neurons name: each one runs, and fires as the network that was refused."""

import re

import pytest
import torch

import spikelfp
from spikelfp import interop, nn, rewards
from spikelfp.errors import UserError


def snntorch_net(dense):
    snntorch = pytest.importorskip("snntorch")
    neurons = (snntorch.Leaky(beta=0.9, init_hidden=True) for _ in range(2))
    return (dense(8, 30), next(neurons), dense(30, 3), next(neurons)), {}


def norse_net(dense):
    norse = pytest.importorskip("norse.torch")
    return (dense(8, 30), norse.LIFBoxCell(), dense(30, 3), norse.LIFBoxCell()), {}


def spikingjelly_net(dense, **options):
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    return (dense(8, 30), neuron.LIFNode(tau=4.0, step_mode="m", **options)), {"tau": 4.0, "v_threshold": 1.0}


def sinabs_net(dense):
    layers = pytest.importorskip("sinabs.layers")
    single = pytest.importorskip("sinabs.activation").SingleSpike
    options = {"tau_mem": torch.tensor(5.0), "spike_threshold": 1.0, "exp": torch.exp}
    return (dense(8, 30), layers.LIF(tau_mem=5.0, spike_fn=single)), options


NETS = {"snntorch": snntorch_net, "norse": norse_net, "spikingjelly": spikingjelly_net, "sinabs": sinabs_net}


def refusals(layers):
    """The messages of all places that a user of such a network meets: conversion, forward pass and reward."""
    x = torch.rand(4, 2, 8)
    own = nn.Sequential(nn.Linear(8, layers[0].out_features), *layers[1:])
    for call in (
        lambda: spikelfp.convert(torch.nn.Sequential(*layers)), lambda: spikelfp.convert(own), lambda: own(x),
    ):  # fmt: skip
        with pytest.raises(UserError) as refused:
            call()
        yield str(refused.value)


def call_in(message, pattern):
    """The one call that all messages name."""
    return re.search(pattern, message).group()


@pytest.mark.parametrize("package", NETS)
def test_every_refusal_names_the_layer_and_the_same_cure(package):
    layers, _ = NETS[package](torch.nn.Linear)
    messages = list(refusals(layers))
    kind = type(layers[1]).__name__
    assert all(f"'1' ({package}" in message and kind in message for message in messages[:2])
    assert f"layer 1 is {package}'s {kind}" in messages[2]
    cures = {
        message.partition("spikelfp.nn; " if "reads layers" in message else "train it: ")[2] for message in messages
    }
    assert len(cures) == 1
    assert cures != {""}
    assert not any("spikelfp.convert(net)" in cure for cure in cures)


@pytest.mark.parametrize("package", ["snntorch", "norse"])
@pytest.mark.parametrize("dense", [torch.nn.Linear, nn.Linear])
@pytest.mark.parametrize("container", [torch.nn.Sequential, nn.Sequential])
def test_the_named_conversion_runs_and_trains(package, dense, container):
    torch.manual_seed(0)
    layers, _ = NETS[package](dense)
    net = container(*layers)
    with pytest.raises(UserError) as refused:
        spikelfp.convert(net)
    converted = eval(
        call_in(str(refused.value), rf"spikelfp\.interop\.from_{package}\(net\)"), {"spikelfp": spikelfp}, {"net": net}
    )
    if package == "norse":
        converted[2].weight.data *= 20  # norse takes a tenth of its input, which leaves the last neurons silent
    spikes = converted(torch.rand(10, 4, 8) * (5 if package == "snntorch" else 50))
    assert 0 < spikes.sum() < spikes.numel()
    spikelfp.propagate(spikes, rewards.SpikeSequence()(spikes, torch.tensor([0, 1, 2, 0])))
    assert all(p.grad.abs().sum() > 0 for p in converted.parameters())
    shared = layers[0].weight is converted[0].weight
    assert shared == (package == "snntorch")


def test_a_forward_of_ones_own_takes_the_example():
    snntorch = pytest.importorskip("snntorch")

    class Own(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.lif = torch.nn.Linear(8, 3), snntorch.Leaky(beta=0.9)

        def forward(self, x):
            membrane, spikes = self.lif.init_leaky(), []
            for step in x:
                spike, membrane = self.lif(self.fc(step), membrane)
                spikes.append(spike)
            return torch.stack(spikes)

    net, x = Own(), torch.rand(6, 2, 8) * 5
    with pytest.raises(UserError, match=r"'lif' \(snntorch.Leaky\).*from_snntorch\(net\), with example=x"):
        spikelfp.convert(net)
    assert torch.equal(interop.from_snntorch(net, example=x)(x), net(x))


@pytest.mark.parametrize("options", [{}, {"v_reset": None}])
def test_the_named_neurons_fire_as_those_of_spikingjelly(options):
    _compare(*spikingjelly_net(nn.Linear, **options), reset=bool(options))


def test_the_named_neurons_fire_as_those_of_sinabs():
    (dense, theirs), constants = sinabs_net(nn.Linear)
    _compare((dense, lambda x: theirs(x.transpose(0, 1)).transpose(0, 1)), constants, named=theirs)


def _compare(layers, constants, reset=False, named=None):
    """Put the neurons that the message names in the place of theirs."""
    torch.manual_seed(0)
    dense, theirs = layers
    with pytest.raises(UserError) as refused:
        spikelfp.convert(nn.Sequential(dense, named or theirs))
    code = call_in(str(refused.value), r"spikelfp\.nn\.LIF\(.*?reset='\w+'\)")
    if reset:
        code = code.replace("reset='zero'", call_in(str(refused.value), r"reset='immediate'"))
    neurons = eval(code, {"spikelfp": spikelfp, **constants})
    x = torch.rand(12, 6, 8) * 20
    spikes = nn.Sequential(dense, neurons)(x)
    assert 100 < spikes.sum() < spikes.numel()
    assert torch.equal(spikes, theirs(dense(x)))


def test_the_named_graph_of_spikingjelly_is_read():
    hw_export, exchange = (
        pytest.importorskip("hw_export"),
        pytest.importorskip("spikingjelly.activation_based.nir_exchange"),
    )
    (dense, theirs), _ = spikingjelly_net(torch.nn.Linear)
    theirs.step_mode = "s"  # their export takes one step
    net, x = torch.nn.Sequential(dense, theirs), torch.rand(12, 6, 8) * 20
    with pytest.raises(UserError, match=re.escape("hw_export.from_nir(export_to_nir(net, x))")):
        spikelfp.convert(net)
    read = hw_export.from_nir(exchange.export_to_nir(net, x[0]))
    theirs.reset()
    assert torch.equal(read(x), torch.stack([net(step) for step in x]))


def test_neurons_that_the_forward_pass_leaves_out_do_no_harm():
    snntorch = pytest.importorskip("snntorch")

    class Unused(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.lif = torch.nn.Linear(8, 3), snntorch.Leaky(beta=0.9)

        def forward(self, x):
            return self.fc(x)

    assert spikelfp.convert(Unused())(torch.rand(2, 2, 8)).shape == (2, 2, 3)


def test_a_reward_that_meets_foreign_neurons_names_the_cure():
    snntorch = pytest.importorskip("snntorch")
    dense, lif = nn.Linear(8, 3), snntorch.Leaky(beta=0.9, init_hidden=True)
    spikes = lif(dense(torch.rand(6, 2, 8) * 5))
    with pytest.raises(UserError, match=r"is a neuron of snntorch.*from_snntorch\(net\)"):
        spikelfp.propagate(spikes, spikes - 0.5)
