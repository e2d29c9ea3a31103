"""What all benchmarks write: ``benchmarks/results/NAME.json`` and ``NAME.md``, the table also to the terminal."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


def save(name: str, how: str, table: dict[str, Any], markdown: Callable[[dict[str, Any], str], str]) -> None:
    """Keep and print the ``table`` of the networks; ``how`` it was measured goes before the machine and torch."""
    machine = platform.processor() or platform.machine()
    about = f"{how}; {os.cpu_count()} cores ({machine}), torch {torch.__version__}."
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps({"about": about, "networks": table}, indent=2) + "\n")
    text = markdown(table, about)
    (RESULTS / f"{name}.md").write_text(text)
    print(text)
