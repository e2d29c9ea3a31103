"""Events from named or numbered columns: what the readers of arrays, tables and HDF5 groups share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikelfp.data.events.event import Sensor
from spikelfp.data.events.readers.order import SLACK
from spikelfp.data.events.readers.recording import Place, Recording, finish, numbered, pack
from spikelfp.errors import DataError

NAMES = {
    "t": ("t", "ts", "time", "times", "timestamp", "timestamps"),
    "x": ("x", "col", "column", "channel", "unit", "units"),
    "y": ("y", "row"),
    "p": ("p", "pol", "polarity", "polarities", "on"),
}
"""What the columns may be called, in any case; ``t`` and ``x`` must be there."""

ORDER = ("t", "x", "y", "p")
"""What columns without names are, from the left."""


LATEST = (1 << 62) - 1
"""Largest time: differences of two still fit into 64 bits."""


def choose(names: Iterable[str], where: str) -> dict[str, str]:
    """Which of ``names`` is which field.

    Raises:
        DataError: for no time or no x, or two columns for one field.
    """
    names = list(names)
    chosen: dict[str, str] = {}
    for field, known in NAMES.items():
        found = [name for name in names if name.lower() in known]
        if len(found) > 1:
            both = " and ".join(repr(name[:40]) for name in found)
            raise DataError(f"{where}: {both} may both be the {field} of events; keep one")
        if found:
            chosen[field] = found[0]
    missing = [field for field in ("t", "x") if field not in chosen]
    if missing:
        expected = "; ".join(f"{field}: {', '.join(NAMES[field])}" for field in missing)
        there = [name[:40] for name in names[:10]]
        raise DataError(f"{where}: no column {' and '.join(missing)} among {there} (may be called {expected})")
    return chosen


def is_events(names: Iterable[str]) -> bool:
    """Whether columns of these ``names`` can be events."""
    lower = {name.lower() for name in names}
    return all(lower.intersection(NAMES[field]) for field in ("t", "x"))


def from_columns(
    where: str,
    columns: Mapping[str, NDArray[Any]],
    sensor: Sensor | None,
    facts: dict[str, Any],
    *,
    seconds: bool = False,
    named: bool = True,
    place: Place = numbered,
) -> Recording:
    """The recording of ``columns`` ``[M]`` named t, x and perhaps y, p.

    Times are µs; with ``seconds``, times with a fraction are taken for seconds and rounded to µs. ``p`` is 0 and 1, or
    -1 and 1. Without ``y``, events lie on a line; if they then have one polarity, and no ``sensor`` of two is handed
    in, ``p`` is 0. Columns that are not ``named`` must be in order of time, as any others are a sign of another order.

    Raises:
        DataError: for columns of unequal lengths or more than one axis, values that are not whole numbers, another
            polarity, and as :func:`~.recording.finish`.
    """
    lengths = {name: values.shape for name, values in columns.items()}
    if len(set(lengths.values())) != 1 or len(columns["t"].shape) != 1:
        raise DataError(f"{where}: expected columns [M] of one length, found shapes {lengths}")
    t = _times(columns["t"], where, seconds, place)
    x = _whole(columns["x"], "x", where, place)
    y = _whole(columns["y"], "y", where, place) if "y" in columns else 0
    p = polarity(columns["p"], where, place) if "p" in columns else 0
    line = "y" not in columns
    if line and isinstance(p, np.ndarray) and (sensor is None or sensor.polarities == 1) and (p == p[:1]).all():
        p = 0
    slack = SLACK if named else 0
    return finish(where, pack(where, t, x, y, p, place), sensor, facts, slack, place, camera=not line)


def polarity(values: NDArray[Any], where: str, place: Place = numbered) -> NDArray[np.uint8]:
    """``values`` of 0 and 1, or of -1 and 1, as 0 and 1."""
    whole = _whole(values, "p", where, place)
    strange = (whole != 1) & (whole != 0) & (whole != -1)
    if bool((whole == -1).any()):
        strange |= whole == 0
    if strange.any():
        first = int(np.argmax(strange))
        raise DataError(f"{where}: {place(first)} has p = {whole[first]}, expected 0 and 1, or -1 and 1")
    return (whole == 1).astype(np.uint8)


def _times(values: NDArray[Any], where: str, seconds: bool, place: Place) -> NDArray[np.int64]:
    if seconds and values.dtype.kind == "f" and np.isfinite(values).all() and (values != np.floor(values)).any():
        values = np.rint(values.astype(np.float64) * 1e6)
    hint = "; times are µs" if not seconds else ""
    return _whole(values, "t", where, place, hint)


def _whole(values: NDArray[Any], name: str, where: str, place: Place, hint: str = "") -> NDArray[np.int64]:
    """``values`` as int64, which they must be without loss."""
    kind = values.dtype.kind
    if kind == "b" or (kind in "iu" and values.dtype.itemsize < 8):
        return values.astype(np.int64)
    if kind not in "iuf":
        raise DataError(f"{where}: {name} is of type {values.dtype}, expected numbers")
    if kind == "f":
        bad = ~(np.abs(values) <= 2.0**62) | (values != np.floor(values))
    else:
        bad = (values > LATEST) | (values < -LATEST) if kind == "i" else values > LATEST
    if bad.any():
        first = int(np.argmax(bad))
        raise DataError(f"{where}: {place(first)} has {name} = {values[first]}, expected a whole number{hint}")
    return values.astype(np.int64)
