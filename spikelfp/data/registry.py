"""Data sets by name, or by a kind and a path: ``csv:wine.csv``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from spikelfp.data.dataset import DataSplits
from spikelfp.registry import Registry

Loader = Callable[..., DataSplits]


class DataSets(Registry[Loader]):
    """Loaders ``load(data_dir, *, options…) -> DataSplits``; :func:`spikelfp.data.load` knows what is registered.

    One that is registered with ``by_path=True`` is called ``kind:path``, and given the ``path``.
    """

    def key(self, name: str) -> str:
        kind, _, path = name.partition(":")
        return kind if path and self._facts.get(kind, {}).get("by_path") else name

    def __getitem__(self, name: str) -> Loader:
        key = self.key(name)
        return super().__getitem__(name) if key == name else partial(self._entries[key], path=name[len(key) + 1 :])

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.key(name) in self._entries


datasets = DataSets("data set", takes=("data_dir", "path", "skip_bad", "sparse", "workers", "progress", "in_memory"))
"""Loader functions by name; register one to make it known."""
