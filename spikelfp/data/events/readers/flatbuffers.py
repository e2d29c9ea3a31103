"""Tables of FlatBuffers: what of them AEDAT 4 needs.

A table begins with the distance back to its list of fields: the length of the list in bytes, of the table, and for each
field how far into the table it stands (16 bits each), 0 or beyond the list for one left out. Source:
https://flatbuffers.dev/internals/.
"""

from __future__ import annotations

import struct


class Table:
    """The root table of ``data``; every access stays within it.

    Raises:
        ValueError: here and in all methods, for places outside of ``data``.
    """

    def __init__(self, data: memoryview) -> None:
        self.data = data
        self.start = self._read("<I", 0)
        self.fields = self.start - self._read("<i", self.start)
        self.length = self._read("<H", self.fields)

    def number(self, slot: int, layout: str, default: int) -> int:
        """The number in field ``slot``, or ``default`` if it is left out."""
        place = self._place(slot)
        return self._read(layout, place) if place else default

    def vector(self, slot: int, size: int) -> memoryview:
        """The bytes of the vector in field ``slot``, of elements of ``size`` bytes; none if it is left out."""
        place = self._place(slot)
        if not place:
            return self.data[:0]
        place += self._read("<I", place)
        end = place + 4 + self._read("<I", place) * size
        if end > len(self.data):
            raise ValueError(f"a vector ends at byte {end} of {len(self.data)}")
        return self.data[place + 4 : end]

    def _place(self, slot: int) -> int:
        at = 4 + 2 * slot
        offset = self._read("<H", self.fields + at) if at + 2 <= self.length else 0
        return self.start + offset if offset else 0

    def _read(self, layout: str, place: int) -> int:
        if not 0 <= place <= len(self.data) - struct.calcsize(layout):
            raise ValueError(f"byte {place} of {len(self.data)}")
        return int(struct.unpack_from(layout, self.data, place)[0])
