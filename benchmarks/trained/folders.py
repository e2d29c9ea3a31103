"""Training runs in folders, by the command ``spikelfp train``: run once, read as often as one likes."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from spikelfp.files import write_text
from spikelfp.functional.lif import PAPER_FLOOR, PAPER_MARGIN
from spikelfp.machine import process_context, stop_on_interrupt
from spikelfp.training.run_folder import FOUND

Options = Mapping[str, Any]
"""Options of a run by their names in Python: ``{"batch_size": 50}`` for ``--batch-size 50``."""

OWN = {"plugin"}
"""Options that ``config.yaml`` does not hold under their name."""


class Found(NamedTuple):
    """What a run folder holds.

    Attributes:
        epochs: one mapping an epoch, columns of ``metrics.csv`` to numbers.
        summary: ``summary.json``; ``None`` while the run is not finished.
        cpu_seconds: CPU time of its process, with loading and tests; ``None`` if it is not finished, or not known.
    """

    epochs: list[dict[str, float]]
    summary: dict[str, Any] | None
    cpu_seconds: float | None


class OtherRunError(Exception):
    """Raised for a folder with a run of other options."""


def words(options: Options) -> list[str]:
    """Write options as arguments of ``spikelfp train``."""
    found = []
    for name, value in options.items():
        dashed = name.replace("_", "-")
        if isinstance(value, bool):
            found.append(f"--{'' if value else 'no-'}{dashed}")
        else:
            found += [f"--{dashed}", _word(value)]
    return found


def _word(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def once(folder: Path, options: Options) -> None:
    """Run ``spikelfp train`` into ``folder``, unless it holds this run finished; go on with one that was stopped.

    The run has a process of its own, so that its peak of memory is its own. What it prints is in ``folder.log``.

    Raises:
        OtherRunError: for a folder with another run.
        RuntimeError: for a run that failed, with the end of what it said.
    """
    if (folder / "config.yaml").exists():
        check(folder, options)
        if (folder / "summary.json").exists():
            return
    begun = (folder / "config.yaml").exists() and (folder / "checkpoints" / "last.pt").exists()
    again = ["--resume"] if begun else ["--overwrite"] if folder.exists() else []
    plugin = [] if "plugin" not in options else words({"plugin": options["plugin"]})
    given = [*plugin, "--resume"] if begun else [*words(options), *again]
    folder.parent.mkdir(parents=True, exist_ok=True)
    if not begun:
        _cpu(folder).unlink(missing_ok=True)
    process = process_context("spikelfp.training.run").Process(
        target=_train, args=([*given, "--no-report", "--out", str(folder)], folder)
    )
    process.start()
    try:
        with stop_on_interrupt():  # else SIGTERM would end this process alone
            process.join()
    finally:
        process.terminate()  # where this one was interrupted
    if process.exitcode:
        raise RuntimeError(f"{folder}: ended with status {process.exitcode}: {_log(folder).read_text()[-400:]}")


def _log(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.log")


def _cpu(folder: Path) -> Path:
    """File with the CPU time of the processes of a run."""
    return folder.with_name(f"{folder.name}.cpu")


def _train(given: list[str], folder: Path) -> None:
    """Run the command in this process, and add its CPU time to that of the run."""
    with _log(folder).open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    from spikelfp import cli  # after the output has gone to the file

    sys.argv = ["spikelfp", "train", *given]
    try:
        cli.main()
    finally:
        before = float(_cpu(folder).read_text()) if _cpu(folder).exists() else 0.0
        write_text(_cpu(folder), f"{before + time.process_time():.2f}\n")


def check(folder: Path, options: Options, shorter: bool = False) -> None:
    """Refuse a folder whose run has other options than these.

    Args:
        folder: of the run.
        options: that it is to have.
        shorter: whether it may be for fewer epochs, of a constant learning rate.

    Raises:
        OtherRunError: naming the first option.
    """
    values = yaml.safe_load((folder / "config.yaml").read_text())
    unstated = {"floor": PAPER_FLOOR, "margin": PAPER_MARGIN}  # by runs that are older than the options
    held = unstated | dict(_flat({name: each for name, each in values.items() if name not in FOUND}))
    for name, value in options.items():
        if name in OWN or (name == "epochs" and shorter and held["schedule"] == "constant" and held[name] <= value):
            continue
        found = tuple(held[name]) if isinstance(held.get(name), list) else held.get(name)
        if found != value:
            raise OtherRunError(f"{folder} holds a run with {name} {found}, and {value} is asked for: move it away")


def _flat(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the options of a ``config.yaml`` by their flat names."""
    for name, value in values.items():
        if isinstance(value, dict):
            if "name" in value:
                yield name, value["name"]
            yield from _flat({key: each for key, each in value.items() if key != "name"})
        else:
            yield name, value


def read(folder: Path) -> Found | None:
    """Read a run folder, finished or not; ``None`` if no epoch is there."""
    rows: list[dict[str, float]] = []
    with contextlib.suppress(FileNotFoundError), (folder / "metrics.csv").open() as file:
        rows = [{name: float(cell) for name, cell in row.items() if cell} for row in csv.DictReader(file)]
    if not rows:
        return None
    summary, used = folder / "summary.json", _cpu(folder)
    if not summary.exists():
        return Found(rows, None, None)
    return Found(rows, json.loads(summary.read_text()), float(used.read_text()) if used.exists() else None)
