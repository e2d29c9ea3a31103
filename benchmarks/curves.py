"""Cost of a training step against steps, width, batch and spike density. ``python -m benchmarks.curves``.

The network is 784-N-N-10 with LIF neurons. The weights before the hidden layers are scaled so that these fire at the
given density (:mod:`benchmarks.starting_weights`), and the density is measured. One of the four quantities varies, the
others stay at :data:`BASE`. Ours, snnTorch's surrogate gradients and the dense products alone take turns, each in its
own process, a new one for each point, so that each point has its own peak of memory.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.contenders import CONTENDERS, FLOOR, OURS, RECOMPUTED, SNNTORCH
from benchmarks.networks import Network
from benchmarks.plots import plot_curves
from benchmarks.record import arguments, folder_of, save
from benchmarks.starting_weights import with_start
from benchmarks.tables import absent, ratio, rows, settings_of
from benchmarks.turns import Result, measure

BASE: dict[str, Any] = {"T": 25, "width": 1000, "batch": 128, "density": 0.03}
SWEEPS: dict[str, list[float]] = {
    "T": [5, 10, 25, 50, 100],
    "width": [256, 512, 1000, 2000, 4096],
    "batch": [16, 32, 64, 128, 256, 512],
    "density": [0.005, 0.01, 0.03, 0.1, 0.2, 0.5],
}
QUICK: dict[str, list[float]] = {"T": [5, 10], "width": [256, 512], "batch": [16, 32], "density": [0.03, 0.1]}
QUICK_BASE: dict[str, Any] = {"T": 5, "width": 256, "batch": 16, "density": 0.03}
NAMES = (OURS, SNNTORCH, FLOOR)
ALSO = {"T": (RECOMPUTED,)}
"""Further contenders by the quantity that varies."""
SECONDS = 4.0
"""Seconds of measuring at a point after which no further turn begins."""

Curves = dict[str, dict[str, dict[str, Result]]]
console = Console(stderr=True)


def network_of(point: dict[str, Any]) -> Network:
    """Describe the network of a point, ``T``, ``width``, ``batch`` and ``density``."""
    return {
        "kind": "mlp",
        "sizes": [784, point["width"], point["width"], 10],
        "steps": point["T"],
        "batch": point["batch"],
        "start": {"how": "scaled", "rate": point["density"]},
    }


def run(sweeps: dict[str, list[float]], base: dict[str, Any], rounds: int) -> Curves:
    """Measure all points: results by quantity, value and contender. A point of two sweeps is measured once."""
    seen: dict[str, dict[str, Result]] = {}
    curves: Curves = {}
    for varied, values in sweeps.items():
        curves[varied] = {}
        for value in values:
            point = base | {varied: value}
            key = json.dumps(point)
            names = [name for name in CONTENDERS if name in (*NAMES, *ALSO.get(varied, ()))]
            if key not in seen:
                label = ", ".join(f"{name} {number}" for name, number in point.items())
                console.print(label)
                with tempfile.TemporaryDirectory() as folder:
                    started = with_start(network_of(point), Path(folder))
                    seen[key] = measure(started, rounds, 1, label, names, SECONDS)
                if "skipped" in seen[key][OURS]:
                    raise RuntimeError(f"{OURS} did not run at {label}: {seen[key][OURS]['skipped']}")
            curves[varied][f"{value:g}"] = seen[key]
    return curves


def markdown(curves: Curves, about: str) -> str:
    """Write a Markdown table for each quantity that varies."""
    lines = [about, ""]
    for varied, points in curves.items():
        names = [*NAMES, *ALSO.get(varied, ())]
        held = [name for name in names if name != FLOOR]
        head = [varied, *names, *(f"memory: {name}" for name in held), "hidden spike rates, measured"]
        body = []
        for value, results in points.items():
            cells = [_time(results, name) for name in names]
            memory = [_memory(results[name]) for name in held]
            rates = " · ".join(f"{100 * rate:.2f} %" for rate in results[OURS]["rates"][:-1])
            body.append([value, *cells, *memory, rates])
        lines += rows(head, body)
    lines += [
        "In brackets: times ours; for dense products, ours as a multiple of them. Memory: beyond what the process held "
        "before the network was built.",
        "",
    ]
    by_point = {f"{v} {n}": r for v, points in curves.items() for n, r in points.items()}
    return "\n".join(lines + settings_of(by_point) + absent(by_point))


def _time(results: dict[str, Result], name: str) -> str:
    times = ratio(results, name)
    return "–" if times is None else f"{results[name]['ms']:.1f} ms" + ("" if name == OURS else f" ({times:.2f}×)")


def _memory(result: Result) -> str:
    return f"{result['grown_mb']:.0f} MB" if "grown_mb" in result else "–"


def main(given: list[str] | None = None) -> None:
    """Measure, print, and write the results."""
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="steps of each contender at a point, at most (default 9)")
    parser.add_argument("--only", choices=list(SWEEPS), action="append", help="what varies (default: all)")
    options = parser.parse_args(given)
    sweeps, base = (QUICK, QUICK_BASE) if options.quick else (SWEEPS, BASE)
    chosen = {name: sweeps[name] for name in options.only or sweeps}
    others = ", ".join(f"{name} {value}" for name, value in base.items())
    rounds = 3 if options.quick else options.rounds
    how = f"One training step of 784-N-N-10, β 0.9; where not varied: {others}; medians of up to {rounds} in turns"
    curves = run(chosen, base, rounds)
    save("curves", how, curves, markdown, plot_curves, folder=folder_of(options))


if __name__ == "__main__":
    main()
