"""The check can fail, and says where."""

from __future__ import annotations

import nir
import pytest
import torch
from export_nets import BATCH, STEPS, bernoulli, convolutional, dense

from hw_export import to_nir, verify
from hw_export.nir import read_chain
from hw_export.simulators import SIMULATORS, Simulator
from spikelfp.analysis import record
from spikelfp.errors import DataError, UnknownNameError


class Ours(Simulator):
    """A simulator that is our network itself, with changes."""

    package = "torch"
    module = "torch"

    def __init__(self, net, change=lambda spikes: None) -> None:
        self.net, self.change = net, change

    def spikes(self, chain, inputs):
        found = dict(zip([n.name for n in chain.neurons], record(self.net, inputs).values(), strict=True))
        self.change(found)
        return found


@pytest.fixture
def path(tmp_path):
    to_nir(dense("subtract"), tmp_path / "network.nir")
    return tmp_path / "network.nir"


def test_one_flipped_spike_is_found_where_it_is(path):
    net, x = dense("subtract"), bernoulli(24)

    def flip(spikes):
        for step, sample, neuron in ((7, 3, 5), (7, 4, 2), (9, 0, 0)):
            spikes["layer_4_lif"][step, sample, neuron] = 1 - spikes["layer_4_lif"][step, sample, neuron]

    (result,) = verify(net, path, x, [Ours(net, flip)])
    hidden, output = result.layers
    assert result.status == "different"
    assert (hidden.layer, hidden.differences, hidden.first) == ("2", 0, None)
    assert (output.layer, output.differences, output.compared) == ("4", 3, STEPS * BATCH * 10)
    first = output.first
    assert (first.step, first.sample, first.neuron) == (7, 3, (5,))
    assert first.ours == record(net, x)["4"][7, 3, 5] == 1 - first.theirs
    assert (first.membrane > first.threshold) == bool(first.ours)
    assert "sample 3, step 7, neuron 5" in str(first)


def test_neurons_of_several_axes_are_located(tmp_path):
    net, x = convolutional("zero").eval(), bernoulli(1, 8, 8)
    to_nir(net, tmp_path / "network.nir", input_shape=(1, 8, 8))

    def flip(spikes):
        spikes["layer_2_lif"][4, 1, 3, 2, 1] = 1 - spikes["layer_2_lif"][4, 1, 3, 2, 1]

    class Conv(Ours):
        def spikes(self, chain, inputs):
            return super().spikes(chain, inputs)

    (result,) = verify(net, tmp_path / "network.nir", x, [Conv(net, flip)])
    first = result.layers[0].first
    assert (first.sample, first.step, first.neuron) == (1, 4, (3, 2, 1))
    assert (first.membrane > first.threshold) == bool(first.ours)


@pytest.mark.parametrize("damage", ["weight", "threshold", "tau", "bias"])
def test_every_simulator_sees_damage_in_the_file(path, simulator, damage):
    assert "subtract" in SIMULATORS[simulator].resets
    graph = nir.read(path)
    if damage == "weight":
        graph.nodes["layer_3_linear"].weight[4, 2] += 3.0
    elif damage == "bias":
        graph.nodes["layer_3_linear"].bias[4] += 1.5
    elif damage == "threshold":
        graph.nodes["layer_4_lif"].v_threshold[:] *= 1.2
    else:
        graph.nodes["layer_4_lif"].tau[:] *= 0.8
    nir.write(path, graph)
    (result,) = verify(dense("subtract"), path, bernoulli(24), [simulator])
    hidden, output = result.layers
    assert result.status == "different"
    assert hidden.differences == 0, "the hidden layer lies before the damage"
    assert output.differences > 0
    if damage in ("weight", "bias"):
        assert output.first.neuron == (4,)


def test_a_reset_read_wrongly_is_seen(path, simulator):
    graph = nir.read(path)
    other = sorted(SIMULATORS[simulator].resets - {"subtract"})[0]
    for name in ("layer_2_lif", "layer_4_lif"):
        graph.nodes[name].metadata["reset"] = other
    nir.write(path, graph)
    (result,) = verify(dense("subtract"), path, bernoulli(24), [simulator])
    assert result.status == "different"


def test_all_simulators_are_asked_by_default(path):
    results = verify(dense("subtract"), path, bernoulli(24))
    assert [result.simulator for result in results] == list(SIMULATORS)
    for result in results:
        assert result.status == ("identical" if SIMULATORS[result.simulator].available() else "not installed")
        assert result.latency == (1 if result.simulator in ("brian2", "nest") else 0)


def test_what_cannot_be_run_is_never_identical(path):
    class Absent(Ours):
        package = module = "no_such_simulator"

    class Broken(Ours):
        def spikes(self, chain, inputs):
            raise RuntimeError("out of order\nwith details")

    class Reshaping(Ours):
        def spikes(self, chain, inputs):
            return {name: spikes[:, :1] for name, spikes in super().spikes(chain, inputs).items()}

    net = dense("subtract")
    absent, broken, reshaping = verify(net, path, bernoulli(24), [Absent(net), Broken(net), Reshaping(net)])
    assert (absent.status, absent.version) == ("not installed", None)
    assert (broken.status, broken.reason) == ("failed", "RuntimeError: out of order")
    assert reshaping.status == "unsupported"
    assert not any(result.layers for result in (absent, broken, reshaping))


def test_an_unknown_simulator_gets_a_suggestion(path):
    with pytest.raises(UnknownNameError, match="did you mean 'norse'"):
        verify(dense("subtract"), path, bernoulli(24), ["nosre"])


def test_a_file_of_another_network_is_refused(path):
    with pytest.raises(DataError, match="2 layers of neurons, the network 3"):
        verify(dense("subtract", sizes=(24, 8, 8, 10)), path, bernoulli(24))
    with pytest.raises(DataError, match="'layer_2_lif' is"):
        verify(dense("subtract", sizes=(24, 31, 10)), path, bernoulli(24))
    with pytest.raises(DataError, match="there is no NIR file"):
        verify(dense("subtract"), path.with_name("missing.nir"), bernoulli(24))
    assert len(read_chain(path).neurons) == 2


def test_the_network_is_left_as_it_was(path):
    net = dense("subtract").train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    verify(net, path, bernoulli(24), [Ours(net)])
    assert net.training
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert all(not layer._forward_hooks and not layer._forward_pre_hooks for layer in net)
