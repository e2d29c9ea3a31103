"""Reading a recording, whichever its format."""

from __future__ import annotations

from pathlib import Path

from spikelfp.data.events.event import Sensor
from spikelfp.data.events.readers.recording import Recording
from spikelfp.data.events.readers.source import Source
from spikelfp.data.events.readers.table import suffixes
from spikelfp.errors import DataError


def can_read(path: str | Path) -> bool:
    """Whether there is a reader for files of this suffix; the file itself is not looked at."""
    return Path(path).suffix.lower() in suffixes


def read(path: str | Path, *, sensor: Sensor | None = None) -> Recording:
    """The recording in the file ``path``; its suffix, in any case, says the format.

    sensor: for files that do not say theirs; a file's own comes first.

    Raises:
        DataError: for a file that is missing, empty, truncated, damaged, mislabelled or without events, for events
            outside the sensor and times out of order, and for a suffix that has no reader.
    """
    path = Path(path)
    return _read(Source(str(path), path), path.suffix, sensor)


def read_bytes(data: bytes, suffix: str, where: str, *, sensor: Sensor | None = None) -> Recording:
    """The recording in ``data``, the content of a file of this ``suffix``; ``where`` opens the messages.

    Raises:
        DataError: as :func:`read`, and for ``.aedat4`` packed with Zstandard, which is read from files only.
    """
    return _read(Source(where, data=bytes(data)), suffix, sensor)


def read_bin(data: bytes, where: str, *, sensor: Sensor | None = None) -> Recording:
    """The recording in ``data``, the content of a ``.bin`` file such as those of N-MNIST; see :func:`read_bytes`."""
    return read_bytes(data, ".bin", where, sensor=sensor)


def _read(source: Source, suffix: str, sensor: Sensor | None) -> Recording:
    suffix = suffix.lower()
    if suffix not in suffixes:
        raise DataError(
            f"{source.where}: no reader for files that end in {suffix!r}: choose from {', '.join(suffixes)}"
        )
    try:
        return suffixes[suffix](source, sensor)
    except MemoryError as error:
        raise DataError(f"{source.where}: its events do not fit into memory") from error
