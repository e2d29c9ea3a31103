"""Files that are written whole or not at all."""

from __future__ import annotations

import fcntl
import io
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import torch
import yaml

from spikelfp.errors import DataError, SaveError, UserError
from spikelfp.untrusted import open_regular

PART = ".part"
"""Ending of a file that is being written."""


def write_whole(path: str | Path, write: Callable[[BinaryIO], object]) -> None:
    """Let ``write`` fill a file beside ``path``, bring it to disk, then rename it to ``path``.

    Whatever goes wrong, what was at ``path`` before is still there, and nothing else is left behind. A process that is
    killed meanwhile leaves its part of the file, which the next one that writes ``path`` removes.

    Raises:
        SaveError: when the folder cannot be written or the disk is full.
    """
    path = Path(path)
    if "\0" in str(path):
        raise SaveError(f"cannot write {str(path)!r}: a name has no null character")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _part_of(path) as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
            os.replace(file.name, path)
        sync_folder(path.parent)
        remove_parts(path.parent, path.name)
    except OSError as error:
        if isinstance(error, SaveError):
            raise
        raise SaveError(
            f"cannot write {path}: {error.strerror or error}; what was there before is unchanged"
        ) from error


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` as UTF-8 to ``path``, whole or not at all."""
    write_whole(path, lambda file: file.write(text.encode()))


class _WholeDumper(yaml.SafeDumper):
    """A writer of YAML that writes a list as often as it is there, where PyYAML would refer to the first."""

    def ignore_aliases(self, data: Any) -> bool:
        """Refer to nothing: files that do are not read (:func:`spikelfp.untrusted.read_yaml`)."""
        return True


def yaml_text(values: Any, **options: Any) -> str:
    """Write plain values as YAML that :func:`spikelfp.untrusted.read_yaml` reads.

    Args:
        values: without circles.
        options: of :func:`yaml.dump`.
    """
    return yaml.dump(values, Dumper=_WholeDumper, **{"allow_unicode": True, "sort_keys": False, **options})


def write_tensors(path: str | Path, content: object) -> None:
    """Write ``content`` in torch's format to ``path``, whole or not at all.

    It is brought into bytes first: torch's own writer answers a full disk with an error of another kind.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_whole(path, lambda file: file.write(buffer.getbuffer()))


def copy_whole(source: str | Path, path: str | Path) -> None:
    """Copy the file ``source`` to ``path``, whole or not at all."""

    def write(file: BinaryIO) -> None:
        with open(source, "rb") as content:
            shutil.copyfileobj(content, file, 1 << 20)

    write_whole(path, write)


@contextmanager
def put_back(path: str | Path) -> Iterator[None]:
    """Put the file at ``path`` back, if there was one, when the block that replaces it ends with an error."""
    path = Path(path)
    before = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}{PART}")
    try:
        os.link(path, before, follow_symlinks=False)
    except OSError:  # there is none, or the file system knows no second names
        yield
        return
    try:
        yield
    except Exception:
        with suppress(OSError):
            os.replace(before, path)
        raise
    finally:
        before.unlink(missing_ok=True)


def remove_parts(folder: Path, name: str = "") -> None:
    """Remove what killed processes left of the files that they were writing in ``folder``.

    A part is left over if nobody holds the lock on it; without locks it stays.

    Args:
        folder: looked into, but not into the folders in it.
        name: of the file that was written; empty for all of them.
    """
    with suppress(OSError):
        for entry in os.scandir(folder):
            if is_part(entry.name, name) and entry.is_file(follow_symlinks=False):
                with suppress(OSError), open(entry.path, "rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(entry.path)


def is_part(entry: str, name: str = "") -> bool:
    """Whether ``entry`` is the name of a part of the file ``name``, or of any file."""
    return entry.startswith(f".{name}") and entry.endswith(PART)


def check_replaceable(
    path: str | Path, overwrite: bool, *, begins: bytes, what: str, keep: Sequence[str | Path] = ()
) -> None:
    """Refuse to write to ``path`` where that would lose a file: one of another kind, or any without ``overwrite``.

    Args:
        path: where something is about to be written.
        overwrite: whether a file of the same kind may be replaced.
        begins: bytes that files of the kind begin with.
        what: kind of the file, as in "no stream and no image".
        keep: files that are about to be read.

    Raises:
        UserError: with what to do.
    """
    path = Path(path)
    if not os.path.lexists(path):
        return
    if not overwrite:
        raise UserError(f"{path} exists already: replace it with --overwrite, or name another --out")
    if any(Path(one).exists() and path.exists() and path.samefile(one) for one in keep):
        raise UserError(f"{path} is what is to be read, so it is not overwritten: name another --out")
    if path.is_symlink() and not path.exists():
        raise UserError(f"{path} is a link to {os.readlink(path)}, which does not exist: name another --out")
    if not begins_with(path, begins):
        raise UserError(f"{path} is {what}, so it is not overwritten: name another --out")


def begins_with(path: str | Path, wanted: bytes) -> bool:
    """Whether the file at ``path`` begins with the bytes ``wanted``."""
    try:
        with open_regular(path) as file:
            return file.read(len(wanted)) == wanted
    except (OSError, DataError):
        return False


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to disk, where the system can."""
    if hasattr(os, "O_DIRECTORY"):
        with suppress(OSError):  # some network folders cannot; the rename itself has happened
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


@contextmanager
def _part_of(path: Path) -> Iterator[BinaryIO]:
    """Open a new file beside ``path``, locked, which is gone in the end unless it was renamed."""
    while True:
        beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}{PART}")
        with open(beside, "xb") as file:
            with suppress(OSError):  # where there are no locks, nobody removes parts
                fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file.fileno()).st_nlink == 0:  # taken for left over before it was locked
                continue
            try:
                yield file
            finally:
                beside.unlink(missing_ok=True)
            return
