"""Weight decay and the cap of weights under the update of LFP, ``d = |w| Σ m a``, against formulas in plain floats."""

import math
from functools import partial

import pytest
import torch
from reference import PAPER

from spikelfp import nn, propagate, rewards
from spikelfp.functional.lif import LIFParameters, lif_scan, reward_scan
from spikelfp.rules import Epsilon, lending
from spikelfp.training import TemporalTrainer
from spikelfp.training.optim import adamw, optimizers

T, B, IN, OUT, STEPS = 5, 6, 4, 3, 3
LR, DECAY = 0.05, 0.2


def net(**neuron):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(IN, OUT), nn.LIF(0.9, 0.5, **PAPER | neuron)).double()


def data():
    torch.manual_seed(2)
    return torch.rand(B, IN, dtype=torch.float64), torch.arange(B) % OUT


def slow_update(weight, bias, x, y):
    """``d`` of one layer, from the scan and sums over steps, samples and connections; a mean over the batch."""
    p = LIFParameters(0.9, 0.5)
    current = (x @ weight.T + bias).repeat(T, 1, 1)
    rest = torch.zeros(B, OUT, dtype=torch.float64)
    trace = lif_scan(current, rest, p)
    reward = rewards.SpikeSequence()(trace.spikes, y)
    messages, _ = reward_scan(reward, current, trace.membrane, rest, p, 1e-6)
    d_weight, d_bias = torch.zeros_like(weight), torch.zeros_like(bias)
    for t in range(T):
        for b in range(B):
            for j in range(OUT):
                d_bias[j] += bias[j].abs() * messages[t, b, j] / B
                for i in range(IN):
                    d_weight[j, i] += weight[j, i].abs() * messages[t, b, j] * x[b, i] / B
    return d_weight, d_bias


def slow_run(optimizer, cap):
    """Weights after some steps; every optimiser from its formula, for each weight by itself."""
    made, (x, y) = net(), data()
    values = [p.detach().clone() for p in made.parameters()]
    first, second = [torch.zeros_like(v) for v in values], [torch.zeros_like(v) for v in values]
    for step in range(1, STEPS + 1):
        updates = slow_update(*values, x, y)
        for w, d, m, v in zip(values, updates, first, second, strict=True):
            flat = [each.view(-1) for each in (w, d, m, v)]
            for k in range(w.numel()):
                own, up = float(flat[0][k]), float(flat[1][k])
                if optimizer == "sgd":
                    own += LR * (up - DECAY * own)
                elif optimizer == "momentum":
                    flat[2][k] = 0.5 * flat[2][k] + 0.5 * (up - DECAY * own)
                    own += LR * float(flat[2][k])
                else:
                    g = -up + (DECAY * own if optimizer == "adam" else 0.0)
                    own *= 1 - (LR * DECAY if optimizer == "adamw" else 0.0)
                    flat[2][k] = 0.9 * flat[2][k] + 0.1 * g
                    flat[3][k] = 0.99 * flat[3][k] + 0.01 * g * g
                    mean, spread = float(flat[2][k]) / (1 - 0.9**step), float(flat[3][k]) / (1 - 0.99**step)
                    own -= LR * mean / (math.sqrt(spread) + 1e-8)
                flat[0][k] = min(max(own, -cap), cap) if cap else own
    return values


def trainer(made, optimizer, cap=None, **options):
    more = {"sgd": {"momentum": 0.0}, "momentum": {"momentum": 0.5}}.get(optimizer, {})
    return TemporalTrainer(
        made, reward=rewards.SpikeSequence(), lr=LR, steps=T, batch_size=B, schedule=None, wake=False, max_weight=cap,
        optimizer=lambda p, lr: optimizers[optimizer](p, lr, weight_decay=DECAY, **more), **options,
    )  # fmt: skip


@pytest.mark.parametrize("cap", [None, 0.2])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam", "adamw"])
def test_each_weight_moves_by_the_formula(optimizer, cap):
    made = net()
    trainer(made, optimizer, cap).fit(data(), STEPS)
    for fast, slow in zip(made.parameters(), slow_run(optimizer, cap), strict=True):
        torch.testing.assert_close(fast.detach(), slow, atol=1e-6, rtol=1e-5)
    if cap is not None:
        assert max(float(p.detach().abs().max()) for p in made.parameters()) == pytest.approx(cap)


def test_decay_is_a_punishment_that_all_connections_share():
    """``d − λ w = |w| (Σ m a − λ sign w)``: decay takes λ from what each unit of weight has earned."""
    made, (x, y) = net(), data()
    with lending(made, Epsilon()):
        outputs = made(nn.constant(x, T))
        propagate(outputs, rewards.SpikeSequence()(outputs, y), weight=1 / B)
    w = made[0].weight.detach()
    earned = -made[0].weight.grad / w.abs()
    torch.testing.assert_close(-made[0].weight.grad - DECAY * w, w.abs() * (earned - DECAY * w.sign()))


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam", "adamw"])
def test_decays_of_neurons_are_left_alone(optimizer, named):
    """A β that learns would go to 0 with the weights: neither decay nor the cap applies to it."""
    betas = []
    for decay in (0.0, 0.5):
        made = net(learn_beta=True)
        with torch.no_grad():
            for p in made[0].parameters():
                p.zero_()  # no spikes, no credit: nothing but decay can move anything
        chosen = partial(optimizers[optimizer], weight_decay=decay) if named else optimizers[optimizer]
        each = TemporalTrainer(
            made, reward=rewards.SpikeSequence(), optimizer=chosen, lr=LR, steps=T, batch_size=B, schedule=None,
            wake=False, max_weight=0.5,
        )  # fmt: skip
        each.fit(data(), 2)
        betas.append(float(made[1].beta))
        groups = each.optimizer.param_groups
        assert {group["weight_decay"] for group in groups} >= {decay if named else groups[0]["weight_decay"]}
    assert betas[0] == betas[1] == pytest.approx(0.9)


def test_training_with_spared_decays_resumes_bit_for_bit(tmp_path):
    def made():
        return TemporalTrainer(
            net(learn_beta=True), reward=rewards.SpikeSequence(), optimizer=partial(adamw, weight_decay=0.1), lr=LR,
            steps=T, batch_size=2,
        )  # fmt: skip

    whole = made()
    whole.fit(data(), 2)
    first = made()
    first.fit(data(), 2, after_step=lambda position: first.save(tmp_path / "c.pt") if position.step == 4 else None)
    second = made()
    second.load(tmp_path / "c.pt")
    second.fit(data(), 2)
    assert len(whole.optimizer.param_groups) == 2
    for one, other in zip(whole.net.parameters(), second.net.parameters(), strict=True):
        assert torch.equal(one, other)
