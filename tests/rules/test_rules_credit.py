"""Credit step by step, ``credit="step"``: against the formula, and nothing crosses from a step to the one before."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from reference import DENOMINATORS, RESETS

from spikelfp import methods, nn, propagate, rewards, rules
from spikelfp.data.loader import Sequences
from spikelfp.errors import CheckpointError, UserError
from spikelfp.kernels import KERNELS
from spikelfp.methods import LFP
from spikelfp.options import described
from spikelfp.quantized import Quantization
from spikelfp.training import TemporalTrainer

EPS = 0.01
STEP = rules.Epsilon(EPS, credit="step")
STEPS, BATCH, INPUTS, WIDTH = 7, 3, 5, 4


class OwnSynaptic(nn.Neurons):
    """A synaptic current, written as neurons of a user's own."""

    states = ("synapse", "membrane")

    def step(self, current, state, p):
        synapse = 0.8 * state.synapse + current
        membrane = self.integrate(state.membrane, p, synapse)
        return self.fire(membrane, p.threshold), (synapse, membrane)


class OwnLI(nn.Neurons):
    fires = False

    def step(self, current, state, p):
        membrane = p.beta * state.membrane + current
        return membrane, (membrane,)


@dataclass
class Constants:
    """Constants of a kind of neurons that the formula needs."""

    beta: float | torch.Tensor = 0.9
    alpha: float = 0.0
    gain: float = 1.0
    rho: float = 0.0
    phi: float = 0.0
    theta: float = 0.5
    reset: str = "subtract"
    denominator: str = "inflow"


VECTOR = torch.tensor([0.7, 0.9, 1.0, 0.5], dtype=torch.float64)
KINDS = {
    **{
        f"LIF {reset} {denominator}": (
            lambda reset=reset, denominator=denominator: nn.LIF(0.9, 0.5, reset, denominator, learn_beta=True),
            Constants(reset=reset, denominator=denominator),
        )
        for reset in RESETS
        for denominator in DENOMINATORS
    },
    "LIF of many": (lambda: nn.LIF(VECTOR, 0.5, learn_beta=True), Constants(VECTOR)),
    "Lapicque": (lambda: nn.Lapicque(0.9, C=0.5, threshold=0.5, learn_beta=True), Constants(gain=2.0)),
    "Synaptic": (lambda: nn.Synaptic(0.8, 0.9, 0.5, learn_beta=True), Constants(alpha=0.8)),
    "ALIF": (
        lambda: nn.ALIF(0.9, 0.5, "immediate", rho=0.8, phi=0.3, learn_beta=True),
        Constants(rho=0.8, phi=0.3, reset="immediate"),
    ),
    "own": (lambda: OwnSynaptic(0.9, 0.5, "zero", learn_beta=True), Constants(alpha=0.8, reset="zero")),
    **{
        f"RecurrentLIF {reset}": (
            lambda reset=reset: nn.RecurrentLIF(WIDTH, 0.9, 0.5, reset, learn_beta=True),
            Constants(reset=reset),
        )
        for reset in RESETS
    },
    "RecurrentLIF of many": (lambda: nn.RecurrentLIF(WIDTH, VECTOR, 0.5, learn_beta=True), Constants(VECTOR)),
    "RecurrentSynaptic": (
        lambda: nn.RecurrentSynaptic(WIDTH, 0.8, 0.9, 0.5, learn_beta=True), Constants(alpha=0.8),
    ),
    "RecurrentALIF": (
        lambda: nn.RecurrentALIF(WIDTH, 0.9, 0.5, rho=0.8, phi=0.3, learn_beta=True), Constants(rho=0.8, phi=0.3),
    ),
}  # fmt: skip


def network(make, readout=None):
    net = nn.Sequential(nn.Linear(INPUTS, WIDTH), make(), nn.Linear(WIDTH, WIDTH), (readout or make)()).double()
    with torch.no_grad():
        for layer in (net[0], net[2]):
            layer.weight.mul_(3)
    return net


def slow_run(layer, c, current):
    """Spikes, who earns, denominators, what β multiplied, and the spikes of the step before: each ``[T, B, N]``."""
    u = y = a = s = torch.zeros_like(current[0])
    rows, beta = [], c.beta if layer.decay is None else layer.decay  # a decay that learns begins in float32
    for i in current:
        if hasattr(layer, "recurrent"):
            i = i + s @ layer.recurrent.weight.T + layer.recurrent.bias
        y = c.alpha * y + c.gain * i
        v = {"subtract": u, "immediate": u - c.theta * s, "zero": u * (1 - s)}[c.reset]
        now = beta * v + y - (c.theta * s if c.reset == "subtract" else 0)
        gained = u + (beta * u + y - u)
        d = (beta * u).abs() + y.abs() if c.denominator == "inflow" else u.abs() + (gained - u).abs()
        theta = c.theta + c.phi * a
        spikes = (now > theta).double()
        rows.append((spikes, now > layer.margin * theta, (d + EPS).clamp(min=layer.floor * c.theta), v, s))
        u, s, a = now, spikes, c.rho * a + spikes
    return [torch.stack(each) for each in zip(*rows, strict=True)]


@torch.no_grad()
def slow_updates(net, c, x, reward):
    """``−d_w`` of every parameter by name, and the message to the input, from ``n[t] = r[t] / D[t]``."""
    found, records, inputs, earners = {}, [], x, []
    for linear, neurons in ((net[0], net[1]), (net[2], net[3])):
        current = inputs @ linear.weight.T + linear.bias
        spikes, earn, *rest = slow_run(neurons, c, current)
        earners.append(earn)
        records.append((inputs, *rest))
        inputs = spikes
    for first in (2, 0):
        linear, neurons = net[first], net[first + 1]
        given, d, v, before = records.pop()
        n = reward / d
        if neurons.decay is not None:
            total = (v * n).sum((0, 1))
            found[f"{first + 1}.decay"] = -neurons.decay * (total if neurons.decay.dim() else total.sum())
        for name, layer, m, a in (
            (f"{first}", linear, c.gain * n, given),
            (f"{first + 1}.recurrent", getattr(neurons, "recurrent", None), n, before),
        ):
            if layer is not None:
                found[f"{name}.weight"] = -layer.weight.abs() * torch.einsum("tbj,tbi->ji", m, a)
                found[f"{name}.bias"] = -layer.bias.abs() * m.sum((0, 1))
        message = c.gain * n @ linear.weight
        reward = torch.where(earners[0], message, 0) if first else None
    return found, message, inputs


def whole(net, x):
    return net(x)


def traced(net, x):
    for layer in net:
        x = layer.run(x, trace=True)[0].spikes if isinstance(layer, nn.Neurons) else layer(x)
    return x


def one_by_one(net, x):
    state, outputs = None, []
    for step in x.split(1):
        out, state = net.run(step, state)
        outputs.append(out)
    return outputs


def recomputed(net, x):
    return nn.recomputed(net, x, 2)[0]


WAYS = {"whole": whole, "traced": traced, "one by one": one_by_one, "recomputed": recomputed}


def updates_of(net, x, reward, run=whole, rule=STEP):
    net.zero_grad()
    x = x.clone().requires_grad_()
    with rules.using(net, rule):
        outputs = run(net, x)
        propagate(outputs, list(reward.split(1)) if isinstance(outputs, list) else reward)
    outputs = torch.cat(outputs) if isinstance(outputs, list) else outputs
    return {name: p.grad for name, p in net.named_parameters()}, x.grad, outputs.detach()


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, own in expected.items():
        assert own.any(), name
        torch.testing.assert_close(found[name], own, rtol=1e-9, atol=1e-12, msg=lambda text, name=name: name + text)


@pytest.mark.parametrize(("kernels", "way"), [*(("auto", way) for way in WAYS), ("torch", "whole")])
@pytest.mark.parametrize("kind", KINDS)
def test_updates_are_those_of_the_formula(kind, kernels, way, monkeypatch):
    monkeypatch.setenv(KERNELS, kernels)
    make, constants = KINDS[kind]
    net = network(make)
    x = (torch.rand(STEPS, BATCH, INPUTS) < 0.5).double()
    reward = torch.randn(STEPS, BATCH, WIDTH).double()
    expected, to_x, spikes = slow_updates(net, constants, x, reward)
    assert 0.1 < spikes.mean() < 0.9
    found, message, outputs = updates_of(net, x, reward, WAYS[way])
    assert torch.equal(outputs, spikes)
    assert_same(found, expected)
    torch.testing.assert_close(message, to_x, rtol=1e-9, atol=1e-12)
    scanned, _, _ = updates_of(net, x, reward, WAYS[way], rules.Epsilon(EPS))
    assert not torch.allclose(scanned["0.weight"], found["0.weight"], rtol=1e-3)


@pytest.mark.parametrize("make", [lambda: nn.LI(0.8), lambda: OwnLI(0.8)], ids=["LI", "own"])
@pytest.mark.parametrize("kernels", ["auto", "torch"])
def test_a_leaky_integrator_credits_the_current_of_the_step(make, kernels, monkeypatch):
    monkeypatch.setenv(KERNELS, kernels)
    net = nn.Sequential(nn.Linear(INPUTS, WIDTH), make()).double()
    x, reward = torch.randn(STEPS, BATCH, INPUTS).double(), torch.randn(STEPS, BATCH, WIDTH).double()
    found, message, u = updates_of(net, x, reward)
    n = reward / (u + EPS * torch.where(u >= 0, 1.0, -1.0).double())
    weight, bias = net[0].weight.detach(), net[0].bias.detach()
    expected = {"0.weight": -weight.abs() * torch.einsum("tbj,tbi->ji", n, x), "0.bias": -bias.abs() * n.sum((0, 1))}
    if isinstance(net[1], OwnLI):
        found = {name: found[name] for name in expected}
    assert_same(found, expected)
    torch.testing.assert_close(message, n @ weight)
    again, _, _ = updates_of(net, x, reward, one_by_one)
    assert_same({name: again[name] for name in expected}, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_no_message_reaches_the_start_nor_the_steps_before(kind):
    layer, x = KINDS[kind][0]().double(), torch.rand(STEPS, BATCH, WIDTH).double().mul(0.6).requires_grad_()
    layer.rule = STEP
    rest = layer.run(x.detach())[1]
    parts = [rest] if isinstance(rest, torch.Tensor) else list(rest)
    parts = [part.detach().requires_grad_() for part in parts]
    state = parts[0] if isinstance(rest, torch.Tensor) else type(rest)(*parts) if hasattr(rest, "_fields") else parts
    outputs, _ = layer.run(x, tuple(state) if isinstance(state, list) else state)
    reward = torch.zeros_like(outputs)
    reward[4] = 1
    propagate(outputs, reward)
    assert x.grad[4].any()
    assert not x.grad[:4].any()
    assert not x.grad[5:].any()
    assert all(part.grad is None for part in parts)


@pytest.mark.parametrize("kernels", ["auto", "torch"])
@pytest.mark.parametrize("kind", ["LIF subtract inflow", "RecurrentLIF subtract", "RecurrentSynaptic"])
def test_a_constant_input_is_credited_by_each_step(kind, kernels, monkeypatch):
    """Its messages are the mean, and membranes are computed again."""
    monkeypatch.setenv(KERNELS, kernels)
    make, _ = KINDS[kind]
    net = network(make)
    net[1].decay = net[3].decay = None
    image, reward = torch.rand(BATCH, INPUTS).double(), torch.randn(STEPS, BATCH, WIDTH).double()
    found, message, _ = updates_of(net, image, reward, lambda net, x: net(nn.constant(x, STEPS)))
    x = nn.constant(image, STEPS).contiguous()
    expected, to_x, _ = updates_of(net, x, reward)
    assert_same(found, expected)
    torch.testing.assert_close(message, to_x.sum(0))


RULES = {
    name: (lambda name=name: rules.make_rule(name, credit="step")) for name in rules.rules if name != "zero"
} | {"normalised": lambda: rules.Epsilon(EPS, "step", credit="step")}  # fmt: skip


def convolutional():
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1),
        nn.LIF(threshold=0.3),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(12, 6),
        nn.RecurrentLIF(6, threshold=0.3),
        nn.Linear(6, 4),
        nn.LI(0.8),
    ).double()


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_has_it(rule):
    """A sequence credits as its steps do, each rewarded before the next one runs."""
    net, rule = convolutional(), RULES[rule]()
    x = (torch.rand(6, BATCH, 2, 4, 4) < 0.5).double()
    reward = torch.randn(6, BATCH, 4).double()
    found, _, _ = updates_of(net, x, reward, rule=rule)
    net.zero_grad()
    state = None
    with rules.using(net, rule):
        for step, own in zip(x.split(1), reward.split(1), strict=True):
            outputs, state = net.run(step, state)
            propagate(outputs, own)
    assert_same({name: p.grad for name, p in net.named_parameters()}, found)


def test_normalised_rewards_of_a_sequence_take_its_largest():
    net = network(nn.LIF)
    x, reward = torch.rand(STEPS, BATCH, INPUTS).double(), torch.randn(STEPS, BATCH, WIDTH).double()
    one, other = (
        updates_of(net, x, factor * reward, rule=rules.Epsilon(EPS, "sample", credit="step"))[0]
        for factor in (1.0, 5.0)
    )
    assert_same(other, one)


def test_alpha_neurons_are_refused():
    """Their input adds nothing to the membrane of its own step: both synapses take it, with opposite signs."""
    net = nn.Sequential(nn.Linear(INPUTS, WIDTH), nn.Alpha(0.9, 0.7))
    x = torch.rand(STEPS, BATCH, INPUTS)
    with rules.using(net, STEP):
        with pytest.raises(UserError, match=r"Alpha neurons cannot learn.*scan"):
            net(x)
        with torch.no_grad():
            net(x)


def test_the_rule_of_the_neurons_decides():
    """Linear maps have no time: their rule's credit does nothing."""
    x, reward = torch.rand(STEPS, BATCH, INPUTS).double(), torch.randn(STEPS, BATCH, WIDTH).double()
    net = network(lambda: nn.RecurrentLIF(WIDTH, threshold=0.5))
    expected, _, _ = updates_of(net, x, reward)
    scanned, _, _ = updates_of(net, x, reward, rule=rules.Epsilon(EPS))
    recurrent = rules.Composite([("*recurrent", rules.Epsilon(EPS)), (nn.RecurrentLIF, STEP)], rules.Epsilon(EPS))
    assert_same(updates_of(net, x, reward, rule=recurrent)[0], expected)
    other = rules.Composite([("*recurrent", STEP), (nn.RecurrentLIF, rules.Epsilon(EPS))], STEP)
    assert_same(updates_of(net, x, reward, rule=other)[0], scanned)


class EachStep(rewards.Reward):
    """Reward of a step by that step alone."""

    def reward(self, outputs, target):
        return target.double() - 0.5 - 0.3 * outputs.double()


def trainer_of(chunk, rule=STEP, build=convolutional, **options):
    torch.manual_seed(1)
    method = LFP(EachStep(), rule)
    return TemporalTrainer(build(), method=method, chunk=chunk, batch_size=4, lr=0.01, wake=False, **options)


@pytest.mark.parametrize("chunk", [1, 4, 5])
@pytest.mark.parametrize("build", [convolutional, lambda: network(nn.Synaptic)], ids=["conv", "synaptic"])
def test_chunks_of_a_sequence_train_as_the_whole(build, chunk):
    shape = (2, 4, 4) if build is convolutional else (INPUTS,)
    x, labels = Sequences((torch.rand(9, 4, *shape) < 0.5).double(), None), torch.tensor([0, 1, 2, 3])
    plain, chunked = trainer_of(None, build=build), trainer_of(chunk, build=build)
    scanned = trainer_of(None, rules.Epsilon(EPS), build)
    for trainer in (plain, chunked, scanned):
        for _ in range(3):
            trainer.train_step(x, labels)
    pairs = zip(plain.net.named_parameters(), chunked.net.parameters(), strict=True)
    for (name, a), b in pairs:
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10, msg=lambda text, name=name: name + text)
    assert not torch.allclose(next(scanned.net.parameters()), next(plain.net.parameters()), rtol=1e-4)


def test_quantised_training_runs():
    x, labels = Sequences((torch.rand(9, 4, 2, 4, 4) < 0.5).double(), None), torch.tensor([0, 1, 2, 3])
    trainer = trainer_of(None, quantization=Quantization(bits=8))
    before = [p.detach().clone() for p in trainer.net.parameters()]
    trainer.train_step(x, labels)
    assert any(not torch.equal(a, b) for a, b in zip(before, trainer.net.parameters(), strict=True))


def test_a_checkpoint_loads_under_its_own_credit_alone(tmp_path):
    trainer = trainer_of(None)
    trainer.save(tmp_path / "c.pt")
    trainer_of(None).load(tmp_path / "c.pt")
    with pytest.raises(
        CheckpointError,
        match=r"Epsilon\(eps=0\.01, .*credit='step'\) in.*Epsilon\(eps=0\.01, [^c]*constant_statistics=False\)",
    ):
        trainer_of(None, rules.Epsilon(EPS)).load(tmp_path / "c.pt")


def test_rules_tell_their_credit():
    for make in (rules.Epsilon, rules.Zero, rules.ZPlusMinus, rules.Gamma, rules.AlphaBeta):
        scan, step = make(), make(credit="step")
        assert scan == make(credit="scan")
        assert scan != step
        assert "credit" not in repr(scan)
        assert "credit" not in described(scan)
        assert described(step) == f"{make.__name__}(credit='step')"
        assert eval(repr(step), vars(rules)) == step
        assert step.forward_in_time
        assert not scan.forward_in_time
    assert repr(rules.Epsilon()) == "Epsilon(eps=1e-06, normalize=False, constant_statistics=None)"
    assert not rules.Surrogate().forward_in_time


def test_credit_online_is_of_the_method():
    for make in (rules.Epsilon, rules.Zero, lambda credit: rules.make_rule("gamma", credit=credit)):
        with pytest.raises(UserError, match=r'methods\.LFP\(reward, credit="online"\)'):
            make(credit="online")
    assert methods.LFP(rewards.SpikeSequence(), credit="online").credit == "online"


@pytest.mark.parametrize("name", list(rules.rules))
def test_rules_by_name_take_it(name):
    made = rules.make_rule(name, credit="step")
    parts = [made] if isinstance(made, rules.Rule) else [made.default, *(rule for _, rule in made.parts)]
    assert all(part.forward_in_time for part in parts)
    with pytest.raises(UserError, match=r"unknown credit 'stpe'.*'step'"):
        rules.make_rule(name, credit="stpe")


def test_a_rule_without_credit_refuses_it():
    @rules.rules.register("without-credit")
    def _plain():
        return rules.Epsilon()

    try:
        assert rules.make_rule("without-credit", credit="scan") == rules.Epsilon()
        with pytest.raises(UserError, match=r"'without-credit' takes no credit.*'step'.*epsilon"):
            rules.make_rule("without-credit", credit="step")
    finally:
        rules.rules.remove("without-credit")


def test_steps_leave_no_graph_behind():
    """The state that a step leaves does not hold the step before, whatever the neurons."""
    for make, _ in KINDS.values():
        net = nn.Sequential(nn.Linear(INPUTS, WIDTH), make()).double()
        with rules.using(net, STEP):
            graphs, state = [], None
            for step in torch.rand(3, 1, BATCH, INPUTS).double():
                out, state = net.run(step, state)
                graphs.append(_nodes(out.grad_fn))
        assert len({len(each) for each in graphs}) == 1
        assert not any(one & other for one, other in pairwise(graphs))


def _nodes(node):
    """The nodes below, without those of parameters."""
    found, waiting = set(), [node]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in found and "AccumulateGrad" not in node.name():
            found.add(node)
            waiting += [child for child, _ in node.next_functions]
    return found
