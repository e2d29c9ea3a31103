"""Binning, filters and augmentation of events, one event at a time, written from their definitions."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np

from spikelfp.data.events import EVENT, Binning, Sensor

MASK = 2**64 - 1


def events_of(rows: list[tuple[int, int, int, int]]) -> np.ndarray:
    """Events from ``(t, x, y, p)``, sorted by time."""
    made = np.zeros(len(rows), EVENT)
    for place, (t, x, y, p) in enumerate(sorted(rows, key=lambda row: row[0])):
        made[place] = (t, x, y, p)
    return made


def rows_of(events: np.ndarray) -> list[tuple[int, int, int, int]]:
    """``(t, x, y, p)`` of each event."""
    return [(int(e["t"]), int(e["x"]), int(e["y"]), int(e["p"])) for e in events]


def bin_slow(events: np.ndarray, sensor: Sensor, binning: Binning) -> tuple[dict[int, int], int]:
    """``({place: count}, steps)`` of what is not zero."""
    rows = rows_of(events)
    if not rows:
        return {}, binning.bins or 1
    first, last = rows[0][0] if binning.origin is None else binning.origin, rows[-1][0]
    found: Counter[int] = Counter()
    steps = 0
    for number, (t, x, y, p) in enumerate(rows):
        if binning.bins:
            step = (t - first) * binning.bins // (last - first + 1)
        elif binning.window:
            step = (t - first) // binning.window
        else:
            step = number // binning.count
        steps = max(steps, step + 1)
        if binning.most is not None and step >= binning.most:
            steps = binning.most
            continue
        found[step * sensor.size + (p * sensor.height + y) * sensor.width + x] += 1
    return {place: min(count, binning.levels) for place, count in found.items()}, binning.bins or steps


def denoise_slow(events: np.ndarray, window: int) -> list[tuple[int, int, int, int]]:
    """Events of which one of the four pixels beside was active less than ``window`` before; all pixels were at 0."""
    rows = rows_of(events)
    columns, lines = max(x for _, x, _, _ in rows) + 1, max(y for _, _, y, _ in rows) + 1
    kept = []
    for number, (t, x, y, p) in enumerate(rows):
        for beside in ((x - 1, y), (x + 1, y), (x, y - 1), (x, y + 1)):
            if not (0 <= beside[0] < columns and 0 <= beside[1] < lines):
                continue
            active = [0] + [row[0] for row in rows[:number] if row[1:3] == beside]
            if t - active[-1] < window:
                kept.append((t, x, y, p))
                break
    return kept


def refractory_slow(events: np.ndarray, period: int) -> list[tuple[int, int, int, int]]:
    """Events more than ``period`` behind the one before at their pixel, and the first of each pixel."""
    rows, kept = rows_of(events), []
    for number, row in enumerate(rows):
        before = [other[0] for other in rows[:number] if other[1:3] == row[1:3]]
        if not before or row[0] - before[-1] > period:
            kept.append(row)
    return kept


def decimate_slow(events: np.ndarray, every: int) -> list[tuple[int, int, int, int]]:
    """Events whose number at their pixel, from 1 on, is a multiple of ``every``."""
    rows = rows_of(events)
    return [
        row
        for number, row in enumerate(rows)
        if sum(other[1:3] == row[1:3] for other in rows[: number + 1]) % every == 0
    ]


def hot_slow(events: np.ndarray, rate: float) -> list[tuple[int, int, int, int]]:
    """Events of pixels with no more than ``rate`` events in a second of the recording."""
    rows = rows_of(events)
    per_pixel = Counter(row[1:3] for row in rows)
    return [row for row in rows if per_pixel[row[1:3]] <= rate * (rows[-1][0] - rows[0][0]) * 1e-6]


def mix(number: int) -> int:
    """The finaliser of SplitMix64."""
    number = (number ^ (number >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    number = (number ^ (number >> 27)) * 0x94D049BB133111EB & MASK
    return number ^ (number >> 31)


class Stream:
    """Outputs of SplitMix64 from a key."""

    def __init__(self, key: int, constant: int, behind: int = 1) -> None:
        self.key, self.number = mix(key ^ constant), behind

    def __next__(self) -> int:
        value = mix((self.key + self.number * 0x9E3779B97F4A7C15) & MASK)
        self.number += 1
        return value


def change_slow(
    frames: dict[int, int], steps: int, sensor: Sensor, levels: int, change: np.void, key: int
) -> dict[int, int]:
    """``{place: count}`` after a change, event by event, in the order in which the fast one draws."""
    height, width = (1, *sensor.shape)[-2:]
    drop, jitter = Stream(key, 0xA5A5B7C1D3E5F701), Stream(key, 0x3C6EF372FE94F82B)
    found: Counter[int] = Counter()
    reach = int(change["jitter"])
    for t in range(steps):
        source = t - int(change["dt"])
        if change["wrap"]:
            source %= steps
        for place in sorted(frames):
            step, element = divmod(place, sensor.size)
            if step != source:
                continue
            kept = frames[place]
            if change["drop"] > 0:
                kept = sum(next(drop) >> 32 < int((1 - float(change["drop"])) * 2**32) for _ in range(frames[place]))
            for _ in range(kept):
                p, y, x = element // (height * width), element // width % height, element % width
                if reach:
                    bits = next(jitter)
                    x += ((bits & (2**32 - 1)) * (2 * reach + 1) >> 32) - reach
                    if height > 1:
                        y += ((bits >> 32) * (2 * reach + 1) >> 32) - reach
                    if not (0 <= x < width and 0 <= y < height):
                        continue
                x = width - 1 - x if change["mirror"] else x
                y = height - 1 - y if change["upside_down"] else y
                p = 1 - p if change["swap"] else p
                x, y = x + int(change["dx"]), y + (int(change["dy"]) if height > 1 else 0)
                if 0 <= x < width and 0 <= y < height:
                    found[t * sensor.size + (p * height + y) * width + x] += 1
    if change["noise"] > 0:
        noise, place = Stream(key, 0xDAA66D2C7DDF743F, behind=0), -1
        while True:
            uniform = ((next(noise) >> 11) + 0.5) * 2.0**-53
            place += 1 + math.floor(math.log(uniform) / math.log1p(-float(change["noise"])))
            if place >= steps * sensor.size:
                break
            found[place] += 1
    return {place: min(count, levels) for place, count in found.items()}
