"""Kinds of recordings that sources are made of: in files, in memory, a choice or several joined; labels and splits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from spikelfp.data.events.event import EVENT, Events, Sensor, check_events, check_stated
from spikelfp.data.events.recordings import Recordings
from spikelfp.data.events.sources.files import content_hashes, hash_of
from spikelfp.data.loader import generator
from spikelfp.errors import DataError, UserError
from spikelfp.terminal import brief

Indices = NDArray[np.int64]

FRACTION = 5
"""One recording of so many is held out for the test where a data set does not say which."""


class FileEntry(NamedTuple):
    """Place of one recording.

    Attributes:
        path: of the file, absolute.
        name: that stays the same wherever the data set lies, such as the path within it.
        part: of the file, in the form that the function which decodes it takes, such as a member of an archive.
    """

    path: str
    name: str
    part: str = ""

    @property
    def where(self) -> str:
        """Place for messages."""
        return f"{self.path}, {self.part}" if self.part else self.path


Decode = Callable[[FileEntry, Sensor], Events]


class FileRecordings(Recordings):
    """Recordings that lie in files, one or several in each.

    Args:
        name: of the data set and the part.
        entries: place of each recording.
        labels: whole numbers ``[N]``.
        class_names: one for each label.
        sensor: of all recordings.
        decode: reads a recording; a function of a module, so that it can be pickled.
        how: name of what ``decode`` does, with a number that is raised when it gives other events; part of the
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
    """Recordings in memory, made by :func:`from_arrays`."""

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
    """Make recordings of arrays in memory.

    Args:
        arrays: ``N`` arrays ``[M]`` of dtype :data:`~spikelfp.data.events.EVENT`.
        labels: whole numbers ``[N]`` from 0 on.
        sensor: of all recordings.
        class_names: one for each label; ``None``: the numbers themselves.
        name: of the data set, for messages.

    Returns:
        The recordings, for a part of an :class:`~spikelfp.data.events.EventSplits`.

    Raises:
        DataError: for no recordings, an array of another dtype, or labels that do not fit the arrays or the names.
            Events outside the sensor or out of order are found when a recording is read.
    """
    check_stated(sensor)
    if sensor is None:
        raise UserError("from_arrays needs the sensor of the recordings, such as Sensor(346, 260, 2)")
    if not isinstance(arrays, Sequence | np.ndarray) or isinstance(arrays, str):
        raise DataError(f"{name}: recordings are a list of arrays of events, got {brief(arrays)}")
    for number, array in enumerate(arrays):
        if not isinstance(array, np.ndarray) or array.dtype != EVENT or array.ndim != 1:
            is_array = isinstance(array, np.ndarray)
            found = f"{array.dtype} of shape {list(array.shape)}" if is_array else type(array).__name__
            raise DataError(f"{name}, array {number}: expected events [M] of dtype {EVENT}, got {found}")
    whole, names = check_labels(labels, len(arrays), class_names, name)
    return ArrayRecordings(name, arrays, whole, sensor, names)


class Subset(Recordings):
    """Choice of other recordings.

    Args:
        source: the other recordings.
        indices: int64 ``[M]``, the number of each chosen one, in order.
        name: of the part; ``None``: that of the source.

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
        self.groups = None if source.groups is None else source.groups[chosen]

    def read(self, index: int) -> Events:
        return self.source.read(int(self.indices[index]))

    def where(self, index: int) -> str:
        return self.source.where(int(self.indices[index]))

    def fingerprint(self) -> str:
        return hash_of("subset", self.source.fingerprint(), self.indices.tobytes())


class Joined(Recordings):
    """All recordings of several sources, one source after the other.

    Args:
        sources: of one sensor and the same classes.
        name: of the part.

    Raises:
        DataError: for sources of different sensors or classes.
    """

    def __init__(self, sources: Sequence[Recordings], name: str) -> None:
        first = sources[0]
        for source in sources[1:]:
            if source.sensor != first.sensor:
                raise DataError(f"{first.name} is of a sensor of {first.sensor}, but {source.name} of {source.sensor}")
            if source.class_names != first.class_names:
                raise DataError(f"{first.name} and {source.name} have different classes")
        self.sources, self.name = tuple(sources), name
        self.sensor, self.class_names = first.sensor, first.class_names
        self.labels = np.concatenate([source.labels for source in sources])
        self._ends = np.cumsum([len(source) for source in sources])
        self.groups = _joined_groups(self.sources)

    def read(self, index: int) -> Events:
        source, within = self._find(index)
        return source.read(within)

    def where(self, index: int) -> str:
        source, within = self._find(index)
        return source.where(within)

    def fingerprint(self) -> str:
        return hash_of("joined", *(source.fingerprint() for source in self.sources))

    def _find(self, index: int) -> tuple[Recordings, int]:
        """The source that holds recording ``index``, and its number there."""
        index = range(len(self))[index]
        number = int(np.searchsorted(self._ends, index, side="right"))
        return self.sources[number], index - (int(self._ends[number - 1]) if number else 0)


def _joined_groups(sources: Sequence[Recordings]) -> Indices | None:
    """Groups of several sources, of which no two share a group; ``None`` where no source has any."""
    if all(source.groups is None for source in sources):
        return None
    found: list[Indices] = []
    above = 0
    for source in sources:
        own = np.arange(len(source)) if source.groups is None else source.groups
        found.append(own + above)
        above = int(found[-1].max(initial=above - 1)) + 1
    return np.concatenate(found)


# Labels, and the recordings that are held out for the test


def check_labels(
    labels: ArrayLike, recordings: int, class_names: Sequence[str] | None, where: str
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Check labels against the recordings and the classes.

    Args:
        labels: whole numbers ``[N]``.
        recordings: their number ``N``.
        class_names: one for each label; ``None``: ``"0"``, ``"1"``, … up to the largest label.
        where: where the labels come from; it opens the messages.

    Returns:
        The labels as int64 ``[N]``, and the names of the classes.

    Raises:
        DataError: for no recordings, another number of labels than recordings, labels that are no whole numbers or
            stand for no class, fewer than two classes, or two classes of one name.
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
    if isinstance(class_names, str) or not isinstance(class_names, Sequence | np.ndarray | None):
        raise DataError(f"{where}: class names are a list of texts, got {brief(class_names)}")
    names = tuple(map(str, class_names)) if class_names is not None else tuple(map(str, range(int(whole.max()) + 1)))
    if not 0 <= int(whole.min()) <= int(whole.max()) < len(names):
        first = int(np.argmax((whole < 0) | (whole >= len(names))))
        raise DataError(f"{where}: label {whole[first]} of recording {first} is outside 0 to {len(names) - 1}")
    if len(names) < 2:
        raise DataError(f"{where}: {len(names)} class, but there is nothing to learn with fewer than two")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{where}: two classes are called {twice!r}")
    return whole, names


def members_of_classes(labels: NDArray[np.int64], class_names: Sequence[str]) -> list[tuple[str, Indices]]:
    """Name of each class that occurs, and the numbers of its recordings.

    Raises:
        DataError: for a class with a single recording, which it names.
    """
    found = []
    for label, name in enumerate(class_names):
        members = np.flatnonzero(labels == label)
        if len(members) == 1:
            raise DataError(
                f"class {name!r} has a single recording: each needs two, one to train on and one to test with, "
                "or a part train and a part test of its own"
            )
        if len(members):
            found.append((name, members))
    return found


def stratified(labels: NDArray[np.int64], class_names: Sequence[str], key: str) -> tuple[Indices, Indices]:
    """Split recordings by chance, each class alike, always in the same way.

    Of a class with ``n`` recordings ``round(n / 5)`` are for the test, at least one and never all.

    Args:
        labels: int64 ``[N]``.
        class_names: one for each label.
        key: text that alone decides which ones they are.

    Returns:
        Numbers of the recordings for training and for the test, each rising.

    Raises:
        DataError: for a class with a single recording, which it names.
    """
    random = generator("test part", key)
    test = np.zeros(len(labels), bool)
    for _, members in members_of_classes(labels, class_names):
        count = max(1, round(len(members) / FRACTION))
        test[members[torch.randperm(len(members), generator=random)[:count].numpy()]] = True
    return np.flatnonzero(~test), np.flatnonzero(test)


# Columns of numbers as events


def to_events(t: ArrayLike, x: ArrayLike, y: ArrayLike, p: ArrayLike, where: str) -> Events:
    """Make events of columns: arrays of ``M`` numbers, flattened, or one number for all events.

    Args:
        t: times in µs, whole or floating point, which are rounded.
        x: columns of the sensor, whole numbers.
        y: rows of the sensor, whole numbers.
        p: polarities, whole numbers or truth values.
        where: where they come from; it opens the messages.

    Returns:
        Events ``[M]`` in the given order.

    Raises:
        DataError: for columns of unequal lengths, and for the first number that an event cannot hold (negative, too
            large, not whole, not finite), which it names.
    """
    length = np.size(t)
    events = np.empty(length, EVENT)
    for name, column in (("t", t), ("x", x), ("y", y), ("p", p)):
        values = np.asarray(column)
        if values.ndim > 0 and values.size != length:
            raise DataError(f"{where}: {length} times, but {values.size} values of {name}")
        with np.errstate(invalid="ignore"):
            events[name] = _fitting(values.reshape(-1) if values.ndim else values, name, where)
    return events


def spike_events(seconds: ArrayLike, channels: ArrayLike, where: str) -> Events:
    """Make events of the spikes of a line of channels, sorted by time, those of one time in their order.

    Args:
        seconds: times in s, rounded to µs, in any order.
        channels: of the spikes.
        where: where they come from; it opens the messages.

    Raises:
        DataError: as :func:`to_events`.
    """
    return by_time(to_events(scaled(seconds, 1e6), channels, 0, 0, where))


def scaled(times: ArrayLike, factor: float) -> NDArray[np.float64]:
    """Multiply times; what is not finite stays so, and :func:`to_events` refuses it by name."""
    with np.errstate(invalid="ignore", over="ignore"):  # damaged files hold signalling NaNs
        return np.asarray(times, np.float64) * factor


def by_time(events: Events) -> Events:
    """Sort ``events`` by time; events of equal times keep their order. Sorted events are returned unchanged."""
    times = events["t"]
    if bool((times[1:] >= times[:-1]).all()):
        return events
    return events[np.argsort(times, kind="stable")]


def _fitting(values: NDArray[Any], name: str, where: str) -> NDArray[Any]:
    """Check that the field ``name`` of an event can hold all ``values``; times are rounded first."""
    limits = np.iinfo(EVENT[name])
    if values.dtype.kind == "b" or values.size == 0:
        return values
    if values.dtype.kind not in "iuf":
        raise DataError(f"{where}: {name} must be numbers, got {values.dtype}")
    if values.dtype == np.float16:  # whose largest number is far below the limits
        values = values.astype(np.float32)
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
