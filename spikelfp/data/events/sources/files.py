"""Files of data sets: where they lie, what a folder or an archive holds, hashes and other facts about their content."""

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
from functools import lru_cache, wraps
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeVar

from spikelfp.data.download import data_dir as data_folder
from spikelfp.data.events.cache.store import cache_folder
from spikelfp.errors import DataError
from spikelfp.terminal import first_line
from spikelfp.untrusted import check_zip, open_regular, read_entry, unpack_stream

P = ParamSpec("P")
T = TypeVar("T")

TAR = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
ZIP = (".zip", ".npz")
_MOST_FILES = 1 << 20  # of a tar archive
_MOST = 2 << 30  # bytes of a tar archive, or of a file in a zip archive, that are held in memory

FACTS_FILE = "known-files.sqlite3"
"""File in the cache folder that keeps facts about files."""

_SETTLED = 2.0  # seconds after a change, from which on another change surely gets another time stamp
_PATIENCE = 5.0  # seconds to wait for another process that writes
_TOGETHER = 500  # facts written at once
_TABLE = """create table if not exists facts
(path blob, kind text, stamp text, fact text, primary key (path, kind)) without rowid"""

_DIGEST = 16  # bytes
_CHUNK = 1 << 20


# Paths and folders


def dataset_folder(data_dir: Path | None, *names: str) -> Path:
    """The first folder ``<data_dir>/<name>`` that exists; the one of the first name if none does."""
    root = data_folder(data_dir)
    return next((root / name for name in names if os.path.isdir(root / name)), root / names[0])


def user_path(text: str, data_dir: Path | None) -> Path:
    """Find the file or folder that a user named.

    Args:
        text: a path, absolute or from ``data_dir``, the working directory, or the usual data folder.
        data_dir: the folder that is looked into first; ``None``: the working directory is.

    Returns:
        An absolute path.

    Raises:
        DataError: when there is nothing.
    """
    if not text:
        raise DataError("the name of a file or folder is missing after the colon")
    named = Path(text).expanduser()
    if named.is_absolute():
        candidates = [named]
    else:
        here, there = Path.cwd(), data_folder(data_dir)
        candidates = [folder / named for folder in ((here, there) if data_dir is None else (there, here))]
    for candidate in candidates:
        if os.path.exists(candidate):
            return candidate
    hint = "" if named.is_absolute() else "; name the folder it lies in with --data-dir"
    raise DataError(f"there is no {' and no '.join(map(str, dict.fromkeys(candidates)))}{hint}")


class FolderContent(NamedTuple):
    """Content of a folder: sorted paths within it, with ``/`` between names; without names that begin with a dot.

    Attributes:
        files: regular files, also through symbolic links.
        folders: those directly in it.
        broken: what is neither a file nor a folder, such as a link to nothing.
    """

    files: list[str]
    folders: list[str]
    broken: list[str]


def walk(folder: str | Path, deep: bool = True) -> FolderContent:
    """List what lies in ``folder`` and, if ``deep``, in the folders below it, through symbolic links.

    Raises:
        DataError: for a folder that cannot be listed, and for a link that leads back to a folder it lies in.
    """
    content = FolderContent([], [], [])

    def visit(folder: str, prefix: str, above: tuple[tuple[int, int], ...]) -> None:
        try:
            status = os.stat(folder)
            with os.scandir(folder) as entries:
                listed = [entry for entry in entries if not entry.name.startswith(".")]
        except OSError as error:
            raise DataError(f"{folder}: cannot be listed ({error.strerror or error})") from error
        identity = (status.st_dev, status.st_ino)
        if identity in above:
            raise DataError(f"{folder}: is a link back to a folder that it lies in")
        for entry in listed:
            name = prefix + entry.name
            try:
                is_folder, is_file = entry.is_dir(), entry.is_file()  # of what a link leads to
            except OSError:  # a link to itself
                is_folder = is_file = False
            if not is_folder:
                (content.files if is_file else content.broken).append(name)
                continue
            if not prefix:
                content.folders.append(name)
            if deep:
                visit(entry.path, f"{name}/", (*above, identity))

    visit(str(folder), "", ())
    for names in content:
        names.sort()
    return content


# Hashes and other facts, kept in the cache folder until a file changes


def content_hashes(paths: Sequence[str | Path]) -> list[str]:
    """BLAKE2b hash (RFC 7693) of the content of each file, in hexadecimal, kept by :func:`facts_of_files`.

    Raises:
        DataError: for a file that cannot be read.
    """
    return facts_of_files(paths, "blake2b", _content_hash)


def _content_hash(path: str) -> str:
    digest = hashlib.blake2b(digest_size=_DIGEST)
    try:
        with open_regular(path) as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    return digest.hexdigest()


def hash_of(*parts: str | bytes | int) -> str:
    """One BLAKE2b hash of ``parts`` and of where each ends, in hexadecimal."""
    digest = hashlib.blake2b(digest_size=_DIGEST)
    for part in parts:
        content = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogateescape")
        digest.update(f"{type(part).__name__} {len(content)} ".encode())
        digest.update(content)
    return digest.hexdigest()


def facts_of_files(paths: Sequence[str | Path], kind: str, find_out: Callable[[str], str]) -> list[str]:
    """Look up one fact about each file, or find it out and keep it in the cache folder until the file changes.

    A fact counts as long as the file's size, its times of change (of content and of inode, in ns) and its inode stay.
    Not kept are an empty fact and that of a file that changed in the last seconds, because the clock of a file system
    may be too coarse to show the next change. Where the cache folder cannot be written or read, everything is found out
    each time. Several processes may do this at the same time.

    Args:
        paths: of the files.
        kind: name of the fact.
        find_out: makes the fact from a path.

    Returns:
        The fact of each file.
    """
    facts: list[str] = []
    with _known_facts() as known:
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


def kept_fact(key: str, kind: str, find_out: Callable[[], str]) -> str:
    """Look up one fact about content that has a hash, or find it out and keep it in the cache folder.

    Args:
        key: hash of the content.
        kind: name of the fact.
        find_out: makes the fact, a text that is not empty.

    Returns:
        The fact.
    """
    path = os.fsencode(f"content {key}")
    with _known_facts() as known:
        fact = _look_up(known, path, kind, "")
        if fact is None:
            fact = find_out()
            _keep(known, [(path, kind, "", fact)])
    return fact


@contextlib.contextmanager
def _known_facts() -> Iterator[sqlite3.Connection | None]:
    """Open the file of facts; ``None`` where there can be none."""
    path = cache_folder() / FACTS_FILE
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
    """Text that changes when the file does; ``None`` without a file or, if ``settled``, when it has just changed."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    if settled and time.time() - max(status.st_mtime, status.st_ctime) < _SETTLED:
        return None
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"


# Content kept in memory, and archives read without unpacking them to the disk


class FileVersion(NamedTuple):
    """A file in its present version: a key for content that is read again when the file changes.

    Attributes:
        path: absolute.
        size: bytes.
        changed: time of the last change in ns.
    """

    path: str
    size: int
    changed: int


def version_of(path: str | Path) -> FileVersion:
    """The present version of the file at ``path``.

    Raises:
        DataError: when there is no file, or it may not be seen.
    """
    absolute = os.path.abspath(path)
    try:
        status = os.stat(absolute)
    except OSError as error:
        raise DataError(f"{absolute}: cannot be read ({error.strerror})") from error
    return FileVersion(absolute, status.st_size, status.st_mtime_ns)


def kept_in_memory(most: int) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorate a function so that its last ``most`` results are kept, and threads wait for a result in the making."""

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        kept = lru_cache(maxsize=most)(function)
        lock = threading.RLock()

        @wraps(function)
        def ask(*args: P.args, **kwargs: P.kwargs) -> T:
            with lock:
                return kept(*args, **kwargs)  # type: ignore[arg-type]

        return ask

    return decorate


def is_archive(path: str | Path) -> bool:
    """Whether ``path`` has the name of an archive of files."""
    return str(path).lower().endswith((*TAR, ".zip"))


def members(path: str | Path) -> list[str]:
    """Names of the files in an archive, in its order.

    A tar archive has to be read whole for them: they are kept by :func:`facts_of_files`.

    Raises:
        DataError: for a damaged archive, or a tar archive that holds more than 2 GiB.
    """
    if _is_zip(path):
        return [info.filename for info in _zip(version_of(path), os.getpid()).infolist() if not info.is_dir()]
    (names,) = facts_of_files([path], "members", lambda path: json.dumps(list(_tar(version_of(path)).places)))
    return json.loads(names)


def read_member(path: str | Path, name: str) -> bytes:
    """Read the file ``name`` of an archive.

    A zip archive is read where the file lies. A tar archive, which can only be read from its beginning, is kept in the
    memory of this process.

    Raises:
        DataError: for a damaged archive, and a name that is not in it.
    """
    try:
        if _is_zip(path):
            archive = _zip(version_of(path), os.getpid())
            entry = archive.getinfo(name)
            if entry.file_size > _MOST:
                raise DataError(f"{path}: holds more than {_MOST >> 30} GiB, too much for memory: unpack it")
            return read_entry(archive, entry, str(path))
        content, places = _tar(version_of(path))
        return content[slice(*places[name])]
    except KeyError:
        raise DataError(f"{path}: holds no file {name}") from None


def _is_zip(path: str | Path) -> bool:
    return str(path).lower().endswith(ZIP)


class TarContent(NamedTuple):
    """Content of a tar archive.

    Attributes:
        content: all of it, decompressed.
        places: first and last byte of each file.
    """

    content: bytes
    places: dict[str, tuple[int, int]]


@kept_in_memory(most=2)
def _tar(archive: FileVersion) -> TarContent:
    path = archive.path
    with open_regular(path) as file:
        content = bytes(unpack_stream(file, archive.size, path, _MOST))
    places: dict[str, tuple[int, int]] = {}
    with _archive_errors(path), tarfile.open(fileobj=io.BytesIO(content), mode="r:") as opened:
        for number, info in enumerate(opened):
            opened.members = []  # type: ignore[attr-defined]  # its record of each takes more than a small file itself
            if number > _MOST_FILES:
                raise DataError(f"{path}: holds more than {_MOST_FILES} files: unpack it")
            if info.sparse is not None or info.size < 0:
                raise DataError(f"{path}: {info.name[:60]!r} is stored with holes, which is not read: unpack it")
            if info.isreg():
                places[info.name] = (info.offset_data, info.offset_data + info.size)
        end = opened.offset
    # tarfile stops without an error where a file is cut off; the last entry is followed by a block of zeros
    if content[end : end + tarfile.BLOCKSIZE] != bytes(tarfile.BLOCKSIZE):
        raise DataError(f"{path}: damaged, nothing to be read from byte {end} of its content on")
    return TarContent(content, places)


@kept_in_memory(most=8)
def _zip(archive: FileVersion, process: int) -> zipfile.ZipFile:
    """Open the archive in this ``process``: a child would share the place in the file with the handle it inherits."""
    with _archive_errors(archive.path):
        opened = zipfile.ZipFile(open_regular(archive.path))
    check_zip(opened, archive.size, archive.path, together=False)
    return opened


@contextlib.contextmanager
def _archive_errors(path: str) -> Iterator[None]:
    """Raise whatever goes wrong with an archive as a ``DataError`` of one line."""
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
