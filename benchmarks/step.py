"""Time of one training step, beside the peers that are installed: ``make bench``.

Every contender runs in a process of its own; they take turns, a few steps each, so that a machine whose speed
drifts is the same for all. Compared are medians. Writes ``benchmarks/results/step.json`` and ``step.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import track

from benchmarks.record import save

HERE = Path(__file__).parent

NETWORKS = {
    "784-1000-10, T 15": {"kind": "mlp", "sizes": [784, 1000, 10], "steps": 15, "batch": 128},
    "784-1000-1000-10, T 25": {"kind": "mlp", "sizes": [784, 1000, 1000, 10], "steps": 25, "batch": 128},
    "LeNet (A.6.4), T 25": {"kind": "lenet", "steps": 25, "batch": 128},
}
CONTENDERS = {
    "spikelfp, LFP": "spikelfp_lfp",
    "spikelfp, surrogate": "spikelfp_surrogate",
    "snnTorch, surrogate": "snntorch_bptt",
    "norse, surrogate": "norse_bptt",
    "lfprop (published LFP)": "lfprop_published",
    "dense products alone": "dense_floor",
}
INTERPRETERS = {"lfprop_published": os.environ.get("SPIKELFP_BENCH_LFPROP", sys.executable)}

console = Console(stderr=True)


class Worker:
    """A contender's process."""

    def __init__(self, module: str, network: dict) -> None:
        python = INTERPRETERS.get(module, sys.executable)
        self._process = subprocess.Popen(
            [python, str(HERE / "worker.py"), str(HERE / "contenders" / f"{module}.py"), json.dumps(network)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ},
        )  # fmt: skip
        assert self._process.stdout is not None
        self.ready = self._process.stdout.readline().strip() == "ready"
        if not self.ready:
            assert self._process.stderr is not None
            errors = self._process.stderr.read().strip().splitlines()
            self.why = errors[-1] if errors else "it ended without a word"

    def steps(self, count: int) -> dict:
        """Times of ``count`` steps, and the most memory held so far."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{count}\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()


def measure(network: dict, rounds: int, steps: int, label: str) -> dict[str, dict]:
    """Median seconds and peak memory of each contender that can run."""
    workers: dict[str, Worker] = {}
    results: dict[str, dict] = {}
    for name, module in CONTENDERS.items():
        worker = Worker(module, network)
        if worker.ready:
            workers[name] = worker
        else:
            results[name] = {"skipped": worker.why}
    try:
        for worker in workers.values():
            worker.steps(3)
        times: dict[str, list[float]] = {name: [] for name in workers}
        for _ in track(range(rounds), description=label, console=console, transient=True):
            for name, worker in workers.items():
                answer = worker.steps(steps)
                times[name] += answer["seconds"]
                results[name] = {"peak_mb": answer["peak_mb"]}
    finally:
        for worker in workers.values():
            worker.close()
    for name, seconds in times.items():
        quartiles = statistics.quantiles(seconds, n=4)
        results[name] |= {"ms": quartiles[1] * 1e3, "ms_quartiles": [quartiles[0] * 1e3, quartiles[2] * 1e3]}
    return {name: results[name] for name in CONTENDERS}


def markdown(table: dict[str, dict[str, dict]], about: str) -> str:
    """The results as a Markdown table."""
    lines = [about, "", "| step | " + " | ".join(CONTENDERS) + " |", "|---" * (len(CONTENDERS) + 1) + "|"]
    for network, results in table.items():
        ours = results["spikelfp, LFP"]["ms"]
        cells = [
            "not installed" if "skipped" in r else f"{r['ms']:.1f} ms ({r['ms'] / ours:.2f}×), {r['peak_mb']:.0f} MB"
            for r in results.values()
        ]
        lines.append(f"| {network} | " + " | ".join(cells) + " |")
    lines += ["", "In brackets: times our LFP step. Memory: the most the process held, torch included.", ""]
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8, help="turns of each contender (default 8)")
    parser.add_argument("--steps", type=int, default=5, help="steps a turn (default 5)")
    parser.add_argument("--only", choices=list(NETWORKS), action="append", help="networks to measure (default: all)")
    arguments = parser.parse_args()
    chosen = arguments.only or list(NETWORKS)
    table = {name: measure(NETWORKS[name], arguments.rounds, arguments.steps, name) for name in chosen}
    save(
        "step",
        f"One training step, batch 128, β 0.9; median of {arguments.rounds * arguments.steps} in turns",
        table,
        markdown,
    )


if __name__ == "__main__":
    main()
