"""The Triton scans against the readable reference: in Triton's interpreter on the CPU, and on CUDA where there is one.

Whether kernels are interpreted is settled when Triton is imported, so a process that started without
``TRITON_INTERPRET=1`` runs the CPU part of this file in another one.
"""

import os

import pytest
import torch
from reference import DENOMINATORS, RESETS, lif_reward, lif_run
from torch import library

from spikelfp import kernels, models, nn, propagate, rewards
from spikelfp.functional.lif import LIFParameters
from spikelfp.kernels import torch_scan

pytest.importorskip("triton")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

interpreted = pytest.mark.skipif(not INTERPRETED, reason="runs in another process, with TRITON_INTERPRET=1")
DEVICES = [pytest.param("cpu", marks=interpreted), pytest.param("cuda", marks=pytest.mark.gpu)]
SHAPES = [(1, 1, 1), (8, 5), (25, 33, 101)]
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}

pytestmark = pytest.mark.parametrize("device", DEVICES)


@pytest.fixture
def scan():
    from spikelfp.kernels import triton_scan

    return triton_scan


@pytest.fixture
def small_blocks(scan, monkeypatch):
    """Few neurons to a program, so that there are several programs, and the last one is not full."""
    monkeypatch.setattr(scan, "launch_sizes", lambda count: {"BLOCK": 16, "ROWS": 4, "num_warps": 1})
    monkeypatch.setattr(scan, "ROWS", 4)


def sequence(shape, constant, dtype=torch.float32):
    current = torch.randn(shape, dtype=dtype)
    return nn.constant(current[0], len(current)) if constant else current


def on(device, *tensors):
    """The tensors on the device; a constant sequence stays one row of memory."""
    moved = []
    for tensor in tensors:
        if tensor is not None and tensor.stride(0) == 0 and len(tensor) > 1:
            tensor = tensor[0].to(device).expand(tensor.shape)
        moved.append(None if tensor is None else tensor.to(device))
    return moved


def constants(shape, dtype, each, *options):
    """Constants of a step ``[B, N]``: numbers, or of each neuron its own."""
    if not each:
        return LIFParameters(0.9, 0.3, *options)
    beta = torch.linspace(0.3, 1, shape[-1], dtype=dtype)
    return LIFParameters(beta, torch.linspace(0.2, 0.9, shape[-1], dtype=dtype).flip(0), *options)


def check_forward(scan, device, shape, constant, dtype, reset, each=False):
    current, start = sequence(shape, constant, dtype), torch.randn(shape[1:], dtype=dtype)
    p = constants(shape, dtype, each, reset)
    slow = torch_scan.forward(current, start, p)
    for keep in (True, False):
        current_there, start_there = on(device, current, start)
        fast = scan.forward(current_there, start_there, p.fitted(start_there), keep)
        assert torch.equal(fast.spikes.cpu(), slow.spikes)
        assert torch.equal(fast.membrane.cpu(), slow.membrane if keep else slow.membrane[-1:])
    assert len(current) == 1 or slow.spikes.any()


def check_reverse(
    scan, device, shape, constant, dtype, reset, denominator, again, given, eps, each=False, local=False, floor=0.0,
    margin=1.0,
):  # fmt: skip
    current, start = sequence(shape, constant, dtype), torch.randn(shape[1:], dtype=dtype)
    message, reward = torch.randn(2, *shape, dtype=dtype)
    final = torch.randn(shape[1:], dtype=dtype)
    p = constants(shape, dtype, each, reset, denominator, floor, margin)
    membrane = torch_scan.forward(current, start, p).membrane
    tensors = (
        message if given in ("message", "all") else None,
        reward if given in ("reward", "all") else None,
        final if given in ("final", "all") else None,
        None if again else membrane,
        start,
    )
    slow = torch_scan.reverse(*tensors, p, eps, constant, current, local)
    moved = on(device, *tensors)
    fast = scan.reverse(*moved, p.fitted(moved[-1]), eps, constant, *on(device, current), local)
    for a, b in zip(slow, fast, strict=True):
        scale = max(1.0, float(a.abs().max()))
        torch.testing.assert_close(b.cpu(), a, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * scale)
    assert fast[0].shape == (1 if constant else shape[0], *shape[1:])
    assert slow[0].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_forward_gives_the_same_spikes_and_membranes(shape, constant, reset, dtype, scan, device):
    check_forward(scan, device, shape, constant, dtype, reset)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("reset", RESETS)
def test_constants_of_each_neuron(reset, dtype, scan, device):
    for shape, constant, again in [((1, 1, 1), False, False), ((9, 5, 20), True, True), ((11, 3, 37), False, True)]:
        check_forward(scan, device, shape, constant, dtype, reset, each=True)
        check_reverse(scan, device, shape, constant, dtype, reset, "inflow", again, "all", 1e-6, each=True)
    current, start = torch.randn(9, 5, 20, dtype=dtype), torch.randn(5, 20, dtype=dtype)
    beta = torch.linspace(0.3, 1, 20, dtype=dtype)
    slow = torch_scan.integrate(current, start, beta, True)
    assert torch.equal(scan.integrate(*on(device, current, start, beta), True).cpu(), slow)


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("denominator", DENOMINATORS)
def test_reverse_gives_the_same_messages(denominator, reset, constant, again, scan, device):
    check_reverse(scan, device, (25, 33, 101), constant, torch.float32, reset, denominator, again, "message", 1e-6)
    check_reverse(scan, device, (9, 5, 20), constant, torch.float64, reset, denominator, again, "all", 0.0)


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize(("floor", "margin"), [(0.0, 0.5), (1.0, 0.8), (2.0, 1.0)])
@pytest.mark.parametrize("denominator", DENOMINATORS)
def test_floor_and_margin(denominator, floor, margin, each, again, scan, device):
    for reset, constant, local in (("subtract", True, False), ("immediate", False, True), ("zero", False, False)):
        options = (again, "all", 1e-6, each, local, floor, margin)
        check_reverse(scan, device, (11, 3, 20), constant, torch.float64, reset, denominator, *options)


@pytest.mark.parametrize("given", ["reward", "final"])
@pytest.mark.parametrize("again", [False, True])
def test_reverse_of_a_reward_or_of_the_last_membrane_alone(again, given, scan, device):
    for shape in ((9, 5, 20), (1, 3)):
        check_reverse(scan, device, shape, False, torch.float32, "zero", "inflow", again, given, 1e-6)


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("reset", RESETS)
def test_reverse_of_each_step_by_itself(reset, constant, again, scan, device):
    for shape, each in (((9, 5, 20), False), ((1, 3), False), ((17, 2, 21), True)):
        check_reverse(
            scan, device, shape, constant, torch.float64, reset, "inflow", again, "all", 1e-6, each, local=True
        )  # fmt: skip


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.usefixtures("small_blocks")
def test_neurons_in_several_programs(constant, scan, device):
    check_forward(scan, device, (7, 3, 11), constant, torch.float32, "subtract")
    for again in (False, True):
        check_reverse(
            scan, device, (7, 3, 11), constant, torch.float64, "subtract", "increment", again, "all", 1e-6
        )  # fmt: skip
    check_integration(scan, device, (7, 3, 11), constant, torch.float64, True)


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("denominator", DENOMINATORS)
@pytest.mark.parametrize("eps", [0.0, 1e-6])
def test_both_directions_equal_the_scalar_loop(eps, denominator, reset, scan, device):
    p = LIFParameters(0.8, 0.5, reset, denominator)
    current, reward, start = torch.randn(11, 6).double(), torch.randn(11, 6).double(), torch.randn(6).double()
    current[:, 0], start[0] = 0.0, 0.0  # never a current
    current[:3, 1], start[1] = 0.0, 0.0  # silent at first
    there = on(device, reward, start, current)
    spikes, membrane = scan.forward(there[2], there[1], p)
    messages, to_start = scan.reverse(None, there[0], None, membrane, there[1], p, eps, False)
    for j in range(6):
        fired, membranes = lif_run(current[:, j].tolist(), 0.8, 0.5, reset, float(start[j]))
        assert spikes[:, j].tolist() == fired
        torch.testing.assert_close(membrane[:, j].tolist(), membranes, rtol=1e-12, atol=1e-12)
        args = (reward[:, j].tolist(), current[:, j].tolist(), 0.8, 0.5, reset, denominator, eps, float(start[j]))
        expected = torch.tensor(lif_reward(*args), dtype=torch.float64)
        torch.testing.assert_close(messages[:, j].cpu(), expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(to_start, 0.8 * messages[0])


def check_integration(scan, device, shape, constant, dtype, backwards):
    current, start = sequence(shape, constant, dtype), torch.randn(shape[1:], dtype=dtype)
    slow = torch_scan.integrate(current, start, 0.9, backwards)
    fast = scan.integrate(*on(device, current, start), 0.9, backwards)
    torch.testing.assert_close(fast.cpu(), slow, rtol=10 * TOLERANCE[dtype], atol=10 * TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("constant", [False, True])
def test_integration_equals_the_reference(constant, backwards, dtype, scan, device):
    for shape in SHAPES:
        check_integration(scan, device, shape, constant, dtype, backwards)


def test_tensors_that_do_not_lie_in_a_row(scan, device):
    current, message = torch.randn(2, 9, 5, 4).transpose(2, 3)
    start, p = torch.randn(5, 4).T, LIFParameters(0.9, 0.3)
    slow, fast = torch_scan.forward(current, start, p), scan.forward(*on(device, current, start), p)
    assert torch.equal(fast.spikes.cpu(), slow.spikes)
    expected, _ = torch_scan.reverse(message, None, None, slow.membrane, start, p, 1e-6, False)
    tensors = on(device, message, None, None, slow.membrane.mT.contiguous().mT, start)
    torch.testing.assert_close(scan.reverse(*tensors, p, 1e-6, False)[0].cpu(), expected, rtol=1e-6, atol=1e-6)


def test_a_batch_without_samples(scan, device):
    current, start = torch.randn(5, 0, 3, device=device), torch.randn(0, 3, device=device)
    assert scan.forward(current, start, LIFParameters()).spikes.shape == (5, 0, 3)


@pytest.mark.parametrize("constant", [False, True])
def test_the_operators_are_what_they_say(constant, scan, device):
    """torch's own check: nothing is mutated, shapes and strides are known without running, torch.compile may trace."""
    current, message = (sequence((6, 2, 5), same) for same in (constant, False))
    start = torch.randn(2, 5)
    membrane = torch_scan.forward(current, start, LIFParameters()).membrane
    current, message, start, membrane = on(device, current, message, start, membrane)
    ops, flags = torch.ops.spikelfp, ("immediate", True, constant, False)
    numbers, tensors = (0.9, 1.0, 0.5, 0.7), (None,) * 4
    for keep in (True, False):
        library.opcheck(ops.lif_forward.default, (current, start, 0.9, 1.0, None, None, "immediate", keep))
    reverse = ops.lif_reverse.default
    library.opcheck(reverse, (message, message, start, membrane, None, start, *numbers, *tensors, 1e-6, *flags))
    library.opcheck(reverse, (message, None, None, None, current, start, *numbers, *tensors, 1e-6, *flags))
    library.opcheck(ops.leaky_integrate.default, (current, start, 0.9, None, True))


@pytest.mark.parametrize(
    "layer",
    [
        lambda: nn.LIF(0.9, 0.3, learn_beta=True),
        lambda: nn.LIF(0.9, 0.3, "immediate", learn_beta=True),
        lambda: nn.Synaptic(0.7, 0.9, 0.3),
        lambda: nn.LIF(0.9, 0.3, floor=1, margin=0.5),
    ],
)
def test_a_network_learns_the_same(layer, device, monkeypatch):
    net = nn.Sequential(nn.Linear(20, 30), layer(), nn.Linear(30, 4), nn.LIF(0.9, 0.3)).double()
    images, labels = torch.rand(6, 20).double() * 2, torch.randint(4, (6,))
    found = []
    for kernel, where in (("torch", "cpu"), ("triton", device)):
        monkeypatch.setenv(kernels.KERNELS, kernel)
        net.to(where).zero_grad()
        spikes = net(nn.constant(images.to(where), 10))
        propagate(spikes, rewards.SpikeSequence()(spikes, labels.to(where)))
        found.append((spikes.detach().cpu(), [p.grad.cpu().clone() for p in net.parameters()]))
    assert torch.equal(found[0][0], found[1][0])
    assert found[0][0].any()
    for a, b in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.gpu
def test_auto_takes_it_on_cuda(scan, device, monkeypatch):
    monkeypatch.setenv(kernels.KERNELS, "auto")
    if device == "cuda":
        assert kernels.scan_for(torch.zeros(1, device=device)) is scan
        assert kernels.scan_for(torch.zeros(1, device=device, dtype=torch.float16)) is torch_scan
        spikes = models.lif_mlp([5, 4]).to(device)(torch.rand(3, 2, 5, device=device))
        assert spikes.shape == (3, 2, 4)
