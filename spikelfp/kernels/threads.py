"""Threads for kernels that let go of Python's lock.

Plain threads that sleep between calls: compilers' own thread pools spin, and two that spin on the same cores (torch's
and another) slow each other down manyfold as soon as the machine is shared. What sleeps may wake late, by milliseconds
on a virtual machine, so nobody waits for that: work is cut into pieces, whoever is awake takes the next one, and a
thread that comes when all are taken sleeps on.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from itertools import count
from queue import SimpleQueue

import torch

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
