"""Files that are written whole or not at all, and folders of runs and exports.

One process at a time owns a folder. While the content of a folder is being replaced, the new files lie in :data:`NEW`
inside it. They are complete when the last one is there (:attr:`Kind.last`); only then are the old ones removed::

    NEW without its last file                      the old content is valid; NEW is removed
    NEW with its last file                         the old files are moved to MOVING, which becomes OLD;
                                                   then the new files are moved to their places, the last one last
    OLD                                            holds all old files; the rest of NEW is moved, OLD is removed

So a process that is killed at any moment leaves either the old content or the new one, and the next process that
opens the folder (:func:`owned`, :func:`settle`) finishes what the killed one began. Only files that are known by their
content are removed; all others stay where they are.
"""

from __future__ import annotations

import errno
import fcntl
import io
import os
import shutil
import socket
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import filelock
import torch
import yaml

from spikelfp.errors import DataError, RunFolderError, SaveError, UserError
from spikelfp.untrusted import open_regular

PART = ".part"
"""Ending of a file that is being written."""


def write_whole(path: str | Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a temporary file beside ``path``, sync it to disk, then rename it to ``path``.

    After an error, the file that was at ``path`` before is still there, and the temporary one is removed. A process
    that is killed leaves its temporary file, which the next process that writes ``path`` removes.

    Args:
        path: of the file.
        write: called with the open file.

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
    """Write a text as UTF-8 to ``path``, whole or not at all."""
    write_whole(path, lambda file: file.write(text.encode()))


class _WholeDumper(yaml.SafeDumper):
    """A writer of YAML that repeats a list wherever it occurs, where PyYAML would write a reference to the first."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write no references, which :func:`spikelfp.untrusted.read_yaml` refuses."""
        return True


def yaml_text(values: Any, **options: Any) -> str:
    """Write plain values as YAML that :func:`spikelfp.untrusted.read_yaml` reads.

    Args:
        values: numbers, texts, lists and mappings; none contains itself.
        **options: of :func:`yaml.dump`.
    """
    return yaml.dump(values, Dumper=_WholeDumper, **{"allow_unicode": True, "sort_keys": False, **options})


def write_tensors(path: str | Path, content: object) -> None:
    """Write ``content`` in torch's format to ``path``, whole or not at all.

    It is serialised in memory first: on a full disk torch's own writer raises an error that is no ``OSError``.
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
    """Restore the file at ``path`` if the block that replaces it ends with an error."""
    path = Path(path)
    before = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}{PART}")
    try:
        os.link(path, before, follow_symlinks=False)
    except OSError:  # there is none, or the file system has no hard links
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
    """Remove the temporary files of killed processes from ``folder``.

    A temporary file that no process has locked is left over; on a file system without locks it stays.

    Args:
        folder: searched without the folders in it.
        name: of the file that was written; empty for all files.
    """
    with suppress(OSError):
        for entry in os.scandir(folder):
            if is_part(entry.name, name) and entry.is_file(follow_symlinks=False):
                with suppress(OSError), open(entry.path, "rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(entry.path)


def is_part(entry: str, name: str = "") -> bool:
    """Whether ``entry`` is the name of a temporary file of the file ``name``, or of any file where that is empty."""
    return entry.startswith(f".{name}") and entry.endswith(PART)


def check_replaceable(
    path: str | Path, overwrite: bool, *, begins: bytes, what: str, keep: Sequence[str | Path] = ()
) -> None:
    """Refuse to replace a file of another kind, or any file without ``overwrite``.

    Args:
        path: of the file to be written.
        overwrite: whether a file of the same kind may be replaced.
        begins: first bytes of files of the kind.
        what: name of a file of another kind, such as "no stream and no image".
        keep: files that are to be read, which are not replaced.

    Raises:
        UserError: for a file that would be lost; the text says what to do.
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
    """Sync the names in a folder to disk, where the system can."""
    if hasattr(os, "O_DIRECTORY"):
        with suppress(OSError):  # some network folders cannot; the file is renamed all the same
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


@contextmanager
def _part_of(path: Path) -> Iterator[BinaryIO]:
    """Open a new locked file beside ``path``, which is removed at the end unless it was renamed."""
    while True:
        beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}{PART}")
        with open(beside, "xb") as file:
            with suppress(OSError):  # without locks, no process removes temporary files of others
                fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file.fileno()).st_nlink == 0:  # removed by another process before it was locked
                continue
            try:
                yield file
            finally:
                beside.unlink(missing_ok=True)
            return


LOCK, OWNER, NEW, MOVING, OLD = ".lock", ".owner", ".new", ".replacing", ".replaced"
_OWN = {LOCK, OWNER, NEW, MOVING, OLD}
PATIENCE = 0.3
"""Seconds to wait for an owner that is about to end."""


@dataclass(frozen=True)
class Kind:
    """A kind of folder.

    Attributes:
        name: for users: "run" or "export".
        last: path in the folder of the file that is written last and makes the content complete.
        files: called with a folder and whether to trust names; returns the paths of the files of this kind in it, the
            one that identifies the folder last. It raises an error for a folder of another kind and for a file of
            another kind under one of these names; files under trusted names are not opened.
    """

    name: str
    last: str
    files: Callable[[Path, bool], list[str]]


class Place:
    """A folder that this process owns.

    Attributes:
        path: the folder.
        current: where its files are written: ``path``, or :data:`NEW` inside it until :meth:`commit`.
        replaced: paths in it of the files that :meth:`commit` removes.
    """

    def __init__(self, path: Path, kind: Kind) -> None:
        self.path, self.current, self._kind = path, path, kind
        self.replaced: tuple[str, ...] = ()

    def replace(self) -> None:
        """Begin a replacement: the content of the folder stays until :meth:`commit`.

        Raises:
            UserError: for a folder, or a file in it, of another kind.
            SaveError: when the folder cannot be written.
        """
        self.replaced = tuple(self._kind.files(self.path, False))
        for name in self.replaced:
            _check_inside(self.path, name)
        self.current = self.path / NEW
        with saving(self.path):
            self.current.mkdir()

    def commit(self) -> None:
        """Replace the old content of the folder by what was written, which includes the last file."""
        if self.current != self.path:
            with saving(self.path):
                _commit(self.path, self._kind)
            self.current = self.path

    def abandon(self) -> None:
        """Remove what was written since :meth:`replace`; the old content stays."""
        if self.current != self.path:
            with suppress(OSError):  # the next owner does it
                if not _is_folder(self.path / OLD):
                    shutil.rmtree(self.current)
                _settle(self.path, self._kind)
            self.current = self.path


@contextmanager
def owned(path: Path, kind: Kind) -> Iterator[Place]:
    """Own a folder within the block; it is made if it does not exist, and removed at the end if it is empty.

    A replacement that a killed owner began is finished or undone first. One that the block does not commit is undone.

    Args:
        path: of the folder.
        kind: of the folder.

    Raises:
        RunFolderError: while another process, or another thread, owns it.
        SaveError: when it cannot be written.
    """
    check_path(path)
    made = _missing(path)
    with saving(path):
        path.mkdir(parents=True, exist_ok=True)
    try:
        with _locked(path, kind):
            _settle(path, kind)
            place = Place(path, kind)
            try:
                yield place
            finally:
                place.abandon()
    finally:
        for folder in made:
            with suppress(OSError):  # not empty
                folder.rmdir()


def settle(path: Path, kind: Kind) -> None:
    """Finish or undo the replacement of a folder whose owner was killed, if nobody owns the folder now.

    Readers call this before they read; it costs them a look at three names.
    """
    if any(os.path.lexists(path / name) for name in (NEW, MOVING, OLD)):
        with suppress(UserError), _locked(path, kind):  # an owner settles it itself; a read-only folder stays
            _settle(path, kind)


def content_of(path: Path) -> list[str]:
    """List the names in a folder, without those of this module and temporary files."""
    try:
        names = sorted(os.listdir(path))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunFolderError(f"cannot read the folder {path}: {error.strerror}") from None
    return [name for name in names if name not in _OWN and not is_part(name)]


def check_path(path: Path) -> None:
    """Refuse a path that cannot be a folder.

    Raises:
        RunFolderError: for a file, a broken link, a name that is too long or has control characters.
    """
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in str(path)):
        raise RunFolderError(f"a folder cannot be named {str(path)!r}: leave out line breaks and control characters")
    try:
        there = os.path.lexists(path)
        if there and path.is_symlink() and not path.exists():
            raise RunFolderError(f"{path} is a link to {os.readlink(path)}, which does not exist")
        if there and not path.is_dir():
            raise RunFolderError(f"{path} is a file, and a folder is wanted: name another --out")
        for parent in path.parents:
            if os.path.lexists(parent):
                if not parent.is_dir():
                    raise RunFolderError(f"{path} lies in {parent}, which is no folder: name another --out")
                break
        os.stat(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise RunFolderError(f"cannot use the folder {path}: {error.strerror}") from None


def check_not_inside(path: Path, kind: Kind, others: dict[str, Path]) -> None:
    """Refuse a new folder inside another one of its kind, or inside one of the ``others``.

    Args:
        path: of the new folder.
        kind: of the new folder.
        others: folders by their names for the error.

    Raises:
        RunFolderError: with the outer folder.
    """
    whole = path.resolve()
    for parent in whole.parents:
        if os.path.lexists(parent / kind.last):
            raise RunFolderError(f"{path} lies inside the {kind.name} folder {parent}: name another --out")
    for what, other in others.items():
        if whole.is_relative_to(other.resolve()):
            raise RunFolderError(f"{path} lies inside {what} {other}: name another --out")


def _settle(path: Path, kind: Kind) -> None:
    """Finish or undo the replacement that a killed owner began."""
    for name in (NEW, MOVING, OLD):
        if os.path.lexists(path / name) and not _is_folder(path / name):
            raise RunFolderError(f"{path / name} is in the way, and no folder that was made here: move it away")
    with saving(path):
        if _is_folder(path / OLD) or (_is_folder(path / NEW) and (path / NEW / kind.last).is_file()):
            _commit(path, kind)
        elif _is_folder(path / MOVING):
            _put_back(path)
        if _is_folder(path / NEW):
            shutil.rmtree(path / NEW)
        for folder in dict.fromkeys([path, path / Path(kind.last).parent]):
            remove_parts(folder)


def _commit(path: Path, kind: Kind) -> None:
    """Replace the old files by the new ones, from wherever an earlier try was stopped.

    Raises:
        OSError: when it cannot be done; the old files are back in their places.
    """
    new, moving, old = path / NEW, path / MOVING, path / OLD
    try:
        if not _is_folder(old):
            moving.mkdir(exist_ok=True)
            for name in kind.files(path, True):
                _move(path, moving, name)
            sync_folder(path)
            os.replace(moving, old)
        moved = []
        for name in sorted(_files_in(new), key=lambda name: name == kind.last):
            _move(new, path, name)
            moved.append(name)
        sync_folder(path)
    except Exception:
        if _is_folder(old):
            for name in reversed(moved):
                _move(path, new, name)
            os.replace(old, moving)
        _put_back(path)
        raise
    for gone in (new, old):
        if _is_folder(gone):
            shutil.rmtree(gone)


def _put_back(path: Path) -> None:
    """Undo the first half of :func:`_commit`."""
    moving = path / MOVING
    for name in _files_in(moving):
        _move(moving, path, name)
    if _is_folder(moving):
        shutil.rmtree(moving)


def _files_in(folder: Path) -> list[str]:
    """List the files in a folder and its subfolders, without temporary files."""
    found = [Path(place, name) for place, _, names in os.walk(folder) for name in names if not is_part(name)]
    return sorted(str(file.relative_to(folder)) for file in found)


def _move(source: Path, target: Path, name: str) -> None:
    for folder in (source, target):
        _check_inside(folder, name)
    (target / name).parent.mkdir(parents=True, exist_ok=True)
    os.replace(source / name, target / name)


def _check_inside(folder: Path, name: str) -> None:
    """Refuse a file in a linked subfolder, which may lie outside of ``folder``."""
    for parent in list(Path(name).parents)[:-1]:
        if (folder / parent).is_symlink():
            raise RunFolderError(f"{folder / parent} is a link: what it leads to is not replaced, so move it away")


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _missing(path: Path) -> list[Path]:
    """List the folders that have to be made, the innermost first."""
    missing = []
    for folder in (path, *path.parents):
        if os.path.lexists(folder):
            break
        missing.append(folder)
    return missing


@contextmanager
def saving(path: Path) -> Iterator[None]:
    """Turn errors of the system in writing a folder into errors of one line.

    Args:
        path: of the folder.

    Raises:
        SaveError: for an ``OSError`` in the block.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, UserError):
            raise
        raise SaveError(f"cannot write the folder {path}: {error.strerror or error}; nothing in it is lost") from error


@contextmanager
def _locked(path: Path, kind: Kind) -> Iterator[None]:
    """Hold the lock of a folder, which the system releases when the process ends, however it ends."""
    lock: filelock.BaseFileLock = filelock.FileLock(path / LOCK, timeout=PATIENCE, thread_local=False)
    file = path / LOCK
    with saving(path):
        try:
            try:
                lock.acquire()
            except (NotImplementedError, OSError) as error:
                if isinstance(error, filelock.Timeout) or not _has_no_locks(error):
                    raise
                file = path / OWNER  # exists as long as the folder has an owner, whose process must be alive
                lock = filelock.SoftFileLock(file, timeout=PATIENCE, thread_local=False)
                lock.acquire()
        except filelock.Timeout:
            raise RunFolderError(
                f"{path} is in use by {_owner(file)}, which writes the {kind.name} in it: wait until it is done, or "
                "name another --out"
            ) from None
    try:
        if file.name == LOCK:
            with suppress(OSError), open(os.open(file, os.O_WRONLY | os.O_NOFOLLOW), "w") as text:
                text.truncate(0)
                text.write(f"{os.getpid()} {socket.gethostname()}\n")
        yield
    finally:
        try:
            with suppress(OSError):
                os.unlink(path / LOCK)  # filelock notices in other processes that have it open
        finally:
            lock.release()


def _has_no_locks(error: Exception) -> bool:
    """Whether a file system said that it has no locks."""
    return isinstance(error, NotImplementedError) or getattr(error, "errno", None) in (
        errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP,
    )  # fmt: skip


def _owner(file: Path) -> str:
    """Describe the owner of a folder, as the file of its lock says."""
    try:
        fields = file.read_text(errors="replace").split()
    except OSError:
        fields = []
    number = next((field for field in fields[:1] if field.isdigit()), None)
    if number is None:
        return "another process"
    host = "".join(letter for letter in fields[1] if letter.isprintable())[:80] if len(fields) > 1 else "this machine"
    return f"process {number} on {host}"
