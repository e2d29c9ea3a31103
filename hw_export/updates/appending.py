"""A stream file that grows by whole records."""

from __future__ import annotations

import fcntl
import os
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO

from hw_export.updates.framing import Link, write_record
from spikelfp.errors import SaveError, UserError
from spikelfp.files import write_whole


class StreamFile:
    """Appends records to a file, each by one write that the system has when it returns.

    A program that is killed leaves the record it was writing cut off and all earlier ones whole; ``durable`` has every
    record brought to disk, which a machine that loses power needs. A write that fails is taken back. The file is locked
    while it is open: a second writer is refused, a reader is not.
    """

    def __init__(self, path: str | Path, link: Link, *, durable: bool = False) -> None:
        self.path, self.link, self.durable = Path(path), link, durable
        try:
            self._file = open(self.path, "r+b", buffering=0)  # noqa: SIM115  (closed by close)
            _lock(self._file, self.path)
            if self.path.stat().st_ino != os.fstat(self._file.fileno()).st_ino:
                raise _in_use(self.path)  # another writer has just replaced it
            self._to_end()
        except OSError as error:
            raise SaveError(f"cannot write {self.path}: {error.strerror or error}") from error

    @property
    def closed(self) -> bool:
        """Whether nothing can be appended any more."""
        return self._file.closed

    @staticmethod
    def create(path: str | Path, body: bytes, *, durable: bool = False) -> StreamFile:
        """Make a new file with its first record, which is there whole or not at all.

        Raises:
            UserError: for a file there that is being written.
        """
        data, link = write_record(body, Link())
        with ExitStack() as held:
            with suppress(OSError):  # there is none, or writing will tell why
                before = held.enter_context(open(path, "rb"))
                _lock(before, Path(path))
            write_whole(path, lambda file: file.write(data))
        return StreamFile(path, link, durable=durable)

    def append(self, body: bytes) -> int:
        """Write the next record; returns its size in bytes."""
        data, link = write_record(body, self.link)
        try:
            self._to_end()
            written = 0
            while written < len(data):
                written += self._file.write(data[written:])
            if self.durable:
                os.fsync(self._file.fileno())
        except OSError as error:
            with suppress(OSError):  # where even this fails, readers tell a cut record from a whole one
                self._to_end()
            raise SaveError(
                f"cannot write {self.path}: {error.strerror or error}; the frames before are unchanged"
            ) from error
        self.link = link
        return len(data)

    def close(self) -> None:
        """Bring the file to disk and close it."""
        if self._file.closed:
            return
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise SaveError(f"cannot write {self.path}: {error.strerror or error}") from error
        finally:
            self._file.close()

    def _to_end(self) -> None:
        """Behind the last whole record; what a failed write left there is removed."""
        if self._file.seek(0, os.SEEK_END) != self.link.offset:
            self._file.truncate(self.link.offset)
            self._file.seek(self.link.offset)


def _lock(file: BinaryIO, path: Path) -> None:
    """Lock an open file until it is closed; where there are no locks, go on without.

    Raises:
        UserError: for one that is locked.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise _in_use(path) from None
    except OSError:
        pass


def _in_use(path: Path) -> UserError:
    return UserError(f"{path} is being written by another recorder: wait until that is closed, or name another file")
