"""Files of data sets: where they lie, what a folder or archive holds, and facts about them that are kept."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import sqlite3
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, wraps
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeVar

from spikelfp.data.download import data_dir as data_folder
from spikelfp.data.events.cache.store import cache_folder
from spikelfp.errors import DataError
from spikelfp.terminal import first_line
from spikelfp.untrusted import check_zip, open_regular, read_entry, read_regular, unpack_stream


def dataset_folder(data_dir: Path | None, *names: str) -> Path:
    """The first folder ``<data_dir>/<name>`` that is there; the one of the first name where none is."""
    root = data_folder(data_dir)
    return next((root / name for name in names if os.path.isdir(root / name)), root / names[0])


def user_path(text: str, data_dir: Path | None) -> Path:
    """The file or folder that a user means by ``text``: from ``data_dir``, if one is named, else from the folder one is
    in, else from the usual data folder.

    Returns an absolute path.

    Raises:
        DataError: where there is none.
    """
    if not text:
        raise DataError("the name of a file or folder is missing behind the colon")
    here, there = Path.cwd(), data_folder(data_dir)
    named = Path(text).expanduser()
    candidates = [folder / named for folder in ((here, there) if data_dir is None else (there, here))]
    for candidate in candidates:
        if os.path.exists(candidate):
            return candidate
    hint = "" if named.is_absolute() else "; name the folder it lies in with --data-dir"
    raise DataError(f"there is no {' and no '.join(map(str, dict.fromkeys(candidates)))}{hint}")


class Found(NamedTuple):
    """What lies in a folder, by path within it with ``/`` between names, sorted; nothing whose name begins with a dot.

    files: regular files, also behind symbolic links. folders: those right in it. broken: what is neither a file nor a
    folder, such as a link to nothing.
    """

    files: list[str]
    folders: list[str]
    broken: list[str]


def walk(folder: str | Path, deep: bool = True) -> Found:
    """What lies in ``folder`` and, ``deep``, in the folders below it, through symbolic links.

    Raises:
        DataError: for a folder that cannot be listed, and for links that lead back to a folder they lie in.
    """
    found = Found([], [], [])
    for name, entry in _walk(str(folder), "", deep, ()):
        kind = _kind(entry)
        if kind == "file":
            found.files.append(name)
        elif kind != "folder":
            found.broken.append(name)
        elif "/" not in name:
            found.folders.append(name)
    for names in found:
        names.sort()
    return found


def read_file(path: str) -> bytes:
    """The content of a file.

    Raises:
        DataError: where it cannot be read.
    """
    return read_regular(path)


def _walk(
    folder: str, inside: str, deep: bool, above: tuple[tuple[int, int], ...]
) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """(path within the first folder, entry) of all; ``above``: the folders one is in, to notice links back to them."""
    try:
        status = os.stat(folder)
        with os.scandir(folder) as entries:
            listed = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror or error})") from error
    here = (status.st_dev, status.st_ino)
    if here in above:
        raise DataError(f"{folder}: is a link back to a folder that it lies in")
    for entry in listed:
        yield inside + entry.name, entry
        if deep and _kind(entry) == "folder":
            yield from _walk(entry.path, f"{inside}{entry.name}/", deep, (*above, here))


def _kind(entry: os.DirEntry[str]) -> str:
    """Of what a link leads to."""
    try:
        return "folder" if entry.is_dir() else "file" if entry.is_file() else "neither"
    except OSError:  # a link to itself
        return "neither"


FILE = "known-files.sqlite3"

_SETTLED = 2.0  # seconds since the last change, from which on another change surely gets another time stamp
_PATIENCE = 5.0  # seconds to wait for another process that writes
_TOGETHER = 500  # facts written at once

_TABLE = """create table if not exists facts
(path blob, kind text, stamp text, fact text, primary key (path, kind)) without rowid"""


def facts_of_files(paths: Sequence[str | Path], kind: str, find_out: Callable[[str], str]) -> list[str]:
    """``find_out(path)`` for each of ``paths``, remembered in the cache folder under ``kind``.

    A fact counts as long as the file's size, its times of change (of content and of inode, in ns) and its inode stay.
    An empty fact is not remembered, nor is one of a file that changed in the last seconds, because the clock of a file
    system may be too coarse to tell the next change. Where the cache folder cannot be written or read, all is found out
    each time. Processes may do this side by side.
    """
    facts: list[str] = []
    with _open() as known:
        fresh: list[tuple[bytes, str, str, str]] = []
        try:
            for path in paths:
                absolute = os.path.abspath(path)
                key, stamp = os.fsencode(absolute), _stamp(absolute)
                fact = _look_up(known, key, kind, stamp)
                if fact is None:
                    fact = find_out(str(path))
                    if fact and stamp is not None and stamp == _stamp(absolute, settled=True):
                        fresh.append((key, kind, stamp, fact))
                facts.append(fact)
                if len(fresh) >= _TOGETHER:
                    _keep(known, fresh)
                    fresh = []
        finally:
            _keep(known, fresh)
    return facts


@contextlib.contextmanager
def _open() -> Iterator[sqlite3.Connection | None]:
    """The file of facts, ``None`` where there can be none."""
    path = cache_folder() / FILE
    connection = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=_PATIENCE)
        connection.execute(_TABLE)
    except (OSError, sqlite3.Error):
        # Read-only, full, or no database: an old table may still be read, else every look-up fails and is repeated.
        pass
    try:
        yield connection
    finally:
        if connection is not None:
            connection.close()


def _look_up(known: sqlite3.Connection | None, key: bytes, kind: str, stamp: str | None) -> str | None:
    if known is None or stamp is None:
        return None
    try:
        row = known.execute("select stamp, fact from facts where path = ? and kind = ?", (key, kind)).fetchone()
    except sqlite3.Error:
        return None
    return row[1] if row is not None and row[0] == stamp else None


def _keep(known: sqlite3.Connection | None, rows: list[tuple[bytes, str, str, str]]) -> None:
    if known is not None and rows:
        with contextlib.suppress(sqlite3.Error), known:
            known.executemany("insert or replace into facts values (?, ?, ?, ?)", rows)


def _stamp(path: str, settled: bool = False) -> str | None:
    """What changes when the file does; ``None`` if it is not there or, ``settled``, has just changed."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    if settled and time.time() - max(status.st_mtime, status.st_ctime) < _SETTLED:
        return None
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"


_DIGEST = 16  # bytes
_CHUNK = 1 << 20


def content_hashes(paths: Sequence[str | Path]) -> list[str]:
    """The BLAKE2b hash (RFC 7693) of the content of each file, in hexadecimal, remembered by
    :func:`~spikelfp.data.events.sources.files.facts_of_files`.

    Raises:
        DataError: for a file that cannot be read.
    """
    return facts_of_files(paths, "blake2b", _content_hash)


def hash_of(*parts: str | bytes | int) -> str:
    """One hash of ``parts`` and of where one ends and the next begins, in hexadecimal."""
    digest = hashlib.blake2b(digest_size=_DIGEST)
    for part in parts:
        content = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogateescape")
        digest.update(f"{type(part).__name__} {len(content)} ".encode())
        digest.update(content)
    return digest.hexdigest()


def _content_hash(path: str) -> str:
    digest = hashlib.blake2b(digest_size=_DIGEST)
    try:
        with open_regular(path) as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    return digest.hexdigest()


P = ParamSpec("P")
T = TypeVar("T")


class Version(NamedTuple):
    """A file as it is now: what is read of it is asked for by this, and is read again when it changes."""

    path: str
    size: int
    changed: int
    """Last change in ns."""


def version_of(path: str | Path) -> Version:
    """The file at ``path`` as it is now.

    Raises:
        DataError: where there is none, or it is not to be seen.
    """
    absolute = os.path.abspath(path)
    try:
        status = os.stat(absolute)
    except OSError as error:
        raise DataError(f"{absolute}: cannot be read ({error.strerror})") from error
    return Version(absolute, status.st_size, status.st_mtime_ns)


def once(most: int) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorator: keep the ``most`` results that were asked for last; threads that ask for one that is being made wait
    for it instead of making it once more."""

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        kept = lru_cache(maxsize=most)(function)
        lock = threading.RLock()

        @wraps(function)
        def ask(*args: P.args, **kwargs: P.kwargs) -> T:
            with lock:
                return kept(*args, **kwargs)  # type: ignore[arg-type]

        return ask

    return decorate


TAR = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
ZIP = (".zip", ".npz")

_MOST_FILES = 1 << 20  # of a tar archive
_MOST = 2 << 30  # bytes of a tar archive, or of a file in a zip archive, that are held in memory


def is_archive(path: str | Path) -> bool:
    """Whether the name of ``path`` is that of an archive of files."""
    return str(path).lower().endswith((*TAR, ".zip"))


def members(path: str | Path) -> list[str]:
    """The names of the files of an archive, in its order. Those of a tar archive, which is to be read whole for them,
    are remembered: see :func:`~spikelfp.data.events.sources.files.facts_of_files`.

    Raises:
        DataError: for a damaged archive, or a tar archive that holds more than 2 GiB.
    """
    if _is_zip(path):
        return [info.filename for info in _zip(version_of(path), os.getpid()).infolist() if not info.is_dir()]
    (names,) = facts_of_files([path], "members", lambda path: json.dumps(list(_tar(version_of(path)).places)))
    return json.loads(names)


def read_member(path: str | Path, name: str) -> bytes:
    """The content of the file ``name`` of an archive: out of a zip archive as it is asked for, out of the memory of
    this process for a tar archive, which can only be read from its beginning.

    Raises:
        DataError: for a damaged archive, and a name that is not in it.
    """
    try:
        if _is_zip(path):
            archive = _zip(version_of(path), os.getpid())
            entry = archive.getinfo(name)
            if entry.file_size > _MOST:
                raise _too_large(path)
            return read_entry(archive, entry, str(path))
        content, places = _tar(version_of(path))
        return content[slice(*places[name])]
    except KeyError:
        raise DataError(f"{path}: holds no file {name}") from None


def _too_large(path: str | Path) -> DataError:
    return DataError(f"{path}: holds more than {_MOST >> 30} GiB, too much for memory: unpack it")


def _is_zip(path: str | Path) -> bool:
    return str(path).lower().endswith(ZIP)


class _Tar(NamedTuple):
    """The content of a tar archive, and where in it each file begins and ends."""

    content: bytes
    places: dict[str, tuple[int, int]]


@once(most=2)
def _tar(archive: Version) -> _Tar:
    path = archive.path
    with open_regular(path) as file:
        content = bytes(unpack_stream(file, archive.size, path, _MOST))
    places: dict[str, tuple[int, int]] = {}
    with _damage(path), tarfile.open(fileobj=io.BytesIO(content), mode="r:") as opened:
        for number, info in enumerate(opened):
            opened.members = []  # type: ignore[attr-defined]  # it keeps a record of each, which takes more than a small file itself
            if number > _MOST_FILES:
                raise DataError(f"{path}: holds more than {_MOST_FILES} files: unpack it")
            if info.sparse is not None or info.size < 0:
                raise DataError(f"{path}: {info.name[:60]!r} is stored with holes, which is not read: unpack it")
            if info.isreg():
                places[info.name] = (info.offset_data, info.offset_data + info.size)
        end = opened.offset
    # tarfile stops without a word where a file is cut off; the last entry is followed by a block of zeros
    if content[end : end + tarfile.BLOCKSIZE] != bytes(tarfile.BLOCKSIZE):
        raise DataError(f"{path}: damaged, nothing to be read from byte {end} of its content on")
    return _Tar(content, places)


@once(most=8)
def _zip(archive: Version, process: int) -> zipfile.ZipFile:
    """Open, in this ``process``: children share the place in the file with a handle that they inherit."""
    with _damage(archive.path):
        opened = zipfile.ZipFile(open_regular(archive.path))
    check_zip(opened, archive.size, archive.path, together=False)
    return opened


@contextmanager
def _damage(path: str | Path) -> Iterator[None]:
    """Whatever goes wrong with an archive as one line."""
    try:
        yield
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        EOFError,
        NotImplementedError,
        OverflowError,
        UnicodeDecodeError,
    ) as error:
        raise DataError(f"{path}: damaged or no archive of its kind ({first_line(error)})") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
