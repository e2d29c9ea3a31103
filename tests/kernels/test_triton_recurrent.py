"""The Triton kernels of recurrent neurons against the loop over steps: in Triton's interpreter, and on CUDA.

``tests/kernels/test_triton_programs.py`` runs the CPU part of this file in a process with ``TRITON_INTERPRET=1``.
"""

import os

import pytest
import torch
from reference import DENOMINATORS, RESETS

from spikelfp import kernels, nn, propagate, rewards, rules
from spikelfp.functional import recurrent as fused

pytest.importorskip("triton")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
interpreted = pytest.mark.skipif(not INTERPRETED, reason="runs in another process, with TRITON_INTERPRET=1")
DEVICES = [pytest.param("cpu", marks=interpreted), pytest.param("cuda", marks=pytest.mark.gpu)]
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-11}

pytestmark = pytest.mark.parametrize("device", DEVICES)


def layer_of(kind, n, dtype, **options):
    recurrent = nn.Linear(n, n, options.pop("bias", True))
    recurrent.weight.data = (recurrent.weight.data * 4096).round() / 4096  # sums are exact in any order
    if recurrent.bias is not None:
        recurrent.bias.data = (recurrent.bias.data * 4096).round() / 4096
    layer = nn.RecurrentLIF(recurrent, **options) if kind == "lif" else nn.RecurrentSynaptic(recurrent, 0.7, **options)
    return layer.to(dtype)


def compare(layer, x, device, monkeypatch, states=None, ends=False, dtype=torch.float64):
    """Spikes and updates by the loop on the CPU, and by Triton on ``device``."""
    found, reward = [], torch.randn(x.shape, dtype=dtype)
    for name, where in (("torch", "cpu"), ("triton", device)):
        monkeypatch.setenv(kernels.KERNELS, name)
        layer.to(where).zero_grad()
        moved = x[0].to(where).expand(x.shape) if x.stride(0) == 0 else x.to(where)
        given = moved.detach().requires_grad_()
        state = None if states is None else tuple(s.detach().to(where).requires_grad_() for s in states)
        if name == "triton":
            kernel = fused.kernel_for(given, layer.recurrent, layer.rule, None if state is None else state[0])
            assert kernel.__name__.endswith("recurrent_triton")
        out, after = layer.run(given, state)
        roots, given_rewards = [out], [reward.to(where)]
        if ends:
            roots, given_rewards = [out, *after[1:]], [reward.to(where), *(torch.ones_like(a) for a in after[1:])]
        propagate(roots, given_rewards)
        credit = [given.grad.sum(0) if x.stride(0) == 0 else given.grad, *(s.grad for s in state or ())]
        credit += [p.grad for p in layer.parameters()]
        found.append((out.detach().cpu(), [None if c is None else c.cpu().clone() for c in credit]))
    assert torch.equal(found[0][0], found[1][0])
    for a, b in zip(found[0][1], found[1][1], strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            scale = max(float(a.abs().max()), 1e-30)
            torch.testing.assert_close(b, a, rtol=0, atol=TOLERANCE[dtype] * scale)


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("denominator", DENOMINATORS)
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("kind", ["lif", "synaptic"])
def test_spikes_and_updates_are_those_of_the_loop(kind, reset, denominator, dtype, device, monkeypatch):
    layer = layer_of(kind, 19, dtype, reset=reset, denominator=denominator, threshold=0.5, learn_beta=True)
    compare(layer, torch.randn(7, 3, 19, dtype=dtype) * 0.7, device, monkeypatch, dtype=dtype)


@pytest.mark.parametrize(("floor", "margin"), [(0.0, 0.5), (1.0, 0.8), (2.0, 1.0)])
@pytest.mark.parametrize("kind", ["lif", "synaptic"])
def test_floor_and_margin(kind, floor, margin, device, monkeypatch):
    options = {"threshold": torch.linspace(0.3, 0.7, 19), "floor": floor, "margin": margin}
    layer = layer_of(kind, 19, torch.float64, **options)
    compare(layer, torch.randn(7, 3, 19).double() * 0.7, device, monkeypatch)


@pytest.mark.parametrize("kind", ["lif", "synaptic"])
@pytest.mark.parametrize("ends", [False, True])
def test_states_in_and_out(kind, ends, device, monkeypatch):
    layer = layer_of(kind, 11, torch.float64, threshold=0.4, bias=False)
    states = [(torch.rand(2, 11) < 0.3).double(), *torch.randn(2 if kind == "synaptic" else 1, 2, 11).double()]
    compare(layer, torch.randn(6, 2, 11).double(), device, monkeypatch, states, ends)


@pytest.mark.parametrize("drive", [0.0, 3.0])
def test_silent_and_busy(drive, device, monkeypatch):
    layer = layer_of("lif", 33, torch.float64, bias=drive > 0)
    compare(layer, torch.randn(5, 2, 33).double() * drive + drive / 3, device, monkeypatch)


def test_one_step_and_a_constant_input(device, monkeypatch):
    layer = layer_of("synaptic", 8, torch.float64, threshold=0.3)
    compare(layer, torch.randn(1, 3, 8).double(), device, monkeypatch)
    compare(layer, nn.constant(torch.rand(3, 8).double(), 5), device, monkeypatch)


def test_hidden_neurons_and_gradients(device, monkeypatch):
    net = nn.Sequential(nn.Linear(9, 14), layer_of("lif", 14, torch.float64, threshold=0.4), nn.Linear(14, 3), nn.LIF())
    net, x, labels = net.double(), torch.rand(6, 4, 9).double() * 2, torch.randint(3, (4,))
    found = []
    for name, where in (("torch", "cpu"), ("triton", device)):
        monkeypatch.setenv(kernels.KERNELS, name)
        net.to(where).zero_grad()
        spikes = net(x.to(where))
        propagate(spikes, rewards.SpikeSequence()(spikes, labels.to(where)))
        with rules.using(net, rules.Surrogate()):
            (net(x.to(where)) * torch.arange(3, device=where)).sum().backward()
        found.append((spikes.detach().cpu(), [p.grad.cpu().clone() for p in net.parameters()]))
    assert torch.equal(found[0][0], found[1][0])
    for a, b in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.gpu
def test_a_wide_layer_on_a_device(device, monkeypatch):
    if device == "cuda":
        layer = layer_of("lif", 512, torch.float32, threshold=0.6)
        compare(layer, torch.randn(50, 16, 512) * 0.4, device, monkeypatch, dtype=torch.float32)
