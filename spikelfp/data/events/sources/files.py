"""Recordings that lie in files, one or several in each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from spikelfp.data.events.event import Events, Sensor, check_events
from spikelfp.data.events.recordings import Recordings
from spikelfp.data.events.sources.hashing import content_hashes, hash_of
from spikelfp.data.events.sources.labels import check_labels


class Entry(NamedTuple):
    """Where one recording lies.

    path: of the file, absolute.
    name: that stays the same wherever the data set lies: its path within it, say.
    part: of the file, in the words of the function that decodes it, such as a member of an archive; else empty.
    """

    path: str
    name: str
    part: str = ""

    @property
    def where(self) -> str:
        """For messages."""
        return f"{self.path}, {self.part}" if self.part else self.path


Decode = Callable[[Entry, Sensor], Events]


class FileRecordings(Recordings):
    """One recording for each of ``entries``, which ``decode(entry, sensor)``, a function of a module, reads.

    Args:
        how: the name of what ``decode`` does, with a number that is raised when it gives other events; part of the
            fingerprint.

    Raises:
        DataError: for labels that do not fit the entries or the class names.
    """

    def __init__(
        self,
        name: str,
        entries: Sequence[Entry],
        labels: ArrayLike,
        class_names: Sequence[str],
        sensor: Sensor,
        decode: Decode,
        how: str,
    ) -> None:
        self.name, self.entries, self.sensor, self.decode, self.how = name, tuple(entries), sensor, decode, how
        self.labels, self.class_names = check_labels(labels, len(self.entries), class_names, name)

    def read(self, index: int) -> Events:
        entry = self.entries[index]
        return check_events(self.decode(entry, self.sensor), self.sensor, entry.where)

    def where(self, index: int) -> str:
        return self.entries[index].where

    def fingerprint(self) -> str:
        paths = sorted({entry.path for entry in self.entries})
        content = dict(zip(paths, content_hashes(paths), strict=True))
        classes = np.array(self.class_names, dtype=object)[self.labels]
        parts = (
            part
            for entry, label in zip(self.entries, classes, strict=True)
            for part in (entry.name, entry.part, label, content[entry.path])
        )
        return hash_of("files", self.how, str(self.sensor), *self.class_names, *parts)
