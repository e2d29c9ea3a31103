"""What a Zstandard frame unpacks to at most, from the sizes of its blocks. Source: RFC 8878."""

from __future__ import annotations

MARK = b"\x28\xb5\x2f\xfd"
_LARGEST = 1 << 17


def bound(frame: bytes) -> int | None:
    """Bytes that ``frame`` unpacks to at most; ``None`` for content that is no whole frame."""
    if len(frame) < 6 or not frame.startswith(MARK):
        return None
    flags = frame[4]
    single = bool(flags & 0x20)
    content = (1 if single else 0, 2, 4, 8)[flags >> 6]
    at = 5 + (0 if single else 1) + (0, 1, 2, 4)[flags & 3] + content
    total = 0
    while at + 3 <= len(frame):
        block = int.from_bytes(frame[at : at + 3], "little")
        kind, size = block >> 1 & 3, block >> 3
        if kind == 3:
            return None
        at += 3 + (1 if kind == 1 else size)
        total += _LARGEST if kind == 2 else size
        if block & 1:
            return total if at <= len(frame) else None
    return None
