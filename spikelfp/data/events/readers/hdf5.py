"""``.h5``, ``.hdf5``: columns of events in an HDF5 file, and files of MATLAB 7.3, which are HDF5 too.

The events are in a group of data sets called t, x and perhaps y, p as in :data:`~.base.NAMES` and
:data:`~.base.PLURALS`; in one data set with fields of these names; or in a plain one ``[M, 4]`` or ``[4, M]`` whose
name holds ``event``, in one of the orders of :data:`~.tables.ORDERS`. Published layouts:

===================== ================================================================== ======================
table                 written by                                                         columns
===================== ================================================================== ======================
``events``            DSEC, E2VID, event_utils, evlib, RVT, eTraM                        data sets
``events``            v2e                                                                ``[M, 4]``, t, x, y, p
``CD/events``         Metavision                                                         fields
``davis/left/events`` MVSEC; ``davis/right/events`` is told as another table             ``[M, 4]``, x, y, t, p
``raw_events``        event-vision-library                                               data sets
===================== ================================================================== ======================

Of several tables one of these names is read, if it is the only one; else they are refused unless the user states which.
Times are µs; floats with fractions are seconds; an attribute ``unit`` of the times that says another unit is refused.
A single number ``t_offset`` beside the group (DSEC) is added to all
times. ``width`` and ``height``, ``geometry`` (1280x720) or ``sensor_resolution`` (the larger side is the width, as
cameras are wider than high) among the attributes of the group or of those above it are the sensor; so are single
numbers ``width`` and ``height`` beside the columns (RVT). Columns compressed by a plug-in filter of HDF5 (DSEC: Blosc)
need the package ``hdf5plugin``; Metavision's own ECF needs its plug-in.

Sources: https://dsec.ifi.uzh.ch/data-format, https://docs.prophesee.ai/stable/data/file_formats/hdf5.html,
https://daniilidis-group.github.io/mvsec/data_format. The Spiking Heidelberg Digits keep a whole data set in one file
and are not read here.
"""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Iterator, Mapping
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from spikelfp.data.events.event import Sensor
from spikelfp.data.events.readers.base import (
    LATEST,
    Recording,
    Source,
    check_count,
    choose,
    from_columns,
    is_events,
    sensor_in,
    suffixes,
)
from spikelfp.data.events.readers.compact import Column, blocks
from spikelfp.data.events.readers.tables import arrange, from_first_pixel, pick, without_grey_levels
from spikelfp.errors import DataError
from spikelfp.untrusted import check_attributes, check_dataset, check_size, member, open_hdf5

USUAL = ("events", "CD/events", "davis/left/events", "")
"""Tables of published layouts; the last is the file itself."""

_DATA_SET = "spikes"
"""Group that holds the recordings of a whole data set, in the layout of the Spiking Heidelberg Digits."""

_KINDS = "biuf"
_DEEPEST, _MOST_GROUPS = 8, 10_000
_ECF = 36559
"""Number of Metavision's filter, by which it compresses events."""

_BLOSC, _BLOSC_VALUES = 32001, 4
"""Number of Blosc's filter, and of the values that it writes beside a column; it ends the process if they are not there
(hdf5plugin 7.1)."""


@suffixes.register(".h5")
@suffixes.register(".hdf5")
def read_hdf5(source: Source, sensor: Sensor | None) -> Recording:
    """Read columns of events; a sensor in the file comes before ``sensor``.

    Raises:
        DataError: for a file that is no HDF5, a damaged or truncated one, one without such columns or with several
            tables of them, columns that are larger than their file could hold, lie in other files or need a filter that
            is not there, and as :func:`~.base.from_columns`.
    """
    return read_groups(source, sensor)


def read_groups(source: Source, sensor: Sensor | None, *, matlab: bool = False) -> Recording:
    """Read columns of events; in files of ``matlab``, a column is a matrix of one row, and pixels may count from 1.

    Raises:
        DataError: as :func:`read_hdf5`.
    """
    where, size = source.where, source.size
    with open_hdf5(source.path or io.BytesIO(source.data), where, whole=False) as file:
        node, chosen = _find(file, source)
        name = chosen["table"].strip("/")
        facts = _attributes([*_above(file, name), node], size, where)
        facts.update({"format": "MATLAB 7.3" if matlab else "HDF5", "group": chosen["table"], **chosen})
        own = _stated_sensor(file, node, name, facts, size, where)
        columns, more = _columns(node, source, matlab)
        offset = _offset(file, node, size, where)
    facts.update(more)
    if offset:
        facts["t_offset"] = offset
        columns = {**columns, "t": _later(columns["t"], offset, where)}
    if matlab:
        columns, more = from_first_pixel(columns, source.layout.first_pixel, own or sensor)
        facts.update(more)
    return from_columns(where, columns, sensor, facts, seconds=not matlab, own=own)


def _find(file: Any, source: Source) -> tuple[Any, dict[str, Any]]:
    """The group or table of events, and the facts about the choice."""
    where, stated = source.where, source.layout.table
    found = dict(_candidates(file, where))
    if stated is not None and stated.strip("/") not in found:
        node = member(file, stated, where)
        if node is not None:
            return node, {"table": stated.strip("/") or "/"}
    if stated is None:
        found = without_grey_levels(found)
    if not found:
        raise DataError(
            f"{where}: no columns t and x in any of events, CD/events, /; it holds {[name[:40] for name in file][:10]}"
        )
    return pick(found, USUAL, stated, where)


def _candidates(file: Any, where: str) -> Iterator[tuple[str, Any]]:
    """Groups and data sets that may be events by their names and types, by their paths."""
    waiting, seen = [("", file, 0)], {h5py.h5o.get_info(file.id).addr}
    for _ in range(_MOST_GROUPS):
        if not waiting:
            return
        path, group, depth = waiting.pop(0)
        content = {}
        for name in group:
            if not name.startswith("#"):  # MATLAB's own
                with contextlib.suppress(DataError):  # a link to another file, or to nothing
                    content[name] = member(group, name, where)
        sets = {name: each for name, each in content.items() if isinstance(each, h5py.Dataset)}
        columns = [name for name, each in sets.items() if each.ndim == 1 or (each.ndim == 2 and 1 in each.shape)]
        if is_events(columns) and path != _DATA_SET:
            yield path, group
        for name, each in content.items():
            inside = f"{path}/{name}".strip("/")
            if isinstance(each, h5py.Dataset):
                if _is_table(each, name):
                    yield inside, each
            elif isinstance(each, h5py.Group) and depth < _DEEPEST:
                address = h5py.h5o.get_info(each.id).addr
                if address not in seen:  # a group may contain itself
                    seen.add(address)
                    waiting.append((inside, each, depth + 1))
    raise DataError(f"{where}: holds more than {_MOST_GROUPS} groups; state the table of events, --table NAME")


def _is_table(dataset: Any, name: str) -> bool:
    if dataset.dtype.names is not None:
        return dataset.ndim == 1 and is_events(dataset.dtype.names)
    return "event" in name.lower() and dataset.ndim == 2 and 4 in dataset.shape and dataset.dtype.kind in _KINDS


def _columns(node: Any, source: Source, matlab: bool) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """The columns by field, and what was found out about them."""
    where, size = source.where, source.size
    if isinstance(node, h5py.Dataset):
        check_size(_check(node, size, where, axes=2), size, where)
        if node.dtype.names is not None:
            chosen = choose(node.dtype.names, where)
            check_count(len(node), size, where)
            found = {field: Column(len(node), node.dtype[name], field != "t") for field, name in chosen.items()}
            for part in _parts(node, 0):
                content = node[part]
                for field, name in chosen.items():
                    found[field].add(content[name])
            return {field: column.values() for field, column in found.items()}, {}
        if node.ndim != 2 or 4 not in node.shape:
            raise DataError(f"{where}: {node.name} of shape {node.shape} has no columns t, x, y, p")
        check_count(max(node.shape), size, where)
        columns, more = arrange(_table(node), source.layout.columns, where)
        return {**columns, "t": columns["t"].astype(node.dtype, copy=False)}, more
    sizes = {name for name in node if name.lower() in ("width", "height")}
    chosen = choose([name for name in node if name not in sizes], where)
    sets = {field: member(node, name, where) for field, name in chosen.items()}
    check_size(sum(_check(each, size, where, axes=1 + matlab) for each in sets.values()), size, where)
    check_count(max(each.size for each in sets.values()), size, where)
    _check_unit(sets["t"], size, where)
    return {field: _column(each, narrow=field != "t") for field, each in sets.items()}, {}


_MICROSECONDS = frozenset({"us", "µs", "μs", "usec", "microsecond", "microseconds"})
_SECONDS = frozenset({"s", "sec", "second", "seconds"})


def _check_unit(times: Any, size: int, where: str) -> None:
    """Refuse times whose attribute ``unit`` or ``units`` names another unit than the one they are taken for."""
    attributes = _attributes([times], size, where)
    for key in attributes:
        unit = str(attributes[key])
        known = _MICROSECONDS | (_SECONDS if times.dtype.kind == "f" else frozenset())
        if key.lower() in ("unit", "units") and unit.strip().lower() not in known:
            raise DataError(f"{where}: {times.name} says {key} = {unit[:40]!r}; times are µs: convert them")


def _parts(dataset: Any, axis: int) -> Iterator[slice]:
    return blocks(dataset.shape[axis], dataset.chunks and dataset.chunks[axis])


def _column(dataset: Any, narrow: bool) -> NDArray[Any]:
    """Values ``[M]`` of a data set of one axis, or, of MATLAB, of a matrix, row by row."""
    axis = int(np.argmax(dataset.shape))
    if dataset.size != dataset.shape[axis]:
        return dataset[()].reshape(-1)  # no column, which is refused for its length or its values
    column = Column(dataset.size, dataset.dtype, narrow)
    for part in _parts(dataset, axis):
        column.add(dataset[(slice(None),) * axis + (part,)].reshape(-1))
    return column.values()


def _table(dataset: Any) -> list[NDArray[Any]]:
    """The four columns ``[M]`` of a data set ``[M, 4]`` or ``[4, M]``."""
    axis = 0 if dataset.shape[1] == 4 else 1
    columns = [Column(dataset.shape[axis], dataset.dtype) for _ in range(4)]
    for part in _parts(dataset, axis):
        content = dataset[part].T if axis == 0 else dataset[:, part]
        for column, values in zip(columns, content, strict=True):
            column.add(values)
    return [column.values() for column in columns]


def _check(column: Any, size: int, where: str, axes: int) -> int:
    """Return the bytes of a column, or a table of ``axes`` 2; refuse one that is not of numbers in this file."""
    if not isinstance(column, h5py.Dataset):
        raise DataError(f"{where}: {column.name} is no column but a group")
    kinds = [column.dtype[name] for name in column.dtype.names] if column.dtype.names else [column.dtype]
    if not 1 <= column.ndim <= axes or any(kind.kind not in _KINDS for kind in kinds):
        raise DataError(f"{where}: {column.name} of {column.dtype} and shape {column.shape} is no column of numbers")
    needed = check_dataset(column, size, where, plugins=True)
    settings = column.id.get_create_plist()
    for index in range(settings.get_nfilters()):
        code, _, values, name = settings.get_filter(index)
        if code == _BLOSC and len(values) < _BLOSC_VALUES:
            raise DataError(f"{where}: {column.name} is compressed by Blosc without its settings: damaged")
        if not h5py.h5z.filter_avail(code):
            with contextlib.suppress(ImportError):
                importlib.import_module("hdf5plugin")  # which makes its filters known
        if not h5py.h5z.filter_avail(code):
            raise DataError(f"{where}: {column.name} is compressed {_missing(code, name.decode('latin-1'))}")
    return needed


def _missing(code: int, name: str) -> str:
    """Say which filter is missing, and how to get it or do without."""
    if code == _ECF:
        return (
            f"by Metavision's ECF (filter {code}), which hdf5plugin does not have: install Prophesee's hdf5_ecf, a "
            "plug-in of HDF5, and set HDF5_PLUGIN_PATH to its folder, or read the RAW file it was made of"
        )
    return f"with the filter {code} ({name}), which is not there; pip install hdf5plugin"


def _above(file: Any, name: str) -> list[Any]:
    """The file and the groups that the table lies in, from the outermost."""
    parts = name.split("/")[:-1]
    return [file, *(file["/".join(parts[: number + 1])] for number in range(len(parts)))]


def _stated_sensor(file: Any, node: Any, name: str, facts: Mapping[str, Any], size: int, where: str) -> Sensor | None:
    """The sensor of the attributes, else of single numbers ``width`` and ``height`` beside the columns or above."""
    texts = {key: str(value) for key, value in facts.items()}
    found = sensor_in(texts)
    if found is None and len(sides := facts.get("sensor_resolution", ())) >= 2:
        sides = sorted(sides[:2])
        found = sensor_in({"width": str(sides[1]), "height": str(sides[0])})
    for place in (node, *reversed(_above(file, name))):
        if found is None and isinstance(place, h5py.Group):
            numbers = {}
            for key in ("width", "height"):
                each = member(place, key, where)
                if isinstance(each, h5py.Dataset) and each.size == 1 and each.dtype.kind in "iuf":
                    check_dataset(each, size, where)
                    numbers[key] = f"{np.ravel(each[()])[0]:.0f}"
            found = sensor_in(numbers)
    return found


def _offset(file: Any, node: Any, size: int, where: str) -> int:
    """Return the number that is to be added to all times."""
    for place in (node, node.parent, file):
        found = member(place, "t_offset", where) if isinstance(place, h5py.Group) else None
        if isinstance(found, h5py.Dataset):
            if found.shape not in ((), (1,)) or found.dtype.kind not in "iuf":
                raise DataError(f"{where}: t_offset of {found.dtype} and shape {found.shape} is no number of µs")
            check_dataset(found, size, where)
            offset = np.ravel(found[()])[0]
            if found.dtype.kind == "f" and not (np.isfinite(offset) and offset == np.floor(offset)):
                raise DataError(f"{where}: t_offset is {offset}, expected a whole number of µs")
            return int(offset)
    return 0


def _later(t: NDArray[Any], offset: int, where: str) -> NDArray[np.int64]:
    if t.dtype.kind not in "iu" or max(abs(offset), int(t.max(initial=0)), -int(t.min(initial=0))) > LATEST // 2:
        raise DataError(f"{where}: its times, {t.dtype}, and t_offset = {offset} are no whole µs of at most 62 bits")
    return t.astype(np.int64) + offset


def _attributes(nodes: list[Any], size: int, where: str) -> dict[str, Any]:
    """Attributes of groups that are a number, a text or a size; those of the last count."""
    found: dict[str, Any] = {}
    for node in nodes:
        check_attributes(node, size, where)
        for key in node.attrs:
            kind = node.attrs.get_id(key).dtype
            if kind.hasobject and h5py.check_string_dtype(kind) is None:
                continue
            value = node.attrs[key]
            if key == "sensor_resolution" and np.size(value) >= 2 and np.asarray(value).dtype.kind in "iu":
                found[key] = tuple(int(side) for side in np.ravel(value)[:2])
                continue
            value = value.item() if isinstance(value, np.generic | np.ndarray) and value.size == 1 else value
            value = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
            if isinstance(value, str | int | float):
                found[key] = value
    return found
