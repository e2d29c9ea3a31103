"""Output of all benchmarks to ``benchmarks/results``: ``NAME.json``, ``NAME.md`` and ``NAME.png``."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from spikelfp.files import write_text, write_whole

RESULTS = Path(__file__).parent / "results"
QUICK = Path(__file__).parent / ".cache" / "quick"
"""Folder for quick runs, since their numbers mean little."""


def arguments(about: str | None) -> argparse.ArgumentParser:
    """Make a parser with the options of all benchmarks."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"as little as shows that it runs; writes to {QUICK}")
    parser.add_argument("--out", type=Path, help=f"folder for the results (default {RESULTS})")
    return parser


def folder_of(options: argparse.Namespace) -> Path:
    """Return the folder that a benchmark writes to."""
    return options.out or (QUICK if options.quick else RESULTS)


def save(
    name: str,
    how: str,
    table: dict[str, Any],
    markdown: Callable[[dict[str, Any], str], str],
    plot: Callable[[dict[str, Any]], bytes] | None = None,
    *,
    folder: Path = RESULTS,
) -> None:
    """Save and print the ``table`` of the networks, headed by ``how``, the machine and the version of torch.

    plot: makes a PNG from the table, ``NAME.png``, which the Markdown shows.
    """
    machine = platform.processor() or platform.machine()
    cores, threads = os.cpu_count(), torch.get_num_threads()
    about = f"{how}; {cores} cores ({machine}), at most {threads} threads, torch {torch.__version__}."
    text = markdown(table, about)
    if plot is not None:
        write_whole(folder / f"{name}.png", lambda file: file.write(plot(table)))
        text += f"\n![{name}]({name}.png)\n"
    write_text(folder / f"{name}.json", json.dumps({"about": about, "networks": table}, indent=2) + "\n")
    write_text(folder / f"{name}.md", text)
    print(text)
