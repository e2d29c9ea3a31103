"""Tables of events: which one of a file holds them, which of its columns is which, and from where pixels are counted.

All three are decided by names and content, and told in the facts of a recording. What they leave open is refused, with
the candidates and the option that chooses: a :class:`~spikelfp.data.events.event.FileLayout`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from spikelfp.data.events.event import Sensor
from spikelfp.data.events.readers.base import ORDER
from spikelfp.errors import DataError

T = TypeVar("T")

ORDERS = (ORDER, ("x", "y", "t", "p"), ("x", "y", "p", "t"))
"""Orders of columns without names: of the Event-Camera Dataset and v2e, of MVSEC, of Metavision's text."""

GREY_LEVELS = frozenset({"em", "aps", "gray", "grey", "graylevel", "greylevel", "frames", "images"})
"""Names of tables, in lower case, that hold grey levels and no changes: an ATIS writes both with the same columns."""

SIZES = ((128, 128), (240, 180), (304, 240), (320, 320), (346, 260), (640, 480), (1280, 720), (34, 34))
"""Columns and rows of cameras."""

_LISTED = 8


def listed(names: Iterable[str]) -> str:
    """The first names, in quotes."""
    shown = [repr(name[:60]) for name in names]
    return ", ".join(shown[:_LISTED]) + (f" and {len(shown) - _LISTED} more" if len(shown) > _LISTED else "")


def without_grey_levels(candidates: dict[str, T]) -> dict[str, T]:
    """Leave out tables whose last name is one of :data:`GREY_LEVELS`, if others remain."""
    kept = {name: each for name, each in candidates.items() if re.split(r"[/.]", name.lower())[-1] not in GREY_LEVELS}
    return kept or candidates


def pick(candidates: Mapping[str, T], usual: Sequence[str], stated: str | None, where: str) -> tuple[T, dict[str, Any]]:
    """Choose the table of events among those that can be it.

    Args:
        candidates: by name, at least one.
        usual: names that a published layout has for the events; one alone is chosen among others.
        stated: name that the user states; its last part will do if no other ends so.
        where: name of the file in messages.

    Returns:
        The table, and the facts ``table`` and, if there are others, ``other_tables``.

    Raises:
        DataError: for a stated name that is not there, and for several tables none of which stands out.
    """
    if stated is not None:
        wanted = stated.strip("/")
        found = [name for name in candidates if name.strip("/") == wanted] or [
            name for name in candidates if name.endswith((f"/{wanted}", f".{wanted}"))
        ]
        if len(found) != 1:
            raise DataError(f"{where}: has no table {stated[:60]!r} of events; choose from {listed(candidates)}")
    else:
        found = list(candidates)
        if len(found) > 1:
            found = [name for name in found if name in usual] or found
        if len(found) > 1:
            raise DataError(
                f"{where}: {listed(candidates)} may each hold the events; choose one with --table, such as --table "
                f"{found[0]}"
            )
    (name,) = found
    others = tuple(each for each in candidates if each != name)
    return candidates[name], {"table": name or "/", **({"other_tables": others} if others else {})}


def arrange(
    table: Sequence[NDArray[Any]], stated: tuple[str, ...] | None, where: str
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Find the columns of a table without names.

    The order t, x, y, p counts where the content fits it: times that never fall, x and y of a sensor, polarities of two
    values. Else it is the only other one of :data:`ORDERS` that the content fits.

    Args:
        table: columns of numbers ``[M]``, two (t, x) or four.
        stated: order that the user states, with ``-`` for a column to leave out.
        where: name of the file in messages.

    Returns:
        The columns ``[M]`` by field, and the facts ``columns`` and, in an order that was found, ``found_order``.

    Raises:
        DataError: for a stated order of another number of columns, and for content that fits two orders.
    """
    width = len(table)
    if stated is not None:
        if len(stated) != width:
            raise DataError(f"{where}: has {width} columns, but {len(stated)} are stated: {','.join(stated)}")
        order = stated
    elif width == len(ORDER):
        fitting = [each for each in ORDERS if _fits(table, each)]
        if fitting and fitting[0] != ORDER and len(table[0]) < (_FEWEST if _may_be(table, ORDER) else 2):
            fitting = []  # a time that falls, or a single row, is more likely a fault of the file
        if len(fitting) > 1 and fitting[0] != ORDER:
            raise DataError(
                f"{where}: its columns may be {' or '.join(','.join(each) for each in fitting)}; state them with "
                f"--columns, such as --columns {','.join(fitting[0])}"
            )
        order = fitting[0] if fitting else ORDER
    else:
        order = ORDER[:width]
    columns = {name: table[number] for number, name in enumerate(order) if name != "-"}
    found = stated is None and order != ORDER[:width]
    return columns, {"columns": order, **({"found_order": len(table[0])} if found else {})}


_FEWEST = 16
"""Rows whose times tell one order from another."""


def _fits(table: Sequence[NDArray[Any]], order: tuple[str, ...]) -> bool:
    """Whether columns in this order are events in order of time."""
    t = table[order.index("t")]
    return _may_be(table, order) and bool(np.isfinite(t).all()) and bool((t[1:] >= t[:-1]).all())


def _may_be(table: Sequence[NDArray[Any]], order: tuple[str, ...]) -> bool:
    """Whether columns in this order have pixels of a sensor and polarities of two values."""
    x, y, p = (table[order.index(name)] for name in "xyp")
    if not np.isin(p, (-1, 0, 1)).all():
        return False
    return all(bool(((axis >= 0) & (axis <= 0xFFFF) & (axis == np.floor(axis))).all()) for axis in (x, y))


_MANY = 100
"""Events whose least column and row say from where both are counted."""


def from_first_pixel(
    columns: dict[str, NDArray[Any]], stated: int | None, sensor: Sensor | None
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Count columns and rows from 0, of a file of MATLAB, which may count them from 1.

    They are counted from 1 if p is 1 and 2; or if none is 0 and either both begin with 1, in :data:`_MANY` events or
    more, or one ends with the size of the sensor, or both end with the size of a camera (:data:`SIZES`).

    Args:
        columns: ``[M]`` by field.
        stated: number of the first pixel, that the user states.
        sensor: of the recording, if it is known.

    Returns:
        The columns from 0, p as 0 and 1 if it was 1 and 2; and the facts ``first_pixel`` and, if that is 1, the number
        of events ``from_one``.
    """
    p = columns.get("p")
    numbered = p is not None and len(p) > 0 and p.min() >= 1 and p.max() == 2
    if numbered and p is not None:
        columns = {**columns, "p": _less_one(p)}
    axes = {name: columns[name] for name in ("x", "y") if name in columns and columns[name].dtype.kind in "iuf"}
    if not axes or not all(len(axis) for axis in axes.values()):
        return columns, {}
    least = [float(axis.min()) for axis in axes.values()]
    most = tuple(float(axis.max()) for axis in axes.values())
    first, many = stated, all(len(axis) >= _MANY for axis in axes.values())
    if first is None:
        ends = (
            most in SIZES
            or (sensor is not None and most[0] == sensor.width)
            or (sensor is not None and most[-1] == sensor.height)
        )
        first = int(numbered or (len(axes) == 2 and min(least) >= 1 and ((max(least) == 1 and many) or ends)))
    if first:
        columns = {**columns, **{name: _less_one(axis) for name, axis in axes.items()}}
    return columns, {"first_pixel": first, **({"from_one": len(next(iter(axes.values())))} if first else {})}


def _less_one(column: NDArray[Any]) -> NDArray[Any]:
    narrow = column.dtype.kind in "iu" and column.dtype.itemsize <= 2
    less: NDArray[Any] = column.astype(np.int32 if narrow else np.float64)
    np.subtract(less, 1, out=less)
    return less
