"""Recordings read and binned side by side: opened from the cache, or made there or in memory."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import shutil
import statistics
import time
import uuid
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn

from spikelfp import terminal
from spikelfp.data.events.binning import Binning, Pipeline, SparseFrames, ones
from spikelfp.data.events.cache import store as files
from spikelfp.data.events.cache.store import FILLING, PART, USED, Array, Lock, Store, save_errors
from spikelfp.data.events.recordings import Recordings
from spikelfp.data.events.tally import Tally, tallied, told
from spikelfp.errors import DataError, UserError

_TASK_SECONDS = 0.01  # of a task of a thread: short enough to hold little, long enough for its overhead not to count
_LARGEST_TASK = 64  # recordings
_AHEAD = 2  # tasks for each worker that wait or run
_QUICK = 5e-4  # seconds for a recording below which threads would mostly wait for the interpreter
_SAMPLE = 5  # recordings that tell how long one takes

Append = Callable[[Array], object]
Advance = Callable[[], object]
"""Called once for each recording."""


def binned(
    recordings: Recordings,
    pipeline: Pipeline,
    *,
    cache_dir: str | Path | None = None,
    skip_bad: bool = False,
    workers: int | None = None,
    progress: bool = False,
    limit: int | str | None = None,
    in_memory: bool = False,
) -> Store:
    """Bin all ``recordings`` by the ``pipeline``, or open them from the cache if they have been binned before.

    An entry is named by a hash of its content (:func:`entry_name`) and appears whole or not at all. Processes that want
    the same entry wait for the one that makes it. A damaged entry is made anew, with a warning.

    Args:
        recordings: of one part of a data set.
        pipeline: transforms and binning.
        cache_dir: as :func:`~spikelfp.data.events.cache.cache_folder` takes it.
        skip_bad: leave out recordings that cannot be read, and list them in :attr:`Store.skipped`.
        workers: threads that read and bin, ``None`` for as many as there are cores.
        progress: show a bar on a terminal.
        limit: most bytes of the cache (:func:`~spikelfp.data.events.cache.limit_bytes`). Once an entry was made, the
            least recently used ones are removed, but none that is in use.
        in_memory: make the sequences in memory, and leave the cache alone.

    Returns:
        The sequences.

    Raises:
        DataError: for the first recording that cannot be read, unless ``skip_bad``; when none can be read; when files
            change while they are read.
        SaveError: when the cache folder cannot be written.
        UserError: for fewer than one worker, a limit that is no size, or settings that do not fit a recording.
    """
    builder = Builder(recordings, pipeline, skip_bad, workers)

    def counted() -> AbstractContextManager[Advance]:
        return _progress_bar(recordings) if progress else nullcontext(lambda: None)

    if in_memory:
        with counted() as advance:
            return builder.in_memory(advance)
    most, folder = files.limit_bytes(limit), files.cache_folder(cache_dir)
    content = recordings.fingerprint()
    entry = folder / entry_name(recordings, pipeline, content)
    while (store := _opened(entry)) is None:
        with _part_of(entry) as part:
            if part is None:
                continue  # another process has just made it
            with counted() as advance:
                builder.in_folder(part, content, advance)
            _rename(part, entry)
        store = files.open_store(entry)
        files.prune(folder, most)
        return store
    if store.skipped and not skip_bad:
        number, reason = store.skipped[0]
        recordings.read(number)  # raises its error as it is today
        raise DataError(reason)
    return store


def entry_name(recordings: Recordings, pipeline: Pipeline, content: str | None = None) -> str:
    """Name of the cache entry, ``<data set>-<key>``; the data set is there for people, the key decides.

    The key is the BLAKE2b hash (RFC 7693) of ``content``, the fingerprint of the recordings, of the pipeline, and of
    :data:`~spikelfp.data.events.cache.store.FORMAT`.
    """
    depends_on = [
        files.FORMAT,
        recordings.fingerprint() if content is None else content,
        str(recordings.sensor),
        list(recordings.class_names),
        pipeline.describe(),
    ]
    key = hashlib.blake2b(json.dumps(depends_on).encode(), digest_size=files.DIGEST).hexdigest()
    return f"{files.slug_of(recordings.name) or 'recordings'}-{key}"


@contextmanager
def _progress_bar(recordings: Recordings) -> Iterator[Advance]:
    """Show a bar on a terminal, and hand out the function that moves it by one recording."""
    columns = (terminal.bar_text("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with terminal.progress(*columns) as bar:
        task = bar.add_task(terminal.plain(recordings.name), total=len(recordings))
        yield lambda: bar.advance(task)


def _opened(entry: Path) -> Store | None:
    """Open an entry; ``None`` if there is none, or it was damaged and has been removed."""
    try:
        return files.open_store(entry)
    except files.GoneError:
        return None
    except files.DamagedError as error:
        with save_errors(entry.parent):
            files.discard(entry)
        warnings.warn(f"damaged cache, made anew: {error}", UserWarning, stacklevel=3)
        return None


@contextmanager
def _part_of(entry: Path) -> Iterator[Path | None]:
    """Make a folder beside ``entry`` that this process alone fills; it is removed afterwards unless it was renamed.

    ``None`` when another process held it and is done with it. Leftovers of killed processes are removed first.
    """
    part = entry.with_name(f".{entry.name}{PART}")
    with ExitStack() as held:
        with save_errors(entry.parent):
            entry.parent.mkdir(parents=True, exist_ok=True)
            files.remove_stale(entry.parent)
            part.mkdir(exist_ok=True)
            try:
                filling = held.enter_context(open(part / FILLING, "ab"))
            except FileNotFoundError:
                yield None
                return
        if files.lock(filling, exclusive=True, wait=True) is Lock.UNSUPPORTED:  # then no processes may share a name
            part = entry.with_name(f".{entry.name}.{uuid.uuid4().hex}{PART}")
            with save_errors(entry.parent):
                part.mkdir()
                filling = held.enter_context(open(part / FILLING, "ab"))
        elif not files.is_file_at(filling, part / FILLING):
            yield None
            return
        try:
            yield part
        finally:
            if files.is_file_at(filling, part / FILLING):
                shutil.rmtree(part, ignore_errors=True)


def _rename(part: Path, entry: Path) -> None:
    """Turn the filled ``part`` into the ``entry``."""
    with save_errors(entry.parent):
        (part / USED).touch()
        try:
            part.rename(entry)
        except OSError:
            if not entry.is_dir():  # where there are no locks another process may have been first
                raise
        else:
            (entry / FILLING).unlink(missing_ok=True)


# Sequences gathered in the arrays of a store


class Builder:
    """Writer of recordings into the arrays of a :class:`~spikelfp.data.events.cache.Store`, as :func:`binned` says."""

    def __init__(self, recordings: Recordings, pipeline: Pipeline, skip_bad: bool, workers: int | None) -> None:
        self.recordings, self.pipeline, self.skip_bad, self.workers = recordings, pipeline, skip_bad, workers
        self.sensor, self.levels = pipeline.sensor(recordings.sensor), pipeline.binning.levels
        self.places = place_type(pipeline.binning, self.sensor.size)
        # counts go up to the levels; with one level all are 1, and are not kept
        self.counts = None if self.levels == 1 else np.dtype("u1" if self.levels < 2**8 else "<u2")
        self.skipped: list[tuple[int, str]] = []
        self.tally: Tally = {}

    def in_memory(self, advance: Advance) -> Store:
        """Make the arrays in memory."""
        places: list[Array] = [np.empty(0, self.places)]
        counts: list[Array] = [np.empty(0, self.counts)]
        offsets, steps, labels, kept = self._gather(advance, places.append, counts.append).values()
        all_places = np.concatenate(places)
        all_counts = ones(len(all_places)) if self.counts is None else np.concatenate(counts)
        for array in (all_places, all_counts, offsets, steps, labels, kept):
            array.flags.writeable = False  # as those of files are
        skipped = tuple(self.skipped)
        return Store(
            self.sensor, self.levels, all_places, all_counts, offsets, steps, labels, kept, skipped,
            told=tuple(told(self.tally)),
        )  # fmt: skip

    def in_folder(self, folder: Path, content: str, advance: Advance) -> None:
        """Write the files of an entry, its ``meta.json`` last.

        Raises:
            SaveError: when they cannot be written.
            DataError: when the fingerprint of the recordings is no longer ``content`` in the end.
        """
        dtypes = {"places": self.places.str} | ({} if self.counts is None else {"counts": self.counts.str})
        with ExitStack() as open_files:
            appends = {name: open_files.enter_context(_appending(folder, name)) for name in dtypes}
            index = self._gather(advance, appends["places"], appends.get("counts"))
        if self.recordings.fingerprint() != content:
            raise DataError(f"{self.recordings.name}: its files changed while they were read; load it again")
        with save_errors(folder.parent):
            for name, array in index.items():
                files.write_array(folder, name, array)
                dtypes[name] = array.dtype.str
            about = {
                "name": self.recordings.name,
                "pipeline": json.loads(self.pipeline.describe()),
                "sensor": asdict(self.sensor),
                "content": content,
                "class_names": list(self.recordings.class_names),
                "levels": self.levels,
                "recordings": len(index["steps"]),
                "steps": [int(index["steps"].min()), int(index["steps"].max())],
                "skipped": self.skipped,
                "told": told(self.tally),
                "made": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
                "version": version("spikelfp"),
            }
            files.write_meta(folder, dtypes, about)

    def _gather(self, advance: Advance, places: Append, counts: Append | None) -> dict[str, Array]:
        """Hand the places and counts of every recording on; return the arrays that separate the sequences."""
        lengths, steps, kept = [0], list[int](), list[int]()
        for number, frames, error, tally in read_all(self.recordings, self.pipeline, self.workers):
            advance()
            for where, counts_there in tally.items():
                self.tally.setdefault(where, {}).update(counts_there)
            if frames is None:
                assert error is not None
                if not self.skip_bad:
                    raise error
                self.skipped.append((number, str(error)))
                continue
            places(frames.places.astype(self.places))
            if self.counts is not None and counts is not None:
                counts(frames.counts.astype(self.counts))
            lengths.append(len(frames.places))
            steps.append(frames.steps)
            kept.append(number)
        if not kept:
            first = f": {self.skipped[0][1]}" if self.skipped else ""
            raise DataError(f"{self.recordings.name}: none of {len(self.recordings)} recordings can be used{first}")
        return {
            "offsets": np.cumsum(lengths, dtype=np.int64),
            "steps": np.array(steps, dtype=np.int32),
            "labels": np.asarray(self.recordings.labels, dtype=np.int64)[kept],
            "kept": np.array(kept, dtype=np.int64),
        }


def place_type(binning: Binning, size: int) -> np.dtype[Any]:
    """Smallest type of places, 16 or 32 bits, for a ``binning`` and ``size`` elements of a step."""
    longest = binning.bins or binning.most
    return np.dtype("<u2" if longest is not None and longest * size <= 2**16 else "<u4")


@contextmanager
def _appending(folder: Path, name: str) -> Iterator[Append]:
    """Open a file that arrays are appended to, and bring it to the disk in the end."""
    with save_errors(folder.parent):
        file = open(files.array_path(folder, name), "wb")  # noqa: SIM115 (closed below)

    def append(array: Array) -> None:
        with save_errors(folder.parent):
            file.write(array.data)

    try:
        yield append
        with save_errors(folder.parent):
            file.flush()
            os.fsync(file.fileno())
    finally:
        with suppress(OSError):  # the error of the write has been raised
            file.close()


# Recordings read and binned by several threads


class Binned(NamedTuple):
    """Result for one recording.

    Attributes:
        number: of the recording.
        frames: its sequence, or ``None``.
        error: why it could not be read or binned.
        tally: counts of what was moved or left out of it (:mod:`spikelfp.data.events.tally`).
    """

    number: int
    frames: SparseFrames | None
    error: DataError | None = None
    tally: Tally = {}  # noqa: RUF012  (of a named tuple, and never changed)


def cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_all(recordings: Recordings, pipeline: Pipeline, workers: int | None = None) -> Iterator[Binned]:
    """Read every recording and bin it by the ``pipeline``, in order; few are held at a time.

    Threads are enough: decoding and binning run in numpy and compiled code, which leave the interpreter free. A process
    would first import torch, for longer than it takes to bin a thousand small recordings, and hold another copy of an
    archive that is kept in memory. Recordings that are done before another thread gets the interpreter are read by one
    thread.

    Args:
        recordings: to read.
        pipeline: transforms and binning.
        workers: most threads, ``None`` for :func:`cores`.

    Raises:
        UserError: for fewer than one worker, and for settings of the ``pipeline`` that do not fit a recording, which
            it names.
    """
    workers = cores() if workers is None else workers
    if workers < 1:
        raise UserError(f"recordings are read by at least one worker, got {workers}")
    done, seconds = 0, list[float]()
    while done < len(recordings) and (len(seconds) < _SAMPLE or workers == 1 or statistics.median(seconds) < _QUICK):
        started = time.perf_counter()
        read = _read(recordings, pipeline, done)
        seconds = [
            *seconds[1 - _SAMPLE :],
            time.perf_counter() - started,
        ]  # the median ignores the first, which compiles
        done += 1
        yield read
    if done < len(recordings):
        yield from _read_in_threads(recordings, pipeline, workers, done)


def _read_in_threads(recordings: Recordings, pipeline: Pipeline, workers: int, done: int) -> Iterator[Binned]:
    """Read the recordings from number ``done`` on."""

    def task(first: int, end: int) -> tuple[list[Binned], float]:
        started = time.perf_counter()
        read = [_read(recordings, pipeline, index) for index in range(first, end)]
        return read, (time.perf_counter() - started) / (end - first)

    pool = ThreadPoolExecutor(workers, thread_name_prefix="binning")
    running: deque[Future[tuple[list[Binned], float]]] = deque()
    count = 1
    try:
        while done < len(recordings) or running:
            while done < len(recordings) and len(running) < _AHEAD * workers:
                end = min(done + count, len(recordings))
                running.append(pool.submit(task, done, end))
                done = end
            read, seconds_each = running.popleft().result()
            yield from read
            count = min(max(int(_TASK_SECONDS / max(seconds_each, 1e-9)), 1), _LARGEST_TASK)
    finally:  # also when an error or Ctrl-C ends it: tasks that run are waited for, those that wait are dropped
        pool.shutdown(cancel_futures=True)


def _read(recordings: Recordings, pipeline: Pipeline, index: int) -> Binned:
    with tallied() as tally:
        try:
            events = recordings.read(index)
        except DataError as error:  # which names the file
            return Binned(index, None, error)
    try:
        frames = pipeline(events, recordings.sensor)
    except DataError as error:
        return Binned(index, None, DataError(f"{recordings.where(index)}: {error}"))
    except UserError as error:  # the settings do not fit it
        raise UserError(f"{recordings.where(index)}: {error}") from error
    if frames.late:
        tally.setdefault(recordings.where(index), {})["late"] = frames.late
    return Binned(index, frames, None, tally)
