"""Every kernel against the readable reference: the same spikes to the last one, the same messages to rounding."""

import os
import threading

import pytest
import torch
from reference import DENOMINATORS, RESETS

from spikelfp import kernels, machine, nn
from spikelfp.errors import UserError
from spikelfp.functional.lif import LIFParameters
from spikelfp.kernels import numba_scan, torch_scan


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (15, 3, 10), (7, 33, 1001)])
def test_forward_gives_the_same_spikes_and_membranes(shape, reset, dtype):
    current = torch.randn(shape, dtype=dtype)
    start = torch.randn(shape[1:], dtype=dtype)
    p = LIFParameters(0.9, 0.8, reset)
    slow, fast = torch_scan.forward(current, start, p), numba_scan.forward(current, start, p)
    assert torch.equal(slow.spikes, fast.spikes)
    assert torch.equal(slow.membrane, fast.membrane)
    last = numba_scan.forward(current, start, p, keep=False)
    assert torch.equal(last.spikes, slow.spikes)
    assert torch.equal(last.membrane, slow.membrane[-1:])
    half = shape[0] // 2
    if half:
        head = numba_scan.forward(current[:half], start, p)
        tail = numba_scan.forward(current[half:], head.membrane[-1], p)
        assert torch.equal(torch.cat([head.spikes, tail.spikes]), slow.spikes)
        assert torch.equal(tail.membrane, slow.membrane[half:])


@pytest.mark.parametrize("reset", RESETS)
def test_forward_of_a_constant_current(reset):
    current = nn.constant(torch.randn(40, 900), 12)
    start, p = torch.zeros(40, 900), LIFParameters(0.9, 0.8, reset)
    assert torch.equal(torch_scan.forward(current, start, p).spikes, numba_scan.forward(current, start, p).spikes)


@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize("given", ["message", "reward", "both", "final"])
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("denominator", DENOMINATORS)
def test_reverse_gives_the_same_messages(reset, denominator, constant, given, local):
    current, message, reward = torch.randn(3, 9, 21, 1000, dtype=torch.float64)
    final, start = torch.randn(2, 21, 1000, dtype=torch.float64)
    p = LIFParameters(0.9, 0.8, reset, denominator)
    if constant:
        current = nn.constant(current[0], 9)
    membrane = torch_scan.forward(current, start, p).membrane
    arguments = (
        message if given in ("message", "both") else None,
        reward if given in ("reward", "both") else None,
        final if given == "final" else None,
        membrane, start, p, 1e-6, constant, None, local,
    )  # fmt: skip
    slow, fast = torch_scan.reverse(*arguments), numba_scan.reverse(*arguments)
    for a, b in zip(slow, fast, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    again = (*arguments[:3], None, *arguments[4:8], current, local)  # membranes computed again
    for scan, kept in ((torch_scan, slow), (numba_scan, fast)):
        assert all(torch.equal(a, b) for a, b in zip(scan.reverse(*again), kept, strict=True))
    assert len(slow[0]) == (1 if constant else 9)
    assert slow[0].abs().max() > 0
    assert slow[1].any() != local


def test_silent_neurons_take_no_message():
    membrane = torch.full((3, 1, 2), 0.5)
    p = LIFParameters(0.9, 1.0)
    for scan in (torch_scan, numba_scan):
        to_current, _ = scan.reverse(torch.ones(3, 1, 2), None, None, membrane, torch.zeros(1, 2), p, 1e-6, False)
        assert not to_current.any()


def test_the_environment_chooses(monkeypatch):
    x = torch.zeros(1)
    monkeypatch.setenv(kernels.KERNELS, "torch")
    assert kernels.scan_for(x) is torch_scan
    monkeypatch.setenv(kernels.KERNELS, "numba")
    assert kernels.scan_for(x) is numba_scan
    with pytest.raises(UserError, match="float16"):
        kernels.scan_for(x.half())
    monkeypatch.setenv(kernels.KERNELS, "auto")
    assert kernels.scan_for(x) is numba_scan
    assert kernels.scan_for(x.half()) is torch_scan
    on_another_device = x.to("meta")
    assert kernels.scan_for(on_another_device) is torch_scan
    monkeypatch.setenv(kernels.KERNELS, "triton")
    with pytest.raises(UserError, match=r"float16|not installed"):
        kernels.scan_for(x.half())
    if not kernels.triton_installed():
        with pytest.raises(UserError, match="not installed"):
            kernels.scan_for(x)
    elif os.environ.get("TRITON_INTERPRET") == "1":
        assert kernels.scan_for(x).__name__ == "spikelfp.kernels.triton_scan"
    else:
        with pytest.raises(UserError, match="runs on CUDA, and the tensor is on cpu"):
            kernels.scan_for(x)
    monkeypatch.setenv(kernels.KERNELS, "nunba")
    with pytest.raises(UserError, match="did you mean 'numba'"):
        kernels.scan_for(x)


@pytest.mark.parametrize("count", [0, 1, 99, 100, 1000])
def test_split_covers_everything_once(count):
    seen = torch.zeros(count)

    def run(low, high):
        seen[low:high] += 1

    machine.split(run, count, 100)
    assert (seen == 1).all()


def test_split_passes_errors_on():
    def run(low, high):
        raise ArithmeticError("in a thread")

    with pytest.raises(ArithmeticError):
        machine.split(run, 10_000, 100)


def test_split_does_not_wait_for_a_thread_that_comes_late(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    hold, seen = threading.Event(), []
    machine.split(lambda low, high: None, 10, 1)  # the worker exists
    machine._workers[0].calls.put(Held(hold))
    machine.split(lambda low, high: seen.append((low, high)), 10, 1)
    assert [low for low, _ in seen] + [10] == [0] + [high for _, high in seen]
    hold.set()


class Held:
    """A job that keeps a worker busy."""

    def __init__(self, until):
        self.work = until.wait


def test_pieces_are_shared_and_each_is_done_once(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    both, who, seen = threading.Barrier(2, timeout=10), set(), torch.zeros(100)

    def run(low, high):
        seen[low:high] += 1
        if threading.current_thread() not in who:
            who.add(threading.current_thread())
            if len(who) <= 2:
                both.wait()  # two threads are in it at the same time

    machine.split(run, 100, 5)
    assert (seen == 1).all()
    assert len(who) >= 2


def test_a_kernel_within_a_kernel_stays_on_its_thread(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    seen = torch.zeros(8, 8)

    def inner(row):
        machine.split(lambda low, high: seen[row, low:high].add_(1), 8, 1)

    machine.split(lambda low, high: [inner(row) for row in range(low, high)], 8, 1)
    assert (seen == 1).all()
