"""Data sets by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from spikelfp.data.splits import DataSplits
from spikelfp.registry import Registry

Loader = Callable[[Path | None], DataSplits]

datasets: Registry[Loader] = Registry("data set")
"""Loader functions ``load(data_dir) -> DataSplits``; register one to make it known to :func:`spikelfp.data.load`."""
