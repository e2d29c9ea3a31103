"""Where a reward enters a network: any linear readout gives the updates of the plain call, or is refused."""

import random
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from spikelfp import convert, interop, models, nn, propagate, rewards, rules
from spikelfp.errors import UserError
from spikelfp.functional.credit import backward_pass

RULES = [rules.Epsilon(), rules.Epsilon(0.05), rules.Zero(), rules.AlphaBeta(), rules.ZPlusMinus(), rules.Gamma()]
NEURONS = [
    lambda n: nn.LIF(0.9, 0.4),
    lambda n: nn.LIF(0.8, 0.3, "zero", "increment"),
    lambda n: nn.LIF(0.8, 0.3, "immediate", learn_beta=True),
    lambda n: nn.Synaptic(0.7, 0.9, 0.4),
    lambda n: nn.RecurrentLIF(n, 0.9, 0.4),
    lambda n: nn.RecurrentSynaptic(n, 0.6, 0.9, 0.4),
    lambda n: nn.Heaviside(),
    lambda n: nn.ReLU(),
    lambda n: nn.Tanh(),
]


def network(pick, sizes):
    layers = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), pick.choice(NEURONS)(outputs)]
    net = nn.Sequential(*layers).double()
    rules.attach(net, pick.choice(RULES))
    return net


# Readouts of a user's own: ``(spikes [T, B, C], pick) → outputs``. All are linear in the spikes.


def sliced(s, pick):
    return s[pick.randrange(len(s)) :, :, : max(1, s.shape[2] - 1)]


def stacked(s, pick):
    return torch.stack([s[t] for t in range(len(s))])


def chunked(s, pick):
    dim = pick.randrange(3)
    return torch.cat(s.chunk(2, dim)[::-1], dim)


def unbound(s, pick):
    return torch.stack(s.unbind(1)[::-1], 1)


def masked(s, pick):
    return s * (torch.rand(s.shape, dtype=s.dtype) < 0.7)


def selected(s, pick):
    return torch.where(torch.rand(s.shape) < 0.5, s, torch.zeros((), dtype=s.dtype))


def summed(s, pick):
    return s.sum(pick.randrange(3))


def averaged(s, pick):
    return s.mean(0) * 3 - 1


def permuted(s, pick):
    return s.permute(1, 2, 0).reshape(s.shape[1], -1)


def indexed(s, pick):
    return s[..., torch.randperm(s.shape[2])].flip(0)


def gathered(s, pick):
    return s.index_select(1, torch.randint(s.shape[1], (4,)))


def decayed(s, pick):
    return (s * torch.linspace(0, 1, len(s), dtype=s.dtype).view(-1, 1, 1)).cumsum(0)


def written(s, pick):
    out = torch.zeros_like(s)
    for t in range(len(s)):
        out[t] = s[t]
    return out


def grouped(s, pick):
    return s @ torch.rand(s.shape[2], 2, dtype=s.dtype)


def convolved(s, pick):
    return torch.nn.functional.pad(s, (1, 1)).unfold(2, 2, 1).sum(-1)


def weighted(s, pick):
    return torch.einsum("tbc,t->bc", s, torch.rand(len(s), dtype=s.dtype)) / 2


def repeated(s, pick):
    return torch.cat([s, 2 * s, -s.repeat(1, 1, 2)[..., : s.shape[2]]], 2)


def halves(s, pick):
    a, b = s.split([1, len(s) - 1]) if len(s) > 1 else (s, s)
    return torch.cat([b, a]) if len(s) > 1 else a


READOUTS = [
    sliced, stacked, chunked, unbound, masked, selected, summed, averaged, permuted, indexed, gathered, decayed,
    written, grouped, convolved, weighted, repeated, halves,
]  # fmt: skip


def whole(net, x):
    return net(x)


def stepped(net, x):
    """The loop of every tutorial."""
    state, out = None, []
    for step in x:
        spikes, state = net.run(step[None], state)
        out.append(spikes[0])
    return torch.stack(out)


def by_samples(net, x):
    return torch.cat([net(x[:, :1]), net(x[:, 1:])], 1)


def by_chunks(net, x):
    first, state = net.run(x[:2])
    return torch.cat([first, net.run(x[2:], state)[0]])


def run_again(net, x):
    return nn.recomputed(net, x, 2)[0]


def kept_for_later(net, x):
    return checkpoint(net, x, use_reentrant=False)


RUNS = [whole, whole, whole, stepped, by_samples, by_chunks, run_again, kept_for_later]


def updates(net, x, run, readout, seed):
    """Updates by ``propagate`` on a readout, and those of the plain call with the reward that the formula asks for."""
    torch.manual_seed(seed)
    net.zero_grad()
    outputs = readout(run(net, x), random.Random(seed))
    reward = torch.randn(outputs.shape, dtype=outputs.dtype)
    propagate(outputs, reward)
    found = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    torch.manual_seed(seed)
    spikes = net(x)
    free = spikes.detach().requires_grad_()
    (own,) = torch.autograd.grad(readout(free, random.Random(seed)), free, reward)  # Aᵀ r, by torch alone
    propagate(spikes, own)
    return found, [p.grad.clone() for p in net.parameters()]


@pytest.mark.parametrize("seed", range(300))
def test_any_readout_gives_the_updates_of_the_plain_call(seed):
    pick = random.Random(seed)
    torch.manual_seed(seed)
    sizes = [pick.randint(2, 5) for _ in range(pick.choice([2, 3, 3, 4]))]
    net, run = network(pick, sizes), pick.choice(RUNS)
    x = torch.randn(pick.randint(3, 6), pick.randint(2, 4), sizes[0], dtype=torch.float64) * 2
    first, second = pick.sample(READOUTS, 2)
    if seed < 100:
        first, second = READOUTS[seed % len(READOUTS)], None
    elif pick.random() < 0.5:
        second = None

    def readout(spikes, draw):
        outputs = first(spikes, draw)
        return second(outputs, draw) if second is not None and outputs.dim() == 3 else outputs

    found, expected = updates(net, x, run, readout, seed)
    scale = max(float(e.abs().max()) for e in expected)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9 * max(scale, 1.0))


def small(**options):
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 6), nn.LIF(0.9, 0.3), nn.Linear(6, 3), nn.LIF(0.9, 0.3)).double()


X = torch.randn(5, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2


def grads(net):
    return [p.grad.clone() for p in net.parameters()]


def same(found, expected, tolerance=1e-9):
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("together", [True, False])
def test_neurons_that_are_outputs_and_hidden_get_reward_and_messages(together):
    """Deep supervision: two passes with one reward each give the same, since LFP-ε is linear in the reward."""
    net = small()
    reward = torch.randn(5, 4, 9, dtype=torch.float64)
    hidden = net[:2](X)
    if together:
        propagate(torch.cat([hidden, net[2:](hidden)], 2), reward)
    else:
        propagate([hidden, net[2:](hidden)], [reward[..., :6], reward[..., 6:]])
    found = grads(net)
    net.zero_grad()
    propagate(net[:2](X), reward[..., :6])
    propagate(net(X), reward[..., 6:])
    same(found, grads(net))


def test_a_hidden_layer_that_is_read_out_through_a_view_of_its_own():
    """The view that the next layer is given is rewarded too."""
    net = small()
    hidden = net[:2](X).flatten(2)
    out = net[2:](hidden)
    propagate([hidden * 2, out], [torch.ones_like(hidden), torch.ones_like(out)])
    found = grads(net)
    net.zero_grad()
    propagate(net[:2](X), torch.full_like(hidden, 2.0))
    propagate(net(X), torch.ones_like(out))
    same(found, grads(net))


def test_a_linear_head_beside_a_spiking_one_on_the_same_neurons():
    body, head = small(), nn.Linear(3, 2).double()
    parts = torch.nn.ModuleList([body, head])
    spikes = body(X)
    out = head(spikes)
    propagate([spikes, out], [torch.ones_like(spikes), torch.ones_like(out)])
    found = grads(parts)
    parts.zero_grad()
    propagate(body(X), torch.ones_like(spikes))
    propagate(head(body(X)), torch.ones_like(out))
    same(found, grads(parts))


def test_the_last_membrane_is_a_linear_output():
    net, reward = small(), torch.randn(4, 3, dtype=torch.float64)
    _, state = net.run(X)
    membrane = state[-1]
    propagate(membrane, reward, eps=1e-6)
    found = grads(net)
    net.zero_grad()
    _, state = net.run(X)
    message = reward / (membrane + torch.copysign(torch.tensor(1e-6), membrane)).detach()
    with backward_pass():
        state[-1].backward(message)
    same(found, grads(net))


@pytest.mark.parametrize("readout", [lambda o: o[:, :2], lambda o: o.sum(0), lambda o: o.mean(0)])
def test_linear_outputs_start_with_a_division_wherever_they_are_read(readout):
    """The readout is the output neuron: ``m = r / (o + sign(o) ε)``, and what lies between is linear."""
    net = nn.Sequential(nn.Linear(4, 6), nn.LIF(0.9, 0.3), nn.Linear(6, 3)).double()
    rules.attach(net, rules.Epsilon(0.1))
    out = readout(net(X))
    reward = torch.randn_like(out)
    propagate(out, reward)
    found = grads(net)
    net.zero_grad()
    linear = net(X)
    out = readout(linear)
    (message,) = torch.autograd.grad(
        out, linear, reward / (out + torch.copysign(torch.tensor(0.1), out)).detach(), retain_graph=True
    )
    propagate(linear, (message * (linear + torch.copysign(torch.tensor(0.1), linear))).detach())
    same(found, grads(net), 1e-8)


class Sees:
    """A full backward hook that keeps what it is shown."""

    def __init__(self):
        self.seen = []

    def __call__(self, module, to_input, to_output):
        self.seen.append(to_output[0].clone())


@pytest.mark.parametrize("place", range(4))
def test_backward_hooks_on_any_layer_change_nothing_and_see_what_passes(place):
    net = small()
    spikes = net(X)
    reward = torch.randn_like(spikes)
    propagate(spikes, reward)
    expected = grads(net)
    net.zero_grad()
    hook = Sees()
    net[place].register_full_backward_hook(hook)
    propagate(net(X.clone().requires_grad_()), reward)
    same(grads(net), expected)
    (seen,) = hook.seen
    assert torch.equal(seen, reward) if place == 3 else seen.any()


def test_a_tensor_hook_acts_on_the_reward():
    net = small()
    spikes = net(X)
    reward = torch.randn_like(spikes)
    propagate(spikes, reward * 2)
    expected = grads(net)
    net.zero_grad()
    spikes = net(X)
    spikes.register_hook(lambda r: r * 2)
    propagate(spikes, reward)
    same(grads(net), expected)


def test_a_graph_that_is_kept_is_rewarded_again():
    net = small()
    spikes = net(X)
    propagate(spikes[1:], torch.ones_like(spikes[1:]), retain_graph=True)
    once = grads(net)
    propagate(spikes[1:], torch.ones_like(spikes[1:]))
    same(grads(net), [2 * grad for grad in once])


@pytest.fixture
def group(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("options", [{}, {"find_unused_parameters": True}, {"static_graph": True}], ids=str)
@pytest.mark.parametrize("readout", [lambda s: s, lambda s: s[1:] * 2, lambda s: s.sum(0)])
def test_own_loops_of_data_parallel_training(group, options, readout):
    net = small()
    for _ in range(2):
        outputs = readout(net(X))
        propagate(outputs, torch.ones_like(outputs))
    expected = grads(net)
    net.zero_grad()
    replica = DistributedDataParallel(net, **options)
    for _ in range(2):
        outputs = readout(replica(X))
        propagate(outputs, torch.ones_like(outputs))
    same(grads(net), expected)


class Two(torch.nn.Module):
    """Spikes of a hidden layer and of the last one."""

    def __init__(self):
        super().__init__()
        self.net = small()

    def forward(self, x):
        hidden = self.net[:2](x)
        return hidden, self.net[2:](hidden)


@pytest.mark.parametrize("options", [{}, {"find_unused_parameters": True}, {"static_graph": True}], ids=str)
def test_hidden_outputs_under_data_parallel_training_are_right_or_refused(group, options):
    net = Two()
    outs = net(X)
    propagate(outs, [torch.ones_like(out) for out in outs])
    expected = grads(net)
    net.zero_grad()
    replica = DistributedDataParallel(net, **options)
    outs = replica(X)
    if options:
        with pytest.raises(UserError, match="DistributedDataParallel"):
            propagate(outs, [torch.ones_like(out) for out in outs])
        return
    propagate(outs, [torch.ones_like(out) for out in outs])
    same(grads(net), expected)


class FlatParameter(torch.autograd.Function):
    """As a sharding wrapper has them: an identity that does something in its backward pass."""

    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        return grad


class Passes(FlatParameter):
    """An identity that says it passes messages."""

    passes_messages = True


KEPT = []


class Own(torch.nn.Module):
    """A network with something of a user's own between its layers."""

    def __init__(self, between):
        super().__init__()
        self.first, self.last, self.between = small()[:2], small()[2:], between
        self.factor = torch.nn.Parameter(torch.ones(6, dtype=torch.float64))
        KEPT.append(self)  # an owner is looked for among the modules there are

    def forward(self, x):
        return self.last(self.between(self, self.first(x)))


ONES = torch.ones(6, dtype=torch.float64)


def sum_of_both(net):
    spikes = net(X)
    return spikes + nn.Linear(4, 3).double()(X)


# fmt: off
REFUSED = {
    "reentrant checkpoint": (
        lambda: checkpoint(small(), X.clone().requires_grad_(), use_reentrant=True),
        "use_reentrant=False",
    ),
    "sharding wrapper": (lambda: FlatParameter.apply(small()(X)), "FlatParameter"),
    "both kinds": (lambda: sum_of_both(small()), "made of neurons"),
    "softmax of spikes": (lambda: small()(X).softmax(-1), "SoftmaxBackward0"),
    "relu of counts": (lambda: (small()(X).sum(0) - 2).relu(), "is not linear"),
    "tanh of counts": (lambda: small()(X).sum(0).tanh(), "TanhBackward0"),
    "squared spikes": (lambda: small()(X).sum(0) ** 2, "PowBackward0"),
    "spikes times spikes": (lambda: (lambda s: s * s.flip(0))(small()(X)), "multiplies two signals"),
    "spikes over spikes": (lambda: (lambda s: s / (s.flip(0) + 1))(small()(X)), "divides by a signal"),
    "own parameter": (lambda: Own(lambda own, h: h * own.factor)(X), r"factor of .*Own"),
    "own weights": (lambda: Own(lambda own, h: torch.nn.functional.linear(h, own.factor[None]) * ONES)(X), "factor of"),
    "torch's tanh": (lambda: Own(lambda own, h: torch.tanh(h))(X), "TanhBackward0"),
    "gate between layers": (lambda: Own(lambda own, h: h * h.mean(0))(X), "multiplies two signals"),
    "function between layers": (lambda: Own(lambda own, h: FlatParameter.apply(h))(X), "passes_messages"),
    "surrogate spikes": (lambda: with_rule(rules.Surrogate()), "FastSigmoid|gradients"),
    "gradient rule": (lambda: with_rule(rules.Gradient()), "gradients"),
    "weight norm": (lambda: Own(lambda own, h: normed(h))(X), "computes a weight|follows no"),
    "a number": (lambda: 3.0, "tensors"),
    "a list of lists": (lambda: [[1.0]], "tensors"),
}
# fmt: on


def with_rule(rule):
    net = small().float()
    rules.attach(net, rule)
    return net(X.float())


def normed(h):
    layer = nn.Linear(6, 6).double()
    torch.nn.utils.parametrizations.weight_norm(layer)
    return layer(h)


@pytest.mark.parametrize("case", REFUSED)
def test_what_hides_its_inside_or_has_no_rule_is_refused_by_name(case):
    make, fragment = REFUSED[case]
    outputs = make()
    reward = torch.ones_like(outputs) if isinstance(outputs, torch.Tensor) else outputs
    with pytest.raises(UserError, match=fragment) as error:
        propagate(outputs, reward)
    assert "\n" not in str(error.value)


def test_a_function_that_says_it_passes_messages_is_believed():
    net = Own(lambda own, h: Passes.apply(h))
    out = net(X)
    propagate(out, torch.ones_like(out))
    found = net.first[0].weight.grad.clone()
    plain = small()
    propagate(plain(X), torch.ones_like(out))
    torch.testing.assert_close(found, plain[0].weight.grad)


def own_network():
    return models.lif_mlp([4, 6, 3], threshold=0.3)


def from_snntorch():
    snn = pytest.importorskip("snntorch")
    return interop.from_snntorch(
        torch.nn.Sequential(
            torch.nn.Linear(4, 6),
            snn.Leaky(0.9, init_hidden=True),
            torch.nn.Linear(6, 3),
            snn.Leaky(0.9, init_hidden=True),
        )
    )


def converted():
    return convert(torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.ReLU(), torch.nn.Linear(6, 3)))


def static():
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))


LOSSES = {
    "cross entropy": lambda out, y: torch.nn.functional.cross_entropy(out.sum(0), y),
    "squared": lambda out, y: out.square().sum(),
    "plain sum": lambda out, y: out.sum(),
}
STARTS = {
    "loss.backward()": lambda loss, net: loss.backward(),
    "autograd.grad": lambda loss, net: torch.autograd.grad(loss, list(net.parameters())),
    "autograd.backward": lambda loss, net: torch.autograd.backward(loss),
}


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    "make", [own_network, from_snntorch, converted, static, lambda: nn.Recomputed(own_network(), 2)],
    ids=["own", "snntorch", "converted", "static", "recomputed"],
)  # fmt: skip
def test_a_backward_pass_that_no_reward_started_is_refused(make, loss, start):
    net = make()
    out = net(X.float())
    with pytest.raises(UserError, match=r"climb the loss: start it by spikelfp\.propagate") as error:
        STARTS[start](LOSSES[loss](out, torch.tensor([0, 1, 2, 0])), net)
    assert "\n" not in str(error.value)
    assert all(p.grad is None for p in net.parameters())


def test_a_pass_that_was_refused_leaves_nothing_behind():
    net = small()
    spikes = net(X)
    with pytest.raises(UserError):
        spikes.sum().backward(retain_graph=True)
    propagate(spikes, torch.ones_like(spikes))
    found = grads(net)
    net.zero_grad()
    propagate(net(X), torch.ones_like(spikes))
    same(found, grads(net))


@pytest.mark.parametrize("rule", [rules.Surrogate(), rules.Gradient()], ids=["surrogate", "gradient"])
def test_under_rules_of_gradients_a_loss_goes_back_as_ever(rule):
    net = own_network()
    rules.attach(net, rule)
    net(X.float()).sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_rewards_of_several_threads_do_not_open_the_way_for_each_others_losses():
    """A loss in one thread while another sends rewards back."""

    def loss():
        with pytest.raises(UserError, match="climb the loss"):
            small()(X).sum().backward()
        return True

    with backward_pass(), ThreadPoolExecutor(1) as pool:
        assert pool.submit(loss).result()


def test_a_step_loop_learns_what_the_whole_sequence_learns():
    """Stacked spikes of a loop, one Adam step after the other."""
    draw = torch.Generator().manual_seed(0)
    prototypes, labels = torch.rand(3, 4, generator=draw), torch.arange(60) % 3
    x = (torch.rand(8, 60, 4, generator=draw) < prototypes[labels]).float()
    weights = []
    for run in (whole, stepped):
        torch.manual_seed(0)
        net = models.lif_mlp([4, 20, 3], threshold=0.4)
        optimizer = torch.optim.SGD(net.parameters(), 0.05)
        for _ in range(5):
            optimizer.zero_grad()
            spikes = run(net, x)
            propagate(spikes, rewards.SpikeSequence()(spikes, labels), weight=1 / 60)
            optimizer.step()
        weights.append([p.detach().clone() for p in net.parameters()])
    same(weights[0], weights[1], 1e-4)


@pytest.mark.parametrize(
    ("readout", "message"),
    [
        (lambda s: torch.div(s, 0.5, rounding_mode="floor"), "DivBackward2, which rounds"),
        (lambda s: torch.ones_like(s).scatter_reduce(0, torch.zeros_like(s).long(), s, "prod"), "multiplies signals"),
    ],
    ids=["rounded", "product"],
)
def test_a_readout_that_is_not_linear_for_its_options(readout, message):
    """Their derivatives are 0 nearly everywhere, so that updates would be."""
    outputs = readout(small()(X))
    with pytest.raises(UserError, match=message):
        propagate(outputs, torch.ones_like(outputs))


@pytest.mark.parametrize("how", ["sum", "mean", "amax"])
def test_reductions_that_are_linear_or_choose(how):
    spikes = small()(X)
    outputs = torch.zeros_like(spikes).scatter_reduce(0, torch.zeros_like(spikes).long(), spikes, how)
    propagate(outputs, torch.ones_like(outputs))


def test_retain_graph_is_a_truth_value():
    spikes = small()(X)
    with pytest.raises(UserError, match="retain_graph is true or false, got 'no'"):
        propagate(spikes, torch.ones_like(spikes), retain_graph="no")


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_outputs_are_refused():
    spikes = small()(X)
    with pytest.raises(UserError, match="plain tensors, got nested ones"):
        propagate(torch.nested.as_nested_tensor([spikes[0], spikes[1]]), spikes)
