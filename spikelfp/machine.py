"""Memory and threads that kernels use again from call to call, the memory left on a device, and signals of the system.

Arrays: a training step asks for the same large arrays as the step before. Giving them back to the system in between
makes it map and clear every page anew, which costs more than a scan over them. The pool keeps them and gives them out
again. The arrays kept and those in use together never exceed the most that was in use at once.

Threads: kernels that release Python's lock share work among plain threads, which sleep between calls. The thread pools
of compilers spin, and two of them on the same cores slow each other down many times. A sleeping thread may wake late,
by milliseconds on a virtual machine, so nobody waits for it: work is cut into pieces, each thread that is awake takes
the next one, and a thread that finds no piece left goes back to sleep.

Signals: Ctrl-C and SIGTERM let training finish its step and save.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import socket
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import torch
from torch import Tensor

try:
    import resource
except ImportError:  # Windows has none
    resource = None  # type: ignore[assignment]


# --- memory --------------------------------------------------------------------------------------------------------

_LARGE = 1 << 20  # bytes from which on an array is kept
_LINE = 64  # bytes of a cache line


class Pool:
    """Memory that comes back when its last tensor is gone; any thread may use it."""

    def __init__(self) -> None:
        self.used = 0
        """Bytes in use."""
        self.most = 0
        """The most bytes that were in use at once."""
        self._idle: list[np.ndarray] = []  # those that came back first stand first
        self._lock = threading.RLock()  # reentrant: a tensor may be freed, and call _back, while another is given out

    @property
    def idle(self) -> int:
        """Bytes that are kept for the next call."""
        return sum(array.nbytes for array in self._idle)

    def bytes(self, size: int) -> Tensor:
        """Return ``size`` bytes, not initialised, aligned to a cache line: uint8 ``[size]``."""
        padded = size + _LINE
        with self._lock:
            for place in reversed(range(len(self._idle))):
                if self._idle[place].nbytes == padded:
                    whole = self._idle.pop(place)
                    break
            else:
                while self._idle and self.used + self.idle + padded > max(self.most, self.used + padded):
                    self._idle.pop(0)
                whole = np.empty(padded, np.uint8)
            self.used += padded
            self.most = max(self.most, self.used)
        first = -whole.ctypes.data % _LINE
        given = whole[first : first + size]  # the tensor's storage holds this very array, and nobody else does
        weakref.finalize(given, self._back, whole).atexit = False
        return torch.from_numpy(given)

    def _back(self, whole: np.ndarray) -> None:
        with self._lock:
            self.used -= whole.nbytes
            self._idle.append(whole)

    def release(self) -> None:
        """Give the memory that is not in use back to the system."""
        with self._lock:
            self._idle.clear()
            self.most = self.used


pool = Pool()


def empty(shape: Sequence[int], like: Tensor) -> Tensor:
    """Make a tensor that is not initialised; a large one on the CPU takes its memory from :data:`pool`.

    Args:
        shape: of the tensor.
        like: tensor whose dtype and device it has.
    """
    size = like.element_size() * math.prod(shape)
    if size < _LARGE or like.device.type != "cpu":
        return like.new_empty(shape)
    return pool.bytes(size).view(like.dtype).view(*shape)


def available(device: torch.device) -> int | None:
    """Count the bytes that can still be allocated on a device; ``None`` if not known.

    They include what the system keeps for files and torch for its own use. On the CPU it is the smallest of three: the
    machine's memory with its swap space, the rest of each control group of this process, and the rest of its limit of
    addresses (``ulimit -v``).
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type != "cpu":
        return None
    found = [bytes_ for bytes_ in (_of_machine(), _of_process(), *_of_groups()) if bytes_ is not None]
    return min(found, default=None)


def gigabytes(size: int) -> str:
    """Write a number of bytes in MiB or GiB."""
    if size >= 2**70:
        return "more than 10¹² GiB"
    return f"{size / 2**30:.3g} GiB" if size >= 2**30 else f"{math.ceil(size / 2**20)} MiB"


def _of_machine() -> int | None:
    lines = _text(Path("/proc/meminfo")).splitlines()
    values = {name: value.split()[0] for name, _, value in (line.partition(":") for line in lines) if value}
    if "MemAvailable" not in values:
        return None
    return 1024 * (int(values["MemAvailable"]) + int(values.get("SwapFree", 0)))


def _of_process() -> int | None:
    if resource is None:
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    pages = _text(Path("/proc/self/statm")).split()
    if limit == resource.RLIM_INFINITY or not pages:
        return None
    return max(0, limit - int(pages[0]) * resource.getpagesize())


def _of_groups() -> Iterable[int]:
    """Find the memory left to this process in each of its control groups that has a limit."""
    for line in _text(Path("/proc/self/cgroup")).splitlines():
        number, _, rest = line.partition(":")
        kinds, _, path = rest.partition(":")
        if number == "0":
            root, limit, usage, cache = Path("/sys/fs/cgroup"), "memory.max", "memory.current", "inactive_file"
        elif "memory" in kinds.split(","):
            root, cache = Path("/sys/fs/cgroup/memory"), "total_inactive_file"
            limit, usage = "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            most, used = _text(folder / limit).strip(), _text(folder / usage).strip()
            if most.isdigit() and used.isdigit():
                stat = dict(line.split()[:2] for line in _text(folder / "memory.stat").splitlines() if " " in line)
                yield int(most) - int(used) + int(stat.get(cache, 0))
            if folder == root:
                break


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


# --- threads -------------------------------------------------------------------------------------------------------

Run = Callable[[int, int], None]

_workers: list[Worker] = []
_adding = threading.Lock()


class Job:
    """Calls of ``run(low, high)`` between neighbouring ``edges``, shared by the threads that come.

    Args:
        run: called with the two ends of each piece.
        edges: ends of the pieces, in order.
    """

    def __init__(self, run: Run, edges: list[int]) -> None:
        self._run, self._edges = run, edges
        self._next = count()  # no two threads get the same number: CPython counts under its lock
        self._done: SimpleQueue[BaseException | None] = SimpleQueue()

    def work(self) -> None:
        """Take pieces until none is left, and keep their errors for :meth:`finish`."""
        while (place := next(self._next)) < len(self._edges) - 1:
            try:
                self._run(self._edges[place], self._edges[place + 1])
            except BaseException as error:  # for the thread that calls finish
                self._done.put(error)
            else:
                self._done.put(None)

    def finish(self) -> None:
        """Wait until all pieces are done.

        Raises:
            BaseException: the first error of any piece.
        """
        errors = [self._done.get() for _ in self._edges[1:]]
        for error in errors:
            if error is not None:
                raise error


class Worker(threading.Thread):
    """A thread that helps with the jobs in its queue, one after the other."""

    def __init__(self) -> None:
        super().__init__(daemon=True, name="spikelfp")
        self.calls: SimpleQueue[Job] = SimpleQueue()
        self.start()

    def run(self) -> None:
        """Wait for jobs and work on them, for ever."""
        while True:
            job = self.calls.get()
            job.work()
            del job  # else its arrays stay in memory while this thread waits


def _forget() -> None:
    """Drop the workers in a forked child, which does not have their threads."""
    _workers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def split(run: Run, size: int, grain: int, pieces: int = 4) -> None:
    """Call ``run(low, high)`` over ``0…size``, in pieces shared by as many threads as torch has.

    Args:
        run: called with the two ends of a piece.
        size: end of the last piece.
        grain: smallest size of a piece.
        pieces: their number for each thread.
    """
    threads = torch.get_num_threads()
    number = min(threads * pieces, size // grain)
    if threads == 1 or number <= 1 or isinstance(threading.current_thread(), Worker):
        run(0, size)
        return
    with _adding:
        while len(_workers) < threads - 1:
            _workers.append(Worker())
        workers = _workers[: min(threads, number) - 1]
    job = Job(run, [size * part // number for part in range(number + 1)])
    for worker in workers:
        worker.calls.put(job)
    job.work()
    job.finish()


# --- processes ---------------------------------------------------------------------------------------------------


def process_context(*loaded: str) -> Any:
    """Return how processes are started: from a server that has loaded some modules, and has computed nothing.

    Args:
        *loaded: names of the modules; where there is no such server, each process loads its own.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*loaded])
    return context


# --- signals -----------------------------------------------------------------------------------------------------

GRACE = 2.0
"""Seconds after SIGTERM in which a process may still end by itself."""


class Ended(KeyboardInterrupt):
    """A signal that ends a command at once.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Stop:
    """A handler of signals that asks training to stop; called, it tells whether training was asked.

    Before :meth:`begin` there is nothing to save, and a signal ends the command at once. After it, the first signal
    asks training to stop, and a second one ends the command.

    Args:
        patient: let no signal end the command, for workers of torchrun: it may send them one Ctrl-C twice, and ends
            them in its own way.
    """

    def __init__(self, patient: bool = False) -> None:
        self.number: int | None = None
        """Number of the last signal; ``None`` before the first."""
        self._patient, self._begun = patient, False

    def __call__(self) -> bool:
        """Whether to stop after the current step."""
        return self.number is not None

    def begin(self) -> None:
        """Let the next signal ask only.

        Raises:
            Ended: for a signal before, whose exception a compiler may have swallowed.
        """
        self._begun = True
        if self.number is not None and not self._patient:
            raise Ended(self.number)

    def ask(self, number: int, frame: object = None) -> None:
        """Handle a signal.

        Args:
            number: of the signal.
            frame: where it came; not used.

        Raises:
            Ended: for a signal that ends the command.
        """
        at_once = not self._patient and (self.number is not None or not self._begun)
        self.number = number
        if at_once:
            raise Ended(number)


@contextmanager
def stop_on_interrupt(patient: bool = False) -> Iterator[Stop]:
    """Let Ctrl-C, SIGTERM and SIGHUP ask training within the block to stop after the current step.

    SIGTERM and SIGHUP are left alone where the program handles or ignores (``nohup``) them, and all three outside of
    the main thread.

    Args:
        patient: as for :class:`Stop`; then only Ctrl-C is handled, as torchrun has a meaning for SIGTERM.
    """
    stop = Stop(patient)
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {signal.SIGINT: signal.signal(signal.SIGINT, stop.ask)}
    try:
        for number in () if patient else (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, stop.ask)
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def ended_by_sigterm(say: Callable[[], object]) -> Iterator[None]:
    """Let SIGTERM end the process within the block, with status 1, after :data:`GRACE` seconds.

    torchrun sends SIGTERM to the other workers when one has failed. They may be waiting for that one inside a library,
    where Python handles no signals, so a thread listens.

    Args:
        say: called before the process ends.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    left = threading.Event()

    def listen() -> None:
        while received := receiver.recv(64):  # nothing once the other end is closed
            if signal.SIGTERM in received and not left.wait(GRACE):
                say()
                os._exit(1)

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    before_wakeup = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    before = signal.signal(signal.SIGTERM, lambda number, frame: None)
    failed = True
    try:
        yield
        failed = False
    finally:
        left.set()
        # After an error the process ends by itself: SIGTERM must not change its exit status.
        signal.signal(signal.SIGTERM, signal.SIG_IGN if failed else before)
        signal.set_wakeup_fd(before_wakeup)
        sender.close()
        listener.join()
        receiver.close()
