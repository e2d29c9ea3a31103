"""Arrays of NumPy: ``.npy`` and ``.npz`` files, whose headers are checked against the bytes that are there."""

from __future__ import annotations

import ast
import math
import os
import re
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spikelfp.errors import DataError
from spikelfp.terminal import first_line
from spikelfp.untrusted.archives import check_zip, read_entry
from spikelfp.untrusted.bounds import open_regular

_MARK = b"\x93NUMPY"
_LONGEST_HEADER = 1 << 14
_PYTHON_2 = re.compile(r"\b(\d+)L\b")
_MOST_AXES = 32


class Header(NamedTuple):
    """The head of a ``.npy`` file.

    Attributes:
        kind: of its elements.
        fortran: whether they stand column by column.
        shape: of the array.
        start: the byte at which they begin.
    """

    kind: np.dtype[Any]
    fortran: bool
    shape: tuple[int, ...]
    start: int


def array_header(content: bytes, where: str) -> Header:
    """Read the head of a ``.npy`` file, and check that its elements are there.

    Raises:
        DataError: for another format, a damaged head, pickled Python objects, and fewer bytes than it declares.
    """
    try:
        header = _header(content)
    except Exception as error:  # a literal of Python and the names of types can be wrong in many ways
        raise DataError(
            f"{where}: expected a NumPy array, found it mislabelled or damaged ({first_line(error)})"
        ) from error
    kind, _, shape, start = header
    if kind.hasobject:
        raise DataError(f"{where}: holds pickled Python objects, which are not read; save plain numbers")
    needed = math.prod(shape) * kind.itemsize
    if needed > len(content) - start:
        whole = (len(content) - start) // kind.itemsize * kind.itemsize + start
        raise DataError(
            f"{where}: is truncated: shape {shape} of {kind.itemsize} bytes each ends at byte {start + needed} of "
            f"{len(content)}, the last whole element at {whole}"
        )
    return header


def array_in(content: bytes, where: str) -> NDArray[Any]:
    """Return the array in the bytes of a ``.npy`` file, not to be written to.

    Raises:
        DataError: as :func:`array_header`.
    """
    kind, fortran, shape, start = array_header(content, where)
    if kind.itemsize == 0 or not math.prod(shape):
        try:
            return np.empty(shape, kind)
        except (ValueError, MemoryError, OverflowError) as error:
            raise DataError(f"{where}: holds an array of shape {shape}: {first_line(error)}") from None
    array: NDArray[Any] = np.frombuffer(content, kind, math.prod(shape), start)
    return array.reshape(shape, order="F" if fortran else "C")


def load_arrays(path: str | Path) -> dict[str, NDArray[Any]]:
    """Load the arrays of an ``.npz`` file by name.

    Raises:
        DataError: for a file that is missing, no such archive or damaged; arrays that would take more memory than
            :func:`~.size.most`, that stand in it twice, or are pickled Python objects.
    """
    where = str(path)
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            archive = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError, EOFError) as error:
            raise DataError(f"{where} holds no readable arrays: {first_line(error)}") from None
        check_zip(archive, size, where)
        names = [entry.filename.removesuffix(".npy") for entry in archive.infolist()]
        if len(set(names)) < len(names):
            raise DataError(f"{where} holds an array of the same name twice, among {names[:10]}")
        found = {}
        for name, entry in zip(names, archive.infolist(), strict=True):
            array = array_in(read_entry(archive, entry, where), f"{where}: {name[:60]!r}")
            found[name] = array.copy(order="K")  # torch wants to be able to write to it
    return found


def _header(content: bytes) -> Header:
    if content[:6] != _MARK or len(content) < 12:
        raise ValueError(f"it begins with {content[:6]!r}")
    size = 2 if content[6] == 1 else 4
    start = 8 + size + int.from_bytes(content[8 : 8 + size], "little")
    if not 1 <= content[6] <= 3 or start > min(len(content), _LONGEST_HEADER):
        raise ValueError(f"version {content[6]}, header of {start} bytes in {len(content)}")
    text = content[8 + size : start].decode("utf-8" if content[6] == 3 else "latin-1")
    table = ast.literal_eval(_PYTHON_2.sub(r"\1", text).strip())
    kind, fortran, shape = (table[key] for key in ("descr", "fortran_order", "shape"))
    if not isinstance(shape, tuple) or not all(type(each) is int and each >= 0 for each in shape):
        raise ValueError(f"shape {shape!r}")
    if len(shape) > _MOST_AXES:
        raise ValueError(f"an array of {len(shape)} axes")
    return Header(np.lib.format.descr_to_dtype(kind), bool(fortran), shape, start)
