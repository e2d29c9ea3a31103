"""Neurons written by a step of their own: credit, gradients and the rest follow, as the fused kinds have them."""

import pickle

import pytest
import torch
from reference import DENOMINATORS, RESETS

import spikelfp
from spikelfp import nn, propagate, rules
from spikelfp.errors import ShapeError, UserError

RULES = [rules.Epsilon(), rules.Epsilon(normalize="sample"), rules.Zero(), rules.Surrogate(), rules.Gradient()]
VECTORS = torch.tensor([0.4, 0.81, 0.95, 1.0]), torch.tensor([0.3, 1.0, 0.7, 1.4])


class OwnLIF(nn.Neurons):
    def step(self, current, state, p):
        membrane = self.integrate(state.membrane, p, current)
        return self.fire(membrane, p.threshold), (membrane,)


class OwnSynaptic(nn.Neurons):
    states = ("synapse", "membrane")
    alpha = nn.Decay()

    def __init__(self, alpha=0.8, *arguments, **options):
        super().__init__(*arguments, **options)
        self.alpha = alpha

    def step(self, current, state, p):
        synapse = p.alpha * state.synapse + current
        membrane = self.integrate(state.membrane, p, synapse)
        return self.fire(membrane, p.threshold), (synapse, membrane)


class OwnLI(nn.Neurons):
    fires = False

    def step(self, current, state, p):
        membrane = p.beta * state.membrane + current
        return membrane, (membrane,)


class OwnRecurrent(nn.Neurons):
    """Spikes of the step before flow in with a weight: credit for them reaches their membranes."""

    states = ("spikes", "membrane")

    def step(self, current, state, p):
        membrane = self.integrate(state.membrane, p, current + 0.5 * state.spikes)
        spikes = self.fire(membrane, p.threshold)
        return spikes, (spikes, membrane)


def lif(own, vectors, **options):
    beta, theta = VECTORS if vectors else (0.85, 0.6)
    return (OwnLIF if own else nn.LIF)(beta, theta, learn_beta=True, **options)


def synaptic(own, vectors, **options):
    beta, theta = VECTORS if vectors else (0.85, 0.6)
    return (OwnSynaptic if own else nn.Synaptic)(beta * 0.9, beta, theta, learn_beta=True, **options)


def gathered(make, own, rule, hidden, vectors, **options):
    """Spikes, and all that reaches parameters and input, of a network with the neurons hidden or at the output."""
    torch.manual_seed(0)
    layers = [nn.Linear(5, 4), make(own, vectors, **options)]
    net = nn.Sequential(*layers, *([nn.Linear(4, 3), nn.LIF(0.9, 0.3)] if hidden else []))
    with torch.no_grad():
        net[0].weight.mul_(3)
    rules.attach(net, rule)
    x = torch.randn(8, 6, 5).requires_grad_()
    out, states = net.run(x)
    reward = torch.randn(out.shape)
    if isinstance(rule, rules.Gradient):
        out.backward(reward)
    else:
        propagate(out, reward)
    grads = [p.grad for p in net.parameters()] + [x.grad]
    return net, out.detach(), grads, states[1]


@pytest.mark.parametrize("make", [lif, synaptic])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("denominator", DENOMINATORS)
@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize("hidden", [False, True], ids=["output", "hidden"])
@pytest.mark.parametrize("vectors", [False, True], ids=["numbers", "vectors"])
def test_an_own_step_is_the_fused_scan(vectors, hidden, rule, denominator, reset, make):
    options = {"reset": reset, "denominator": denominator}
    _, spikes, grads, state = gathered(make, False, rule, hidden, vectors, **options)
    _, own_spikes, own_grads, own_state = gathered(make, True, rule, hidden, vectors, **options)
    assert spikes.any()
    assert not spikes.all()
    assert torch.equal(own_spikes, spikes)
    assert torch.equal(own_state[-1], state if isinstance(state, torch.Tensor) else state[-1])
    for own, fused in zip(own_grads, grads, strict=True):
        assert (own is None) == (fused is None)
        if own is not None:
            scale = fused.abs().max().clamp(min=1)
            torch.testing.assert_close(own / scale, fused / scale, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("make", [lif, synaptic])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize(("floor", "margin"), [(1.0, 0.5), (0.0, 0.7), (2.0, 1.0)])
@pytest.mark.parametrize("rule", [*RULES[:3], rules.Epsilon(credit="step")], ids=repr)
@pytest.mark.parametrize("vectors", [False, True], ids=["numbers", "vectors"])
def test_floor_and_margin_of_an_own_step(vectors, rule, floor, margin, reset, make):
    options = {"reset": reset, "floor": floor, "margin": margin}
    _, spikes, grads, _ = gathered(make, False, rule, True, vectors, **options)
    _, own_spikes, own_grads, _ = gathered(make, True, rule, True, vectors, **options)
    plain = gathered(make, True, rule, True, vectors, reset=reset, floor=0, margin=1)[2]
    assert torch.equal(own_spikes, spikes)
    for own, fused in zip(own_grads, grads, strict=True):
        scale = fused.abs().max().clamp(min=1)
        torch.testing.assert_close(own / scale, fused / scale, rtol=2e-6, atol=2e-6)
    assert not torch.allclose(own_grads[0], plain[0])


def test_a_threshold_below_zero_has_no_margin_above_it():
    """A share of a negative threshold is a higher one: neurons that fire earn their message all the same."""

    class Low(nn.Neurons):
        def step(self, current, state, p):
            return self.fire(current, -p.threshold), (current,)

    x = torch.tensor([[[-0.9, -0.4, -1.5, 0.3]]]).requires_grad_()
    spikes = Low(margin=0.5)(x)
    assert spikes.tolist() == [[[1, 1, 0, 1]]]
    message = torch.tensor([[[1.0, 2, 3, 4]]])
    with spikelfp.functional.credit.backward_pass():
        spikes.backward(message)
    assert x.grad.tolist() == [[[1, 2, 0, 4]]]


@pytest.mark.parametrize("name", ["floor", "margin"])
def test_names_of_options_of_neurons_are_taken(name):
    with pytest.raises(UserError, match=f"p.{name} is taken"):
        type("Own", (nn.Neurons,), {name: nn.Decay()})


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_an_own_integrator_is_the_fused_one(rule):
    found = []
    for kind in (nn.LI, OwnLI):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(5, 4), nn.LIF(), nn.Linear(4, 3), kind(0.8))
        rules.attach(net, rule)
        x = torch.rand(8, 6, 5).requires_grad_()
        out = net(x)
        reward = torch.randn(out.shape)
        (out.backward if isinstance(rule, rules.Gradient) else lambda r, o=out: propagate(o, r))(reward)
        found.append([out.detach(), *(p.grad for p in net.parameters()), x.grad])
    for own, fused in zip(*found, strict=True):
        torch.testing.assert_close(own, fused, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rule", [rules.Epsilon(), rules.Surrogate()], ids=repr)
def test_recurrence_in_a_step_is_a_recurrent_layer(rule):
    """``0.5 S[t−1]`` beside the current, as one flow, is what a frozen connection of weight 0.5 does."""
    x = torch.randn(9, 3, 4).requires_grad_()
    connection = nn.Linear(4, 4, bias=False)
    with torch.no_grad():
        connection.weight.copy_(0.5 * torch.eye(4))
    connection.requires_grad_(False)
    found = []
    for layer in (nn.RecurrentLIF(connection, 0.9, 0.7), OwnRecurrent(0.9, 0.7)):
        rules.attach(layer, rule)
        out = layer(x)
        reward = torch.linspace(-1, 2, out.numel()).view(out.shape)
        (out.backward if isinstance(rule, rules.Gradient) else lambda r, o=out: propagate(o, r))(reward)
        found.append((out.detach(), x.grad))
        x.grad = None
    assert torch.equal(found[0][0], found[1][0])
    torch.testing.assert_close(found[1][1], found[0][1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("make", [lif, synaptic])
def test_pieces_are_the_whole_and_recomputation_the_plain_run(make):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 4), make(True, True), nn.Linear(4, 3), make(True, False))
    x = torch.randn(10, 6, 5)
    whole = net(x)
    first, state = net.run(x[:4])
    then, _ = net.run(x[4:], state)
    assert torch.equal(torch.cat([first, then]), whole)
    reward = torch.randn(whole.shape)
    propagate(whole, reward)
    plain = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    out, _ = nn.recomputed(net, x, 3)
    assert torch.equal(out, whole)
    propagate(out, reward)
    for own, p in zip(plain, net.parameters(), strict=True):
        torch.testing.assert_close(p.grad, own, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "layer",
    [
        nn.LIF(), nn.Synaptic(), nn.LI(), OwnSynaptic(), nn.MultiSpikeLIF(), nn.LIF(*VECTORS), nn.RecurrentLIF(4),
        nn.RecurrentSynaptic(4, 0.7, *VECTORS),
    ],
    ids=repr,
)  # fmt: skip
def test_a_trace_tells_all_that_neurons_do(layer):
    x = torch.randn(7, 3, 4).requires_grad_()
    outputs, after = layer.run(x)
    trace, same = layer.run(x, trace=True)
    assert isinstance(trace, nn.Trace)
    name = "outputs" if isinstance(layer, nn.LI) else "spikes"
    assert trace._fields == (name, *(own for own in layer.states if own != name))
    assert torch.equal(trace[0], outputs)
    states = after if isinstance(after, tuple) else (after,)
    for key, last, own in zip(layer.states, states, same if isinstance(same, tuple) else (same,), strict=True):
        row = getattr(trace, key)
        assert row.requires_grad == (key == name)
        assert row.shape == x.shape
        torch.testing.assert_close(row[-1], last)
        torch.testing.assert_close(own, last)
    if trace._fields[0] == "spikes" and not isinstance(layer, nn.MultiSpikeLIF):
        assert torch.equal((trace.membrane > torch.as_tensor(layer.threshold)).float(), trace.spikes)
        assert trace.spikes.requires_grad
    again = pickle.loads(pickle.dumps(nn.Trace(**{k: v.detach() for k, v in trace._asdict().items()})))
    assert torch.equal(again.membrane, trace.membrane)
    with pytest.raises(AttributeError, match="has no 'current'"):
        _ = trace.current


def test_a_state_is_a_named_tuple_that_can_be_kept():
    _, state = OwnSynaptic().run(torch.randn(3, 2, 4))
    assert state._fields == ("synapse", "membrane")
    again = pickle.loads(pickle.dumps(state))
    assert torch.equal(again.membrane, state.membrane)


@pytest.mark.parametrize("kind", [nn.RecurrentLIF, nn.RecurrentSynaptic, nn.RecurrentALIF])
@pytest.mark.parametrize("reset", RESETS)
def test_recurrent_kinds_are_their_own_step(kind, reset):
    torch.manual_seed(0)
    layer = kind(4, beta=VECTORS[0], threshold=VECTORS[1], reset=reset, learn_beta=True).double()
    x, reward = torch.randn(9, 3, 4).double().requires_grad_(), torch.randn(9, 3, 4).double()
    found = []
    for run in (layer.run, layer.by_steps):
        out, _ = run(x)
        propagate(out, reward)
        found.append([out.detach(), x.grad, *(p.grad for p in layer.parameters())])
        layer.zero_grad()
        x.grad = None
    assert torch.equal(found[0][0], found[1][0])
    for fused, own in zip(*found, strict=True):
        torch.testing.assert_close(own, fused)


class Wrong(nn.Neurons):
    def __init__(self, step):
        super().__init__()
        self._step = step

    def step(self, current, state, p):
        return self._step(self, current, state, p)


WRONG = {
    "spikes of its own": (
        lambda n, i, s, p: (2 * n.fire(n.integrate(s.membrane, p, i), p.threshold), (i,)), "as self.fire",
    ),
    "no state": (lambda n, i, s, p: i, r"step returns \(outputs, \(membrane,\)\)"),
    "too many states": (lambda n, i, s, p: (i, (i, i)), "with a state of 2"),
    "another shape": (lambda n, i, s, p: (i[:1], (i,)), r"outputs of the shape of its current, \[2, 4\]"),
    "another kind": (lambda n, i, s, p: (i, (i.double(),)), "membrane.*float64"),
    "no tensor": (lambda n, i, s, p: (i, (0.0,)), "membrane.*got float"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_steps_that_are_refused(case):
    step, words = WRONG[case]
    with pytest.raises(UserError, match=words):
        Wrong(step)(torch.randn(3, 2, 4, requires_grad=True))


def test_states_that_are_refused():
    layer, x = OwnSynaptic(), torch.randn(3, 2, 4)
    for state in (torch.zeros(2, 4), (torch.zeros(2, 4),), (torch.zeros(2, 4), torch.zeros(3, 4))):
        with pytest.raises(ShapeError, match="state"):
            layer.run(x, state)


CARELESS = {
    "changes its state": (lambda n, i, s, p: (n.fire(s.membrane.add_(i), p.threshold), (s.membrane,)), "in place"),
    "spikes without a graph": (lambda n, i, s, p: ((i > 0).to(i.dtype), (i,)), "have no graph"),
}  # fmt: skip


@pytest.mark.parametrize("case", CARELESS)
def test_steps_that_would_go_wrong_in_silence_are_refused(case):
    step, words = CARELESS[case]
    with pytest.raises(UserError, match=words):
        Wrong(step)(torch.randn(3, 2, 4, requires_grad=True))


@pytest.mark.parametrize("kind", [nn.LIF, nn.Synaptic, nn.LI, nn.Lapicque, nn.RecurrentLIF, nn.RecurrentSynaptic])
def test_a_step_of_a_derived_kind_is_run_in_place_of_the_scan(kind):
    made = {nn.Lapicque: {"beta": 0.9}, nn.RecurrentLIF: {"recurrent": 4}, nn.RecurrentSynaptic: {"recurrent": 4}}

    class Turned(kind):
        def step(self, current, state, p):
            return super().step(-current, state, p)

    torch.manual_seed(0)
    own, x = Turned(**made.get(kind, {})), 5 * torch.randn(7, 2, 4)
    plain = kind(**made.get(kind, {}))
    plain.load_state_dict(own.state_dict())
    torch.testing.assert_close(own(x), plain.by_steps(-x)[0])
    assert not torch.equal(own(x), plain(x))


@pytest.mark.parametrize("names", ["membrane", ("a", "a"), ("_a",), ("a b",), ("class",), (1,), None])
def test_names_of_states_that_are_none(names):
    with pytest.raises(UserError, match="states"):
        type("Named", (nn.Neurons,), {"states": names})


def test_a_constant_that_was_not_declared_is_told_how():
    with pytest.raises(AttributeError, match=r"p\.beta, .*no p\.kappa.*kappa = nn\.Decay\(\)"):
        Wrong(lambda n, i, s, p: (p.kappa * i, (i,)))(torch.randn(3, 2, 4))


MIXED = [
    lambda: nn.LIF(0.9, 0.5), lambda: nn.Synaptic(0.7, 0.9, 0.5), lambda: nn.Lapicque(0.9, threshold=0.5),
    lambda: nn.RecurrentLIF(4, threshold=0.5), lambda: nn.RecurrentSynaptic(4, threshold=0.5),
]  # fmt: skip


@pytest.mark.parametrize("make", MIXED)
@pytest.mark.parametrize("rule", [rules.Epsilon(), rules.Surrogate()], ids=repr)
@pytest.mark.parametrize("first", [False, True])
def test_traced_and_fused_parts_of_a_sequence_are_the_whole(make, rule, first):
    torch.manual_seed(0)
    layer, x = make().double(), torch.randn(9, 3, 4).double().requires_grad_()
    rules.attach(layer, rule)
    reward, found = torch.randn(9, 3, 4).double(), []
    for parts in (False, True):
        if parts:
            one, state = layer.run(x[:4], trace=first)
            other, _ = layer.run(x[4:], state, trace=not first)
            out = torch.cat([one.spikes, other] if first else [one, other.spikes])
        else:
            out = layer(x)
        out.backward(reward) if isinstance(rule, rules.Gradient) else propagate(out, reward)
        found.append([out.detach(), x.grad, *(p.grad for p in layer.parameters())])
        layer.zero_grad()
        x.grad = None
    for whole, pieces in zip(*found, strict=True):
        torch.testing.assert_close(pieces, whole, rtol=1e-10, atol=1e-10)
