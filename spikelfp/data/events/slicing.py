"""Long recordings cut into slices of time or of events: each slice is a sample, and knows its recording."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np

from spikelfp.data.events.cache.builder import cores
from spikelfp.data.events.event import Events
from spikelfp.data.events.recordings import EventSplits, Recordings, Unlabelled
from spikelfp.data.events.sources.files import hash_of, kept_fact
from spikelfp.data.events.tally import short_place
from spikelfp.errors import DataError, UserError
from spikelfp.scalars import as_number, as_whole, keep_plain

_HELD = 256 << 20
"""Bytes of recordings that are kept while their slices are read, at least one recording."""

_MOST = 1 << 26
"""Most slices of a data set."""


@dataclass(frozen=True)
class Slicing:
    """Rule that cuts a recording into slices of equal length.

    Slice ``k`` of a recording begins ``k · hop`` after its first event, with ``hop = length · (1 − overlap)``, rounded
    to whole µs or events, at least 1. Only whole slices count: what follows the last one is left out, and so are slices
    of time without events. :attr:`Slices.notes` counts both.

    Attributes:
        window: µs of a slice.
        count: events of a slice, in place of ``window``.
        overlap: share of a slice that the next one repeats, in [0, 1).

    Raises:
        UserError: for none or both of ``window`` and ``count``, and values out of range.
    """

    window: int | None = None
    count: int | None = None
    overlap: float = 0.0

    def __post_init__(self) -> None:
        keep_plain(self)
        if (self.window is None) == (self.count is None):
            raise UserError(f"recordings are sliced by time or by events, got window={self.window}, count={self.count}")
        length = self.window if self.count is None else self.count
        number, overlap = as_whole(length), as_number(self.overlap)
        if number is None or not 1 <= number < 2**62:
            raise UserError(f"a slice has a whole number of µs or events of at least 1, got {length!r}")
        if overlap is None or not 0 <= overlap < 1:
            raise UserError(f"the overlap of slices must lie in [0, 1), got {self.overlap!r}")

    @property
    def length(self) -> int:
        """µs or events of a slice."""
        return self.count or self.window or 0

    @property
    def hop(self) -> int:
        """µs or events from the beginning of a slice to that of the next."""
        return max(1, round(self.length * (1 - self.overlap)))

    @property
    def text(self) -> str:
        """Length and overlap in words."""
        long = f"{self.count:,} events" if self.count is not None else f"{(self.window or 0) / 1000:g} ms"
        return long + (f", overlapping by {self.overlap:g} of it" if self.overlap else "")

    def cut(self, events: Events) -> Cuts:
        """Find the slices of one recording.

        Args:
            events: ``[M]``, sorted by time, at least one.

        Returns:
            First and last event of each slice, and what is left out.
        """
        if self.count is not None:
            number = max(0, (len(events) - self.count) // self.hop + 1)
            first = np.arange(number, dtype=np.int64) * self.hop
            after, begins, empty = first + self.count, events["t"][first].astype(np.int64), 0
        else:
            times, length = events["t"], self.length
            start, span = int(times[0]), int(times[-1]) - int(times[0]) + 1
            number = max(0, (span - length) // self.hop + 1)
            if number > _MOST:
                raise DataError(f"{number:,} slices of {self.text}, more than {_MOST:,}: take longer ones")
            begins = start + np.arange(number, dtype=np.int64) * self.hop
            first = np.searchsorted(times, begins).astype(np.int64)
            after = np.searchsorted(times, begins + length).astype(np.int64)
            full = after > first
            empty = int(np.count_nonzero(~full))
            begins, first, after = begins[full], first[full], after[full]
        covered = np.zeros(len(events) + 1, np.int64)
        np.add.at(covered, first, 1)
        np.add.at(covered, after, -1)
        left = int(np.count_nonzero(covered.cumsum()[:-1] == 0))
        return Cuts(begins.tolist(), first.tolist(), after.tolist(), left, empty)


class Cuts(NamedTuple):
    """Slices of one recording.

    Attributes:
        begins: time in µs at which each begins.
        first: number of its first event.
        after: number of the event after its last.
        left: events that are in no slice.
        empty: slices of time that were left out since they hold no event.
    """

    begins: list[int]
    first: list[int]
    after: list[int]
    left: int
    empty: int


class Slices(Recordings):
    """Slices of other recordings. Times of a slice count from its beginning.

    Args:
        source: the recordings, each of which is read once to find its slices.
        slicing: rule that cuts them.
        skip_bad: leave out recordings that cannot be read, and list them in ``skipped``.

    Attributes:
        slicing: the rule.
        pieces: int64 ``[N, 4]``: recording, beginning in µs, first event, and the event after the last.
        groups: int64 ``[N]``, the group of the recording of each slice; by default its number.
        skipped: recordings that cannot be read, each with the reason.
        notes: lines that count the slices, and what is left out.

    Raises:
        DataError: for recordings without any whole slice, and unless ``skip_bad``, for the first that cannot be read.
    """

    def __init__(self, source: Recordings, slicing: Slicing, skip_bad: bool = False) -> None:
        self.source, self.slicing = source, slicing
        self.name, self.sensor, self.class_names = source.name, source.sensor, source.class_names
        self._content = source.fingerprint()
        text = json.dumps(["slices 1", asdict(slicing)])
        cuts: list[Any] = json.loads(kept_fact(self._content, text, lambda: json.dumps(self._cut_all())))
        self.skipped = tuple(each for each in cuts if isinstance(each, str))
        bad = next((number for number, each in enumerate(cuts) if isinstance(each, str)), None)
        if bad is not None and not skip_bad:
            source.read(bad)  # raises its error as it is today
            raise DataError(self.skipped[0])
        found = {number: Cuts(*each) for number, each in enumerate(cuts) if not isinstance(each, str)}
        rows = [
            (number, *piece)
            for number, each in found.items()
            for piece in zip(each.begins, each.first, each.after, strict=True)
        ]
        if not rows:
            raise DataError(f"{source.name}: no recording is as long as a slice of {slicing.text}")
        self.pieces = np.array(rows, np.int64).reshape(-1, 4)
        owners = self.pieces[:, 0]
        self.labels = source.labels[owners]
        self.groups = owners.copy() if source.groups is None else source.groups[owners]
        self.notes = self._count(found)
        self._held = _Held()

    def _cut_all(self) -> list[Any]:
        """Slices of every recording as :class:`Cuts`; the error, as text, where it cannot be read."""

        def cut(number: int) -> Cuts | str:
            try:
                events = self.source.read(number)
            except DataError as error:
                return str(error)
            try:
                return self.slicing.cut(events)
            except DataError as error:
                return f"{self.source.where(number)}: {error}"

        with ThreadPoolExecutor(cores(), thread_name_prefix="slicing") as pool:
            return list(pool.map(cut, range(len(self.source))))

    def _count(self, found: dict[int, Cuts]) -> tuple[str, ...]:
        used = [each for each in found.values() if each.begins]
        line = f"{len(self.pieces):,} slices of {self.slicing.text} from {_plural(len(used), 'recording')}"
        left, empty, short = (
            sum(each.left for each in used), sum(each.empty for each in found.values()), len(found) - len(used)
        )  # fmt: skip
        out = []
        if left:
            out.append(f"{_plural(left, 'event')} in no whole slice")
        if empty:
            out.append(f"{_plural(empty, 'slice')} without events")
        if short:
            first = next(number for number, each in found.items() if not each.begins)
            out.append(
                f"{_plural(short, 'recording')} shorter than a slice, such as {short_place(self.source.where(first))}"
            )
        return (f"{line}; left out: {', '.join(out)}" if out else line,)

    def read(self, index: int) -> Events:
        number, begin, first, after = self.pieces[index].tolist()
        events = self._held.get(number, self.source.read)
        if after > len(events):
            raise DataError(f"{self.where(index)}: the file changed while it was read; load it again")
        part = events[first:after].copy()
        part["t"] -= begin
        return part

    def where(self, index: int) -> str:
        number, begin, first, after = self.pieces[index].tolist()
        if self.slicing.count is not None:
            return f"{self.source.where(number)}, events {first} to {after - 1}"
        return f"{self.source.where(number)}, from {begin} µs on"

    def fingerprint(self) -> str:
        return hash_of("slices 1", self.source.fingerprint(), json.dumps(asdict(self.slicing)), self.pieces.tobytes())

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_held": _Held()}  # every process reads for itself


@dataclass
class _Held:
    """The recordings that were read last, as many as fit into :data:`_HELD` bytes; threads wait for one in the making.

    Attributes:
        recordings: by number, those used last at the end.
        size: their bytes.
    """

    recordings: OrderedDict[int, Events] = field(default_factory=OrderedDict)
    size: int = 0
    _lock: Any = field(default_factory=threading.Lock, repr=False)

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return _Held, ()

    def get(self, number: int, read: Callable[[int], Events]) -> Events:
        """Return recording ``number``, and read it if it is not held."""
        with self._lock:
            if number in self.recordings:
                self.recordings.move_to_end(number)
                return self.recordings[number]
            events = read(number)
            self.recordings[number] = events
            self.size += events.nbytes
            while self.size > _HELD and len(self.recordings) > 1:
                self.size -= self.recordings.popitem(last=False)[1].nbytes
            return events


Cuttable = TypeVar("Cuttable", EventSplits, Unlabelled)


def sliced(splits: Cuttable, slicing: Slicing | None, *, skip_bad: bool = False) -> Cuttable:
    """Cut the recordings of all parts into slices. Parts are divided before: a recording lies on one side as a whole.

    Steps of slices of time begin with the slice, and not with its first event.

    Args:
        splits: the data set.
        slicing: rule; ``None``: nothing is cut.
        skip_bad: leave out recordings that cannot be read, and list them.

    Raises:
        DataError: for a part without any whole slice, a class without one in the training part, or a recording that
            cannot be read.
    """
    if slicing is None:
        return splits
    given: Any = splits
    parts: dict[str, Slices] = {name: Slices(part, slicing, skip_bad) for name, part in splits.parts.items()}
    labelled = isinstance(splits, EventSplits)
    if labelled:
        train: Slices = parts["train"]
        lost = sorted({*given.train.labels.tolist()} - {*train.labels.tolist()})
        if lost:
            raise DataError(
                f"{splits.name}: no recording of class {train.class_names[lost[0]]!r} in the training part is as long "
                f"as a slice of {slicing.text}"
            )
    pipeline, binning = splits.pipeline, splits.pipeline.binning
    if slicing.window is not None and binning.count is None:
        pipeline = replace(pipeline, binning=replace(binning, origin=0))
    skipped = (*splits.skipped, *(each for part in parts.values() for each in part.skipped))
    notes = (*splits.notes, *(f"{name}: {note}" for name, part in parts.items() for note in part.notes))
    own = {"train": parts["train"], "test": parts["test"]} if labelled else {"recordings": parts["all"]}
    changed: Cuttable = replace(given, **own, pipeline=pipeline, skipped=skipped, notes=notes)
    return changed


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
