"""Binned recordings put behind each other, into memory or into the files of a folder."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from spikelfp.data.events.binning import Binning
from spikelfp.data.events.cache.files import path_of, write_array, write_meta
from spikelfp.data.events.cache.place import writing
from spikelfp.data.events.cache.reading import read_all
from spikelfp.data.events.cache.store import Array, Store, ones
from spikelfp.data.events.pipeline import Pipeline
from spikelfp.data.events.recordings import Recordings
from spikelfp.errors import DataError

Append = Callable[[Array], object]
Advance = Callable[[], object]
"""Called once for each recording."""


class Index(NamedTuple):
    """What tells the sequences apart; see :class:`~spikelfp.data.events.cache.store.Store`."""

    offsets: Array
    steps: Array
    labels: Array
    kept: Array


class Builder:
    """Recordings on their way into the arrays of a :class:`~spikelfp.data.events.cache.store.Store`.

    skip_bad: leave out, and list, those that cannot be read; otherwise the first one's error is raised.
    """

    def __init__(self, recordings: Recordings, pipeline: Pipeline, skip_bad: bool, workers: int | None) -> None:
        self.recordings, self.pipeline, self.skip_bad, self.workers = recordings, pipeline, skip_bad, workers
        self.sensor, self.levels = pipeline.sensor(recordings.sensor), pipeline.binning.levels
        self.places = place_type(pipeline.binning, self.sensor.size)
        # counts go up to the levels; with one level all are 1, and are not kept
        self.counts = None if self.levels == 1 else np.dtype("u1" if self.levels < 2**8 else "<u2")
        self.skipped: list[tuple[int, str]] = []

    def in_memory(self, advance: Advance) -> Store:
        """The arrays in memory."""
        places: list[Array] = [np.empty(0, self.places)]
        counts: list[Array] = [np.empty(0, self.counts)]
        index = self._all(advance, places.append, counts.append)
        all_places = np.concatenate(places)
        all_counts = ones(len(all_places)) if self.counts is None else np.concatenate(counts)
        for array in (all_places, all_counts, *index):
            array.flags.writeable = False  # as those of files are
        return Store(self.sensor, self.levels, all_places, all_counts, *index, tuple(self.skipped))

    def in_folder(self, folder: Path, content: str, advance: Advance) -> None:
        """The files of an entry, its ``meta.json`` last; ``content``: the fingerprint of the recordings before.

        Raises:
            SaveError: when they cannot be written.
            DataError: when the recordings have another fingerprint in the end.
        """
        dtypes = {"places": self.places.str} | ({} if self.counts is None else {"counts": self.counts.str})
        with ExitStack() as open_files:
            places, counts = (
                open_files.enter_context(_appending(folder, name)) if name in dtypes else _nothing
                for name in ("places", "counts")
            )
            index = self._all(advance, places, counts)
        if self.recordings.fingerprint() != content:
            raise DataError(f"{self.recordings.name}: its files changed while they were read; load it again")
        with writing(folder.parent):
            for name, array in index._asdict().items():
                write_array(folder, name, array)
                dtypes[name] = array.dtype.str
            write_meta(folder, dtypes, self._about(content, index.steps))

    def _all(self, advance: Advance, places: Append, counts: Append) -> Index:
        lengths, steps, kept = [0], list[int](), list[int]()
        for number, frames, error in read_all(self.recordings, self.pipeline, self.workers):
            advance()
            if frames is None:
                assert error is not None
                if not self.skip_bad:
                    raise error
                self.skipped.append((number, str(error)))
                continue
            places(frames.places.astype(self.places))
            if self.counts is not None:
                counts(frames.counts.astype(self.counts))
            lengths.append(len(frames.places))
            steps.append(frames.steps)
            kept.append(number)
        if not kept:
            first = f": {self.skipped[0][1]}" if self.skipped else ""
            raise DataError(f"{self.recordings.name}: none of {len(self.recordings)} recordings can be used{first}")
        return Index(
            offsets=np.cumsum(lengths, dtype=np.int64),
            steps=np.array(steps, dtype=np.int32),
            labels=np.asarray(self.recordings.labels, dtype=np.int64)[kept],
            kept=np.array(kept, dtype=np.int64),
        )

    def _about(self, content: str, steps: Array) -> dict[str, Any]:
        recordings = self.recordings
        return {
            "name": recordings.name,
            "pipeline": json.loads(self.pipeline.describe()),
            "sensor": asdict(self.sensor),
            "content": content,
            "class_names": list(recordings.class_names),
            "levels": self.levels,
            "recordings": len(steps),
            "steps": [int(steps.min()), int(steps.max())],
            "skipped": self.skipped,
            "made": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "version": version("spikelfp"),
        }


def place_type(binning: Binning, size: int) -> np.dtype[Any]:
    """16 bits where the longest sequence that the ``binning`` can give fits, else 32; ``size``: elements of a step."""
    longest = binning.bins or binning.most
    return np.dtype("<u2" if longest is not None and longest * size <= 2**16 else "<u4")


@contextmanager
def _appending(folder: Path, name: str) -> Iterator[Append]:
    """A file that arrays are appended to, brought to disk in the end."""
    with writing(folder.parent):
        file = open(path_of(folder, name), "wb")  # noqa: SIM115 (closed below)

    def append(array: Array) -> None:
        with writing(folder.parent):
            file.write(array.data)

    try:
        yield append
        with writing(folder.parent):
            file.flush()
            os.fsync(file.fileno())
    finally:
        with suppress(OSError):  # what could not be written has been said
            file.close()


def _nothing(array: Array) -> None:
    raise AssertionError("no file was opened for this array")
