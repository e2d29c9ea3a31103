"""Data sets in the layout of the Spiking Heidelberg Digits: these, their commands, Braille, and any other HDF5 file.

The layout (B. Cramer et al. 2020, doi 10.1109/TNNLS.2020.3044364): ``spikes/times`` (s) and ``spikes/units``, a list of
numbers for each recording, ``labels``, and optionally ``extra/keys``, the names of the classes, and other facts about
the recordings, such as ``extra/repetition``.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from spikelfp.data.events.binning import Binning, Pipeline
from spikelfp.data.events.event import Events, Sensor, check_events
from spikelfp.data.events.recordings import EventSplits, Recordings, prefixes, recordings
from spikelfp.data.events.sources.base import FRACTION, Joined, Subset, check_labels, spike_events, stratified
from spikelfp.data.events.sources.files import (
    FileVersion,
    content_hashes,
    dataset_folder,
    hash_of,
    kept_in_memory,
    members,
    read_member,
    user_path,
    version_of,
)
from spikelfp.errors import DataError, UserError
from spikelfp.untrusted import check_dataset, check_lengths, check_size, member, open_hdf5, open_regular, unpack_stream

COCHLEA = Pipeline(Binning(window=10_000, most=100, origin=0))
BRAILLE = Pipeline(Binning(window=50_000, most=26, levels=4, origin=0))
OTHER = Pipeline(Binning(bins=20, origin=0))

_HEIDELBERG = 700  # channels of the artificial cochlea
_FINGERTIP = 24  # 12 taxels, each with a channel for either sign of a change
_PAGE = "https://zenkelab.org/datasets/"

SUFFIXES = (".h5", ".hdf5", ".h5.gz", ".hdf5.gz", ".h5.zip", ".hdf5.zip")

Array = NDArray[Any]

_MOST = 4 << 30  # bytes of a packed file that are kept in memory
_TOGETHER = 64  # recordings read at once


@recordings.register("shd")
def shd(data_dir: Path | None = None, *, skip_bad: bool = False) -> EventSplits:
    """List 8,156 + 2,264 spoken digits, German and English, 20 classes, 700 channels of an artificial cochlea.

    Reads ``<data_dir>/shd/shd_{train,test}.h5[.gz|.zip]``; packed files are unpacked into the memory of each process.

    Source: B. Cramer et al. 2020, doi 10.1109/TNNLS.2020.3044364.

    Raises:
        DataError: for files that are missing or damaged.
    """
    return _heidelberg("shd", data_dir, ("train",))


@recordings.register("ssc")
def ssc(data_dir: Path | None = None, *, skip_bad: bool = False) -> EventSplits:
    """List 85,447 + 20,382 spoken commands, 35 classes, 700 channels of the same cochlea as :func:`shd`.

    Reads ``<data_dir>/ssc/ssc_{train,valid,test}.h5[.gz|.zip]``. The recordings of ``valid``, by which the authors
    chose their settings, are the last of the training part, out of which a validation part is held when asked for.

    Raises:
        DataError: for files that are missing or damaged.
    """
    return _heidelberg("ssc", data_dir, ("train", "valid"))


@recordings.register("braille")
def braille(data_dir: Path | None = None, *, skip_bad: bool = False) -> EventSplits:
    """List 4,320 + 1,080 recordings of a fingertip sliding over Braille letters, 27 classes, 24 channels.

    Reads ``<data_dir>/braille/braille_spikes_th10.h5``: of each letter the repetitions 0 to 159 are for training, 160
    to 199 for the test.

    Source: S. Müller-Cleve et al. 2022, doi 10.3389/fnins.2022.951164.

    Raises:
        DataError: for a file that is missing or damaged.
    """
    folder, file = dataset_folder(data_dir, "braille"), "braille_spikes_th10"
    path = _find(folder, file)
    if path is None:
        raise DataError(f"braille: there is no {file}.h5 in {folder}: put it there or choose a folder with --data-dir")
    return _one_file("braille", path, BRAILLE, _FINGERTIP)


@prefixes.register("hdf5", own_sensor=True)
def hdf5(
    rest: str,
    data_dir: Path | None = None,
    *,
    skip_bad: bool = False,
    sensor: Sensor | None = None,
    channels: int | None = None,
    pipeline: Pipeline = OTHER,
) -> EventSplits:
    """List the recordings of any file in the layout of the Spiking Heidelberg Digits, or of a folder of such files.

    In a folder, the name of one file holds ``test``, that of another ``train``; one with ``valid`` becomes the last of
    the training part. A single file is split by ``extra/repetition``, if it has that: the last fifth of the repetitions
    is the test part; else by chance, but always in the same way, a fifth of each class.

    Args:
        rest: path, from ``data_dir``, if it is given, or from the working directory, or from the usual data folder.
        data_dir: folder of the data sets.
        skip_bad: of all sources; these files are good or not as a whole.
        sensor: the line, with its number of channels.
        channels: of the line; ``None``: those of ``sensor``, else one more than the largest unit of all files.
        pipeline: from events to sequences.

    Raises:
        DataError: for a path that is missing, a folder whose files do not tell their parts, and damaged files.
        UserError: for a sensor that is no line of channels.
    """
    if sensor is not None:
        if not sensor.is_line:
            raise UserError(f"hdf5:{rest} holds spikes of a line of channels, and not of {sensor}: --sensor CHANNELS")
        channels = sensor.width
    path, name = user_path(rest, data_dir), f"hdf5:{rest}"
    if not path.is_dir():
        return _one_file(name, path, pipeline, channels)
    found: dict[str, dict[str, Path]] = {"train": {}, "valid": {}, "test": {}}
    for suffix in SUFFIXES:  # a file that is there packed and unpacked counts unpacked
        for file in sorted(path.glob(f"*{suffix}")):
            stem = file.name[: -len(suffix)]
            for part, files in found.items():
                if part in stem.lower() and not stem.startswith("."):
                    files.setdefault(stem, file)
    for part, files in found.items():
        if len(files) > 1 or (part != "valid" and not files):
            names = ", ".join(file.name for file in files.values()) or "none"
            raise DataError(
                f"{path}: expected one HDF5 file whose name holds {part!r}, found {names}"
                + ("" if files else "; a single file is loaded by its own path")
            )
    (test,) = found["test"].values()
    return _several_files(name, [*found["train"].values(), *found["valid"].values()], test, pipeline, channels)


def _heidelberg(name: str, data_dir: Path | None, train: Sequence[str]) -> EventSplits:
    folder = dataset_folder(data_dir, name)
    paths = {part: _find(folder, f"{name}_{part}") for part in (*train, "test")}
    missing = [f"{name}_{part}.h5" for part, path in paths.items() if path is None]
    if missing:
        raise DataError(
            f"{name}: there is no {' and no '.join(missing)} in {folder}: put them there (from {_PAGE}; packed as .gz "
            "or .zip does as well) or choose a folder with --data-dir"
        )
    found = {part: path for part, path in paths.items() if path is not None}
    return _several_files(name, [found[part] for part in train], found["test"], COCHLEA, _HEIDELBERG)


def _several_files(
    name: str, train: Sequence[Path], test: Path, pipeline: Pipeline, channels: int | None
) -> EventSplits:
    parts = [SpikeLists(f"{name} train", path, channels) for path in train]
    tested = SpikeLists(f"{name} test", test, channels)
    if channels is None:
        widest = max(part.sensor.width for part in (*parts, tested))
        for part in (*parts, tested):
            part.sensor = Sensor(widest)
    learnt: Recordings = parts[0] if len(parts) == 1 else Joined(parts, f"{name} train")
    return EventSplits(name, learnt, tested, pipeline)


def _one_file(name: str, path: Path, pipeline: Pipeline, channels: int | None) -> EventSplits:
    everything = SpikeLists(name, path, channels)
    repetition = everything.extra("repetition")
    if repetition is None:
        train, test = stratified(everything.labels, everything.class_names, "spike lists")
    else:
        rounds = np.unique(repetition)
        if len(rounds) < 2:
            raise DataError(f"{everything.path}: all recordings are of repetition {rounds[0]}, which cannot be split")
        first = rounds[-max(1, len(rounds) // FRACTION)]
        train, test = np.flatnonzero(repetition < first), np.flatnonzero(repetition >= first)
    return EventSplits(
        name, Subset(everything, train, f"{name} train"), Subset(everything, test, f"{name} test"), pipeline
    )


def _find(folder: Path, stem: str) -> Path | None:
    """File ``stem`` with the first known ending that there is."""
    return next((path for suffix in SUFFIXES if (path := folder / f"{stem}{suffix}").is_file()), None)


# Files in this layout


class SpikeLists(Recordings):
    """Recordings of one file. A packed one (``.gz``, ``.zip``) is unpacked into the memory of each process.

    Args:
        name: of the data set and the part.
        path: of the file.
        channels: of the line; ``None``: one more than the largest unit, for which all units are read.

    Raises:
        DataError: for a file that is damaged or of another layout, and labels that do not fit.
    """

    def __init__(self, name: str, path: str | Path, channels: int | None = None) -> None:
        self.name, self.path = name, os.path.abspath(path)
        with _opened(self.path) as file:
            self._check(file)
            keys = self._whole(file, "extra/keys") if member(file, "extra/keys", self.path) else None
            if keys is not None:
                keys = [key.decode("utf-8", "replace") if isinstance(key, bytes) else str(key) for key in keys]
            self.labels, self.class_names = check_labels(
                self._whole(file, "labels"), len(file["spikes/times"]), keys, f"{self.path}, labels"
            )
            self.sensor = Sensor(_largest_unit(file, self.path) + 1 if channels is None else channels)

    def read(self, index: int) -> Events:
        index = range(len(self))[index]
        where = self.where(index)
        times, units = _block(version_of(self.path), index // _TOGETHER)[index % _TOGETHER]
        return check_events(spike_events(times, units, where), self.sensor, where)

    def where(self, index: int) -> str:
        return f"{self.path}, recording {range(len(self))[index]}"

    def fingerprint(self) -> str:
        return hash_of("spike lists 1", str(self.sensor), *content_hashes([self.path]))

    def extra(self, key: str) -> Array | None:
        """Values of ``extra/<key>``, one a recording; ``None`` if the file has none."""
        with _opened(self.path) as file:
            values = self._whole(file, f"extra/{key}") if member(file, f"extra/{key}", self.path) is not None else None
        return values if values is not None and np.shape(values) == self.labels.shape else None

    def _check(self, file: h5py.File) -> None:
        parts = {key: member(file, key, self.path) for key in ("spikes/times", "spikes/units", "labels")}
        missing = [key for key, part in parts.items() if not isinstance(part, h5py.Dataset)]
        if missing:
            raise DataError(
                f"{self.path}: not in the layout of the Spiking Heidelberg Digits: it has no {' and no '.join(missing)}"
            )
        counts = {key: len(part) for key, part in parts.items()}
        if len(set(counts.values())) > 1:
            raise DataError(f"{self.path}: of different lengths: {counts}")

    def _whole(self, file: h5py.File, key: str) -> Any:
        """Read all of a data set, whose header can claim more than its file holds."""
        found = member(file, key, self.path)
        check_dataset(found, _size(file), self.path)
        return found[()]


def _size(file: h5py.File) -> int:
    """Bytes of the file as it is read: a packed one is larger than on the disk."""
    return int(file.id.get_filesize())


def _lists(file: h5py.File, key: str, path: str) -> h5py.Dataset:
    """Return a data set of lists. Few of them are read at a time, so each may be as large as the file."""
    found = member(file, key, path)
    check_dataset(found, _size(file), path, lengths=False)
    return found


def _largest_unit(file: h5py.File, path: str) -> int:
    units = _lists(file, "spikes/units", path)
    largest = total = 0
    for first in range(0, len(units), _TOGETHER):
        check_lengths(units, _size(file), path, slice(first, first + _TOGETHER))
        part = units[first : first + _TOGETHER]
        total += sum(each.nbytes for each in part)
        check_size(total, _size(file), f"{path}, spikes/units")
        largest = max([largest, *(int(each.max()) for each in part if len(each))])
    return largest


@contextmanager
def _opened(path: str) -> Iterator[h5py.File]:
    """Open the file only as long as it is needed: an open one does not survive a fork, and keeps others from writing.

    Whatever goes wrong is raised as a ``DataError`` of one line.
    """
    content = _unpacked(version_of(path))
    with open_hdf5(path if content is None else io.BytesIO(content), path, whole=False) as file:
        yield file


@kept_in_memory(most=4)
def _block(version: FileVersion, number: int) -> list[tuple[Array, Array]]:
    """Times and units of 64 recordings from ``number · 64`` on; one by one they take h5py four times as long."""
    part = slice(number * _TOGETHER, (number + 1) * _TOGETHER)
    with _opened(version.path) as file:
        times, units = (_lists(file, key, version.path) for key in ("spikes/times", "spikes/units"))
        for each in (times, units):
            check_lengths(each, _size(file), version.path, part)
        return list(zip(times[part], units[part], strict=True))


@kept_in_memory(most=4)
def _unpacked(version: FileVersion) -> bytes | None:
    """Content of a packed file; ``None`` for a file that is not packed."""
    path = version.path
    if path.lower().endswith(".zip"):
        inside = [name for name in members(path) if name.lower().endswith((".h5", ".hdf5"))]
        if len(inside) != 1:
            raise DataError(f"{path}: expected one HDF5 file in it, found {len(inside)}")
        return read_member(path, inside[0])
    if path.lower().endswith(".gz"):
        with open_regular(path) as file:
            return bytes(unpack_stream(file, os.path.getsize(path), path, _MOST))
    return None
