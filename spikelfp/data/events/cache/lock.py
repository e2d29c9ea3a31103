"""Locks on folders of the cache: the system drops those of a process that ends, however it ends."""

from __future__ import annotations

import errno
import fcntl
import os
from enum import Enum
from pathlib import Path
from typing import BinaryIO

USED = "used"
"""File in each entry that all who read it lock together, and who removes it alone; its time of modification is the
last use."""

PART = ".part"
"""Ending of a folder that is being filled or removed."""

FILLING = "filling"
"""File in such a folder that who fills it locks. Not the same as :data:`USED`: who waits for it must not wait for those
that read the entry which the folder has become."""

_HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)


class Locked(Enum):
    """What came of an attempt to lock."""

    MINE = "mine"
    HELD = "held by another"
    UNKNOWN = "the file system has no locks"


def lock(file: BinaryIO, *, alone: bool, wait: bool = False) -> Locked:
    """Lock an open ``file``, to be held until it is closed."""
    try:
        fcntl.flock(file, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        return Locked.HELD if error.errno in _HELD else Locked.UNKNOWN
    return Locked.MINE


def is_at(file: BinaryIO, path: Path) -> bool:
    """Whether the open ``file`` still is the one at ``path``, and not moved away or removed meanwhile."""
    try:
        there = os.stat(path)
    except OSError:
        return False
    return os.path.samestat(os.fstat(file.fileno()), there)


class Reading:
    """The lock of a reader on an entry, held until nobody refers to this any more."""

    def __init__(self, path: Path) -> None:
        self.file = open(path, "rb")  # noqa: SIM115 (closed below)
        lock(self.file, alone=False, wait=True)  # who holds it alone is about to finish or to remove the entry
        self.is_current = is_at(self.file, path)

    def __del__(self) -> None:
        if hasattr(self, "file"):
            self.file.close()
