"""Recordings of one's own, ``folder:PATH``: a folder with a folder of files for each class."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spikelfp.data.events.binning import USUAL, Pipeline
from spikelfp.data.events.event import Events, FileLayout, Sensor
from spikelfp.data.events.readers import can_read, read
from spikelfp.data.events.recordings import EventSplits, Recordings, prefixes
from spikelfp.data.events.sources.base import FRACTION, FileEntry, FileRecordings, Indices, Subset, members_of_classes
from spikelfp.data.events.sources.files import facts_of_files, hash_of, user_path, walk
from spikelfp.errors import DataError

PARTS = {"train": "train", "val": "train", "valid": "train", "validation": "train", "test": "test"}
"""Part that a folder of this name, in lower case, belongs to."""

_EXTENT = "extent 2"  # the number is raised when readers find another sensor in the same file

Complain = Callable[[str], None]
"""Takes what is bad about a file or a class: raises it, or lists it where bad ones are skipped."""


@prefixes.register("folder", own_files=True)
def folder(
    rest: str,
    data_dir: Path | None = None,
    *,
    skip_bad: bool = False,
    sensor: Sensor | None = None,
    layout: FileLayout | None = None,
    pipeline: Pipeline = USUAL,
) -> EventSplits:
    """List the recordings in a folder of one's own.

    The folder holds one folder for each class, with files that :func:`~spikelfp.data.events.readers.read` knows, in it
    or in folders below. Classes are sorted by name, or by number where all names are numbers. Or the folder holds
    ``train`` and ``test`` (in any case), each with the folders of the classes; what is in ``val``, ``valid`` or
    ``validation`` beside them is added to the training part, out of which a validation part is held when one is asked
    for. Without them a fifth of each class is for the test, always the same: :func:`by_name`.

    Names that begin with a dot do not count. Files that no reader knows, or that lie in no class, are left out and
    listed in ``skipped``. All others are read once, and again when they change, to know that they are good and which
    sensor they come from: the same for all. Files that do not name a sensor must fit into it; if none does, it is the
    smallest that holds the events of all.

    Args:
        rest: path of the folder, from ``data_dir``, if it is given, or from the working directory, or from the usual
            data folder.
        data_dir: folder of the data sets.
        skip_bad: leave out, and list, also files that cannot be read, classes without recordings, and classes of the
            test part that the training part lacks.
        sensor: of the files that do not name theirs.
        layout: of files of columns, where their content leaves a choice.
        pipeline: from events to sequences.

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
    layout = layout or FileLayout()
    extents = extents_of([entry.path for entry in listing.entries()], sensor, layout)
    good = {path: extent for path, extent in extents.items() if isinstance(extent, Extent)}
    for error in extents.values():
        if isinstance(error, DataError):
            complain(str(error))
    for found in listing.parts.values():
        for kind, entries in found.items():
            found[kind] = [entry for entry in entries if entry.path in good]
    classes = _classes(root, listing, complain)
    common = common_sensor(good, sensor)

    def recordings(name: str, found: dict[str, list[FileEntry]]) -> FileRecordings:
        entries = [entry for kind in classes for entry in found.get(kind, [])]
        labels = [label for label, kind in enumerate(classes) for _ in found.get(kind, [])]
        return FileRecordings(name, entries, labels, classes, common, partial(_decode, layout), f"readers 2 {layout}")

    train: Recordings
    test: Recordings
    if "" in listing.parts:
        everything = recordings(name, listing.parts[""])
        names = [entry.name.split("/", 1)[1] for entry in everything.entries]
        chosen = by_name(names, everything.labels, everything.class_names)
        train, test = (Subset(everything, chosen[i], f"{name} {part}") for i, part in enumerate(("train", "test")))
    else:
        train, test = (recordings(f"{name} {part}", listing.parts[part]) for part in ("train", "test"))
    return EventSplits(name, train, test, pipeline, tuple(skipped))


def _classes(root: Path, listing: Listing, complain: Complain) -> tuple[str, ...]:
    """Sort the names of the classes; those that cannot be used are taken out of ``listing``."""
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


def _decode(layout: FileLayout, entry: FileEntry, sensor: Sensor) -> Events:
    recording = read(entry.path, sensor=sensor, layout=layout)
    if recording.sensor != sensor:
        raise DataError(f"{entry.path}: is of a sensor of {recording.sensor}, expected {sensor}")
    return recording.events


def by_name(names: Sequence[str], labels: NDArray[np.int64], class_names: Sequence[str]) -> tuple[Indices, Indices]:
    """Split recordings by their names, so that files that are added or removed move no other.

    A recording is for the test when the hash of its class and of its name is a multiple of 5. Every class has at least
    one recording in either part: if the hashes leave a part of a class empty, the recording of the smallest hash is for
    the test, or the one of the largest hash for the training.

    Args:
        names: of the recordings within their class.
        labels: int64 ``[N]``.
        class_names: one for each label.

    Returns:
        Numbers of the recordings for training and for the test, each rising.

    Raises:
        DataError: for a class with a single recording, which it names.
    """

    def normal(name: str) -> str:
        return unicodedata.normalize("NFC", name)  # file systems write accents in several ways

    test = np.zeros(len(labels), bool)
    for name, members in members_of_classes(labels, class_names):
        hashes = [int(hash_of(normal(name), normal(names[member])), 16) for member in members]
        chosen = np.array([number % FRACTION == 0 for number in hashes])
        chosen[hashes.index(min(hashes))] |= not chosen.any()
        chosen[hashes.index(max(hashes))] &= not chosen.all()
        test[members[chosen]] = True
    return np.flatnonzero(~test), np.flatnonzero(test)


# The files, by part and class


@dataclass
class Listing:
    """Recordings in a folder.

    Attributes:
        parts: ``"train"`` and ``"test"``, or ``""`` alone where the folder is not divided; of each the recordings by
            class. Entries are named by their paths within the folder.
        ignored: files that are no recordings, each with the reason.
        broken: links that lead nowhere.
    """

    parts: dict[str, dict[str, list[FileEntry]]] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def entries(self) -> list[FileEntry]:
        """All recordings."""
        return [entry for part in self.parts.values() for entries in part.values() for entry in entries]


def list_recordings(root: Path) -> Listing:
    """List the recordings in the folder ``root`` without opening any.

    Raises:
        DataError: for a folder that is divided but lacks a part, or holds other folders beside the parts.
    """
    listing = Listing()
    for inside, part in _divisions(root).items():
        classes = listing.parts.setdefault(part, {})
        prefix = f"{inside}/" if inside else ""
        content = walk(root / inside)
        listing.broken += [f"{root / inside / name}: a link that leads nowhere" for name in content.broken]
        for name in content.folders:
            classes.setdefault(name, [])
        for name in content.files:
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


# The sensor of all files


class Extent(NamedTuple):
    """Sensor of one file.

    Attributes:
        sensor: of the file.
        named: whether its header or its format names the sensor; otherwise it is the smallest that holds the events.
        first_pixel: number of the first column and row, in files of MATLAB.
    """

    sensor: Sensor
    named: bool
    first_pixel: int | None = None


def extents_of(
    paths: Sequence[str], sensor: Sensor | None = None, layout: FileLayout | None = None
) -> dict[str, Extent | DataError]:
    """Find the sensor of each file, or why it cannot be read.

    Each file is read whole for it, but only once until it changes: see
    :func:`~spikelfp.data.events.sources.files.facts_of_files`.

    Args:
        paths: of the files.
        sensor: of those that do not name theirs; their extent is then this one.
        layout: of files of columns.
    """
    found: dict[str, Extent | DataError] = {}

    def find_out(path: str) -> str:
        try:
            recording = read(path, sensor=sensor, layout=layout)
        except DataError as error:
            found[path] = error
            return ""
        size = recording.sensor
        first = recording.facts.get("first_pixel")
        return json.dumps([size.width, size.height, size.polarities, recording.named, first])

    kind = f"{_EXTENT} {sensor} {layout}"
    for path, fact in zip(paths, facts_of_files(paths, kind, find_out), strict=True):
        if fact:
            *size, named, first = json.loads(fact)
            found[path] = Extent(Sensor(*size), named, first)
    return found


def common_sensor(extents: Mapping[str, Extent], given: Sensor | None = None) -> Sensor:
    """Find the sensor of all files: the ``given`` one, else one that a file names, else the smallest for all events.

    Args:
        extents: of each file, by path.
        given: that the user asked for.

    Raises:
        DataError: for a file of another sensor, or with events outside it, and for pixels that count from 0 in one file
            and from 1 in another; it names two files.
    """
    first = {extent.first_pixel: path for path, extent in extents.items() if extent.first_pixel is not None}
    if len(first) > 1:
        raise DataError(
            f"pixels count from 0 in {first[0]}, and from 1 in {first[1]}, as far as their events tell: state it for "
            "all, --first-pixel 0 or 1"
        )
    named = {extent.sensor: path for path, extent in extents.items() if extent.named}
    if given is not None:
        sensor, origin = given, "the one asked for"
    elif named:
        sensor, origin = next(iter(named.items()))
    else:
        sizes = [extent.sensor for extent in extents.values()]
        sensor = Sensor(*(max(getattr(size, name) for size in sizes) for name in ("width", "height", "polarities")))
        origin = next(path for path, extent in extents.items() if extent.sensor.is_line == sensor.is_line)
    for path, extent in extents.items():
        own, axes = extent.sensor, ("width", "height", "polarities")
        fits = own.is_line == sensor.is_line and all(getattr(own, axis) <= getattr(sensor, axis) for axis in axes)
        if not (own == sensor if extent.named else fits):
            raise DataError(
                f"recordings of different sensors: {origin} is of {sensor}, {path} of {extent.sensor}; a network has "
                "one input, so keep one of them"
            )
    return sensor
