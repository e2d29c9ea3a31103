"""Sums of rows of a matrix in LLVM's own vectors, which stay in registers while the events of a sum go by.

As :mod:`~spikelfp.kernels.events.conv_vectors`, from which it differs by a start of the sum and rows of any width.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from spikelfp.kernels.events.conv_vectors import VECTOR, Body

WIDE = 4
"""Vectors of a row taken at once."""


def _weighted_rows(parts: int) -> Any:
    @intrinsic
    def weighted_rows(typing, source, source_at, total, total_at, rows, rows_at, pitch, keys, values, first, last):
        """``total = source + Σ value · row``; row of event ``i``: from ``rows_at + keys[i] · pitch`` of ``rows`` on."""

        def generate(context, builder, signature, arguments):
            body = Body(context, builder, signature, arguments)
            source, source_at, total, total_at, rows, rows_at, pitch, keys, values, first, last = body.arguments
            sums = [cgutils.alloca_once_value(builder, body.load(source, source_at, part)) for part in range(parts)]
            with body.events(first, last) as (event, _):
                at = body.row_of(keys, event, rows_at, pitch)
                value = body.everywhere(body.element(values, event))
                for part, held in enumerate(sums):
                    builder.store(body.plus_product(builder.load(held), value, body.load(rows, at, part)), held)
            for part, held in enumerate(sums):
                body.store(builder.load(held), total, total_at, part)
            return context.get_dummy_value()

        given = (source, source_at, total, total_at, rows, rows_at, pitch, keys, values, first, last)
        return types.void(*given), generate

    return weighted_rows


_wide, _narrow = _weighted_rows(WIDE), _weighted_rows(1)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def aligned(like, size):
    """A flat array of ``size`` elements that begins at a whole vector: one across two cache lines costs two loads."""
    room = np.empty(size + VECTOR // like.itemsize, like.dtype)
    at = -room.ctypes.data % VECTOR // like.itemsize
    return room[at : at + size]


@numba.njit(nogil=True, cache=True, error_model="numpy", forceinline=True)
def row_sum(source, source_at, total, total_at, width, rows, rows_at, pitch, keys, values, first, last, room):
    """``total = source + Σ value · row``, of ``width`` elements, in the order of the events ``first … last``.

    Arrays are flat. Of ``source`` and ``rows`` the last vector is read whole, of ``total`` no more than ``width`` is
    written. room: for a vector.
    """
    lanes = VECTOR // total.itemsize
    part = 0
    while part + WIDE * lanes <= width:
        _wide(source, source_at + part, total, total_at + part, rows, rows_at + part, pitch, keys, values, first, last)
        part += WIDE * lanes
    while part + lanes <= width:
        _narrow(
            source, source_at + part, total, total_at + part, rows, rows_at + part, pitch, keys, values, first, last
        )
        part += lanes
    if part < width:
        _narrow(source, source_at + part, room, 0, rows, rows_at + part, pitch, keys, values, first, last)
        for j in range(width - part):
            total[total_at + part + j] = room[j]


def padded(width: int, itemsize: int) -> int:
    """``width`` rounded up to whole vectors."""
    lanes = VECTOR // itemsize
    return -(-width // lanes) * lanes
