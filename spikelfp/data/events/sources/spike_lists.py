"""Recordings in an HDF5 file in the layout of the Spiking Heidelberg Digits.

The layout (B. Cramer et al. 2020, doi 10.1109/TNNLS.2020.3044364): ``spikes/times`` (s) and ``spikes/units``, a list of
numbers for each recording, ``labels``, and optionally ``extra/keys``, the names of the classes, with more about the
recordings beside it, such as ``extra/repetition``.
"""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from spikelfp.data.events.event import Events, Sensor, check_events
from spikelfp.data.events.readers.room import check_room
from spikelfp.data.events.recordings import Recordings
from spikelfp.data.events.sources.archive import members, read_member
from spikelfp.data.events.sources.convert import spike_events
from spikelfp.data.events.sources.hashing import content_hashes, hash_of
from spikelfp.data.events.sources.labels import check_labels
from spikelfp.data.events.sources.once import Version, once, version_of
from spikelfp.errors import DataError

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
            keys = [str(_text(key)) for key in self._whole(file, "extra/keys")] if "extra/keys" in file else None
            self.labels, self.class_names = check_labels(
                self._whole(file, "labels"), len(file["spikes/times"]), keys, f"{self.path}, labels"
            )
            self.sensor = Sensor(_largest_unit(file) + 1 if channels is None else channels)

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
            values = self._whole(file, f"extra/{key}") if f"extra/{key}" in file else None
        return values if values is not None and np.shape(values) == self.labels.shape else None

    def _check(self, file: h5py.File) -> None:
        missing = [key for key in ("spikes/times", "spikes/units", "labels") if key not in file]
        if missing:
            raise DataError(
                f"{self.path}: not in the layout of the Spiking Heidelberg Digits: it has no {' and no '.join(missing)}"
            )
        counts = {key: len(file[key]) for key in ("spikes/times", "spikes/units", "labels")}
        if len(set(counts.values())) > 1:
            raise DataError(f"{self.path}: of different lengths: {counts}")

    def _whole(self, file: h5py.File, key: str) -> Any:
        """All of a data set, which can claim more than its file holds."""
        check_room(file[key].size * file[key].dtype.itemsize, os.path.getsize(self.path), f"{self.path}, {key}")
        return file[key][()]


def _text(key: object) -> object:
    return key.decode("utf-8", "replace") if isinstance(key, bytes) else key


def _largest_unit(file: h5py.File) -> int:
    units = file["spikes/units"]
    largest = 0
    for first in range(0, len(units), _TOGETHER):
        largest = max([largest, *(int(each.max()) for each in units[first : first + _TOGETHER] if len(each))])
    return largest


@contextmanager
def _layout(path: str) -> Iterator[h5py.File]:
    """The file, open for as long as it is needed: open ones do not survive a fork, and keep others from writing them.
    What goes wrong in it is raised as one line."""
    try:
        content = _unpacked(version_of(path))
        # reading needs no lock, which some network folders and read-only ones refuse
        with h5py.File(path if content is None else io.BytesIO(content), "r", locking=False) as file:
            yield file
    except DataError:
        raise
    except (OSError, EOFError, KeyError, ValueError, TypeError, RuntimeError, AttributeError, zlib.error) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: cannot be read as HDF5 in this layout ({reason})") from error


@once(most=4)
def _block(version: Version, number: int) -> list[tuple[Array, Array]]:
    """Times and units of the recordings from ``number · 64`` on: single ones take h5py four times as long."""
    part = slice(number * _TOGETHER, (number + 1) * _TOGETHER)
    with _layout(version.path) as file:
        return list(zip(file["spikes/times"][part], file["spikes/units"][part], strict=True))


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
        with gzip.open(path) as file:
            content = file.read(_MOST + 1)
        if len(content) > _MOST:
            raise DataError(f"{path}: holds more than {_MOST >> 30} GiB, too much for memory: unpack it")
        return content
    return None
