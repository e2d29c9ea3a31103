"""Decoders of event files, one event after the other, straight from the layouts in the modules of the readers.

Each takes the bytes behind the header and returns a list of ``(t, x, y, p)`` in the order of the file.
"""

from __future__ import annotations

Event = tuple[int, int, int, int]


def bits(word: int, high: int, low: int) -> int:
    """Bits ``high`` to ``low`` of ``word``, both included."""
    return (word >> low) % (1 << (high - low + 1))


def words(data: bytes, size: int, order: str = "little") -> list[int]:
    return [int.from_bytes(data[i : i + size], order) for i in range(0, len(data), size)]  # type: ignore[arg-type]


def atis_bin(data: bytes) -> list[Event]:
    found, late = [], 0
    for word in words(data, 5, "big"):
        if bits(word, 31, 24) == 240:
            late += 2**13
        else:
            found.append((bits(word, 22, 0) + late, bits(word, 39, 32), bits(word, 31, 24), bits(word, 23, 23)))
    return found


def bs1(data: bytes) -> list[Event]:
    return [(bits(w, 22, 0), bits(w, 39, 24), 0, bits(w, 23, 23)) for w in words(data, 5, "big")]


def dat(data: bytes, version: int) -> list[Event]:
    found, turns, last = [], 0, None
    pairs = words(data, 4)
    for t, a in zip(pairs[::2], pairs[1::2], strict=True):
        if last is not None and t - last < -(2**31):
            turns += 1
        if last is not None and t - last > 2**31:
            turns -= 1
        last = t
        place = (
            (bits(a, 13, 0), bits(a, 27, 14), bits(a, 28, 28))
            if version == 2
            else (
                bits(a, 8, 0),
                bits(a, 16, 9),
                bits(a, 17, 17),
            )
        )
        found.append((t + (turns << 32), *place))
    return found


def evt2(data: bytes) -> list[Event]:
    found, high, turns = [], None, 0
    for w in words(data, 4):
        if bits(w, 31, 28) == 8:
            new = bits(w, 27, 0)
            turns += turn(high, new, 28)
            high = new
        elif bits(w, 31, 28) in (0, 1) and high is not None:
            t = (max(turns, 0) << 34) + (high << 6) + bits(w, 27, 22)
            found.append((t, bits(w, 21, 11), bits(w, 10, 0), bits(w, 31, 28)))
    return found


def evt21(data: bytes) -> list[Event]:
    found, high, turns = [], None, 0
    for w in words(data, 8):
        if bits(w, 63, 60) == 8:
            new = bits(w, 59, 32)
            turns += turn(high, new, 28)
            high = new
        elif bits(w, 63, 60) in (0, 1) and high is not None:
            t = (max(turns, 0) << 34) + (high << 6) + bits(w, 59, 54)
            for i in range(32):
                if bits(w, i, i):
                    found.append((t, bits(w, 53, 43) + i, bits(w, 42, 32), bits(w, 63, 60)))
    return found


def evt3(data: bytes) -> list[Event]:
    found: list[Event] = []
    high = y = base = None
    turns = low = p = 0

    def add(x: int, polarity: int) -> None:
        if high is not None and y is not None:
            found.append(((turns << 24) + (high << 12) + low, x, y, polarity))

    for w in words(data, 2):
        kind, value = bits(w, 15, 12), bits(w, 11, 0)
        if kind == 0:
            y = bits(w, 10, 0)
        elif kind == 2:
            add(bits(w, 10, 0), bits(w, 11, 11))
        elif kind == 3:
            base, p = bits(w, 10, 0), bits(w, 11, 11)
        elif kind in (4, 5) and base is not None:
            length = 12 if kind == 4 else 8
            for i in range(length):
                if bits(w, i, i):
                    add(base + i, p)
            base += length
        elif kind == 6:
            low = value
        elif kind == 8:
            if high is not None:
                turns = max(0, turns + turn(high, value, 12))
            if value != high:
                low = 0
            high = value
    return found


def turn(before: int | None, after: int, width: int) -> int:
    """1 if a counter of ``width`` bits has begun again, -1 if it has gone back over its beginning, else 0."""
    if before is None or abs(after - before) <= 1 << (width - 1):
        return 0
    return 1 if after < before else -1


def aedat2(data: bytes, chip: str) -> list[Event]:
    found, turns, last = [], 0, None
    pairs = words(data, 4, "big")
    for a, t in zip(pairs[::2], pairs[1::2], strict=True):
        if last is not None and t - last < -(2**31):
            turns += 1
        if last is not None and t - last > 2**31:
            turns -= 1
        last = t
        if chip == "DVS128":
            if bits(a, 31, 15) == 0:
                found.append((t + (turns << 32), 127 - bits(a, 7, 1), 127 - bits(a, 14, 8), 1 - bits(a, 0, 0)))
        elif not bits(a, 31, 31) and not bits(a, 10, 10):
            width, height = {"DAVIS240C": (240, 180), "Davis346B": (346, 260)}[chip]
            x, y = width - 1 - bits(a, 21, 12), height - 1 - bits(a, 30, 22)
            found.append((t + (turns << 32), x, y, bits(a, 11, 11)))
    return found


def aedat3(data: bytes) -> list[Event]:
    found, at = [], 0
    while at < len(data):
        header = data[at : at + 28]
        kind = int.from_bytes(header[0:2], "little")
        size, overflow, capacity, number = (int.from_bytes(header[i : i + 4], "little") for i in (4, 12, 16, 20))
        body = data[at + 28 : at + 28 + capacity * size]
        for i in range(number):
            w, t = words(body[i * size : i * size + 8], 4) if kind == 1 else (0, 0)
            if kind == 1 and bits(w, 0, 0):
                found.append((t + overflow * 2**31, bits(w, 31, 17), bits(w, 16, 2), bits(w, 1, 1)))
        at += 28 + capacity * size
    return found


def event_stream(data: bytes, height: int) -> list[Event]:
    found, now, at = [], 0, 0
    while at < len(data):
        if data[at] == 255:
            now, at = now + 127, at + 1
        elif data[at] == 254:
            at += 1
        else:
            now += bits(data[at], 7, 1)
            x, y = words(data[at + 1 : at + 5], 2)
            found.append((now, x, height - 1 - y, bits(data[at], 0, 0)))
            at += 5
    return found
