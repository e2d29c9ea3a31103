"""Opening files, and the bytes that their content may take.

Regular files only are opened: reading a pipe could wait for ever, and a device may never end.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from spikelfp.errors import DataError

ALWAYS = 1 << 28
"""Bytes that any file may unpack to (256 MiB)."""

RATIO = 200
"""Times its own size that a larger file may unpack to: events shrink to a tenth, constant columns to a thousandth."""


def most(packed: int) -> int:
    """Return how many bytes a file of ``packed`` bytes may unpack to."""
    return max(ALWAYS, RATIO * packed)


def check_size(unpacked: int, packed: int, where: str) -> None:
    """Refuse content before it is unpacked.

    Args:
        unpacked: bytes that the content will take.
        packed: bytes of the file.
        where: name that the message begins with.

    Raises:
        DataError: for more than :data:`RATIO` times the file and more than :data:`ALWAYS`.
    """
    if unpacked > most(packed):
        claimed = str(unpacked) if unpacked < 10**30 else "more than 10³⁰"
        raise DataError(
            f"{where}: claims {claimed} bytes of content in a file of {packed}: damaged, or made to fill the memory"
        )


def open_regular(path: str | Path) -> BinaryIO:
    """Open a file to read, if it is one.

    Raises:
        DataError: for a path that is missing, may not be read, or is a folder, a pipe, a socket or a device.
    """
    try:
        # without O_NONBLOCK a pipe that nobody writes to holds up the open itself
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise DataError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    kind = os.fstat(handle).st_mode
    if not stat.S_ISREG(kind):
        os.close(handle)
        found = os.strerror(errno.EISDIR) if stat.S_ISDIR(kind) else "no file but a device, a pipe or a socket"
        raise DataError(f"{path}: cannot be read ({found})")
    return os.fdopen(handle, "rb")


def read_regular(path: str | Path, longest: int | None = None) -> bytes:
    """Read all of a file.

    Args:
        path: the file.
        longest: bytes that it may have; ``None``: any number, it is as large in memory as on the disk.

    Raises:
        DataError: as :func:`open_regular`, and for a file that is larger, or changes its size while it is read.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if longest is not None and size > longest:
            raise DataError(f"{path}: cannot be read ({size} bytes, more than the {longest} that its kind may have)")
        try:
            content = file.read(size + 1)
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    if len(content) != size:
        changed = "grown" if len(content) > size else f"shrunk to {len(content)} bytes"
        raise DataError(f"{path}: has {changed} from {size} bytes while it was read")
    return content
