"""Facts about files that take long to find out, remembered until the file changes."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from spikelfp.data.events.cache.place import cache_dir

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
    path = cache_dir() / FILE
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
