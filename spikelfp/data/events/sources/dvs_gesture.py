"""DVS128 Gesture: hand and arm gestures of 29 people in 3 kinds of light, 11 classes."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from spikelfp.data.events.binning import Binning, Pipeline
from spikelfp.data.events.event import Events, Sensor
from spikelfp.data.events.readers import read
from spikelfp.data.events.readers.npy import parse
from spikelfp.data.events.recordings import EventSplits, recordings
from spikelfp.data.events.sources.base import Decode, FileEntry, FileRecordings, scaled, to_events
from spikelfp.data.events.sources.files import FileVersion, dataset_folder, kept_in_memory, version_of, walk
from spikelfp.data.events.transforms import Downsample
from spikelfp.errors import DataError
from spikelfp.untrusted import read_regular

SENSOR = Sensor(128, 128, 2)
PIPELINE = Pipeline(Binning(bins=20), (Downsample(factor=4),))
CLASSES = (
    "hand clapping",
    "right hand wave",
    "left hand wave",
    "right arm clockwise",
    "right arm counter-clockwise",
    "left arm clockwise",
    "left arm counter-clockwise",
    "arm roll",
    "air drums",
    "air guitar",
    "other gestures",
)

_CUT = {"train": "ibmGestureTrain", "test": "ibmGestureTest"}
_LISTS = {"train": "trials_to_train.txt", "test": "trials_to_test.txt"}
_PAGE = "https://research.ibm.com/interactive/dvsgesture/"

Listed = tuple[list[FileEntry], list[int]]


@recordings.register("dvs-gesture")
def dvs_gesture(data_dir: Path | None = None, *, skip_bad: bool = False) -> EventSplits:
    """List 1,176 + 288 gestures before a camera of 128 x 128 pixels; other people are in the test part.

    Reads ``<data_dir>/dvs-gesture/`` (or ``DvsGesture/``, ``DVSGesture/``), or a folder ``DvsGesture/`` in it. It holds
    the original files (``*.aedat``, each with a ``*_labels.csv``, and ``trials_to_train.txt`` and
    ``trials_to_test.txt``), of which each has one person's gestures one after the other; or these cut apart, with times
    in ms, as tonic distributes them (``ibmGestureTrain/userNN_light/<class>.npy``, ``ibmGestureTest/…``).

    Source: A. Amir et al. 2017, doi 10.1109/CVPR.2017.781.

    Raises:
        DataError: when neither is there, or files that the lists name are missing.
    """
    folder = dataset_folder(data_dir, "dvs-gesture", "DvsGesture", "DVSGesture")
    for place in (folder, folder / "DvsGesture"):
        if all(os.path.isfile(place / name) for name in _LISTS.values()):
            return _splits({part: _original(place, name) for part, name in _LISTS.items()}, _decode_aedat, "aedat 1")
        if all(os.path.isdir(place / name) for name in _CUT.values()):
            return _splits({part: _cut(place / name) for part, name in _CUT.items()}, _decode_npy, "npy in ms 1")
    raise DataError(
        f"dvs-gesture: expected the unpacked DvsGesture (*.aedat, from {_PAGE}) or {' and '.join(_CUT.values())} in "
        f"{folder}: put it there or choose a folder with --data-dir"
    )


def _splits(listed: dict[str, Listed], decode: Decode, how: str) -> EventSplits:
    train, test = (
        FileRecordings(f"dvs-gesture {part}", *listed[part], CLASSES, SENSOR, decode, how) for part in ("train", "test")
    )
    return EventSplits("dvs-gesture", train, test, PIPELINE)


def _original(folder: Path, listing: str) -> Listed:
    """Gestures of the files that the text file ``listing`` names, one a line."""
    entries, labels = [], []
    for name in filter(None, map(str.strip, _lines(folder / listing))):
        path = folder / name
        if not os.path.isfile(path):
            raise DataError(f"{folder / listing}: names {name}, which is not in {folder}")
        for label, start, end in _gestures(path.with_name(f"{path.stem}_labels.csv")):
            entries.append(FileEntry(str(path), name, f"{start} to {end} µs"))
            labels.append(label)
    return entries, labels


def _gestures(path: Path) -> Iterator[tuple[int, int, int]]:
    """``(label, start, end)`` of each line ``class,start,end`` of a file, with times in µs and classes from 1 on."""
    for number, row in enumerate(csv.reader(_lines(path)), start=1):
        if not row or (number == 1 and not row[0].strip().isdigit()):
            continue
        try:
            label, start, end = (int(value) for value in row)
        except ValueError:
            raise DataError(f"{path}: line {number} is {','.join(row)!r}, expected class,start,end") from None
        if not (1 <= label <= len(CLASSES) and 0 <= start < end):
            raise DataError(f"{path}: line {number} is {','.join(row)!r}: no class of 1 to 11, or no time from 0 on")
        yield label - 1, start, end


def _cut(folder: Path) -> Listed:
    names = [name for name in walk(folder).files if name.endswith(".npy")]
    labels = []
    for name in names:
        label = Path(name).stem
        if not (label.isdigit() and int(label) < len(CLASSES)):
            raise DataError(f"{folder / name}: expected a class of 0 to {len(CLASSES) - 1} as its name")
        labels.append(int(label))
    return [FileEntry(str(folder / name), name) for name in names], labels


def _decode_aedat(entry: FileEntry, sensor: Sensor) -> Events:
    events = _person(version_of(entry.path))
    start, end = (int(number) for number in entry.part.split() if number.isdigit())
    first, last = np.searchsorted(events["t"], (start, end))
    return events[first:last]


@kept_in_memory(most=2)
def _person(file: FileVersion) -> Events:
    """All events of a file, whose gestures are read one after the other."""
    return read(file.path, sensor=SENSOR).events


def _decode_npy(entry: FileEntry, sensor: Sensor) -> Events:
    """Events of rows ``x, y, polarity, time in ms``."""
    rows, _ = parse(read_regular(entry.path), entry.path)
    if rows.ndim != 2 or rows.shape[1] != 4 or rows.dtype.kind not in "iuf":
        raise DataError(f"{entry.path}: expected numbers [M, 4], got {rows.dtype} of shape {list(rows.shape)}")
    return to_events(scaled(rows[:, 3], 1000), rows[:, 0], rows[:, 1], rows[:, 2], entry.path)


def _lines(path: Path) -> list[str]:
    try:
        return read_regular(path, 1 << 24).decode().splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
