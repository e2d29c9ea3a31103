"""Arrays of NumPy: ``.npy`` and ``.npz`` files, whose headers are checked against the bytes of the file."""

from __future__ import annotations

import io
import math
import os
import warnings
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spikelfp.errors import DataError
from spikelfp.terminal import first_line
from spikelfp.untrusted.archives import check_zip, read_entry
from spikelfp.untrusted.bounds import open_regular

_FORMAT: Any = np.lib.format  # its types leave out the largest size of a header
_LONGEST_HEADER = 1 << 14
_MOST_AXES = 32


class ArrayHeader(NamedTuple):
    """The header of a ``.npy`` file.

    Attributes:
        kind: dtype of the elements.
        fortran: whether they stand column by column.
        shape: of the array.
        start: byte at which the elements begin.
    """

    kind: np.dtype[Any]
    fortran: bool
    shape: tuple[int, ...]
    start: int


def array_header(content: bytes, where: str) -> ArrayHeader:
    """Read the header of a ``.npy`` file, and check that the file has its elements.

    Args:
        content: of the file.
        where: name that messages begin with.

    Raises:
        DataError: for another format, a damaged header, pickled Python objects, and fewer bytes than it declares.
    """
    try:
        with warnings.catch_warnings():  # of headers of Python 2, which are read all the same
            warnings.simplefilter("ignore")
            header = _header(content)
    except Exception as error:  # a literal of Python and names of types raise many kinds
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
    """Return the array in the bytes of a ``.npy`` file, which shares their memory and is read-only.

    Args:
        content: of the file.
        where: name that messages begin with.

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
            :func:`~.bounds.most`, two arrays of one name, and pickled Python objects.
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


def _header(content: bytes) -> ArrayHeader:
    file = io.BytesIO(content[:_LONGEST_HEADER])
    version = _FORMAT.read_magic(file)
    if version == (1, 0):
        shape, fortran, kind = _FORMAT.read_array_header_1_0(file, max_header_size=_LONGEST_HEADER)
    elif version == (2, 0):
        shape, fortran, kind = _FORMAT.read_array_header_2_0(file, max_header_size=_LONGEST_HEADER)
    elif version == (3, 0):  # differs by names in UTF-8, which are written here as escapes of a Python literal
        length = int.from_bytes(file.read(4), "little")
        text = file.read(length).decode("utf-8").encode("ascii", "backslashreplace")
        if len(text) < length:
            raise ValueError(f"a header of {length} bytes in {len(content)}")
        escaped = io.BytesIO(len(text).to_bytes(4, "little") + text)
        shape, fortran, kind = _FORMAT.read_array_header_2_0(escaped, max_header_size=6 * _LONGEST_HEADER)
    else:
        raise ValueError(f"version {version[0]}.{version[1]}")
    if len(shape) > _MOST_AXES or not all(type(each) is int and each >= 0 for each in shape):
        raise ValueError(f"shape {shape[:8]!r} of {len(shape)} axes")
    return ArrayHeader(kind, fortran, shape, file.tell())
