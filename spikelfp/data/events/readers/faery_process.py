"""faery in a process of its own: damage that it does not expect ends that process, not this one."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

from spikelfp.data.events.event import Events
from spikelfp.data.events.readers.base import LATEST, pack
from spikelfp.data.events.readers.npy import parse
from spikelfp.errors import DataError

_PROGRAM = Path(__file__).with_name("faery_child.py")
_LONGEST = 600
"""Seconds that it may take."""


def unpack_with_faery(path: Path, stream: int, where: str) -> Events:
    """The events of stream ``stream`` of the AEDAT 4 file ``path``.

    Raises:
        DataError: without faery, and for a file that it cannot read.
    """
    if importlib.util.find_spec("faery") is None:
        raise DataError(f"{where}: is packed with Zstandard, read through faery: pip install 'spikelfp[events]'")
    command = [sys.executable, str(_PROGRAM), str(path), str(stream)]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=_LONGEST)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DataError(f"{where}: faery cannot read it in a process of its own ({error})") from error
    if done.returncode:
        lines = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
        reason = lines[-1][:200] if lines and done.returncode > 0 else f"it ended with {done.returncode}"
        raise DataError(f"{where}: is damaged: faery cannot read it ({reason})")
    table, _ = parse(done.stdout, where)
    t, x, y, p = (table[name] for name in table.dtype.names or ())
    if len(t) and int(t.max()) > LATEST:
        raise DataError(f"{where}: is damaged: an event is of {int(t.max())} µs")
    return pack(where, t, x, y, p)
