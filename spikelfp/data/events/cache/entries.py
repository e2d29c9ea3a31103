"""What lies in the cache, and how it is removed."""

from __future__ import annotations

import contextlib
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

from spikelfp.data.events.cache.files import DamagedError, read_about
from spikelfp.data.events.cache.key import slug, split_name
from spikelfp.data.events.cache.lock import FILLING, PART, USED, Locked, is_at, lock
from spikelfp.data.events.cache.place import cache_dir as place_of
from spikelfp.data.events.cache.place import writing
from spikelfp.registry import unknown_name

# of an entry that is being filled (``.<name>-<key>.part``), of a file system without locks, and of one being removed
_PART_NAME = re.compile(rf"\.(?:.+-[0-9a-f]{{32}}(?:\.[0-9a-f]{{32}})?|[0-9a-f]{{32}}){re.escape(PART)}")

_LEAST_KEY = 6  # characters of a key that select an entry


@dataclass(frozen=True)
class Entry:
    """One entry of the cache, the binned recordings of one part of a data set.

    Attributes:
        folder: where its files lie.
        name: of the data set and the part, as a part of a file name.
        key: hash of the recordings' content and of what was done to them.
        bytes: of all its files.
        used: its last use, in UTC.
        about: what its ``meta.json`` says: ``name``, ``pipeline`` (the settings), ``sensor`` (behind the transforms),
            ``levels``, ``recordings``, ``steps`` (fewest and most), ``skipped``, ``made``, ``version``; empty for one
            that is damaged or of another version.
    """

    folder: Path
    name: str
    key: str
    bytes: int
    used: datetime
    about: dict[str, Any] = field(repr=False)


class Cleared(NamedTuple):
    """What :func:`clear_caches` did: ``bytes`` freed, the entries ``removed``, and those left because they are
    ``in_use``."""

    bytes: int
    removed: tuple[Entry, ...]
    in_use: tuple[Entry, ...]


def list_caches(cache_dir: str | Path | None = None) -> list[Entry]:
    """All entries, the last used first; ``cache_dir`` as :func:`~spikelfp.data.events.cache.place.cache_dir` takes it.

    Raises:
        DataError: when the cache folder is a file.
    """
    folder = place_of(cache_dir)
    found = []
    for each in folder.iterdir() if folder.is_dir() else ():
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            if each.is_dir() and not each.is_symlink() and (words := split_name(each.name)) is not None:
                found.append(_entry(each, *words))
    return sorted(found, key=lambda entry: entry.used, reverse=True)


def recorded_cache(folder: str | None) -> str | None:
    """The cache folder that a run's record names, if it holds entries; else ``None``, the usual one.

    The record may be a stranger's: it makes no folders elsewhere, and none becomes a cache by it.
    """
    return folder if folder is not None and Path(folder).is_dir() and list_caches(folder) else None


def clear_caches(selection: Iterable[str] | None = None, cache_dir: str | Path | None = None) -> Cleared:
    """Remove the entries of ``selection`` that no process has open; ``None``: all, and what killed processes left.

    selection: names of data sets (``nmnist``), of their parts (``nmnist train``), or the first 6 or more characters of
    a key.

    Raises:
        UnknownNameError: for a name that no entry has.
        SaveError: when an entry cannot be removed.
        DataError: when the cache folder is a file.
    """
    entries = list_caches(cache_dir)
    chosen = entries
    if selection is None:
        remove_stale(place_of(cache_dir))
    else:
        names = list(selection)
        for name in names:
            if not any(_is_meant(entry, name) for entry in entries):
                raise unknown_name("cache entry", name, {each for e in entries for each in (e.name, e.key[:12])})
        chosen = [entry for entry in entries if any(_is_meant(entry, name) for name in names)]
    with writing(place_of(cache_dir)):
        removed = [(entry, remove(entry.folder)) for entry in chosen]
    gone = tuple(entry for entry, done in removed if done)
    return Cleared(sum(entry.bytes for entry in gone), gone, tuple(entry for entry, done in removed if not done))


def prune(folder: Path, limit: int) -> None:
    """Remove the entries whose last use is longest ago, but none that is in use, until all have ``limit`` bytes."""
    entries = list_caches(folder)
    total = sum(entry.bytes for entry in entries)
    for entry in reversed(entries):
        if total <= limit:
            break
        with contextlib.suppress(OSError):  # another user's, in a folder that is shared
            total -= entry.bytes if remove(entry.folder) else 0


def remove(folder: Path) -> bool:
    """Remove the entry in ``folder``; false if a process uses it.

    Raises:
        OSError: when it cannot be removed.
    """
    with _alone(folder / USED) as mine:
        if mine:
            discard(folder)
    return mine


def remove_stale(folder: Path) -> None:
    """Remove what processes that ended while they filled or removed an entry have left in ``folder``.

    A folder of another name, or a link, is none of theirs.
    """
    parts = [each for each in folder.glob(f".*{PART}") if _PART_NAME.fullmatch(each.name) and not each.is_symlink()]
    for part in parts:
        with contextlib.suppress(OSError), _alone(part / FILLING) as mine:  # gone meanwhile, or another user's
            if mine:
                shutil.rmtree(part, ignore_errors=True)


def discard(folder: Path) -> None:
    """Remove the entry in ``folder`` whether it is used or not; from the first moment on none can be opened."""
    away = folder.with_name(f".{uuid.uuid4().hex}{PART}")
    with contextlib.suppress(FileNotFoundError):  # another process was faster
        folder.rename(away)
        shutil.rmtree(away, ignore_errors=True)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Whether no other process holds the lock file at ``path``, which is kept from them meanwhile."""
    with open(path, "ab") as file:
        yield lock(file, alone=True) is Locked.MINE and is_at(file, path)


def _entry(folder: Path, name: str, key: str) -> Entry:
    try:
        about = read_about(folder)
    except DamagedError:
        about = {}
    size = sum(file.stat().st_size for file in folder.iterdir())
    stamp = folder / USED
    used = (stamp if stamp.exists() else folder).stat().st_mtime
    return Entry(folder, name, key, size, datetime.fromtimestamp(used, timezone.utc), about)


def _is_meant(entry: Entry, name: str) -> bool:
    words = slug(name)
    if words and (entry.name == words or entry.name.startswith(f"{words}-")):
        return True
    return len(name) >= _LEAST_KEY and entry.key.startswith(name.lower())
