"""``python -m tests.faults``: the whole suite, or parts of it; exit status 1 when anything was lost."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import random
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

from . import attacks, chances, kills, mutations, soak, together
from .process import prepare, spread
from .scenarios import scenarios
from .table import Part, Row, counted, markdown, write_page

ERRORS = ("full", "read-only", "forbidden", "SIGTERM")


QUICK = {
    "kills": ("train", "hw-export build, nir"),
    "random": ("plain",),
    "two": ("train, train",),
    "inputs": ("checkpoint, resume, other values", "config.yaml of a run", "recording .npy 0"),
    "attacks": ("run", "events.npy0"),
}
"""What ``--quick`` takes: commands, configurations, pairs, kinds of files, and folders that attacks start from."""


def main() -> int:
    """Run what the command line asks for."""
    given = _arguments()
    prepare()
    where = Path(tempfile.mkdtemp(prefix="faults-", dir=given.folder))
    try:
        if given.replay:
            return _replay(given.replay, where)
        parts = []
        for name, part in PARTS.items():
            if given.only and name not in given.only:
                continue
            began = time.monotonic()
            given.until = began + 60 * given.minutes
            done = part(where / name, given)
            done.seconds = time.monotonic() - began
            parts.append(done)
            _tell(done)
    finally:
        shutil.rmtree(where, ignore_errors=True)
    about = (
        f"Measured on {given.workers} cores with Python {platform.python_version()} and torch "
        f"{torch.__version__.partition('+')[0]}; {sum(part.tries for part in parts):,} tries, "
        f"{sum(part.lost for part in parts)} lost."
    )
    text = markdown(parts, about)
    print(f"\n{text}")
    if given.json:
        Path(given.json).write_text(json.dumps([asdict(part) for part in parts], indent=1) + "\n")
    if given.write:
        write_page(text)
    return 1 if any(part.lost for part in parts) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.faults", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few of everything, in a minute or two")
    parser.add_argument("--kills", type=int, help="most faults of each command, and of each of its errors")
    parser.add_argument("--tries", type=int, help="random kills of each configuration, and meetings of each pair")
    parser.add_argument("--inputs", type=int, help="damaged inputs of all kinds together")
    parser.add_argument("--soak", type=float, help="minutes of soak")
    parser.add_argument("--torchrun", type=int, help="runs of two workers that are killed")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin nothing more in a part after so many")
    parser.add_argument("--seed", type=int, default=0, help="of the damaged inputs and the random moments")
    parser.add_argument("--only", action="append", choices=PARTS, help="this part alone; may be repeated")
    parser.add_argument("--match", default="", help="only commands, kinds and attacks whose name has this in it")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes at a time")
    parser.add_argument("--folder", help="where the folders of the suite are made")
    parser.add_argument("--json", help="file for all figures and problems")
    parser.add_argument("--write", action="store_true", help="put the table into docs/reliability.md")
    parser.add_argument("--replay", metavar="KIND:SEED", help="open one damaged input again, and show what it says")
    given = parser.parse_args()
    usual = {"kills": None, "tries": 4, "inputs": 50_400, "soak": 20.0, "torchrun": 4}
    quick = {"kills": 8, "tries": 1, "inputs": 150, "soak": 0.05, "torchrun": 0}
    for name, value in (quick if given.quick else usual).items():
        if getattr(given, name) is None:
            setattr(given, name, value)
    return given


def _wanted(given: argparse.Namespace, part: str, name: str) -> bool:
    """Whether a command, a configuration, a pair or a kind is asked for."""
    return given.match in name and (not given.quick or name in QUICK[part])


def _note(name: str, problem: str) -> None:
    """Say a problem as soon as it is found: the table comes much later."""
    if problem:
        print(f"* {name}: {' '.join(problem.split())[:400]}", file=sys.stderr, flush=True)


def _tell(part: Part) -> None:
    print(f"{part.title}: {part.tries:,} tries, {part.lost} lost, {part.seconds:.0f} s", flush=True)
    for problem in part.problems:
        print(f"  {problem}", flush=True)


def _killed(where: Path, given: argparse.Namespace) -> Part:
    """Kills and errors at every change to a file."""
    part = Part("Kills, full disks and signals at the n-th change to a file")
    stages = {}
    for number, scenario in enumerate(scenarios()):
        if _wanted(given, "kills", scenario.name):
            stages[number] = kills.set_up(scenario, where / str(number))
    most = given.kills
    jobs = [fault for number, stage in stages.items() for fault in kills.faults(number, stage, ("kill",), most)]
    for number, stage in stages.items():
        for action in ERRORS:
            jobs += kills.faults(number, stage, (action,), 12 if most is None else max(1, most // 4))
    random.Random(given.seed).shuffle(jobs)  # whatever is left out for want of time is left out everywhere
    found = defaultdict(list)
    for each in spread(jobs, partial(kills.try_fault, stages, where / "work"), given.workers, given.until):
        _note(f"{each.name}, {each.fault}", each.problem)
        found[each.name].append(each)
    for stage in stages.values():
        results = found[stage.scenario.name]
        outcome = counted(each.action for each in results)
        bad = [each for each in results if each.problem]
        row = Row(f"{stage.scenario.name} ({len(stage.changes)} changes)", len(results), outcome, len(bad))
        part.rows.append(row)
        part.problems += _grouped((f"{each.name}: {each.problem}", f"{each.fault} ({each.changed})") for each in bad)
    return part


def _random(where: Path, given: argparse.Namespace) -> Part:
    """Kills and signals at random moments."""
    part = Part("Kills and signals at random moments of training, resumed to the end")
    courses = []
    for number, (name, options) in enumerate(chances.configurations().items()):
        if _wanted(given, "random", name):
            courses.append(chances.set_up(name, options, where / str(number)))
    seeds = range(given.seed, given.seed + given.tries)
    jobs = [(number, action, seed) for number in range(len(courses)) for action in chances.SIGNALS for seed in seeds]
    found = defaultdict(list)
    for each in spread(jobs, partial(chances.one_try, courses, where / "work"), given.workers, given.until):
        _note(f"{each.name}, {each.action}, {each.fault}", each.problem)
        found[each.name].append(each)
    if given.torchrun:
        results = [chances.torchrun(where / "torchrun", seed, 2) for seed in range(given.torchrun)]
        found[results[0].name] = results
    for name, results in found.items():
        bad = [each for each in results if each.problem]
        kinds = counted(each.action for each in results for _ in range(each.kills))
        part.rows.append(Row(name.removeprefix("random: "), sum(each.kills for each in results), kinds, len(bad)))
        part.problems += _grouped((f"{name}: {each.action}: {each.problem}", each.fault) for each in bad)
    return part


def _together(where: Path, given: argparse.Namespace) -> Part:
    """Two processes at once."""
    part = Part("Two processes on one folder")
    wanted = [pair for pair in together.pairs() if _wanted(given, "two", pair.name)]
    meetings = [together.set_up(pair, where / str(number)) for number, pair in enumerate(wanted)]
    seeds = range(given.seed, given.seed + 2 * given.tries)
    jobs = [(number, seed) for number in range(len(meetings)) for seed in seeds]
    found = defaultdict(list)
    for each in spread(jobs, partial(together.meet, meetings, where / "work"), max(1, given.workers // 2), given.until):
        _note(f"{each.name}, {each.fault}", each.problem)
        found[each.name].append(each)
    for name, results in found.items():
        bad = [each for each in results if each.problem]
        part.rows.append(Row(name.removeprefix("two: "), len(results), "", len(bad)))
        part.problems += _grouped((f"{name}: {each.problem}", each.fault) for each in bad)
    return part


def _damaged(where: Path, given: argparse.Namespace) -> Part:
    """Damaged inputs."""
    part = Part("Damaged inputs")
    places = mutations.set_up(where, lambda name: _wanted(given, "inputs", name), chips=not given.quick)
    jobs = mutations.jobs(places, given.inputs, given.seed)
    found = defaultdict(list)
    for some in spread(jobs, mutations.open_some, given.workers, given.until):
        for each in some:
            _note(f"{each.kind}:{each.seed}", f"{each.verdict}: {each.text}" if each.wrong else "")
            found[each.kind].append(each)
    for place in places:
        results = found[place.kind.name]
        bad = [each for each in results if each.wrong]
        slowest = max((each.seconds for each in results), default=0)
        largest = max((each.memory for each in results), default=0)
        verdicts = counted(each.verdict for each in results)
        part.rows.append(
            Row(place.kind.name, len(results), f"{verdicts}; at most {slowest:.1f} s, {largest >> 20} MB", len(bad))
        )
        part.problems += _grouped(
            (f"{each.kind}: {each.verdict}: {each.text}", f"--replay '{each.kind}:{each.seed}'") for each in bad
        )
    return part


def _attacked(where: Path, given: argparse.Namespace) -> Part:
    """Attacks made by hand."""
    part = Part("Attacks made by hand")
    wanted = [attack for attack in attacks.attacks() if given.match in attack.name]
    if given.quick:
        wanted = [attack for attack in wanted if attack.base in QUICK["attacks"]][::10]
    made = attacks.set_up(where, wanted)
    families = {attack.name: attack.family for attack in wanted}
    found = defaultdict(list)
    for each in spread(wanted, partial(attacks.attempt, made, where / "work"), given.workers, given.until):
        _note(each.fault, each.problem)
        found[families[each.fault]].append(each)
    for family in dict.fromkeys(families.values()):
        bad = [each for each in found[family] if each.problem]
        part.rows.append(Row(family, len(found[family]), "", len(bad)))
        part.problems += [f"{each.fault}: {each.problem}" for each in bad]
    return part


def _soaked(where: Path, given: argparse.Namespace) -> Part:
    """Two processes on one folder for a long time."""
    part = Part("Soak: two processes on one folder")
    if not given.soak:
        return part
    folder, twin = soak.set_up(where)
    until = time.monotonic() + 60 * given.soak
    rows: dict[str, int] = defaultdict(int)
    for counts, wrong in spread([(folder, until, given.seed), (folder, until, given.seed + 1)], soak.one_user, 2):
        for name, count in counts.items():
            rows[name] += count
        part.problems += wrong
    part.problems += soak.finish(folder, twin)
    commands = {name: rows.pop(name, 0) for name in soak.COMMANDS}
    part.rows = [
        Row(
            f"{given.soak:g} minutes: {', '.join(f'{count} {name}' for name, count in commands.items())}",
            sum(commands.values()),
            ", ".join(f"{count} {name}" for name, count in sorted(rows.items())),
            len(part.problems),
        )
    ]
    return part


def _grouped(pairs: object) -> list[str]:
    """Equal problems once, with the number of them and the first places."""
    groups: dict[str, list[str]] = defaultdict(list)
    for problem, place in pairs:  # type: ignore[attr-defined]
        groups[problem].append(place)
    return [f"{len(places)} x {problem} [{'; '.join(places[:3])}]" for problem, places in groups.items()]


def _replay(what: str, where: Path) -> int:
    """Open one input again."""
    kind, _, seed = what.rpartition(":")
    (place,) = mutations.set_up(where, lambda name: name == kind, chips=":" in kind)
    (found,) = mutations.open_some((place, [int(seed)]))
    data = mutations.damaged(place, int(seed))
    kept = Path(tempfile.gettempdir()) / f"damaged-{seed}-{Path(place.kind.path).name}"
    kept.write_bytes(data)
    print(f"{found.verdict} in {found.seconds:.2f} s with {found.memory >> 20} MB: {found.text}\nthe input: {kept}")
    return 1 if found.wrong else 0


PARTS: dict[str, Callable[[Path, argparse.Namespace], Part]] = {
    "kills": _killed,
    "random": _random,
    "two": _together,
    "inputs": _damaged,
    "attacks": _attacked,
    "soak": _soaked,
}
"""The parts of the suite, in the order of the table."""

if __name__ == "__main__":
    sys.exit(main())
