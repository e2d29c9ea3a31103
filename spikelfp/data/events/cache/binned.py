"""The binned recordings of one part: opened where they have been kept, else made and kept."""

from __future__ import annotations

import shutil
import uuid
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from spikelfp.data.events.cache.build import Builder
from spikelfp.data.events.cache.entries import discard, prune, remove_stale
from spikelfp.data.events.cache.files import DamagedError, GoneError, open_store
from spikelfp.data.events.cache.key import entry_name
from spikelfp.data.events.cache.limit import limit_bytes
from spikelfp.data.events.cache.lock import FILLING, PART, USED, Locked, is_at, lock
from spikelfp.data.events.cache.place import cache_dir as place_of
from spikelfp.data.events.cache.place import writing
from spikelfp.data.events.cache.progress import bar
from spikelfp.data.events.cache.store import Store
from spikelfp.data.events.pipeline import Pipeline
from spikelfp.data.events.recordings import Recordings
from spikelfp.errors import DataError


def binned(
    recordings: Recordings,
    pipeline: Pipeline,
    *,
    cache_dir: str | Path | None = None,
    skip_bad: bool = False,
    workers: int | None = None,
    progress: bool = False,
    limit: int | str | None = None,
    in_memory: bool = False,
) -> Store:
    """All ``recordings`` through the ``pipeline``, from the cache if they are there, else they are made and put there.

    An entry is known by its content (:func:`~spikelfp.data.events.cache.key.entry_name`) and appears whole or not at
    all. Several processes that want the same one wait for the one that makes it. A damaged entry is made anew, with a
    warning.

    Args:
        cache_dir: as :func:`~spikelfp.data.events.cache.place.cache_dir` takes it.
        skip_bad: leave out recordings that cannot be read, and list them in :attr:`Store.skipped`.
        workers: threads that read and bin, ``None`` for as many as there are cores.
        progress: show a bar on a terminal.
        limit: most bytes of the cache (:func:`~spikelfp.data.events.cache.limit.limit_bytes`): once something was
            put there, entries whose last use is longest ago are removed, but none that is in use.
        in_memory: make them in memory, and leave the cache alone.

    Raises:
        DataError: for the first recording that cannot be read, unless ``skip_bad``; when none can be; when files change
            while they are read.
        SaveError: when the cache folder cannot be written.
        UserError: for fewer than one worker, a limit that is none, or settings that do not fit a recording.
    """
    builder = Builder(recordings, pipeline, skip_bad, workers)
    if in_memory:
        with bar(recordings.name, len(recordings), progress) as advance:
            return builder.in_memory(advance)
    most, folder = limit_bytes(limit), place_of(cache_dir)
    content = recordings.fingerprint()
    entry = folder / entry_name(recordings, pipeline, content)
    while (store := _opened(entry)) is None:
        with _part_of(entry) as part:
            if part is None:
                continue  # another process has just made it
            with bar(recordings.name, len(recordings), progress) as advance:
                builder.in_folder(part, content, advance)
            _put(part, entry)
        store = open_store(entry)
        prune(folder, most)
        return store
    if store.skipped and not skip_bad:
        number, reason = store.skipped[0]
        recordings.read(number)  # raises it anew, as it is told now
        raise DataError(reason)
    return store


def _opened(entry: Path) -> Store | None:
    """The store of an entry; ``None`` if there is none, or it was damaged and has been removed."""
    try:
        return open_store(entry)
    except GoneError:
        return None
    except DamagedError as error:
        with writing(entry.parent):
            discard(entry)
        warnings.warn(f"damaged cache, made anew: {error}", UserWarning, stacklevel=3)
        return None


@contextmanager
def _part_of(entry: Path) -> Iterator[Path | None]:
    """A new folder beside ``entry`` for this process alone to fill, which is gone afterwards unless it was renamed.

    ``None`` when another process held it and is done with it. What killed processes have left is removed first.
    """
    part = entry.with_name(f".{entry.name}{PART}")
    with ExitStack() as held:
        with writing(entry.parent):
            entry.parent.mkdir(parents=True, exist_ok=True)
            remove_stale(entry.parent)
            part.mkdir(exist_ok=True)
            try:
                filling = held.enter_context(open(part / FILLING, "ab"))
            except FileNotFoundError:
                yield None
                return
        if lock(filling, alone=True, wait=True) is Locked.UNKNOWN:  # then no two processes may share a name
            part = entry.with_name(f".{entry.name}.{uuid.uuid4().hex}{PART}")
            with writing(entry.parent):
                part.mkdir()
                filling = held.enter_context(open(part / FILLING, "ab"))
        elif not is_at(filling, part / FILLING):
            yield None
            return
        try:
            yield part
        finally:
            if is_at(filling, part / FILLING):
                shutil.rmtree(part, ignore_errors=True)


def _put(part: Path, entry: Path) -> None:
    """Make the filled ``part`` the ``entry``."""
    with writing(entry.parent):
        (part / USED).touch()
        try:
            part.rename(entry)
        except OSError:
            if not entry.is_dir():  # where there are no locks another process may have been first
                raise
        else:
            (entry / FILLING).unlink(missing_ok=True)
