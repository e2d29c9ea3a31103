"""Every method on every data set, tuned alike, in one table: ``python -m benchmarks.arena``.

Each method chooses one of four options by its accuracy on a validation part, with the first seed, and is trained again
with it on the whole training part. Only these runs are tested. Logistic regression on counts of events stands beside
them; it chooses its regularisation likewise. Every number is that of a run of ``spikelfp train`` in a
folder of ``--runs``: a run that is finished is not run again, and one that was stopped goes on. ``--collect`` runs
nothing and reads what there is. A data set that is not at hand is left out by name. ``--quick`` needs no data.

Writes ``arena.json``, ``arena.md`` and ``arena.png``; tasks that are left out keep the numbers that the file has, and
so do runs of the same options that have no folder.
"""

from __future__ import annotations

import json
import statistics
import sys
import textwrap
from pathlib import Path
from typing import Any

from benchmarks.arena import counts
from benchmarks.arena.plot import plot
from benchmarks.arena.tasks import NEEDS, TASKS, Task, shortened
from benchmarks.record import RESULTS, arguments, save
from benchmarks.tables import between, rows, spread
from benchmarks.trained.folders import words
from benchmarks.trained.table import add_options, planned
from spikelfp import data
from spikelfp.errors import DataError
from spikelfp.files import write_text

RUNS = Path(__file__).parents[1] / ".cache" / "arena"
"""Folder of the runs."""

Table = dict[str, dict[str, Any]]


def at_hand(task: str, data_dir: str | None) -> str:
    """Return why the data of a task cannot be read; empty if they can."""
    if task not in NEEDS:
        return ""
    try:
        data.load(NEEDS[task], data_dir)
    except (DataError, OSError) as error:
        return str(error).splitlines()[0]
    return ""


def cells(row: dict[str, Any]) -> list[str]:
    """Write a method as cells of its task's table: accuracy, cost, spikes, and share of the weights that change."""
    runs = [run for run in row["runs"] if run["finished"]]
    accuracy = [run["scores"][-1] for run in runs]
    seconds = [run["cpu_seconds"] / len(run["scores"]) for run in runs if run["cpu_seconds"]]
    memory = [run["memory_mb"] for run in runs if run["memory_mb"]]
    spikes = [rate for run in runs for rate in (run["spike_rates"] or {}).values()]
    density = [run["update_density"] for run in runs if run["update_density"] is not None]
    return [
        row["name"],
        spread(accuracy, 4),
        f"{statistics.mean(seconds):.1f}" if seconds else "–",
        f"{max(memory):.0f}" if memory else "–",
        f"{100 * statistics.mean(spikes):.1f}" if spikes else "–",
        f"{100 * statistics.mean(density):.0f}" if density else "–",
        str(len(runs)),
    ]


HEAD = ["method", "test accuracy", "CPU s an epoch", "memory, MB", "spikes, %", "weights that change, %", "runs"]


def markdown(table: Table, about: str) -> str:
    """Write a table for each task, the commands of the chosen options, and all that was tried."""
    lines = [about, ""]
    for name, task in table.items():
        if "missing" in task:
            lines += [f"## {name}", "", f"Left out, since the data are not at hand: {task['missing']}", ""]
            continue
        lines += [f"## {task['title']}", "", *textwrap.wrap(task["about"], 118), ""]
        body = [cells(row) for row in task["rows"].values() if row["runs"]]
        if task.get("counts"):
            body.append(["logistic regression on counts", f"{task['counts']['accuracy']:.4f}", *["–"] * 5])
        lines += rows(HEAD, body)
        tried = [
            [row["name"], " ".join(words(one["choice"])), f"{one['score']:.4f}"]
            for row in task["rows"].values()
            for one in row["tuning"]
        ]
        lines += ["Tried on validation parts:", "", *rows(["method", "options", "validation accuracy"], tried)]
        own = " --plugin benchmarks/arena/data.py" if task.get("plugin") else ""
        lines += [f"    spikelfp train{own} {row['command']}" for row in task["rows"].values() if row["runs"]]
        lines.append("")
    lines += [
        "Means ± standard deviations over the runs. Spikes: share of neurons that fire in a step, mean over layers."
    ]
    return "\n".join([*lines, ""])


BEGIN, END = "<!-- arena: begin -->\n", "<!-- arena: end -->\n"
PAGES = Path(__file__).parents[2] / "README.md", Path(__file__).parents[2] / "docs" / "events.md"
"""Pages that show the accuracies, between these marks."""


def accuracies(table: Table) -> list[str]:
    """Write the mean accuracies of all methods, in percent, a column for each task that was run."""
    shown = {name: task for name, task in table.items() if any(row["runs"] for row in task.get("rows", {}).values())}
    names: dict[str, str] = {key: row["name"] for task in shown.values() for key, row in task["rows"].items()}
    body = []
    for key, name in names.items():
        found = [_percent(task["rows"].get(key, {}).get("runs", [])) for task in shown.values()]
        if any(cell != "–" for cell in found):
            body.append([name, *found])
    counts = [f"{100 * own['accuracy']:.1f}" if (own := task.get("counts")) else "–" for task in shown.values()]
    if any(cell != "–" for cell in counts):
        body.append(["logistic regression on counts", *counts])
    return rows(["test accuracy, %", *shown], body)


def _percent(runs: list[dict[str, Any]]) -> str:
    return spread([100 * run["scores"][-1] for run in runs if run["finished"]], 1)


def into_page(text: str, table: Table) -> str:
    """Put the accuracies between the marks of a page."""
    return between(text, BEGIN, END, accuracies(table))


def main(given: list[str] | None = None, tasks: dict[str, Task] = TASKS) -> None:
    """Run what is missing, print, and write the results."""
    parser = arguments(__doc__)
    add_options(parser, tasks, RUNS)
    options = parser.parse_args(given)
    plan = planned(options, "arena", RUNS)
    path = plan.folder / "arena.json"
    table: Table = json.loads(path.read_text())["networks"] if path.exists() and not options.quick else {}
    for name in options.only or (name for name in tasks if not options.quick or name not in NEEDS):
        missing = "" if options.quick or options.collect else at_hand(name, options.data_dir)
        if missing:
            print(f"{name} is left out, since the data are not at hand: {missing}", file=sys.stderr)
            table.setdefault(name, {"missing": missing})  # numbers of another machine stay
            continue
        task = shortened(tasks[name]) if options.quick else tasks[name]
        recorded = table.get(name, {})
        table[name] = plan.measure(name, task, recorded)
        if task.parts:
            given, file = task.counts | plan.common, plan.runs / f"{name}_counts.json"
            found = counts.once(file, task.parts, given, options.collect)
            table[name]["counts"] = recorded.get("counts") if found is None else found
    table = {name: table[name] for name in tasks if name in table}
    how = "Every method chose one of four options on a validation part; runs of spikelfp train, one thread each"
    save("arena", how, table, markdown, plot, folder=plan.folder)
    if plan.folder == RESULTS:
        for page in PAGES:
            write_text(page, into_page(page.read_text(), table))


if __name__ == "__main__":
    main()
