"""Recordings that are in memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spikelfp.data.events.event import EVENT, Events, Sensor, check_events
from spikelfp.data.events.recordings import Recordings
from spikelfp.data.events.sources.hashing import hash_of
from spikelfp.data.events.sources.labels import check_labels
from spikelfp.errors import DataError


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
