"""Data sets by name."""

from __future__ import annotations

from collections.abc import Callable

from spikelfp.data.splits import DataSplits
from spikelfp.registry import Registry

Loader = Callable[..., DataSplits]

datasets: Registry[Loader] = Registry(
    "data set", takes=("data_dir", "skip_bad", "sparse", "workers", "progress", "in_memory")
)
"""Loader functions ``load(data_dir, *, options…) -> DataSplits``.

Register one to make it known to :func:`spikelfp.data.load`.
"""
