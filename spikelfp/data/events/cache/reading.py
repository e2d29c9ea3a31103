"""Recordings read and binned side by side, handed out in their order."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from spikelfp.data.events.binning import SparseFrames
from spikelfp.data.events.pipeline import Pipeline
from spikelfp.data.events.recordings import Recordings
from spikelfp.errors import DataError, UserError

_SECONDS = 0.01  # that a task should take: short enough to hold little, long enough for its overhead not to count
_MOST = 64  # recordings of a task
_AHEAD = 2  # tasks for each worker that wait or run


class Read(NamedTuple):
    """What came of recording ``number``: its ``frames``, or the ``error`` that it could not be read for."""

    number: int
    frames: SparseFrames | None
    error: DataError | None = None


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_all(recordings: Recordings, pipeline: Pipeline, workers: int | None = None) -> Iterator[Read]:
    """Every recording through the ``pipeline``, in order; a few are held at a time, however many there are.

    The ``workers`` (default: :func:`cores`) are threads. Decoding and binning run in numpy and compiled code, which
    leave the interpreter free; a process would first import torch for longer than it takes to bin a thousand small
    recordings, and hold an archive that lies decompressed in memory once more.

    Raises:
        UserError: for fewer than one worker.
    """
    workers = cores() if workers is None else workers
    if workers < 1:
        raise UserError(f"recordings are read by at least one worker, got {workers}")
    if workers == 1:
        return (_read(recordings, pipeline, index) for index in range(len(recordings)))
    return _side_by_side(recordings, pipeline, workers)


def _side_by_side(recordings: Recordings, pipeline: Pipeline, workers: int) -> Iterator[Read]:
    def some(first: int, end: int) -> tuple[list[Read], float]:
        started = time.perf_counter()
        read = [_read(recordings, pipeline, index) for index in range(first, end)]
        return read, (time.perf_counter() - started) / (end - first)

    pool = ThreadPoolExecutor(workers, thread_name_prefix="binning")
    running: deque[Future[tuple[list[Read], float]]] = deque()
    given, count = 0, 1
    try:
        while given < len(recordings) or running:
            while given < len(recordings) and len(running) < _AHEAD * workers:
                end = min(given + count, len(recordings))
                running.append(pool.submit(some, given, end))
                given = end
            read, seconds_each = running.popleft().result()
            yield from read
            count = min(max(int(_SECONDS / max(seconds_each, 1e-9)), 1), _MOST)
    finally:  # also when an error or Ctrl-C ends it: what runs is waited for, what waits is dropped
        pool.shutdown(cancel_futures=True)


def _read(recordings: Recordings, pipeline: Pipeline, index: int) -> Read:
    try:
        events = recordings.read(index)
    except DataError as error:
        return Read(index, None, error)
    return Read(index, pipeline(events, recordings.sensor))
