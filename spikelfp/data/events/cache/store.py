"""Entries of the cache: the binned recordings of one part of a data set, as files that are mapped into memory.

An entry is a folder with a ``meta.json`` and a ``NAME.bin`` for each array. Its locks are our own, on ``fcntl.flock``:
readers share a lock that whoever removes the entry takes alone, and a lock follows its folder when that is renamed.
``filelock`` locks one path for one process and offers neither.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timezone
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spikelfp import checks
from spikelfp.data.events.binning import SparseFrames, damaged, ones
from spikelfp.data.events.event import Sensor
from spikelfp.errors import DataError, SaveError, UserError
from spikelfp.files import write_text
from spikelfp.registry import unknown_name
from spikelfp.terminal import plain
from spikelfp.untrusted import read_json
from spikelfp.untrusted.text import Field

Array = NDArray[Any]

FORMAT = 1
"""Format of the files of an entry. It is raised whenever they change: entries of other formats are never opened."""

DIGEST = 16
"""Bytes of a key, the hash that names an entry."""

META = "meta.json"
"""File that describes the entry. It is written last: an entry without it is incomplete."""

USED = "used"
"""Lock file of an entry: readers share it, who removes the entry holds it alone. Its time of modification is the last
use."""

PART = ".part"
"""Ending of a folder that is being filled or removed."""

FILLING = "filling"
"""Lock file in a folder that is being filled, apart from :data:`USED`: a process that waits for the folder to be filled
must not wait for those that read the finished entry."""

_FOLDER_VARIABLE = "SPIKELFP_CACHE"
_LIMIT_VARIABLE = "SPIKELFP_CACHE_LIMIT"
_DEFAULT_LIMIT = "20GB"
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_UNITS |= {f"{unit}i": 2 ** (10 * power) for power, unit in enumerate("kmgt", 1)}

_ENTRY_NAME = re.compile(rf"[a-z0-9][a-z0-9_.+-]*-[0-9a-f]{{{2 * DIGEST}}}")
# of an entry that is being filled (``.<name>-<key>.part``), of a file system without locks, and of one being removed
_PART_NAME = re.compile(rf"\.(?:.+-[0-9a-f]{{32}}(?:\.[0-9a-f]{{32}})?|[0-9a-f]{{32}}){re.escape(PART)}")
_SHORTEST_KEY = 6  # characters of a key that select an entry

_BLOCK = 1 << 16
_BLOCKS = 64
_WHOLE = 1 << 24  # bytes up to which every one of them is checked
_TYPES = {
    "places": ("<u2", "<u4"), "counts": ("|u1", "<u2"), "offsets": ("<i8",), "steps": ("<i4",), "labels": ("<i8",),
    "kept": ("<i8",),
}  # fmt: skip
_HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)


class DamagedError(DataError):
    """Error for an entry that is incomplete or does not match its ``meta.json``."""


class GoneError(DataError):
    """Error for an entry that has been removed."""


# The folder of the cache and its limit


def cache_folder(explicit: str | Path | None = None) -> Path:
    """Absolute path of the cache: ``explicit``, else ``$SPIKELFP_CACHE``, else ``~/.cache/spikelfp/events``.

    The folder need not exist.

    Raises:
        DataError: when the path is a file.
    """
    chosen = explicit if explicit is not None else os.environ.get(_FOLDER_VARIABLE) or "~/.cache/spikelfp/events"
    folder = checks.path("cache_dir", chosen).expanduser().absolute()
    # os.path, because a Path raises where a parent folder may not be searched
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise DataError(f"the cache folder {folder} is a file: choose a folder with --cache-dir or ${_FOLDER_VARIABLE}")
    return folder


def limit_bytes(limit: int | str | None = None) -> int:
    """Largest size of the cache: ``limit``, else ``$SPIKELFP_CACHE_LIMIT``, else 20 GB.

    Args:
        limit: bytes, or a number with or without a unit, such as ``20GB``, ``1.5 GiB`` or ``500M``.

    Returns:
        Bytes that all entries together may take.

    Raises:
        UserError: for a negative number and for text that is no size.
    """
    if limit is None:
        limit = os.environ.get(_LIMIT_VARIABLE) or _DEFAULT_LIMIT
    if isinstance(limit, int):
        if limit < 0:
            raise UserError(f"the cache limit must be 0 bytes or more, got {limit}")
        return limit
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([kmgt]?i?)b?\s*", limit.lower())
    if found is None or found[2] not in _UNITS:
        raise UserError(
            f"the cache limit must be a size such as 20GB (from ${_LIMIT_VARIABLE} if not given), got {limit!r}"
        )
    return int(float(found[1]) * _UNITS[found[2]])


@contextlib.contextmanager
def save_errors(folder: Path) -> Iterator[None]:
    """Raise an error of the file system as a :class:`~spikelfp.errors.SaveError` that names the cache ``folder``."""
    try:
        yield
    except SaveError:
        raise
    except OSError as error:
        raise SaveError(
            f"cannot write to the cache folder {folder}: {error.strerror or error}; "
            f"choose another with --cache-dir or ${_FOLDER_VARIABLE}"
        ) from error


# Locks, which the system drops when a process ends, however it ends


class Lock(Enum):
    """Result of an attempt to lock a file."""

    ACQUIRED = "acquired"
    HELD = "held by another process"
    UNSUPPORTED = "the file system has no locks"


def lock(file: BinaryIO, *, exclusive: bool, wait: bool = False) -> Lock:
    """Lock an open ``file`` until it is closed, ``exclusive`` or shared; ``wait`` for another process that holds it."""
    try:
        fcntl.flock(file, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        return Lock.HELD if error.errno in _HELD else Lock.UNSUPPORTED
    return Lock.ACQUIRED


def is_file_at(file: BinaryIO, path: Path) -> bool:
    """Whether the open ``file`` is still the one at ``path``, neither moved nor removed."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except OSError:
        return False


class ReaderLock:
    """Shared lock on the file ``path`` of an entry, held as long as this object lives.

    Attributes:
        is_current: whether the file was still at ``path`` when it was locked.
    """

    def __init__(self, path: Path) -> None:
        self.file = open(path, "rb")  # noqa: SIM115 (closed below)
        lock(self.file, exclusive=False, wait=True)  # who holds it alone is about to finish or to remove the entry
        self.is_current = is_file_at(self.file, path)

    def __del__(self) -> None:
        if hasattr(self, "file"):
            self.file.close()


# The content of one entry


@dataclass(frozen=True, eq=False)
class Store:
    """Sequences of ``N`` binned recordings in flat arrays, one after the other, zeros left out.

    Sequence ``i`` is ``places[offsets[i]:offsets[i + 1]]`` with the ``counts`` of the same slice, and has ``steps[i]``
    steps; see :class:`~spikelfp.data.events.binning.SparseFrames`. A store that lies in files is pickled as the name of
    its folder, so that worker processes map the same files instead of getting copies.

    Attributes:
        sensor: that the events lie on, after the transforms.
        levels: an element with count ``n`` has the value ``n / levels``.
        places: uint16 or uint32 ``[M]``, rising within a sequence.
        counts: uint8 or uint16 ``[M]``; with one level a single 1 in memory, seen ``M`` times.
        offsets: int64 ``[N + 1]``.
        steps: int32 ``[N]``.
        labels: int64 ``[N]``.
        kept: int64 ``[N]``, the number of each recording in its source.
        skipped: number and reason of each recording that could not be read.
        folder: of the files; ``None`` in memory.
        lock: keeps the files from being cleared while the store is in use.
        told: lines about what was moved or left out of the recordings (:mod:`spikelfp.data.events.tally`).
    """

    sensor: Sensor
    levels: int
    places: Array
    counts: Array
    offsets: Array
    steps: Array
    labels: Array
    kept: Array
    skipped: tuple[tuple[int, str], ...] = ()
    folder: Path | None = None
    lock: ReaderLock | None = field(default=None, repr=False)
    told: tuple[str, ...] = field(default=(), repr=False)

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def all_rows(self) -> Array:
        """Numbers of all sequences, int64 ``[N]``."""
        return np.arange(len(self))

    def __getitem__(self, row: int) -> SparseFrames:
        """Sequence ``row``.

        Raises:
            DataError: for places that do not rise or lie after its steps.
        """
        part = slice(int(self.offsets[row]), int(self.offsets[row + 1]))
        places = self.places[part].astype(np.uint32)
        too_late = len(places) > 0 and int(places[-1]) >= int(self.steps[row]) * self.sensor.size
        if too_late or bool((places[1:] <= places[:-1]).any()):
            raise damaged()
        return SparseFrames(places, self.counts[part].astype(np.uint16), int(self.steps[row]))

    def __reduce__(self) -> tuple[Callable[..., Store], tuple[Any, ...]]:
        if self.folder is not None:
            return open_store, (self.folder,)
        return Store, tuple(getattr(self, each.name) for each in fields(self))


def open_store(folder: Path) -> Store:
    """Map the entry in ``folder``, check it, note it as used now, and keep it from being cleared while it is open.

    Checked are the lengths of all arrays and the checksum of each: of 64 evenly spaced blocks of 64 KiB, or of all of
    an array of up to 16 MiB. The time does not grow with the entry. The arrays that separate the sequences are checked
    in full, and counts in those blocks; places are checked where they are used.

    Raises:
        GoneError: when there is no entry.
        DamagedError: for one that is incomplete or damaged.
    """
    gone = f"{folder} is gone: it has been cleared from the cache; load the data again"
    try:
        reader = ReaderLock(folder / USED)
    except OSError as error:
        if not folder.is_dir():
            raise GoneError(gone) from error
        raise DamagedError(f"{folder / USED}: {error.strerror}") from error
    if not reader.is_current:
        raise GoneError(gone)
    meta = Field(folder / META, "", _read_meta(folder), DamagedError)
    meta.mapping(("sensor", "levels", "skipped", "arrays", "class_names", "steps"))
    levels = meta.at("levels").whole(1, 2**16 - 1)
    needed = [name for name in _TYPES if name != "counts" or levels > 1]
    meta.at("arrays").mapping(needed, needed)
    arrays = {name: _checked_array(folder, name, meta.at("arrays").at(name)) for name in needed}
    places = arrays["places"]
    counts = arrays["counts"] if levels > 1 else ones(len(places))
    offsets, steps, labels, kept = (arrays[name] for name in ("offsets", "steps", "labels", "kept"))
    sensor, skipped = _sensor(meta.at("sensor")), tuple(_skipped(each) for each in meta.at("skipped").sequence())
    store = Store(sensor, levels, places, counts, offsets, steps, labels, kept, skipped, folder)
    told = tuple(each.text() for each in meta.at("told").sequence()) if "told" in meta.value else ()
    fault = _inconsistency(store, *_step_range(meta), len(meta.at("class_names").sequence()))
    if fault:
        raise DamagedError(f"{folder}: {fault}")
    with contextlib.suppress(OSError):  # a shared cache that may only be read is not noted as used
        os.utime(folder / USED)
    return replace(store, lock=reader, told=told)


def array_path(folder: Path, name: str) -> Path:
    """The file of array ``name`` of the entry in ``folder``."""
    return folder / f"{name}.bin"


def write_array(folder: Path, name: str, array: Array) -> None:
    """Write ``array`` to its file of the entry, and wait until it is on the disk."""
    with open(array_path(folder, name), "wb") as file:
        file.write(np.ascontiguousarray(array).data)
        file.flush()
        os.fsync(file.fileno())


def write_meta(folder: Path, dtypes: Mapping[str, str], about: Mapping[str, Any]) -> None:
    """Write ``meta.json``, the last file of an entry: ``about`` it, and dtype, length and checksum of each array."""
    arrays = {}
    for name, dtype in dtypes.items():
        array = _mapped(folder, name, np.dtype(dtype))
        arrays[name] = {"dtype": dtype, "length": len(array), "checksum": checksum(array)}
    total = sum(array_path(folder, name).stat().st_size for name in dtypes)
    content = {"format": FORMAT, **about, "bytes": total, "arrays": arrays}
    write_text(folder / META, json.dumps(content, indent=2) + "\n")


def checksum(array: Array) -> str:
    """BLAKE2b hash (RFC 7693) of the bytes of ``array``, of evenly spaced blocks if it is large."""
    digest = hashlib.blake2b(digest_size=16)
    for block in _blocks(array.view(np.uint8)):
        digest.update(block.data)
    return digest.hexdigest()


def _blocks(array: Array) -> Iterator[Array]:
    """Go through blocks of 64 KiB, all of them or, of a large array, some that are evenly spaced."""
    block, size = _BLOCK // array.itemsize, len(array)
    starts = np.arange(0, size, block)
    if array.nbytes > _WHOLE:
        starts = np.linspace(0, size - block, _BLOCKS).astype(np.int64)
    for start in starts.tolist():
        yield array[start : start + block]


def _read_meta(folder: Path) -> dict[str, Any]:
    """Read ``meta.json``; ``DamagedError`` when it is missing, not readable or of another format."""
    try:
        content = read_json(folder / META)
    except DataError as error:
        raise DamagedError(plain(str(error))) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DamagedError(f"{folder / META} is not of format {FORMAT}")
    return content


def _inconsistency(store: Store, shortest: int, longest: int, classes: int) -> str:
    """Say what cannot be: sequences that do not follow one another, or a wrong number of steps or classes."""
    offsets, steps, labels, kept = store.offsets, store.steps, store.labels, store.kept
    if not (len(offsets) - 1 == len(steps) == len(labels) == len(kept) > 0 and len(store.places) == len(store.counts)):
        return "its arrays do not fit each other"
    if offsets[0] != 0 or offsets[-1] != len(store.places) or bool((offsets[1:] < offsets[:-1]).any()):
        return "its sequences do not follow one another"
    end = 2 ** (8 * store.places.itemsize)
    if (int(steps.min()), int(steps.max())) != (shortest, longest) or longest * store.sensor.size > end:
        return f"its sequences are not of {shortest} to {longest} steps"
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        return f"its labels are not those of {classes} classes"
    if int(kept[0]) < 0 or bool((kept[1:] <= kept[:-1]).any()):
        return "the numbers of its recordings do not rise"
    if store.levels > 1 and any(block.min() < 1 or block.max() > store.levels for block in _blocks(store.counts)):
        return f"its counts do not lie within 1 to {store.levels}"
    return ""


def _step_range(meta: Field) -> tuple[int, int]:
    shortest, longest = (each.whole(1, 2**31 - 1) for each in meta.at("steps").sequence(2))
    return shortest, longest


def _sensor(field: Field) -> Sensor:
    names = ("width", "height", "polarities")
    field.mapping(names, names)
    try:
        return Sensor(*(field.at(name).whole(1) for name in names))
    except DamagedError:
        raise
    except UserError as error:
        raise DamagedError(f"{field.source} is damaged: {error}") from None


def _skipped(field: Field) -> tuple[int, str]:
    number, reason = field.sequence(2)
    return number.whole(), reason.text()


def _checked_array(folder: Path, name: str, description: Field) -> Array:
    description.mapping(("dtype", "length", "checksum"))
    path, dtype = array_path(folder, name), np.dtype(description.at("dtype").text(_TYPES[name]))
    expected, expected_sum = description.at("length").whole() * dtype.itemsize, description.at("checksum").text()
    try:
        size = path.stat().st_size
        if size != expected:
            raise DamagedError(f"{path} has {size} bytes, expected {expected}")
        array = _mapped(folder, name, dtype)
    except OSError as error:
        raise DamagedError(f"{path}: {error.strerror}") from error
    if checksum(array) != expected_sum:
        raise DamagedError(f"{path} is not what was written (its checksum differs)")
    return array


def _mapped(folder: Path, name: str, dtype: np.dtype[Any]) -> Array:
    path = array_path(folder, name)
    if path.stat().st_size == 0:
        return np.empty(0, dtype)  # nothing can be mapped
    return np.asarray(np.memmap(path, dtype, mode="r"))


# All entries of a cache folder


@dataclass(frozen=True)
class CacheEntry:
    """Description of one entry of the cache.

    Attributes:
        folder: of its files.
        name: of the data set and the part, as a part of a file name.
        key: hash of the content of the recordings and of what was done to them.
        bytes: of all its files.
        used: its last use, in UTC.
        about: content of its ``meta.json``: ``name``, ``pipeline`` (the settings), ``sensor`` (after the transforms),
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
    """Result of :func:`clear_caches`.

    Attributes:
        bytes: freed.
        removed: entries that are gone.
        in_use: entries that were left because a process has them open.
    """

    bytes: int
    removed: tuple[CacheEntry, ...]
    in_use: tuple[CacheEntry, ...]


def list_caches(cache_dir: str | Path | None = None) -> list[CacheEntry]:
    """List all entries, the last used first.

    Args:
        cache_dir: as :func:`cache_folder` takes it.

    Returns:
        One description for each entry; none for a folder that does not exist.

    Raises:
        DataError: when the cache folder is a file.
    """
    folder = cache_folder(cache_dir)
    found = []
    for each in folder.iterdir() if folder.is_dir() else ():
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            if each.is_dir() and not each.is_symlink() and _ENTRY_NAME.fullmatch(each.name):
                found.append(_describe(each))
    return sorted(found, key=lambda entry: entry.used, reverse=True)


def recorded_cache(folder: str | None) -> str | None:
    """The cache folder that the record of a run names, if it holds entries; else ``None``, the usual one.

    The record may be a stranger's. It makes no folder elsewhere, and turns none into a cache.
    """
    return folder if folder is not None and Path(folder).is_dir() and list_caches(folder) else None


def clear_caches(selection: Iterable[str] | None = None, cache_dir: str | Path | None = None) -> Cleared:
    """Remove the entries of ``selection`` that no process has open.

    Args:
        selection: names of data sets (``nmnist``) or of their parts (``nmnist train``), or the first 6 or more
            characters of a key; ``None`` for all entries and what killed processes left.
        cache_dir: as :func:`cache_folder` takes it.

    Returns:
        The entries that were removed, and those that were left.

    Raises:
        UnknownNameError: for a name that no entry has.
        SaveError: when an entry cannot be removed.
        DataError: when the cache folder is a file.
    """
    folder, entries = cache_folder(cache_dir), list_caches(cache_dir)
    chosen = entries
    if selection is None:
        remove_stale(folder)
    else:
        names = list(selection)
        for name in names:
            if not any(_matches(entry, name) for entry in entries):
                raise unknown_name("cache entry", name, {each for e in entries for each in (e.name, e.key[:12])})
        chosen = [entry for entry in entries if any(_matches(entry, name) for name in names)]
    with save_errors(folder):
        removed = [(entry, remove(entry.folder)) for entry in chosen]
    gone = tuple(entry for entry, done in removed if done)
    return Cleared(sum(entry.bytes for entry in gone), gone, tuple(entry for entry, done in removed if not done))


def prune(folder: Path, limit: int) -> None:
    """Remove entries, the least recently used first, until all have ``limit`` bytes; those in use stay."""
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
    with _locked_alone(folder / USED) as acquired:
        if acquired:
            discard(folder)
    return acquired


def remove_stale(folder: Path) -> None:
    """Remove from ``folder`` what processes left that were killed while they filled or removed an entry.

    Links and folders of other names stay.
    """
    parts = [each for each in folder.glob(f".*{PART}") if _PART_NAME.fullmatch(each.name) and not each.is_symlink()]
    for part in parts:
        with contextlib.suppress(OSError), _locked_alone(part / FILLING) as acquired:  # gone, or another user's
            if acquired:
                shutil.rmtree(part, ignore_errors=True)


def discard(folder: Path) -> None:
    """Remove the entry in ``folder`` whether it is used or not; from the first moment on none can be opened."""
    away = folder.with_name(f".{uuid.uuid4().hex}{PART}")
    with contextlib.suppress(FileNotFoundError):  # another process was faster
        folder.rename(away)
        shutil.rmtree(away, ignore_errors=True)


@contextlib.contextmanager
def _locked_alone(path: Path) -> Iterator[bool]:
    """Lock the file at ``path`` within the block; false if another process holds it."""
    with open(path, "ab") as file:
        yield lock(file, exclusive=True) is Lock.ACQUIRED and is_file_at(file, path)


def _describe(folder: Path) -> CacheEntry:
    try:
        meta = Field(folder / META, "", _read_meta(folder), DamagedError)
        meta.mapping(("name", "pipeline", "sensor", "steps", "levels", "recordings", "skipped", "made", "version"))
        for name in ("name", "made", "version"):
            meta.at(name).text()
        for name in ("levels", "recordings"):
            meta.at(name).whole(1)
        meta.at("pipeline").mapping()
        for each in meta.at("skipped").sequence():
            _skipped(each)
        _sensor(meta.at("sensor"))
        _step_range(meta)
        about = {name: value for name, value in meta.value.items() if name != "arrays"}
    except DamagedError:
        about = {}
    size = sum(file.stat().st_size for file in folder.iterdir())
    stamp = folder / USED
    used = datetime.fromtimestamp((stamp if stamp.exists() else folder).stat().st_mtime, timezone.utc)
    name, key = folder.name[: -2 * DIGEST - 1], folder.name[-2 * DIGEST :]
    return CacheEntry(folder, name, key, size, used, about)


def _matches(entry: CacheEntry, name: str) -> bool:
    slug = slug_of(name)
    if slug and (entry.name == slug or entry.name.startswith(f"{slug}-")):
        return True
    return len(name) >= _SHORTEST_KEY and entry.key.startswith(name.lower())


def slug_of(name: str) -> str:
    """``name`` as a part of a file name: lower case, without blanks or slashes."""
    return re.sub(r"[^a-z0-9_.+]+", "-", name.lower()).strip("-.+_")[:80]
