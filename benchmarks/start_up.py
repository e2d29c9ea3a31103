"""Start-up times: from the start of a process to the answer of a command, or to an imported package.

``python -m benchmarks.start_up`` prints medians of whole processes, which take turns, forwards and backwards.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

from benchmarks.tables import rows

PARTS = "from spikelfp import nn, rules, rewards, models, data"
PROCESSES = {
    "python -c pass": ["-c", "pass"],
    "spikelfp --help": ["-m", "spikelfp", "--help"],
    "spikelfp train --help": ["-m", "spikelfp", "train", "--help"],
    "spikelfp --version": ["-m", "spikelfp", "--version"],
    "spikelfp train --hiden 100": ["-m", "spikelfp", "train", "--hiden", "100"],
    "spikelfp train --method foo": ["-m", "spikelfp", "train", "--method", "foo"],
    "hw-export --help": ["-m", "hw_export.cli", "--help"],
    "hw-export build --help": ["-m", "hw_export.cli", "build", "--help"],
    "hw-export build r --bots 8": ["-m", "hw_export.cli", "build", "r", "--bots", "8"],
    "import spikelfp": ["-c", "import spikelfp"],
    "import hw_export": ["-c", "import hw_export"],
    "import torch": ["-c", "import torch"],
    f"import torch; {PARTS}": ["-c", f"import torch; {PARTS}"],
    "import torch; from hw_export import *": ["-c", "import torch; from hw_export import *"],
}
"""Arguments of Python by the name of the measurement."""


def seconds(arguments: list[str]) -> tuple[float, float]:
    """Measure wall time and processor time of one process."""
    before, start = os.times(), time.perf_counter()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    wall, after = time.perf_counter() - start, os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return wall, used


def measure(turns: int) -> dict[str, dict[str, float]]:
    """Measure medians of wall and processor times in seconds over the given number of turns."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in PROCESSES}
    for turn in range(turns):
        for name in list(PROCESSES)[:: 1 if turn % 2 == 0 else -1]:
            found[name].append(seconds(PROCESSES[name]))
    return {
        name: {"wall": statistics.median(wall for wall, _ in each), "cpu": statistics.median(cpu for _, cpu in each)}
        for name, each in found.items()
    }


def main() -> None:
    """Measure, and print a table with the ratio of each to ``import torch``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=10, help="processes of each kind")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON, too")
    options = parser.parse_args()
    found = measure(options.turns)
    torch = found["import torch"]
    body = [
        [name, f"{each['wall']:.2f}", f"{each['cpu']:.2f}", f"{each['wall'] / torch['wall']:.2f}"]
        for name, each in found.items()
    ]
    print("\n".join(rows(["process", "seconds", "of the processor", "of import torch"], body)))
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
