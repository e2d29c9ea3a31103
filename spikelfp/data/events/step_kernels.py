"""One step of a sequence while it is put together: events are added in any order and come out in that of their places.

Three arrays are kept: ``held`` uint16 ``[size]``, events of each element; ``bits`` uint64 ``[⌈size/64⌉]``, which
elements hold any; ``groups`` uint64 ``[⌈size/4096⌉]``, which words of ``bits`` are not zero. Between two steps all are
zero, so that a step costs what it holds and not what the sensor has. No sorting, and no array of all steps.

Everything is unsigned and written without asking first: whether an element holds events already cannot be guessed.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

Step = tuple[NDArray[np.uint16], NDArray[np.uint64], NDArray[np.uint64]]

_ZERO, _ONE, _SIX, _TWELVE, _LOW = (np.uint64(number) for number in (0, 1, 6, 12, 63))


def new_step(size: int) -> Step:
    """An empty step of ``size`` elements. Its pages are the system's zeros until they are written."""
    words = -(-size // 64)
    return np.zeros(size, np.uint16), np.zeros(words, np.uint64), np.zeros(-(-words // 64), np.uint64)


@intrinsic
def _trailing_zeros(typing_context: Any, word: Any) -> Any:
    """Position of the lowest bit of a uint64 that is not zero: one instruction."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        zero_may_be_anything = context.get_constant(types.boolean, True)
        return builder.cttz(arguments[0], zero_may_be_anything)

    return types.uint64(types.uint64), code


@numba.njit(nogil=True, cache=True, error_model="numpy")
def add(step, element, count, levels):
    """Add ``count`` events to ``element`` (uint64), which holds no more than ``levels``."""
    held, bits, groups = step
    held[element] = min(np.int64(held[element]) + count, levels)
    bits[element >> _SIX] |= _ONE << (element & _LOW)
    groups[element >> _TWELVE] |= _ONE << ((element >> _SIX) & _LOW)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def collect(step, first, places, counts, end):
    """Write what the step holds from entry ``end`` on, elements as ``first + element``, and empty it; the new end."""
    held, bits, groups = step
    first = np.uint64(first)
    for g in range(len(groups)):
        group = groups[g]
        while group != _ZERO:
            word = (np.uint64(g) << _SIX) + _trailing_zeros(group)
            group &= group - _ONE
            left = bits[word]
            while left != _ZERO:
                element = (word << _SIX) + _trailing_zeros(left)
                left &= left - _ONE
                places[end] = first + element
                counts[end] = held[element]
                held[element] = 0
                end += 1
            bits[word] = _ZERO
        groups[g] = _ZERO
    return end
