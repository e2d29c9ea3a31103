"""MNIST under LFP and surrogate gradients, the first table of the README: ``python -m benchmarks.mnist``.

Every number is that of a run of ``spikelfp train`` in a folder of ``--runs``: a run that is finished is not run again,
and one that was stopped goes on. ``--collect`` runs nothing and reads what there is. An hour or so on one core.

Writes ``mnist.json`` and ``mnist.md``; without ``--out`` the table of the README, too.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.networks import PAPER, TUNED
from benchmarks.record import RESULTS, arguments, save
from benchmarks.tables import between, rows, spread
from benchmarks.trained.table import Options, Row, Section, add_options, planned
from spikelfp.files import write_text

RUNS = Path(__file__).parent / ".cache" / "mnist"
"""Folder of the runs."""
PAGE = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- mnist: begin -->\n", "<!-- mnist: end -->\n"
"""Marks of the page between which the table stands."""

Table = dict[str, dict[str, Any]]

COLUMNS = {
    "lfp": Row("LFP", {}),
    "paper": Row("LFP, the paper's rule", dict(PAPER)),
    "surrogate": Row("surrogate gradient", dict(TUNED)),
}
CHOSEN = "Options were chosen on a held-out part of the training images (docs/training.md)."

SECTIONS = {
    "dense": Section(
        "784-1000-10, 15 steps, 3 epochs",
        CHOSEN,
        {"data": "mnist", "hidden": (1000,), "steps": 15, "epochs": 3},
        COLUMNS,
    ),
    "deep": Section(
        "784-1000-1000-10, 25 steps, 3 epochs",
        CHOSEN,
        {"data": "mnist", "hidden": (1000, 1000), "steps": 25, "epochs": 3},
        COLUMNS,
    ),
    "lenet": Section(
        "LeNet (A.6.4), 15 steps, 1 epoch",
        CHOSEN,
        {"data": "mnist", "model": "lif-lenet", "steps": 15, "epochs": 1},
        COLUMNS,
    ),
    "lenet-rates": Section(
        "LeNet, rate-coded, 10 steps, 10 epochs",
        "Network, reward, learning rate and dropout were chosen on a fifth of the training images, 0.993 there.",
        {
            "data": "mnist",
            "model": "lif-lenet",
            "encoding": "rate",
            "steps": 10,
            "epochs": 10,
            "reward": "count-softmax",
            "dropout": 0.2,
            "lr": 2e-3,
        },
        {"lfp": COLUMNS["lfp"]},
        seeds=1,
    ),
}
"""Networks; every run beside its options has the defaults."""


def accuracies(table: Table) -> list[str]:
    """Write the accuracies after the last epoch: a row for each network, a column for each method."""
    names = {key: row["name"] for network in table.values() for key, row in network["rows"].items()}
    body = []
    for network in table.values():
        found = {
            key: [run["scores"][-1] for run in row["runs"] if run["finished"]] for key, row in network["rows"].items()
        }
        body.append([network["title"], *(spread(found.get(key, []), 4) for key in names)])
    return rows(["network", *names.values()], body)


def markdown(table: Table, about: str) -> str:
    """Write the accuracies, the mean spike rates of hidden layers, the scores of all seeds, and the commands."""
    lines = [about, "", *accuracies(table)]
    for network in table.values():
        body = []
        for row in network["rows"].values():
            runs = [run for run in row["runs"] if run["finished"]]
            rates = [rate for run in runs for rate in list((run["spike_rates"] or {}).values())[:-1]]
            scores = ", ".join(f"{run['scores'][-1]:.4f}" for run in runs) or "–"
            body.append([row["name"], scores, f"{100 * sum(rates) / len(rates):.1f} %" if rates else "–"])
        lines += [f"## {network['title']}", "", network["about"], ""]
        lines += rows(["method", "test accuracy of each seed", "spikes of hidden neurons"], body)
        lines += [f"    spikelfp train {row['command']}" for row in network["rows"].values() if row["runs"]]
        lines.append("")
    return "\n".join([*lines, "Means ± standard deviations over the seeds.", ""])


def into_page(text: str, table: Table) -> str:
    """Put the accuracies between the marks of a page."""
    return between(text, BEGIN, END, accuracies(table))


def shortened(section: Section) -> Section:
    """Shorten a section to one epoch of the digits, enough to see that it runs."""
    small: Options = {"data": "digits", "steps": 4, "epochs": 1}
    options = section.options | small | ({"hidden": (16,)} if "hidden" in section.options else {})
    return replace(section, options=options, seeds=1)


def main(given: list[str] | None = None, sections: dict[str, Section] = SECTIONS) -> None:
    """Run what is missing, print, and write the results."""
    parser = arguments(__doc__)
    add_options(parser, sections, RUNS)
    options = parser.parse_args(given)
    plan = planned(options, "mnist", RUNS)
    path = plan.folder / "mnist.json"
    table: Table = json.loads(path.read_text())["networks"] if path.exists() and not options.quick else {}
    for name in options.only or sections:
        section = shortened(sections[name]) if options.quick else sections[name]
        table[name] = plan.measure(name, section, table.get(name))
    table = {name: table[name] for name in sections if name in table}
    save("mnist", "MNIST; runs of spikelfp train, one thread each", table, markdown, folder=plan.folder)
    if plan.folder == RESULTS:
        write_text(PAGE, into_page(PAGE.read_text(), table))


if __name__ == "__main__":
    main()
