"""Time of a training step on events in dense and in sparse tensors: ``python -m benchmarks.sparse_inputs``.

Random recordings that look like those of N-MNIST, batch 32, in 20 steps and in 300, 1 ms each; LFP of a small
convolutional network and of a dense one. Each form of input has a process of its own (``sparse_worker.py``), and they
take turns; memory is that of steps with their input. Writes ``sparse_inputs.json`` and ``sparse_inputs.md``.
"""

from __future__ import annotations

import math
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from torch import Tensor

from benchmarks.process import Process
from benchmarks.record import arguments, folder_of, save
from benchmarks.settings import Chosen, Setting, fastest, settings
from benchmarks.tables import absent, rows, settings_of
from benchmarks.turns import TRIAL, WARM_UP, Result, Turns, console

CONTENDER = "spikelfp_events"
DENSE, SPARSE = "dense input", "sparse input"
CONV: dict[str, Any] = {"kind": "conv", "batch": 32, "recompute": False}
MLP: dict[str, Any] = {"kind": "mlp", "batch": 32, "recompute": False}
NETWORKS: dict[str, dict[str, Any]] = {
    "conv 12-32-10, T 20": CONV | {"steps": 20},
    "conv 12-32-10, T 300": CONV | {"steps": 300},
    "conv 12-32-10, T 300, recomputed": CONV | {"steps": 300, "recompute": True},
    "2312-256-10, T 20": MLP | {"steps": 20},
    "2312-256-10, T 300": MLP | {"steps": 300},
}
EVENTS = 4000
"""Number of events of a recording, about that of N-MNIST."""
SIDE, CORNERS = 34, 12


def sequences(steps: int, batch: int) -> Tensor:
    """Sparse ``[T, B, 2, 34, 34]``: 1 where any of the :data:`EVENTS` random events of a sample fell, the same ever.

    Events lie around a random walk of :data:`CORNERS` corners, which moves three times in a circle.
    """
    random = torch.Generator().manual_seed(0)
    corners = SIDE / 2 + torch.randn(batch, CORNERS, 2, generator=random).cumsum(1) * 2.5
    time_of = torch.rand(batch, EVENTS, generator=random)
    corner = torch.randint(CORNERS, (batch, EVENTS), generator=random)
    sample = torch.arange(batch).unsqueeze(1).expand_as(corner)
    moved = 3 * torch.stack([(6 * math.pi * time_of).sin(), (6 * math.pi * time_of).cos()], -1)
    places = corners[sample, corner] + moved + torch.randn(batch, EVENTS, 2, generator=random)
    row, column = places.round().long().clamp_(0, SIDE - 1).unbind(-1)
    polarity = torch.randint(2, (batch, EVENTS), generator=random)
    indices = torch.stack([(time_of * steps).long(), sample, polarity, row, column]).flatten(1)
    shape = (steps, batch, 2, SIDE, SIDE)
    counts = torch.sparse_coo_tensor(indices, torch.ones(indices.shape[1]), shape, check_invariants=True).coalesce()
    ones = torch.ones_like(counts.values())
    return torch.sparse_coo_tensor(counts.indices(), ones, shape, is_coalesced=True, check_invariants=True)


def measure(network: dict[str, Any], rounds: int, steps: int, label: str) -> dict[str, Result]:
    """Measure milliseconds, memory and spike rates with both forms of input, ``steps`` a turn."""
    x = sequences(network["steps"], network["batch"])
    with tempfile.TemporaryDirectory() as folder:
        torch.save(x, Path(folder) / "input.pt")
        results = _by_turns(network | {"input": str(Path(folder) / "input.pt")}, rounds, steps, label)
    for result in results.values():
        result["density"] = x._nnz() / x.numel()
    return results


def _by_turns(network: dict[str, Any], rounds: int, steps: int, label: str) -> dict[str, Result]:
    def start(sparse: bool) -> Chosen[Process]:
        def process(setting: Setting) -> Process:
            return Process("sparse_worker.py", CONTENDER, network | {"sparse": sparse}, setting)

        return fastest(process, lambda process: process.ask(min(steps, TRIAL))["seconds"], settings())

    turns = Turns({DENSE: lambda: start(False), SPARSE: lambda: start(True)})
    times: dict[str, list[float]] = {name: [] for name in turns.results}
    try:
        turns.each(lambda worker: worker.ask(WARM_UP))
        for _ in track(range(rounds), description=label, console=console, transient=True):
            for name, answer in turns.each(lambda worker: worker.ask(steps)):
                times[name] += answer.pop("seconds")
                turns.results[name] |= answer
        for name, answer in turns.each(lambda worker: worker.ask("rates")):
            turns.results[name] |= answer
    finally:
        turns.close()
    for name in turns.processes:
        turns.results[name]["ms"] = statistics.median(times[name]) * 1e3
    return turns.results


def markdown(table: dict[str, dict[str, Result]], about: str) -> str:
    """Write times and memory in a Markdown table."""
    body = []
    for network, results in table.items():
        dense, sparse = results[DENSE], results[SPARSE]
        if "ms" not in dense or "ms" not in sparse:
            continue
        body.append(
            [
                network, f"{sparse['density']:.1%}", " · ".join(f"{rate:.1%}" for rate in sparse["rates"]),
                f"{dense['ms']:.1f} ms", f"{sparse['ms']:.1f} ms ({sparse['ms'] / dense['ms']:.2f}×)",
                f"{dense['grown_mb']:.0f} MB",
                f"{sparse['grown_mb']:.0f} MB ({sparse['grown_mb'] / dense['grown_mb']:.2f}×)",
            ]
        )  # fmt: skip
    head = ["step", "density of the input", "spike rates", DENSE, SPARSE, f"memory, {DENSE}", f"memory, {SPARSE}"]
    return "\n".join([about, "", *rows(head, body), *settings_of(table), *absent(table)])


def main(given: list[str] | None = None) -> None:
    """Measure, print, and write the results."""
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=8, help="turns of each form of input (default 8)")
    parser.add_argument("--steps", type=int, default=3, help="steps a turn (default 3)")
    parser.add_argument("--only", choices=list(NETWORKS), action="append", help="networks to measure (default: all)")
    options = parser.parse_args(given)
    rounds, steps = (2, 1) if options.quick else (options.rounds, options.steps)
    table = {name: measure(NETWORKS[name], rounds, steps, name) for name in options.only or NETWORKS}
    how = f"One training step, batch 32, β 0.9; median of {rounds * steps} in turns"
    save("sparse_inputs", how, table, markdown, folder=folder_of(options))


if __name__ == "__main__":
    main()
