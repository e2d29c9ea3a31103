"""Labelled recordings of events, read one at a time, and the event data sets by name: before they are binned."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikelfp import checks
from spikelfp.data.events.binning import Pipeline
from spikelfp.data.events.event import Events, FileLayout, Sensor, check_stated
from spikelfp.errors import DataError, UserError
from spikelfp.registry import Registry
from spikelfp.terminal import brief


class Recordings(ABC):
    """Base class of ``N`` labelled recordings of one sensor. They can be pickled, so that several processes read them.

    Attributes:
        name: of the data set and the part, such as ``"nmnist train"``; used in messages.
        sensor: of all recordings.
        labels: int64 ``[N]``, known without reading any recording.
        class_names: one name for each label.
        groups: int64 ``[N]``, what must stay together when a part is held out, such as slices of one recording or
            recordings of one session; ``None``: each recording stands for itself.
    """

    groups: NDArray[np.int64] | None = None
    name: str
    sensor: Sensor
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def read(self, index: int) -> Events:
        """Read the events of recording ``index``, checked by :func:`~spikelfp.data.events.check_events`.

        Raises:
            DataError: for what cannot be read, naming the file and, where there is one, the offset in bytes.
        """

    @abstractmethod
    def where(self, index: int) -> str:
        """Origin of recording ``index`` for messages: a file, and a place in it if it holds several."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Hash of the *content*: of all files, their classes, and the way they are decoded.

        It changes when any recording changes, and does not depend on the folder of the files.
        """


@dataclass(frozen=True, eq=False)
class EventSplits:
    """Training and test part of a data set of events, not yet binned.

    Attributes:
        name: of the data set.
        train: recordings to train on.
        test: recordings to test with, of the same sensor and classes.
        pipeline: from events to sequences, unless the user chooses another.
        skipped: files that could not be read and were left out, each with the reason.
        notes: lines about what was divided, moved or left out otherwise.

    Raises:
        DataError: for parts of different sensors or classes.
    """

    name: str
    train: Recordings
    test: Recordings
    pipeline: Pipeline
    skipped: tuple[str, ...] = field(default=())
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if self.train.sensor != self.test.sensor:
            raise DataError(
                f"{self.name}: train and test come from different sensors, {self.train.sensor} and {self.test.sensor}"
            )
        if self.train.class_names != self.test.class_names:
            raise DataError(f"{self.name}: train and test have different classes")

    @property
    def parts(self) -> dict[str, Recordings]:
        """Recordings of each part, by its name."""
        return {"train": self.train, "test": self.test}


@dataclass(frozen=True, eq=False)
class Unlabelled:
    """Recordings without classes, to be looked at.

    Attributes:
        name: of the file or folder.
        recordings: of one sensor; their labels are all 0, and there are no names of classes.
        pipeline: from events to sequences, unless the user chooses another.
        skipped: files that could not be read and were left out, each with the reason.
        notes: lines about what was divided, moved or left out otherwise.
    """

    name: str
    recordings: Recordings
    pipeline: Pipeline
    skipped: tuple[str, ...] = field(default=())
    notes: tuple[str, ...] = field(default=())

    @property
    def parts(self) -> dict[str, Recordings]:
        """The only part."""
        return {"all": self.recordings}


EventLoader = Callable[..., EventSplits]

recordings: Registry[EventLoader] = Registry("event data set")
"""Loader functions ``load(data_dir: Path | None, *, skip_bad: bool = False) -> EventSplits``, by name."""

prefixes: Registry[EventLoader] = Registry("kind of event data")
"""Loader functions ``load(rest, data_dir, *, skip_bad=False) -> EventSplits`` of names ``prefix:rest``. Those that are
registered with ``own_files=True`` also take ``sensor`` and ``layout``, which say what the files of a user do not, and
those with ``own_sensor=True`` take ``sensor`` alone."""


def load_recordings(
    name: str,
    data_dir: str | Path | None = None,
    *,
    skip_bad: bool = False,
    sensor: Sensor | None = None,
    layout: FileLayout | None = None,
    **options: Any,
) -> EventSplits:
    """List the recordings of a data set; each is read when it is asked for.

    Args:
        name: of :data:`recordings`; ``tonic:NAME`` for a class of tonic; ``folder:PATH`` for a folder of one's own with
            a folder of recordings for each class; ``hdf5:PATH`` for a file like those of the Heidelberg digits.
        data_dir: folder of the data sets; ``None`` for the one of :func:`spikelfp.data.data_dir`.
        skip_bad: leave out files that cannot be read and list them in :attr:`EventSplits.skipped`.
        sensor: of the files in a folder of one's own that do not state theirs; a data set of its own sensor takes no
            other.
        layout: of the files in a folder of one's own, where their content does not say it.
        **options: of the loader, such as ``class_level``, ``split_by`` and ``label_table`` of ``folder:PATH``
            (:mod:`~spikelfp.data.events.sources.folder`); ``None`` stands for its default.

    Returns:
        The training and test parts.

    Raises:
        UnknownNameError: for a name that is not registered.
        DataError: for files that are damaged or missing.
        UserError: for an option that the data set does not take, and for a sensor or a layout of a data set whose files
            have their own.
    """
    if not isinstance(name, str):
        hint = f": write 'folder:{name}'" if isinstance(name, Path) else ""
        raise UserError(f"a data set is named by text, got {brief(name)}{hint}")
    check_stated(sensor, layout)
    checks.truth("skip_bad", skip_bad)
    folder = None if data_dir is None else checks.path("data_dir", data_dir)
    kind, colon, rest = name.partition(":")
    loader = prefixes[kind] if colon else recordings[name]
    given = {option: value for option, value in options.items() if value is not None}
    taken = inspect.signature(loader).parameters
    for option in given:
        if option not in taken:
            raise UserError(f"{name} takes no {option}: it belongs to recordings in a folder (folder:PATH)")
    if colon and prefixes.fact(kind, "own_files"):
        return loader(rest, folder, skip_bad=skip_bad, sensor=sensor, layout=layout, **given)
    if layout not in (None, FileLayout()):
        raise UserError(f"{name} has a layout of its own: tables, columns and first pixels are stated for folder:PATH")
    if colon and prefixes.fact(kind, "own_sensor"):
        given["sensor"] = sensor
    found = loader(*((rest,) if colon else ()), folder, skip_bad=skip_bad, **given)
    if sensor not in (None, found.train.sensor):
        raise UserError(f"{name} has a sensor of {found.train.sensor}, not of {sensor}: leave it out")
    return found
