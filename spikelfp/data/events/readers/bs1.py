"""``.bs1``: binary spikes of a line of channels, as SLAYER and lava-dl write them.

Without a header, 5 bytes (40 bits, big-endian) a spike:

====== ====================================
bits   meaning
====== ====================================
39-24  channel
23     sign, 1 of ON
22-0   time in µs
====== ====================================

Source: lava-dl, ``lava.lib.dl.slayer.io.encode_1d_spikes``. The files need not be in order of time (some go channel by
channel), so any order is sorted.
"""

from __future__ import annotations

import numpy as np

from spikelfp.data.events.event import Sensor
from spikelfp.data.events.readers.base import Recording, Source, finish, pack, places, suffixes
from spikelfp.errors import DataError

_SIZE = 5


@suffixes.register(".bs1")
def read_spikes(source: Source, sensor: Sensor | None) -> Recording:
    """Read spikes of channels ``x``, with times up to 8.4 s.

    If all spikes have one sign, ``p`` is 0 and the sensor a line of channels, unless ``sensor`` has two polarities.

    Raises:
        DataError: for a length that is no multiple of 5 bytes, and as :func:`~.base.finish`.
    """
    rest = source.size % _SIZE
    if rest:
        raise DataError(
            f"{source.where}: {source.size} bytes are no multiple of {_SIZE}: truncated, the last whole spike ends at "
            f"byte {source.size - rest}, or no SLAYER spikes"
        )
    columns = np.frombuffer(source.data, np.uint8).reshape(-1, _SIZE).T.astype(np.int64)
    x = columns[0] << 8 | columns[1]
    t = (columns[2] & 0x7F) << 16 | columns[3] << 8 | columns[4]
    p = columns[2] >> 7
    if (p == p[0]).all() and (sensor is None or sensor.polarities == 1):
        p[:] = 0
    place = places(0, _SIZE)
    events = pack(source.where, t, x, p=p, place=place)
    return finish(source.where, events, sensor, {"format": "SLAYER bs1"}, slack=None, place=place, camera=False)
