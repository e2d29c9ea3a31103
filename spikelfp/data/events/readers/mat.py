"""``.mat``: files of MATLAB 5; those of version 7.3 are HDF5 and read as such.

Two layouts:

* a struct, such as ``TD``, or the file itself, with vectors t (or ts), x and perhaps y, p (or pol) as in
  :data:`~.base.NAMES`, in µs (ASL-DVS; N-MNIST and N-Caltech101 as ``Read_Ndataset.m`` returns them); of several,
  structs of grey levels (:data:`~.tables.GREY_LEVELS`, such as ``EM``) are passed over;
* ``spiketrain`` ``[C + 1, M]`` (ST-MNIST): a row of 1, -1 and 0 for each of ``C`` taxels and a last row of times in
  seconds. If ``C`` is a square, taxel ``i`` of a pad of that size is ``x = i mod √C``, ``y = i div √C``, else
  ``x = i``; 1 is ON and -1 is OFF. Times are rounded to µs.

MATLAB counts from 1: :func:`~.tables.from_first_pixel` says when 1 is taken off x and y, and off a p of 1 and 2 (1 of
OFF). Sources:
https://github.com/gorchard/Matlab_AER_vision_functions, H. H. See et al., ST-MNIST, 2020.

The file: 128 bytes of header, the last four the version 0x0100 and ``IM`` (little-endian). Then elements: kind and size
(32 bits each; if the size fits into 4 bytes, 16 bits each, and the content in the next four bytes), the content, and
zeros up to a multiple of 8 (not after a compressed one). Kinds 1 to 7, 9, 12 and 13 are numbers; 15 is another element
compressed by zlib; 14 is a variable: elements with flags (8 bits of class), its shape (32 bits each), its name, and for
a class of numbers its values column by column, which may be of a smaller kind; for a struct (class 2) the length of
field names, the names, and a variable for each field. Source: MathWorks, MAT-File Format, 2019
(``matfile_format.pdf``). It is parsed here because SciPy's reader (1.17.1) ends the process with a segmentation fault
on some damaged files.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikelfp.data.events.event import Sensor
from spikelfp.data.events.readers.base import (
    Recording,
    Source,
    check_count,
    check_room,
    choose,
    finish,
    from_columns,
    is_events,
    pack,
    polarity,
    sensor_in,
    suffixes,
)
from spikelfp.data.events.readers.compact import compact
from spikelfp.data.events.readers.hdf5 import read_groups
from spikelfp.data.events.readers.tables import arrange, from_first_pixel, pick, without_grey_levels
from spikelfp.errors import DataError
from spikelfp.untrusted import most

Value = NDArray[Any] | dict[str, Any] | None
"""A matrix of numbers; the fields of a struct of one element; ``None`` for other variables."""

_HEADER = 128
_NUMBERS = {1: "<i1", 2: "<u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8", 12: "<i8", 13: "<u8"}
_CLASSES = range(6, 16)  # double, single, and integers of 8 to 64 bits
_STRUCT, _VARIABLE, _COMPRESSED = 2, 14, 15
_COMPLEX = 0x08
_DEEPEST = 4
PIECE = 1 << 24
"""Bytes that are unpacked at a time."""
_TIMES = 2
"""Bytes for each byte of unpacked variables while their columns are narrowed."""


def variables(data: bytes, where: str) -> dict[str, Value]:
    """Read the variables of a file of MATLAB 5 by name.

    Args:
        data: content of the file.
        where: name of the file in messages.

    Raises:
        DataError: for another format, a truncated or damaged file, and content that would unpack to too much.
    """
    if data[124:128] != b"\x00\x01IM":
        raise DataError(f"{where}: expected a file of MATLAB 5 (little-endian), found {data[:16]!r}")
    found: dict[str, Value] = {}
    at, left = _HEADER, most(len(data))
    while at < len(data):
        if at + 8 > len(data):
            raise DataError(f"{where}: is truncated: the last whole variable ends at byte {at} of {len(data)}")
        kind, size = struct.unpack_from("<II", data, at)
        end = at + 8 + size
        if end > len(data):
            raise DataError(
                f"{where}: is truncated: the last whole variable ends at byte {at} of {len(data)}, the next needs {end}"
            )
        try:
            content = memoryview(data)[at + 8 : end]
            if kind == _COMPRESSED:
                unpacked = _unpacked(content, left, where)
                left -= len(unpacked)
                kind, size = struct.unpack_from("<II", unpacked)
                content = memoryview(unpacked)[8 : 8 + size]
            if kind == _VARIABLE:
                name, value = _variable(content, 0)
                found[name] = value
        except DataError:
            raise
        except (ValueError, struct.error, zlib.error) as error:
            raise DataError(f"{where}: the variable at byte {at} is damaged ({error})") from error
        at = end
    return found


def _unpacked(content: memoryview, most_bytes: int, where: str) -> bytearray:
    """Unpack a variable piece by piece: its size is not stated, and may be more than the memory that is free."""
    stream, unpacked, rest = zlib.decompressobj(), bytearray(), bytes(content)
    while not stream.eof:
        piece = stream.decompress(rest, PIECE)
        if not piece and not stream.unconsumed_tail:
            raise ValueError("its zlib stream does not end")
        rest = stream.unconsumed_tail
        if len(unpacked) + len(piece) > most_bytes:
            raise ValueError(f"made to fill the memory: {len(content)} bytes become more than {most_bytes}")
        check_room(_TIMES * (len(unpacked) + len(piece)), f"{where}: its variables")
        unpacked += piece
    return unpacked


def _elements(content: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The kind and the content of each element."""
    at = 0
    while at + 8 <= len(content):
        kind, size = struct.unpack_from("<II", content, at)
        start, next_at = at + 8, at + 8 + -(-size // 8) * 8
        if kind >> 16:
            kind, size, start, next_at = kind & 0xFFFF, kind >> 16, at + 4, at + 8
        if start + size > len(content) or start + size > next_at:
            raise ValueError(f"an element of {size} bytes in {len(content) - start}")
        yield kind, content[start : start + size]
        at = next_at


def _variable(content: memoryview, depth: int) -> tuple[str, Value]:
    parts = list(_elements(content))
    if len(parts) < 3 or len(parts[0][1]) != 8:
        raise ValueError("no flags, shape and name")
    flags = int.from_bytes(parts[0][1][:4], "little")
    shape = tuple(int(each) for each in np.frombuffer(parts[1][1], "<i4"))
    name = bytes(parts[2][1]).decode("latin-1")
    kind = flags & 0xFF
    if not 2 <= len(shape) <= 32 or min(shape) < 0:
        raise ValueError(f"its shape, of {len(shape)} axes, begins with {shape[:4]}")
    if kind in _CLASSES and not (flags >> 8) & _COMPLEX and len(parts) == 4:
        return name, _numbers(parts[3], shape)
    if kind == _STRUCT and math.prod(shape) == 1 and depth < _DEEPEST and len(parts) >= 5:
        return name, _fields(parts[3:], depth)
    return name, None


def _numbers(part: tuple[int, memoryview], shape: tuple[int, ...]) -> NDArray[Any]:
    kind, values = part
    if kind not in _NUMBERS:
        raise ValueError(f"numbers of the unknown kind {kind}")
    dtype = np.dtype(_NUMBERS[kind])
    if math.prod(shape) * dtype.itemsize != len(values):
        raise ValueError(f"{len(values)} bytes for shape {shape} of {dtype}")
    return np.frombuffer(values, dtype).reshape(shape, order="F")


def _fields(parts: list[tuple[int, memoryview]], depth: int) -> dict[str, Value]:
    length = int.from_bytes(parts[0][1], "little")
    text = bytes(parts[1][1])
    if not length or len(text) % length or len(text) // length != len(parts) - 2:
        raise ValueError(f"{len(parts) - 2} fields with names of {len(text)} bytes, {length} each")
    names = [text[i : i + length].split(b"\0")[0].decode("latin-1") for i in range(0, len(text), length)]
    values = [_variable(content, depth + 1)[1] if kind == _VARIABLE else None for kind, content in parts[2:]]
    return dict(zip(names, values, strict=True))


@suffixes.register(".mat")
def read_mat(source: Source, sensor: Sensor | None) -> Recording:
    """Read vectors of events, or the ``spiketrain`` of a pad, whose taxels are the sensor.

    Raises:
        DataError: for a file that is none of MATLAB's, a damaged or truncated one, one without such variables, and as
            :func:`~.base.from_columns`.
    """
    where, data = source.where, source.data
    if data.startswith(b"MATLAB 7.3") or data.startswith(b"\x89HDF\r\n"):
        return read_groups(source, sensor, matlab=True)
    content = variables(data, where)
    facts: dict[str, Any] = {"format": "MATLAB 5", "variables": tuple(content)}
    layout = source.layout
    if "spiketrain" in content and layout.table in (None, "spiketrain"):
        return _pad(content["spiketrain"], where, facts)
    found = dict(_tables(content))
    if layout.table is None:
        found = without_grey_levels(found)
    if not found:
        there = [name[:40] for name in content][:10]
        raise DataError(f"{where}: no variable or struct with t and x, nor 'spiketrain', among {there}")
    table, chosen = pick(found, _USUAL, layout.table, where)
    name = str(chosen["table"]).strip("/")
    inside = f"{where}: {name[:40]!r}" if name else where
    if isinstance(table, dict):
        columns = {field: _vector(table[key], key, inside) for field, key in choose(table, inside).items()}
        own = sensor_in(_scalars(table))
        more: dict[str, Any] = {}
    else:
        own = None
        columns, more = arrange(list(table.T if table.shape[1] == 4 else table), layout.columns, inside)
    check_count(max(len(column) for column in columns.values()), source.size, where)
    columns = {field: compact(column) for field, column in columns.items()}
    columns, first = from_first_pixel(columns, layout.first_pixel, own or sensor)
    return from_columns(inside, columns, sensor, {**facts, **chosen, **more, **first}, own=own)


_USUAL = ("TD", "")
"""Tables of published layouts; the last is the file itself."""


def _tables(content: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Structs that may be events, and matrices of four columns whose name holds ``event``, by their paths."""
    if is_events(content):
        yield prefix.removesuffix("."), content
    for name, value in content.items():
        if isinstance(value, dict):
            yield from _tables(value, f"{prefix}{name}.")
        elif isinstance(value, np.ndarray) and "event" in name.lower() and value.ndim == 2 and 4 in value.shape:
            yield prefix + name, value


def _scalars(table: dict[str, Any]) -> dict[str, str]:
    """Single whole numbers of a struct, as text."""
    single = {name: value for name, value in table.items() if isinstance(value, np.ndarray) and value.size == 1}
    return {name: str(int(value.flat[0])) for name, value in single.items() if value.flat[0] == np.floor(value.flat[0])}


def _vector(value: Value, name: str, where: str) -> NDArray[Any]:
    if not isinstance(value, np.ndarray) or sum(length != 1 for length in value.shape) > 1:
        found = f"shape {value.shape}" if isinstance(value, np.ndarray) else "another kind"
        raise DataError(f"{where}: {name} is no vector of numbers but of {found}")
    return value.reshape(-1)


def _pad(train: Value, where: str, facts: dict[str, Any]) -> Recording:
    if not isinstance(train, np.ndarray) or train.ndim != 2 or len(train) < 2:
        raise DataError(f"{where}: spiketrain is no matrix [taxels + 1, M] of numbers")
    taxels, times = train[:-1], train[-1]
    step, taxel = np.nonzero(taxels.T)
    if not np.isfinite(times).all() or (len(times) and np.abs(times).max() > 1e12):
        raise DataError(f"{where}: the last row of spiketrain is no row of times in seconds")
    p = polarity(taxels[taxel, step], where)
    side = math.isqrt(len(taxels))
    width, height = (side, side) if side * side == len(taxels) and side > 1 else (len(taxels), 1)
    t = np.rint(times[step] * 1e6).astype(np.int64)
    events = pack(where, t, taxel % width, taxel // width, p)
    return finish(where, events, None, facts, own=Sensor(width, height, 2))
