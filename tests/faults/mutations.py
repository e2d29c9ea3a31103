"""Damaged inputs, thousands of them, each opened by the command that opens its kind.

Children take fifty inputs each. An input is told by its kind and its seed, so that it can be made again
(``python -m tests.faults --replay "KIND:SEED"``).
"""

from __future__ import annotations

import io
import os
import pickle
import random
import resource
import select
import shutil
import signal
import socket
import sys
import time
import traceback
import warnings
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.slowness import slowness

from .inputs import CHIP_FILES, Kind, bases, kinds
from .process import call, computed, environment, lines_of, most_memory, warm
from .scenarios import CHIPS, copy

MOST_MEMORY = 2 << 30
MOST_SECONDS = 10.0
TOGETHER = 50
"""Inputs of one child."""


@dataclass(frozen=True)
class Opened:
    """What came of one input: ``refused``, ``accepted``, or what was wrong; with the text, seconds and bytes."""

    kind: str
    seed: int
    verdict: str
    text: str
    seconds: float
    memory: int

    @property
    def wrong(self) -> bool:
        """Whether it is none of the two that are right."""
        return self.verdict not in ("refused", "accepted")


@dataclass
class Place:
    """A kind of file with the folder that it lies in, and what its commands print when nothing is wrong."""

    kind: Kind
    folder: Path
    original: bytes
    said: list[str]


def set_up(where: Path, only: Callable[[str], bool], chips: bool = True) -> list[Place]:
    """Make the folders of all kinds whose name is wanted; ``chips``: the files of chips may be among them."""
    made: dict[str, Path] = {}
    places = []
    fill = bases()
    for target in (each for each in CHIPS if each != "nir" and chips):
        made[target] = _filled(where, target, fill[target])
        CHIP_FILES[target] = tuple(sorted(file.name for file in (made[target] / "export").iterdir()))
    for kind in kinds():
        if not only(kind.name):
            continue
        if kind.base not in made:
            made[kind.base] = _filled(where, kind.base, fill[kind.base])
        folder = made[kind.base]
        path = _path(folder, kind.path)
        for command in kind.opens:
            if not callable(command):
                warm(command, copy(folder, where / "warm" / f"{len(places)}-{kind.opens.index(command)}"))
        places.append(Place(kind, folder, path.read_bytes(), []))
    return places


def _filled(where: Path, name: str, fill: Callable[[Path], object]) -> Path:
    folder = where / "bases" / name.strip(".")
    folder.mkdir(parents=True)
    fill(folder)
    return folder


def _path(folder: Path, path: str) -> Path:
    """The file to damage; ``cache/train`` stands for the entry of the training part."""
    if path.startswith("cache/train/"):
        return folder / "cache" / (folder / "train-is").read_text() / path.removeprefix("cache/train/")
    return folder / path


def damaged(place: Place, seed: int) -> bytes:
    """The input of a seed."""
    chance = random.Random(f"{place.kind.name}:{seed}")
    way = chance.choice(list(place.kind.ways))
    for _ in range(20):
        try:
            found = way(place.original, chance)
        except (ValueError, IndexError, TypeError, KeyError, OverflowError, OSError, RuntimeError, MemoryError):
            way = chance.choice(list(place.kind.ways))  # this one cannot do it to this file
            continue
        if found != place.original:
            return found
    return place.original + b"\0"


def open_some(job: tuple[Place, Sequence[int]]) -> list[Opened]:
    """Open inputs in children of this process, one child after the other as they crash or hang."""
    place, seeds = job
    results: list[Opened] = []
    left = list(seeds)
    while left:
        done, crash = _in_child(place, left)
        results += done
        left = left[len(done) :]
        if crash is not None and left:
            results.append(Opened(place.kind.name, left.pop(0), *crash))
    return results


def _in_child(place: Place, seeds: Sequence[int]) -> tuple[list[Opened], tuple[str, str, float, int] | None]:
    """Open inputs in one child; what it told, and how it ended if that was early."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(read)
            os.setpgid(0, 0)
            with os.fdopen(write, "wb") as results:
                _open_all(place, seeds, results)
            code = 0
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
        finally:
            os._exit(code)
    os.close(write)
    done: list[Opened] = []
    with os.fdopen(read, "rb") as stream:
        hung, used = False, 0.0
        while len(done) < len(seeds):
            ready, _, _ = select.select([stream], [], [], 6 * MOST_SECONDS)
            now = computed(child)
            if not ready and 0.05 < now - used < 3 * MOST_SECONDS:
                used = now  # the machine is busy with others
                continue
            if not ready:
                hung = True
                os.killpg(child, signal.SIGKILL)
                break
            try:
                done.append(pickle.load(stream))
                used = now
            except (EOFError, pickle.UnpicklingError):
                break
    status = os.waitpid(child, 0)[1]
    if len(done) == len(seeds):
        return done, None
    if hung:
        return done, ("hang", f"no end within {6 * MOST_SECONDS:.0f} s", 6 * MOST_SECONDS, 0)
    name = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"
    return done, ("crash", name, 0.0, 0)


def _open_all(place: Place, seeds: Sequence[int], results: Any) -> None:
    """The work of a child."""
    folder = Path(str(place.folder) + f"-{os.getpid()}")
    copy(place.folder, folder)
    os.chdir(folder)
    _guard()
    try:
        with environment(SPIKELFP_CACHE=str(folder / "usual-cache"), SPIKELFP_DATA=str(folder)):
            undamaged = [_opened(each) for each in place.kind.opens]
            for code, raw, _, err in undamaged:
                if raw or code not in (0, 130):
                    raise RuntimeError(f"{place.kind.name} is refused undamaged: {code} {raw} {err}")
            expected = [out for _, _, out, _ in undamaged] if place.kind.sealed else []
            if place.kind.writes:
                _put_back(place, folder)
            most_memory(MOST_MEMORY)
            for seed in seeds:
                _write(place, folder, damaged(place, seed))
                which = seed % len(place.kind.opens)
                found = _judged(place, seed, which, expected)
                pickle.dump(found, results, -1)
                results.flush()
                if place.kind.writes:
                    _put_back(place, folder)
                else:
                    _write(place, folder, place.original)
    finally:
        os.chdir("/")
        shutil.rmtree(folder, ignore_errors=True)


def _write(place: Place, folder: Path, data: bytes) -> None:
    path = _path(folder, place.kind.path)
    path.write_bytes(data)
    if place.kind.name == "cache: arrays, right checksums":
        _seal_cache(path, data)


def _seal_cache(path: Path, data: bytes) -> None:
    """Make a cache entry's checksum and length those of the damaged array."""
    import json

    import numpy as np

    from spikelfp.data.events.cache.store import META, checksum

    meta = json.loads((path.parent / META).read_text())
    about = meta["arrays"][path.stem]
    kind = np.dtype(about["dtype"])
    data = data[: len(data) // kind.itemsize * kind.itemsize]
    path.write_bytes(data)
    array = np.frombuffer(data, kind)
    about["length"], about["checksum"] = len(array), checksum(array)
    meta["bytes"] = sum(each.stat().st_size for each in path.parent.glob("*.bin"))
    (path.parent / META).write_text(json.dumps(meta))


def _put_back(place: Place, folder: Path) -> None:
    """Make the folder what it was."""
    for each in folder.iterdir():
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each)
        else:
            each.unlink()
    shutil.copytree(place.folder, folder, symlinks=True, dirs_exist_ok=True)


def _judged(place: Place, seed: int, which: int, expected: Sequence[str]) -> Opened:
    """Open one input and say what came of it."""
    _forget_peak()
    before, began = _peak(), time.process_time()
    wall = time.monotonic()
    code, raw, out, err = _opened(place.kind.opens[which])
    seconds = min(time.process_time() - began, time.monotonic() - wall)
    memory = max(0, _peak() - before)
    lines = lines_of(err)
    verdict, text = "accepted" if code in (0, 130) else "refused", lines[-1] if lines else ""
    if raw:
        verdict, text = "raw", raw
    elif "MemoryError" in err or "DefaultCPUAllocator" in err or "Unable to allocate" in err or memory > MOST_MEMORY:
        verdict, text = "memory", f"{memory >> 20} MB: {text}"
    elif seconds > MOST_SECONDS and seconds > MOST_SECONDS * slowness():
        verdict, text = "slow", f"{seconds:.0f} s: {text}"
    elif (
        code not in (0, 130)
        and len(lines) != 1
        and not (code == 1 and place.kind.opens[which][0:2] == ["hw-export", "verify"])
    ):
        verdict, text = "lines", f"{len(lines)} lines: {err.strip()[:300]}"
    elif code in (0, 130) and expected and out != expected[which]:
        verdict, text = "unnoticed", f"{out.strip()[-200:]}"
    if "\x1b" in err:
        verdict, text = "control characters", repr(text)
    return Opened(place.kind.name, seed, verdict, text, seconds, memory)


def _opened(command: Any) -> tuple[int, str, str, str]:
    """Run a command here; its exit status, the exception that came out of it if any, and what it printed."""
    out, err = io.StringIO(), io.StringIO()
    sys.stdout, sys.stderr = out, err
    code, raw = 1, ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            for kind in (ResourceWarning, DeprecationWarning, PendingDeprecationWarning):  # as Python does by itself
                warnings.simplefilter("ignore", kind)
            code = command() if callable(command) else call(command)
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)
        last = next(
            (f for f in reversed(frames) if "/spikelfp/" in f.filename or "/hw_export/" in f.filename), frames[-1]
        )
        text = str(error).splitlines()[0] if str(error) else ""
        place = "/".join(last.filename.rsplit("/", 3)[-3:])
        raw = f"{type(error).__name__}: {text[:160]} [{place}:{last.lineno} {last.name}]"
    finally:
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    return code, raw, out.getvalue(), err.getvalue()


def _guard() -> None:
    """No network, no core files, and training that stops when it begins."""

    def refuse(*arguments: Any, **options: Any) -> Any:
        raise OSError("the suite has no network")

    socket.socket.connect = refuse  # type: ignore[method-assign,assignment]
    socket.getaddrinfo = refuse
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    from spikelfp.training.run import Interrupted
    from spikelfp.training.trainer import TemporalTrainer

    fit = TemporalTrainer.fit

    def few(self: Any, samples: Any, epochs: int, **options: Any) -> Any:
        """Train two updates only, however many the file asks for."""
        steps, stop = 0, options.get("after_step")

        def after_step(position: Any) -> None:
            nonlocal steps
            steps += 1
            if stop is not None:
                stop(position)
            if steps >= 2:
                raise Interrupted("enough")

        return fit(self, samples, epochs, **{**options, "after_step": after_step})

    TemporalTrainer.fit = few  # type: ignore[method-assign]


def _peak() -> int:
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith("VmHWM"):
                return int(line.split()[1]) << 10
    return 0


def _forget_peak() -> None:
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def jobs(places: Sequence[Place], inputs: int, seed: int = 0) -> list[tuple[Place, list[int]]]:
    """``inputs`` shared out over the kinds, in parts for one child each, mixed so that slow kinds run side by side."""
    each = -(-inputs // len(places))
    parts = []
    for place in places:
        first = seed + zlib.crc32(place.kind.name.encode()) % 1000 * 100_000
        seeds = [first + number for number in range(each)]
        parts += [(place, seeds[at : at + TOGETHER]) for at in range(0, each, TOGETHER)]
    random.Random(0).shuffle(parts)
    return parts
