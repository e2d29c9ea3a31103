"""The GPU benchmark without a GPU: what it counts, what it prints, and that it says so."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from spikelfp import nn
from spikelfp.functional.lif import LIFParameters
from spikelfp.kernels import torch_scan

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import gpu

    return gpu


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_device_it_says_so_in_one_line():
    done = subprocess.run([sys.executable, "-m", "benchmarks.gpu"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "benchmarks.gpu: torch finds no CUDA device here, so there is nothing to measure\n"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("steps", [1, 8, 25])
def test_bytes_are_those_of_the_tensors(steps, dtype, gpu):
    neurons, rows, p = 30, 8, LIFParameters()
    current, message = torch.randn(2, steps, neurons, dtype=dtype)
    start, same = torch.zeros(neurons, dtype=dtype), nn.constant(current[0].clone(), steps)
    kept = torch_scan.forward(current, start, p)
    last = torch_scan.forward(same, start, p, False)
    mean = torch_scan.reverse(message, None, None, None, start, p, 1e-6, True, same)
    marks = torch.zeros(len(range(0, steps, rows)), neurons, dtype=dtype)  # written, and read again
    moved = {
        "forward": [current, start, *kept],
        "forward, constant current": [same[0], start, *last],
        "reverse": [
            message, kept.membrane, start, *torch_scan.reverse(message, None, None, kept.membrane, start, p, 0.1, False)
        ],
        "reverse, constant current": [message, same[0], start, marks, marks, *mean],
        "integrate": [current, start, torch_scan.integrate(current, start, 0.9, False)],
    }  # fmt: skip
    assert list(moved) == gpu.SCANS
    for scan, tensors in moved.items():
        assert gpu.bytes_moved(scan, steps, neurons, dtype.itemsize, rows) == sum(t.nbytes for t in tensors), scan


def test_the_scans_it_measures_run(gpu):
    measured = gpu.calls(6, 50, "cpu", LIFParameters())
    assert list(measured) == gpu.SCANS
    for run in measured.values():
        run()


@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
def test_the_layer_it_measures_learns(autocast, gpu):
    net = nn.Sequential(nn.Linear(20, 30), nn.LIF())
    gpu.layer(net, (torch.rand(6, 4, 20) < 0.5).float(), torch.randn(6, 4, 30), autocast)
    assert net[0].weight.grad.any()
    assert torch.isfinite(net[0].weight.grad).all()


def test_the_tables(gpu):
    text = gpu.markdown({"scan": {"a": {"ms": 1.5}, "b": {"ms": 2.0, "share_of_copy": 0.8}}}, "On a card.")
    assert "| scan | ms | share_of_copy |" in text
    assert "| a | 1.5 |  |" in text
    assert "| b | 2 | 0.8 |" in text
