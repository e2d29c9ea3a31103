"""Kinds of recordings that sources are made of: in files, in memory, chosen or joined; their labels and hashes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from spikelfp.data.events.event import EVENT, Events, Sensor, check_events
from spikelfp.data.events.recordings import Recordings
from spikelfp.data.events.sources.files import content_hashes, hash_of
from spikelfp.data.loader import generator
from spikelfp.errors import DataError, UserError


def to_events(t: ArrayLike, x: ArrayLike, y: ArrayLike, p: ArrayLike, where: str) -> Events:
    """Events ``[M]`` of the columns ``t``, ``x``, ``y``, ``p``: arrays of ``M`` numbers, flattened, or one number for
    all events.

    ``t`` is in µs, whole or floating point, which is rounded; the others are whole numbers or truth values.

    Raises:
        DataError: for columns of unequal lengths, and for the first number that an event cannot hold (negative, too
            large, not whole, not finite), which it names; ``where`` opens the message.
    """
    length = np.size(t)
    events = np.empty(length, EVENT)
    for name, column in (("t", t), ("x", x), ("y", y), ("p", p)):
        values = np.asarray(column)
        if values.ndim > 0 and values.size != length:
            raise DataError(f"{where}: {length} times, but {values.size} values of {name}")
        events[name] = _whole(values.reshape(-1) if values.ndim else values, name, where)
    return events


def spike_events(seconds: ArrayLike, channels: ArrayLike, where: str) -> Events:
    """Spikes at ``seconds`` on ``channels`` as events of a line of channels, rounded to µs.

    A list of spikes need not be sorted: the events are, and those of one time keep their order.
    """
    return by_time(to_events(np.asarray(seconds, np.float64) * 1e6, channels, 0, 0, where))


def by_time(events: Events) -> Events:
    """``events`` sorted by time, those of one time in their order; the same array if it is sorted."""
    times = events["t"]
    if bool((times[1:] >= times[:-1]).all()):
        return events
    return events[np.argsort(times, kind="stable")]


def _whole(values: NDArray[Any], name: str, where: str) -> NDArray[Any]:
    """``values`` if the field ``name`` of an event can hold all of them; times are rounded first."""
    limits = np.iinfo(EVENT[name])
    if values.dtype.kind == "b" or values.size == 0:
        return values
    if values.dtype.kind not in "iuf":
        raise DataError(f"{where}: {name} must be numbers, got {values.dtype}")
    if values.dtype.kind == "f":
        rounded = np.rint(values)
        # the largest float64 below 2^63 is far from it, so that the comparison with the limit is exact enough
        good = np.isfinite(values) & (rounded >= limits.min) & (rounded < float(limits.max) + 1)
        if name != "t":
            good &= rounded == values
    else:
        rounded = values
        good = (values >= limits.min) & (values <= limits.max)
    if not good.all():
        first = int(np.argmin(good)) if values.ndim else 0
        raise DataError(f"{where}: event {first} has {name} = {values.reshape(-1)[first]}, which no event can have")
    return rounded


def check_labels(
    labels: ArrayLike, recordings: int, class_names: Sequence[str] | None, where: str
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """``labels`` as int64 ``[N]`` and the names of the classes: ``"0"``, ``"1"``, … up to the largest label where they
    have none.

    Raises:
        DataError: for no recordings, another number of labels than of ``recordings``, labels that are no whole numbers
            or stand for no class, fewer than two classes, or two classes of one name.
    """
    given = np.asarray(labels)
    if recordings == 0:
        raise DataError(f"{where}: holds no recordings")
    if given.shape != (recordings,) or given.dtype.kind not in "iu":
        raise DataError(
            f"{where}: {recordings} recordings need as many whole labels, "
            f"got {given.dtype} of shape {list(given.shape)}"
        )
    whole = given.astype(np.int64)
    names = tuple(class_names) if class_names is not None else tuple(map(str, range(int(whole.max()) + 1)))
    if not 0 <= int(whole.min()) <= int(whole.max()) < len(names):
        first = int(np.argmax((whole < 0) | (whole >= len(names))))
        raise DataError(f"{where}: label {whole[first]} of recording {first} is outside 0 to {len(names) - 1}")
    if len(names) < 2:
        raise DataError(f"{where}: {len(names)} class, but there is nothing to learn with fewer than two")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{where}: two classes are called {twice!r}")
    return whole, names


class FileEntry(NamedTuple):
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


Decode = Callable[[FileEntry, Sensor], Events]


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
        entries: Sequence[FileEntry],
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


class ArrayRecordings(Recordings):
    """``arrays`` of dtype :data:`~spikelfp.data.events.event.EVENT`, one a recording; see :func:`from_arrays`."""

    def __init__(
        self,
        name: str,
        arrays: Sequence[Events],
        labels: NDArray[np.int64],
        sensor: Sensor,
        class_names: tuple[str, ...],
    ) -> None:
        self.name, self.arrays, self.labels = name, tuple(arrays), labels
        self.sensor, self.class_names = sensor, class_names

    def read(self, index: int) -> Events:
        return check_events(self.arrays[index], self.sensor, self.where(index))

    def where(self, index: int) -> str:
        return f"{self.name}, array {index}"

    def fingerprint(self) -> str:
        contents = (
            np.ascontiguousarray(array[field]).tobytes() for array in self.arrays for field in EVENT.names or ()
        )
        return hash_of("arrays", str(self.sensor), *self.class_names, self.labels.tobytes(), *contents)


def from_arrays(
    arrays: Sequence[Events],
    labels: ArrayLike,
    sensor: Sensor,
    class_names: Sequence[str] | None = None,
    name: str = "arrays",
) -> ArrayRecordings:
    """Recordings of one's own: an array of events each, its label, and the sensor of all.

    labels: whole numbers ``[N]`` from 0 on. class_names: one for each label; the numbers themselves where ``None``.

    Raises:
        DataError: for no recordings, an array of another dtype, or labels that do not fit the arrays or the names.
            Events outside the sensor or out of order are found when a recording is read.
    """
    for number, array in enumerate(arrays):
        if not isinstance(array, np.ndarray) or array.dtype != EVENT or array.ndim != 1:
            raise DataError(f"{name}, array {number}: expected events [M] of dtype {EVENT}, got {_kind(array)}")
    whole, names = check_labels(labels, len(arrays), class_names, name)
    return ArrayRecordings(name, arrays, whole, sensor, names)


def _kind(value: object) -> str:
    return f"{value.dtype} of shape {list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__


Indices = NDArray[np.int64]


FRACTION = 5  # one recording of so many is for the test


def stratified(labels: NDArray[np.int64], class_names: Sequence[str], key: str) -> tuple[Indices, Indices]:
    """(train, test), each rising: of a class with ``n`` recordings ``round(n / 5)`` are for the test, at least one and
    never all; which ones depends on ``key`` (a name, say) alone.

    Raises:
        DataError: for a class with a single recording, which it names.
    """
    random = generator("test part", key)
    test = np.zeros(len(labels), bool)
    for label, name in enumerate(class_names):
        members = np.flatnonzero(labels == label)
        if len(members) == 0:
            continue
        _at_least_two(len(members), name)
        count = max(1, round(len(members) / FRACTION))
        test[members[torch.randperm(len(members), generator=random)[:count].numpy()]] = True
    return np.flatnonzero(~test), np.flatnonzero(test)


def _at_least_two(count: int, name: str) -> None:
    if count < 2:
        raise DataError(
            f"class {name!r} has a single recording: each needs two, one to train on and one to test with, "
            "or a part train and a part test of its own"
        )


class Subset(Recordings):
    """The recordings ``indices`` (int64 ``[M]``, in this order) of others.

    Raises:
        UserError: for an index out of range.
    """

    def __init__(self, source: Recordings, indices: ArrayLike, name: str | None = None) -> None:
        chosen: NDArray[np.int64] = np.array(indices, dtype=np.int64).reshape(-1)
        if len(chosen) and not 0 <= int(chosen.min()) <= int(chosen.max()) < len(source):
            raise UserError(
                f"{source.name} has recordings 0 to {len(source) - 1}, asked for {chosen.min()} to {chosen.max()}"
            )
        self.source, self.indices = source, chosen
        self.name = source.name if name is None else name
        self.sensor, self.class_names = source.sensor, source.class_names
        self.labels = source.labels[chosen]

    def read(self, index: int) -> Events:
        return self.source.read(int(self.indices[index]))

    def where(self, index: int) -> str:
        return self.source.where(int(self.indices[index]))

    def fingerprint(self) -> str:
        return hash_of("subset", self.source.fingerprint(), self.indices.tobytes())


class Joined(Recordings):
    """All recordings of ``parts``, one part behind the other; they share the sensor and the classes.

    Raises:
        DataError: for parts of different sensors or classes.
    """

    def __init__(self, parts: Sequence[Recordings], name: str) -> None:
        first = parts[0]
        for part in parts[1:]:
            if part.sensor != first.sensor:
                raise DataError(f"{first.name} is of a sensor of {first.sensor}, but {part.name} of {part.sensor}")
            if part.class_names != first.class_names:
                raise DataError(f"{first.name} and {part.name} have different classes")
        self.parts, self.name = tuple(parts), name
        self.sensor, self.class_names = first.sensor, first.class_names
        self.labels = np.concatenate([part.labels for part in parts])
        self._ends = np.cumsum([len(part) for part in parts])

    def read(self, index: int) -> Events:
        part, within = self._find(index)
        return part.read(within)

    def where(self, index: int) -> str:
        part, within = self._find(index)
        return part.where(within)

    def fingerprint(self) -> str:
        return hash_of("joined", *(part.fingerprint() for part in self.parts))

    def _find(self, index: int) -> tuple[Recordings, int]:
        """The part that holds recording ``index``, and its number there."""
        index = range(len(self))[index]
        number = int(np.searchsorted(self._ends, index, side="right"))
        return self.parts[number], index - (int(self._ends[number - 1]) if number else 0)
