"""Recordings read and binned side by side, handed out in their order."""

from __future__ import annotations

import os
import statistics
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
_SMALL = 5e-4  # seconds for a recording below which threads only wait for the interpreter, and wear it out
_LOOK = 5  # recordings that tell how long one takes


class Read(NamedTuple):
    """What came of recording ``number``: its ``frames``, or the ``error`` that it could not be read or binned for."""

    number: int
    frames: SparseFrames | None
    error: DataError | None = None


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_all(recordings: Recordings, pipeline: Pipeline, workers: int | None = None) -> Iterator[Read]:
    """Every recording through the ``pipeline``, in order; a few are held at a time, however many there are.

    workers: most threads that read and bin, ``None`` for :func:`cores`. Decoding and binning run in numpy and compiled
    code, which leave the interpreter free; recordings so small that they are done before another thread gets it are
    read by one. A process would first import torch for longer than it takes to bin a thousand small recordings, and
    hold an archive that lies decompressed in memory once more.

    Raises:
        UserError: for fewer than one worker, and settings of the ``pipeline`` that do not fit a recording, which it
            names.
    """
    workers = cores() if workers is None else workers
    if workers < 1:
        raise UserError(f"recordings are read by at least one worker, got {workers}")
    return _read_all(recordings, pipeline, workers)


def _read_all(recordings: Recordings, pipeline: Pipeline, workers: int) -> Iterator[Read]:
    done, seconds = 0, list[float]()
    while done < len(recordings) and (len(seconds) < _LOOK or workers == 1 or statistics.median(seconds) < _SMALL):
        started = time.perf_counter()
        read = _read(recordings, pipeline, done)
        seconds = [*seconds[1 - _LOOK :], time.perf_counter() - started]  # the first one compiles, a median forgets it
        done += 1
        yield read
    if done < len(recordings):
        yield from _side_by_side(recordings, pipeline, workers, done)


def _side_by_side(recordings: Recordings, pipeline: Pipeline, workers: int, given: int) -> Iterator[Read]:
    """The recordings from number ``given`` on."""

    def some(first: int, end: int) -> tuple[list[Read], float]:
        started = time.perf_counter()
        read = [_read(recordings, pipeline, index) for index in range(first, end)]
        return read, (time.perf_counter() - started) / (end - first)

    pool = ThreadPoolExecutor(workers, thread_name_prefix="binning")
    running: deque[Future[tuple[list[Read], float]]] = deque()
    count = 1
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
    except DataError as error:  # which names the file
        return Read(index, None, error)
    try:
        return Read(index, pipeline(events, recordings.sensor))
    except DataError as error:
        return Read(index, None, DataError(f"{recordings.where(index)}: {error}"))
    except UserError as error:  # the settings do not fit it
        raise UserError(f"{recordings.where(index)}: {error}") from error
