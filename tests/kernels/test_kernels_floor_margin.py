"""Floor and margin of the LIF rule: every scan against the scalar loop, and today's arithmetic without them."""

import numpy as np
import pytest
import torch
from reference import DENOMINATORS, RESETS, earned, lif_reward

from spikelfp import nn, propagate
from spikelfp.functional.lif import LIFParameters
from spikelfp.kernels import numba_scan, torch_scan

SCANS = [torch_scan, numba_scan]
STEPS, NEURONS = 9, 7


def constants(vectors, dtype=torch.float64):
    """β and θ: numbers, or of each neuron its own."""
    if not vectors:
        return 0.8, 0.5
    return torch.linspace(0.4, 1, NEURONS, dtype=dtype), torch.linspace(0.2, 0.9, NEURONS, dtype=dtype)


@pytest.mark.parametrize("scan", SCANS, ids=["torch", "numba"])
@pytest.mark.parametrize("margin", [1.0, 0.8, 0.5])
@pytest.mark.parametrize("floor", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("denominator", DENOMINATORS)
@pytest.mark.parametrize("reset", RESETS)
def test_messages_are_those_of_the_scalar_loop(reset, denominator, floor, margin, scan):
    current, message, reward = (0.6 * torch.randn(3, STEPS, 1, NEURONS)).double()
    start = 0.3 * torch.randn(1, NEURONS).double()
    current[:, :, 0], start[:, 0] = 0.0, 0.0  # nothing flows in
    for vectors in (False, True):
        beta, theta = constants(vectors)
        p = LIFParameters(beta, theta, reset, denominator, floor, margin)
        membrane = scan.forward(current, start, p).membrane
        for local in (False, True):
            for eps in (1e-6, 0.0):
                found, to_start = scan.reverse(message, reward, None, membrane, start, p, eps, False, None, local)
                for j in range(NEURONS):
                    b, th = (float(c[j]) if vectors else c for c in (beta, theta))
                    own = current[:, 0, j].tolist()
                    heard = earned(message[:, 0, j].tolist(), own, b, th, reset, margin, float(start[0, j]))
                    given = [m + r for m, r in zip(heard, reward[:, 0, j].tolist(), strict=True)]
                    options = {"start": float(start[0, j]), "floor": floor, "local": local}
                    expected = lif_reward(given, own, b, th, reset, denominator, eps, **options)
                    np.testing.assert_allclose(found[:, 0, j], expected, rtol=1e-8, atol=1e-9)
                    first = 0.0 if local else b * expected[0]
                    np.testing.assert_allclose(float(to_start[0, j]), first, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize(("floor", "margin"), [(1.0, 0.6), (0.0, 0.5), (0.5, 1.0)])
@pytest.mark.parametrize("vectors", [False, True])
def test_scans_agree_whether_membranes_are_kept_or_not(vectors, floor, margin, constant, dtype):
    beta, theta = (c[:1].repeat(33) if vectors else c for c in constants(vectors, dtype))
    p = LIFParameters(beta, theta, "immediate", "inflow", floor, margin)
    current, message = torch.randn(2, 12, 5, 33, dtype=dtype)
    final, start = torch.randn(2, 5, 33, dtype=dtype)
    current = nn.constant(current[0], 12) if constant else current
    membrane = torch_scan.forward(current, start, p).membrane
    rest = (start, p, 1e-6, constant)
    slow = torch_scan.reverse(message, None, final, membrane, *rest)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-11
    for scan in SCANS:
        kept = scan.reverse(message, None, final, membrane, *rest)
        again = scan.reverse(message, None, final, None, *rest, current)
        for a, b, c in zip(slow, kept, again, strict=True):
            assert torch.equal(b, c)
            torch.testing.assert_close(b, a, rtol=tolerance, atol=tolerance * float(a.abs().max()))


@pytest.mark.parametrize("scan", SCANS, ids=["torch", "numba"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("reset", RESETS)
def test_without_them_the_arithmetic_is_the_plain_one(reset, dtype, scan):
    """Bit for bit: a floor of 0 and a margin of 1 change nothing, and no floor changes what is above it."""
    current, message = torch.randn(2, 8, 3, 40, dtype=dtype)
    start = torch.randn(3, 40, dtype=dtype)
    plain = LIFParameters(0.9, 0.7, reset)
    membrane = scan.forward(current, start, plain).membrane
    found = []
    for p in (plain, LIFParameters(0.9, 0.7, reset, floor=1e-30), LIFParameters(0.9, 0.7, reset, floor=0, margin=1)):
        found.append(scan.reverse(message, None, None, membrane, start, p, 1e-6, False))
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))
    for change in ({"floor": 0.5}, {"margin": 0.9}):
        other = scan.reverse(
            message, None, None, membrane, start, LIFParameters(0.9, 0.7, reset, **change), 1e-6, False
        )
        assert not torch.equal(found[0][0], other[0])


@pytest.mark.parametrize("scan", SCANS, ids=["torch", "numba"])
def test_a_membrane_that_is_no_number_earns_what_it_did(scan):
    current = torch.ones(3, 1, 2)
    current[1, 0, 0] = float("nan")
    found = []
    for floor in (0.0, 1.0):
        p = LIFParameters(0.9, 5.0, floor=floor)
        membrane = scan.forward(current, torch.zeros(1, 2), p).membrane
        arguments = (None, torch.ones(3, 1, 2), None, membrane, torch.zeros(1, 2), p, 1e-6, False)
        found.append(scan.reverse(*arguments)[0][1:, 0, 0])
    assert torch.equal(*found)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_messages_are_bounded_by_the_floor(dtype):
    """``|n| ≤ |R| / (floor θ)``, also where hardly anything flows in."""
    layer = nn.LIF(0.9, 0.5, floor=2.0)
    current = (1e-4 * torch.randn(1, 4, 6)).to(dtype).requires_grad_()
    reward = torch.randn(1, 4, 6).to(dtype)
    propagate(layer(current), reward)
    torch.testing.assert_close(current.grad, reward, rtol=1e-2, atol=1e-3)  # R / (2 · 0.5)
