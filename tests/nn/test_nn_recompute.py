"""Recomputation over time against the plain run: the same outputs and updates, in memory that grows with √T."""

import pytest
import torch
from nn_networks import NETWORKS, network
from plain_run import assert_same, plain, updates
from reference import RESETS
from references.cases import RULES

from spikelfp import models, nn, propagate, rules
from spikelfp.errors import GraphError
from spikelfp.functional.credit import backward_pass

SPIKES_ONLY = {"lif", "lif-immediate", "recurrent", "synaptic", "synaptic-immediate", "convolutional"}


@pytest.mark.parametrize("steps", [None, 1, 3, 10, 11, 50])
@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_and_updates_are_those_of_the_plain_run(name, steps):
    net, x = network(name, steps=11)
    out, reward, expected = plain(net, x)
    again, _ = nn.recomputed(net, x, steps)
    torch.testing.assert_close(again.detach(), out, rtol=1e-11, atol=1e-11)
    propagate(again, reward)
    assert_same(updates(net), expected)


@pytest.mark.parametrize("rule", [name for name in RULES if name != "epsilon-normalised"])
@pytest.mark.parametrize("name", ["lif", "synaptic", "recurrent", "convolutional", "skips"])
def test_every_rule_splits_the_same_rewards(name, rule):
    net, x = network(name, steps=11)
    rules.attach(net, RULES[rule])
    out, reward, expected = plain(net, x)
    again, _ = nn.recomputed(net, x, 3)
    assert torch.equal(again, out) or name not in SPIKES_ONLY
    propagate(again, reward)
    assert_same(updates(net), expected)


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("rule", [rules.Surrogate(slope=5.0), rules.Gradient()], ids=["surrogate", "gradient"])
@pytest.mark.parametrize("end", ["lif", "readout"])
def test_gradients_are_those_of_backpropagation(end, rule, reset):
    last = nn.LIF(0.9, 0.3, reset) if end == "lif" else nn.LI(0.8)
    hidden = [nn.LIF(0.9, 0.3, reset, learn_beta=True), nn.Linear(9, 8), nn.Synaptic(0.7, 0.9, 0.3, reset)]
    net = nn.Sequential(nn.Linear(6, 9), *hidden, nn.Linear(8, 7), nn.RecurrentLIF(7, threshold=0.3, reset=reset))
    net = nn.Sequential(net, nn.Linear(7, 4), last).double()
    rules.attach(net, rule)
    x, weights = torch.randn(13, 5, 6).double() * 2, torch.randn(13, 5, 4).double()
    out = net(x)
    with backward_pass():
        (out * weights).sum().backward()
    expected = updates(net)
    again, _ = nn.recomputed(net, x, 4)
    torch.testing.assert_close(again, out)
    assert out.any()
    with backward_pass():
        (again * weights).sum().backward()
    found = updates(net)
    assert any(grad.any() for grad in found) or isinstance(rule, rules.Gradient)
    assert_same(found, expected, 1e-9)


@pytest.mark.parametrize("written_out", [False, True], ids=["constant", "varying"])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("model", ["mlp", "lenet"])
def test_models_learn_the_same(model, reset, written_out):
    if model == "mlp":
        net, shape = models.lif_mlp([6, 20, 15, 4], threshold=0.4, reset=reset, learn_beta=True).double(), (6,)
    else:
        net, shape = models.lif_lenet((1, 16, 16), 4, threshold=0.2, reset=reset).double(), (1, 16, 16)
    x = nn.constant(torch.randn(3, *shape).double() * 2, 10)
    x = x * torch.rand(10, *[1] * (x.dim() - 1)).double() if written_out else x
    out, reward, expected = plain(net, x)
    again = nn.Recomputed(net)(x)
    assert torch.equal(again, out)
    propagate(again, reward)
    assert_same(updates(net), expected)


@pytest.mark.parametrize("name", NETWORKS)
def test_messages_pass_to_the_input_and_from_state_to_state(name):
    net, x = network(name, steps=11)
    with torch.no_grad():
        _, state = net.run(torch.randn_like(x))

    def leaves(state):
        found = []

        def copy(part):
            if isinstance(part, tuple):
                return tuple(map(copy, part))
            if part is not None:
                part = part.clone().requires_grad_()
                found.append(part)
            return part

        return copy(state), found

    def flat(state):
        if isinstance(state, tuple):
            return [t for part in state for t in flat(part)]
        return [] if state is None else [state]

    results, given = [], {}
    for run in (net.run, nn.Recomputed(net, 4).run):
        own, start = leaves(state)
        inputs = x.clone().requires_grad_()
        out, final = run(inputs, own)
        ends = [out, *flat(final)]
        given = given or {i: torch.randn_like(end) for i, end in enumerate(ends)}
        with backward_pass():
            torch.autograd.backward(ends, list(given.values()))
        results.append(([end.detach() for end in ends], [inputs.grad, *(t.grad for t in start), *updates(net)]))
        assert len(start) > 0
    assert_same(results[1][0], results[0][0])
    assert_same(results[1][1], results[0][1])


def test_the_state_alone_may_be_rewarded():
    net, x = network("recurrent", steps=11)
    found = []
    for run in (net.run, nn.Recomputed(net, 3).run):
        _, (_, _, _, (_, membrane)) = run(x)
        with backward_pass():
            membrane.sum().backward()
        found.append(updates(net))
    assert any(grad.any() for grad in found[0])
    assert_same(found[1], found[0])


@pytest.mark.parametrize("end", ["flatten", "transpose", "double"])
def test_rewards_reach_neurons_behind_views_of_them(end):
    """The reward of an output neuron is handed to it, spike or no spike."""
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.LIF(0.9, 0.3), *([nn.Flatten()] if end == "flatten" else [])).double()
    x = torch.randn(9, 3, 1, 5, 5).double()
    last = {"flatten": lambda t: t, "transpose": lambda t: t.transpose(0, 1), "double": lambda t: t.float()}[end]
    out = last(net(x))
    reward = torch.randn_like(out)
    propagate(out, reward)
    expected = updates(net)
    assert (out == 0).any()
    propagate(last(nn.recomputed(net, x, 2)[0]), reward)
    assert_same(updates(net), expected)


def test_parts_of_a_network_and_parts_of_parts_are_recomputed():
    net, x = network("recurrent", steps=11)
    out, reward, expected = plain(net, x)
    for other in (
        nn.Sequential(nn.Recomputed(net[:2], 3), *net[2:]),
        nn.Sequential(nn.Recomputed(net[:2], 3), nn.Recomputed(net[2:], 4)),
        nn.Recomputed(nn.Recomputed(net, 2), 5),
    ):
        again = other(x)
        assert torch.equal(again, out)
        propagate(again, reward)
        assert_same(updates(net), expected)


def test_updates_reach_the_parameters_once_and_through_their_hooks():
    net, x = network("lif", steps=11)
    _, reward, expected = plain(net, x)
    arrived, added = [], []
    for p in net.parameters():
        p.register_hook(lambda grad: arrived.append(grad) or 2 * grad)
        p.register_post_accumulate_grad_hook(added.append)
    for _ in range(2):
        propagate(nn.recomputed(net, x, 3)[0], reward)
    assert len(arrived) == len(added) == 2 * len(expected)
    assert_same(updates(net), [4 * grad for grad in expected])


def test_a_pass_goes_back_once_unless_its_graph_is_retained():
    net, x = network("synaptic", steps=11)
    _, reward, expected = plain(net, x)
    out = nn.recomputed(net, x, 3)[0]
    propagate(out, reward, retain_graph=True)
    propagate(out, reward)
    assert_same(updates(net), [2 * grad for grad in expected])
    with pytest.raises(RuntimeError, match="second time"):
        propagate(out, reward)


def test_the_rule_of_the_forward_pass_decides_the_backward_pass():
    net, x = network("lif", steps=11)
    with rules.using(net, rules.AlphaBeta()):
        _, reward, expected = plain(net, x)
        again, _ = nn.recomputed(net, x, 3)
    propagate(again, reward)
    assert_same(updates(net), expected)
    assert all(isinstance(layer.rule, rules.Epsilon) for layer in net)


def test_the_mode_of_the_forward_pass_does_too():
    net, x = network("convolutional", steps=11)
    _, reward, expected = plain(net, x)
    again, _ = nn.recomputed(net, x, 3)
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    net.train()
    propagate(again, reward)
    assert_same(updates(net), expected)
    assert net.training
    assert all(layer.training for layer in net.modules())
    assert all(torch.equal(buffer, before[name]) for name, buffer in net.named_buffers())


def test_weights_and_statistics_that_change_in_between_are_noticed():
    for change in (lambda net: net[0].weight, lambda net: net[1].running_mean):
        net, x = network("convolutional", steps=11)
        out, _ = nn.recomputed(net, x, 3)
        with torch.no_grad():
            change(net).add_(1.0)
        with pytest.raises(GraphError, match="changed in place since the network ran"):
            propagate(out, torch.ones_like(out))
