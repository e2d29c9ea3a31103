"""Updates equal those of the published implementation, lfprop 1.0.0: its formulas, and the package where it is."""

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from reference import PAPER
from references import published

from spikelfp import nn, propagate, rewards

BETA, THRESHOLD = 0.9, 1.0
SIZES = [12, 20, 15, 5]
VARIABLE = "SPIKELFP_BENCH_LFPROP"
"""The interpreter that has the package; the benchmarks read the same variable."""


def network():
    net = nn.Sequential()
    for a, b in pairwise(SIZES):
        net.extend([nn.Linear(a, b), nn.LIF(BETA, THRESHOLD, "subtract", "increment", **PAPER)])
    return net


def task(steps, dtype):
    """A three-layer network, input and labels, so strong that all layers fire."""
    net = network().to(dtype)
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(3)
    return net, torch.rand(steps, 8, SIZES[0], dtype=dtype) * 2, torch.randint(SIZES[-1], (8,))


def ours(net, x, labels):
    """Spikes, reward and ``d_w`` of every parameter."""
    spikes = net(x)
    assert 0.02 < spikes.mean() < 0.98
    reward = rewards.SpikeSequenceV1(whole_steps=True)(spikes, labels)
    propagate(spikes, reward)
    return spikes.detach(), reward, [-p.grad for p in net.parameters()]


@pytest.mark.parametrize("steps", [1, 14, 15])
def test_feedback_equals_the_published_formulas(steps):
    net, x, labels = task(steps, torch.float64)
    weights = [(m.weight.detach().numpy(), m.bias.detach().numpy()) for m in net if isinstance(m, nn.Linear)]
    record = published.forward(x.numpy(), weights, BETA, THRESHOLD)
    spikes, reward, updates = ours(net, x, labels)
    assert torch.equal(spikes, torch.as_tensor(record[-1]["spikes"]))
    theirs = published.reward(record[-1]["spikes"], labels.numpy())
    torch.testing.assert_close(reward, torch.as_tensor(theirs), rtol=1e-12, atol=1e-12)
    for mine, feedback in zip(updates, published.feedback(record, weights, theirs, BETA), strict=True):
        assert feedback.any()
        torch.testing.assert_close(mine, torch.as_tensor(feedback), rtol=1e-9, atol=1e-9)


def test_feedback_equals_that_of_the_package(tmp_path):
    python = os.environ.get(VARIABLE)
    if not python:
        pytest.skip(f"set {VARIABLE} to a Python that has lfprop 1.0.0")
    net, x, labels = task(15, torch.float32)
    weights = [(layer.weight.detach(), layer.bias.detach()) for layer in net if isinstance(layer, nn.Linear)]
    torch.save({"weights": weights, "x": x, "labels": labels, "beta": BETA, "threshold": THRESHOLD}, tmp_path / "in.pt")
    script = Path(__file__).with_name("lfprop_feedback.py")
    done = subprocess.run(
        [python, str(script), str(tmp_path / "in.pt"), str(tmp_path / "out.pt")], capture_output=True, text=True
    )
    assert done.returncode == 0, f"{python} could not run lfprop ({sys.platform}):\n{done.stderr[-2000:]}"
    theirs = torch.load(tmp_path / "out.pt", weights_only=True)
    spikes, reward, updates = ours(net, x, labels)
    assert torch.equal(spikes, theirs["spikes"])
    torch.testing.assert_close(reward, theirs["reward"], rtol=1e-6, atol=1e-7)
    assert len(theirs["feedback"]) == len(updates)
    for mine, feedback in zip(updates, theirs["feedback"], strict=True):
        scale = feedback.abs().max().item()
        torch.testing.assert_close(mine, feedback, rtol=1e-5, atol=1e-5 * scale)
