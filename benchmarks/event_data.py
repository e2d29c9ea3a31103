"""LFP against surrogate gradients on recordings of events: ``python -m benchmarks.event_data``.

Each of three data sets (:data:`TASKS`) has one network, binning, batch size, number of epochs and optimiser for both
methods, which train through the functions of ``spikelfp train``. Each method chooses from the same number of options by
its accuracy on a fifth of the training recordings (seed 0), and is trained again with its choice on all of them, with
three seeds. Only then it is tested. Logistic regression on binned events chooses its regularisation likewise.

It takes about an hour on two cores. Every finished run is kept, and ``--resume`` continues. Writes
``event_data.json`` and ``event_data.md``.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.events.baseline import logistic_regression
from benchmarks.events.ledger import Ledger
from benchmarks.events.runs import Result, load, run
from benchmarks.events.tasks import METHODS, TASKS, Options, Task, command, shortened
from benchmarks.record import arguments, folder_of, save
from benchmarks.tables import rows

Table = dict[str, dict[str, Any]]
"""By data set: ``logistic_regression``, and for each method ``tuning``, ``test`` and ``command``."""

GOALS = {"nmnist": 0.0, "braille": 0.02, "fsdd-cochlea": 0.02}
"""Largest accepted distance of LFP below the surrogate gradient."""

console = Console(stderr=True)


def measure(task: Task, common: Options, seeds: int, ledger: Ledger) -> dict[str, Any]:
    """Measure logistic regression, and tuning and test accuracies of each method; ``common`` has the data folders."""
    options, counts = task.options | common, {"data": task.options["data"]} | task.counts | common
    splits = load(options)

    def once(chosen: Options, seed: int, validate: bool, what: str) -> Result:
        given = options | chosen
        result = ledger.once(
            given | {"seed": seed, "validate": validate}, lambda: run(splits, given, seed, validate=validate)
        )
        numbers = f"{what} {result['accuracy']:.4f} in {result['seconds']:.0f} s"
        console.print(f"{task.options['data']}: {command(chosen)}: {numbers}", soft_wrap=True)
        return result

    found: dict[str, Any] = {
        "logistic_regression": ledger.once(counts, lambda: logistic_regression(load(counts), counts["steps"]))
    }
    for method in METHODS:
        choices = [{"method": method} | choice for choice in task.choices(method)]
        tuning = [{"choice": choice, **once(choice, 0, True, "validation")} for choice in choices]
        chosen = max(tuning, key=lambda one: one["accuracy"])["choice"]
        final = chosen | task.final
        test = [once(final, seed, False, f"test, seed {seed}") for seed in range(seeds)]
        found[method] = {"tuning": tuning, "test": test, "command": command(task.options | final)}
    return found


def markdown(table: Table, about: str) -> str:
    """Write mean test accuracies with their deviation, the goals, the choices, and all options that were tried."""
    head = ["data", "LFP", "surrogate gradient", "logistic regression", "LFP − surrogate"]
    body, commands, tried = [], [], []
    for data, found in table.items():
        lfp, surrogate = ([one["accuracy"] for one in found[method]["test"]] for method in METHODS)
        apart = statistics.mean(lfp) - statistics.mean(surrogate)
        goal = f"{100 * apart:+.1f} points"
        if data in GOALS:
            goal += f" (goal at least {-100 * GOALS[data]:.0f}, {'met' if apart >= -GOALS[data] else 'not met'})"
        body.append([data, _cell(lfp), _cell(surrogate), f"{found['logistic_regression']['accuracy']:.3f}", goal])
        commands += [f"    spikelfp train {found[method]['command']}" for method in METHODS]
        tried += [
            [data, method, command(one["choice"]), f"{one['accuracy']:.3f}", f"{one['train_accuracy']:.3f}"]
            for method in METHODS
            for one in found[method]["tuning"]
        ]
    lines = [about, "", *rows(head, body), "Mean and standard deviation over the seeds, of the test recordings.", ""]
    lines += [
        "Chosen:",
        "",
        *commands,
        "",
        "All that was tried, on validation parts:",
    ]
    return "\n".join([*lines, "", *rows(["data", "method", "options", "validation", "training"], tried)])


def _cell(accuracies: list[float]) -> str:
    mean = f"{statistics.mean(accuracies):.3f}"
    return mean if len(accuracies) == 1 else f"{mean} ± {statistics.stdev(accuracies):.3f}"


def main(given: list[str] | None = None, tasks: Mapping[str, Task] = TASKS) -> None:
    """Measure, print, and write the results."""
    parser = arguments(__doc__)
    parser.add_argument("--data-dir", type=Path, help="folder of the data sets (default: $SPIKELFP_DATA)")
    parser.add_argument("--cache-dir", type=Path, help="folder of binned recordings (default: $SPIKELFP_CACHE)")
    parser.add_argument("--seeds", type=int, default=3, help="runs with the chosen options (default 3)")
    parser.add_argument("--only", choices=list(tasks), action="append", help="data set (default: all)")
    parser.add_argument("--resume", action="store_true", help="go on with the runs that are finished already")
    options = parser.parse_args(given)
    chosen = {name: tasks[name] for name in options.only or tasks}
    if options.quick:
        chosen = {name: shortened(task) for name, task in chosen.items()}
    folder, seeds = folder_of(options), 1 if options.quick else options.seeds
    common = {name: str(path) for name in ("data_dir", "cache_dir") if (path := getattr(options, name)) is not None}
    ledger = Ledger(folder / "event_data.runs.json", options.resume)
    table = {name: measure(task, common, seeds, ledger) for name, task in chosen.items()}
    how = f"Test accuracy over {seeds} seeds; options chosen on a fifth of the training recordings"
    save("event_data", how, table, markdown, folder=folder)


if __name__ == "__main__":
    main()
