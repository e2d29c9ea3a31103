"""Delays in NIR files: written and read, and graphs of others, stepped slowly node by node."""

import nir
import numpy as np
import pytest
import torch

from hw_export import from_nir, quantize, to_nir, verify
from hw_export.integer.network import IntegerDelay, IntegerDense, IntegerLIF, IntegerNetwork, IntegerTaps
from hw_export.model_file import load_network, save_network
from hw_export.nir import DIALECTS, read_chain
from hw_export.simulators import SIMULATORS, UnsupportedError
from hw_export.simulators.base import dense_layers
from spikelfp import nn
from spikelfp.errors import DataError, UserError

DT = 1e-4


def stepped(graph, x, reset):
    """Spikes of a graph without loops, a node and a step at a time, in float64; what enters a node is summed."""
    order, waiting = [], list(graph.nodes)
    while waiting:
        waiting = [n for n in waiting if n not in order]
        order += [n for n in waiting if all(a in order for a, b in graph.edges if b == n)]
    seen = {name: [] for name in order}
    membrane, fired = {}, {}
    for step in np.asarray(x, np.float64):
        for name in order:
            node = graph.nodes[name]
            given = [seen[a][-1] for a, b in graph.edges if b == name]
            value = step if isinstance(node, nir.Input) else sum(given[1:], given[0])
            if isinstance(node, nir.Affine):
                value = value @ np.asarray(node.weight, np.float64).T + node.bias
            elif isinstance(node, nir.Delay):
                past = [*seen.get(f"{name} past", []), value]
                seen[f"{name} past"] = past
                steps = np.rint(node.delay / DT).astype(int)
                value = np.zeros_like(value)
                for place in np.ndindex(steps.shape):
                    if steps[place] < len(past):
                        value[(slice(None), *place)] = past[len(past) - 1 - steps[place]][(slice(None), *place)]
            elif isinstance(node, nir.LIF):
                beta = 1 - DT / node.tau
                before = membrane.get(name, 0.0) * (1 if reset == "subtract" else 1 - fired.get(name, 0.0))
                u = beta * before + (1 - beta) * node.r * value
                if reset == "subtract":
                    u = u - node.v_threshold * fired.get(name, 0.0)
                membrane[name], fired[name] = u, (u > node.v_threshold).astype(float)
                value = fired[name]
            seen[name].append(value)
    (last,) = [name for name, node in graph.nodes.items() if isinstance(node, nir.Output)]
    return np.array(seen[last])


def network():
    return nn.Sequential(
        nn.Delay(torch.tensor([0, 1, 3])), nn.DelayLinear(3, 6, (0, 2, 5)), nn.LIF(0.9, 0.3),
        nn.DelayLinear(6, 5, (1, 3)), nn.DelayLinear(5, 4, (0, 2, 1), bias=False), nn.LIF(0.8, 0.2), nn.Delay(2),
    )  # fmt: skip


def spikes(*shape):
    return (torch.rand(shape) < 0.5).float()


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_network_with_delays_comes_back_spike_for_spike(tmp_path, dialect):
    net, x = network(), spikes(12, 4, 3)
    net[1].choose()
    to_nir(net, tmp_path / "net.nir", dialect)
    back = from_nir(tmp_path / "net.nir")
    assert net(x).any()
    assert torch.equal(back(x), net(x))
    assert [layer.delays for layer in back if isinstance(layer, nn.DelayLinear)] == [(0, 2, 5), (1, 3), (0, 2, 1)]
    assert back.notes == ()
    before, after = ([layer.chosen for layer in each if isinstance(layer, nn.DelayLinear)] for each in (net, back))
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:] == [None, None]
    to_nir(back, tmp_path / "again.nir", dialect)
    assert (tmp_path / "again.nir").read_bytes() == (tmp_path / "net.nir").read_bytes()


def test_the_graph_computes_what_the_network_does():
    net, x = network(), spikes(12, 4, 3)
    graph = to_nir(net, None, "std")
    assert np.array_equal(stepped(graph, x, "subtract"), net(x).detach().numpy())
    delay = graph.nodes["layer_2_delaylinear_tap2_delay"].delay
    assert delay == pytest.approx([5e-4] * 3)
    assert graph.metadata["dt"] == DT
    assert sum(isinstance(node, nir.Delay) for node in graph.nodes.values()) == 2 + 2 + 2 + 2


def test_images_are_delayed_pixel_by_pixel(tmp_path):
    delays = torch.arange(8).view(2, 2, 2)
    for given in (delays, torch.tensor([3, 0]), 4):
        net, x = nn.Sequential(nn.Delay(given)), spikes(9, 2, 2, 2, 2)
        to_nir(net, tmp_path / "net.nir", input_shape=(2, 2, 2))
        back = from_nir(tmp_path / "net.nir")
        assert torch.equal(back(x), net(x))
        assert torch.equal(back[0].delays, torch.as_tensor(given))


def foreign(nodes, edges, metadata=None):
    ends = {"in": nir.Input(np.array([2])), "out": nir.Output(np.array([3]))}
    return nir.NIRGraph(ends | nodes, edges, metadata=metadata or {}, type_check=False)


def branches(first=0.0, second=3e-4, **more):
    nodes = {
        "a": nir.Affine(np.array([[1.0, 0.5], [0.25, -1], [2, 3]]), np.array([0.5, 0, 1])),
        "b": nir.Linear(np.array([[0.5, 0.25], [1, 1], [0, -2.0]])),
        "c": nir.Affine(np.array([[1.0, 2], [3, 4], [5, 6]]), np.array([0.5, 0.5, 0])),
        "db": nir.Delay(np.full(2, second)),
        "dc": nir.Delay(np.full(2, second)),
        "n": nir.LIF(*(np.full(3, v) for v in (1e-3, 1.0, 0.0, 0.2, 0.0))),
    } | more
    edges = [("in", "a"), ("in", "db"), ("in", "dc"), ("db", "b"), ("dc", "c")]
    return nodes, [*edges, ("a", "n"), ("b", "n"), ("c", "n"), ("n", "out")]


def test_branches_of_others_become_one_layer_and_equal_delays_add_up():
    nodes, edges = branches()
    net = from_nir(foreign(nodes, edges))
    layer = net[0]
    assert layer.delays == (0, 3)
    weights = [nodes["a"].weight, nodes["b"].weight + nodes["c"].weight]
    torch.testing.assert_close(layer.by_tap.detach(), torch.tensor(np.array(weights), dtype=torch.float32))
    assert layer.dense.bias.tolist() == [1.0, 0.5, 1.0]
    assert any("no time step" in note for note in net.notes)
    x = spikes(10, 3, 2)
    affine = nodes | {"b": nir.Affine(nodes["b"].weight, np.zeros(3))}
    assert np.array_equal(net(x).numpy(), stepped(foreign(affine, edges), x, "zero"))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"db": nir.Delay(np.array([1e-4, 2e-4]))}, "the Delay 'db' differs within a branch, from 1 to 2 steps"),
        ({"db": nir.Delay(np.full(2, 2.5e-4))}, "the Delay 'db' delays by 0.00025, no whole number of steps"),
        ({"db": nir.Delay(np.full(3, 1e-4))}, "the Delay 'db' have shape [3], an input of [2] arrives"),
        ({"b": nir.Linear(np.ones((4, 2)))}, "'a' gives [3] and 'b' [4], which are to be summed"),
        ({"b": nir.Scale(np.ones(2))}, "branches after 'in'"),
    ],
)
def test_other_branches_are_refused_in_one_line(changes, text):
    with pytest.raises(DataError) as refused:
        from_nir(foreign(*branches(**changes)))
    assert text in str(refused.value)
    assert "\n" not in str(refused.value)


def test_branches_without_a_delay_stay_refused():
    nodes, edges = branches()
    del nodes["db"], nodes["dc"]
    edges = [(a, b) for a, b in edges if a not in ("db", "dc") and b not in ("db", "dc")]
    with pytest.raises(DataError, match="branches after 'in'"):
        from_nir(foreign(nodes, [("in", "b"), ("in", "c"), *edges]))


def test_half_of_a_layer_is_refused():
    for net in (
        nn.Sequential(nn.Taps((0, 1)), nn.Linear(6, 2), nn.LIF()),
        nn.Sequential(nn.TapLinear(3, 2, 2), nn.LIF()),
        nn.Sequential(nn.Linear(3, 3), nn.LIF(), nn.Taps((0, 1))),
    ):
        with pytest.raises(UserError, match=r"use nn\.DelayLinear"):
            to_nir(net, None)


def test_a_quantised_network_keeps_its_delays(tmp_path):
    net = nn.Sequential(
        nn.DelayLinear(3, 6, (0, 2, 5)), nn.LIF(0.9, 0.3), nn.Delay(1), nn.Linear(6, 2), nn.LIF(0.9, 0.3)
    )
    quantized, x = quantize(net, 8), spikes(12, 4, 3)
    to_nir(quantized, tmp_path / "net.nir")
    back = from_nir(tmp_path / "net.nir")
    assert quantized(x).any()
    assert torch.equal(back(x), quantized(x))
    assert torch.equal(back[0].by_tap, back[0].by_tap.round())
    assert set(back.scales) == {
        name for name, layer in back.named_children() if isinstance(layer, (nn.DelayLinear, nn.Linear))
    }
    net[0].choose()
    chosen = quantize(net, 8)
    save_network(tmp_path / "net.pt", chosen)
    again = load_network(tmp_path / "net.pt")
    assert torch.equal(again(x), chosen(x))
    assert (again[0][1].by_tap == 0).sum() >= 2 * 6 * 3
    network = IntegerNetwork.of(quantized)
    assert [type(layer) for layer in network.layers if not isinstance(layer, IntegerLIF)] == [
        IntegerTaps, IntegerDense, IntegerDelay, IntegerDense
    ]  # fmt: skip


@pytest.mark.parametrize("damage", ["two taps", "none", "a weight beside it", "shape"])
def test_chosen_delays_that_do_not_fit_their_weights_are_refused(damage):
    net = nn.Sequential(nn.DelayLinear(3, 6, (0, 2)), nn.LIF(0.9, 0.3))
    net[0].choose()
    graph = to_nir(net, None)
    first, second = (node for name, node in graph.nodes.items() if name.endswith("weights"))
    if damage == "two taps":
        first.metadata["chosen_delay"][...] = 1
    elif damage == "none":
        del second.metadata["chosen_delay"]
    elif damage == "a weight beside it":
        first.weight[first.metadata["chosen_delay"] == 0] = 1
    else:
        first.metadata["chosen_delay"] = first.metadata["chosen_delay"][:2]
    with pytest.raises(DataError, match="chosen_delay in the metadata of"):
        from_nir(graph)
    net[0].dense.mask = None
    again = to_nir(net, None)
    assert not any("chosen_delay" in node.metadata for node in again.nodes.values())


@pytest.mark.parametrize("name", ["brian2", "nest"])
@pytest.mark.parametrize("reset", ["zero", "subtract"])
def test_simulators_with_delays_give_our_spikes(tmp_path, name, reset):
    if not SIMULATORS[name].available():
        pytest.skip(f"{name} is not installed")
    torch.manual_seed(4)
    net = nn.Sequential(
        nn.Delay(torch.tensor([0, 1, 3])), nn.DelayLinear(3, 6, (0, 2, 5)), nn.LIF(0.9, 0.3, reset), nn.Delay(1),
        nn.DelayLinear(6, 5, (1, 3)), nn.LIF(0.8, 0.2, reset), nn.Linear(5, 2), nn.LIF(0.7, 0.1, reset),
    )  # fmt: skip
    to_nir(net, tmp_path / "net.nir")
    (result,) = verify(net, tmp_path / "net.nir", spikes(12, 4, 3), [name])
    assert result.status == "identical", result
    assert all(0 < layer.spikes < layer.compared for layer in result.layers)


@pytest.mark.parametrize("name", ["nengo", "norse", "snntorch", "sinabs", "rockpool", "spikingjelly"])
def test_simulators_that_are_run_without_delays_refuse_them_by_name(tmp_path, name):
    if not SIMULATORS[name].available():
        pytest.skip(f"{name} is not installed")
    net = nn.Sequential(nn.DelayLinear(3, 6, (0, 2)), nn.LIF(0.9, 0.3, "zero"))
    to_nir(net, tmp_path / "net.nir")
    (result,) = verify(net, tmp_path / "net.nir", spikes(5, 2, 3), [name])
    assert result.status != "identical"
    assert "is run without delays here, and 'layer_1_delaylinear_tap1_delay' is a Delay: verify in brian2, nest" in str(
        result
    )
    delayed = nn.Sequential(nn.Linear(3, 6), nn.Delay(2), nn.LIF(0.9, 0.3, "zero"))
    to_nir(delayed, tmp_path / "late.nir")
    with pytest.raises(UnsupportedError, match="delays a bias"):
        dense_layers(read_chain(tmp_path / "late.nir", delays=True))
