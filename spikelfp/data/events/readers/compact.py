"""Columns that are read block by block into the narrowest type that holds them.

Files keep columns of events in 8 bytes a value, though most fit into 1 or 2. A column that is read whole, then
narrowed, needs all of them at once; one that is read in blocks needs its narrow values and one block.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 1 << 18
"""Rows that are read at a time, unless the file packs more together."""


def blocks(rows: int, together: int | None = None) -> Iterator[slice]:
    """Cut ``rows`` into blocks.

    Args:
        rows: number of them.
        together: rows that the file packs together, which are unpacked once only; ``None`` for single rows.

    Yields:
        Slices of about :data:`BLOCK` rows, each a multiple of ``together`` but the last.
    """
    step = together * max(1, BLOCK // together) if together else BLOCK
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


class Column:
    """Values of a column, added block by block.

    Whole numbers are kept in the narrowest integers that hold all of them; with the first block that has another value,
    all go back to the type of the file. Values are the same in either, types are not.

    Args:
        rows: number of values.
        dtype: of the file.
        narrow: whether another type may be taken.
    """

    def __init__(self, rows: int, dtype: np.dtype[Any], narrow: bool = True) -> None:
        self._own = dtype
        self._at = 0
        self._values: NDArray[Any] = np.empty(rows, np.uint8 if narrow and dtype.kind in "iuf" and rows else dtype)

    def add(self, block: NDArray[Any]) -> None:
        """Append the next values ``[n]``, of the type of the file."""
        if self._values.dtype != self._own and len(block):
            self._widen(block)
        self._values[self._at : self._at + len(block)] = block
        self._at += len(block)

    def _widen(self, block: NDArray[Any]) -> None:
        kind = self._own
        whole = kind.kind != "f" or bool((np.isfinite(block) & (block == np.floor(block))).all())
        if whole:
            least, most = (np.min_scalar_type(int(each)) for each in (block.min(), block.max()))
            kind = np.result_type(self._values.dtype, least, most)
        if kind.kind not in "iu" or kind.itemsize >= self._own.itemsize:
            kind = self._own
        if kind != self._values.dtype:
            wider = np.empty(len(self._values), kind)
            wider[: self._at] = self._values[: self._at]
            self._values = wider

    def values(self) -> NDArray[Any]:
        """Return what was added."""
        return self._values[: self._at]


def compact(values: NDArray[Any]) -> NDArray[Any]:
    """Return a column ``[M]`` in the narrowest type that holds its values."""
    column = Column(len(values), values.dtype)
    for block in blocks(len(values)):
        column.add(values[block])
    return column.values()
