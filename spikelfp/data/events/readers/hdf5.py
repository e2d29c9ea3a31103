"""``.h5``, ``.hdf5``: columns of events in a group of an HDF5 file.

The events are in the first of the groups ``events`` (DSEC, E2VID), ``CD/events`` (Metavision) or the file itself that
holds data sets, or one data set with fields, called t, x and perhaps y, p as in :data:`~.base.NAMES`. Times are µs;
floats with fractions are seconds (E2VID). A single number ``t_offset`` beside the group (DSEC) is added to all times.
``width`` and ``height`` or ``geometry`` (1280x720) among the attributes of the group or the file are the sensor.
Columns compressed by a plug-in filter of HDF5 (DSEC: Blosc) need the package ``hdf5plugin``.

Sources: https://dsec.ifi.uzh.ch/data-format, https://docs.prophesee.ai/stable/data/file_formats/hdf5.html. The
Spiking Heidelberg Digits keep a whole data set in one file and are not read here.
"""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from spikelfp.data.events.event import Sensor
from spikelfp.data.events.readers.base import (
    LATEST,
    Recording,
    Source,
    choose,
    from_columns,
    is_events,
    sensor_in,
    suffixes,
)
from spikelfp.errors import DataError
from spikelfp.untrusted import check_attributes, check_dataset, check_size, member, open_hdf5

GROUPS = ("events", "CD/events", "/")
_KINDS = "biuf"


@suffixes.register(".h5")
@suffixes.register(".hdf5")
def read_hdf5(source: Source, sensor: Sensor | None) -> Recording:
    """Read columns of events; a sensor in the attributes comes before ``sensor``.

    Raises:
        DataError: for a file that is no HDF5, a damaged or truncated one, one without such columns, columns that are
            larger than their file could hold, lie in other files or need a filter that is not there, and as
            :func:`~.base.from_columns`.
    """
    where = source.where
    with open_hdf5(source.path or io.BytesIO(source.data), where, whole=False) as file:
        node, path = _find(file, where)
        for each in (file, node):
            check_attributes(each, source.size, where)
        facts = {**_attributes(file), **_attributes(node), "format": "HDF5", "group": path}
        columns = _columns(node, source.size, where)
        offset = _offset(file, node, source.size, where)
    if offset:
        facts["t_offset"] = offset
        columns = {**columns, "t": _later(columns["t"], offset, where)}
    texts = {key: str(value) for key, value in facts.items()}
    return from_columns(where, columns, sensor_in(texts) or sensor, facts, seconds=True)


def _find(file: Any, where: str) -> tuple[Any, str]:
    """The group or table of events, and its name."""
    for path in GROUPS:
        node = member(file, path, where)
        names = node.dtype.names if isinstance(node, h5py.Dataset) else node
        if names is not None and is_events(names):
            return node, path
    raise DataError(
        f"{where}: no columns t and x in any of {', '.join(GROUPS)}; it holds {[name[:40] for name in file][:10]}"
    )


def _columns(node: Any, size: int, where: str) -> dict[str, NDArray[Any]]:
    table = isinstance(node, h5py.Dataset)
    chosen = choose(node.dtype.names if table else node, where)
    sets = {"": node} if table else {field: member(node, name, where) for field, name in chosen.items()}
    check_size(sum(_check(each, size, where) for each in sets.values()), size, where)
    if table:
        content = node[()]
        return {field: content[name] for field, name in chosen.items()}
    return {field: column[()] for field, column in sets.items()}


def _check(column: Any, size: int, where: str) -> int:
    """Return the bytes of a column; refuse one that is not one row of numbers in this file."""
    if not isinstance(column, h5py.Dataset):
        raise DataError(f"{where}: {column.name} is no column but a group")
    kinds = [column.dtype[name] for name in column.dtype.names] if column.dtype.names else [column.dtype]
    if column.ndim != 1 or any(kind.kind not in _KINDS for kind in kinds):
        raise DataError(f"{where}: {column.name} of {column.dtype} and shape {column.shape} is no column of numbers")
    needed = check_dataset(column, size, where, plugins=True)
    settings = column.id.get_create_plist()
    for index in range(settings.get_nfilters()):
        code, _, _, name = settings.get_filter(index)
        if not h5py.h5z.filter_avail(code):
            with contextlib.suppress(ImportError):
                importlib.import_module("hdf5plugin")  # which makes its filters known
        if not h5py.h5z.filter_avail(code):
            raise DataError(
                f"{where}: {column.name} is compressed with the filter {code} ({name.decode('latin-1')}), which is not "
                "there; pip install hdf5plugin"
            )
    return needed


def _offset(file: Any, node: Any, size: int, where: str) -> int:
    """Return the number that is to be added to all times."""
    for place in (node, node.parent, file):
        found = member(place, "t_offset", where) if isinstance(place, h5py.Group) else None
        if isinstance(found, h5py.Dataset) and found.shape in ((), (1,)) and found.dtype.kind in "iu":
            check_dataset(found, size, where)
            return int(np.ravel(found[()])[0])
    return 0


def _later(t: NDArray[Any], offset: int, where: str) -> NDArray[np.int64]:
    if t.dtype.kind not in "iu" or max(abs(offset), int(t.max(initial=0)), -int(t.min(initial=0))) > LATEST // 2:
        raise DataError(f"{where}: its times, {t.dtype}, and t_offset = {offset} are no whole µs of at most 62 bits")
    return t.astype(np.int64) + offset


def _attributes(node: Any) -> Mapping[str, Any]:
    """Attributes of a group that are a number or a text."""
    found = {}
    for key, value in node.attrs.items():
        value = value.item() if isinstance(value, np.generic | np.ndarray) and value.size == 1 else value
        value = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        if isinstance(value, str | int | float):
            found[key] = value
    return found
