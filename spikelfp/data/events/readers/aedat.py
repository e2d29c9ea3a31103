"""``.aedat``: the address-event files of jAER and cAER, versions 1.0, 2.0, 3.0 and 3.1, by their first line.

The line is ``#!AER-DAT2.0``; the layouts are in :mod:`.aedat2` and :mod:`.aedat3`. Files of version 4 end in
``.aedat4`` and are another format altogether. Source:
https://docs.inivation.com/software/software-advanced-usage/file-formats/index.html.
"""

from __future__ import annotations

from spikelfp.data.events.event import Sensor
from spikelfp.data.events.readers.aedat2 import read_aedat2
from spikelfp.data.events.readers.aedat3 import read_aedat3
from spikelfp.data.events.readers.recording import Recording
from spikelfp.data.events.readers.source import Source
from spikelfp.data.events.readers.table import suffixes
from spikelfp.errors import DataError

_MARK = b"#!AER-DAT"


@suffixes.register(".aedat")
def read_aedat(source: Source, sensor: Sensor | None) -> Recording:
    """Of version 1 and 2 the sensor is that of the header's chip, of version 3 that of its source.

    Raises:
        DataError: for a file without the line of its version or of another one, and as the readers of each.
    """
    start = source.data[:32]
    if not start.startswith(_MARK):
        raise DataError(f"{source.where}: expected AEDAT, which begins with '#!AER-DAT', found {start[:9]!r}")
    version = start[len(_MARK) :].split(b"\n")[0].strip().decode("latin-1")
    if version in ("1.0", "2.0"):
        return read_aedat2(source, sensor, version)
    if version in ("3.0", "3.1"):
        return read_aedat3(source, sensor, version)
    if version.startswith("4"):
        raise DataError(f"{source.where}: is of AEDAT version {version}; rename it to end in .aedat4 and it is read")
    raise DataError(f"{source.where}: is of AEDAT version {version!r}; 1.0, 2.0, 3.0 and 3.1 are read")
