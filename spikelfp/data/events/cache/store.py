"""Binned recordings of one part: flat arrays, in memory or mapped from the files of the cache."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikelfp.data.events.batching import damaged
from spikelfp.data.events.binning import SparseFrames
from spikelfp.data.events.cache.lock import Reading
from spikelfp.data.events.event import Sensor

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Store:
    """``N`` sequences, one behind the other, only what is not zero.

    Sequence ``i`` is ``places[offsets[i]:offsets[i + 1]]`` with ``counts`` likewise, of ``steps[i]`` steps; see
    :class:`~spikelfp.data.events.binning.SparseFrames`. Pickled, a store that lies in files is its folder alone, so
    that worker processes map the same files instead of getting copies.

    Attributes:
        sensor: that the events lie on, behind the transforms.
        levels: value of an element with count ``n`` is ``n / levels``.
        places: uint16 or uint32 ``[M]``, rising within a sequence.
        counts: uint8 or uint16 ``[M]``; a single 1 in memory, seen ``M`` times, when there is but one level.
        offsets: int64 ``[N + 1]``.
        steps: int32 ``[N]``.
        labels: int64 ``[N]``.
        kept: int64 ``[N]``, the number of each recording in its source.
        skipped: number and reason of each recording that could not be read.
        folder: where the files lie; ``None`` in memory.
        reading: the lock that keeps its files from being cleared while the store is in use.
    """

    sensor: Sensor
    levels: int
    places: Array
    counts: Array
    offsets: Array
    steps: Array
    labels: Array
    kept: Array
    skipped: tuple[tuple[int, str], ...] = ()
    folder: Path | None = None
    reading: Reading | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def all_rows(self) -> Array:
        """int64 ``[N]``, all sequences in their order."""
        return np.arange(len(self))

    def __getitem__(self, row: int) -> SparseFrames:
        """Sequence ``row``.

        Raises:
            DataError: for places that do not rise or lie behind its steps.
        """
        part = slice(int(self.offsets[row]), int(self.offsets[row + 1]))
        places = self.places[part].astype(np.uint32)
        behind = len(places) > 0 and int(places[-1]) >= int(self.steps[row]) * self.sensor.size
        if behind or bool((places[1:] <= places[:-1]).any()):
            raise damaged()
        return SparseFrames(places, self.counts[part].astype(np.uint16), int(self.steps[row]))

    def __reduce__(self) -> tuple[Callable[..., Store], tuple[Any, ...]]:
        if self.folder is not None:
            from spikelfp.data.events.cache.files import open_store

            return open_store, (self.folder,)
        return Store, tuple(getattr(self, each.name) for each in fields(self))


def ones(length: int) -> Array:
    """The counts of a store whose counts are all 1, one of them in memory."""
    return np.broadcast_to(np.ones(1, np.uint8), length)
