"""Memory and threads of this machine that kernels use again from call to call, and memory that is left on a device.

A training step asks for the same large arrays as the step before. Handed back to the system in between, every page of
them is mapped and cleared anew, which costs more than a scan over it. Here they are kept, and given out again as soon
as no tensor uses them any more. What is kept and what is in use together never exceed the most that was in use at once.

Threads are for kernels that let go of Python's lock: plain ones that sleep between calls. Compilers' own thread pools
spin, and two that spin on the same cores (torch's and another) slow each other down manyfold as soon as the machine is
shared. What sleeps may wake late, by milliseconds on a virtual machine, so nobody waits for that: work is cut into
pieces, whoever is awake takes the next one, and a thread that comes when all are taken sleeps on.
"""

from __future__ import annotations

import math
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import torch
from torch import Tensor

try:
    import resource
except ImportError:  # Windows has none
    resource = None  # type: ignore[assignment]


_LARGE = 1 << 20  # bytes from which on an array is kept
_LINE = 64  # bytes of a cache line


class Pool:
    """Memory that comes back when the last tensor on it is gone; from any thread."""

    def __init__(self) -> None:
        self.used = 0
        """Bytes in use."""
        self.most = 0
        """The most bytes that were in use at once."""
        self._idle: list[np.ndarray] = []  # those that came back first stand first
        self._lock = threading.RLock()  # a tensor may die, and its array come back, while one is given out

    @property
    def idle(self) -> int:
        """Bytes kept for the next who asks."""
        return sum(array.nbytes for array in self._idle)

    def bytes(self, size: int) -> Tensor:
        """``size`` bytes, with anything in them, aligned to a cache line: uint8 ``[size]``."""
        room = size + _LINE
        with self._lock:
            for place in reversed(range(len(self._idle))):
                if self._idle[place].nbytes == room:
                    whole = self._idle.pop(place)
                    break
            else:
                while self._idle and self.used + self.idle + room > max(self.most, self.used + room):
                    self._idle.pop(0)
                whole = np.empty(room, np.uint8)
            self.used += room
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
        """Give what is not in use back to the system."""
        with self._lock:
            self._idle.clear()
            self.most = self.used


pool = Pool()


def empty(shape: Sequence[int], like: Tensor) -> Tensor:
    """A tensor of ``shape`` with anything in it, of the dtype and on the device of ``like``.

    Large ones on the CPU come from :data:`pool`.
    """
    size = like.element_size() * math.prod(shape)
    if size < _LARGE or like.device.type != "cpu":
        return like.new_empty(shape)
    return pool.bytes(size).view(like.dtype).view(*shape)


def available(device: torch.device) -> int | None:
    """Bytes that can still be had on a device: free, or kept for files or torch's own use; ``None`` if not known.

    On the CPU it is the least of the machine's memory with its swap space and of what the control groups of this
    process and its limit of addresses (``ulimit -v``) leave.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type != "cpu":
        return None
    found = [bytes_ for bytes_ in (_of_machine(), _of_process(), *_of_groups()) if bytes_ is not None]
    return min(found, default=None)


def gigabytes(size: int) -> str:
    """Return a size in a unit that suits it."""
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


Run = Callable[[int, int], None]

_workers: list[Worker] = []
_adding = threading.Lock()


class Job:
    """``run(low, high)`` between any two neighbouring ``edges``, by whoever comes."""

    def __init__(self, run: Run, edges: list[int]) -> None:
        self._run, self._edges = run, edges
        self._next = count()  # one that comes next to nobody else: CPython counts under its lock
        self._done: SimpleQueue[BaseException | None] = SimpleQueue()

    def work(self) -> None:
        """Take pieces until none is left. Their errors are kept for :meth:`finish`."""
        while (place := next(self._next)) < len(self._edges) - 1:
            try:
                self._run(self._edges[place], self._edges[place + 1])
            except BaseException as error:  # handed on to the thread whose job it is
                self._done.put(error)
            else:
                self._done.put(None)

    def finish(self) -> None:
        """Wait until all pieces are done; raises the first error of any of them."""
        errors = [self._done.get() for _ in self._edges[1:]]
        for error in errors:
            if error is not None:
                raise error


class Worker(threading.Thread):
    """Helps with the jobs it is called to, one after the other."""

    def __init__(self) -> None:
        super().__init__(daemon=True, name="spikelfp")
        self.calls: SimpleQueue[Job] = SimpleQueue()
        self.start()

    def run(self) -> None:
        """Wait for the next job, for ever."""
        while True:
            job = self.calls.get()
            job.work()
            del job  # nothing is held while waiting


def _forget() -> None:
    """A forked child has the workers but not their threads."""
    _workers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def split(run: Run, size: int, grain: int, pieces: int = 4) -> None:
    """Call ``run(low, high)`` over ``0…size``, in parts by as many threads as torch has.

    grain: what is too little for a part of its own. pieces: parts for each thread.
    """
    threads = torch.get_num_threads()
    parts = min(threads * pieces, size // grain)
    if threads == 1 or parts <= 1 or isinstance(threading.current_thread(), Worker):
        run(0, size)
        return
    with _adding:
        while len(_workers) < threads - 1:
            _workers.append(Worker())
        workers = _workers[: min(threads, parts) - 1]
    job = Job(run, [size * part // parts for part in range(parts + 1)])
    for worker in workers:
        worker.calls.put(job)
    job.work()
    job.finish()
