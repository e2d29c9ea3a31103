"""Frames, rates and counts of recordings, and an overview of a data set.

:mod:`spikelfp.report.recording` draws them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len

from spikelfp.data.events.binning import Binning, SparseFrames
from spikelfp.data.events.event import Events, Sensor
from spikelfp.data.events.recordings import EventSplits, Recordings, Unlabelled
from spikelfp.data.events.tally import Tally, tallied, told
from spikelfp.data.events.usual import joined_note
from spikelfp.errors import DataError, UserError
from spikelfp.terminal import plain


def time_edges(events: Events, parts: int, origin: int | None = None) -> NDArray[np.int64]:
    """Divide a recording into windows of equal length, to a µs, that hold all of its events.

    Args:
        events: ``[M]``, sorted by time.
        parts: number of windows.
        origin: beginning of the first in µs; ``None``: at the first event.

    Returns:
        Edges int64 ``[K + 1]`` in µs; window ``k`` is ``edges[k] <= t < edges[k + 1]``. ``K`` is ``parts``, or the
        number of µs of the recording if these are fewer.

    Raises:
        UserError: for no parts or no events.
    """
    if parts < 1 or len(events) == 0:
        raise UserError(
            f"a recording is cut into 1 part or more and has events, got {parts} parts, {len(events)} events"
        )
    first = int(events["t"][0]) if origin is None else origin
    span = int(events["t"][-1]) - first + 1
    parts = min(parts, span)
    # Python's numbers, since µs · parts can leave int64; rounded up, so that t is in window (t − first) · K // span
    return np.array([first - (-number * span // parts) for number in range(parts + 1)], dtype=np.int64)


def cut(events: Events, edges: NDArray[np.int64]) -> list[Events]:
    """Cut events into windows of time.

    Args:
        events: ``[M]``, sorted by time.
        edges: int64 ``[K + 1]`` in µs.

    Returns:
        The events of each window, as views.
    """
    places = np.searchsorted(events["t"], edges)
    return [events[begin:end] for begin, end in pairwise(places)]


def elements(events: Events, sensor: Sensor) -> NDArray[np.int64]:
    """Index ``(p · height + y) · width + x`` of each event in the flattened shape of the sensor, int64 ``[M]``."""
    rows = events["p"].astype(np.int64) * sensor.height + events["y"]
    return rows * sensor.width + events["x"]


def count(events: Events, sensor: Sensor) -> NDArray[Any]:
    """Count the events of every element: int64 of the shape of the sensor, ``[P, H, W]`` or ``[N]``."""
    return np.bincount(elements(events, sensor), minlength=sensor.size).reshape(sensor.shape)


def shrink(counts: NDArray[Any], most: int) -> NDArray[Any]:
    """Add up counts over square blocks of pixels.

    Args:
        counts: ``[P, H, W]``.
        most: longest side of the result.

    Returns:
        Counts ``[P, H', W']``; the given ones if no side is longer than ``most``.
    """
    height, width = counts.shape[-2:]
    block = -(-max(height, width) // most)
    if block == 1:
        return counts
    padded: NDArray[Any] = np.pad(counts, ((0, 0), (0, -height % block), (0, -width % block)))
    planes, rows, columns = padded.shape
    blocks: NDArray[Any] = padded.reshape(planes, rows // block, block, columns // block, block)
    return blocks.sum((2, 4))


def rates(events: Events, sensor: Sensor, edges: NDArray[np.int64]) -> NDArray[np.float64]:
    """Events per second of each polarity in every window: float64 ``[P, K]`` for edges ``[K + 1]`` in µs."""
    parts = cut(events, edges)
    totals = np.array([np.bincount(part["p"], minlength=sensor.polarities) for part in parts], dtype=np.float64)
    return totals.T * 1e6 / np.diff(edges)


def step_edges(events: Events, binning: Binning, steps: int) -> NDArray[np.int64]:
    """Find the time at which each step of a sequence began.

    Args:
        events: ``[M]`` that the sequence was made of.
        binning: that it was made by. By count, a step begins with its first event and ends where the next begins.
        steps: of the sequence.

    Returns:
        Times int64 ``[steps + 1]`` in µs, with the end of the last step. Where there are fewer µs than steps, the last
        steps have length 0.
    """
    first, end = int(events["t"][0]) if binning.origin is None else binning.origin, int(events["t"][-1]) + 1
    if binning.window is not None:
        return first + np.arange(steps + 1, dtype=np.int64) * binning.window
    if binning.count is not None:
        starts = events["t"][: steps * binning.count : binning.count]
        used = steps * binning.count
        last = int(events["t"][used]) if used < len(events) else end
        return np.append(starts, last).astype(np.int64)
    edges = time_edges(events, steps, first)
    return np.append(edges, np.full(steps + 1 - len(edges), end, dtype=np.int64))


def dense_steps(frames: SparseFrames, shape: Sequence[int], steps: Sequence[int], levels: int) -> NDArray[np.float32]:
    """Make some steps of a sparse sequence dense.

    Args:
        frames: the sequence.
        shape: of a step.
        steps: numbers of the steps ``[S]``.
        levels: count that becomes the value 1.

    Returns:
        Values float32 ``[S, *shape]`` in [0, 1].
    """
    size = int(np.prod(shape))
    values = np.zeros((len(steps), size), dtype=np.float32)
    for row, step in zip(values, steps, strict=True):
        begin, end = np.searchsorted(frames.places, [step * size, (step + 1) * size])
        row[frames.places[begin:end].astype(np.int64) - step * size] = frames.counts[begin:end] / levels
    return values.reshape(len(steps), *shape)


@dataclass(frozen=True)
class RecordingNumbers:
    """Summary of a recording.

    Attributes:
        events: their number.
        duration: µs from the first event to the last.
        rate: events per second; ``None`` where all are of one instant.
        on_share: share of ON events; ``None`` of a sensor with one polarity.
        active: share of pixels, or channels, with an event.
        hottest: column and row of the pixel with the most events; of a line, its channel and 0.
        hottest_events: how many it has, of both polarities.
    """

    events: int
    duration: int
    rate: float | None
    on_share: float | None
    active: float
    hottest: tuple[int, int]
    hottest_events: int


def per_pixel(events: Events, sensor: Sensor) -> NDArray[Any]:
    """Count the events of every pixel or channel, of both polarities: int64 ``[H, W]``, with ``H = 1`` for a line."""
    return count(events, sensor).reshape(sensor.polarities, sensor.height, sensor.width).sum(0)


def numbers_of(events: Events, sensor: Sensor) -> RecordingNumbers:
    """Summarise a recording ``[M]``.

    Raises:
        UserError: without events.
    """
    if len(events) == 0:
        raise UserError("a recording without events has no rate and no duration")
    pixels = per_pixel(events, sensor)
    row, column = divmod(int(pixels.argmax()), sensor.width)
    duration = int(events["t"][-1]) - int(events["t"][0])
    return RecordingNumbers(
        events=len(events),
        duration=duration,
        rate=len(events) * 1e6 / duration if duration else None,
        on_share=float(np.mean(events["p"] == 1)) if sensor.polarities == 2 else None,
        active=float(np.mean(pixels > 0)),
        hottest=(column, row),
        hottest_events=int(pixels[row, column]),
    )


NAMED_CLASSES = 40
"""Most classes that have a line each."""


class Spread(NamedTuple):
    """The smallest, the median and the largest of several values."""

    least: float
    median: float
    most: float


@dataclass(frozen=True)
class PartOverview:
    """One part of a data set.

    Attributes:
        name: ``train`` or ``test``.
        recordings: their number.
        per_class: number of recordings of each class.
        read: number of recordings, evenly chosen, that were read for the values below.
        events: in a recording.
        milliseconds: from the first event of a recording to the last.
        steps: of its sequence.
    """

    name: str
    recordings: int
    per_class: tuple[int, ...]
    read: int
    events: Spread
    milliseconds: Spread
    steps: Spread


@dataclass(frozen=True)
class Overview:
    """A data set of recordings.

    Attributes:
        name: of the data set.
        sensor: its size, as text.
        shape: of a step, as the network gets it.
        class_names: by label.
        parts: train and test.
        skipped: recordings that were left out, with the reason.
        notes: lines about what was divided, moved or left out otherwise.
    """

    name: str
    sensor: str
    shape: tuple[int, ...]
    class_names: tuple[str, ...]
    parts: tuple[PartOverview, ...]
    skipped: tuple[str, ...]
    notes: tuple[str, ...]


def overview(splits: EventSplits | Unlabelled, most: int = 200, skip_bad: bool = False) -> Overview:
    """Read some recordings of a data set, evenly chosen, and summarise them.

    Args:
        splits: the data set.
        most: recordings to read, of all parts together.
        skip_bad: leave out, and list, recordings that cannot be read or binned.

    Raises:
        UserError: for a ``most`` below the number of parts.
        DataError: for a part without a readable recording, and, unless ``skip_bad``, for the first recording that
            cannot be read.
    """
    parts = splits.parts
    first = next(iter(parts.values()))
    if most < len(parts):
        raise UserError(f"an overview reads a recording of each of the {len(parts)} parts or more, got {most}")
    skipped, notes = list(splits.skipped), list(splits.notes)
    notes += filter(None, [joined_note(first.sensor, splits.pipeline)])
    found = tuple(
        _part(name, part, splits, most // len(parts), skipped if skip_bad else None, notes)
        for name, part in parts.items()
    )
    return Overview(
        name=splits.name,
        sensor=str(first.sensor),
        shape=splits.pipeline.sensor(first.sensor).shape,
        class_names=first.class_names,
        parts=found,
        skipped=tuple(skipped),
        notes=tuple(notes),
    )


def _part(
    name: str,
    recordings: Recordings,
    splits: EventSplits | Unlabelled,
    most: int,
    skipped: list[str] | None,
    notes: list[str],
) -> PartOverview:
    """skipped: list for the errors of recordings; ``None``: they are raised. notes: to which lines are added."""
    if len(recordings) == 0:
        raise DataError(f"{recordings.name}: holds no recordings")
    chosen = np.unique(np.linspace(0, len(recordings) - 1, min(most, len(recordings))).round().astype(int))
    events, milliseconds, steps = [], [], []
    tally: Tally = {}
    for index in chosen.tolist():
        try:
            with tallied() as own:
                recording = recordings.read(index)
            try:
                frames = splits.pipeline(recording, recordings.sensor)
            except UserError as error:
                raise type(error)(f"{recordings.where(index)}: {error}") from error
        except DataError as error:
            if skipped is None:
                raise
            skipped.append(str(error))
            continue
        events.append(len(recording))
        milliseconds.append((int(recording["t"][-1]) - int(recording["t"][0])) / 1000)
        steps.append(frames.steps)
        if frames.late:
            own.setdefault(recordings.where(index), {})["late"] = frames.late
        for where, counts in own.items():
            tally.setdefault(where, {}).update(counts)
    if not events:
        raise DataError(f"{recordings.name}: none of {len(chosen)} recordings can be read: {(skipped or [''])[-1]}")
    notes += [f"{name}, {len(events):,} read: {line}" for line in told(tally)]
    classes = np.bincount(recordings.labels, minlength=len(recordings.class_names))
    return PartOverview(
        name=name,
        recordings=len(recordings),
        per_class=tuple(classes.tolist()),
        read=len(events),
        events=_spread(events),
        milliseconds=_spread(milliseconds),
        steps=_spread(steps),
    )


def _spread(values: Sequence[float]) -> Spread:
    return Spread(float(min(values)), float(np.median(values)), float(max(values)))


def overview_text(found: Overview) -> str:
    """Write an overview as lines of text, in columns."""
    classes = len(found.class_names)
    shape = " × ".join(map(str, found.shape))
    of_classes = f"{classes} classes" if classes else "no classes"
    lines = [f"{plain(found.name)}: {found.sensor}; a step is {shape}; {of_classes}", ""]
    rows = [["part", "recordings", "events", "milliseconds", "steps"]]
    for part in found.parts:
        spreads = [_spread_text(part.events), _spread_text(part.milliseconds), _spread_text(part.steps)]
        rows.append([part.name, f"{part.recordings:,}", *spreads])
    lines += [*_columns(rows), ""]
    if 0 < classes <= NAMED_CLASSES:
        rows = [["class", *(part.name for part in found.parts)]]
        for label, name in enumerate(found.class_names):
            rows.append([name, *(f"{part.per_class[label]:,}" for part in found.parts)])
        lines += [*_columns(rows), ""]
    elif classes:
        each = (f"{min(part.per_class):,} to {max(part.per_class):,} in {part.name}" for part in found.parts)
        lines += [f"recordings of a class: {', '.join(each)}", ""]
    read, total = sum(part.read for part in found.parts), sum(part.recordings for part in found.parts)
    which = f"all {total:,} recordings" if read == total else f"{read:,} of {total:,} recordings, evenly chosen"
    lines.append(f"events, milliseconds and steps: least / median / most of {which}")
    lines += [plain(note) for note in found.notes]
    if found.skipped:
        lines += [f"left out, cannot be read ({len(found.skipped)}):", *(f"  {plain(text)}" for text in found.skipped)]
    return "\n".join(lines)


def _spread_text(spread: Spread) -> str:
    if spread.least == spread.most:
        return _number(spread.most)
    return " / ".join(map(_number, spread))


def _number(value: float) -> str:
    """A number without an exponent, of at least four digits unless they are zeros after the point."""
    places = max(0, 4 - len(str(int(abs(value)))))
    text = f"{value:,.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _columns(rows: list[list[str]]) -> list[str]:
    """Rows as lines, the first column aligned to the left, the others to the right; some characters are two wide."""
    rows = [[plain(cell) for cell in row] for row in rows]
    widths = [max(cell_len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        first, *others = ((cell, " " * (width - cell_len(cell))) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join(["".join(first), *(gap + cell for cell, gap in others)]))
    return lines
