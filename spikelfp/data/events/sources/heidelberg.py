"""Data sets in the layout of the Spiking Heidelberg Digits: these, their commands, Braille, and any other file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from spikelfp.data.events.binning import Binning
from spikelfp.data.events.event import Sensor
from spikelfp.data.events.pipeline import Pipeline
from spikelfp.data.events.recordings import EventSplits, Recordings, prefixes, recordings
from spikelfp.data.events.sources.compose import Joined, Subset
from spikelfp.data.events.sources.place import dataset_folder, user_path
from spikelfp.data.events.sources.spike_lists import SUFFIXES, SpikeLists
from spikelfp.data.events.sources.splits import FRACTION, Indices, stratified
from spikelfp.errors import DataError

COCHLEA = Pipeline(Binning(window=10_000, most=100, origin=0))
BRAILLE = Pipeline(Binning(window=50_000, most=26, levels=4, origin=0))
OTHER = Pipeline(Binning(bins=20, origin=0))

_HEIDELBERG = 700  # channels of the artificial cochlea
_FINGERTIP = 24  # 12 taxels, each with a channel for either sign of a change
_PAGE = "https://zenkelab.org/datasets/"


@recordings.register("shd")
def shd(data_dir: Path | None = None, *, skip_bad: bool = False) -> EventSplits:
    """8,156 + 2,264 spoken digits, German and English, 20 classes, 700 channels of an artificial cochlea.

    Reads ``<data_dir>/shd/shd_{train,test}.h5[.gz|.zip]``; packed files are unpacked in memory, in every process.

    Source: B. Cramer et al. 2020, doi 10.1109/TNNLS.2020.3044364.

    Raises:
        DataError: for files that are missing or damaged.
    """
    return _heidelberg("shd", data_dir, ("train",))


@recordings.register("ssc")
def ssc(data_dir: Path | None = None, *, skip_bad: bool = False) -> EventSplits:
    """85,447 + 20,382 spoken commands, 35 classes, 700 channels of the same cochlea as :func:`shd`.

    Reads ``<data_dir>/ssc/ssc_{train,valid,test}.h5[.gz|.zip]``. The recordings of ``valid``, which the authors chose
    their settings by, are the last of the training part, out of which a validation part is held when one is asked for.

    Raises:
        DataError: for files that are missing or damaged.
    """
    return _heidelberg("ssc", data_dir, ("train", "valid"))


@recordings.register("braille")
def braille(data_dir: Path | None = None, *, skip_bad: bool = False) -> EventSplits:
    """4,320 + 1,080 recordings of a fingertip sliding over Braille letters, 27 classes, 24 channels.

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


@prefixes.register("hdf5")
def hdf5(
    rest: str,
    data_dir: Path | None = None,
    *,
    skip_bad: bool = False,
    channels: int | None = None,
    pipeline: Pipeline = OTHER,
) -> EventSplits:
    """Any file in the layout of the Spiking Heidelberg Digits, or a folder with such files for ``train`` and ``test``.

    rest: the path, from ``data_dir``, if it is given, or from the folder one is in, or from the usual data folder. In a
    folder, the name of one file holds ``test``, that of another ``train``; one with ``valid`` becomes the last of the
    training part. A single file is split by ``extra/repetition``, if it has it: the last fifth of the repetitions is
    the test; else by chance, but always the same way, a fifth of each class.
    channels: of the line; one more than the largest unit of all files unless it is said.

    Raises:
        DataError: for a path that is missing, a folder whose files do not tell their parts, and damaged files.
    """
    path, name = user_path(rest, data_dir), f"hdf5:{rest}"
    if not path.is_dir():
        return _one_file(name, path, pipeline, channels)
    parts = _parts(path)
    train = [file for part in ("train", "valid") for file in parts[part]]
    return _several_files(name, train, parts["test"][0], pipeline, channels)


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
    train, test = _split(everything)
    return EventSplits(
        name, Subset(everything, train, f"{name} train"), Subset(everything, test, f"{name} test"), pipeline
    )


def _split(everything: SpikeLists) -> tuple[Indices, Indices]:
    repetition = everything.extra("repetition")
    if repetition is None:
        return stratified(everything.labels, everything.class_names, "spike lists")
    rounds = np.unique(repetition)
    if len(rounds) < 2:
        raise DataError(f"{everything.path}: all recordings are of repetition {rounds[0]}, which cannot be split")
    first = rounds[-max(1, len(rounds) // FRACTION)]
    return np.flatnonzero(repetition < first), np.flatnonzero(repetition >= first)


def _find(folder: Path, stem: str) -> Path | None:
    """The file ``stem`` with the first of the known endings."""
    return next((path for suffix in SUFFIXES if (path := folder / f"{stem}{suffix}").is_file()), None)


def _parts(folder: Path) -> dict[str, list[Path]]:
    """The files of a folder for ``train``, ``valid`` and ``test``; of a file that is there packed and unpacked, the
    latter."""
    found: dict[str, dict[str, Path]] = {"train": {}, "valid": {}, "test": {}}
    for suffix in SUFFIXES:
        for path in sorted(folder.glob(f"*{suffix}")):
            stem = path.name[: -len(suffix)]
            for part in found:
                if part in stem.lower() and not stem.startswith("."):
                    found[part].setdefault(stem, path)
    for part, paths in found.items():
        if len(paths) > 1 or (part != "valid" and not paths):
            names = ", ".join(path.name for path in paths.values()) or "none"
            raise DataError(
                f"{folder}: expected one HDF5 file whose name holds {part!r}, found {names}"
                + ("" if paths else "; a single file is loaded by its own path")
            )
    return {part: list(paths.values()) for part, paths in found.items()}
