"""Recordings of events with their classes, read one at a time: what a data set of events is before it is binned."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spikelfp.data.events.binning import Pipeline
from spikelfp.data.events.event import Events, Sensor
from spikelfp.errors import DataError
from spikelfp.registry import Registry


class Recordings(ABC):
    """``N`` labelled recordings of one sensor; can be pickled, so that several processes read them side by side.

    Attributes:
        name: of the data set and the part, such as ``"nmnist train"``; used in messages.
        sensor: that all of them come from.
        labels: int64 ``[N]``, known without reading any recording.
        class_names: one name for each label.
    """

    name: str
    sensor: Sensor
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def read(self, index: int) -> Events:
        """The events of recording ``index``, checked by :func:`~spikelfp.data.events.event.check_events`.

        Raises:
            DataError: for what cannot be read, naming the file and, where there is one, the offset in bytes.
        """

    @abstractmethod
    def where(self, index: int) -> str:
        """Where recording ``index`` comes from: a file, and a place within it if it holds several."""

    @abstractmethod
    def fingerprint(self) -> str:
        """A hash of the *content*: of all files read, their classes, and how they are decoded.

        It changes when any recording changes, and does not depend on where the files lie.
        """


@dataclass(frozen=True, eq=False)
class EventSplits:
    """The parts of a data set of events, not yet binned.

    Attributes:
        name: the name it is loaded by.
        train, test: recordings of the same sensor with the same classes.
        pipeline: how they are made into sequences unless the user says otherwise.
        skipped: files that were left out because they could not be read, each with the reason.
    """

    name: str
    train: Recordings
    test: Recordings
    pipeline: Pipeline
    skipped: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if self.train.sensor != self.test.sensor:
            raise DataError(
                f"{self.name}: train and test come from different sensors, {self.train.sensor} and {self.test.sensor}"
            )
        if self.train.class_names != self.test.class_names:
            raise DataError(f"{self.name}: train and test have different classes")


EventLoader = Callable[..., EventSplits]

recordings: Registry[EventLoader] = Registry("event data set")
"""Loader functions ``load(data_dir: Path | None, *, skip_bad: bool = False) -> EventSplits``, by name."""


def load_recordings(name: str, data_dir: str | Path | None = None, *, skip_bad: bool = False) -> EventSplits:
    """The recordings of the data set ``name``, of which only the list is read now.

    Besides the names of :data:`recordings`, ``tonic:NAME`` is the class of that name of tonic, and ``folder:PATH`` a
    folder of one's own with a folder of recordings for each class.

    skip_bad: leave out files that cannot be read and list them in :attr:`EventSplits.skipped`.

    Raises:
        UnknownNameError: for a name that is not registered.
        DataError: for files that are damaged or missing.
    """
    folder = None if data_dir is None else Path(data_dir)
    kind, colon, rest = name.partition(":")
    if colon:
        return prefixes[kind](rest, folder, skip_bad=skip_bad)
    return recordings[name](folder, skip_bad=skip_bad)


prefixes: Registry[EventLoader] = Registry("kind of event data")
"""Loader functions ``load(rest, data_dir, *, skip_bad=False) -> EventSplits`` of names ``prefix:rest``."""
