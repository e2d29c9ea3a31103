"""Data sets by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from spikelfp.data.splits import DataSplits
from spikelfp.registry import Registry

Loader = Callable[[Path | None], DataSplits]

datasets: Registry[Loader] = Registry("data set")
"""Loader functions ``load(data_dir) -> DataSplits``; register one to make it known to :func:`load`."""


def load(name: str, data_dir: str | Path | None = None) -> DataSplits:
    """The data set ``name``, read from ``<data_dir>/<name>/``; missing files are downloaded into it first.

    Each loader says which files those are, and where it differs (a cut of another data set is not downloaded).
    ``data_dir=None`` means the folder of :func:`spikelfp.data.data_dir`.

    Raises:
        UnknownNameError: for a name that is not registered.
        DataError: for files that are damaged, or missing and not to be had from the network.
        SaveError: when downloaded files cannot be written.
    """
    return datasets[name](None if data_dir is None else Path(data_dir))
