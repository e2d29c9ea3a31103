"""The figures of a recording with their words, in the order of the sheet and the page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from spikelfp.data.events.binning import SparseFrames
from spikelfp.data.events.show import per_pixel, rates, some_steps, time_edges
from spikelfp.report import wording
from spikelfp.report.recording import figures, pictures, units
from spikelfp.report.recording.facts import Recording, is_camera
from spikelfp.report.theme import HALF, WIDE

Array = np.ndarray[Any, Any]

SHOWN_STEPS = 7
"""Steps of a sequence that are drawn beside the events, at most."""

CELLS, ROWS = 900, 240
"""Columns and rows of a sequence of a line of channels, at most; more are drawn together, the largest value counts."""


@dataclass(frozen=True)
class Panel:
    """A figure, to be drawn for a theme, with its words; ``text`` describes it to who cannot see it."""

    title: str
    caption: str
    text: str
    draw: Callable[..., Figure]
    wide: bool = False


def over_time(recording: Recording) -> Panel:
    """A camera's accumulated events, picture by picture; the raster of a line of channels."""
    span = recording.numbers.duration + 1
    if recording.is_camera:
        height, width = recording.sensor.height, recording.sensor.width
        edges = time_edges(recording.events, 2 * pictures.columns_for(height, width))
        zero = edges[0]
        captions = [units.between(begin - zero, end - zero, span) for begin, end in pairwise(edges)]
        each = units.duration((edges[-1] - zero) / (len(edges) - 1))
        return Panel(
            "Picture by picture",
            f"All events of {each} in one picture; the brighter, the more.",
            f"{len(captions)} pictures of accumulated events",
            partial(pictures.frames, recording.frames(edges), captions),
            wide=True,
        )
    scale, unit = units.scale_of(span)
    after = (recording.events["t"] - recording.events["t"][0]) / scale
    count = recording.numbers.events
    if count <= figures.ALL_EVENTS:
        caption = "A tick is an event."
    else:
        caption = f"{count:,} events are too many for a tick each: the stronger the colour, the more of them."
    return Panel(
        "Channel by channel",
        caption + _rows_of(recording),
        f"Events of {recording.line.width} channels over {units.duration(span)}",
        partial(figures.raster, after, recording.elements, recording.line.width, span / scale, unit),
        wide=True,
    )


def rate(recording: Recording, width: float = HALF) -> Panel:
    """Events per second over time."""
    edges = recording.rate_edges
    scale, unit = units.scale_of(recording.numbers.duration + 1)
    per_second = rates(recording.events, recording.sensor, edges)
    each = units.duration((edges[-1] - edges[0]) / (len(edges) - 1))
    mean = "" if recording.numbers.rate is None else f"; {words_rate(recording.numbers.rate)} on average"
    return Panel(
        "How many events when",
        f"in windows of {each}{mean}",
        f"Event rate over time, at most {units.short_number(per_second.sum(0).max())} events per second",
        partial(figures.rates, per_second, (edges - edges[0]) / scale, unit, width=width),
        wide=width == WIDE,
    )


def where(recording: Recording) -> list[Panel]:
    """How the events spread over the pixels or channels; hot ones stand out."""
    numbers = recording.numbers
    if not recording.is_camera:
        counts = np.bincount(recording.elements, minlength=recording.line.width)
        hottest = int(counts.argmax())
        caption = f"most in channel {hottest}: {counts[hottest]:,} of {numbers.events:,}"
        silent = int((counts == 0).sum())
        if silent:
            caption += f"; none in {silent:,} of {len(counts):,}"
        text = f"Events of {len(counts)} channels, {caption}"
        return [Panel("How many events in which channel", caption, text, partial(figures.per_channel, counts))]
    counts = per_pixel(recording.events, recording.sensor)
    column, row = numbers.hottest
    most = wording.plural(numbers.hottest_events, "event")
    place = f"the ring is around the one with the most: {most} at column {column}, row {row}"
    share = f"{wording.percent(numbers.active)} of the pixels have an event"
    return [
        Panel(
            "Where the events are",
            f"events of each pixel; {place}",
            f"Events of each pixel as a picture; {place}",
            partial(pictures.pixel_map, counts, numbers.hottest),
        ),
        Panel(
            "How many events of how many pixels",
            f"{share}; a hot pixel would stand far to the right",
            f"Histogram of the events of a pixel; {share}",
            partial(figures.per_pixel, counts),
        ),
    ]


def seen(recording: Recording) -> Panel:
    """The sequence that a network gets: beside the events, or of a line over the same time."""
    sequence, sensor, binning = recording.sequence, recording.seen, recording.pipeline.binning
    edges, zero = recording.step_edges, recording.events["t"][0]
    filled = len(sequence.places) / (sequence.steps * sensor.size)
    shape = " × ".join(map(str, sensor.shape))
    caption = f"{units.binned(binning, sequence.steps)}. A step is {shape}; {wording.percent(filled)} of it is not 0."
    text = f"The sequence that a network gets: {caption}"
    span = recording.numbers.duration + 1
    if recording.is_camera and is_camera(sensor):
        columns = pictures.columns_for(recording.sensor.height, recording.sensor.width, SHOWN_STEPS)
        chosen = np.unique(np.linspace(0, sequence.steps - 1, min(columns, sequence.steps)).round().astype(int))
        captions = [f"step {k + 1}\n{units.between(edges[k] - zero, edges[k + 1] - zero, span)}" for k in chosen]
        raw = [recording.frames(edges[k : k + 2])[0] for k in chosen]
        values = some_steps(sequence, sensor.shape, chosen.tolist(), binning.levels)
        draw = partial(pictures.beside, raw, list(values), captions)
        if len(chosen) < sequence.steps:
            caption += f" {len(chosen)} of the steps are shown."
        return Panel("What a network gets", caption, text, draw, wide=True)
    scale, unit = units.scale_of(span)
    coarse, begins = _coarse(sequence, sensor.size, binning.levels)
    across = (edges[begins] - zero) / scale
    draw = partial(figures.steps, coarse, across, sensor.size, max(span / scale, across[-1]), unit)
    return Panel("What a network gets", caption, text, draw, wide=True)


def _coarse(sequence: SparseFrames, size: int, levels: int) -> tuple[Array, Array]:
    """The values ``[K, N]`` of a sequence, with few enough steps and channels to draw, and the steps where the ``K``
    begin, and the end: ``[K + 1]``."""
    columns, rows = min(sequence.steps, CELLS), min(size, ROWS)
    values = np.zeros((columns, rows), dtype=np.float32)
    places = sequence.places.astype(np.int64)
    across, down = places // size * columns // sequence.steps, places % size * rows // size
    np.maximum.at(values, (across, down), sequence.counts / np.float32(levels))
    return values, -(-np.arange(columns + 1) * sequence.steps // columns)


def _rows_of(recording: Recording) -> str:
    """What the channels are, where a sensor has several polarities."""
    sensor = recording.sensor
    if sensor.is_line:
        return ""
    return f" Channels 0 to {sensor.size // sensor.polarities - 1} are the OFF events, those above the ON events."


def words_rate(per_second: float) -> str:
    """A rate in words."""
    return f"{units.short_number(per_second)} events per second"
