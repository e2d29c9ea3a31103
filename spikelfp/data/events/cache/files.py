"""The files of one entry: ``meta.json``, and an array in each ``NAME.bin``, mapped and not read when it is opened."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from spikelfp.data.events.cache.key import FORMAT
from spikelfp.data.events.cache.lock import USED, Reading
from spikelfp.data.events.cache.store import Array, Store, ones
from spikelfp.data.events.event import Sensor
from spikelfp.errors import DataError
from spikelfp.files import write_text

META = "meta.json"
_BLOCK = 1 << 16
_BLOCKS = 64
_WHOLE = 1 << 24  # bytes up to which every one of them is checked


class DamagedError(DataError):
    """An entry that is incomplete or not what its ``meta.json`` says."""


class GoneError(DataError):
    """An entry that has been removed."""


def path_of(folder: Path, name: str) -> Path:
    """The file of array ``name``."""
    return folder / f"{name}.bin"


def write_array(folder: Path, name: str, array: Array) -> None:
    """``array`` as a file of the entry, brought to disk."""
    with open(path_of(folder, name), "wb") as file:
        file.write(np.ascontiguousarray(array).data)
        file.flush()
        os.fsync(file.fileno())


def write_meta(folder: Path, dtypes: Mapping[str, str], about: Mapping[str, Any]) -> None:
    """``meta.json``, the last file of an entry: ``about`` it, and lengths and checksums of its arrays.

    dtypes: of the arrays, whose files are complete, by name.
    """
    arrays = {}
    for name, dtype in dtypes.items():
        array = _mapped(folder, name, np.dtype(dtype))
        arrays[name] = {"dtype": dtype, "length": len(array), "checksum": checksum(array)}
    total = sum(path_of(folder, name).stat().st_size for name in dtypes)
    content = {"format": FORMAT, **about, "bytes": total, "arrays": arrays}
    write_text(folder / META, json.dumps(content, indent=2) + "\n")


def read_meta(folder: Path) -> dict[str, Any]:
    """What ``meta.json`` says.

    Raises:
        DamagedError: when it is missing, not readable or of another format.
    """
    try:
        content = json.loads((folder / META).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DamagedError(f"{folder / META}: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DamagedError(f"{folder / META} is not of format {FORMAT}")
    return content


def open_store(folder: Path) -> Store:
    """The entry in ``folder``, mapped, checked, noted as used now, and kept from being cleared while it is open.

    Checked are the lengths of all arrays and the checksums of 64 blocks of 64 KiB of each, evenly spaced (of all of
    it up to 16 MiB): the time does not grow with the entry.

    Raises:
        GoneError: when there is none.
        DamagedError: for one that is incomplete or damaged.
    """
    gone = f"{folder} is gone: it has been cleared from the cache; load the data again"
    try:
        reading = Reading(folder / USED)
    except OSError as error:
        if not folder.is_dir():
            raise GoneError(gone) from error
        raise DamagedError(f"{folder / USED}: {error.strerror}") from error
    if not reading.is_current:
        raise GoneError(gone)
    store = _read(folder)
    with contextlib.suppress(OSError):  # a shared cache that may only be read is not noted as used
        os.utime(folder / USED)
    return replace(store, reading=reading)


def checksum(array: Array) -> str:
    """BLAKE2b of the bytes of ``array``: of evenly spaced blocks if it is large."""
    content = array.view(np.uint8)
    starts = np.arange(0, len(content), _BLOCK)
    if len(content) > _WHOLE:
        starts = np.linspace(0, len(content) - _BLOCK, _BLOCKS).astype(np.int64)
    digest = hashlib.blake2b(digest_size=16)
    for start in starts.tolist():
        digest.update(content[start : start + _BLOCK].data)
    return digest.hexdigest()


def _read(folder: Path) -> Store:
    meta = read_meta(folder)
    try:
        arrays = {name: _checked(folder, name, said) for name, said in meta["arrays"].items()}
        sensor, levels = Sensor(**meta["sensor"]), int(meta["levels"])
        skipped = tuple((int(number), str(reason)) for number, reason in meta["skipped"])
        places, offsets, steps, labels, kept = (
            arrays[name] for name in ("places", "offsets", "steps", "labels", "kept")
        )
        counts = arrays["counts"] if levels > 1 else ones(len(places))
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedError(f"{folder / META} lacks something: {type(error).__name__}: {error}") from error
    if not (len(offsets) - 1 == len(steps) == len(labels) == len(kept) and len(places) == len(counts) == offsets[-1]):
        raise DamagedError(f"{folder}: its arrays do not fit each other")
    return Store(sensor, levels, places, counts, offsets, steps, labels, kept, skipped, folder)


def _checked(folder: Path, name: str, said: Mapping[str, Any]) -> Array:
    path, kind = path_of(folder, name), np.dtype(said["dtype"])
    try:
        size, expected = path.stat().st_size, said["length"] * kind.itemsize
        if size != expected:
            raise DamagedError(f"{path} has {size} bytes, expected {expected}")
        array = _mapped(folder, name, kind)
    except OSError as error:
        raise DamagedError(f"{path}: {error.strerror}") from error
    if checksum(array) != said["checksum"]:
        raise DamagedError(f"{path} is not what was written (its checksum differs)")
    return array


def _mapped(folder: Path, name: str, dtype: np.dtype[Any]) -> Array:
    path = path_of(folder, name)
    if path.stat().st_size == 0:
        return np.empty(0, dtype)  # nothing can be mapped
    return np.asarray(np.memmap(path, dtype, mode="r"))
