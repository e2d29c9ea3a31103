"""Recordings of one's own: a folder with a folder of files for each class."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from spikelfp.data.events.event import Events, Sensor
from spikelfp.data.events.pipeline import USUAL, Pipeline
from spikelfp.data.events.readers import read
from spikelfp.data.events.recordings import EventSplits, Recordings, prefixes
from spikelfp.data.events.sources.compose import Subset
from spikelfp.data.events.sources.files import Entry, FileRecordings
from spikelfp.data.events.sources.folder_files import Listing, list_recordings
from spikelfp.data.events.sources.folder_sensor import Extent, common_sensor, extents_of
from spikelfp.data.events.sources.place import user_path
from spikelfp.data.events.sources.splits import by_name
from spikelfp.errors import DataError

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
    fifth of each class is for the test, always the same: :func:`~spikelfp.data.events.sources.splits.by_name`.

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


def _recordings(name: str, found: dict[str, list[Entry]], classes: tuple[str, ...], sensor: Sensor) -> FileRecordings:
    entries = [entry for kind in classes for entry in found.get(kind, [])]
    labels = [label for label, kind in enumerate(classes) for _ in found.get(kind, [])]
    return FileRecordings(name, entries, labels, classes, sensor, _decode, "readers 1")


def _divided(name: str, everything: FileRecordings) -> Iterable[Recordings]:
    """(train, test) by the names of the files within the folder of their class."""
    names = [entry.name.split("/", 1)[1] for entry in everything.entries]
    parts = by_name(names, everything.labels, everything.class_names)
    return [Subset(everything, part, f"{name} {word}") for part, word in zip(parts, ("train", "test"), strict=True)]


def _decode(entry: Entry, sensor: Sensor) -> Events:
    recording = read(entry.path, sensor=sensor)
    if recording.sensor != sensor:
        raise DataError(f"{entry.path}: is of a sensor of {recording.sensor}, expected {sensor}")
    return recording.events
