"""N-MNIST: handwritten digits on a screen, seen by a camera of events that makes three saccades."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from spikelfp.data.events.binning import Binning, Pipeline
from spikelfp.data.events.event import Events, Sensor
from spikelfp.data.events.readers import read_bin
from spikelfp.data.events.recordings import EventSplits, recordings
from spikelfp.data.events.sources.base import FileEntry, FileRecordings
from spikelfp.data.events.sources.files import dataset_folder, is_archive, members, read_member, walk
from spikelfp.errors import DataError
from spikelfp.untrusted import read_regular

SENSOR = Sensor(34, 34, 2)
PIPELINE = Pipeline(Binning(bins=20, levels=1))

_CLASSES = tuple(str(digit) for digit in range(10))
_UNPACKED = ("", "N-MNIST", "NMNIST")
_MEMBER = re.compile(r"(?:^|/)(train|test)/(\d)/([^/.][^/]*\.bin)$", re.IGNORECASE)
_PAGE = "https://www.garrickorchard.com/datasets/n-mnist"


@recordings.register("nmnist")
def nmnist(data_dir: Path | None = None, *, skip_bad: bool = False) -> EventSplits:
    """List 60,000 + 10,000 recordings of the digits of MNIST, or a part of them, of 34 x 34 pixels, 10 classes.

    Reads the first of these in ``<data_dir>/nmnist/``: the unpacked folders ``Train/<digit>/*.bin`` and
    ``Test/<digit>/*.bin``, also within ``N-MNIST/`` or ``NMNIST/``; the original ``Train.zip`` and ``Test.zip``; or one
    archive, zip or tar, that holds both folders. Archives are not unpacked to the disk: each recording of a zip archive
    is read when it is asked for, and a tar archive is read into the memory of each process.

    Source: G. Orchard et al. 2015, doi 10.3389/fnins.2015.00437.

    Raises:
        DataError: when none of these is there, or it lacks a part, and for damaged archives.
    """
    folder = dataset_folder(data_dir, "nmnist")
    parts = _unpacked(folder) or _packed(folder)
    train, test = (_recordings(part, parts[part], folder) for part in ("train", "test"))
    return EventSplits("nmnist", train, test, PIPELINE)


def _recordings(part: str, entries: list[FileEntry], folder: Path) -> FileRecordings:
    if not entries:
        raise DataError(f"nmnist: there is no recording {part.title()}/<digit>/*.bin in {folder}")
    entries = sorted(entries, key=lambda entry: entry.name)
    labels = [int(entry.name.split("/")[1]) for entry in entries]
    return FileRecordings(f"nmnist {part}", entries, labels, _CLASSES, SENSOR, _decode, "atis bin 1")


def _decode(entry: FileEntry, sensor: Sensor) -> Events:
    data = read_member(entry.path, entry.part) if entry.part else read_regular(entry.path)
    return read_bin(data, entry.where, sensor=sensor).events


def _unpacked(folder: Path) -> dict[str, list[FileEntry]] | None:
    """Entries of the first place where both parts are folders."""
    for inside in _UNPACKED:
        place = folder / inside
        if os.path.isdir(place / "Train") and os.path.isdir(place / "Test"):
            return {
                part.lower(): [
                    FileEntry(str(place / part / file), f"{part.lower()}/{file}")
                    for file in walk(place / part).files
                    if _MEMBER.search(f"{part}/{file}")
                ]
                for part in ("Train", "Test")
            }
    return None


def _packed(folder: Path) -> dict[str, list[FileEntry]]:
    """Entries of the two original archives, or else of the one that is there."""
    listed = walk(folder, deep=False).files if os.path.isdir(folder) else []
    archives = [file for file in listed if is_archive(file)]
    original = [file for file in archives if file.lower() in ("train.zip", "test.zip")]
    chosen = original if len(original) == 2 else archives
    if not chosen or (len(chosen) > 1 and chosen is not original):
        found = f" (found {', '.join(chosen)})" if chosen else ""
        raise DataError(
            f"nmnist: expected Train.zip and Test.zip (from {_PAGE}), one archive with both parts, or the folders "
            f"Train and Test in {folder}{found}: put them there or choose a folder with --data-dir"
        )
    entries = [each for file in chosen for each in _entries(folder / file)]
    return {part: [entry for entry in entries if entry.name.startswith(part)] for part in ("train", "test")}


def _entries(archive: Path) -> Iterator[FileEntry]:
    for member in members(archive):
        if match := _MEMBER.search(member):
            part, digit, file = match.groups()
            yield FileEntry(str(archive), f"{part.lower()}/{digit}/{file}", member)
