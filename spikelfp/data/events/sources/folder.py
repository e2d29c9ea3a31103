"""Which recordings are held out for the test where a data set does not say."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spikelfp.data.events.binning import USUAL, Pipeline
from spikelfp.data.events.event import Events, Sensor
from spikelfp.data.events.readers import can_read, read
from spikelfp.data.events.recordings import EventSplits, Recordings, prefixes
from spikelfp.data.events.sources.base import (
    FRACTION,
    FileEntry,
    FileRecordings,
    Indices,
    Subset,
    _at_least_two,
)
from spikelfp.data.events.sources.files import facts_of_files, hash_of, user_path, walk
from spikelfp.errors import DataError


def by_name(names: Sequence[str], labels: NDArray[np.int64], class_names: Sequence[str]) -> tuple[Indices, Indices]:
    """(train, test), each rising: a recording is for the test when the hash of its class and of its name is a multiple
    of 5, so that files that are added or removed move no other.

    Every class has at least one recording in either part: in a class whose hashes leave a part empty, the recording of
    the smallest hash is for the test, or the one of the largest for the training.

    Raises:
        DataError: for a class with a single recording, which it names.
    """
    test = np.zeros(len(labels), bool)
    for label, name in enumerate(class_names):
        members = np.flatnonzero(labels == label)
        if len(members) == 0:
            continue
        _at_least_two(len(members), name)
        hashes = [int(hash_of(_normal(name), _normal(names[member])), 16) for member in members]
        chosen = np.array([number % FRACTION == 0 for number in hashes])
        chosen[int(np.argmin(_ranks(hashes)))] |= not chosen.any()
        chosen[int(np.argmax(_ranks(hashes)))] &= not chosen.all()
        test[members[chosen]] = True
    return np.flatnonzero(~test), np.flatnonzero(test)


def _ranks(hashes: list[int]) -> list[int]:
    """The place of each hash, which is too long for numpy, among all."""
    order = {number: place for place, number in enumerate(sorted(hashes))}
    return [order[number] for number in hashes]


def _normal(name: str) -> str:
    """``name`` in one of the ways in which file systems write accents."""
    return unicodedata.normalize("NFC", name)


PARTS = {"train": "train", "val": "train", "valid": "train", "validation": "train", "test": "test"}
"""The part that a folder of this name, in lower case, belongs to."""


@dataclass
class Listing:
    """What lies in a folder.

    Attributes:
        parts: ``"train"`` and ``"test"``, or ``""`` alone where the folder is not divided; of each the recordings by
            class. Entries are named by their paths within the folder.
        ignored: files that are no recordings, each with the reason.
        broken: links that lead nowhere.
    """

    parts: dict[str, dict[str, list[FileEntry]]] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    @property
    def divided(self) -> bool:
        """Whether the folder says which recordings are for the test."""
        return "" not in self.parts

    def files(self) -> list[str]:
        """The paths of all recordings."""
        return [entry.path for part in self.parts.values() for entries in part.values() for entry in entries]

    def remove(self, bad: set[str]) -> None:
        """Take the recordings at these paths out."""
        for part in self.parts.values():
            for name, entries in part.items():
                part[name] = [entry for entry in entries if entry.path not in bad]


def list_recordings(root: Path) -> Listing:
    """The recordings in the folder ``root``, none of them opened.

    Raises:
        DataError: for a folder that is divided but lacks a part, or holds other folders beside the parts.
    """
    listing = Listing()
    for inside, part in _divisions(root).items():
        classes = listing.parts.setdefault(part, {})
        prefix = f"{inside}/" if inside else ""
        found = walk(root / inside)
        listing.broken += [f"{root / inside / name}: a link that leads nowhere" for name in found.broken]
        for name in found.folders:
            classes.setdefault(name, [])
        for name in found.files:
            path = root / inside / name
            if "/" not in name:
                listing.ignored.append(f"{path}: in no folder of a class")
            elif not can_read(path):
                listing.ignored.append(f"{path}: no reader for files that end in {path.suffix!r}")
            else:
                classes[name.split("/", 1)[0]].append(FileEntry(str(path), prefix + name))
    return listing


def _divisions(root: Path) -> dict[str, str]:
    """The folders that hold the folders of the classes, each with its part: ``root`` itself, or its parts."""
    folders = walk(root, deep=False).folders
    parts = {name: PARTS[name.lower()] for name in folders if name.lower() in PARTS}
    if not any(walk(root / name, deep=False).folders for name in parts):
        return {"": ""}  # no folders within: these are classes of such a name, or there are none
    others = [name for name in folders if name not in parts]
    if others:
        raise DataError(
            f"{root}: holds {', '.join(parts)} and beside that {others[0]}: neither parts nor classes alone"
        )
    missing = {"train", "test"} - {name.lower() for name in parts}
    if missing:
        raise DataError(f"{root}: holds {', '.join(parts)}, but no folder {missing.pop()}")
    return parts


_KIND = "extent 1"  # the number is raised when readers find another sensor in the same file
_LARGEST = Sensor(2**16, 2**16, 2)


class Extent(NamedTuple):
    """What one file tells about its sensor.

    said: whether its header or its format says it; otherwise it is the smallest that holds the events.
    """

    sensor: Sensor
    said: bool


def extents_of(paths: Sequence[str]) -> dict[str, Extent | DataError]:
    """The extent of each file, or why it cannot be read. Each is read whole for it, but only once until it changes:
    see :func:`~spikelfp.data.events.sources.files.facts_of_files`."""
    found: dict[str, Extent | DataError] = {}

    def find_out(path: str) -> str:
        try:
            sensor, said = _extent(path)
        except DataError as error:
            found[path] = error
            return ""
        return json.dumps([sensor.width, sensor.height, sensor.polarities, said])

    for path, fact in zip(paths, facts_of_files(paths, _KIND, find_out), strict=True):
        if fact:
            width, height, polarities, said = json.loads(fact)
            found[path] = Extent(Sensor(width, height, polarities), said)
    return found


def _extent(path: str) -> Extent:
    events, sensor, _ = read(path)
    smallest = (int(events["x"].max()) + 1, int(events["y"].max()) + 1)
    # a reader takes the sensor that it is handed where the file does not say one
    said = smallest != (sensor.width, sensor.height) or read(path, sensor=_LARGEST).sensor != _LARGEST
    return Extent(sensor, said)


def common_sensor(extents: Mapping[str, Extent], given: Sensor | None = None) -> Sensor:
    """The sensor of all files: the ``given`` one, else the one that files say, else the smallest that holds the events
    of all.

    Raises:
        DataError: for a file of another sensor, or with events outside it; it names two files.
    """
    said = {extent.sensor: path for path, extent in extents.items() if extent.said}
    if given is not None:
        sensor, origin = given, "the one asked for"
    elif said:
        sensor, origin = next(iter(said.items()))
    else:
        sizes = [extent.sensor for extent in extents.values()]
        sensor = Sensor(*(max(getattr(size, name) for size in sizes) for name in ("width", "height", "polarities")))
        origin = next(path for path, extent in extents.items() if extent.sensor.is_line == sensor.is_line)
    for path, extent in extents.items():
        if not (extent.sensor == sensor if extent.said else _fits(extent.sensor, sensor)):
            raise DataError(
                f"recordings of different sensors: {origin} is of {sensor}, {path} of {extent.sensor}; a network has "
                "one input, so keep one of them"
            )
    return sensor


def _fits(small: Sensor, large: Sensor) -> bool:
    fits = all(getattr(small, name) <= getattr(large, name) for name in ("width", "height", "polarities"))
    return fits and small.is_line == large.is_line


Complain = Callable[[str], None]
"""Takes what is bad about a file or a class: raises it, or lists it where bad ones are skipped."""


@prefixes.register("folder")
def folder(
    rest: str,
    data_dir: Path | None = None,
    *,
    skip_bad: bool = False,
    sensor: Sensor | None = None,
    pipeline: Pipeline = USUAL,
) -> EventSplits:
    """The recordings in the folder ``rest``, a path from ``data_dir``, if it is given, or from the folder one is in, or
    from the usual data folder.

    It holds one folder for each class, with files that :func:`~spikelfp.data.events.readers.read` knows in it or in
    folders below. Classes are sorted by name, or by number where all names are numbers. Or it holds ``train`` and
    ``test`` (in any case), each with the folders of the classes; what is in ``val``, ``valid`` or ``validation`` beside
    them is added to the training part, out of which a validation part is held when one is asked for. Without them a
    fifth of each class is for the test, always the same: :func:`~spikelfp.data.events.sources.folder.by_name`.

    Files whose names begin with a dot do not count. Files that no reader knows, or that lie in no class, are left out
    and listed in ``skipped``. All others are read once, which is remembered until they change, to know that they are
    good and of which sensor: all the same one. Those that do not say theirs must fit into it; where none says it, it is
    the smallest that holds the events of all.

    skip_bad: leave out, and list, also files that cannot be read, classes without recordings, and classes of the test
    part that the training part lacks.
    sensor: of the files that do not say theirs.

    Raises:
        DataError: for fewer than two classes; files of different sensors, of which it names two; and, unless
            ``skip_bad``, for the first file that cannot be read and for a class without recordings.
    """
    root, name = user_path(rest, data_dir), f"folder:{rest}"
    if not root.is_dir():
        raise DataError(f"{root}: expected a folder with a folder of recordings for each class, found a file")
    listing = list_recordings(root)
    skipped = listing.ignored

    def complain(reason: str) -> None:
        if not skip_bad:
            raise DataError(reason)
        skipped.append(reason)

    for link in listing.broken:
        complain(link)
    extents = _good_files(listing, complain)
    classes = _classes(root, listing, complain)
    common = common_sensor(extents, sensor)
    parts = {
        part: _recordings(f"{name} {part}".strip(), found, classes, common) for part, found in listing.parts.items()
    }
    train, test = (parts["train"], parts["test"]) if listing.divided else _divided(name, parts[""])
    return EventSplits(name, train, test, pipeline, tuple(skipped))


def _good_files(listing: Listing, complain: Complain) -> dict[str, Extent]:
    """The extents of all files that can be read; the others are taken out of ``listing``."""
    good: dict[str, Extent] = {}
    bad: set[str] = set()
    for path, extent in extents_of(listing.files()).items():
        if isinstance(extent, DataError):
            complain(str(extent))
            bad.add(path)
        else:
            good[path] = extent
    listing.remove(bad)
    return good


def _classes(root: Path, listing: Listing, complain: Complain) -> tuple[str, ...]:
    """The names of the classes; those that cannot be used are taken out of ``listing``."""
    for part, found in listing.parts.items():
        for name in [name for name, entries in found.items() if not entries]:
            complain(f"{root / part / name}: a class without recordings")
            del found[name]
    learnt = listing.parts.get("train", listing.parts.get("", {}))
    for name in [name for name in listing.parts.get("test", {}) if name not in learnt]:
        complain(f"{root / 'test' / name}: a class that the training part lacks")
        del listing.parts["test"][name]
    if len(learnt) < 2:
        found_classes = f"found {', '.join(learnt)}" if learnt else "found none"
        raise DataError(f"{root}: expected a folder of recordings for each of two classes or more, {found_classes}")
    return tuple(sorted(learnt, key=int if all(name.isdecimal() for name in learnt) else str))


def _recordings(
    name: str, found: dict[str, list[FileEntry]], classes: tuple[str, ...], sensor: Sensor
) -> FileRecordings:
    entries = [entry for kind in classes for entry in found.get(kind, [])]
    labels = [label for label, kind in enumerate(classes) for _ in found.get(kind, [])]
    return FileRecordings(name, entries, labels, classes, sensor, _decode, "readers 1")


def _divided(name: str, everything: FileRecordings) -> Iterable[Recordings]:
    """(train, test) by the names of the files within the folder of their class."""
    names = [entry.name.split("/", 1)[1] for entry in everything.entries]
    parts = by_name(names, everything.labels, everything.class_names)
    return [Subset(everything, part, f"{name} {word}") for part, word in zip(parts, ("train", "test"), strict=True)]


def _decode(entry: FileEntry, sensor: Sensor) -> Events:
    recording = read(entry.path, sensor=sensor)
    if recording.sensor != sensor:
        raise DataError(f"{entry.path}: is of a sensor of {recording.sensor}, expected {sensor}")
    return recording.events
