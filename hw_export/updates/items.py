"""The heads of a CBOR body, looked at before anything is made of it.

A decoder takes what the heads claim: an array of 2⁶⁰ elements, a text that is referred to a thousand times (tags 25 and
29), a fraction with an exponent of a million digits. Streams have none of these.
"""

from __future__ import annotations

from hw_export.updates.packing import TYPES
from spikelfp.errors import DataError

DEEPEST = 8
"""Arrays and maps within each other; a header has four."""

MOST_ITEMS = 1 << 20
"""Items of a body; an array of numbers is one."""

_WIDTHS = {24: 1, 25: 2, 26: 4, 27: 8}
_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)


def check_items(body: bytes) -> None:
    """Check that every item lies within the body, and is of a kind that streams have (RFC 8949, section 3).

    Raises:
        DataError: for items that claim more than is there, are of other tags, lie deep or are too many.
    """
    at, left = 0, [1]
    for number in range(MOST_ITEMS):
        while left and left[-1] == 0:
            left.pop()
        if not left:
            return
        if at >= len(body):
            raise DataError("its content ends within an item: damaged")
        left[-1] -= 1
        kind, value = body[at] >> 5, body[at] & 31
        at += 1
        if value in _WIDTHS:
            width = _WIDTHS[value]
            value = int.from_bytes(body[at : at + width], "big")
            at += width
        elif value > 27:
            raise DataError(f"item {number} of its content has no definite length")
        if kind in (_BYTES, _TEXT):
            at += value
        elif kind == _TAG:
            if value not in TYPES:
                raise DataError(f"item {number} of its content has the tag {value}, which streams do not have")
            left.append(1)
        elif kind in (_ARRAY, _MAP):
            left.append(value * (2 if kind == _MAP else 1))
        if at > len(body) or left[-1] > len(body) - at:
            raise DataError(f"item {number} of its content claims more than the {len(body)} bytes there are: damaged")
        if len(left) > DEEPEST:
            raise DataError(f"items of its content lie more than {DEEPEST} deep: made to fill the memory")
    raise DataError(f"its content has more than {MOST_ITEMS} items: made to fill the memory")
