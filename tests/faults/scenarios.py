"""The commands that write files, each with where it starts and what it should leave."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .process import Ended, environment, run
from .writes import Writes, kill

SMALL = ["--hidden", "12", "--steps", "3", "--batch-size", "48", "--quiet", "--no-report"]
TRAIN = ["spikelfp", "train", "--data", "few-digits", *SMALL, "--epochs", "2", "--out", "run"]
"""Four updates in two epochs."""

OFTEN = ["--checkpoint-every", "1"]

CHIPS = {
    "nir": [],
    "generic": [],
    "loihi": ["--no-bias", "--reset", "zero"],
    "tinyodin": ["--no-bias", "--reset", "zero"],
    "speck": ["--no-bias", "--reset", "immediate", "--beta", "1", "--encoding", "rate"],
    "spinnaker2": ["--no-bias", "--reset", "immediate", "--encoding", "rate"],
    "xylo": ["--no-bias", "--reset", "immediate", "--encoding", "rate"],
    "xylo-a3": ["--no-bias", "--reset", "immediate", "--encoding", "rate"],
}
"""Targets, each with options of training for a network that it can hold."""


@dataclass(frozen=True)
class Scenario:
    """A command that changes files.

    Attributes:
        name: of the row in the table.
        command: its arguments, the command's name first; run in a folder that holds what ``make`` put there.
        made: files and folders that it makes or changes, by path within the folder.
        make: fills an empty folder with what the command needs.
        ways: options that the way on may have besides the command's own, in the order they are tried.
        before: what ``made`` may be again after the way on, if the command had not begun to replace it.
        prefix: the file grows by whole records: what a kill leaves must be the beginning of what it should be.
    """

    name: str
    command: Sequence[str]
    made: tuple[str, ...]
    make: Callable[[Path], object] = lambda folder: None
    ways: tuple[tuple[str, ...], ...] = ((), ("--resume",), ("--overwrite",))
    keeps_old: bool = False
    variables: dict[str, str] = field(default_factory=dict)

    def perform(self, folder: Path, *more: str, **options: object) -> Ended:
        """Run the command, with ``more`` options, in ``folder``."""
        with environment(**{"SPIKELFP_CACHE": str(folder / "cache"), **self.variables}):
            return run([*self.command, *more], folder, **options)  # type: ignore[arg-type]


def must(arguments: Sequence[str], folder: Path) -> None:
    """Run a command that has to succeed."""
    with environment(SPIKELFP_CACHE=str(folder / "cache")):
        ended = run(arguments, folder)
    if ended.code != 0:
        raise RuntimeError(f"{' '.join(map(str, arguments))} fails without any fault: {ended}\n{ended.err}")


def trained(folder: Path, *options: str) -> None:
    """A finished run ``run``."""
    must([*TRAIN, *options], folder)


def interrupted(folder: Path) -> None:
    """A run ``run`` that was killed behind its second update."""

    def before() -> None:
        seen = 0

        def late() -> None:
            nonlocal seen
            seen += 1

        Writes(folder, 34, "before", kill).install()

    run([*TRAIN, *OFTEN], folder, before=before)
    assert (folder / "run" / "checkpoints" / "last.pt").is_file()


def old_run(folder: Path) -> None:
    """A finished run of another seed, with its page."""
    must([*TRAIN, "--seed", "7", "--hidden", "10"], folder)
    must(["spikelfp", "report", "run"], folder)


def recordings(folder: Path, each: int = 6) -> None:
    """``events/left`` and ``events/right`` with recordings of a bar that moves there, 16 x 16 pixels, 40 ms."""
    random = np.random.default_rng(0)
    for half, name in enumerate(("left", "right")):
        (folder / "events" / name).mkdir(parents=True)
        for number in range(each):
            t = np.sort(random.integers(0, 40_000, 300))
            x = random.integers(0, 8, 300) + 8 * half
            y, p = random.integers(0, 16, 300), random.integers(0, 2, 300)
            kinds = [("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "u1")]
            events = np.empty(300, kinds)
            events["t"], events["x"], events["y"], events["p"] = t, x, y, p
            events[0]["t"], events[0]["x"], events[0]["y"] = 0, 15, 15  # all have the same sensor
            np.save(folder / "events" / name / f"{number:02}.npy", events)


EVENT_TRAIN = [
    "spikelfp",
    "train",
    "--data",
    "folder:events",
    "--hidden",
    "12",
    "--steps",
    "4",
    "--batch-size",
    "4",
    "--quiet",
    "--no-report",
    "--epochs",
    "2",
    "--out",
    "run",
]


def scenarios() -> list[Scenario]:
    """All commands that write, in the order of the table."""
    found = [
        Scenario("train", [*TRAIN, *OFTEN], ("run",)),
        Scenario("train --resume", [*TRAIN, *OFTEN, "--resume"], ("run",), interrupted),
        Scenario("train --resume for more epochs", [*TRAIN[:-3], "3", "--out", "run", "--resume"], ("run",), trained),
        Scenario("train --overwrite", [*TRAIN, "--overwrite"], ("run",), old_run, keeps_old=True),
        Scenario("train on events, cold cache", EVENT_TRAIN, ("run", "cache"), recordings),
        Scenario("report", ["spikelfp", "report", "run"], ("run",), trained),
        Scenario("data cache --clear", ["spikelfp", "data", "cache", "--clear"], ("cache",), _cached),
        Scenario(
            "data show", ["spikelfp", "data", "show", "events", "--out", "picture.png"], ("picture.png",), recordings
        ),
    ]
    found += [
        Scenario(
            f"hw-export build, {target}",
            ["hw-export", "build", "run", "--target", target, "--out", "export", "--samples", "8"],
            ("export",),
            lambda folder, options=options: trained(folder, *options),
        )
        for target, options in CHIPS.items()
    ]
    build = ["hw-export", "build", "run", "--out", "export", "--samples", "8"]
    record = ["hw-export", "updates", "record", "run", "--out", "stream.cbor", "--steps", "12"]
    found += [
        Scenario("hw-export build --overwrite", [*build, "--overwrite"], ("export",), _old_export, keeps_old=True),
        Scenario("hw-export verify", ["hw-export", "verify", "export", "--in", "snntorch"], ("export",), _exported),
        Scenario("updates record", record, ("stream.cbor",), trained),
        Scenario("updates record --overwrite", [*record, "--overwrite"], ("stream.cbor",), _old_stream, keeps_old=True),
        Scenario(
            "updates replay",
            ["hw-export", "updates", "replay", "stream.cbor", "--out", "image.cbor"],
            ("image.cbor",),
            _recorded,
        ),
        Scenario(
            "updates inspect --plot",
            ["hw-export", "updates", "inspect", "stream.cbor", "--plot", "plot.png"],
            ("plot.png",),
            _recorded,
        ),
    ]
    return found


def template(scenario: Scenario, where: Path) -> Path:
    """A folder from which the scenario starts, made once."""
    folder = where / "start"
    folder.mkdir(parents=True)
    scenario.make(folder)
    return folder


def copy(folder: Path, to: Path) -> Path:
    """A copy of a folder, links as links, times kept."""
    shutil.copytree(folder, to, symlinks=True)
    return to


def _cached(folder: Path) -> None:
    recordings(folder)
    must(EVENT_TRAIN, folder)


def _exported(folder: Path) -> None:
    trained(folder)
    must(["hw-export", "build", "run", "--out", "export", "--samples", "8"], folder)


def _old_export(folder: Path) -> None:
    trained(folder)
    must(["hw-export", "build", "run", "--target", "generic", "--out", "export", "--samples", "4"], folder)


def _recorded(folder: Path) -> None:
    trained(folder)
    must(["hw-export", "updates", "record", "run", "--out", "stream.cbor", "--steps", "12"], folder)


def _old_stream(folder: Path) -> None:
    trained(folder)
    must(["hw-export", "updates", "record", "run", "--out", "stream.cbor", "--steps", "5", "--bits", "4"], folder)
