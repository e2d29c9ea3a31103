"""Kills, full disks and signals at every change that a command makes to its files, and the way on from there.

After each, two ways on are tried: the command again, doing as its message says where it refuses; and, for training,
``--resume`` first. What they leave must be what the command leaves when nothing happens, bit for bit but for times.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from .compare import content, difference, left_over
from .process import Ended, environment, run, warm
from .scenarios import Scenario, copy, template
from .writes import FORBIDDEN, FULL, READ_ONLY, Moment, Writes, kill, terminate

ACTIONS = {"kill": kill, "full": FULL, "read-only": READ_ONLY, "forbidden": FORBIDDEN, "SIGTERM": terminate}

ALLOWED = ("unlink", "remove", "rmdir", "truncate", "ftruncate", "rename", "replace")
"""Changes that a full disk allows."""

MOST_TRIES = 5


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong at one change of a scenario."""

    scenario: int
    action: str
    at: int
    moment: Moment
    onwards: bool = False

    def __str__(self) -> str:
        return f"{self.action} {self.moment} change {self.at}{' and from there on' if self.onwards else ''}"


@dataclass(frozen=True)
class Found:
    """What came of one fault; ``problem`` is empty when all was well."""

    name: str
    fault: str
    action: str
    kills: int
    problem: str
    changed: str = ""


@dataclass
class Stage:
    """A scenario with its starting folder, what it leaves undisturbed, and the changes on the way."""

    scenario: Scenario
    start: Path
    old: dict[str, Any]
    twin: dict[str, Any]
    changes: list[tuple[str, str]]


def look(folder: Path, made: tuple[str, ...]) -> dict[str, Any]:
    """The content of what a scenario makes."""
    return {name: content(folder / name) for name in made}


def set_up(scenario: Scenario, where: Path) -> Stage:
    """Make the starting folder, and run the command undisturbed."""
    start = template(scenario, where)
    warm(scenario.command, copy(start, where / "warm"))
    undisturbed = copy(start, where / "twin" / "work")
    plain = scenario.perform(undisturbed)
    if plain.code != 0:
        raise RuntimeError(f"{scenario.name} fails without any fault: {plain}\n{plain.err}")
    twin = look(undisturbed, scenario.made)
    counted = copy(start, where / "count" / "work")
    names, places = where / "names", where / "places"

    def tell() -> None:
        writes = Writes(counted).install()
        end = os._exit

        def ended(code: int) -> None:
            lines = ["\t".join(each) for each in writes.names]
            with io.FileIO(names, "w") as file:
                file.write("\n".join(lines).encode())
            with io.FileIO(places, "w") as file:
                file.write("\n".join(writes.places).encode())
            end(code)

        os._exit = ended  # type: ignore[assignment]

    scenario.perform(counted, before=tell)
    changes = [tuple(line.split("\t")) for line in names.read_text().splitlines()]
    again = difference(look(counted, scenario.made), twin)
    if again:
        raise RuntimeError(f"{scenario.name} is not the same twice: {again}")
    if around := _written_around(start, counted, set(places.read_text().splitlines())):
        raise RuntimeError(f"{scenario.name} writes {around} around what the suite counts")
    return Stage(scenario, start, look(start, scenario.made), twin, changes)  # type: ignore[arg-type]


def _written_around(start: Path, folder: Path, places: set[str]) -> list[str]:
    """New files of ``folder`` that no counted change has made or moved; SQLite writes its own by itself."""
    new = [path for path in folder.rglob("*") if path.is_file() and not (start / path.relative_to(folder)).exists()]
    known = {str(path) for path in new if path.name.startswith("known-files")}
    return [
        str(path)
        for path in new
        if not {str(path), *map(str, path.parents)} & (places - {str(folder)}) | known & {str(path)}
    ]


def faults(number: int, stage: Stage, actions: tuple[str, ...], most: int | None = None) -> list[Fault]:
    """One fault for every change, before it and in its middle, evenly fewer if there are more than ``most``."""
    found: list[Fault] = []
    for action in actions:
        for at, (kind, _) in enumerate(stage.changes, 1):
            if action == "full" and kind in ALLOWED:
                continue
            found.append(Fault(number, action, at, "before"))
            if kind == "write" and action in ("kill", "full"):
                found.append(Fault(number, action, at, "half"))
            if action in ("full", "read-only"):
                found.append(Fault(number, action, at, "before", onwards=True))
    if most is None or len(found) <= most:
        return found
    return [found[len(found) * each // most] for each in range(most)]


def try_fault(stages: dict[int, Stage], where: Path, fault: Fault) -> Found:
    """Bring the fault about, go on by each way, and compare."""
    stage = stages[fault.scenario]
    scenario = stage.scenario
    place = where / f"{os.getpid()}"
    shutil.rmtree(place, ignore_errors=True)
    work = copy(stage.start, place / "hit" / "work")
    writes = Writes(work, fault.at, fault.moment, ACTIONS[fault.action], fault.onwards)
    if fault.action == "full":
        writes.spared = ALLOWED
    ended = scenario.perform(work, before=writes.install)
    kind, path = stage.changes[fault.at - 1]
    changed = f"{kind} {Path(path).name}"
    tell = partial(Found, scenario.name, str(fault), fault.action, 1, changed=changed)
    if problem := _ending(fault, ended):
        return tell(problem)
    after = look(work, scenario.made)
    ways = [("again", ())] + ([("--resume", ("--resume",))] if scenario.command[1] == "train" else [])
    for name, first in ways:
        on = copy(work, place / name.strip("-") / "work")
        alone = name == "--resume" and scenario.keeps_old
        last = _resume_alone(scenario, on) if alone else go_on(scenario, on, first)
        if last.raw:
            return tell(f"{name}: raw: {last}")
        if last.code != 0:
            return tell(f"{name}: a dead end: {last}")
        found = look(on, scenario.made)
        problem = difference(found, stage.twin)
        if problem and name == "--resume" and scenario.keeps_old and not difference(found, stage.old):
            problem = ""
        if problem:
            return tell(f"{name}: {problem}")
        if rest := left_over(on):
            return tell(f"{name}: left over: {_names(rest)}")
    return tell(_after_error(fault, ended, stage, work, after))


def _after_error(fault: Fault, ended: Ended, stage: Stage, work: Path, after: dict[str, Any]) -> str:
    """What an error of the disk has left that it should not have, or lost."""
    if fault.action in ("kill", "SIGTERM"):
        return ""
    if fault.onwards and fault.action == "read-only":
        return ""  # nothing can be removed or put back on such a disk: the ways on have shown that nothing is lost
    # What clearing a cache could not remove, the next one that comes to the cache does.
    if "--clear" not in stage.scenario.name and not stage.scenario.keeps_old and (rest := left_over(work)):
        return f"left over after the error: {_names(rest)}"
    if not stage.scenario.keeps_old or ended.code == 0:
        return ""
    kept = not difference(after, stage.old) or not difference(after, stage.twin) or _new_one(after, stage)
    return "" if kept else f"the old one is gone: {difference(after, stage.old)}"


def _names(paths: list[str]) -> str:
    """The first of the paths, without the process numbers and chance in their names."""
    return re.sub(r"[0-9a-f]{5,}|\d{3,}", "N", paths[0])


def _new_one(after: dict[str, Any], stage: Stage) -> bool:
    """Whether what is there belongs to the command's new result, begun but not finished."""
    for name, found in after.items():
        begun = [key for key in found if key.endswith((".yaml", "initial.pt"))]
        if "config.yaml" in begun and not any(difference(found[key], stage.twin[name].get(key)) for key in begun):
            return True
    return False


def _ending(fault: Fault, ended: Ended) -> str:
    """What is wrong with how a command ended under a fault."""
    if fault.action == "kill":
        return "" if ended.killed else f"the kill did not reach it: {ended}"
    if fault.action == "SIGTERM":
        fine = ended.code in (0, 130, 143) or (ended.signal == signal.SIGTERM and not ended.hung)
        return "" if fine and "Traceback" not in ended.err else f"SIGTERM: {ended}"
    if ended.raw:
        return f"raw: {ended}\n{ended.err}"
    if ended.code not in (0, 1, 2):
        return f"ended with {ended.code}: {ended}"
    lines = ended.err.strip().splitlines()
    if ended.code and len(lines) != 1:
        return f"{len(lines)} lines instead of one: {ended.err.strip()[:200]}"
    return ""


def go_on(scenario: Scenario, folder: Path, first: tuple[str, ...] = ()) -> Ended:
    """The command again, doing as its messages say, until it ends well or says nothing new."""
    options, tried = first, list[tuple[str, ...]]()
    while True:
        tried.append(options)
        last = scenario.perform(folder, *(each for each in options if each not in scenario.command))
        if last.code == 0 or last.raw or len(tried) == MOST_TRIES:
            return last
        offers = [each for each in (("--resume",), ("--overwrite",)) if each[0] in last.said]
        if "nothing to resume" in last.said or "without --resume" in last.said:
            offers.insert(0, ())
        fresh = [each for each in offers if each not in tried]
        if not fresh:
            return last
        options = fresh[0]


def _resume_alone(scenario: Scenario, folder: Path) -> Ended:
    """``--resume`` of whatever run is there, with the options that it was started with."""
    with environment(SPIKELFP_CACHE=str(folder / "cache")):
        out = scenario.command[scenario.command.index("--out") + 1]
        return run(["spikelfp", "train", "--out", out, "--resume", "--quiet", "--no-report"], folder)


def kills_of(stage: Stage) -> int:
    """How many kills there are at every change, before it and in its middle."""
    return len(stage.changes) + sum(kind == "write" for kind, _ in stage.changes)


def summary(found: Iterator[Found]) -> dict[tuple[str, str], list[Found]]:
    """The results by scenario and action."""
    table: dict[tuple[str, str], list[Found]] = {}
    for each in found:
        table.setdefault((each.name, each.action), []).append(each)
    return table
