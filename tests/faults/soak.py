"""Two processes that train, kill, resume, export, record, look and clear in one folder, for as long as one likes."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

from .compare import content, difference, left_over
from .kills import go_on
from .process import environment, lines_of, run, warm
from .scenarios import EVENT_TRAIN, OFTEN, TRAIN, Scenario, copy, must, recordings

EVENTS = [*EVENT_TRAIN[:-1], "events-run"]
BUILD = ["hw-export", "build", "run", "--out", "export", "--samples", "6"]
RECORD = ["hw-export", "updates", "record", "run", "--steps", "10", "--out", "stream.cbor"]

COMMANDS: dict[str, list[list[str]]] = {
    "train": [
        [*TRAIN, *OFTEN],
        [*TRAIN, *OFTEN, "--resume"],
        [*TRAIN, *OFTEN, "--resume"],
        [*TRAIN, *OFTEN, "--overwrite"],
    ],
    "train on events": [[*EVENTS, "--resume"], [*EVENTS, "--overwrite"]],
    "export": [BUILD, [*BUILD, "--overwrite"], ["hw-export", "verify", "export", "--in", "snntorch"]],
    "record": [RECORD, [*RECORD, "--overwrite"]],
    "look": [
        ["spikelfp", "eval", "run", "--json"],
        ["hw-export", "updates", "inspect", "stream.cbor"],
        ["hw-export", "updates", "replay", "stream.cbor", "--out", "image.cbor", "--overwrite"],
        ["spikelfp", "report", "run"],
    ],
    "cache": [
        ["spikelfp", "data", "cache", "--list"],
        ["spikelfp", "data", "cache", "--clear"],
        ["spikelfp", "data", "info", "events"],
    ],
}
"""Commands by what they do; one of each row is drawn."""

KILLED = 0.4
"""Part of the commands that is disturbed."""


def one_user(job: tuple[Path, float, int]) -> tuple[Counter[str], list[str]]:
    """One of the two processes: commands drawn by chance until the time is over; counts, and what was wrong."""
    folder, until, seed = job
    chance = random.Random(f"soak:{seed}")
    counts, wrong = Counter[str](), list[str]()
    with environment(SPIKELFP_CACHE=str(folder / "cache")):
        while time.monotonic() < until:
            name = chance.choice([*COMMANDS, "train"])
            command = chance.choice(COMMANDS[name])
            number = chance.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT))
            after = chance.uniform(0, 0.8) if chance.random() < KILLED else None

            def disturb(child: int, number: int = number, after: float | None = after) -> None:
                if after is not None:
                    time.sleep(after)
                    os.kill(child, number)

            ended = run(command, folder, meanwhile=disturb)
            counts[name] += 1
            counts["killed"] += ended.killed
            counts["stopped"] += not ended.killed and after is not None and ended.code not in (0, 2)
            counts["refused"] += ended.code == 2
            lines = lines_of(ended.err)
            by_signal = after is not None and ended.signal in (signal.SIGTERM, signal.SIGINT)
            if (ended.raw and not by_signal) or "Traceback" in ended.err:
                wrong.append(f"{' '.join(command)} (disturbed {after}): {ended} {ended.err[-700:]}")
            elif ended.code == 2 and len(lines) != 1:
                wrong.append(f"{' '.join(command)}: {len(lines)} lines: {ended.err.strip()[:300]}")
    return counts, wrong


def set_up(where: Path) -> tuple[Path, dict[str, Any]]:
    """The folder, and what its runs end with when nobody disturbs them."""
    start = where / "start"
    start.mkdir(parents=True)
    recordings(start)
    practice = copy(start, where / "practice")
    for command in ([*TRAIN], EVENTS, BUILD, RECORD, *COMMANDS["look"], COMMANDS["export"][-1]):
        warm(command, practice)
    twin = copy(start, where / "twin")
    for command in ([*TRAIN, *OFTEN], EVENTS, BUILD, RECORD):
        must(command, twin)
    return copy(start, where / "shared"), {
        name: content(twin / name) for name in ("run", "events-run", "export", "stream.cbor")
    }


def finish(folder: Path, twin: dict[str, Any]) -> list[str]:
    """Bring everything in the folder to its end, and say what is not as it should be."""
    wrong = []
    for command, name in (
        ([*TRAIN, *OFTEN], "run"),
        (EVENTS, "events-run"),
        ([*BUILD, "--overwrite"], "export"),
        ([*RECORD, "--overwrite"], "stream.cbor"),
    ):
        first = ("--resume",) if (folder / name / "config.yaml").exists() else ()
        last = go_on(Scenario("soak", command, (name,)), folder, first)
        if last.code != 0:
            wrong.append(f"{name}: a dead end: {last}")
        elif problem := difference(content(folder / name, frozenset({"report.html", "verify.json"})), twin[name]):
            wrong.append(f"{name}: {problem}")
    must(["spikelfp", "data", "cache", "--clear"], folder)
    if rest := left_over(folder):
        wrong.append(f"left over: {', '.join(rest[:5])}")
    return wrong
