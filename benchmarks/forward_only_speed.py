"""Time of an update without a backward pass, by depth: ``python -m benchmarks.forward_only_speed``.

F³, DFA and DRTP beside our own backpropagation, on networks 784-500-…-500-10 with tanh, 50 and 512 samples an update
(those of the paper for MNIST and for SGEMM), Adam. Few samples show what an update costs by itself: the optimiser, and
our own code. Many show the products of weights. All train in this process, with one thread, and take turns. Compared
are medians of the processor time of an update, which other programs on the machine disturb less than the time that
passes. Activation memory is the most that the saved tensors of graphs hold at once. Writes ``forward_only_speed.json``
and ``forward_only_speed.md`` to ``benchmarks/results``.
"""

from __future__ import annotations

import statistics
import time
import weakref
from itertools import pairwise
from typing import Any

import torch
from rich.progress import track
from torch import Tensor

from benchmarks.record import arguments, folder_of, save
from benchmarks.tables import rows
from benchmarks.turns import console
from spikelfp import methods, nn, training

DEPTHS = (1, 3, 5, 10)
"""Numbers of hidden layers."""
METHODS: dict[str, type[methods.Method]] = {
    "gradient": methods.GradientDescent, "f3": methods.F3, "dfa": methods.DFA, "drtp": methods.DRTP,
}  # fmt: skip
SAMPLES = (50, 512)
"""Samples of an update."""
INPUTS, WIDTH, CLASSES, BATCHES = 784, 500, 10, 20
GOAL = 1.1
"""Times that an update of F³ is to be faster than one of backpropagation, from three hidden layers on."""

BUSY = 1.2
"""Time that passes for a unit of processor time, above which a machine counts as busy."""


def network(depth: int) -> nn.Sequential:
    """Make a network with ``depth`` hidden layers."""
    torch.manual_seed(0)
    sizes = [INPUTS, *[WIDTH] * depth]
    hidden = [layer for n, m in pairwise(sizes) for layer in (nn.Linear(n, m), nn.Tanh())]
    return nn.Sequential(*hidden, nn.Linear(sizes[-1], CLASSES))


class Contender:
    """Trainer of one method, which goes through the same samples again and again.

    Args:
        method: class of the method.
        depth: number of hidden layers.
        samples: of an update.
    """

    def __init__(self, method: type[methods.Method], depth: int, samples: int) -> None:
        generator = torch.Generator().manual_seed(1)
        self.x = torch.rand(samples * BATCHES, INPUTS, generator=generator)
        self.y = torch.randint(CLASSES, (samples * BATCHES,), generator=generator)
        self.samples = samples
        net = network(depth)
        self.trainer = training.Trainer(net, method=method(), batch_size=samples, schedule=None, device="cpu")
        self.made = 0

    def update(self) -> None:
        """Make one update."""
        begin = self.made % BATCHES * self.samples
        numbers = torch.arange(begin, begin + self.samples)
        self.trainer.train_step(self.x[numbers], self.y[numbers], indices=numbers)
        self.trainer.position.batch += 1
        self.made += 1

    def activations(self) -> int:
        """Measure the bytes that the saved tensors of graphs hold at most in an update, without weights and inputs."""
        held: dict[int, list[int]] = {}  # storages by address: graphs that hold each, and its size
        most = 0
        apart = {p.untyped_storage().data_ptr() for p in self.trainer.net.parameters()}

        def keep(saved: Tensor) -> Tensor:
            nonlocal most
            storage = saved.untyped_storage()
            if storage.data_ptr() in apart or saved.shape[-1:] == (INPUTS,):
                return saved
            held.setdefault(storage.data_ptr(), [0, storage.nbytes()])[0] += 1
            kept = saved.detach()
            weakref.finalize(kept, release, storage.data_ptr())
            most = max(most, sum(size for _, size in held.values()))
            return kept

        def release(place: int) -> None:
            held[place][0] -= 1
            if not held[place][0]:
                del held[place]

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
            self.update()
        return most


def measure(depth: int, samples: int, rounds: int, updates: int) -> dict[str, dict[str, Any]]:
    """Measure all methods at one depth.

    Args:
        depth: number of hidden layers.
        samples: of an update.
        rounds: turns of each method.
        updates: updates of a turn.

    Returns:
        For each method ``cpu_ms`` and ``wall_ms`` of an update, ``speed`` (times as fast as backpropagation, by
        processor time, the median over the turns), and ``activation_bytes``.
    """
    contenders = {name: Contender(method, depth, samples) for name, method in METHODS.items()}
    cpu: dict[str, list[float]] = {name: [] for name in contenders}
    wall: dict[str, list[float]] = {name: [] for name in contenders}
    for contender in contenders.values():
        for _ in range(3):
            contender.update()
    for _ in track(range(rounds), description=f"{depth} hidden, {samples} samples", console=console, transient=True):
        for name, contender in contenders.items():
            begin = time.process_time(), time.perf_counter()
            for _ in range(updates):
                contender.update()
            cpu[name].append(1e3 * (time.process_time() - begin[0]) / updates)
            wall[name].append(1e3 * (time.perf_counter() - begin[1]) / updates)
    base = cpu["gradient"]
    return {
        name: {
            "cpu_ms": statistics.median(cpu[name]),
            "wall_ms": statistics.median(wall[name]),
            "speed": statistics.median(ours / own for ours, own in zip(base, cpu[name], strict=True)),
            "activation_bytes": contenders[name].activations(),
        }
        for name in contenders
    }


def markdown(table: dict[str, dict[str, dict[str, Any]]], about: str) -> str:
    """Write a row for each depth and method."""
    body = []
    for label, results in table.items():
        for name, own in results.items():
            goal = f" (goal {GOAL}×)" if name == "f3" and not label.startswith("1 ×") else ""
            speed = f"{own['speed']:.2f}×{goal}"
            memory = f"{own['activation_bytes'] / 2**10:.0f} KiB"
            body.append([label, name, f"{own['cpu_ms']:.2f} ms", f"{own['wall_ms']:.2f} ms", speed, memory])
    head = ["hidden, samples", "method", "processor", "passed", "times as fast as gradient", "activations"]
    own = [result for results in table.values() for result in results.values()]
    waited = statistics.median(result["wall_ms"] / result["cpu_ms"] for result in own)
    busy = f"Other programs kept the machine busy: {waited:.1f} times the processor time passed, so ratios are rough."
    return "\n".join([about, "", *rows(head, body), *([busy, ""] if waited > BUSY else [])])


def main(given: list[str] | None = None) -> None:
    """Measure, print, and write the results."""
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="turns of each method (default 10)")
    parser.add_argument("--updates", type=int, help="updates a turn (default: as many as make 1,024 samples)")
    parser.add_argument("--samples", type=int, action="append", help=f"samples of an update (default: {SAMPLES})")
    parser.add_argument("--depth", type=int, action="append", help=f"hidden layers (default: {DEPTHS})")
    options = parser.parse_args(given)
    rounds = 2 if options.quick else options.rounds
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        table = {}
        for samples in options.samples or SAMPLES:
            updates = 1 if options.quick else options.updates or max(1, 1024 // samples)
            for depth in options.depth or DEPTHS:
                table[f"{depth} × {WIDTH}, {samples}"] = measure(depth, samples, rounds, updates)
        how = f"One update of {INPUTS}-{WIDTH}-…-{CLASSES}, tanh, Adam; median of {rounds} turns"
        save("forward_only_speed", how, table, markdown, folder=folder_of(options))
    finally:
        torch.set_num_threads(threads)


if __name__ == "__main__":
    main()
