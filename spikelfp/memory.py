"""Memory that is used again.

A training step asks for the same large arrays as the step before. Handed back to the system in between, every page of
them is mapped and cleared anew, which costs more than a scan over it. Here they are kept, and given out again as soon
as no tensor uses them any more. What is kept and what is in use together never exceed the most that was in use at once.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_LARGE = 1 << 20  # bytes from which on an array is kept
_LINE = 64  # bytes of a cache line


class Pool:
    """Memory that comes back when the last tensor on it is gone; from any thread."""

    def __init__(self) -> None:
        self.used = 0
        """Bytes in use."""
        self.most = 0
        """The most bytes that were in use at once."""
        self._idle: list[np.ndarray] = []  # those that came back first stand first
        self._lock = threading.RLock()  # a tensor may die, and its array come back, while one is given out

    @property
    def idle(self) -> int:
        """Bytes kept for the next who asks."""
        return sum(array.nbytes for array in self._idle)

    def bytes(self, size: int) -> Tensor:
        """``size`` bytes, with anything in them, aligned to a cache line: uint8 ``[size]``."""
        room = size + _LINE
        with self._lock:
            for place in reversed(range(len(self._idle))):
                if self._idle[place].nbytes == room:
                    whole = self._idle.pop(place)
                    break
            else:
                while self._idle and self.used + self.idle + room > max(self.most, self.used + room):
                    self._idle.pop(0)
                whole = np.empty(room, np.uint8)
            self.used += room
            self.most = max(self.most, self.used)
        first = -whole.ctypes.data % _LINE
        given = whole[first : first + size]  # the tensor's storage holds this very array, and nobody else does
        weakref.finalize(given, self._back, whole).atexit = False
        return torch.from_numpy(given)

    def _back(self, whole: np.ndarray) -> None:
        with self._lock:
            self.used -= whole.nbytes
            self._idle.append(whole)

    def release(self) -> None:
        """Give what is not in use back to the system."""
        with self._lock:
            self._idle.clear()
            self.most = self.used


pool = Pool()


def empty(shape: Sequence[int], like: Tensor) -> Tensor:
    """A tensor of ``shape`` with anything in it, of the dtype and on the device of ``like``.

    Large ones on the CPU come from :data:`pool`.
    """
    size = like.element_size() * math.prod(shape)
    if size < _LARGE or like.device.type != "cpu":
        return like.new_empty(shape)
    return pool.bytes(size).view(like.dtype).view(*shape)
