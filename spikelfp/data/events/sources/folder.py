"""Recordings of one's own, ``folder:PATH``: a folder with a folder of files for each class, or with label tables."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from spikelfp.data.events.binning import Pipeline
from spikelfp.data.events.event import Events, FileLayout, Sensor
from spikelfp.data.events.readers import can_read, read, read_stated
from spikelfp.data.events.recordings import EventSplits, Recordings, Unlabelled, prefixes
from spikelfp.data.events.sources.base import FileEntry, FileRecordings, Subset
from spikelfp.data.events.sources.files import (
    FileVersion,
    content_hashes,
    facts_of_files,
    hash_of,
    kept_in_memory,
    user_path,
    version_of,
    walk,
)
from spikelfp.data.events.sources.tree import SPLITS, Member, Tree, by_group, by_name, list_tree
from spikelfp.data.events.usual import usual
from spikelfp.errors import DataError, UserError
from spikelfp.registry import check_name

_EXTENT = "extent 2"  # the number is raised when readers find another sensor in the same file
_NAMED = 6  # groups of a part that are named one by one

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
    pipeline: Pipeline | None = None,
    class_level: int | None = None,
    split_by: str | None = None,
    label_table: str | None = None,
) -> EventSplits:
    """List the recordings in a folder of one's own.

    The folder holds one folder for each class, with files that :func:`~spikelfp.data.events.readers.read` knows, in it
    or in folders below. Classes are sorted by name, or by number where all names are numbers. Or the folder holds
    ``train`` and ``test`` (in any case, also as ``X_train`` and ``X_test``), each with the folders of the classes; what
    is in ``val``, ``valid`` or ``validation`` beside them is added to the training part, out of which a validation part
    is held when one is asked for. Without them about a fifth of each class is for the test, always the same:
    :func:`~spikelfp.data.events.sources.tree.by_name`.

    In a tree such as ``session/class/file`` the level of the classes is found where it is the only one with two names
    or more; otherwise ``class_level`` says it. The other folders are sessions and subjects.

    A label table says what was recorded when: recordings then may lie anywhere, and each line is a sample.

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
        pipeline: from events to sequences; ``None``: the usual one of their sensor
            (:func:`~spikelfp.data.events.usual.usual`).
        class_level: level of the folders that are classes, 1 for those directly in the folder, or in its parts.
        split_by: ``"file"``, the default, ``"session"`` or ``"subject"``: what is kept in one part as a whole, where
            no folders are the parts.
        label_table: name of a csv file in the folder with columns ``file``, ``start``, ``end`` and ``class``; or the
            ending of such files beside the recordings, ``_labels.csv`` for ``user01_labels.csv`` of ``user01.aedat``.

    Raises:
        DataError: for fewer than two classes; levels that may all be the classes; files of different sensors, of which
            it names two; and, unless ``skip_bad``, for the first file that cannot be read and for a class without
            recordings.
        UserError: for an unknown ``split_by``, or one where folders are the parts.
    """
    root, name = user_path(rest, data_dir), f"folder:{rest}"
    if not root.is_dir():
        raise DataError(f"{root}: expected a folder with a folder of recordings for each class, found a file")
    if split_by is not None:
        check_name("split", split_by, SPLITS)
    tree = list_tree(root, class_level, label_table)
    if tree.divided and split_by is not None:
        raise UserError(f"{root} has folders of its own for training and test: leave out --split-by {split_by}")
    skipped = tree.ignored

    def complain(reason: str) -> None:
        if not skip_bad:
            raise DataError(reason)
        skipped.append(reason)

    for lost in tree.broken:
        complain(lost)
    layout = layout or FileLayout()
    good = readable(tree, complain, sensor, layout)
    classes = _classes(root, tree, complain)
    common = common_sensor(good, sensor)
    decode = partial(_decode if label_table is None else _decode_interval, layout)
    how = f"readers 2 {layout}" if label_table is None else f"readers by time 2 {layout}"

    def recordings(name: str, members: Sequence[Member]) -> FileRecordings:
        # by class, and in a class by path
        ordered = sorted(members, key=lambda member: classes.index(member.kind))
        made = FileRecordings(
            name, [each.entry for each in ordered], [classes.index(each.kind) for each in ordered], classes, common,
            decode, how,
        )  # fmt: skip
        owners = [_group(each, split_by) for each in ordered]
        if label_table is not None or split_by in ("session", "subject"):
            numbers = {owner: number for number, owner in enumerate(dict.fromkeys(owners))}
            made.groups = np.array([numbers[owner] for owner in owners], np.int64)
        return made

    train: Recordings
    test: Recordings
    notes: tuple[str, ...] = ()
    if tree.divided:
        train, test = (
            recordings(f"{name} {part}", [each for each in tree.members if each.part == part])
            for part in ("train", "test")
        )
    else:
        everything = recordings(name, tree.members)
        ordered = sorted(tree.members, key=lambda member: classes.index(member.kind))
        if label_table is None and split_by in (None, "file"):
            chosen = by_name([each.within for each in ordered], everything.labels, classes)
        else:
            what = "recording" if split_by in (None, "file") else split_by or ""
            owners = [_group(each, split_by) for each in ordered]
            chosen = by_group(owners, everything.labels, classes, what)
            notes = tuple(
                _groups_note(part, what, [owners[index] for index in own])
                for part, own in zip(("train", "test"), chosen, strict=True)
            )
        train, test = (Subset(everything, chosen[i], f"{name} {part}") for i, part in enumerate(("train", "test")))
    absent = [kind for label, kind in enumerate(classes) if label not in test.labels]
    if absent:
        notes = (*notes, f"the test part has no recordings of {', '.join(absent)}")
    return EventSplits(name, train, test, pipeline or usual(common), tuple(skipped), notes)


def without_classes(
    what: str | Path,
    data_dir: Path | None = None,
    *,
    skip_bad: bool = False,
    sensor: Sensor | None = None,
    layout: FileLayout | None = None,
) -> Unlabelled | None:
    """List recordings that have no classes: one file, or a folder of files that are not in two classes or more.

    Args:
        what: path of a file or folder, as :func:`folder` takes it.
        data_dir: folder of the data sets.
        skip_bad: leave out, and list, files that cannot be read.
        sensor: of the files that do not name theirs.
        layout: of files of columns, where their content leaves a choice.

    Returns:
        The recordings; ``None`` for a folder with folders of classes.

    Raises:
        DataError: for a path where there is nothing, no recordings, files of different sensors, and unless
            ``skip_bad`` for the first that cannot be read.
    """
    path = user_path(str(what), data_dir)
    if path.is_file():
        recording = read_stated(path, sensor, layout)
        made = LooseFiles(path.name, [FileEntry(str(path), path.name)], recording.sensor, layout)
        return Unlabelled(path.name, made, usual(recording.sensor))
    content = walk(path)
    if len({name.split("/")[0] for name in content.files if "/" in name and can_read(name)}) > 1:
        return None
    tree = Tree([Member(FileEntry(str(path / name), name), "", "", name) for name in content.files if can_read(name)])
    skipped: list[str] = []

    def complain(reason: str) -> None:
        if not skip_bad:
            raise DataError(reason)
        skipped.append(reason)

    layout = layout or FileLayout()
    good = readable(tree, complain, sensor, layout)
    if not good:
        raise DataError(f"{path}: holds no recordings")
    entries = [member.entry for member in tree.members]
    files = LooseFiles(path.name, entries, common_sensor(good, sensor), layout)
    note = (
        "these recordings have no classes: to train on them, make a folder for each class, or name a --label-table "
        "that says them"
    )
    return Unlabelled(path.name, files, usual(files.sensor), tuple(skipped), (note,))


class LooseFiles(Recordings):
    """Recordings without classes, one in a file.

    Args:
        name: of the file or folder.
        entries: place of each recording.
        sensor: of all recordings.
        layout: of files of columns.
    """

    def __init__(
        self, name: str, entries: Sequence[FileEntry], sensor: Sensor, layout: FileLayout | None = None
    ) -> None:
        self.name, self.entries, self.sensor, self.layout = name, tuple(entries), sensor, layout or FileLayout()
        self.labels, self.class_names = np.zeros(len(entries), np.int64), ()

    def read(self, index: int) -> Events:
        return _decode(self.layout, self.entries[index], self.sensor)

    def where(self, index: int) -> str:
        return self.entries[index].where

    def fingerprint(self) -> str:
        contents = content_hashes([entry.path for entry in self.entries])
        return hash_of(
            "loose files 1", str(self.layout), str(self.sensor), *(entry.name for entry in self.entries), *contents
        )


def _group(member: Member, split_by: str | None) -> str:
    """Name of what stays together with a recording."""
    return {"session": member.session, "subject": member.subject}.get(split_by or "", member.within)


def _groups_note(part: str, what: str, owners: Sequence[str]) -> str:
    """Line that names the sessions, subjects or recordings of a part, with their numbers of samples."""
    counts = Counter(owners)
    named = [f"{owner} ({count:,})" for owner, count in list(counts.items())[:_NAMED]]
    more = f", … ({len(counts)} of them)" if len(counts) > _NAMED else ""
    return f"{part} by {what}: {', '.join(named)}{more}"


def readable(
    tree: Tree, complain: Complain, sensor: Sensor | None = None, layout: FileLayout | None = None
) -> dict[str, Extent]:
    """Leave the recordings in ``tree`` that can be read, and find their sensors."""
    extents = extents_of(tree.paths(), sensor, layout)
    good = {path: extent for path, extent in extents.items() if isinstance(extent, Extent)}
    for error in extents.values():
        if isinstance(error, DataError):
            complain(str(error))
    before = {(member.part, member.kind): str(Path(member.entry.path).parent) for member in tree.members}
    tree.members = [member for member in tree.members if member.entry.path in good]
    left = {(member.part, member.kind) for member in tree.members}
    tree.empty += [folder for kind, folder in before.items() if kind not in left]
    return good


def _classes(root: Path, tree: Tree, complain: Complain) -> tuple[str, ...]:
    """Sort the names of the classes; recordings of those that cannot be used are taken out of ``tree``."""
    for place in tree.empty:
        complain(f"{place}: a class without recordings")
    learnt = {member.kind for member in tree.members if member.part != "test"}
    lacking = dict.fromkeys(member.kind for member in tree.members if member.kind not in learnt)
    for name in lacking:
        complain(f"{root / 'test' / name}: a class that the training part lacks")
    tree.members = [member for member in tree.members if member.kind not in lacking]
    names = sorted(learnt, key=int if all(name.isdecimal() for name in learnt) else str)
    if len(names) < 2:
        found_classes = f"found {', '.join(names)}" if names else "found none"
        raise DataError(f"{root}: expected a folder of recordings for each of two classes or more, {found_classes}")
    return tuple(names)


def _decode(layout: FileLayout, entry: FileEntry, sensor: Sensor) -> Events:
    return _checked(entry.path, sensor, layout)


def _checked(path: str, sensor: Sensor, layout: FileLayout) -> Events:
    recording = read(path, sensor=sensor, layout=layout)
    if recording.sensor != sensor:
        raise DataError(f"{path}: is of a sensor of {recording.sensor}, expected {sensor}")
    return recording.events


def _decode_interval(layout: FileLayout, entry: FileEntry, sensor: Sensor) -> Events:
    """Events of an interval of a recording, whose times count from the beginning of the interval."""
    events = _whole(version_of(entry.path), sensor, layout)
    start, end = (int(word) for word in entry.part.split()[:3:2])
    first, after = np.searchsorted(events["t"], (start, end))
    if first == after:
        raise DataError(
            f"{entry.where}: holds no events, which are of {events['t'][0]} to {events['t'][-1]} µs; the label table "
            "may count in another unit (name it in its first line, such as start_ms and end_ms) or from another time"
        )
    part: Events = events[first:after].copy()
    part["t"] -= start
    return part


@kept_in_memory(most=2)
def _whole(file: FileVersion, sensor: Sensor, layout: FileLayout) -> Events:
    """All events of a file, whose intervals are read one after the other."""
    return _checked(file.path, sensor, layout)


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
