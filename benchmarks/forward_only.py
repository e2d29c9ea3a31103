"""Methods without a backward pass between layers beside the F³ paper's values: ``python -m benchmarks.forward_only``.

Each section (:data:`SECTIONS`) is a table of the paper, or a question of ours: MNIST, wine quality, SGEMM, and spiking
networks. Depth, a Vision Transformer, feedback weights and error information are figures of ``spikelfp reproduce``:
``f3-fig2`` to ``f3-fig4``. Every number is that of a run of
``spikelfp train`` in a folder of ``--runs``. A run that is finished is not run again, and one that was stopped goes on,
so the command can be interrupted at any time. ``--collect`` runs nothing and reads what there is.

All sections take many hours on two cores. Writes ``forward_only.json`` and ``forward_only.md``; sections that are
left out keep the numbers that the file has, and so do runs of the same options that have no folder. Without ``--out``
the tables of ``docs/forward_only.md`` are written, too.
"""

from __future__ import annotations

import json
import statistics
import textwrap
from pathlib import Path
from typing import Any

from benchmarks.forward.sections import SECTIONS, shortened
from benchmarks.record import RESULTS, arguments, save
from benchmarks.tables import between, rows, spread
from benchmarks.trained.folders import words
from benchmarks.trained.table import Section, add_options, planned
from spikelfp.files import write_text

RUNS = Path(__file__).parent / ".cache" / "forward_only"
"""Folder of the runs."""
PAGE = Path(__file__).parents[1] / "docs" / "forward_only.md"
BEGIN, END = "<!-- results: begin -->\n", "<!-- results: end -->\n"
"""Marks of the page between which the tables stand."""
DIGITS = {"accuracy": 4, "error": 2, "loss": 4}
"""Decimals of a score in the tables."""
UNITS = {"accuracy": "test accuracy", "error": "test error, %", "loss": "test loss"}

Table = dict[str, dict[str, Any]]


def closed(section: dict[str, Any]) -> dict[str, Any] | None:
    """Compute the share of the gap that a method closes, at the last epoch that all runs of the three methods have.

    ``share = (poor − ours) / (poor − good)``, of means over the seeds that all three have.
    """
    if section["gap"] is None:
        return None
    poor, good, ours, goal, paper = section["gap"]
    runs = {key: {run["seed"]: run["scores"] for run in section["rows"][key]["runs"]} for key in (poor, good, ours)}
    seeds = sorted(set.intersection(*(set(each) for each in runs.values())))
    if not seeds:
        return None
    epoch = min(len(each[seed]) for each in runs.values() for seed in seeds)
    of = {key: statistics.mean(each[seed][epoch - 1] for seed in seeds) for key, each in runs.items()}
    sign = 1 if section["unit"] == "loss" else -1
    gap = sign * (of[poor] - of[good])
    if gap <= 0:
        return {"share": None, "epoch": epoch, "seeds": seeds, "goal": goal, "paper": paper, "of": ours}
    share = sign * (of[poor] - of[ours]) / gap
    return {"share": share, "epoch": epoch, "seeds": seeds, "goal": goal, "paper": paper, "of": ours}


def score(value: float, unit: str) -> float:
    """Convert a score to the unit of the table."""
    return 100 * (1 - value) if unit == "error" else value


def _paper(value: float | None) -> str:
    return "–" if value is None else f"{value:g}"


def into_page(text: str, table: Table) -> str:
    """Put the tables of all sections between the marks of a page of the documentation."""
    shown = [each for each in table.values() if any(row["runs"] for row in each["rows"].values())]
    lines = [line for section in shown for line in section_lines(section, short=True)]
    return between(text, BEGIN, END, lines)


def section_lines(section: dict[str, Any], short: bool = False) -> list[str]:
    """Write a section as a Markdown table, with the share of the gap and, unless ``short``, what was tried and run."""
    unit, whole = section["unit"], section["epochs"]
    with_paper = any(row["paper"] is not None for row in section["rows"].values())
    head = ["method", UNITS[unit], *(["paper"] if with_paper else []), "seeds", "epochs"]
    head += ["CPU seconds an epoch", "memory, MB"] if section["cost"] else []
    body, commands, tried = [], [], []
    for row in section["rows"].values():
        runs = row["runs"]
        if short and not runs:
            continue
        fewest = min((len(run["scores"]) for run in runs), default=0)
        scores = [score(run["scores"][fewest - 1], unit) for run in runs] if fewest else []
        cells = [
            row["name"],
            spread(scores, DIGITS[unit]),
            *([_paper(row["paper"])] if with_paper else []),
            str(len(runs)),
        ]
        cells.append(f"{fewest}" if fewest == whole or not runs else f"{fewest} of {whole}")
        if section["cost"]:
            seconds = [run["cpu_seconds"] / len(run["scores"]) for run in runs if run["cpu_seconds"]]
            memory = [run["memory_mb"] for run in runs if run["memory_mb"]]
            cells.append(f"{statistics.mean(seconds):.1f}" if seconds else "–")
            cells.append(f"{max(memory):.0f}" if memory else "–")
        body.append(cells)
        commands += [f"    spikelfp train {row['command']}"] if runs else []
        tried += [[row["name"], " ".join(words(one["choice"])), f"{one['score']:.4f}"] for one in row.get("tuning", [])]
    lines = [f"##{'#' * short} {section['title']}", "", *textwrap.wrap(section["about"], 118), "", *rows(head, body)]
    share = closed(section)
    if share is not None:
        own = "no gap" if share["share"] is None else f"{100 * share['share']:.1f} %"
        met = "met" if share["share"] is not None and share["share"] >= share["goal"] else "not met"
        said = (
            f"Gap between DRTP and backpropagation that F³ closes: {own} (goal {100 * share['goal']:.0f} %, {met}; "
            f"paper {100 * share['paper']:.1f} %), after epoch {share['epoch']}, seeds {len(share['seeds'])}."
        )
        lines += [*textwrap.wrap(said, 118), ""]
    if short:
        return lines
    if tried:
        lines += ["Tried on validation parts:", "", *rows(["method", "options", "validation score"], tried)]
    return [*lines, *commands, *([""] if commands else [])]


def markdown(table: Table, about: str) -> str:
    """Write all sections."""
    lines = [about, ""]
    for section in table.values():
        lines += section_lines(section)
    lines += ["Means over the seeds ± their standard deviation. Nothing was chosen on a test set.", ""]
    return "\n".join(lines)


def main(given: list[str] | None = None, sections: dict[str, Section] = SECTIONS) -> None:
    """Run what is missing, print, and write the results."""
    parser = arguments(__doc__)
    add_options(parser, sections, RUNS)
    options = parser.parse_args(given)
    plan = planned(options, "forward_only", RUNS)
    path = plan.folder / "forward_only.json"
    table: Table = json.loads(path.read_text())["networks"] if path.exists() and not options.quick else {}
    for name in options.only or sections:
        section = shortened(sections[name]) if options.quick else sections[name]
        table[name] = plan.measure(name, section, table.get(name))
    table = {name: table[name] for name in sections if name in table}
    save("forward_only", "Runs of spikelfp train, one thread each", table, markdown, folder=plan.folder)
    if plan.folder == RESULTS:
        write_text(PAGE, into_page(PAGE.read_text(), table))


if __name__ == "__main__":
    main()
