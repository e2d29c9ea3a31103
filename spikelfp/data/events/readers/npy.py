"""``.npy`` and ``.npz``: arrays of NumPy.

A structured array ``[M]`` with fields t, x and perhaps y, p, in any order and by any of the names of
:data:`~.base.NAMES`; or a plain one ``[M, 4]`` with the columns t, x, y, p or in another order of
:data:`~.tables.ORDERS` that the content fits, or ``[M, 2]`` with t, x. An archive ``.npz`` holds one such array (called
``events`` if there are others, or the one that the user states), or one array ``[M]`` for each field. Times are µs.

An archive may hold several recordings one after the other, with the event at which each begins in ``offsets``
(:data:`OFFSETS`), perhaps followed by their end. One of them is read if the user states it, ``--table events[3]``.

Source: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html. Arrays of Python objects are pickles,
which can run code, and are refused. Sizes are checked before anything is allocated or unpacked.
"""

from __future__ import annotations

import io
import math
import re
import zipfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikelfp.data.events.event import Sensor
from spikelfp.data.events.readers.base import (
    MOST_A_BYTE,
    MOST_EVENTS,
    NAMES,
    ORDER,
    PLURALS,
    Place,
    Recording,
    Source,
    check_room,
    choose,
    from_columns,
    is_events,
    numbered,
    suffixes,
)
from spikelfp.data.events.readers.compact import compact
from spikelfp.data.events.readers.tables import arrange
from spikelfp.errors import DataError
from spikelfp.terminal import first_line
from spikelfp.untrusted import array_header, check_size, check_zip, read_entry

_TIMES = 4
"""Memory that columns take while they are read, in times of what they take by themselves: they may be narrower."""

_WIDEST = 32
"""Bytes of an event in four columns of 64 bits."""

OFFSETS = ("offsets", "offset", "starts", "splits", "indptr")
"""Names of the array with the first event of each recording."""

_KNOWN = frozenset(name for names in (*NAMES.values(), *PLURALS.values(), OFFSETS) for name in names)
_FIELDS = _KNOWN - set(OFFSETS)
_NUMBERS = "iuf"
_ONE = re.compile(r"(.*)\[(\d{1,9})\]")


@suffixes.register(".npy")
def read_npy(source: Source, sensor: Sensor | None) -> Recording:
    """Read an array of events.

    Raises:
        DataError: for a file that is no array or a truncated one, an array that is none of events, and as
            :func:`~.base.from_columns`.
    """
    array, place = parse(source.data, source.where)
    return from_array(array, source, source.where, sensor, {"format": "NumPy array"}, place)


@suffixes.register(".npz")
def read_npz(source: Source, sensor: Sensor | None) -> Recording:
    """Read an archive of one array of events, or of one array for each field.

    Raises:
        DataError: as :func:`read_npy`, for a damaged archive, and one that unpacks to far more than its size.
    """
    where, stated = source.where, source.layout.table
    one = _ONE.fullmatch(stated or "")
    stated = one[1] or None if one else stated
    try:
        with zipfile.ZipFile(io.BytesIO(source.data)) as archive:
            check_zip(archive, source.size, where, together=False)
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            wanted = {name: info for name, info in members.items() if _wanted(name, len(members), stated)}
            unpacked = sum(info.file_size for info in wanted.values())
            check_size(unpacked, source.size, where)
            if unpacked > _WIDEST * max(MOST_EVENTS, MOST_A_BYTE * source.size):
                raise DataError(
                    f"{where}: claims {unpacked} bytes of events in a file of {source.size} bytes: damaged, or made to "
                    "fill memory"
                )
            check_room(_TIMES * unpacked, f"{where}: its events")
            arrays = {name: _array(archive, info, name, where, stated) for name, info in wanted.items()}
    except (zipfile.BadZipFile, NotImplementedError, OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(
            f"{where}: expected an archive of NumPy arrays, found it damaged ({first_line(error)})"
        ) from error
    facts: dict[str, Any] = {"format": "NumPy archive", "arrays": tuple(members)}
    starts = next((arrays.pop(name) for name in list(arrays) if name.lower() in OFFSETS and name != stated), None)
    if is_events(arrays) and stated is None:
        chosen = choose(arrays, where)
        columns = {field: arrays[name] for field, name in chosen.items()}
        part = _part(starts, columns["t"].size, one, "", where)
        columns = {field: each[part] if each.ndim else each for field, each in columns.items()}
        return from_columns(where, columns, sensor, facts)
    name = stated or ("events" if "events" in arrays else next(iter(arrays), None))
    if name not in arrays or (stated is None and name != "events" and len(members) > 1):
        raise DataError(
            f"{where}: no array {(stated or 'events')[:40]!r}, nor one each for t and x, among "
            f"{[key[:40] for key in members][:10]}; choose one with --table"
        )
    array = arrays[name]
    part = _part(starts, len(array) if array.ndim else 1, one, name, where)
    array = array[part] if array.ndim else array
    return from_array(array, source, f"{where}: {name[:40]!r}", sensor, {**facts, "table": name}, numbered)


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, where: str, stated: str | None) -> NDArray[Any]:
    """Read an array; a column of events is made narrow before the next one is read."""
    array, _ = parse(read_entry(archive, info, where), f"{where}: {name[:40]!r}")
    column = stated is None and array.ndim == 1 and array.dtype.kind in _NUMBERS and name.lower() in _FIELDS
    return compact(array) if column else array


def _wanted(name: str, members: int, stated: str | None) -> bool:
    if stated is not None:
        return name == stated or name.lower() in OFFSETS
    return members == 1 or name == "events" or name.lower() in _KNOWN


def _part(starts: NDArray[Any] | None, events: int, one: re.Match[str] | None, name: str, where: str) -> slice:
    """The events of the recording that the user states, or all of an archive that holds one.

    Raises:
        DataError: for offsets that cut the events otherwise, a recording that is not there, and several without one
            that is stated.
    """
    if starts is None:
        if one:
            raise DataError(
                f"{where}: {one[0][:60]!r} is not there: no array {' or '.join(OFFSETS[:2])} cuts its events"
            )
        return slice(None)
    edges = [int(each) for each in np.ravel(starts)] if starts.dtype.kind in "iu" else []
    edges += [events] if edges and edges[-1] != events else []
    if len(edges) < 2 or edges[0] != 0 or edges != sorted(edges) or edges[-1] != events:
        raise DataError(f"{where}: its offsets do not cut its {events} events into recordings")
    number = int(one[2]) if one else 0
    if len(edges) > 2 and one is None:
        raise DataError(
            f"{where}: holds {len(edges) - 1} recordings of {events} events together, cut by its offsets: state one, "
            f"--table '{name}[0]', or save each in a file of its own"
        )
    if number >= len(edges) - 1:
        raise DataError(f"{where}: holds recordings 0 to {len(edges) - 2}, {number} is stated")
    return slice(edges[number], edges[number + 1])


def parse(content: bytes, where: str) -> tuple[NDArray[Any], Place]:
    """Read the array in the bytes of a ``.npy`` file.

    Returns:
        The array, and the places of its rows in the file.

    Raises:
        DataError: for damage, pickled objects, an array of more than two axes and an empty one.
    """
    kind, fortran, shape, start = array_header(content, where)
    if len(shape) > 2:
        raise DataError(f"{where}: an array of shape {shape} is none of events: [M] with fields, or [M, 4]")
    if not math.prod(shape) * kind.itemsize:
        raise DataError(f"{where}: holds no events (shape {shape})")
    array: NDArray[Any] = np.frombuffer(content, kind, math.prod(shape), start)
    array = array.reshape(shape, order="F" if fortran else "C")
    row = 0 if fortran and len(shape) > 1 else kind.itemsize * math.prod(shape[1:])
    return array, (lambda event: f"event {event}, at byte {start + row * int(event)},") if row else numbered


def from_array(
    array: NDArray[Any], source: Source, where: str, sensor: Sensor | None, facts: dict[str, Any], place: Place
) -> Recording:
    """Make a recording of a structured array, or of a plain one (:func:`~.tables.arrange`)."""
    if array.ndim and not len(array):
        raise DataError(f"{where}: holds no events")
    if array.dtype.names is not None:
        if array.ndim != 1:
            raise DataError(f"{where}: expected events [M], found shape {array.shape}")
        chosen = choose(array.dtype.names, where)
        columns = {field: array[name] for field, name in chosen.items()}
        return from_columns(where, columns, sensor, facts, place=place)
    if array.ndim != 2 or array.shape[1] not in (2, 4) or array.dtype.kind not in _NUMBERS:
        raise DataError(
            f"{where}: expected fields t, x, y, p or columns [M, 4] in the order {', '.join(ORDER)} ([M, 2]: t, x), "
            f"found {array.dtype} of shape {array.shape}"
        )
    columns, more = arrange(list(array.T), source.layout.columns, where)
    return from_columns(where, columns, sensor, {**facts, **more}, named=False, place=place)
