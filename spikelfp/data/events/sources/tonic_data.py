"""``tonic:NAME``: every data set class of tonic whose targets are classes.

What was tried with tonic 1.7.0, of each class with a copy on disk that has the right layout and a few recordings made
up for it, because the data sets themselves cannot be shipped:

============ ================================== ==========================================================
class        parts                              tried
============ ================================== ==========================================================
NMNIST       train, test                        also the real recordings of a subset: equal to ``nmnist``
SHD          train, test                        equal to ``shd`` but for times, which tonic cuts to whole µs
SSC          train + valid, test                read
DVSGesture   train, test                        equal to ``dvs-gesture`` on the same files
POKERDVS     train, test                        read; tonic 1.7.0 comes without the data and has no address
NTIDIGITS18  train, test (single digits)        read
SMNIST       train, test                        read
NCALTECH101  one, split by chance               read; recordings differ in size and are put on 240 x 180 pixels
ASLDVS       one, split by chance               read
DVSLip       train, test                        read
CIFAR10DVS   one, split by chance               read, by our reader of AEDAT 4: tonic needs another package for it
DAVISDATA, DSEC, EBSSA, MVSEC, NERDD,           refused: their targets are no classes
ThreeET_Eyetracking, TUMVIE, VPR
============ ================================== ==========================================================
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spikelfp.data.events.event import Events, check_events
from spikelfp.data.events.pipeline import USUAL
from spikelfp.data.events.readers import read
from spikelfp.data.events.recordings import EventSplits, Recordings, prefixes
from spikelfp.data.events.sources.compose import Joined, Subset
from spikelfp.data.events.sources.convert import by_time, to_events
from spikelfp.data.events.sources.hashing import content_hashes, hash_of
from spikelfp.data.events.sources.labels import check_labels
from spikelfp.data.events.sources.splits import stratified
from spikelfp.data.events.sources.tonic_classes import Options, class_of, parts_of, sensor_of, targets_of
from spikelfp.data.events.sources.tonic_copy import open_copy, place_of
from spikelfp.data.events.sources.walk import walk
from spikelfp.errors import DataError


class TonicRecordings(Recordings):
    """The recordings of one part of a data set class of tonic, sorted by path where each lies in a file.

    Every process opens the data set for itself, because some hold open files.

    Raises:
        DataError: for a copy that is missing or damaged, and targets that are no classes.
    """

    def __init__(self, name: str, kind: type, place: Path, options: Options) -> None:
        self.name, self._kind, self._place, self._options = name, kind.__name__, place, dict(options)
        dataset, order = self._opened()
        labels, names = targets_of(dataset)
        self.labels, self.class_names = check_labels(np.asarray(labels)[order], len(order), names, name)
        self.sensor = sensor_of(dataset)

    def read(self, index: int) -> Events:
        dataset, order = self._opened()
        index, where = range(len(self))[index], self.where(index)
        if len(order) != len(self):
            raise DataError(f"{self.name}: had {len(self)} recordings, now {len(order)}: load it again")
        if where.endswith(".aedat4"):  # tonic reads it by a package that few have
            return check_events(read(where, sensor=self.sensor).events, self.sensor, where)
        try:
            raw, _ = dataset[order[index]]
        except Exception as error:  # what tonic raises differs from class to class
            raise DataError(f"{where}: cannot be read by tonic ({type(error).__name__}: {error})") from error
        return check_events(self._converted(raw, where), self.sensor, where)

    def where(self, index: int) -> str:
        dataset, order = self._opened()
        data = _files(dataset)
        return data[order[index]] if data else f"{dataset.location_on_system}, {self.name} recording {index}"

    def fingerprint(self) -> str:
        dataset, order = self._opened()
        root, data = dataset.location_on_system, _files(dataset)
        if not data:
            inside = os.path.join(root, getattr(dataset, "folder_name", "") or "")
            data = [os.path.join(inside, file) for file in walk(inside).files]
            order = list(range(len(data)))
        paths = [data[number] for number in order]
        names = [os.path.relpath(path, root).replace(os.sep, "/") for path in paths]
        contents = [part for pair in zip(names, content_hashes(paths), strict=True) for part in pair]
        how = ("tonic 1", _version(), self._kind, repr(sorted(self._options.items())), str(self.sensor))
        return hash_of(*how, *self.class_names, self.labels.tobytes(), *contents)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "_open"}

    def _opened(self) -> tuple[Any, list[int]]:
        """The data set, opened in this process, and the number that each recording has there."""
        process, *opened = vars(self).get("_open", (None,))
        if process != os.getpid():
            dataset = open_copy(class_of(self._kind), self._place, self._options)
            data = _files(dataset)
            order = sorted(range(len(dataset)), key=lambda number: data[number]) if data else list(range(len(dataset)))
            opened = [dataset, order]
            self._open = (os.getpid(), dataset, order)
        return opened[0], opened[1]

    def _converted(self, raw: Any, where: str) -> Events:
        names = getattr(getattr(raw, "dtype", None), "names", None) or ()
        if not {"t", "x"} <= set(names):
            raise DataError(f"{where}: tonic gives no events with t and x but {type(raw).__name__}")
        y = raw["y"] if "y" in names else 0
        p = raw["p"] if "p" in names and self.sensor.polarities == 2 else 0
        events = to_events(raw["t"], raw["x"], y, p, where)
        return by_time(events) if self.sensor.is_line else events


@prefixes.register("tonic")
def tonic(rest: str, data_dir: Path | None = None, *, skip_bad: bool = False) -> EventSplits:
    """The data set class ``rest`` of tonic, such as ``NMNIST``, on the copy in ``<data_dir>/<rest>/`` or
    ``<data_dir>/tonic/<rest>/``, where it is downloaded to if it is in neither.

    The parts are those of the class (``valid`` is added to the training part); of a class with one part a fifth of each
    label is the test part, by chance, but always the same.

    Raises:
        DataError: for a missing tonic or copy, and a class whose targets are no classes.
        UnknownNameError: for a class that tonic does not have.
    """
    kind = class_of(rest)
    parts, place, name = parts_of(kind), place_of(rest, data_dir), f"tonic:{rest}"
    learnt = [TonicRecordings(f"{name} train", kind, place, options) for options in parts.train]
    if parts.test is not None:
        train: Recordings = learnt[0] if len(learnt) == 1 else Joined(learnt, f"{name} train")
        return EventSplits(name, train, TonicRecordings(f"{name} test", kind, place, parts.test), USUAL)
    (everything,) = learnt
    everything.name = name
    first, second = stratified(everything.labels, everything.class_names, "tonic")
    return EventSplits(
        name, Subset(everything, first, f"{name} train"), Subset(everything, second, f"{name} test"), USUAL
    )


def _files(dataset: Any) -> list[str]:
    """The file of each recording; empty where they do not lie in files of their own."""
    data: Sequence[Any] = getattr(dataset, "data", ())
    return list(data) if isinstance(data, list) and all(isinstance(path, str) for path in data) else []


def _version() -> str:
    from importlib.metadata import version

    return version("tonic")
