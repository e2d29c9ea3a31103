"""Times on a CUDA device: ``python -m benchmarks.gpu``. Writes ``benchmarks/results/gpu.json`` and ``gpu.md``.

With ``--tests`` (``make gpu``) the tests that need a device run first; all takes at most ten minutes. Times are medians
by CUDA events, and ratios compare times of the same run. Without a device it says so and exits with 0.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.networks import PAPER
from benchmarks.record import arguments, folder_of, save
from spikelfp import methods, models, nn, propagate, rewards
from spikelfp.functional import recurrent as fused
from spikelfp.functional.lif import LIFParameters
from spikelfp.kernels import bf16_exact, scan_for
from spikelfp.training.captured import WARM_UP, CapturedStep, train_once

SIZES, STEPS, BATCH = [784, 1000, 1000, 10], 25, 128
LAYER = {"neurons": 16_384, "steps": 500, "batch": 16}
# Open Neuromorphic's comparison (Linear and LIF of that size, forward and backward) on an RTX 4090, whose memory
# moves 1008 GB/s: its fastest entry, Spyx in float16, and its fastest in float32, Spyx too.
PUBLISHED = {"float16": 0.047, "float32": 0.076}
PUBLISHED_BANDWIDTH = 1008e9
SCANS = ["forward", "forward, constant current", "reverse", "reverse, constant current", "integrate"]
SHAPES = [(25, 1 << 22), (500, 1 << 18)]
PRODUCTS = [(3200, 1000, 1000), (8000, 16_384, 16_384)]
RECURRENT: dict[str, Any] = {"sizes": [700, 512, 20], "steps": 100}
BATCHES = [64, 256]
LIMIT = 600.0
"""Seconds for tests and measurements together; the tests may take half of them."""
TESTS = Path(__file__).resolve().parents[1] / "tests"


def seconds(run: Callable[[], object], rounds: int, warm_up: int = 5, device: str = "cuda") -> float:
    """Measure the median time of ``run`` on the device; by the clock on a CPU."""
    for _ in range(warm_up):
        run()
    if device == "cpu":
        times = [time.perf_counter()]
        for _ in range(rounds):
            run()
            times.append(time.perf_counter())
        return statistics.median(b - a for a, b in pairwise(times))
    events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(rounds)]
    for start, end in events:
        start.record()
        run()
        end.record()
    torch.cuda.synchronize()
    return statistics.median(start.elapsed_time(end) for start, end in events) / 1e3


def bytes_moved(scan: str, steps: int, neurons: int, itemsize: int, rows: int) -> int:
    """Compute the bytes that ``scan`` has to read and write, each array once. Counted in numbers:

    ==========================  ====================================  =============================================
    scan                        for each neuron and step              for each neuron
    ==========================  ====================================  =============================================
    forward                     current, spikes, membrane: 3          start: 1
    forward, constant current   spikes: 1                             current, start, last membrane: 3
    reverse                     message, membrane, result: 3          start and the message to it: 2
    reverse, constant current   message: 1; one membrane of each      current, start, result, message to start: 4
                                ``rows`` steps there and back
    integrate                   current, result: 2                    start: 1
    ==========================  ====================================  =============================================
    """
    marks = 2 * -(-steps // rows)
    numbers = {
        "forward": 3 * steps + 1,
        "forward, constant current": steps + 3,
        "reverse": 3 * steps + 2,
        "reverse, constant current": steps + marks + 4,
        "integrate": 2 * steps + 1,
    }
    return numbers[scan] * neurons * itemsize


def calls(steps: int, neurons: int, device: str, p: LIFParameters) -> dict[str, Callable[[], object]]:
    """Make the calls of each of :data:`SCANS` on random input of this size."""
    varying, message = torch.randn(2, steps, neurons, device=device)
    start = torch.zeros(neurons, device=device)
    same = nn.constant(varying[0].clone(), steps)
    scan = scan_for(varying)
    membrane = scan.forward(varying, start, p).membrane
    return {
        "forward": lambda: scan.forward(varying, start, p),
        "forward, constant current": lambda: scan.forward(same, start, p, False),
        "reverse": lambda: scan.reverse(message, None, None, membrane, start, p, 1e-6, False),
        "reverse, constant current": lambda: scan.reverse(message, None, None, None, start, p, 1e-6, True, same),
        "integrate": lambda: scan.integrate(varying, start, p.beta, False),
    }


def copy_bandwidth(rounds: int) -> float:
    """Measure the bytes a second, read and written, of a copy of 1 GiB within the device."""
    source = torch.empty(1 << 28, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.nbytes / seconds(lambda: target.copy_(source), rounds)


def scans(bandwidth: float, rounds: int) -> dict[str, Any]:
    """Measure the bandwidth of each scan, by the bytes it has to move, and its share of the bandwidth of a copy."""
    from spikelfp.kernels.triton_scan import ROWS

    found: dict[str, Any] = {}
    for steps, neurons in SHAPES:
        for name, run in calls(steps, neurons, "cuda", LIFParameters()).items():
            time, moved = seconds(run, rounds), bytes_moved(name, steps, neurons, 4, ROWS)
            found[f"{name}, T {steps}, {neurons} neurons"] = {
                "ms": time * 1e3,
                "bytes_per_neuron_step": moved / steps / neurons,
                "gb_per_s": moved / time / 1e9,
                "share_of_copy": moved / time / bandwidth,
            }
        torch.cuda.empty_cache()
    return found


def training(rounds: int) -> dict[str, Any]:
    """Measure training steps a second of a network, eager and as a CUDA graph."""
    method = methods.LFP(rewards.SpikeSequence())
    images, labels = torch.rand(BATCH, SIZES[0], device="cuda"), torch.randint(10, (BATCH,), device="cuda")
    x = nn.constant(images, STEPS)
    found: dict[str, Any] = {}
    for name in ("eager", "captured"):
        torch.manual_seed(0)
        net = models.lif_mlp(SIZES, **PAPER).cuda()
        optimizer = torch.optim.Adam(net.parameters(), 1e-3, fused=True, capturable=True)
        if name == "captured":
            step = CapturedStep(net, method, optimizer)
            time = seconds(partial(step, x, labels), rounds, WARM_UP + 5)
        else:
            time = seconds(partial(eager, net, method, optimizer, x, labels), rounds)
        found[name] = {"ms": time * 1e3, "steps_per_s": 1 / time}
    return found


def eager(net: nn.Sequential, method: methods.Method, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    """Run a training step."""
    optimizer.zero_grad()
    train_once(net, method, optimizer, x, y)


def recurrence(rounds: int, sizes: list[int], steps: int, batches: list[int], device: str = "cuda") -> dict[str, Any]:
    """Measure a step of recurrent networks by LFP, without an optimiser: fused over time, and step by step.

    Args:
        rounds: measurements of each.
        sizes: sizes of the network.
        steps: steps of the sequences, in which 3 % of the inputs are 1.
        batches: batch sizes.
        device: device of the network.
    """
    found: dict[str, Any] = {}
    method = rewards.SpikeSequence()
    for batch in batches:
        torch.manual_seed(0)
        net = models.lif_rnn(sizes, **PAPER).to(device)
        x = (torch.rand(steps, batch, sizes[0], device=device) < 0.03).float()
        labels = torch.randint(sizes[-1], (batch,), device=device)

        def run(net: nn.Sequential = net, x: Tensor = x, labels: Tensor = labels) -> None:
            net.zero_grad()
            outputs = net(x)
            propagate(outputs, method(outputs, labels))

        with torch.no_grad():
            rate = net[:3](x).mean().item()
        times = {}
        for name, kernel_for in (("fused", fused.kernel_for), ("step by step", lambda *_: None)):
            with patch.object(fused, "kernel_for", kernel_for):
                times[name] = seconds(run, rounds if name == "fused" else max(rounds // 10, 1), 2, device)
        for name, taken in times.items():
            row = {"ms": taken * 1e3, "spikes_per_neuron_step": rate, "times_fused": taken / times["fused"]}
            found[f"batch {batch}, {name}"] = row
    return found


def layer(net: nn.Sequential, x: Tensor, reward: Tensor, autocast: torch.dtype | None) -> None:
    """Run a network forward and back, without an optimiser."""
    net.zero_grad()
    with torch.autocast(x.device.type, autocast, enabled=autocast is not None):
        outputs = net(x)
    propagate(outputs, reward)


def large_layer(bandwidth: float, rounds: int) -> dict[str, Any]:
    """Measure seconds and peak memory of Linear and LIF; published seconds are scaled by memory bandwidth."""
    neurons, steps, batch = LAYER["neurons"], LAYER["steps"], LAYER["batch"]
    found: dict[str, Any] = {
        f"published, {name}, scaled": {"s": time * PUBLISHED_BANDWIDTH / bandwidth} for name, time in PUBLISHED.items()
    }
    precisions = {"float32": ("highest", None), "TF32 products": ("high", None), "bfloat16": ("high", torch.bfloat16)}
    for name, (products, autocast) in precisions.items():
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision(products)
        net = nn.Sequential(nn.Linear(neurons, neurons), nn.LIF(**PAPER)).cuda()
        x = (torch.rand(steps, batch, neurons, device="cuda") < 0.1).float()
        reward = torch.randn(steps, batch, neurons, device="cuda")
        torch.cuda.reset_peak_memory_stats()
        time = seconds(partial(layer, net, x, reward, autocast), rounds, 2)
        found[name] = {"s": time, "peak_gb": torch.cuda.max_memory_allocated() / 1e9}
        torch.set_float32_matmul_precision(before)
        del net, x, reward
        torch.cuda.empty_cache()
    return found


def products(rounds: int) -> dict[str, Any]:
    """Measure products of spikes and weights in float32, and exactly in three bfloat16 parts (split beforehand)."""
    found: dict[str, Any] = {}
    for m, k, n in PRODUCTS:
        spikes, weight = (torch.rand(m, k, device="cuda") < 0.1).float(), torch.randn(k, n, device="cuda")
        parts, ones = bf16_exact.split(weight), spikes.bfloat16()
        plain = seconds(partial(torch.mm, spikes, weight), rounds)
        exact = seconds(partial(bf16_exact.matmul, ones, parts), rounds)
        found[f"{m}×{k} @ {k}×{n}"] = {"float32_ms": plain * 1e3, "bf16_exact_ms": exact * 1e3, "ratio": plain / exact}
    return found


def markdown(table: dict[str, Any], about: str) -> str:
    """Write the results as Markdown tables."""
    lines = [about, ""]
    for title, rows in table.items():
        columns = list(dict.fromkeys(key for row in rows.values() for key in row))
        lines += [f"| {title} | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
        for name, row in rows.items():
            cells = [f"{row[key]:.4g}" if key in row else "" for key in columns]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        lines.append("")
    lines += ["share_of_copy: of the bandwidth of a copy within the device; bytes are those a scan has to move.", ""]
    return "\n".join(lines)


def run_tests(limit: float) -> bool:
    """Run the tests that are marked ``gpu``; return whether all of them passed within ``limit`` seconds."""
    files = sorted(str(file) for file in TESTS.rglob("test_*.py") if "mark.gpu" in file.read_text(encoding="utf-8"))
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu and not network", "-p", "no:cacheprovider", *files]
    try:
        return subprocess.run(command, cwd=TESTS.parent, timeout=limit).returncode == 0
    except subprocess.TimeoutExpired:
        print(f"benchmarks.gpu: the tests took more than {limit:.0f} s and were stopped", file=sys.stderr)
        return False


def main(given: list[str] | None = None) -> int:
    """Measure, print, and write the results; 1 if tests were asked for and failed."""
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, help="measurements of each (default 50)")
    parser.add_argument("--tests", action="store_true", help="run the tests that need a device first")
    parser.add_argument("--products", action="store_true", help="also products of spikes in bfloat16 parts")
    options = parser.parse_args(given)
    rounds = options.rounds or (3 if options.quick else 50)
    if not torch.cuda.is_available():
        print("benchmarks.gpu: torch finds no CUDA device here, so there is nothing to run", file=sys.stderr)
        return 0
    begin = time.monotonic()
    passed = not options.tests or run_tests(LIMIT / 2)
    bandwidth = copy_bandwidth(rounds)
    sections: dict[str, Callable[[], dict[str, Any]]] = {
        "scan": partial(scans, bandwidth, rounds),
        "LFP step of {}, T {steps}, forward and backward".format(
            "-".join(map(str, RECURRENT["sizes"])), steps=RECURRENT["steps"]
        ): partial(recurrence, rounds, batches=BATCHES, **RECURRENT),
        f"step of {'-'.join(map(str, SIZES))}, T {STEPS}, batch {BATCH}": partial(training, rounds),
        "Linear and LIF, {neurons} neurons, T {steps}, batch {batch}, forward and backward".format(**LAYER): partial(
            large_layer, bandwidth, max(rounds // 5, 3)
        ),
    }
    if options.products:
        sections["product of spikes"] = partial(products, rounds)
    table = {}
    for title, section in sections.items():
        if time.monotonic() - begin > 0.9 * LIMIT:
            print(f"benchmarks.gpu: no time is left for: {title}", file=sys.stderr)
            continue
        table[title] = section()
    tests = "" if not options.tests else f"; tests marked gpu {'passed' if passed else 'FAILED'}"
    card = torch.cuda.get_device_name()
    how = f"{card}, a copy moves {bandwidth / 1e9:.0f} GB/s; median of {rounds}{tests}"
    save("gpu", how, table, markdown, folder=folder_of(options))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
