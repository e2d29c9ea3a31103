"""Memory that a run needs, against what one takes, and what is refused for want of it."""

import subprocess
import sys

import pytest
import torch

from spikelfp import machine, models
from spikelfp.errors import UserError
from spikelfp.models import ModelSpec
from spikelfp.training import TemporalTrainer, memory
from spikelfp.training.config import RunConfig
from spikelfp.training.run import train

PEAK = """
import sys, threading, time, torch
from spikelfp import TemporalTrainer
from spikelfp.models import ModelSpec, build

kind, hidden, steps, samples, encoding = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
torch.set_num_threads(1)

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

def step(hidden, steps, samples):
    net = build(ModelSpec(kind, (1, 16, 16), 10, hidden=(hidden, hidden)))
    trainer = TemporalTrainer(net, steps=steps, encoding=encoding, wake=False, device="cpu")
    for _ in range(2):
        trainer.train_step(torch.rand(samples, 1, 16, 16), torch.arange(samples) % 10)

def watch():
    while running:
        seen.append(resident())
        time.sleep(0.001)

step(8, 3, 4)
seen, running = [resident()], True
thread = threading.Thread(target=watch)
thread.start()
step(hidden, steps, samples)
running = False
thread.join()
print(max(seen) - seen[0])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("kind", "hidden", "steps", "samples", "encoding"),
    [("lif-mlp", 1500, 40, 128, "rate"), ("lif-mlp", 3500, 5, 32, "constant"), ("lif-lenet", 1, 40, 128, "rate")],
)
def test_the_estimate_is_near_what_a_run_takes(kind, hidden, steps, samples, encoding):
    done = subprocess.run(
        [sys.executable, "-c", PEAK, kind, *map(str, (hidden, steps, samples)), encoding],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    spec = ModelSpec(kind, (1, 16, 16), 10, hidden=(hidden, hidden))
    need = memory.estimate(spec, steps=steps, samples=samples)
    assert 0.5 < (need.weights + need.outputs) / int(done.stdout) < 2


def test_less_at_a_time_needs_less():
    spec = ModelSpec("lif-mlp", (1, 8, 8), 10, hidden=(100,))
    whole, part, half = (
        memory.estimate(spec, steps=20, samples=samples, together=together)
        for samples, together in ((64, None), (64, 5), (32, None))
    )
    assert part.outputs == pytest.approx(whole.outputs / 4, rel=0.01)
    assert half.outputs == pytest.approx(whole.outputs / 2, rel=0.01)
    assert whole.weights > memory.estimate(spec, steps=20, samples=64, states=0).weights


@pytest.mark.parametrize("name", models.models)
def test_every_model_is_measured(name):
    spec = ModelSpec(name, (1, 32, 32), 10, hidden=(8,), width=6, heads=2, depth=1)
    assert memory.estimate(spec, steps=2, samples=3).outputs > 4 * 2 * 3 * 10


def test_a_network_that_cannot_fit_is_refused_before_it_is_made(tmp_path):
    config = RunConfig(hidden=(300_000, 300_000), device="cpu")  # 1.4 TiB
    with pytest.raises(UserError, match=r"would need about 2.* GiB of memory \(weights, .* has .* left: choose a"):
        train(config, tmp_path / "r", progress=False)
    with pytest.raises(UserError, match="outputs of the layers"):
        train(RunConfig(hidden=(30,), steps=10**8, device="cpu"), tmp_path / "r", progress=False)
    assert not (tmp_path / "r").exists()


def test_a_trainer_counts_updates_and_its_optimiser(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda device: 3 * 4 * 3000 - 1)
    with pytest.raises(UserError, match=r"\(updates 1 MiB, the optimiser 1 MiB\)"):
        TemporalTrainer(models.lif_mlp([299, 10]), device="cpu")
    TemporalTrainer(models.lif_mlp([299, 10]), device="cpu", optimizer="sgd")


def test_the_machine_and_its_groups_tell_what_is_left(tmp_path, monkeypatch):
    assert memory.available(torch.device("meta")) is None
    if sys.platform == "linux":
        assert 2**20 < memory.available(torch.device("cpu")) < 2**50
    files = {
        "/proc/meminfo": "MemTotal: 9 kB\nMemAvailable: 5000 kB\nSwapFree: 1000 kB\n",
        "/proc/self/cgroup": "0::/a/b\n",
        "/sys/fs/cgroup/a/b/memory.max": "max\n",
        "/sys/fs/cgroup/a/memory.max": "4000000\n",
        "/sys/fs/cgroup/a/memory.current": "3000000\n",
        "/sys/fs/cgroup/a/memory.stat": "anon 5\ninactive_file 200000\n",
    }
    monkeypatch.setattr(machine, "_text", lambda path: files.get(str(path), ""))
    assert memory.available(torch.device("cpu")) == 4_000_000 - 3_000_000 + 200_000
    files["/sys/fs/cgroup/a/memory.max"] = "max\n"
    assert memory.available(torch.device("cpu")) == 6000 * 1024
    files["/proc/meminfo"] = ""
    assert memory.available(torch.device("cpu")) is None
