"""The files of one entry: ``meta.json``, and an array in each ``NAME.bin``, mapped and not read when it is opened."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from spikelfp.data.events.cache.key import FORMAT
from spikelfp.data.events.cache.lock import USED, Reading
from spikelfp.data.events.cache.store import Array, Store, ones
from spikelfp.data.events.event import Sensor
from spikelfp.errors import DataError, UserError
from spikelfp.files import write_text
from spikelfp.terminal import plain
from spikelfp.untrusted import read_json
from spikelfp.untrusted.text import Field

META = "meta.json"
_BLOCK = 1 << 16
_BLOCKS = 64
_WHOLE = 1 << 24  # bytes up to which every one of them is checked
_TYPES = {
    "places": ("<u2", "<u4"), "counts": ("|u1", "<u2"), "offsets": ("<i8",), "steps": ("<i4",), "labels": ("<i8",),
    "kept": ("<i8",),
}  # fmt: skip


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
        content = read_json(folder / META)
    except DataError as error:
        raise DamagedError(plain(str(error))) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DamagedError(f"{folder / META} is not of format {FORMAT}")
    return content


def read_about(folder: Path) -> dict[str, Any]:
    """Read what ``meta.json`` says of the recordings of an entry, for people to read.

    Raises:
        DamagedError: when it is damaged or of another format.
    """
    meta = Field(folder / META, "", read_meta(folder), DamagedError)
    meta.mapping(("name", "pipeline", "sensor", "steps", "levels", "recordings", "skipped", "made", "version"))
    for name in ("name", "made", "version"):
        meta.at(name).text()
    for name in ("levels", "recordings"):
        meta.at(name).whole(1)
    meta.at("pipeline").mapping()
    for each in meta.at("skipped").sequence():
        _skipped(each)
    _sensor(meta.at("sensor"))
    _steps(meta)
    return {name: value for name, value in meta.value.items() if name != "arrays"}


def open_store(folder: Path) -> Store:
    """The entry in ``folder``, mapped, checked, noted as used now, and kept from being cleared while it is open.

    Checked are the lengths of all arrays and the checksums of 64 blocks of 64 KiB of each, evenly spaced (of all of
    it up to 16 MiB): the time does not grow with the entry. What tells the sequences apart is checked for every one of
    them, and counts in those blocks; places are checked where they are used.

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


def _read(folder: Path) -> Store:
    meta = Field(folder / META, "", read_meta(folder), DamagedError)
    meta.mapping(("sensor", "levels", "skipped", "arrays", "class_names", "steps"))
    levels = meta.at("levels").whole(1, 2**16 - 1)
    needed = [name for name in _TYPES if name != "counts" or levels > 1]
    meta.at("arrays").mapping(needed, needed)
    arrays = {name: _checked(folder, name, meta.at("arrays").at(name)) for name in needed}
    sensor, skipped = _sensor(meta.at("sensor")), tuple(_skipped(each) for each in meta.at("skipped").sequence())
    counts = arrays["counts"] if levels > 1 else ones(len(arrays["places"]))
    places, offsets, steps, labels, kept = (arrays[name] for name in ("places", "offsets", "steps", "labels", "kept"))
    store = Store(sensor, levels, places, counts, offsets, steps, labels, kept, skipped, folder)
    wrong = _wrong(store, *_steps(meta), len(meta.at("class_names").sequence()))
    if wrong:
        raise DamagedError(f"{folder}: {wrong}")
    return store


def _wrong(store: Store, shortest: int, longest: int, classes: int) -> str:
    """Say what cannot be: sequences that do not lie one behind the other, or are not of so many steps or classes."""
    offsets, steps, labels, kept = store.offsets, store.steps, store.labels, store.kept
    if not (len(offsets) - 1 == len(steps) == len(labels) == len(kept) > 0 and len(store.places) == len(store.counts)):
        return "its arrays do not fit each other"
    if offsets[0] != 0 or offsets[-1] != len(store.places) or bool((offsets[1:] < offsets[:-1]).any()):
        return "its sequences do not lie one behind the other"
    room = 2 ** (8 * store.places.itemsize)
    if (int(steps.min()), int(steps.max())) != (shortest, longest) or longest * store.sensor.size > room:
        return f"its sequences are not of {shortest} to {longest} steps"
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        return f"its labels are not those of {classes} classes"
    if int(kept[0]) < 0 or bool((kept[1:] <= kept[:-1]).any()):
        return "the numbers of its recordings do not rise"
    if store.levels > 1 and any(block.min() < 1 or block.max() > store.levels for block in _blocks(store.counts)):
        return f"its counts do not lie within 1 to {store.levels}"
    return ""


def _steps(meta: Field) -> tuple[int, int]:
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


def _checked(folder: Path, name: str, said: Field) -> Array:
    said.mapping(("dtype", "length", "checksum"))
    path, kind = path_of(folder, name), np.dtype(said.at("dtype").text(_TYPES[name]))
    length, expected_sum = said.at("length").whole(), said.at("checksum").text()
    try:
        size, expected = path.stat().st_size, length * kind.itemsize
        if size != expected:
            raise DamagedError(f"{path} has {size} bytes, expected {expected}")
        array = _mapped(folder, name, kind)
    except OSError as error:
        raise DamagedError(f"{path}: {error.strerror}") from error
    if checksum(array) != expected_sum:
        raise DamagedError(f"{path} is not what was written (its checksum differs)")
    return array


def _mapped(folder: Path, name: str, dtype: np.dtype[Any]) -> Array:
    path = path_of(folder, name)
    if path.stat().st_size == 0:
        return np.empty(0, dtype)  # nothing can be mapped
    return np.asarray(np.memmap(path, dtype, mode="r"))
