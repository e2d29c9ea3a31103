"""``.npy`` and ``.npz``: arrays of NumPy.

A structured array ``[M]`` with fields t, x and perhaps y, p, in any order and by any of the names of
:data:`~.base.NAMES`; or a plain one ``[M, 4]`` with the columns t, x, y, p, or ``[M, 2]`` with t, x. An archive
``.npz`` holds one such array (called ``events`` if there are others), or one array ``[M]`` for each field. Times are
µs.

Source: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html. Arrays of Python objects are pickles,
which can run code, and are refused. Sizes are checked before anything is allocated or unpacked.
"""

from __future__ import annotations

import io
import math
import zipfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikelfp.data.events.event import Sensor
from spikelfp.data.events.readers.base import (
    NAMES,
    ORDER,
    Place,
    Recording,
    Source,
    choose,
    from_columns,
    is_events,
    numbered,
    suffixes,
)
from spikelfp.errors import DataError
from spikelfp.terminal import first_line
from spikelfp.untrusted import array_header, check_size, check_zip, read_entry

_KNOWN = frozenset(name for names in NAMES.values() for name in names)


@suffixes.register(".npy")
def read_npy(source: Source, sensor: Sensor | None) -> Recording:
    """Read an array of events.

    Raises:
        DataError: for a file that is no array or a truncated one, an array that is none of events, and as
            :func:`~.base.from_columns`.
    """
    array, place = parse(source.data, source.where)
    return from_array(array, source.where, sensor, {"format": "NumPy array"}, place)


@suffixes.register(".npz")
def read_npz(source: Source, sensor: Sensor | None) -> Recording:
    """Read an archive of one array of events, or of one array for each field.

    Raises:
        DataError: as :func:`read_npy`, for a damaged archive, and one that unpacks to far more than its size.
    """
    where = source.where
    try:
        with zipfile.ZipFile(io.BytesIO(source.data)) as archive:
            check_zip(archive, source.size, where, together=False)
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            wanted = {name: info for name, info in members.items() if _wanted(name, len(members))}
            check_size(sum(info.file_size for info in wanted.values()), source.size, where)
            contents = {name: read_entry(archive, info, where) for name, info in wanted.items()}
    except (zipfile.BadZipFile, NotImplementedError, OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(
            f"{where}: expected an archive of NumPy arrays, found it damaged ({first_line(error)})"
        ) from error
    arrays = {name: parse(content, f"{where}: {name[:40]!r}")[0] for name, content in contents.items()}
    facts = {"format": "NumPy archive", "arrays": tuple(members)}
    if is_events(arrays):
        chosen = choose(arrays, where)
        return from_columns(where, {field: arrays[name] for field, name in chosen.items()}, sensor, facts)
    name = "events" if "events" in arrays else next(iter(arrays), None)
    if name is None or (name != "events" and len(members) > 1):
        raise DataError(
            f"{where}: no array 'events', nor one each for t and x, among {[key[:40] for key in members][:10]}"
        )
    array = arrays[name]
    return from_array(array, f"{where}: {name[:40]!r}", sensor, facts, numbered)


def _wanted(name: str, members: int) -> bool:
    return members == 1 or name == "events" or name.lower() in _KNOWN


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
    array: NDArray[Any], where: str, sensor: Sensor | None, facts: dict[str, Any], place: Place
) -> Recording:
    """Make a recording of a structured array, or of a plain one by :data:`~.base.ORDER`."""
    if array.dtype.names is not None:
        if array.ndim != 1:
            raise DataError(f"{where}: expected events [M], found shape {array.shape}")
        chosen = choose(array.dtype.names, where)
        columns = {field: array[name] for field, name in chosen.items()}
        return from_columns(where, columns, sensor, facts, place=place)
    if array.ndim != 2 or array.shape[1] not in (2, 4):
        raise DataError(
            f"{where}: expected fields t, x, y, p or columns [M, 4] in the order {', '.join(ORDER)} ([M, 2]: t, x), "
            f"found {array.dtype} of shape {array.shape}"
        )
    columns = {field: array[:, column] for column, field in enumerate(ORDER[: array.shape[1]])}
    return from_columns(where, columns, sensor, facts, named=False, place=place)
