"""Dialects: what their importers make of a file, by running them or by their published equations."""

from __future__ import annotations

import math

import nir
import numpy as np
import pytest
import torch
from export_nets import bernoulli, dense, tie
from nir_equations import Run

from hw_export import to_nir
from hw_export.nir import DIALECTS, read_chain
from hw_export.nir.chain import neuron
from spikelfp import nn
from spikelfp.analysis import record


def sinabs_run(graph, x, adapt=lambda layer: None):
    """Spikes ``[T, B, …]`` of each layer of neurons in sinabs, as it imports them but for ``adapt``."""
    pytest.importorskip("sinabs")
    import sinabs.layers
    import sinabs.nir

    steps, batch = x.shape[:2]
    net = sinabs.nir.from_nir(graph, batch_size=batch)
    seen = []
    for module in net.modules():
        if isinstance(module, sinabs.layers.LIFSqueeze):
            adapt(module)
            module.register_forward_hook(lambda _module, _inputs, output: seen.append(output.detach()))
    with torch.no_grad():
        net(x.transpose(0, 1).flatten(0, 1))
    return [spikes.unflatten(0, (batch, steps)).transpose(0, 1) for spikes in seen]


def test_sinabs_reads_its_dialect_as_it_stands_where_no_neuron_reaches_its_threshold_twice():
    """``immediate`` is what sinabs computes; it would fire twice at 2 θ, so small weights keep below that."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(24, 32), nn.LIF(0.9, 1.0, "immediate"), nn.Linear(32, 10), nn.LIF(0.8, 0.45, "immediate")
    )
    x = bernoulli(24)
    ours = list(record(net, x).values())
    theirs = sinabs_run(to_nir(net, None, "sinabs"), x)
    assert all(spikes.sum() > 20 for spikes in ours)
    assert all(spikes.max() == 1 for spikes in theirs)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    default = sinabs_run(to_nir(net, None), x)
    assert not torch.equal(ours[0], default[0]), "another dialect is read as another network"


@pytest.mark.parametrize("reset", ["zero", "subtract", "immediate"])
def test_sinabs_needs_only_single_spikes_and_the_reset_told(reset):
    pytest.importorskip("sinabs")
    from sinabs.activation import MembraneReset, MembraneSubtract, SingleSpike

    net = dense(reset)

    def adapt(layer):
        layer.spike_fn = SingleSpike
        subtracted = 1.0 if reset == "immediate" else 1.0 / 0.9
        layer.reset_fn = MembraneReset() if reset == "zero" else MembraneSubtract(subtracted)

    x = bernoulli(24)
    ours = record(net, x)
    theirs = sinabs_run(to_nir(net, None, "sinabs"), x, adapt)
    assert all(spikes.sum() > 50 for spikes in ours.values())
    assert all(torch.equal(a, b) for a, b in zip(ours.values(), theirs, strict=True))


def rockpool(graph, x):
    """rockpool 3.1's reading of a graph, written from its importer and LIF layer: ``dt = min(τ / (1 + r))``, decay
    ``exp(−dt/τ)``, currents as they are, ``floor(v / θ)`` spikes where ``v ≥ θ``, here at most one, subtracted at once.
    """
    chain = [graph.nodes[name] for name in graph.nodes if name not in ("input", "output")]
    dt = min(float((node.tau / (1 + node.r)).min()) for node in chain if isinstance(node, nir.LIF))
    assert dt == pytest.approx(1e-4)
    rows = np.asarray(x, np.float64)
    for affine, lif in zip(chain[::2], chain[1::2], strict=True):
        v, out = np.zeros((rows.shape[1], len(lif.tau))), []
        for row in rows:
            v = np.exp(-dt / lif.tau) * v + row @ affine.weight.T + affine.bias
            out.append((v >= lif.v_threshold).astype(float))
            v = v - lif.v_threshold * out[-1]
        rows = np.array(out)
    return rows


def test_the_rockpool_dialect_gives_the_same_spikes_under_rockpools_equation():
    net = dense("immediate")
    x = bernoulli(24)
    assert net(x).sum() > 100
    assert np.array_equal(rockpool(to_nir(net, None, "rockpool"), x), net(x).detach().numpy())
    graph = to_nir(net, None, "rockpool")
    node = graph.nodes["layer_2_lif"]
    assert node.r == pytest.approx(np.full(32, -1 / math.log(0.9) - 1))
    assert node.tau == pytest.approx(np.full(32, -1e-4 / math.log(0.9)))
    assert np.array_equal(node.v_threshold, np.ones(32))


@pytest.mark.parametrize("dialect", ["default", "std", "sinabs"])
def test_three_dialects_are_nirs_own_equation_too(dialect):
    net = dense("zero")
    graph = to_nir(net, None, dialect)
    exact = DIALECTS[dialect].scheme == "exact"
    slow = Run(graph.nodes, graph.edges, dt=DIALECTS[dialect].dt, exact=exact)
    x = bernoulli(24)
    assert np.array_equal(slow(x), net(x).detach().numpy())
    assert slow.outputs["layer_2_lif"].sum() > 100


@pytest.mark.parametrize("reset", ["zero", "subtract", "immediate"])
@pytest.mark.parametrize("dialect", sorted(DIALECTS))
def test_chains_give_our_constants_whatever_the_dialect(tmp_path, dialect, reset):
    """What the adapters of simulators go by."""
    to_nir(tie(reset), tmp_path / "a", dialect)
    chain = read_chain(tmp_path / "a")
    assert chain.metadata["dialect"] == dialect
    for found in chain.neurons:
        assert found.reset == reset
        np.testing.assert_allclose(found.beta, 0.5, rtol=1e-14)
        np.testing.assert_allclose(found.threshold, 1.0, rtol=1e-14)
    foreign = nir.LIF(*(np.full(2, v) for v in (1e-3, 2.0, 0.0, 0.4)))
    assert neuron("n", foreign, {}).threshold == pytest.approx([2.0, 2.0])


def test_snntorch_reads_current_based_neurons_of_the_default_dialect():
    """Its importer makes ``Synaptic`` neurons reset to zero; theirs drop the input after a spike, so reset by delayed
    subtraction is set, which both have."""
    import snntorch
    from snntorch.import_nir import import_from_nir

    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(24, 16), nn.Synaptic(0.7, 0.9, 1.0, "subtract"))
    with torch.no_grad():
        net[0].weight.mul_(2)
    instances = list(snntorch.SpikingNeuron.instances)
    theirs = import_from_nir(to_nir(net, None))
    snntorch.SpikingNeuron.instances[:] = instances
    (neurons,) = (m for m in theirs.modules() if isinstance(m, snntorch.Synaptic))
    assert (float(neurons.alpha), float(neurons.beta)) == pytest.approx((0.7, 0.9))
    assert float(neurons.threshold) == pytest.approx(1.0)
    neurons._reset_mechanism, neurons.reset_mechanism_val = "subtract", torch.tensor(0)
    neurons.state_function, neurons.reset_delay = neurons._base_sub, True
    x, state, out = bernoulli(24), None, []
    with torch.no_grad():
        for step in x:
            spikes, state = theirs(step, state)
            out.append(spikes)
    ours = net(x)
    assert ours.sum() > 100
    assert torch.equal(torch.stack(out), ours)


@pytest.mark.parametrize("dialect", ["sinabs", "rockpool"])
def test_dialects_without_synapses_say_so(dialect):
    from spikelfp.errors import UserError

    with pytest.raises(
        UserError, match=f"'1' have a synaptic current, which the dialect '{dialect}' has no neurons for"
    ):
        to_nir(nn.Sequential(nn.Linear(3, 3), nn.Synaptic()), None, dialect)
