"""The leaky integrator of every kernel, in both directions of time, against a scalar loop; and scans without ε."""

import pytest
import torch
from reference import DENOMINATORS, RESETS, lif_reward, lif_run

from spikelfp import kernels, nn
from spikelfp.functional import neuron
from spikelfp.functional.lif import LIFParameters
from spikelfp.kernels import numba_scan, torch_scan

SCANS = [numba_scan, torch_scan]


def slow_integrate(current, start, beta, backwards):
    rows = list(reversed(current.tolist())) if backwards else current.tolist()
    membrane, record = start.tolist(), []
    for row in rows:
        membrane = [beta * u + i for u, i in zip(membrane, row, strict=True)]
        record.append(membrane)
    return torch.tensor(record[::-1] if backwards else record, dtype=torch.float64)


@pytest.mark.parametrize("scan", SCANS)
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("beta", [0.3, 1.0])
def test_integration_equals_the_scalar_loop(beta, constant, backwards, scan):
    current, start = torch.randn(9, 7).double(), torch.randn(7).double()
    if constant:
        current = nn.constant(current[0], 9)
    out = scan.integrate(current, start, beta, backwards)
    assert out.shape == (9, 7)
    torch.testing.assert_close(out, slow_integrate(current, start, beta, backwards), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (1, 3, 5), (15, 3, 10), (7, 33, 1001)])
def test_numba_and_torch_integrate_alike(shape, backwards, dtype):
    current, start = torch.randn(shape, dtype=dtype), torch.randn(shape[1:], dtype=dtype)
    slow, fast = (scan.integrate(current, start, 0.9, backwards) for scan in (torch_scan, numba_scan))
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(fast, slow, rtol=tolerance, atol=tolerance)
    assert fast.dtype == slow.dtype == dtype


@pytest.mark.parametrize("scan", SCANS)
def test_integration_of_currents_that_do_not_lie_in_a_row(scan):
    current, start = torch.randn(6, 5, 4).double().transpose(1, 2), torch.randn(5, 4).double().T
    out = scan.integrate(current, start, 0.8, False)
    torch.testing.assert_close(out, scan.integrate(current.contiguous(), start.contiguous(), 0.8, False))


@pytest.mark.parametrize("kernel", ["numba", "torch"])
@pytest.mark.parametrize("constant", [False, True])
def test_messages_of_an_integration_are_autograds(kernel, constant, monkeypatch):
    monkeypatch.setenv(kernels.KERNELS, kernel)
    images, varying = torch.randn(3, 5).double(), torch.randn(8, 3, 5).double()
    starts = [torch.randn(3, 5).double().requires_grad_()]
    starts.append(starts[0].detach().clone().requires_grad_())
    leaves = [(images if constant else varying).clone().requires_grad_() for _ in range(2)]
    a, b = (nn.constant(leaf, 8) if constant else leaf for leaf in leaves)
    fast = neuron.leaky_integration(a, starts[0], 0.8)
    membrane, record = starts[1], []
    for step in b:
        membrane = 0.8 * membrane + step
        record.append(membrane)
    message = torch.randn_like(fast)
    fast.backward(message)
    torch.stack(record).backward(message)
    torch.testing.assert_close(leaves[0].grad, leaves[1].grad, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(starts[0].grad, starts[1].grad, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("scan", SCANS)
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("denominator", DENOMINATORS)
def test_reverse_without_epsilon(denominator, reset, scan):
    """LFP-0: the slow loop with ε = 0; where nothing flowed in, nothing is divided by zero."""
    p = LIFParameters(0.8, 0.5, reset, denominator)
    current, start = torch.randn(10, 6).double(), torch.randn(6).double()
    current[:, 0], start[0] = 0.0, 0.0  # never a current
    current[4:, 1] = 0.0
    current[:3, 2], start[2] = 0.0, 0.0  # silent at first
    reward = torch.randn(10, 6).double()
    membrane = scan.forward(current, start, p).membrane
    messages, to_start = scan.reverse(None, reward, None, membrane, start, p, 0.0, False)
    assert torch.isfinite(messages).all()
    for j in range(6):
        _, membranes = lif_run(current[:, j].tolist(), 0.8, 0.5, reset, float(start[j]))
        torch.testing.assert_close(membrane[:, j].tolist(), membranes, rtol=1e-12, atol=1e-12)
        args = (reward[:, j].tolist(), current[:, j].tolist(), 0.8, 0.5, reset, denominator, 0.0, float(start[j]))
        expected = torch.tensor(lif_reward(*args), dtype=torch.float64)
        torch.testing.assert_close(messages[:, j], expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(to_start, 0.8 * messages[0])
    assert not messages[:, 0].any()
    assert not messages[:3, 2].any()


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("denominator", DENOMINATORS)
@pytest.mark.parametrize("constant", [False, True])
def test_numba_and_torch_run_rewards_back_alike_without_epsilon(constant, denominator, reset):
    current, message, reward = torch.randn(3, 7, 5, 300).double()
    current[:, :, :50] = 0.0
    final, start = torch.randn(2, 5, 300).double()
    start[:, :60] = 0.0
    p = LIFParameters(0.9, 0.8, reset, denominator)
    if constant:
        current = nn.constant(current[0], 7)
    membrane = torch_scan.forward(current, start, p).membrane
    arguments = (message, reward, final, membrane, start, p, 0.0, constant)
    for a, b in zip(torch_scan.reverse(*arguments), numba_scan.reverse(*arguments), strict=True):
        assert torch.isfinite(a).all()
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)
