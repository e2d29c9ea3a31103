"""Demo of ``make demo``: train, export, check, and print a short table.

Each step is the command a user would type; it is printed before it runs.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

RUN, EXPORT = Path("runs/demo"), Path("runs/demo/export")
BIN = Path(sys.executable).parent

console = Console()


def command(line: str) -> dict:
    """Run one command and return the JSON object of its last line; stop the demo if it fails."""
    console.print(f"\n[bold]$ {line}[/bold]", highlight=False, soft_wrap=True)
    program, *arguments = shlex.split(line)
    done = subprocess.run([str(BIN / program), *arguments, "--json"], stdout=subprocess.PIPE, text=True)
    *text, last = done.stdout.splitlines() or [""]
    print("\n".join(text))
    if done.returncode:
        sys.exit(done.returncode)
    return json.loads(last)


def main() -> None:
    """Train the default spiking network on the embedded digits, export it in 8 bits, verify it in simulators."""
    start = time.perf_counter()
    shutil.rmtree(RUN, ignore_errors=True)
    trained = command(f"spikelfp train --data digits --model lif-mlp --hidden 256 --steps 15 --out {RUN}")
    built = command(f"hw-export build {RUN} --target nir --bits 8 --out {EXPORT}")
    verified = command(f"hw-export verify {EXPORT}")
    command_report(RUN)

    table = Table(title="demo", show_header=False)
    table.add_row("network", "64-256-10 LIF neurons, 15 steps, trained by reward, no surrogate gradient")
    table.add_row("test accuracy", f"{trained['test_accuracy']:.4f} (digits, {trained['epochs']} epochs)")
    accuracy = built["accuracy"]
    table.add_row(
        "accuracy in 8 bits",
        f"{accuracy['exported']:.4f} on {built['samples']} samples (in floats {accuracy['float']:.4f})",
    )
    for result in verified["results"]:
        table.add_row(f"{result['simulator']} {result['version']}", result["status"])
    table.add_row("time", f"{time.perf_counter() - start:.0f} s")
    table.add_row("report", str(RUN / "report.html"))
    console.print(table)


def command_report(run: Path) -> None:
    """Write the report again, with the table of simulators."""
    subprocess.run([str(BIN / "spikelfp"), "report", str(run)], stdout=subprocess.DEVNULL, check=True)


if __name__ == "__main__":
    main()
