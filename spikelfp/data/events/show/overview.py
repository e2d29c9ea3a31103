"""A data set of recordings at a glance: its parts and classes, and what is in a recording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from rich.cells import cell_len

from spikelfp.data.events.binning import Pipeline
from spikelfp.data.events.event import Events
from spikelfp.data.events.recordings import EventSplits, Recordings
from spikelfp.errors import DataError, UserError
from spikelfp.terminal import plain

NAMED_CLASSES = 40
"""Up to so many classes have a line each."""


class Spread(NamedTuple):
    """The smallest, the middle and the largest of some values."""

    least: float
    median: float
    most: float


@dataclass(frozen=True)
class PartOverview:
    """One part of a data set.

    Attributes:
        recordings, per_class: their number, and how many of each class.
        read: recordings that the rest was found from, evenly chosen.
        events, milliseconds, steps: of a recording, and of its sequence.
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
    """A data set: the sensor in words, the shape of a step as a network gets it, classes, parts, files left out."""

    name: str
    sensor: str
    shape: tuple[int, ...]
    class_names: tuple[str, ...]
    parts: tuple[PartOverview, ...]
    skipped: tuple[str, ...]


def overview(splits: EventSplits, most: int = 200, skip_bad: bool = False) -> Overview:
    """Read at most ``most`` recordings of all parts together, evenly chosen, and say what is in them.

    skip_bad: leave out, and list, those of them that cannot be read or binned.

    Raises:
        UserError: for fewer than a recording of each part.
        DataError: for a part of which none of the recordings can be read, and, unless ``skip_bad``, for the first one
            that cannot be.
    """
    parts = {"train": splits.train, "test": splits.test}
    if most < len(parts):
        raise UserError(f"an overview reads a recording of each of the {len(parts)} parts or more, got {most}")
    skipped = list(splits.skipped)
    found = tuple(
        _part(name, part, splits, most // len(parts), skipped if skip_bad else None) for name, part in parts.items()
    )
    return Overview(
        name=splits.name,
        sensor=str(splits.train.sensor),
        shape=splits.pipeline.sensor(splits.train.sensor).shape,
        class_names=splits.train.class_names,
        parts=found,
        skipped=tuple(skipped),
    )


def _part(name: str, recordings: Recordings, splits: EventSplits, most: int, skipped: list[str] | None) -> PartOverview:
    """skipped: takes what is wrong with recordings; ``None``: that is raised."""
    if len(recordings) == 0:
        raise DataError(f"{recordings.name}: holds no recordings")
    chosen = np.unique(np.linspace(0, len(recordings) - 1, min(most, len(recordings))).round().astype(int))
    events, milliseconds, steps = [], [], []
    for index in chosen.tolist():
        try:
            recording, length = _read(recordings, index, splits.pipeline)
        except DataError as error:
            if skipped is None:
                raise
            skipped.append(str(error))
            continue
        events.append(len(recording))
        milliseconds.append((int(recording["t"][-1]) - int(recording["t"][0])) / 1000)
        steps.append(length)
    if not events:
        raise DataError(f"{recordings.name}: none of {len(chosen)} recordings can be read: {(skipped or [''])[-1]}")
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


def _read(recordings: Recordings, index: int, pipeline: Pipeline) -> tuple[Events, int]:
    """The events of a recording, and the steps of its sequence."""
    recording = recordings.read(index)
    try:
        return recording, pipeline(recording, recordings.sensor).steps
    except UserError as error:
        raise type(error)(f"{recordings.where(index)}: {error}") from error


def _spread(values: Sequence[float]) -> Spread:
    return Spread(float(min(values)), float(np.median(values)), float(max(values)))


def overview_text(found: Overview) -> str:
    """The overview as lines of text, in columns."""
    classes = len(found.class_names)
    shape = " × ".join(map(str, found.shape))
    lines = [f"{plain(found.name)}: {found.sensor}; a step is {shape}; {classes} classes", ""]
    rows = [["part", "recordings", "events", "milliseconds", "steps"]]
    for part in found.parts:
        spreads = [_words(part.events), _words(part.milliseconds), _words(part.steps)]
        rows.append([part.name, f"{part.recordings:,}", *spreads])
    lines += [*_columns(rows), ""]
    if classes <= NAMED_CLASSES:
        rows = [["class", *(part.name for part in found.parts)]]
        for label, name in enumerate(found.class_names):
            rows.append([name, *(f"{part.per_class[label]:,}" for part in found.parts)])
        lines += [*_columns(rows), ""]
    else:
        each = (f"{min(part.per_class):,} to {max(part.per_class):,} in {part.name}" for part in found.parts)
        lines += [f"recordings of a class: {', '.join(each)}", ""]
    read, total = sum(part.read for part in found.parts), sum(part.recordings for part in found.parts)
    which = f"all {total:,} recordings" if read == total else f"{read:,} of {total:,} recordings, evenly chosen"
    lines.append(f"events, milliseconds and steps: least / median / most of {which}")
    if found.skipped:
        lines += [f"left out, cannot be read ({len(found.skipped)}):", *(f"  {plain(text)}" for text in found.skipped)]
    return "\n".join(lines)


def _words(spread: Spread) -> str:
    if spread.least == spread.most:
        return _number(spread.most)
    return " / ".join(map(_number, spread))


def _number(value: float) -> str:
    """Without an exponent; four digits where some of them are behind the point."""
    places = max(0, 4 - len(str(int(abs(value)))))
    text = f"{value:,.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _columns(rows: list[list[str]]) -> list[str]:
    """Rows as lines, the first column to the left, the others to the right."""
    rows = [[plain(cell) for cell in row] for row in rows]
    widths = [max(cell_len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            [
                row[0] + _gap(row[0], widths[0]),
                *(_gap(cell, w) + cell for cell, w in zip(row[1:], widths[1:], strict=True)),
            ]
        )
        for row in rows
    ]


def _gap(cell: str, width: int) -> str:
    """The spaces that fill a cell up: some characters are two columns wide."""
    return " " * (width - cell_len(cell))
