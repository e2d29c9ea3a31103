"""Spoken digits through a software cochlea, as bit-packed rasters in one file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikelfp.data.events.binning import Binning, Pipeline
from spikelfp.data.events.event import EVENT, Events, Sensor, check_events
from spikelfp.data.events.readers.npy import parse
from spikelfp.data.events.recordings import EventSplits, Recordings, recordings
from spikelfp.data.events.sources.base import Subset, check_labels
from spikelfp.data.events.sources.files import (
    FileVersion,
    content_hashes,
    dataset_folder,
    hash_of,
    kept_in_memory,
    read_member,
    version_of,
)
from spikelfp.errors import DataError

FILE = "fsdd_cochlea_spikes.npz"
PIPELINE = Pipeline(Binning(bins=32, levels=96))
"""Pipeline with many levels, because a bin of a channel holds some 30 spikes."""

_TEST_TAKES = 10


class PackedRasters(Recordings):
    """Recordings of one ``.npz`` file.

    Recording ``i`` is ``packed[offsets[i]:offsets[i+1]]``: bits (channel x step, each channel padded to whole bytes) of
    ``n_steps[i]`` steps of ``dt_us`` µs. ``packed`` is read with the first recording, once in each process.

    Args:
        name: of the data set.
        path: of the file.

    Raises:
        DataError: for a file that is damaged or whose arrays do not fit together.
    """

    def __init__(self, name: str, path: str | Path) -> None:
        self.name, self.path = name, os.path.abspath(path)
        self.offsets, self.steps, self.takes, labels = (
            _array(self.path, key, axes=1) for key in ("offsets", "n_steps", "take", "labels")
        )
        channels, self.step_us = (int(_array(self.path, key, axes=0)) for key in ("n_channels", "dt_us"))
        self.labels, self.class_names = check_labels(labels, len(self.steps), None, f"{self.path}, labels")
        if not 1 <= channels <= 2**16:
            raise DataError(f"{self.path}: n_channels is {channels}, expected 1 to 65536")
        self.sensor = Sensor(channels)
        lengths = channels * -(-self.steps.astype(np.int64) // 8)
        fit = len(self.takes) == len(labels) and int(lengths.min()) >= 0
        if not (fit and np.array_equal(self.offsets, np.cumsum([0, *lengths]))):
            raise DataError(f"{self.path}: its offsets, n_steps and take do not fit together")

    def read(self, index: int) -> Events:
        where = self.where(index)
        packed = _packed(version_of(self.path))
        if len(packed) != self.offsets[-1]:
            raise DataError(f"{self.path}: expected {self.offsets[-1]} bytes of rasters, found {len(packed)}")
        raster = packed[self.offsets[index] : self.offsets[index + 1]].reshape(self.sensor.width, -1)
        return check_events(raster_events(raster, int(self.steps[index]), self.step_us), self.sensor, where)

    def where(self, index: int) -> str:
        return f"{self.path}, recording {range(len(self))[index]}"

    def fingerprint(self) -> str:
        return hash_of("packed rasters 1", *content_hashes([self.path]))


def raster_events(raster: NDArray[np.uint8], steps: int, step_us: int) -> Events:
    """Make events, sorted by time, then by channel, of a bit-packed ``raster`` uint8 ``[channels, bytes]``.

    Each bit that is set is an event at ``step · step_us`` µs; there are ``steps`` steps.
    """
    bits = np.unpackbits(raster, axis=1, count=steps)
    places = np.flatnonzero(np.ascontiguousarray(bits.T).view(bool))
    step, channel = np.divmod(places, len(raster))
    events = np.zeros(len(places), EVENT)
    events["t"], events["x"] = step * step_us, channel
    return events


@recordings.register("fsdd-cochlea")
def fsdd_cochlea(data_dir: Path | None = None, *, skip_bad: bool = False) -> EventSplits:
    """List 1,600 + 400 spoken digits of 4 speakers, 10 classes, 77 channels of a cochlea, steps of 125 µs.

    Reads ``<data_dir>/fsdd_cochlea/fsdd_cochlea_spikes.npz`` (or ``<data_dir>/fsdd-cochlea/``): of each speaker and
    digit the takes 10 to 49 are for training, 0 to 9 for the test.

    Source: Free Spoken Digit Dataset, https://github.com/Jakobovski/free-spoken-digit-dataset, through Lyon's cochlea
    model and the BSA spike encoder.

    Raises:
        DataError: for a file that is missing or damaged.
    """
    folder = dataset_folder(data_dir, "fsdd_cochlea", "fsdd-cochlea")
    if not os.path.isfile(folder / FILE):
        raise DataError(
            f"fsdd-cochlea: there is no {FILE} in {folder}: put it there or choose a folder with --data-dir"
        )
    everything = PackedRasters("fsdd-cochlea", folder / FILE)
    test = everything.takes < _TEST_TAKES
    return EventSplits(
        "fsdd-cochlea",
        Subset(everything, np.flatnonzero(~test), "fsdd-cochlea train"),
        Subset(everything, np.flatnonzero(test), "fsdd-cochlea test"),
        PIPELINE,
    )


@kept_in_memory(most=1)
def _packed(file: FileVersion) -> NDArray[np.uint8]:
    """Array ``packed``, which takes half a second to decompress."""
    packed = _array(file.path, "packed", axes=1)
    if packed.dtype != np.uint8:
        raise DataError(f"{file.path}, packed: expected uint8, found {packed.dtype}")
    return packed


def _array(path: str, key: str, axes: int) -> NDArray[Any]:
    """Array ``key``, of whole numbers."""
    array, _ = parse(read_member(path, f"{key}.npy"), f"{path}, {key}")
    if array.ndim != axes or array.dtype.kind not in "iu":
        what = "a list of whole numbers" if axes else "one whole number"
        raise DataError(f"{path}, {key}: expected {what}, found {array.dtype} of shape {list(array.shape)}")
    return array
