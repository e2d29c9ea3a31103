"""Events and the sensor they come from: the array that every reader returns and that everything else takes."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikelfp import checks
from spikelfp.errors import DataError, UserError
from spikelfp.terminal import brief

EVENT = np.dtype([("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "u1")], align=True)
"""Type of one event: time ``t`` in µs; column ``x`` and row ``y`` of the sensor, from its top left corner; polarity
``p``, 1 for ON and 0 for OFF. On a line of channels, such as a cochlea, ``x`` is the channel, ``y`` and ``p`` are 0."""

Events = NDArray[Any]
"""Events ``[M]`` of dtype :data:`EVENT`, sorted by time."""


@dataclass(frozen=True)
class Sensor:
    """Size of a sensor: its events have ``x < width``, ``y < height`` and ``p < polarities``.

    Attributes:
        width: columns, or channels of a line.
        height: rows, 1 for a line of channels.
        polarities: 1, or 2 for ON and OFF.

    Raises:
        UserError: for a size below 1, or polarities other than 1 and 2.
    """

    width: int
    height: int = 1
    polarities: int = 1

    def __post_init__(self) -> None:
        for name in ("width", "height", "polarities"):
            checks.whole(f"the {name} of a sensor", getattr(self, name), None)
        if not (1 <= self.width <= 2**16 and 1 <= self.height <= 2**16):
            raise UserError(f"a sensor has 1 to 65536 columns and rows, got {self.width} x {self.height}")
        if self.polarities not in (1, 2):
            raise UserError(f"a sensor tells 1 or 2 polarities apart, got {self.polarities}")

    @classmethod
    def from_text(cls, text: str) -> Sensor:
        """Read a size as users write it.

        Args:
            text: ``346x260`` of a camera with ON and OFF, ``346x260x1`` with one polarity; ``700`` of a line of
                channels.

        Raises:
            UserError: for another text, or a size that no sensor has.
        """
        sizes = re.fullmatch(r"(\d{1,6})(?:[x×](\d{1,6})(?:[x×]([12]))?)?", text.strip().lower())
        if sizes is None:
            raise UserError(f"a sensor is written as width x height, such as 346x260, or 700 channels, got {text!r}")
        width, height, polarities = sizes.groups()
        return cls(int(width)) if height is None else cls(int(width), int(height), int(polarities or 2))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one step of a sequence: ``(polarities, height, width)``, or ``(width,)`` for a line of channels."""
        return (self.width,) if self.is_line else (self.polarities, self.height, self.width)

    @property
    def is_line(self) -> bool:
        """Whether the sensor is a line of channels and not a camera."""
        return self.height == 1 and self.polarities == 1

    @property
    def size(self) -> int:
        """Number of elements of one step."""
        return math.prod(self.shape)

    def __str__(self) -> str:
        if self.is_line:
            return f"{self.width} channels"
        return f"{self.width} x {self.height} pixels, {self.polarities} polarit{'y' if self.polarities == 1 else 'ies'}"


@dataclass(frozen=True)
class FileLayout:
    """Layout of files of columns, as far as a user states it; what is left out is found out by the content.

    Attributes:
        table: name of the group, struct, array or stream that holds the events, such as ``"davis/right/events"``;
            ``"events[3]"`` is the fourth recording of an archive that holds several.
        columns: names of columns that have none in the file, in their order, such as ``("x", "y", "t", "p")``.
        first_pixel: number of the first column and row, 0 or 1, in files of MATLAB.

    Raises:
        UserError: for columns without t and x, other ones than t, x, y, p or one given twice; for another first pixel.
    """

    table: str | None = None
    columns: tuple[str, ...] | None = None
    first_pixel: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.table, str | None):
            raise UserError(f"the table of events is named by text, got {brief(self.table)}")
        if not isinstance(self.columns, tuple | None):
            raise UserError(f"columns are a tuple of names, such as ('x', 'y', 't', 'p'), got {brief(self.columns)}")
        names = self.columns
        if names is not None and not ({"t", "x"} <= set(names) <= set("txyp-") and _once(names)):
            raise UserError(
                f"columns are t, x, y, p, each once, with t and x, and - for one to leave out, got {','.join(names)}"
            )
        if isinstance(self.first_pixel, bool) or self.first_pixel not in (None, 0, 1):
            raise UserError(f"the first pixel has the number 0 or 1, got {brief(self.first_pixel)}")

    @classmethod
    def from_text(
        cls, table: str | None = None, columns: str | None = None, first_pixel: int | None = None
    ) -> FileLayout:
        """Read a layout as users write it, the columns as ``x,y,t,p``.

        Raises:
            UserError: as for the attributes.
        """
        names = None if columns is None else tuple(each.strip().lower() for each in columns.split(","))
        return cls(table, names, first_pixel)


def _once(names: tuple[str, ...]) -> bool:
    known = [name for name in names if name != "-"]
    return len(set(known)) == len(known)


def check_stated(sensor: Any, layout: Any = None) -> None:
    """Refuse what is no sensor, and no layout of files.

    Args:
        sensor: a :class:`Sensor`, or ``None``.
        layout: a :class:`FileLayout`, or ``None``.

    Raises:
        UserError: for anything else.
    """
    if not isinstance(sensor, Sensor | None):
        raise UserError(f"sensor is a Sensor, such as Sensor(346, 260, 2), got {brief(sensor)}")
    if not isinstance(layout, FileLayout | None):
        raise UserError(f"layout is a FileLayout, such as FileLayout(table='events'), got {brief(layout)}")


def check_events(events: Events, sensor: Sensor, where: str) -> Events:
    """Check that events lie on their sensor and are sorted by time.

    Args:
        events: ``[M]``, at least one.
        sensor: that they should lie on.
        where: where they come from, a file for example; it opens the messages.

    Returns:
        ``events``.

    Raises:
        DataError: for another dtype, for no events, and for the first event outside the sensor or earlier than the one
            before it, which it names by its number.
    """
    if events.dtype != EVENT or events.ndim != 1:
        raise DataError(f"{where}: expected events [M] of dtype {EVENT}, got {events.dtype} of shape {events.shape}")
    if len(events) == 0:
        raise DataError(f"{where}: holds no events")
    for field, end in (("x", sensor.width), ("y", sensor.height), ("p", sensor.polarities)):
        values = events[field]
        if int(values.max()) >= end:
            first = int(np.argmax(values >= end))
            raise DataError(
                f"{where}: event {first} has {field} = {values[first]}, outside the sensor of {sensor} (0 to {end - 1})"
            )
    times = events["t"]
    if len(times) > 1 and bool((times[1:] < times[:-1]).any()):
        first = int(np.argmax(times[1:] < times[:-1])) + 1
        raise DataError(f"{where}: event {first} is of {times[first]} µs, before the {times[first - 1]} µs of the last")
    return events
