"""Data sets by name, static or of events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spikelfp.data.dataset import DataSplits
from spikelfp.data.events.load import load_events
from spikelfp.data.names import check_data_name, is_event_data
from spikelfp.data.registry import datasets
from spikelfp.options import Choice


def load(name: str, data_dir: str | Path | None = None, **options: Any) -> DataSplits:
    """The data set ``name``, read from ``<data_dir>/<name>/``; missing files are downloaded into it first.

    Each loader says which files those are, and where it differs (a cut of another data set, or of events, is not
    downloaded). ``data_dir=None`` means the folder of :func:`spikelfp.data.data_dir`. Recordings of events, also
    ``folder:PATH``, ``hdf5:PATH`` and ``tonic:NAME``, are binned as their data set has it;
    :func:`~spikelfp.data.load_events` has the options.

    Further ``options`` are those of a data set of one's own.

    Raises:
        UnknownNameError: for a name that is not registered.
        DataError: for files that are damaged, or missing and not to be had from the network.
        SaveError: when downloaded files cannot be written.
    """
    if is_event_data(check_data_name(name)):
        return load_events(name, data_dir)
    return Choice(name, options).maker(datasets)(None if data_dir is None else Path(data_dir))
