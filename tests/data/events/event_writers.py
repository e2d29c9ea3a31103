"""Tiny writers of the formats that the readers take, and the content that tests write with them."""

from __future__ import annotations

import struct
from collections.abc import Iterable

import numpy as np
from hypothesis import strategies as st

Event = tuple[int, int, int, int]
PROPHESEE = "% Date 2024-01-01 00:00:00\n"


def event_lists(
    width: int, height: int, latest: int, gap: int = 5000, most: int = 40
) -> st.SearchStrategy[list[Event]]:
    """1 to ``most`` events on a sensor in order of time, up to ``gap`` µs apart, none after ``latest``."""
    step = st.tuples(st.integers(0, gap), st.integers(0, width - 1), st.integers(0, height - 1), st.integers(0, 1))

    def add_up(steps: list[Event]) -> list[Event]:
        times = np.cumsum([each[0] for each in steps])
        return [(int(t), *each[1:]) for t, each in zip(times, steps, strict=True) if t <= latest]

    return st.lists(step, min_size=1, max_size=most).map(add_up).filter(bool)


def atis_bin(events: Iterable[Event]) -> bytes:
    return b"".join((x << 32 | y << 24 | p << 23 | t).to_bytes(5, "big") for t, x, y, p in events)


def bs1(events: Iterable[Event]) -> bytes:
    return b"".join((x << 24 | p << 23 | t).to_bytes(5, "big") for t, x, _, p in events)


def dat(events: Iterable[Event], version: int = 2, size: tuple[int, int] | None = None, kind: int = 12) -> bytes:
    lines = [f"% Version {version}"] + ([f"% Width {size[0]}", f"% Height {size[1]}"] if size else [])
    body = b"".join(
        struct.pack("<II", t % 2**32, p << 28 | y << 14 | x if version == 2 else p << 17 | y << 9 | x)
        for t, x, y, p in events
    )
    return "".join(f"{line}\n" for line in lines).encode() + bytes([kind, 8]) + body


def raw(words: Iterable[int], encoding: str, header: str | None = None) -> bytes:
    """``words`` behind a header; ``encoding`` is 2, 2.1 or 3."""
    size = {"2": 4, "2.1": 8, "3": 2}[encoding]
    text = PROPHESEE + (f"% evt {encoding}\n" if header is None else header)
    return text.encode() + b"".join(word.to_bytes(size, "little") for word in words)


def evt2_words(events: Iterable[Event]) -> list[int]:
    found, high = [], None
    for t, x, y, p in events:
        if t >> 6 != high:
            high = t >> 6
            found.append(8 << 28 | high % 2**28)
        found.append(p << 28 | t % 64 << 22 | x << 11 | y)
    return found


def evt21_words(events: Iterable[Event]) -> list[int]:
    """One word an event, whose pixel is the highest bit that there is room for in front of it."""
    found, high = [], None
    for t, x, y, p in events:
        if t >> 6 != high:
            high = t >> 6
            found.append(8 << 60 | high % 2**28 << 32)
        place = min(x, 31)
        found.append(p << 60 | t % 64 << 54 | x - place << 43 | y << 32 | 1 << place)
    return found


def evt3_words(events: Iterable[Event], vectors: bool = False) -> list[int]:
    found: list[int] = []
    high = low = row = None
    for t, x, y, p in events:
        if t >> 12 != high:
            high, low = t >> 12, None
            found.append(8 << 12 | high % 2**12)
        if t % 2**12 != low:
            low = t % 2**12
            found.append(6 << 12 | low)
        if y != row:
            row = y
            found.append(y)
        if vectors:
            place = min(x, 19)
            rest = [4 << 12, 5 << 12 | 1 << (place - 12)] if place >= 12 else [4 << 12 | 1 << place]
            found += [3 << 12 | p << 11 | x - place, *rest]
        else:
            found.append(2 << 12 | p << 11 | x)
    return found


def aedat2(events: Iterable[Event], chip: str | None = "DVS128", extra: bytes = b"", version: str = "2.0") -> bytes:
    lines = [f"#!AER-DAT{version}", "# This is a raw AE data file - do not edit"]
    lines += [f"# AEChip: eu.seebetter.ini.chips.davis.{chip}"] if chip else []
    body = b""
    for t, x, y, p in events:
        if chip in ("DVS128", None):
            address = (127 - y) << 8 | (127 - x) << 1 | 1 - p
        else:
            width, height = {"DAVIS240C": (240, 180), "Davis346B": (346, 260)}[chip]
            address = (height - 1 - y) << 22 | (width - 1 - x) << 12 | p << 11
        body += struct.pack(">II" if version == "2.0" else ">HI", address, t % 2**32)
    return "".join(f"{line}\r\n" for line in lines).encode() + extra + body


def aedat3_packet(events: Iterable[Event], kind: int = 1, room: int = 0, valid: int = 1, overflow: int = 0) -> bytes:
    body = b"".join(struct.pack("<II", x << 17 | y << 2 | p << 1 | valid, t) for t, x, y, p in events)
    number = len(body) // 8
    header = struct.pack("<hhiiiiii", kind, 1, 8, 4, overflow, number + room, number, number * valid)
    return header + body + bytes(8 * room)


def aedat3(packets: Iterable[bytes], version: str = "3.1", source: str = "DVS128") -> bytes:
    lines = [f"#!AER-DAT{version}", "#Format: RAW", f"#Source 1: {source}", "#Start-Time: 2016-01-01 00:00:00"]
    lines += ["#!END-HEADER"] if version == "3.1" else []
    return "".join(f"{line}\r\n" for line in lines).encode() + b"".join(packets)


def event_stream(events: Iterable[Event], width: int, height: int, kind: int = 1) -> bytes:
    body, now = b"", 0
    for t, x, y, p in events:
        while t - now >= 127:
            body += b"\xff"
            now += 127
        body += struct.pack("<BHH", (t - now) << 1 | p, x, height - 1 - y)
        now = t
    return b"Event Stream\x02\x00\x00" + struct.pack("<BHH", kind, width, height) + body
