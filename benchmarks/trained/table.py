"""Tables of trained networks: a section has rows, and a row runs of ``spikelfp train`` with options that were chosen.

Options are chosen by the validation score of the last epoch. Every run is a folder; those that are finished are not
run again (:mod:`benchmarks.trained.folders`). Nor are those whose scores stand in the results already, with the same
options: rows and seeds can be added on a machine that has no folders of the others.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.record import folder_of
from benchmarks.trained.folders import Found, check, once, read, words

Options = dict[str, Any]

console = Console(stderr=True)


@dataclass(frozen=True)
class Row:
    """A method with its options.

    Attributes:
        name: in the table.
        options: beside those of the section.
        paper: value of the paper, in the unit of the section.
        choices: options of which one is chosen on a validation part, by the first seed.
    """

    name: str
    options: Options
    paper: float | None = None
    choices: tuple[Options, ...] = ()


@dataclass(frozen=True)
class Section:
    """Runs that are compared with each other.

    Attributes:
        title: of the table.
        about: what is special in the setting, and what differs from the paper.
        options: of every run.
        rows: by the names that run folders have.
        score: column of ``metrics.csv`` after ``test_`` or ``validation_``.
        unit: of the score in the table: ``accuracy``, ``error`` in percent, or ``loss``.
        seeds: number of runs of each row, where it is not that of the command.
        tuning: options of the runs that choose.
        gap: rows whose distance is 100 %, the poor and the good one, with the row that closes it, the least share that
            is the goal, and the share in the paper.
        cost: whether seconds and memory are shown, too.
        variants: options of each run of a row, such as folds; none: the runs differ in their seeds.
    """

    title: str
    about: str
    options: Options
    rows: dict[str, Row]
    score: str = "accuracy"
    unit: str = "accuracy"
    seeds: int | None = None
    tuning: Options = field(default_factory=dict)
    gap: tuple[str, str, str, float, float] | None = None
    cost: bool = False
    variants: tuple[Options, ...] = ()


class Runner:
    """Runs of one section: carried out where they are missing, and read.

    Args:
        name: of the section, with which the names of its folders begin.
        section: its settings.
        folder: of all runs.
        common: options of every run, such as the data folder.
        collect: whether nothing is run.
        recorded: what the results that there are hold of the section.
    """

    def __init__(
        self,
        name: str,
        section: Section,
        folder: Path,
        common: Options,
        collect: bool,
        recorded: Mapping[str, Any] | None = None,
    ) -> None:
        self.name, self.section, self.folder, self.common, self.collect = name, section, folder, common, collect
        recorded = recorded or {}
        self.recorded: Mapping[str, Any] = recorded.get("rows", {})
        self.tuned_alike = recorded.get("tuned", dict(section.tuning)) == dict(section.tuning)

    def found(self, name: str, options: dict[str, Any]) -> Found | None:
        """Carry out a run if need be, and read it.

        Returns:
            What it holds; ``None`` for one that is not there and not to be run.
        """
        folder = self.folder / f"{self.name}_{name}"
        if self.collect:
            if (folder / "config.yaml").exists():
                check(folder, options, shorter=True)
        else:
            once(folder, options | self.common)
        found = read(folder)
        if found is not None and not self.collect:
            console.print(f"{folder.name}: {_last(found, 'test' if 'validation' not in options else 'validation')}")
        return found

    def row(self, key: str, row: Row, seeds: int) -> dict[str, Any]:
        """Choose the options of a row, train with them once a seed, and gather the scores of each epoch."""
        options = self.section.options | row.options
        recorded = self.recorded.get(key, {})
        known: list[Options] = []
        if self.tuned_alike and recorded.get("command") == _command(options | recorded.get("chosen", {})):
            known = recorded["tuning"]
        tuning: list[Options] = []
        for number, choice in enumerate(row.choices if len(row.choices) > 1 else ()):
            before = [one for one in known if one["choice"] == choice]
            if before and not (self.folder / f"{self.name}_{key}_try{number}").exists():
                tuning += before
                continue
            found = self.found(f"{key}_try{number}", options | choice | self.section.tuning | {"seed": 0})
            if found is not None and found.summary is not None:
                tuning.append({"choice": choice, "score": found.epochs[-1][f"validation_{self.section.score}"]})
        if len(tuning) < len(row.choices) > 1:
            return {"tuning": tuning, "runs": []}
        chosen = _best(tuning, self.section.score) if tuning else dict(*row.choices[:1])
        command = _command(options | chosen)
        same = recorded.get("runs", []) if recorded.get("command") == command else []
        held = {run["seed"]: run for run in same if run["finished"] or self.collect}
        runs = []
        variants = self.section.variants or ({},) * seeds
        for number, variant in enumerate(variants):
            if number in held and not (self.folder / f"{self.name}_{key}_s{number}").exists():
                runs.append(held[number])
                continue
            seed = 0 if self.section.variants else number
            found = self.found(f"{key}_s{number}", options | chosen | variant | {"seed": seed})
            if found is not None:
                summary = found.summary or {}
                runs.append(
                    {
                        "seed": number,
                        "finished": found.summary is not None,
                        "scores": [epoch[f"test_{self.section.score}"] for epoch in found.epochs],
                        "seconds": [epoch["seconds"] for epoch in found.epochs],
                        "memory_mb": summary.get("peak_memory_mb"),
                        "spike_rates": summary.get("spike_rates"),
                        "update_density": summary.get("update_density"),
                        "cpu_seconds": found.cpu_seconds,
                    }
                )
        runs += [held[number] for number in sorted(held) if number >= len(variants)]  # of a command with more seeds
        return {"command": command, "chosen": chosen, "tuning": tuning, "runs": runs}


def _best(tuning: list[Options], score: str) -> Options:
    """Return the options with the best score."""
    better = min if score == "loss" else max
    chosen: Options = better(tuning, key=lambda one: one["score"])["choice"]
    return chosen


def _command(options: Options) -> str:
    return " ".join(words({name: value for name, value in options.items() if name != "plugin"}))


@dataclass(frozen=True)
class Plan:
    """Settings of a command that measures sections, from its options.

    Attributes:
        folder: of the results.
        runs: folder of the runs.
        common: options of every run.
        seeds: runs of each row, where its section says none.
        methods: keys of the rows that are run; the others are only read. ``None`` runs all.
    """

    folder: Path
    runs: Path
    common: Options
    seeds: int
    methods: tuple[str, ...] | None = None

    def measure(self, name: str, section: Section, recorded: Mapping[str, Any] | None = None) -> Any:
        """Measure a section: scores of all epochs and runs of each row.

        Args:
            name: of the section.
            section: its settings.
            recorded: what this returned before, by which runs are known that have no folder here.
        """
        found: dict[str, Any] = {}
        for key, row in section.rows.items():
            collect = self.methods is not None and key not in self.methods
            runner = Runner(name, section, self.runs, self.common, collect, recorded)
            found[key] = {"name": row.name, "paper": row.paper, **runner.row(key, row, section.seeds or self.seeds)}
        about = {key: getattr(section, key) for key in ("title", "about", "unit", "cost", "gap")}
        about["plugin"] = "plugin" in section.options
        return about | {"epochs": section.options["epochs"], "tuned": dict(section.tuning), "rows": found}


def planned(options: argparse.Namespace, name: str, runs: Path) -> Plan:
    """Make the plan of a command from its options (:func:`add_options`).

    Args:
        options: of the command line.
        name: of the results.
        runs: folder of the runs, where the options name none.
    """
    folder = folder_of(options)
    common = {} if options.data_dir is None else {"data_dir": options.data_dir}
    place = options.runs or (folder / f"{name}.quick" if options.quick else runs)
    methods = () if options.collect else options.methods
    return Plan(folder, place, common, 1 if options.quick else options.seeds, methods and tuple(methods))


def add_options(parser: argparse.ArgumentParser, sections: Mapping[str, Section], runs: Path) -> None:
    """Add the options of a command that measures sections.

    Args:
        parser: of the command line.
        sections: by name.
        runs: folder of the runs, where the options name none.
    """
    rows = dict.fromkeys(key for section in sections.values() for key in section.rows)
    parser.add_argument("--data-dir", help="folder of the data sets (default: $SPIKELFP_DATA)")
    parser.add_argument("--runs", type=Path, help=f"folder of the runs (default {runs})")
    parser.add_argument("--seeds", type=_count, default=3, help="runs of each method, where a table says none (3)")
    parser.add_argument("--only", type=names_of(sections), help=f"tables, separated by commas: {', '.join(sections)}")
    parser.add_argument("--methods", type=names_of(rows), help=f"rows to run, separated by commas: {', '.join(rows)}")
    parser.add_argument("--collect", action="store_true", help="run nothing: read the folders that there are")


def _count(text: str) -> int:
    """Read a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"takes a whole number of at least 1, got {text}")
    return int(text)


def _last(found: Found, part: str) -> str:
    last = found.epochs[-1]
    named = (f"{name} {value:.4f}" for name, value in last.items() if name.startswith(f"{part}_"))
    return f"epoch {last['epoch']:.0f}, " + ", ".join(named)


def names_of(known: Mapping[str, Any]) -> Any:
    """Make the type of an option that takes names, separated by commas."""

    def names(text: str) -> list[str]:
        chosen = text.split(",")
        unknown = [name for name in chosen if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"no {unknown[0]!r}: {', '.join(known)}")
        return chosen

    return names
