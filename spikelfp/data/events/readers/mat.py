"""``.mat``: files of MATLAB 5; those of version 7.3 are HDF5 and read as such.

Two layouts:

* a struct, such as ``TD``, or the file itself, with vectors t (or ts), x and perhaps y, p (or pol) as in
  :data:`~.columns.NAMES`, in µs (ASL-DVS; N-MNIST and N-Caltech101 as ``Read_Ndataset.m`` returns them);
* ``spiketrain`` ``[C + 1, M]`` (ST-MNIST): a row of 1, -1 and 0 for each of ``C`` taxels and a last row of times in
  seconds. If ``C`` is a square, taxel ``i`` of a pad of that size is ``x = i mod √C``, ``y = i div √C``, else
  ``x = i``; 1 is ON and -1 is OFF. Times are rounded to µs.

MATLAB counts from 1: if ``p`` is 1 and 2 (1 of OFF), 1 is taken off x, y and p. Sources:
https://github.com/gorchard/Matlab_AER_vision_functions, H. H. See et al., ST-MNIST, 2020.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikelfp.data.events.event import Sensor
from spikelfp.data.events.readers.columns import choose, from_columns, is_events, polarity
from spikelfp.data.events.readers.hdf5 import read_hdf5
from spikelfp.data.events.readers.matlab import Value, variables
from spikelfp.data.events.readers.recording import Recording, finish, pack
from spikelfp.data.events.readers.source import Source
from spikelfp.data.events.readers.table import suffixes
from spikelfp.errors import DataError


@suffixes.register(".mat")
def read_mat(source: Source, sensor: Sensor | None) -> Recording:
    """The sensor is that of the pad for ``spiketrain``.

    Raises:
        DataError: for a file that is none of MATLAB's, a damaged or truncated one, one without such variables, and as
            :func:`~.columns.from_columns`.
    """
    where, data = source.where, source.data
    if data.startswith(b"MATLAB 7.3"):
        return read_hdf5(source, sensor)
    content = variables(data, where)
    facts = {"format": "MATLAB 5", "variables": tuple(content)}
    if "spiketrain" in content:
        return _pad(content["spiketrain"], where, facts)
    structs = {name: value for name, value in content.items() if isinstance(value, dict)}
    for name, value in {"": content, **structs}.items():
        if is_events(value):
            inside = f"{where}: {name[:40]!r}" if name else where
            columns = {field: _vector(value[key], key, inside) for field, key in choose(value, inside).items()}
            return from_columns(inside, _from_zero(columns), sensor, facts)
    raise DataError(
        f"{where}: no variable or struct with t and x, nor 'spiketrain', among {[name[:40] for name in content][:10]}"
    )


def _vector(value: Value, name: str, where: str) -> NDArray[Any]:
    if not isinstance(value, np.ndarray) or sum(length != 1 for length in value.shape) > 1:
        found = f"shape {value.shape}" if isinstance(value, np.ndarray) else "another kind"
        raise DataError(f"{where}: {name} is no vector of numbers but of {found}")
    return value.reshape(-1)


def _from_zero(columns: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    p = columns.get("p")
    if p is None or not len(p) or p.min() < 1 or p.max() != 2:
        return columns
    return {name: values if name == "t" else values.astype(np.float64) - 1 for name, values in columns.items()}


def _pad(train: Value, where: str, facts: dict[str, Any]) -> Recording:
    if not isinstance(train, np.ndarray) or train.ndim != 2 or len(train) < 2:
        raise DataError(f"{where}: spiketrain is no matrix [taxels + 1, M] of numbers")
    taxels, times = train[:-1], train[-1]
    step, taxel = np.nonzero(taxels.T)
    if not np.isfinite(times).all() or (len(times) and np.abs(times).max() > 1e12):
        raise DataError(f"{where}: the last row of spiketrain is no row of times in seconds")
    p = polarity(taxels[taxel, step], where)
    side = math.isqrt(len(taxels))
    width, height = (side, side) if side * side == len(taxels) and side > 1 else (len(taxels), 1)
    t = np.rint(times[step] * 1e6).astype(np.int64)
    events = pack(where, t, taxel % width, taxel // width, p)
    return finish(where, events, Sensor(width, height, 2), facts)
