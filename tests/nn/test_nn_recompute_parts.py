"""What the parts of a sequence that is recomputed see: random numbers, settings, constant input; and their number."""

import math

import pytest
import torch
from nn_networks import network
from plain_run import assert_same, plain, updates

from spikelfp import nn, propagate, rules
from spikelfp.functional.credit import backward_pass
from spikelfp.functional.sequence import is_constant
from spikelfp.nn.recompute import Setting


@pytest.mark.parametrize("noise", [nn.Noise(0.5), torch.nn.Dropout(0.3)], ids=["noise", "torch dropout"])
def test_parts_that_run_again_see_the_same_random_numbers(noise):
    net = nn.Sequential(nn.Linear(6, 7), nn.LIF(0.9, 0.3), noise, nn.Linear(7, 4), nn.LIF(0.9, 0.3)).double()
    x = torch.randn(11, 4, 6).double()
    torch.manual_seed(5)
    out, state = [], None
    for part in (x[:2], *x[2:].split(3)):  # what is left over comes first
        piece, state = net.run(part, state)
        out.append(piece)
    reward = torch.randn(11, 4, 4).double()
    propagate(out, (reward[:2], *reward[2:].split(3)))
    expected = updates(net)
    torch.manual_seed(5)
    again, _ = nn.recomputed(net, x, 3)
    assert torch.equal(again, torch.cat(out))
    torch.rand(100)
    state = torch.get_rng_state()
    propagate(again, reward)
    assert_same(updates(net), expected)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_setting_is_restored_for_a_block():
    net = nn.Sequential(nn.Linear(6, 7), nn.Noise(0.5))
    net[0].choice.events = True
    then = Setting.now(net, torch.device("cpu"))
    drawn = torch.rand(3)
    net.eval()
    net[0].choice.events, net[0].rule = False, rules.Gamma()
    with then.again():
        assert net[0].choice.events
        assert net[1].training
        assert isinstance(net[0].rule, rules.Epsilon)
        assert torch.equal(torch.rand(3), drawn)
    assert not net[0].choice.events
    assert not net[1].training
    assert isinstance(net[0].rule, rules.Gamma)
    assert not torch.equal(torch.rand(3), drawn)


class Watched(nn.Layer):
    """Notes the sequences that pass: length, whether constant, with a graph, under autocast."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen.append((len(x), is_constant(x), torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")))
        return x


@pytest.mark.parametrize("still", [True, False])
def test_constant_input_stays_constant_and_each_part_runs_twice_but_the_last(still):
    first = Watched()
    net = nn.Sum(nn.Sequential(first, nn.Linear(6, 4), nn.LIF(0.9, 0.3)), nn.Linear(6, 4))
    x = nn.constant(torch.randn(3, 6), 11)
    out, _ = nn.recomputed(net, x if still else x.clone(), 3)
    assert [seen[:3] for seen in first.seen] == [(2, still, False), *[(3, still, False)] * 2, (3, still, True)]
    propagate(out, torch.ones_like(out))
    assert [seen[:3] for seen in first.seen[4:]] == [(length, still, True) for length in (3, 3, 2)]


@pytest.mark.parametrize("begins", [True, False])
def test_layers_without_memory_see_a_constant_input_once(begins):
    """With the outputs, messages and states of the plain run, which does the same."""
    first = Watched()
    net = nn.Sequential(first, nn.Linear(6, 7), nn.LIF(0.9, 0.3), nn.Linear(7, 4), nn.LI()).double()
    images, weights = torch.randn(3, 6).double().requires_grad_(), torch.randn(11, 3, 4).double()
    state = net.run(torch.randn(2, 3, 6).double())[1] if begins else None
    found = []
    for run in (net.run, nn.Recomputed(net, 3).run):
        first.seen.clear()
        images.grad = None
        out, after = run(nn.constant(images, 11), state)
        with backward_pass():
            (out * weights).sum().backward(retain_graph=True)
        found.append(([out.detach(), after[2], after[4]], [images.grad, *updates(net)]))
        assert after[:2] == (None, None)
    assert [seen[:3] for seen in first.seen] == [(2, True, False), (11, True, True)]  # at first a try
    assert_same(found[1][0], found[0][0])
    assert_same(found[1][1], found[0][1])


def test_a_network_without_memory_leaves_a_constant_input_constant():
    net, x = nn.Sequential(nn.Flatten(), nn.Linear(6, 4)), nn.constant(torch.randn(3, 6), 11)
    out, state = nn.recomputed(net, x, 3)
    assert is_constant(out)
    assert torch.equal(out, net(x))
    assert state == (None, None)


@pytest.mark.parametrize("steps", [1, 2, 4, 16, 17, 100])
def test_parts_have_about_as_many_steps_as_there_are_parts(steps):
    net = nn.Sequential(Watched(), nn.LIF())
    nn.recomputed(net, torch.randn(steps, 2, 3))
    assert max(seen[0] for seen in net[0].seen) == math.ceil(math.sqrt(steps))


def test_without_a_graph_nothing_is_kept():
    net, x = network("synaptic", steps=11)
    out, state = net.run(x)
    with torch.no_grad():
        again, after = nn.recomputed(net, x, 3)
    assert_same([again, after[1][1]], [out, state[1][1]])  # products of fewer rows round otherwise on some processors
    assert again.grad_fn is None
    frozen = net.requires_grad_(False)
    assert nn.recomputed(frozen, x, 3)[0].grad_fn is None


def test_frozen_parameters_stay_without_an_update():
    net, x = network("lif", steps=11)
    net[0].requires_grad_(False)
    _, reward, expected = plain(net, x)
    assert expected[0] is None
    propagate(nn.recomputed(net, x, 3)[0], reward)
    found = updates(net)
    assert found[:2] == [None, None]
    assert_same(found[2:], expected[2:])


def test_autocast_is_that_of_the_forward_pass_and_keeps_no_casts_without_a_graph():
    net, x = network("readout", steps=12)
    net, x = nn.Sequential(Watched(), *net.float()), x.float()
    with torch.autocast("cpu", torch.bfloat16):
        out = net(x)
    weights = torch.randn_like(out)
    with backward_pass():
        (out * weights).sum().backward()
    expected = updates(net)
    with torch.autocast("cpu", torch.bfloat16):
        again, _ = nn.recomputed(net, x, 3)
        after = net(x)
    torch.testing.assert_close(again, out)
    with backward_pass():
        (again * weights).sum().backward()
    assert_same(updates(net), expected, 2e-2)  # sums of products in bfloat16
    assert all(autocast for *_, autocast in net[0].seen)
    with backward_pass():
        (after * weights).sum().backward()
    assert_same(updates(net), expected, 1e-5)
