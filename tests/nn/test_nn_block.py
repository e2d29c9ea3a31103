"""Blocks: a ``Sequential`` in all but in where methods cut a network."""

import pytest
import torch

from spikelfp import convert, nn, propagate
from spikelfp.errors import ShapeError
from spikelfp.nn import graph


def parts():
    torch.manual_seed(4)
    neuron = {"beta": 0.8, "threshold": 0.2}
    return [
        nn.Flatten(), nn.Linear(6, 5), nn.LIF(**neuron), nn.Linear(5, 4), nn.LIF(**neuron),
        nn.Linear(4, 3), nn.LIF(**neuron),
    ]  # fmt: skip


def nets():
    """Make two networks of equal layers, two of which stand in a ``Sequential``, and in a ``Block``."""
    return [
        nn.Sequential(*layers[:3], inner(*layers[3:5]), *layers[5:])
        for inner in (nn.Sequential, nn.Block)
        for layers in [parts()]
    ]


def shown():
    return (torch.rand(7, 3, 6, generator=torch.Generator().manual_seed(1)) < 0.5).float()


def same(a, b):
    if isinstance(a, tuple):
        assert len(a) == len(b)
        return all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def test_a_block_computes_what_a_sequential_does():
    plain, blocked = nets()
    assert isinstance(blocked[3], nn.Block)
    assert list(plain.state_dict()) == list(blocked.state_dict())
    x = shown()
    assert plain(x).any()
    assert torch.equal(plain(x), blocked(x))
    (first, mine), (second, theirs) = plain.run(x[:4]), blocked.run(x[:4])
    assert torch.equal(first, second)
    assert same(mine, theirs)
    (first, mine), (second, theirs) = plain.run(x[4:], mine), blocked.run(x[4:], theirs)
    assert torch.equal(first, second)
    assert same(mine, theirs)
    for net in (plain, blocked):
        out = net(x)
        propagate(out, torch.ones_like(out))
    updates = [(a.grad, b.grad) for a, b in zip(plain.parameters(), blocked.parameters(), strict=True)]
    assert all(a.any() and torch.equal(a, b) for a, b in updates)
    with pytest.raises(ShapeError, match="this Sequential starts from the states"):
        blocked[3].run(x, ())


def test_the_graph_of_a_network_opens_blocks():
    plain, blocked = nets()
    assert graph.in_order(blocked[3])
    assert [name for name, _ in graph.chain(blocked)] == ["0", "1", "2", "3.0", "3.1", "4", "5"]
    assert list(graph.leaves(blocked)) == list(graph.leaves(plain))
    assert graph.neighbours(blocked).before == graph.neighbours(plain).before
    assert not any(graph.UNKNOWN in sources for sources in graph.neighbours(blocked).before.values())


def test_a_block_stays_one_when_layers_inside_are_converted():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Block(torch.nn.Linear(4, 3), nn.Tanh()), nn.Linear(3, 2))
    converted = convert(net)
    assert type(converted) is nn.Sequential
    assert type(converted[0]) is nn.Block
    assert isinstance(converted[0][0], nn.Layer)
    x = torch.rand(2, 3, 4)
    assert torch.equal(converted(x), net[1](torch.tanh(net[0][0](x))))
    own = nn.Block(nn.Linear(4, 3), nn.Tanh())
    assert convert(own) is own
