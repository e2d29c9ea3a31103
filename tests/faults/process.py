"""Commands in forked children: torch and the product are imported once, so that a run costs milliseconds to start.

A child is a process of its own, with its own files, limits and death. Whatever becomes of it is told by
:class:`Ended`.
"""

from __future__ import annotations

import io
import itertools
import math
import os
import pickle
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from hw_export.cli import app as export_app
from spikelfp.cli import app as train_app
from spikelfp.command import run_app
from spikelfp.data import ArrayDataset, DataSplits
from spikelfp.data.dataset import datasets
from spikelfp.data.digits import digits

T = TypeVar("T")
R = TypeVar("R")

APPS = {"spikelfp": train_app, "hw-export": export_app}
RAW = 70
"""Exit status of a child that ended by an exception which no command has turned into a line."""

HELD = (signal.SIGINT, signal.SIGTERM)

TRAIN, TEST, CLASSES = 96, 40, 8
"""Samples and classes of :func:`few_digits`."""


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: exit status; ``None`` when a signal killed it.
        signal: that killed it.
        out, err: what it printed.
        seconds: from its start to its end.
        hung: it had to be killed for its time.
        cpu: seconds of computing, its own children's included.
    """

    code: int | None
    signal: int | None
    out: str
    err: str
    seconds: float
    hung: bool = False
    cpu: float = 0.0

    @property
    def killed(self) -> bool:
        """Whether it was killed on purpose."""
        return self.signal == signal.SIGKILL and not self.hung

    @property
    def raw(self) -> bool:
        """Whether it ended by a traceback, a crash or a hang."""
        crashed = self.signal is not None and self.signal != signal.SIGKILL
        return self.code == RAW or crashed or self.hung or "Traceback (most recent call last)" in self.err

    @property
    def said(self) -> str:
        """Its last line on stderr."""
        lines = self.err.strip().splitlines()
        return lines[-1] if lines else ""

    def __str__(self) -> str:
        how = "hung" if self.hung else f"killed by {signal.Signals(self.signal).name}" if self.signal else self.code
        return f"[{how}] {self.said}"


def prepare() -> None:
    """Make this process one to fork from: a single thread, everything imported, the small data sets known."""
    torch.set_num_threads(1)
    for name, step in (("few-digits", 2), ("whole-digits", 1)):
        if name not in datasets:
            few = few_digits(name, step)
            datasets.register(name)(lambda data_dir=None, few=few: few)  # type: ignore[misc]


def warm(command: Sequence[str], folder: Path) -> None:
    """Run a command in this very process, so that what it imports and compiles is there in all children.

    What it prints is dropped; whether it succeeds is for the children to see.
    """
    here = os.getcwd()
    out, err = sys.stdout, sys.stderr
    sys.stdout = sys.stderr = io.StringIO()
    os.chdir(folder)
    try:
        with environment(SPIKELFP_CACHE=str(folder / "cache")):
            call(command)
    finally:
        os.chdir(here)
        sys.stdout, sys.stderr = out, err


def few_digits(name: str, step: int) -> DataSplits:
    """A few digits of eight classes, every pixel or every other: 4 x 4 pixels fit every chip."""
    whole = digits()
    parts = []
    for part, count in ((whole.train, TRAIN), (whole.test, TEST)):
        assert isinstance(part, ArrayDataset)
        chosen = torch.nonzero(part.labels < CLASSES)[:count, 0]
        small = part.images[chosen][:, :, ::step, step - 1 :: step].contiguous()
        parts.append(ArrayDataset(small, part.labels[chosen], scale=part.scale, classes=CLASSES))
    return DataSplits(name, *parts, CLASSES, parts[0].shape, whole.class_names[:CLASSES])


def call(arguments: Sequence[str]) -> int:
    """Run a command here; returns its exit status."""
    try:
        run_app(APPS[arguments[0]], arguments[0], [str(each) for each in arguments[1:]])
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    return 0


def start(do: Callable[[], int | None], out: Any, err: Any, cwd: Path | None = None) -> int:
    """Fork a child that runs ``do`` in a process group of its own; returns its id."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    code: int | None = RAW
    try:
        os.setpgid(0, 0)
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        sys.stdout, sys.stderr = (os.fdopen(os.dup(number), "w", encoding="utf-8") for number in (1, 2))
        sys.stdin = open(os.devnull)  # noqa: SIM115 (the child ends soon)
        if cwd is not None:
            os.chdir(cwd)
        code = do()
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code or 0)


def wait(child: int, timeout: float) -> tuple[int, bool, float]:
    """Wait for a child; one that takes longer than ``timeout`` seconds is killed with its whole group.

    Returns:
        Its status, whether it was killed for its time, and its seconds of computing.
    """
    end, pause, used_before = time.monotonic() + timeout, 0.001, 0.0
    while True:
        done, status, used = os.wait4(child, os.WNOHANG)
        if done:
            return status, False, used.ru_utime + used.ru_stime
        if time.monotonic() > end and (now := computed(child)) - used_before > 0.05 and now < timeout:
            end, used_before = time.monotonic() + timeout, now  # the machine is busy with others
        if time.monotonic() > end:
            os.killpg(child, signal.SIGKILL)
            _, status, used = os.wait4(child, 0)
            return status, True, used.ru_utime + used.ru_stime
        time.sleep(pause)
        pause = min(pause * 1.5, 0.02)


def run(
    do: Sequence[str] | Callable[[], int | None],
    cwd: Path | None = None,
    *,
    before: Callable[[], object] = lambda: None,
    meanwhile: Callable[[int], object] = lambda child: None,
    timeout: float = 120,
) -> Ended:
    """Run a command, or a function, in a child.

    Args:
        do: arguments, the command's name first; or a function.
        cwd: folder to run in.
        before: called in the child first.
        meanwhile: called here with the child's id while it runs.
        timeout: seconds after which it counts as hung.
    """

    def work() -> int | None:
        before()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)
        return do() if callable(do) else call(do)

    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        began = time.monotonic()
        signal.pthread_sigmask(signal.SIG_BLOCK, HELD)  # until the child is in its command
        try:
            child = start(work, out, err, cwd)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)
        meanwhile(child)
        status, hung, cpu = wait(child, timeout)
        seconds = time.monotonic() - began
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode("utf-8", "replace"))
    by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
    return Ended(None if by else os.WEXITSTATUS(status), by, *texts, seconds, hung, cpu)


def lines_of(err: str) -> list[str]:
    """Lines of a command's stderr, without the notice that kernels are compiled, which comes once a machine."""
    return [line for line in err.splitlines() if line.strip() and "compiling kernels" not in line]


def spread(jobs: Sequence[T], do: Callable[[T], R], workers: int, until: float = math.inf) -> Iterator[R]:
    """Do each job by several forked children that take turns, and give results as they come.

    Args:
        jobs: in their order; none is begun after the time ``until``.
        do: makes a result of a job.
        workers: number of children.
        until: as :func:`time.monotonic` counts.

    Raises:
        RuntimeError: when a child ended without its results: the suite itself is at fault.
    """
    if workers <= 1:
        yield from map(do, itertools.takewhile(lambda job: time.monotonic() < until, jobs))
        return
    turn_read, turn_write = os.pipe()
    os.write(turn_write, b"\0")  # who holds the byte may take the next job
    with tempfile.TemporaryFile() as counter:
        counter.write((0).to_bytes(8, "little"))
        counter.flush()

        def take() -> int:
            os.read(turn_read, 1)
            number = int.from_bytes(os.pread(counter.fileno(), 8, 0), "little")
            os.pwrite(counter.fileno(), (number + 1).to_bytes(8, "little"), 0)
            os.write(turn_write, b"\0")
            return number

        children: dict[int, Any] = {}
        for _ in range(workers):
            read, write = os.pipe()
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    os.close(read)
                    with os.fdopen(write, "wb") as results:
                        while time.monotonic() < until and (number := take()) < len(jobs):
                            pickle.dump(do(jobs[number]), results)
                            results.flush()
                    code = 0
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(code)
            os.close(write)
            children[child] = os.fdopen(read, "rb")
        yield from _gathered(children)
    os.close(turn_read)
    os.close(turn_write)


def _gathered(children: dict[int, Any]) -> Iterator[Any]:
    """Results of all children; they come one child after the other, which is all the same to who adds them up."""
    import select

    waiting = dict(children)
    while waiting:
        ready, _, _ = select.select(list(waiting.values()), [], [])
        for child in [child for child, stream in waiting.items() if stream in ready]:
            stream = waiting[child]
            try:
                yield pickle.load(stream)
                while stream.peek(1) and len(stream.peek(1)) > 0 and select.select([stream], [], [], 0)[0]:
                    yield pickle.load(stream)
            except EOFError:
                del waiting[child]
                stream.close()
                if os.waitpid(child, 0)[1]:
                    raise RuntimeError("a worker of the suite has failed") from None


def computed(process: int) -> float:
    """Seconds of computing of a process so far; 0 for one that is gone."""
    try:
        words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """Variables of the environment within the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def most_memory(extra: int) -> None:
    """Let this process take at most ``extra`` bytes of memory more than it has."""
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + extra, now + extra))
