"""Kills and signals at moments that chance chooses, in many configurations of training.

A run is killed, resumed, killed again, and so on; what it ends with must be what a run that nobody touched ends with.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from .compare import content, difference, left_over
from .kills import Found, go_on
from .process import Ended, environment, warm
from .scenarios import EVENT_TRAIN, OFTEN, TRAIN, Scenario, copy, recordings

SIGNALS = {"kill": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT}


def configurations() -> dict[str, list[str]]:
    """Options of training, by what is special about them."""

    def static(*options: str) -> list[str]:
        given = list(TRAIN)
        for name in options:
            if name in given and name.startswith("--"):  # said again, it replaces the usual one
                at = given.index(name)
                del given[at : at + 2]
        return [*given, *OFTEN, *options]

    small = [each for each in EVENT_TRAIN if each not in ("--hidden", "12")]
    return {
        "plain": static(),
        "events": [*EVENT_TRAIN, *OFTEN],
        "events, augmented": [*EVENT_TRAIN, *OFTEN, "--augmentations", "shift=2,drop=0.1"],
        "events, sparse": [*EVENT_TRAIN, *OFTEN, "--sparse"],
        "quantised": static("--weight-bits", "4"),
        "quantised, rounded by chance": static("--weight-bits", "4", "--weight-update", "stochastic"),
        "micro-batches": static("--accumulate", "3"),
        "recomputed": static("--steps", "4", "--recompute", "2"),
        "in chunks": static("--steps", "4", "--chunk", "2"),
        "surrogate": static("--method", "surrogate"),
        "gradient": static("--model", "mlp", "--method", "gradient", "--steps", "1"),
        "rules of LRP": static("--rule", "alphabeta"),
        "convolutions": [*small, *OFTEN, "--model", "lif-conv", "--width", "4"],
        "recurrent": static("--model", "lif-rnn"),
        "learned decay": static("--learn-beta"),
        "augmented images": static("--augment", "--data", "whole-digits"),
        "loader workers": static("--workers", "2"),
        "rate-coded, momentum, steps": static(
            "--encoding", "rate", "--optimizer", "momentum", "--schedule", "step", "--decay-every", "3"
        ),
        "validation, patience": static("--validation", "0.2", "--patience", "1", "--epochs", "3"),
        "warm-up": static("--warm-up-steps", "2"),
    }


@dataclass
class Course:
    """A configuration with its starting folder, what it ends with, and how long that takes."""

    name: str
    scenario: Scenario
    start: Path
    twin: dict[str, Any]
    seconds: float


def set_up(name: str, options: list[str], where: Path) -> Course:
    """Run a configuration undisturbed."""
    start = where / "start"
    start.mkdir(parents=True)
    if "folder:events" in options:
        recordings(start)
    scenario = Scenario(name, options, ("run",))
    warm(options, copy(start, where / "warm"))
    folder = copy(start, where / "twin" / "work")
    ended = scenario.perform(folder)
    if ended.code != 0:
        raise RuntimeError(f"{name} fails without any fault: {ended}\n{ended.err}")
    return Course(name, scenario, start, content(folder / "run"), ended.seconds)


def one_try(courses: list[Course], where: Path, job: tuple[int, str, int]) -> Found:
    """One run, disturbed up to three times at random moments, then left alone to its end."""
    number, action, seed = job
    course = courses[number]
    chance = random.Random(f"{course.name}:{action}:{seed}")
    place = where / f"{os.getpid()}"
    shutil.rmtree(place, ignore_errors=True)
    folder = copy(course.start, place / "work")
    hits, moments, options = 0, [], tuple[str, ...]()
    tell = partial(Found, f"random: {course.name}", f"seed {seed}", action)
    for _ in range(chance.randint(1, 3)):
        after = chance.uniform(0.0, course.seconds)
        moments.append(f"{after:.2f} s")

        begun, last = False, folder / "run" / "checkpoints" / "last.pt"
        stamp = last.stat().st_mtime_ns if last.exists() else 0

        def hit(child: int, after: float = after, last: Path = last, stamp: int = stamp) -> None:
            nonlocal begun
            time.sleep(after)
            begun = last.exists() and last.stat().st_mtime_ns != stamp
            os.kill(child, SIGNALS[action])  # not yet waited for, so the number is still its own

        ended = course.scenario.perform(folder, *options, meanwhile=hit)
        hits += 1
        if problem := _ending(action, ended, begun and not (folder / "run" / "summary.json").exists()):
            return tell(hits, problem)
        if ended.code == 0:
            break
        options = ("--resume",) if (folder / "run" / "config.yaml").exists() else ()
    done = go_on(course.scenario, folder, options)
    if done.code != 0:
        return tell(hits, f"a dead end after {', '.join(moments)}: {done}")
    if problem := difference(content(folder / "run"), course.twin):
        return tell(hits, f"{problem} (after {', '.join(moments)})")
    if rest := left_over(folder):
        return tell(hits, f"left over: {len(rest)} files, such as {rest[0][:8]}…")
    return tell(hits, "")


def _ending(action: str, ended: Ended, begun: bool) -> str:
    """What is wrong with how a command ended; ``begun``: it was training when the signal came."""
    if ended.hung:
        return f"hung: {ended}"
    if action == "kill":
        return "" if ended.killed or ended.code in (0, 2) else f"raw: {ended}"
    if ended.signal == signal.SIGTERM and not begun:  # the system ends a process that has not taken it over yet
        return ""
    if "Traceback" in ended.err or ended.code not in (0, 1, 2, 130, 143):
        return f"{action}: {ended}"
    return ""


def torchrun(where: Path, seed: int, kills: int) -> Found:
    """Two workers of one run, killed together or one of them, in processes of their own; resumed to the end."""
    chance = random.Random(f"torchrun:{seed}")
    options = [
        "train",
        "--data",
        "digits",
        "--hidden",
        "12",
        "--steps",
        "3",
        "--batch-size",
        "512",
        "--epochs",
        "4",
        "--no-report",
        "--checkpoint-every",
        "1",
        "--out",
        "run",
        "--device",
        "cpu",
    ]
    twin, hit = where / "twin", where / f"hit{seed}"
    tell = partial(Found, "random: torchrun, 2 workers", f"seed {seed}", "kill")
    seconds = 20.0
    if not twin.exists():
        twin.mkdir(parents=True)
        began = time.monotonic()
        code, said = _torchrun(options, twin)
        seconds = time.monotonic() - began
        if code != 0:
            return tell(0, f"fails without any fault: {said}")
        (where / "seconds").write_text(str(seconds))
    seconds = float((where / "seconds").read_text())
    hit.mkdir()
    done = 0
    for _ in range(kills):
        more = ["--resume"] if (hit / "run" / "config.yaml").exists() else []
        code, said = _torchrun([*options, *more], hit, kill_after=chance.uniform(0.4, 1.0) * seconds)
        done += 1
        if code == 0:
            break
    more = ["--resume"] if (hit / "run" / "config.yaml").exists() else []
    code, said = _torchrun([*options, *more], hit)
    if code != 0:
        return tell(done, f"a dead end: {said}")
    return tell(done, difference(content(hit / "run"), content(twin / "run")))


def _torchrun(options: list[str], folder: Path, kill_after: float | None = None) -> tuple[int, str]:
    """Run the command by two workers; its exit status, and the end of what it said."""
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "spikelfp",
        *options,
    ]
    with environment(OMP_NUM_THREADS="1"), open(folder / "said", "w+") as said:
        process = subprocess.Popen(command, cwd=folder, stdout=said, stderr=said, start_new_session=True)
        try:
            process.wait(240 if kill_after is None else kill_after)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        said.seek(0)
        return process.returncode, said.read()[-500:]
