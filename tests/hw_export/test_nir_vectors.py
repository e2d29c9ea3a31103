"""Decays and thresholds of every neuron: written as they are, read as they are, against NIR's equations."""

from __future__ import annotations

import nir
import numpy as np
import pytest
import torch
from export_nets import bernoulli
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from nir_equations import Run
from nir_graphs import chain, cuba, dyadic, graph, lif

from hw_export import from_nir, to_nir
from hw_export.nir import DIALECTS, read_chain
from spikelfp import nn
from spikelfp.analysis import record
from spikelfp.errors import DataError, UserError


def between(low, high, *shape, seed=0):
    return low + (high - low) * torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def kinds(n, reset="subtract"):
    """Every kind of neurons with vectors, behind ``n`` inputs."""
    beta, alpha, threshold = between(0.5, 0.95, n), between(0.2, 0.8, n, seed=1), between(0.3, 1.2, n, seed=2)
    return {
        "lif": nn.LIF(beta, threshold, reset),
        "only beta": nn.LIF(beta, 0.7, reset),
        "only threshold": nn.LIF(0.9, threshold, reset),
        "learned": nn.LIF(beta, threshold, reset, learn_beta=True),
        "synaptic": nn.Synaptic(alpha, beta, threshold, reset),
        "recurrent": nn.RecurrentLIF(n, beta, threshold, reset),
        "recurrent synaptic": nn.RecurrentSynaptic(n, alpha, beta, threshold, reset),
        "uniform": nn.LIF(torch.full((n,), 0.9), torch.full((n,), 0.7), reset),
        "readout": nn.LI(beta),
    }


def net_with(neurons, seed=0):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(12, 8), neurons)
    with torch.no_grad():
        for parameter in (p for name, p in net.named_parameters() if name != "1.decay"):
            parameter.mul_(3)
    return net


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
@pytest.mark.parametrize("kind", list(kinds(8)))
def test_vectors_come_back_with_their_bits(tmp_path, kind, dialect):
    net = net_with(kinds(8)[kind])
    if "synaptic" in kind and dialect in ("sinabs", "rockpool"):
        with pytest.raises(UserError, match="synaptic current, which the dialect"):
            to_nir(net, None, dialect)
        return
    to_nir(net, tmp_path / "a", dialect)
    back = from_nir(tmp_path / "a")
    x = bernoulli(12)
    with torch.no_grad():
        assert net(x).sum() != 0
        assert torch.equal(net(x), back(x))
    for name in {"beta", "threshold", "alpha"} & set(dir(net[1])):
        ours, theirs = (torch.as_tensor(getattr(layer, name)) for layer in (net[1], back[1]))
        assert ours.shape == theirs.shape
        assert torch.equal(ours.double(), theirs.double())
    to_nir(back, tmp_path / "b", dialect)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert nir.read(tmp_path / "a").nodes["input"].input_type["input"].tolist() == [12]  # by NIR's own reader


@pytest.mark.parametrize("shape", [(3, 1, 1), (3, 6, 6), (1, 6, 1)])
def test_vectors_behind_convolutions_and_average_pooling(tmp_path, shape):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.LIF(between(0.5, 0.9, *shape), between(0.2, 0.5, *shape, seed=1), "zero"),
        nn.AvgPool2d(2), nn.Conv2d(3, 2, 2, bias=False), nn.LIF(0.5, between(0.5, 1.5, 2, 1, 1)), nn.Flatten(),
        nn.Linear(8, 3), nn.LIF(between(0.5, 0.9, 3), 0.1),
    )  # fmt: skip
    with torch.no_grad():
        net[0].weight.abs_()
        net[3].weight.abs_()
    made = to_nir(net, tmp_path / "a", input_shape=(1, 8, 8))
    back = from_nir(tmp_path / "a")
    x = bernoulli(1, 8, 8)
    assert 20 < record(net, x)["4"].sum() < record(net, x)["4"].numel()
    assert torch.equal(net(x), back(x))
    assert back[1].beta.shape == back[1].threshold.shape == shape
    gains = np.asarray(read_chain(tmp_path / "a").neurons[1].threshold)
    np.testing.assert_allclose(gains[:, 0, 0], 4 * net[4].threshold.flatten())
    assert made.nodes["layer_1_lif"].tau.shape == (3, 6, 6)


@settings(max_examples=40, deadline=None)
@given(
    exact=st.booleans(),
    reset=st.sampled_from(["zero", "subtract", "immediate"]),
    synapse=st.booleans(),
    back=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_graphs_of_others_whose_neurons_all_differ(exact, reset, synapse, back, seed):
    """τ, r, w_in and v_threshold of every neuron, stepped slowly."""
    rng = np.random.default_rng(seed)
    tau, r, threshold = rng.uniform(2e-4, 3e-3, 6), rng.uniform(0.5, 3, 6), rng.uniform(0.1, 0.5, 6)
    if synapse:
        neurons = cuba(6, rng.uniform(2e-4, 1e-3, 6), tau, r, threshold, rng.uniform(0.5, 2, 6))
    else:
        neurons = lif(6, tau, r, 0.0, threshold)
    feedback = {1: nir.Affine(dyadic(6, 6, seed=seed + 2), dyadic(6, seed=seed + 3))} if back else None
    nodes, edges = chain(nir.Linear(dyadic(6, 5, seed=seed)), neurons, feedback=feedback)
    made = graph((5,), (6,), nodes, edges)
    slow = Run(made.nodes, made.edges, reset=reset, exact=exact)
    x = (np.random.default_rng(seed).random((25, 3, 5)) < 0.4).astype(np.float32)
    expected = slow(x)
    assume(slow.nearest > 3e-6)
    net = from_nir(made, dt=1e-4, reset=reset, scheme="exact" if exact else None)
    assert torch.equal(net[0].weight, torch.from_numpy(dyadic(6, 5, seed=seed)).float())  # left as they are
    assert np.array_equal(net(torch.from_numpy(x)).numpy(), expected)


def test_neurons_that_differ_in_their_rest_only_read_as_before():
    made = graph((5,), (4,), *chain(nir.Linear(dyadic(4, 5)), lif(4, v_leak=[0, 0.1, 0.2, 0.3])))
    net = from_nir(made)
    assert [type(layer) for layer in net] == [nn.Linear, nn.LIF]
    assert isinstance(net[1].threshold, float)
    assert net[0].bias.tolist() == pytest.approx([0, 0.1, 0.2, 0.3])


def test_neurons_with_a_negative_resistance_are_measured_in_their_threshold():
    made = graph((5,), (4,), *chain(nir.Linear(dyadic(4, 5)), lif(4, r=[1.0, -1.0, 1.0, 2.0], v_threshold=0.11)))
    net = from_nir(made)
    slow = Run(made.nodes, made.edges)
    x = bernoulli(5)
    expected = slow(x.numpy())
    assert slow.nearest > 3e-6
    assert expected.sum() > 20
    assert net[1].threshold == 1.0
    assert np.array_equal(net(x).numpy(), expected)


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("beta", np.full(8, 0.5), "say beta = 0.5, their parameters"),
        ("beta", np.full(7, 0.5), "expected numbers that fit neurons of shape"),
        ("threshold", np.full((8, 1), 0.5), "expected numbers that fit neurons of shape"),
        ("threshold", np.full(8, np.nan), "expected numbers that fit neurons of shape"),
        ("beta", np.arange(8), "expected numbers that fit neurons of shape"),
    ],
)
def test_vectors_in_metadata_that_do_not_fit_are_refused(key, value, text):
    made = to_nir(net_with(kinds(8)["lif"]), None)
    made.nodes["layer_1_lif"].metadata[key] = value
    with pytest.raises(DataError, match=text) as refused:
        from_nir(made)
    assert "\n" not in str(refused.value)


def test_one_changed_threshold_is_noticed():
    made = to_nir(net_with(nn.LIF(0.9, 0.7)), None)
    made.nodes["layer_1_lif"].v_threshold[5] *= 2
    with pytest.raises(DataError, match=r"say threshold = 0\.7, their parameters 1\.4: the file was changed"):
        from_nir(made)


@pytest.mark.parametrize(
    ("neurons", "text"),
    [
        (nn.LIF(torch.tensor([0.9, 1.0] * 4)), "some of the neurons '1' do not leak"),
        (nn.LI(torch.tensor([0.9, 1.0] * 4)), "some of the neurons '1' do not leak"),
        (nn.Synaptic(torch.tensor([0.9, 1.0] * 4), 0.9), r"'1' do not leak \(alpha=1.0"),
    ],
)
def test_layers_of_which_some_neurons_do_not_leak_are_refused(neurons, text):
    with pytest.raises(UserError, match=text):
        to_nir(net_with(neurons), None, write_if=True)


def test_several_spikes_a_step_are_for_neurons_alike():
    made = graph((5,), (4,), *chain(nir.Linear(dyadic(4, 5)), lif(4, v_threshold=[0.1, 0.2, 0.1, 0.1])))
    with pytest.raises(DataError, match="differ in decay or threshold"):
        from_nir(made, reset="immediate", spikes="multiple")


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
@pytest.mark.parametrize("each", [True, False], ids=["each", "one"])
@pytest.mark.parametrize(("beta", "threshold"), [(0.2, 1.0), (1e-6, 1.0), (0.9, 1e-40), (0.9, 1e-30), (0.9, 1e30)])
def test_the_smallest_and_the_largest_constants_come_back(tmp_path, dialect, each, beta, threshold):
    betas, thresholds = torch.tensor([0.5, beta, 0.9]), torch.tensor([1.0, threshold, 2.0])
    neurons = nn.LIF(betas, thresholds) if each else nn.LIF(beta, threshold)
    net = nn.Sequential(nn.Linear(4, 3), neurons).eval()
    to_nir(net, tmp_path / "net.nir", dialect, input_shape=(4,))
    again = from_nir(tmp_path / "net.nir")
    layer = list(again)[-1]
    assert torch.equal(torch.as_tensor(layer.beta), torch.as_tensor(neurons.beta))
    assert torch.equal(torch.as_tensor(layer.threshold), torch.as_tensor(neurons.threshold))
    x = (torch.rand(12, 2, 4) < 0.5).float()
    assert torch.equal(again(x), net(x))
