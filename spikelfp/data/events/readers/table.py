"""The readers by the suffix of their files."""

from __future__ import annotations

from collections.abc import Callable

from spikelfp.data.events.event import Sensor
from spikelfp.data.events.readers.recording import Recording
from spikelfp.data.events.readers.source import Source
from spikelfp.registry import Registry

Reader = Callable[[Source, Sensor | None], Recording]

suffixes: Registry[Reader] = Registry("suffix of event files")
"""Readers ``read(source, sensor) -> Recording`` by suffix, such as ``".raw"``, in lower case. Register one to have its
files read everywhere; it takes the content from ``source.data`` or ``source.path``, ends in :func:`~.recording.finish`,
and raises nothing but DataError."""
