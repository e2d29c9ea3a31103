"""Recordings made of other recordings: a choice of them, or several behind one another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spikelfp.data.events.event import Events
from spikelfp.data.events.recordings import Recordings
from spikelfp.data.events.sources.hashing import hash_of
from spikelfp.errors import DataError, UserError


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
