"""Neurons of a user's own: one file of an export, and NIR, whole numbers, files and simulators follow."""

from __future__ import annotations

import math

import nir
import numpy as np
import pytest
import torch
from export_nets import STEPS, bernoulli, pixels
from nir_equations import Run

from hw_export import IntegerNetwork, IntegerSimulator, from_nir, quantize, to_nir, verify
from hw_export.build import read_export, write_export
from hw_export.model_file import load_network, save_network
from hw_export.neurons import NeuronExport, base, exports, lowered
from hw_export.nir import read_chain
from hw_export.samples import ExportSamples
from hw_export.simulators import SIMULATORS
from spikelfp import nn
from spikelfp.errors import CheckpointError, DataError, UserError
from spikelfp.functional.lif import LIFParameters, lif_scan


class PhysicalLIF(nn.Layer):
    """A membrane of a time constant in ms, charged through a resistance: a LIF neuron in other words."""

    fires = has_membrane = True
    arguments = ("tau", "resistance", "threshold")

    def __init__(self, tau=10.0, resistance=2.0, threshold=1.0):
        super().__init__()
        self.tau, self.resistance, self.threshold = tau, resistance, threshold

    def forward(self, x):
        return self.run(x)[0]

    def run(self, x, state=None):
        start = torch.zeros_like(x[0]) if state is None else state
        trace = lif_scan(self.resistance * x, start, LIFParameters(math.exp(-1 / self.tau), self.threshold, "zero"))
        return trace.spikes, trace.membrane[-1]


class PhysicalLIFExport(NeuronExport):
    def lower(self, layer):
        return [nn.Scale(layer.resistance), nn.LIF(math.exp(-1 / layer.tau), layer.threshold, "zero")]


class RestingLIF(nn.Layer):
    """Neurons that rest above the membrane they are reset to: a node of NIR's that no other layer here is."""

    fires = has_membrane = True
    arguments = ("beta", "rest", "thresholds")

    def __init__(self, beta=0.8, rest=0.2, thresholds=1.0):
        super().__init__()
        self.beta, self.rest, self.thresholds = beta, rest, thresholds

    def forward(self, x):
        return self.run(x)[0]

    def run(self, x, state=None):
        u, spikes = torch.zeros_like(x[0]) if state is None else state, []
        for step in x:
            u = self.beta * u + (1 - self.beta) * self.rest + step
            spikes.append((u > self.thresholds).to(u))
            u = u * (1 - spikes[-1])
        return torch.stack(spikes), u


class RestingLIFExport(NeuronExport):
    def write(self, layer, at):
        gain = 1 - layer.beta
        return nir.LIF(
            tau=at.full(at.dialect[1].dt / gain), r=at.full(1 / gain), v_leak=at.full(layer.rest),
            v_threshold=at.full(layer.thresholds), v_reset=at.full(0.0),
        )  # fmt: skip


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setattr(base, "_KINDS", dict(base._KINDS))
    exports(PhysicalLIF)(PhysicalLIFExport)
    exports(RestingLIF)(RestingLIFExport)


def net_of(*neurons, seed=0):
    torch.manual_seed(seed)
    sizes = [24, 16, 6]
    layers = []
    for before, size, own in zip(sizes, sizes[1:], neurons, strict=False):
        layers += [nn.Linear(before, size), own]
    net = nn.Sequential(*layers)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            parameter.mul_(1 if name.endswith("decay") else 2)
    return net


def physical():
    return net_of(PhysicalLIF(), PhysicalLIF(5.0, 1.5, 0.7))


def fires_in_part(spikes):
    return 0 < spikes.sum() < spikes.numel()


def test_neurons_that_are_others_in_other_words_become_those():
    net = physical()
    made = lowered(net)
    assert [name for name, _ in made.named_children()] == ["0", "1_0", "1", "2", "3_0", "3"]
    assert torch.equal(made(bernoulli(24)), net(bernoulli(24)))
    assert fires_in_part(net(bernoulli(24)))
    assert type(net[1]) is PhysicalLIF
    plain = net_of(nn.LIF(), nn.LIF())
    assert lowered(plain) is plain


def test_lowered_neurons_in_nir(tmp_path):
    net = physical()
    graph = to_nir(net, tmp_path / "a")
    back = from_nir(tmp_path / "a")
    x = bernoulli(24)
    assert torch.equal(back(x), net(x))
    assert np.array_equal(Run(graph.nodes, graph.edges)(x), net(x).detach().numpy())
    assert [type(layer) for layer in back] == 2 * [nn.Linear, nn.Scale, nn.LIF]


@pytest.mark.parametrize("conv", [False, True])
def test_lowered_neurons_in_whole_numbers(conv):
    """Factors become part of the weights in front, so that thresholds are those of the neuron."""
    net, shape = physical(), (24,)
    if conv:
        torch.manual_seed(0)
        net, shape = nn.Sequential(nn.Conv2d(1, 3, 3), PhysicalLIF(resistance=3.0), nn.Flatten()), (1, 8, 8)
        net.extend([nn.Linear(108, 4), nn.LIF(0.9, 0.3, "zero")])
    x = bernoulli(*shape)
    made = quantize(net, 12, input_scale=1)
    assert nn.Scale not in {type(layer) for layer in made}
    assert fires_in_part(net(x))
    assert (made(x) == net(x)).float().mean() > 0.98  # 12 bits round the weights
    whole = IntegerNetwork.of(made, shape)
    found = IntegerSimulator(whole).run(x).spikes[whole.neurons[-1].name]
    assert (found == made(x)).float().mean() > 0.98  # decays are rounded


def test_a_factor_that_cannot_be_part_of_weights_is_refused_by_name():
    net = nn.Sequential(PhysicalLIF(), *net_of(nn.LIF(), nn.LIF()))
    with pytest.raises(UserError, match="layer '0_0' is a Scale, which cannot be quantised"):
        quantize(net, 8)


@pytest.mark.parametrize("bits", [8, 32])
def test_an_export_of_lowered_neurons_verifies(tmp_path, bits):
    shown = ExportSamples(pixels(24), torch.arange(6) % 6, STEPS, scale=16)
    write_export(physical(), shown, tmp_path / "made", target="nir", bits=bits)
    _, found, samples = read_export(tmp_path / "made")
    assert [type(layer) for layer in found].count(nn.LIF) == 2
    simulators = [name for name in ("nengo", "brian2") if SIMULATORS[name].available()]
    for result in verify(found, tmp_path / "made" / "network.nir", nn.constant(samples.inputs, STEPS), simulators):
        assert result.status == "identical"


def test_neurons_with_a_node_of_their_own_come_back(tmp_path):
    torch.manual_seed(0)
    net = net_of(RestingLIF(), RestingLIF(0.7, 0.4, torch.tensor([0.5, 0.6, 0.7, 0.8, 0.9, 1.0])))
    graph = to_nir(net, tmp_path / "a")
    back = from_nir(tmp_path / "a")
    x = bernoulli(24)
    assert fires_in_part(net(x))
    assert torch.equal(back(x), net(x))
    assert np.array_equal(Run(graph.nodes, graph.edges)(x), net(x).detach().numpy())
    assert type(back[1]) is RestingLIF
    assert torch.equal(back[3].thresholds, net[3].thresholds)
    to_nir(back, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with pytest.raises(DataError, match="'layer_1_restinglif' are 'RestingLIF': simulators are given LIF"):
        _ = read_chain(tmp_path / "a").neurons
    with pytest.raises(UserError, match="RestingLIF, which cannot be quantised"):
        quantize(net, 8)


def test_average_pooling_in_front_stays_where_neurons_do_not_heed_its_factor():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AvgPool2d(2), RestingLIF(thresholds=0.25, rest=0.1))
    with torch.no_grad():
        net[0].weight.abs_()
    graph = to_nir(net, None, input_shape=(1, 8, 8))
    x = bernoulli(1, 8, 8)
    assert fires_in_part(net(x))
    assert np.array_equal(Run(graph.nodes, graph.edges)(x), net(x).detach().numpy())
    assert torch.equal(from_nir(graph)(x), net(x))
    with pytest.raises(UserError, match="'1' adds an offset in front of the neurons '2', and RestingLIF neurons have"):
        to_nir(nn.Sequential(nn.Linear(3, 3), nn.Scale(1.0, 0.5), RestingLIF()), None)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda node: node.metadata.update(neuron="Unknown"), "from a layer 'Unknown', whose export is not registered"),
        (lambda node: node.metadata.update(argument_rest=0.3), "say another v_leak than their node"),
        (lambda node: node.metadata.update(argument_more=0.3), "cannot be made from what their metadata say"),
        (lambda node: node.v_threshold.__setitem__(3, 2.0), "say another v_threshold than their node"),
        (lambda node: node.metadata.update(dt=2e-4), "were written for steps of 0.0001, and the file says dt = 0.0002"),
    ],
)
def test_a_file_with_own_neurons_that_contradicts_itself_is_refused(change, text):
    graph = to_nir(net_of(RestingLIF(), nn.LIF()), None)
    change(graph.nodes["layer_1_restinglif"])
    with pytest.raises(DataError, match=text) as refused:
        from_nir(graph)
    assert "\n" not in str(refused.value)


def test_arguments_that_metadata_cannot_hold_are_refused(monkeypatch):
    monkeypatch.setattr(RestingLIF, "names", ("a", "b"), raising=False)
    monkeypatch.setattr(RestingLIF, "arguments", ("beta", "names"))
    with pytest.raises(UserError, match="the argument names is a tuple, and metadata hold numbers"):
        to_nir(net_of(RestingLIF(), nn.LIF()), None)
    monkeypatch.setattr(RestingLIF, "arguments", None)
    with pytest.raises(UserError, match="RestingLIF does not tell what it is made of"):
        to_nir(net_of(RestingLIF(), nn.LIF()), None)


def test_choices_are_not_made_for_own_neurons():
    graph = to_nir(net_of(RestingLIF(), RestingLIF()), None)
    for options in ({"reset": "subtract"}, {"spikes": "multiple"}):
        with pytest.raises(UserError, match="are RestingLIF, which reset and fire as their class does"):
            from_nir(graph, **options)


def test_files_of_networks_hold_own_neurons_by_their_arguments(tmp_path, monkeypatch):
    net = net_of(RestingLIF(0.7, 0.4), RestingLIF(thresholds=torch.rand(6) + 0.2))
    save_network(tmp_path / "net.pt", net)
    back = load_network(tmp_path / "net.pt")
    assert torch.equal(back(bernoulli(24)), net(bernoulli(24)))
    monkeypatch.setattr(base, "_KINDS", {kind: own for kind, own in base._KINDS.items() if kind is not RestingLIF})
    with pytest.raises(CheckpointError, match="'RestingLIF' is no layer of this version"):
        load_network(tmp_path / "net.pt")


@pytest.mark.parametrize("kind", ["lif", "learned", "vectors"])
def test_files_of_networks_hold_constants_of_every_neuron(tmp_path, kind):
    torch.manual_seed(0)
    beta, threshold = torch.rand(16) * 0.4 + 0.5, torch.rand(16) + 0.3
    neurons = {
        "lif": nn.LIF(0.8, 0.7), "learned": nn.LIF(beta, 0.7, learn_beta=True), "vectors": nn.LIF(beta, threshold),
    }[kind]  # fmt: skip
    net = net_of(neurons, nn.LIF())
    save_network(tmp_path / "net.pt", net)
    back = load_network(tmp_path / "net.pt")
    assert torch.equal(back(bernoulli(24)), net(bernoulli(24)))
    assert not next(back.parameters()).requires_grad
    assert torch.equal(torch.as_tensor(back[1].beta), torch.as_tensor(net[1].beta))


def lapicque(kind):
    """Networks of Lapicque neurons, and the shape of their input."""
    torch.manual_seed(0)
    if kind == "convolutional":
        capacitance = torch.rand(3, 1, 1) + 0.5
        net = nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.Lapicque(R=4.0, C=capacitance, threshold=0.4), nn.Flatten(), nn.Linear(108, 4),
            nn.Lapicque(0.8, threshold=0.05),
        )  # fmt: skip
        return net, (1, 8, 8)
    options = {
        "one gain": [{"beta": 0.8, "threshold": 0.1}, {"R": 2.0, "C": 3.0, "threshold": 0.2}],
        "no gain": [{"R": 5.0, "C": 1.0, "threshold": 0.7}, {"R": 4.0, "C": 1.0, "threshold": 0.6}],
        "vectors": [{"R": torch.rand(16) + 2, "C": torch.rand(16) + 1}, {"beta": 0.8, "threshold": torch.rand(6)}],
        "learned": [{"beta": 0.8, "threshold": 0.1, "learn_beta": True}, {"R": 2.0, "C": 3.0}],
    }[kind]
    resets = ["zero", "subtract"]
    return net_of(*(nn.Lapicque(**each, reset=reset) for each, reset in zip(options, resets, strict=True))), (24,)


@pytest.mark.parametrize("kind", ["one gain", "no gain", "vectors", "learned", "convolutional"])
def test_lapicque_neurons_are_lif_neurons_behind_a_gain(tmp_path, kind):
    net, shape = lapicque(kind)
    x = bernoulli(*shape)
    with torch.no_grad():
        expected = net(x)
    assert fires_in_part(expected)
    to_nir(net, tmp_path / "a", input_shape=shape)
    assert torch.equal(from_nir(tmp_path / "a")(x), expected)
    made = quantize(net, 14, input_scale=1)
    assert [type(layer) for layer in made].count(nn.LIF) == 2
    assert nn.Scale not in {type(layer) for layer in made}
    assert (made(x) == expected).float().mean() > 0.98
    whole = IntegerNetwork.of(made, shape)
    found = IntegerSimulator(whole).run(x).spikes[whole.neurons[-1].name]
    assert (found == made(x)).float().mean() > 0.98  # decays are rounded
    to_nir(made, tmp_path / "b", input_shape=shape)
    simulators = [name for name in ("snntorch", "nengo") if SIMULATORS[name].available() and kind != "learned"]
    resets = {layer.reset for layer in made if isinstance(layer, nn.LIF)}
    assert all(resets <= SIMULATORS[name].resets for name in simulators)
    results = verify(made, tmp_path / "b", x, simulators)
    assert [(result.simulator, result.status) for result in results] == [(name, "identical") for name in simulators]


@pytest.mark.parametrize(
    ("neurons", "text"),
    [
        (nn.Alpha(), "is a Alpha, which NIR has no node for: two synapses"),
        (nn.ALIF(), "is a ALIF, which NIR has no node for: its thresholds move"),
        (nn.RecurrentALIF(4), "is a RecurrentALIF, which NIR has no node for: its thresholds move"),
    ],
)
def test_neurons_that_nir_cannot_say_are_refused_by_name(tmp_path, neurons, text):
    net = net_of(neurons)
    with pytest.raises(UserError, match=text):
        to_nir(net, None)
    with pytest.raises(UserError, match=f"{type(neurons).__name__}, which cannot be quantised"):
        quantize(net, 8)
    with pytest.raises(UserError, match=f"{type(neurons).__name__}, which cannot be written to a file"):
        save_network(tmp_path / "a", net)


def test_kinds_that_are_not_registered_are_refused_by_name(tmp_path):
    class Other(RestingLIF):
        pass

    with pytest.raises(UserError, match=r"Other, derived from nn\.Layer .* register its own by hw_export\.neurons"):
        to_nir(net_of(Other(), nn.LIF()), None)
    with pytest.raises(UserError, match="layer '1' is a Other, which cannot be written to a file"):
        save_network(tmp_path / "net.pt", net_of(Other()))
    with pytest.raises(UserError, match="called LIF already"):

        @exports(type("LIF", (nn.Layer,), {}))
        class Second(NeuronExport):
            pass
