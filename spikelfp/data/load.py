"""Data sets by name, static or of events, and the names that ``--data`` takes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spikelfp import checks
from spikelfp.data.dataset import DataSplits, datasets
from spikelfp.data.events.dataset import load_events
from spikelfp.data.events.recordings import prefixes, recordings
from spikelfp.errors import UnknownNameError
from spikelfp.options import Choice
from spikelfp.registry import check_name, unknown_name
from spikelfp.terminal import brief

PATHS = ("folder", "hdf5", "csv")
"""Kinds of data sets that are named by their path."""


class _DataNames:
    """Iterates over all names, prefixes last; looked up anew each time, so that data sets of users are among them."""

    def __iter__(self) -> Iterator[str]:
        by_path = set(datasets.where(by_path=True))
        yield from dict.fromkeys(name for name in [*datasets, *recordings] if name not in by_path)
        yield from (f"{prefix}:…" for prefix in sorted([*prefixes, *by_path]))


data_names = _DataNames()


def is_event_data(name: str) -> bool:
    """Whether a data set is made of recordings of events."""
    return (":" in name and name not in datasets) or name in set(recordings)


def check_data_name(name: str) -> str:
    """Return ``name``, if there is a data set, or a kind of data sets, of that name.

    Raises:
        UnknownNameError: if not, with the nearest one suggested, or the way to name the folder of that path.
    """
    if not isinstance(name, str):
        hint = f": write 'folder:{name}'" if isinstance(name, Path) else ""
        raise UnknownNameError(f"a data set is named by text, got {brief(name)}{hint}")
    prefix, colon, rest = name.partition(":")
    if colon:
        check_name("kind of data", prefix, sorted([*prefixes, *datasets.where(by_path=True)]))
        if not rest:
            raise UnknownNameError(f"{prefix} data are named by their path: {prefix}:PATH")
        return name
    if name in set(datasets.where(by_path=True)):
        raise UnknownNameError(f"{name} data are named by their path: {name}:PATH")
    if name in set(data_names):
        return name
    if os.path.isdir(name):
        if os.path.isfile(os.path.join(name, "train.csv")):
            raise UnknownNameError(f"unknown data {name!r}: for the tables in the folder {name} write csv:{name}")
        raise UnknownNameError(f"unknown data {name!r}: for the recordings in the folder {name} write folder:{name}")
    if os.path.isfile(name):
        kind = "hdf5" if Path(name).suffix in (".h5", ".hdf5") else "csv"
        raise UnknownNameError(f"unknown data {name!r}: for the file {name} write {kind}:{name}")
    raise unknown_name("data set", name, data_names)


def without_folder(name: str) -> str:
    """Shorten the name of a data set that is named by its path to the last part, which tells nothing of the machine."""
    kind, _, rest = name.partition(":")
    return f"{kind}:{Path(rest).name}" if kind in PATHS else name


def load(name: str, data_dir: str | Path | None = None, **options: Any) -> DataSplits:
    """Load a data set by name from ``<data_dir>/<name>/``; missing files are downloaded into it first.

    Each loader says which files those are, and where it differs (a cut of another data set, or of events, is not
    downloaded). Recordings of events, also ``folder:PATH``, ``hdf5:PATH`` and ``tonic:NAME``, are binned as their data
    set has it; :func:`~spikelfp.data.load_events` has the options.

    Args:
        name: of the data set.
        data_dir: the data folder; ``None``: that of :func:`spikelfp.data.data_dir`.
        options: those of the data set, as its loader takes them; of recordings of events, ``sensor`` and ``layout``
            of files that do not state theirs.

    Raises:
        UnknownNameError: for a name that is not registered.
        DataError: for files that are damaged, or missing and not to be had from the network.
        SaveError: when downloaded files cannot be written.
    """
    if is_event_data(check_data_name(name)):
        return load_events(name, data_dir, **options)
    return Choice(name, options).maker(datasets)(None if data_dir is None else checks.path("data_dir", data_dir))
