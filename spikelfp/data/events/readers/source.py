"""Where a reader takes its bytes from: a file, or memory, with a name for messages."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path

from spikelfp.errors import DataError
from spikelfp.untrusted import open_regular, read_regular


class Source:
    """A recording that is not decoded yet.

    Attributes:
        where: the name that opens every message: the file, or the archive and the member of it.
        path: the file; ``None`` of bytes that come from elsewhere.

    Raises:
        DataError: for a file that is missing, empty, unreadable, or no file but a folder, a device or a pipe.
    """

    def __init__(self, where: str, path: Path | None = None, data: bytes | None = None) -> None:
        self.where = where
        self.path = path
        if data is not None:
            self.data = data
            self.size = len(data)
        elif path is not None:
            self.size = _size(path)
        if not self.size:
            raise DataError(f"{where}: is empty")

    @cached_property
    def data(self) -> bytes:
        """All of it."""
        assert self.path is not None  # bytes are set by __init__
        data = read_regular(self.path)
        if len(data) != self.size:
            raise DataError(f"{self.where}: has changed from {self.size} to {len(data)} bytes while it was read")
        return data

    def file(self, kind: str) -> Path:
        """The file itself, for readers that open it on their own."""
        if self.path is None:
            raise DataError(f"{self.where}: {kind} is read from files only; unpack it first")
        return self.path


def _size(path: Path) -> int:
    with open_regular(path) as file:  # a permission is missing here rather than in another library
        return os.fstat(file.fileno()).st_size
