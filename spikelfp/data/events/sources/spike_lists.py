"""Recordings in an HDF5 file in the layout of the Spiking Heidelberg Digits.

The layout (B. Cramer et al. 2020, doi 10.1109/TNNLS.2020.3044364): ``spikes/times`` (s) and ``spikes/units``, a list of
numbers for each recording, ``labels``, and optionally ``extra/keys``, the names of the classes, with more about the
recordings beside it, such as ``extra/repetition``.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from spikelfp.data.events.event import Events, Sensor, check_events
from spikelfp.data.events.recordings import Recordings
from spikelfp.data.events.sources.archive import members, read_member
from spikelfp.data.events.sources.convert import spike_events
from spikelfp.data.events.sources.hashing import content_hashes, hash_of
from spikelfp.data.events.sources.labels import check_labels
from spikelfp.data.events.sources.once import Version, once, version_of
from spikelfp.errors import DataError
from spikelfp.untrusted import check_dataset, check_size, member, open_hdf5, open_regular, unpack_stream

SUFFIXES = (".h5", ".hdf5", ".h5.gz", ".hdf5.gz", ".h5.zip", ".hdf5.zip")

Array = NDArray[Any]

_MOST = 4 << 30  # bytes of a packed file that are kept in memory
_TOGETHER = 64  # recordings read at once


class SpikeLists(Recordings):
    """The recordings of one file; a packed one (``.gz``, ``.zip``) is unpacked in memory, once a process.

    Args:
        channels: of the line they come from; ``None``: one more than the largest unit, for which all units are read.

    Raises:
        DataError: for a file that is damaged or of another layout, and labels that do not fit.
    """

    def __init__(self, name: str, path: str | Path, channels: int | None = None) -> None:
        self.name, self.path = name, os.path.abspath(path)
        with _layout(self.path) as file:
            self._check(file)
            keys = (
                [str(_text(key)) for key in self._whole(file, "extra/keys")]
                if member(file, "extra/keys", self.path)
                else None
            )
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
        """``extra/<key>``, one value a recording; ``None`` where the file has none."""
        with _layout(self.path) as file:
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
        """Read all of a data set, which can claim more than its file holds."""
        found = member(file, key, self.path)
        check_dataset(found, _size(file), self.path)
        return found[()]


def _text(key: object) -> object:
    return key.decode("utf-8", "replace") if isinstance(key, bytes) else key


def _size(file: h5py.File) -> int:
    """Return the bytes of the file as it is read: a packed one is larger than on the disk."""
    return int(file.id.get_filesize())


def _lists(file: h5py.File, key: str, path: str) -> h5py.Dataset:
    """Return a data set of lists, of which as many may be read together as are here: each is at most the file."""
    found = member(file, key, path)
    check_dataset(found, _size(file), path, lengths=False)
    return found


def _largest_unit(file: h5py.File, path: str) -> int:
    units = _lists(file, "spikes/units", path)
    largest = total = 0
    for first in range(0, len(units), _TOGETHER):
        part = units[first : first + _TOGETHER]
        total += sum(each.nbytes for each in part)
        check_size(total, _size(file), f"{path}, spikes/units")
        largest = max([largest, *(int(each.max()) for each in part if len(each))])
    return largest


@contextmanager
def _layout(path: str) -> Iterator[h5py.File]:
    """The file, open for as long as it is needed: open ones do not survive a fork, and keep others from writing them.
    What goes wrong in it is raised as one line."""
    content = _unpacked(version_of(path))
    with open_hdf5(path if content is None else io.BytesIO(content), path, whole=False) as file:
        yield file


@once(most=4)
def _block(version: Version, number: int) -> list[tuple[Array, Array]]:
    """Times and units of the recordings from ``number · 64`` on: single ones take h5py four times as long."""
    part = slice(number * _TOGETHER, (number + 1) * _TOGETHER)
    with _layout(version.path) as file:
        times, units = (_lists(file, key, version.path) for key in ("spikes/times", "spikes/units"))
        return list(zip(times[part], units[part], strict=True))


@once(most=4)
def _unpacked(version: Version) -> bytes | None:
    """The content of a packed file; ``None`` of one that is not packed."""
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
