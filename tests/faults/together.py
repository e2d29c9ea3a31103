"""Two processes that do things to one folder at the same moment: the second is refused or waits, both are right."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .compare import content, difference, left_over
from .kills import Found
from .process import Ended, call, environment, lines_of, start, wait, warm
from .scenarios import EVENT_TRAIN, OFTEN, TRAIN, copy, interrupted, must, old_run, recordings, trained

BUILD = ["hw-export", "build", "run", "--out", "export", "--samples", "8"]
RECORD = ["hw-export", "updates", "record", "run", "--out", "stream.cbor", "--steps", "12"]


@dataclass(frozen=True)
class Pair:
    """Two commands on one folder.

    Attributes:
        name: of the row.
        make: fills the folder.
        first, second: the commands.
        made: what they make, which must be what one of them makes alone.
        both: both must succeed.
    """

    name: str
    make: Any
    first: Sequence[str]
    second: Sequence[str]
    made: tuple[str, ...]
    both: bool = False


def pairs() -> list[Pair]:
    """Pairs of commands that meet."""
    train = [*TRAIN, *OFTEN]
    two = [*EVENT_TRAIN[:-1], "run2"]
    evaluate = ["spikelfp", "eval", "run", "--json"]
    return [
        Pair("train, train", _nothing, train, train, ("run",)),
        Pair("resume, resume", interrupted, [*train, "--resume"], [*train, "--resume"], ("run",)),
        Pair("overwrite, overwrite", old_run, [*train, "--overwrite"], [*train, "--overwrite"], ("run",)),
        Pair("resume, eval", interrupted, [*train, "--resume"], evaluate, ("run",)),
        Pair("resume, build", interrupted, [*train, "--resume"], BUILD, ("run",)),
        Pair("resume, report", interrupted, [*train, "--resume"], ["spikelfp", "report", "run"], ()),
        Pair("build, build", trained, BUILD, BUILD, ("export",)),
        Pair("build, build --overwrite", _export, [*BUILD, "--overwrite"], [*BUILD, "--overwrite"], ("export",)),
        Pair(
            "build --overwrite, verify",
            _export,
            [*BUILD, "--overwrite"],
            ["hw-export", "verify", "export", "--in", "snntorch"],
            (),
        ),
        Pair("record, record", trained, RECORD, RECORD, ("stream.cbor",)),
        Pair(
            "record, record --overwrite", trained, [*RECORD, "--overwrite"], [*RECORD, "--overwrite"], ("stream.cbor",)
        ),
        Pair("cold cache, cold cache", recordings, EVENT_TRAIN, two, ("run", "run2"), both=True),
        Pair(
            "train on a cache, clear it", _cached, two, ["spikelfp", "data", "cache", "--clear"], ("run2",), both=True
        ),
    ]


def _nothing(folder: Path) -> None:
    pass


def _export(folder: Path) -> None:
    trained(folder)
    must(BUILD, folder)


def _cached(folder: Path) -> None:
    recordings(folder)
    must(EVENT_TRAIN, folder)


@dataclass
class Meeting:
    """A pair with its starting folder, and what each command makes alone."""

    pair: Pair
    start: Path
    alone: list[dict[str, Any]]
    seconds: float


def set_up(pair: Pair, where: Path) -> Meeting:
    """Run each of the two undisturbed."""
    start_folder = where / "start"
    start_folder.mkdir(parents=True)
    pair.make(start_folder)
    alone, seconds = [], 0.0
    for number, command in enumerate((pair.first, pair.second)):
        warm(command, copy(start_folder, where / f"warm{number}"))
        folder = copy(start_folder, where / f"alone{number}" / "work")
        ended = both_at_once([command], folder, 0.0)[0]
        if ended.code != 0 and pair.made:
            raise RuntimeError(f"{pair.name} fails without any fault: {ended}\n{ended.err}")
        alone.append({name: content(folder / name) for name in pair.made})
        seconds = max(seconds, ended.seconds)
    return Meeting(pair, start_folder, alone, seconds)


def both_at_once(commands: Sequence[Sequence[str]], folder: Path, apart: float) -> list[Ended]:
    """Start the commands ``apart`` seconds after each other, and wait for all."""
    import time

    running, ended = [], []
    with environment(SPIKELFP_CACHE=str(folder / "cache")):
        for number, command in enumerate(commands):
            if number:
                time.sleep(apart)
            out, err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 (closed below)
            began = time.monotonic()
            running.append((start(lambda command=command: call(command), out, err, folder), out, err, began))  # type: ignore[misc]
    for child, out, err, began in running:
        status, hung, cpu = wait(child, 120)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode("utf-8", "replace"))
            file.close()
        by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        code = None if by else os.WEXITSTATUS(status)
        ended.append(Ended(code, by, texts[0], texts[1], time.monotonic() - began, hung, cpu))
    return ended


def meet(meetings: list[Meeting], where: Path, job: tuple[int, int]) -> Found:
    """Let a pair meet once; ``job``: its number, and a seed of how far apart they start."""
    number, seed = job
    meeting = meetings[number]
    pair = meeting.pair
    chance = random.Random(f"{pair.name}:{seed}")
    place = where / f"{os.getpid()}"
    shutil.rmtree(place, ignore_errors=True)
    folder = copy(meeting.start, place / "work")
    apart = chance.choice((0.0, chance.uniform(0, meeting.seconds)))
    ended = both_at_once([pair.first, pair.second], folder, apart)
    problem = ""
    for each in ended:
        lines = lines_of(each.err)
        if each.raw:
            problem = f"raw: {each} {each.err[-600:]}"
        elif each.code != 0 and len(lines) != 1:
            problem = f"{len(lines)} lines: {each.err.strip()[:200]}"
    if not problem and not any(each.code == 0 for each in ended):
        problem = f"both refused: {ended[0]} / {ended[1]}"
    if not problem and pair.both and not all(each.code == 0 for each in ended):
        problem = f"one refused: {ended[0]} / {ended[1]}"
    if not problem:
        found = {name: content(folder / name) for name in pair.made}
        wanted = [_together(meeting)] if pair.both else meeting.alone
        differences = [difference(found, each) for each in wanted]
        if pair.made and all(differences):
            problem = differences[0]
    if not problem and (rest := left_over(folder)):
        problem = f"left over: {rest[0]}"
    return Found(f"two: {pair.name}", f"seed {seed}, {apart:.2f} s apart", "two", 2, problem)


def _together(meeting: Meeting) -> dict[str, Any]:
    """What both make, each its own."""
    return {
        name: next(found[name] for found in meeting.alone[:: 1 if name == meeting.pair.made[0] else -1])
        for name in meeting.pair.made
    }
