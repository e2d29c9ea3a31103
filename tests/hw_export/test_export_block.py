"""Networks with an ``nn.Block``: exported, written and quantised as the ``Sequential`` that it is."""

import nir
import numpy as np
import torch
from export_nets import bernoulli, dense

from hw_export import from_nir, quantize, to_nir
from hw_export.model_file import load_network, save_network
from spikelfp import nn


def blocked(net, kind=nn.Block):
    """The hidden layer and its neurons in one block."""
    layers = list(net)
    return nn.Sequential(layers[0], kind(*layers[1:3]), *layers[3:])


def contents(path):
    graph = nir.read(path)
    return graph.edges, [
        (name, type(node).__name__, {key: np.asarray(value) for key, value in vars(node).items() if key[0] != "_"})
        for name, node in graph.nodes.items()
    ]


def parameters(nodes):
    """Kinds and arrays of the nodes, without names and metadata."""
    return [
        (kind, {key: value for key, value in own.items() if value.dtype.kind in "fiu" and value.size})
        for _, kind, own in nodes
    ]


def test_the_nir_graph_is_that_of_the_network_without_blocks(tmp_path):
    net = dense("subtract")
    to_nir(net, tmp_path / "plain.nir")
    to_nir(blocked(net), tmp_path / "blocked.nir")
    to_nir(blocked(net, nn.Sequential), tmp_path / "nested.nir")
    (edges, nodes), (_, flat) = contents(tmp_path / "blocked.nir"), contents(tmp_path / "plain.nir")
    nested_edges, nested = contents(tmp_path / "nested.nir")
    assert edges == nested_edges
    assert [name for name, *_ in nodes] == [name for name, *_ in nested]
    for other in (flat, nested):
        for (kind, mine), (same_kind, theirs) in zip(parameters(nodes), parameters(other), strict=True):
            assert kind == same_kind
            assert mine.keys() == theirs.keys()
            assert all(np.array_equal(mine[key], theirs[key]) for key in mine)
    x = bernoulli(24)
    back = from_nir(tmp_path / "blocked.nir")(x)
    assert back.any()
    assert torch.equal(back, net(x))


def test_files_and_quantised_networks(tmp_path):
    net = dense("subtract")
    save_network(tmp_path / "net.pt", blocked(net))
    x = bernoulli(24)
    assert torch.equal(load_network(tmp_path / "net.pt")(x), net(x))
    one, other = quantize(net, 8, input_scale=1), quantize(blocked(net), 8, input_scale=1)
    assert torch.equal(one(x), other(x))
