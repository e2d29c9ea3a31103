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
    command = [sys.executable, "-m", "benchmarks.gpu", "--tests"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout == ""
    assert done.stderr == "benchmarks.gpu: torch finds no CUDA device here, so there is nothing to run\n"


def test_make_gpu_is_that_command():
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "gpu: $(READY)\n\t$(BIN)/python -m benchmarks.gpu --tests\n" in text


def test_the_tests_it_runs_are_those_that_need_a_device(gpu, monkeypatch):
    asked = []

    def run(command, cwd, timeout):
        asked.append((command, timeout))
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(gpu.subprocess, "run", run)
    assert gpu.run_tests(7.0) is False
    command, timeout = asked[0]
    files = {Path(file).name for file in command if file.endswith(".py")}
    assert {"test_gpu.py", "test_triton_scan.py", "test_triton_recurrent.py"} <= files
    assert "test_layers.py" not in files
    assert timeout == 7.0


def test_tests_that_take_too_long_are_stopped(gpu, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "TESTS", ROOT / "tests" / "benchmarks")
    assert gpu.run_tests(0.01) is False
    assert "took more than 0 s and were stopped" in capsys.readouterr().err


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


def test_the_recurrent_networks_it_measures_learn_both_ways(gpu):
    found = gpu.recurrence(1, [20, 16, 5], 4, [2, 3], "cpu")
    assert list(found) == ["batch 2, fused", "batch 2, step by step", "batch 3, fused", "batch 3, step by step"]
    assert found["batch 2, fused"]["times_fused"] == 1
    assert all(row["ms"] > 0 for row in found.values())


def test_everything_it_measures_goes_into_one_table(gpu, monkeypatch, tmp_path):
    """A whole run without a device: the measurements are stand-ins, all but the recurrent networks."""
    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpu.torch.cuda, "get_device_name", lambda: "A card")
    monkeypatch.setattr(gpu, "copy_bandwidth", lambda rounds: 1e12)
    monkeypatch.setattr(gpu, "RECURRENT", {"sizes": [20, 16, 5], "steps": 4, "device": "cpu"})
    for name in ("scans", "training", "large_layer", "products"):
        monkeypatch.setattr(gpu, name, lambda *_, name=name: {name: {"ms": 1.0}})
    monkeypatch.setattr(gpu, "run_tests", lambda limit: limit > gpu.LIMIT)  # they fail
    assert gpu.main(["--tests", "--quick", "--out", str(tmp_path)]) == 1
    assert gpu.main(["--quick", "--products", "--out", str(tmp_path)]) == 0
    text = (tmp_path / "gpu.md").read_text(encoding="utf-8")
    assert text.startswith("A card, a copy moves 1000 GB/s; median of 3;")
    for line in ("LFP step of 20-16-5, T 4", "batch 64, fused", "training", "large_layer", "products"):
        assert line in text


def test_the_tables(gpu):
    text = gpu.markdown({"scan": {"a": {"ms": 1.5}, "b": {"ms": 2.0, "share_of_copy": 0.8}}}, "On a card.")
    assert "| scan | ms | share_of_copy |" in text
    assert "| a | 1.5 |  |" in text
    assert "| b | 2 | 0.8 |" in text
