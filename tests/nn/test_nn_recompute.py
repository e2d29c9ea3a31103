"""Recomputation over time against the plain run: the same outputs and updates, in memory that grows with √T."""

import math

import pytest
import torch
from held_memory import HeldMemory
from nn_networks import NETWORKS, network
from references.cases import RULES

from spikelfp import models, nn, propagate, rules
from spikelfp.errors import UserError
from spikelfp.functional.sequence import is_constant
from spikelfp.nn.setting import Setting

SPIKES_ONLY = {"lif", "recurrent", "synaptic", "convolutional"}


def updates(net):
    found = [None if p.grad is None else p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    return found


def assert_same(found, expected, tolerance=1e-10):
    for a, b in zip(found, expected, strict=True):
        scale = max(1.0, float(b.detach().abs().max()))
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance * scale)


def plain(net, x):
    """Output, a reward, and the updates of a plain run."""
    out = net(x)
    reward = torch.randn_like(out)
    propagate(out, reward)
    assert out.any()
    return out.detach(), reward, updates(net)


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


@pytest.mark.parametrize("reset", ["subtract", "zero"])
@pytest.mark.parametrize("rule", [rules.Surrogate(slope=5.0), rules.Gradient()], ids=["surrogate", "gradient"])
@pytest.mark.parametrize("end", ["lif", "readout"])
def test_gradients_are_those_of_backpropagation(end, rule, reset):
    """In float32, the only dtype of snnTorch's surrogates."""
    last = nn.LIF(0.9, 0.3, reset) if end == "lif" else nn.LI(0.8)
    hidden = [nn.LIF(0.9, 0.3, reset, learn_beta=True), nn.Linear(9, 8), nn.Synaptic(0.7, 0.9, 0.3, reset)]
    net = nn.Sequential(nn.Linear(6, 9), *hidden, nn.Linear(8, 7), nn.RecurrentLIF(7, threshold=0.3, reset=reset))
    net = nn.Sequential(net, nn.Linear(7, 4), last)
    rules.attach(net, rule)
    x, weights = torch.randn(13, 5, 6) * 2, torch.randn(13, 5, 4)
    out = net(x)
    (out * weights).sum().backward()
    expected = updates(net)
    again, _ = nn.recomputed(net, x, 4)
    torch.testing.assert_close(again, out)
    assert out.any()
    (again * weights).sum().backward()
    found = updates(net)
    assert any(grad.any() for grad in found) or isinstance(rule, rules.Gradient)
    assert_same(found, expected, 1e-5)


@pytest.mark.parametrize("written_out", [False, True], ids=["constant", "varying"])
@pytest.mark.parametrize("reset", ["subtract", "zero"])
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
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            propagate(out, torch.ones_like(out))


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
    assert torch.equal(again, out)
    assert again.grad_fn is None
    assert torch.equal(after[1][1], state[1][1])
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
    (out * weights).sum().backward()
    expected = updates(net)
    with torch.autocast("cpu", torch.bfloat16):
        again, _ = nn.recomputed(net, x, 3)
        after = net(x)
    torch.testing.assert_close(again, out)
    (again * weights).sum().backward()
    assert_same(updates(net), expected, 2e-2)  # sums of products in bfloat16
    assert all(autocast for *_, autocast in net[0].seen)
    (after * weights).sum().backward()
    assert_same(updates(net), expected, 1e-5)


def peak(net, x, run):
    """Bytes that a forward and a backward pass hold at most."""
    net.zero_grad()
    with HeldMemory() as held:
        out = run(x)
        propagate(out, torch.ones_like(out))
    return held.peak


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Sequential(nn.Linear(8, 60), nn.LIF(), nn.Linear(60, 60), nn.LIF(), nn.Linear(60, 2), nn.LIF()),
        lambda: nn.Sequential(nn.Linear(8, 60), nn.RecurrentLIF(60), nn.Linear(60, 2), nn.LI()),
        lambda: nn.Sequential(nn.Linear(8, 60), nn.Synaptic(), nn.Linear(60, 60), nn.LI(), nn.Linear(60, 2)),
    ],
    ids=["lif", "recurrent", "synaptic"],
)
@pytest.mark.parametrize("written_out", [False, True], ids=["constant", "varying"])
def test_memory_grows_with_the_root_of_the_number_of_steps(make, written_out):
    net = make()
    short, long = (nn.constant(torch.randn(200, 8), steps) for steps in (16, 64))
    if written_out:
        short, long = short.clone(), long.clone()
    assert peak(net, long, net) > 3.5 * peak(net, short, net)
    parts = nn.Recomputed(net)
    assert 1.5 < peak(net, long, parts) / peak(net, short, parts) < 2.2
    assert peak(net, long, parts) < peak(net, long, net) / 2.5


def test_saved_tensors_grow_with_the_root_too():
    """What autograd keeps for the backward pass, counted as torch hands it to hooks, also in the recomputation."""
    net = models.lif_mlp([8, 60, 60, 2])
    counts = []
    for steps in (16, 64):
        sizes = []

        def pack(tensor, sizes=sizes):
            if not isinstance(tensor, torch.nn.Parameter):
                sizes.append(tensor.untyped_storage().nbytes())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            out = nn.Recomputed(net)(nn.constant(torch.randn(50, 8), steps))
            forward = sum(sizes)
            sizes.clear()
            propagate(out, torch.ones_like(out))
        assert sizes  # of the parts that ran again, one after the other
        counts.append((forward, max(sizes)))
    assert counts[1][0] < 2.5 * counts[0][0]
    assert counts[1][1] <= 2 * counts[0][1]


def batch_norm():
    return nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.LIF())


def hooked():
    net = nn.Sequential(nn.Linear(6, 4), nn.LIF())
    net[0].register_forward_hook(lambda *arguments: None)
    return net


def normalised():
    net = nn.Sequential(nn.Linear(6, 4), nn.LIF())
    rules.attach(net, rules.Epsilon(normalize=True))
    return net


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (batch_norm, r"layer 1 \(BatchNorm1d\) measures mean and variance over all steps"),
        (lambda: nn.Sequential(nn.Linear(6, 4), nn.Dropout(0.1), nn.LIF()), r"layer 1 \(Dropout\) silences the same"),
        (normalised, r"layer 0 \(Linear\) follows a rule that divides rewards"),
        (hooked, r"layer 0 \(Linear\) has forward hooks"),
        (lambda: nn.Sequential(nn.Noise(0.1), nn.Linear(6, 4), nn.LIF()), "Noise is the same at every step"),
        (lambda: torch.nn.Sequential(nn.Linear(6, 4), nn.LIF()), "only layers of this package.*Sequential"),
    ],
)
def test_what_is_not_the_same_in_parts_is_refused(make, named):
    with pytest.raises(UserError, match=named):
        nn.recomputed(make(), nn.constant(torch.randn(2, 6), 9), 3)


def test_in_evaluation_and_in_one_part_it_is_not():
    x = nn.constant(torch.randn(2, 6), 9)
    for make in (batch_norm, lambda: nn.Sequential(nn.Noise(0.1), nn.Dropout(0.1), nn.Linear(6, 4), nn.LIF())):
        net = make()
        assert nn.recomputed(net, x, 9)[0].shape == (9, 2, 4)
        assert torch.equal(nn.recomputed(net.eval(), x, 3)[0], net(x))
    with pytest.raises(UserError, match="BatchNorm1d"):
        nn.check_recomputable(batch_norm().eval(), training=True)
    unmeasured = nn.Sequential(nn.BatchNorm1d(6, track_running_stats=False)).eval()
    with pytest.raises(UserError, match="BatchNorm1d"):
        nn.recomputed(unmeasured, x, 3)


class Listed(nn.Layer):
    """A layer whose state is of a kind that is not known."""

    def run(self, x, state=None):
        return x, [x[-1]]


def test_impossible_arguments_are_named():
    net = nn.Sequential(nn.Linear(6, 4), nn.LIF())
    for make in (lambda: nn.Recomputed(net, 0), lambda: nn.recomputed(net, torch.randn(5, 2, 6), -1)):
        with pytest.raises(UserError, match="at least one step"):
            make()
    with pytest.raises(UserError, match="only layers of this package"):
        nn.Recomputed(torch.nn.Linear(3, 3))
    with pytest.raises(UserError, match="tuples, tensors and None, found list"):
        nn.recomputed(Listed(), torch.randn(5, 2, 6), 2)
    with pytest.raises(UserError, match="Linear takes"):
        nn.recomputed(net, torch.zeros(()))
    assert "steps=3" in repr(nn.Recomputed(net, 3))
