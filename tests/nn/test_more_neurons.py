"""Alpha, Lapicque and ALIF: against snnTorch, against neurons written out in plain Python, and refusals."""

import math

import pytest
import torch
from reference import RESETS

from spikelfp import TemporalTrainer, data, nn, propagate, rules
from spikelfp.errors import UserError

VECTOR = torch.tensor([0.5, 0.7, 0.9, 0.95])
KINDS = {
    "Alpha": lambda: nn.Alpha(0.9, 0.7, 0.3),
    "Alpha, vectors": lambda: nn.Alpha(VECTOR, VECTOR * 0.5, VECTOR),
    "Lapicque": lambda: nn.Lapicque(R=2.0, C=3.0, learn_beta=True),
    "Lapicque, vectors": lambda: nn.Lapicque(C=VECTOR * 2, R=3.0, threshold=VECTOR),
    "ALIF": lambda: nn.ALIF(learn_beta=True),
    "ALIF, vectors": lambda: nn.ALIF(VECTOR, VECTOR, rho=VECTOR, phi=VECTOR - 0.5, learn_beta=True),
}


def currents(steps=40, samples=6, features=4):
    return torch.randn(steps, samples, features, generator=torch.Generator().manual_seed(0)) * 0.8 + 0.3


def peer(neuron, x, *state):
    spikes = []
    for step in x:
        out, *state = neuron(step, *state)
        spikes.append(out)
    return torch.stack(spikes), state


@pytest.mark.parametrize(("alpha", "beta", "threshold"), [(0.9, 0.7, 0.4), (0.95, 0.9, 0.2), (0.6, 0.1, 0.3)])
def test_alpha_is_snntorchs_spike_for_spike(alpha, beta, threshold):
    snn = pytest.importorskip("snntorch")
    x, zeros = currents(), torch.zeros(6, 4)
    theirs = snn.Alpha(alpha=alpha, beta=beta, threshold=threshold, reset_mechanism="zero")
    expected, (excitation, inhibition, membrane) = peer(theirs, x, zeros, zeros, zeros)
    spikes, state = nn.Alpha(alpha, beta, threshold).run(x)
    assert 20 < expected.sum() < 900
    assert torch.equal(spikes, expected)
    for own, there in zip(state, (excitation, inhibition, membrane), strict=True):
        torch.testing.assert_close(own, there, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "given", [{"R": 2.0, "C": 3.0}, {"beta": 0.7}, {"beta": 0.8, "R": 1.5}, {"beta": 0.6, "C": 2.0}]
)
@pytest.mark.parametrize("time_step", [1.0, 0.5])
def test_lapicque_is_snntorchs_spike_for_spike(given, time_step):
    snn = pytest.importorskip("snntorch")
    x, zeros = currents(), torch.zeros(6, 4)
    options = {"R": False, "C": False, "beta": False, **given}
    expected, (membrane,) = peer(snn.Lapicque(**options, time_step=time_step, threshold=0.3), x, zeros)
    layer = nn.Lapicque(**given, time_step=time_step, threshold=0.3)
    spikes, last = layer.run(x)
    assert 20 < expected.sum() < 900
    assert torch.equal(spikes, expected)
    torch.testing.assert_close(last, membrane, rtol=1e-4, atol=1e-5)


def test_circuit_and_decay_of_lapicque_follow_each_other():
    layer = nn.Lapicque(R=4.0, C=2.0, time_step=0.5)
    assert layer.beta == 1 - 0.5 / 8
    layer.R = 2.0
    assert layer.beta == 1 - 0.5 / 4
    layer.beta = 0.75
    assert layer.R == 1.0
    layer.C = VECTOR * 2
    torch.testing.assert_close(layer.beta, 1 - 0.25 / VECTOR)
    assert set(layer.state_dict()) == {"Cs", "betas"}
    for name, value in (("R", 0.1), ("R", -1.0), ("beta", 1.0), ("C", torch.nan)):
        with pytest.raises(UserError):
            setattr(layer, name, value)
        torch.testing.assert_close(layer.beta, 1 - 0.25 / VECTOR)
        assert layer.R == 1.0


def alif_run(currents, beta, theta, rho, phi, reset):
    """One neuron, a step after the other (Bellec et al. 2020, eq. 9-10)."""
    u = a = 0.0
    fired, spikes, membranes, adaptations = False, [], [], []
    for current in currents:
        if reset == "subtract":
            u = beta * u + current - (theta if fired else 0.0)
        elif reset == "immediate":
            u = beta * (u - (theta if fired else 0.0)) + current
        else:
            u = (0.0 if fired else beta * u) + current
        fired = u > theta + phi * a
        a = rho * a + fired
        spikes.append(float(fired))
        membranes.append(u)
        adaptations.append(a)
    return spikes, membranes, adaptations


@pytest.mark.parametrize("floor", [0.0, 1.0])
@pytest.mark.parametrize("reset", RESETS)
def test_alif_is_what_its_equations_say(reset, floor):
    x = currents().double().requires_grad_()
    beta, theta, rho, phi = (each.double() for each in (VECTOR, VECTOR + 0.1, 1 - VECTOR / 2, VECTOR / 3))
    layer = nn.ALIF(beta, theta, reset, rho=rho, phi=phi, floor=floor)
    trace, _ = layer.run(x, trace=True)
    rewards = torch.linspace(-1, 2, x.numel(), dtype=x.dtype).view(x.shape)
    propagate(layer(x), rewards)
    for b in range(6):
        for j in range(4):
            own = x[:, b, j].tolist()
            found = alif_run(own, *(float(each[j]) for each in (beta, theta, rho, phi)), reset)
            for name, values in zip(("spikes", "membrane", "adaptation"), found, strict=True):
                torch.testing.assert_close(getattr(trace, name)[:, b, j].tolist(), values)
            messages, internal = [0.0] * len(own), 0.0
            for t in reversed(range(len(own))):
                decayed = float(beta[j]) * (found[1][t - 1] if t else 0.0)
                inflow = max(abs(decayed) + abs(own[t]) + 1e-6, floor * float(theta[j]))
                messages[t] = (float(rewards[t, b, j]) + internal) / inflow
                internal = decayed * messages[t]
            torch.testing.assert_close(x.grad[:, b, j].tolist(), messages)


@pytest.mark.parametrize("floor", [0.0, 1.0])
def test_credit_through_alpha_is_its_kernel(floor):
    x = currents(12).double().requires_grad_()
    alpha, beta, theta, eps = 0.9, 0.6, 0.5, 1e-6
    layer = nn.Alpha(alpha, beta, theta, floor=floor)
    trace, _ = layer.run(x, trace=True)
    rewards = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(2))
    propagate(layer(x), rewards)
    tau = 1 + math.log(alpha) / (math.log(beta) - math.log(alpha))
    inflow = (tau * trace.excitation).abs() + (tau * trace.inhibition).abs() + eps
    n = rewards / inflow.clamp(min=floor * theta)
    expected = torch.zeros_like(n)
    for s in range(12):
        for t in range(s, 12):
            expected[s] += tau * (alpha ** (t - s) - beta ** (t - s)) * n[t]
    torch.testing.assert_close(x.grad, expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", [rules.Epsilon(), rules.Surrogate(), rules.Gradient()], ids=repr)
def test_pieces_recomputation_and_traces(kind, rule):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 4), KINDS[kind](), nn.Linear(4, 3), nn.LI())
    rules.attach(net, rule)
    x = currents(10)
    whole, _ = net.run(x)
    first, state = net.run(x[:4])
    torch.testing.assert_close(torch.cat([first, net.run(x[4:], state)[0]]), whole)
    reward = torch.randn(whole.shape)

    def send(out):
        (out.backward if isinstance(rule, rules.Gradient) else lambda r: propagate(out, r))(reward)
        found = [None if p.grad is None else p.grad.clone() for p in net.parameters()]
        net.zero_grad()
        return found

    for own, again in zip(send(whole), send(nn.recomputed(net, x, 3)[0]), strict=True):
        torch.testing.assert_close(again, own, rtol=1e-4, atol=1e-5)
    trace, _ = net[1].run(net[0](x), trace=True)
    assert torch.equal(trace.spikes, net[1](net[0](x)))
    assert set(net[1].states) <= set(trace._fields)


@pytest.mark.parametrize(
    ("kind", "method"), [("Alpha", "lfp"), ("Lapicque", "lfp"), ("ALIF", "lfp"), ("ALIF", "surrogate")]
)
def test_they_learn(kind, method):
    digits = data.load("digits")
    torch.manual_seed(0)
    hidden = {
        "Alpha": lambda: nn.Alpha(0.9, 0.5, 0.2),
        "Lapicque": lambda: nn.Lapicque(R=8.0, C=1.0),
        "ALIF": lambda: nn.ALIF(rho=0.9),
    }[kind]()
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), hidden, nn.Linear(32, 10), nn.LIF())
    trainer = TemporalTrainer(net, method=method, steps=8, lr=1e-2)
    trainer.fit(digits.train, 10)
    assert trainer.evaluate(digits.test).accuracy > 0.75


BAD = {
    "alpha below beta": (lambda: nn.Alpha(0.5, 0.7), "below alpha.*alpha=0.5, beta=0.7"),
    "alpha below beta later": (lambda: setattr(layer := nn.Alpha(), "beta", 0.95) or layer(currents()), "below alpha"),
    "alpha subtracts": (lambda: nn.Alpha(reset="subtract"), 'use reset="zero"'),
    "alpha increment": (lambda: nn.Alpha(denominator="increment"), "'inflow'"),
    "nothing": (lambda: nn.Lapicque(), "got none"),
    "R alone": (lambda: nn.Lapicque(R=1.0), "got R$"),
    "all three": (lambda: nn.Lapicque(0.5, 1.0, 1.0), "got beta, R, C"),
    "short RC": (lambda: nn.Lapicque(R=1.0, C=0.5), "Δt is below RC.*= -1"),
    "small beta": (lambda: nn.Lapicque(0.2), "above 1/e"),
    "beta of 1": (lambda: nn.Lapicque(1.0), "below 1"),
    "negative R": (lambda: nn.Lapicque(R=-1.0, C=3.0), "R is a finite number above 0, got -1"),
    "no time": (lambda: nn.Lapicque(R=1.0, C=3.0, time_step=0), "time_step"),
    "phi": (lambda: nn.ALIF(phi=torch.tensor([0.1, -0.1])), r"phi is a finite number of 0 or more.*at \[1\]"),
    "rho": (lambda: nn.ALIF(rho=1.5), r"the decay rho must lie in \(0, 1\]"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_refused(case):
    make, words = BAD[case]
    with pytest.raises(UserError, match=words):
        make()
