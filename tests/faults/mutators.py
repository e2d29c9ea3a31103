"""Ways to damage a file, or to make a new one out of it that looks whole: every one drawn from a seed."""

from __future__ import annotations

import copy
import io
import json
import math
import random
import re
import struct
import warnings
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

import h5py
import numpy as np
import torch
import yaml

Mutate = Callable[[bytes, random.Random], bytes]

BOUNDARY = (
    0,
    1,
    -1,
    2,
    127,
    128,
    255,
    256,
    2**15 - 1,
    2**15,
    2**16 - 1,
    2**16,
    2**24,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**32,
    2**40,
    2**62,
    2**63 - 1,
    2**63,
    2**64 - 1,
    -(2**31),
    -(2**63),
)
"""Integers at which something may turn over."""

WORDS = (
    "0",
    "-1",
    "1e309",
    "-1e309",
    ".nan",
    ".inf",
    "nan",
    "inf",
    "1_0",
    "0x10",
    "0o7",
    "1e-400",
    "99999999999999999999",
    "4294967296",
    "true",
    "null",
    "~",
    "[]",
    "{}",
    "[[]]",
    "''",
    '"\\ud800"',
    "!!binary aGk=",
    "2001-01-01",
    "..",
    "../../x",
    "/",
    "a" * 5000,
    "\u202e",
    "\x1b[31m",
    "[red]",
    "$x$",
    "<b>",
    "%s",
    "\ufeff",
    "&a [*a]",
    "!!set {a, b}",
    "!!python/object/apply:os.getcwd []",
    "!!python/name:os.system",
    "<<: *x",
    "é",
    "١",
    "None",
    "lif-mlp",
    "digits",
)
"""Words that a text may hold in the place of another."""

VALUES = (
    None,
    True,
    False,
    0,
    1,
    -1,
    2**31,
    2**63,
    -(2**63),
    1e309,
    -1e309,
    math.nan,
    1e-320,
    0.5,
    "",
    "x",
    "nan",
    "../x",
    [],
    {},
    [None],
    {"a": 1},
    [[1], 2],
    "\x00",
    "a\nb",
    10**30,
    (),
    b"x",
)
"""Values that data may hold in the place of another."""


def flip(data: bytes, chance: random.Random) -> bytes:
    """Turn over one to eight bits."""
    found = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8))):
        found[chance.randrange(len(found))] ^= 1 << chance.randrange(8)
    return bytes(found)


def cut(data: bytes, chance: random.Random) -> bytes:
    """Keep the beginning, or a little less than all."""
    return data[: chance.randrange(len(data))] if chance.random() < 0.6 else data[: -chance.randint(1, 9)]


def insert(data: bytes, chance: random.Random) -> bytes:
    """Put bytes in between, or behind."""
    at = chance.choice((chance.randint(0, len(data)), len(data)))
    more = chance.choice((chance.randbytes(chance.randint(1, 40)), bytes(chance.randint(1, 64)), b"\xff" * 8))
    return data[:at] + more + data[at:]


def remove(data: bytes, chance: random.Random) -> bytes:
    """Take bytes out."""
    at = chance.randrange(len(data))
    return data[:at] + data[at + chance.choice((1, 2, 4, 8, 64, 1000)) :]


def swap(data: bytes, chance: random.Random) -> bytes:
    """Exchange two ranges."""
    size = chance.choice((1, 2, 4, 8, 32, 256))
    a, b = sorted(chance.randint(0, max(0, len(data) - size)) for _ in range(2))
    return data[:a] + data[b : b + size] + data[a + size : b] + data[a : a + size] + data[b + size :]


def splice(data: bytes, chance: random.Random) -> bytes:
    """Put one part of the file where another is, or say it twice."""
    size = chance.choice((4, 16, 64, 512, 4096))
    here, there = (chance.randrange(len(data)) for _ in range(2))
    keep = chance.choice((0, size))
    return data[:here] + data[there : there + size] + data[here + keep :]


def numbers(data: bytes, chance: random.Random) -> bytes:
    """Write an integer at which something turns over, in one of the usual forms."""
    form = chance.choice(("<B", "<H", ">H", "<I", ">I", "<Q", ">Q"))
    size = struct.calcsize(form)
    value = chance.choice(BOUNDARY) % (1 << (8 * size))
    at = chance.randrange(max(1, min(len(data), 256) if chance.random() < 0.5 else len(data)))
    return data[:at] + struct.pack(form, value) + data[at + size :]


BYTES: tuple[Mutate, ...] = (flip, cut, insert, remove, swap, splice, numbers, numbers, flip)


def tokens(data: bytes, chance: random.Random) -> bytes:
    """Exchange, drop or replace words of a text."""
    parts = re.findall(r"\s+|[\w.+-]+|[^\w\s]", data.decode("utf-8", "replace"))
    if not parts:
        return b"x"
    for _ in range(chance.choice((1, 1, 2, 4))):
        at = chance.randrange(len(parts))
        match chance.randrange(5):
            case 0 | 1:
                parts[at] = chance.choice(WORDS)
            case 2:
                other = chance.randrange(len(parts))
                parts[at], parts[other] = parts[other], parts[at]
            case 3:
                parts[at] = ""
            case 4:
                parts[at] *= chance.choice((2, 3, 50))
    return "".join(parts).encode("utf-8", "surrogatepass")


def lines(data: bytes, chance: random.Random) -> bytes:
    """Exchange, drop or repeat lines."""
    parts = data.splitlines(keepends=True) or [b""]
    at, other = (chance.randrange(len(parts)) for _ in range(2))
    match chance.randrange(4):
        case 0:
            parts[at], parts[other] = parts[other], parts[at]
        case 1:
            del parts[at]
        case 2:
            parts.insert(other, parts[at])
        case 3:
            parts[at] = parts[at].replace(b"\n", b"\r") if chance.random() < 0.5 else parts[at].rstrip(b"\n")
    return b"".join(parts)


TEXT: tuple[Mutate, ...] = (tokens, tokens, tokens, lines, flip, cut, insert)


def change(value: Any, chance: random.Random, values: Sequence[Any] = VALUES) -> Any:
    """Plain data with one entry replaced, removed, doubled, renamed or bent, wherever it lies."""
    places: list[tuple[Any, Any]] = []

    def gather(inner: Any) -> None:
        if isinstance(inner, dict):
            for key in inner:
                places.append((inner, key))
                gather(inner[key])
        elif isinstance(inner, list):
            for index in range(min(len(inner), 40)):
                places.append((inner, index))
                gather(inner[index])

    made = _listed(value)
    gather(made)
    if not places:
        return chance.choice(values)
    for _ in range(chance.choice((1, 1, 1, 2))):
        holder, key = chance.choice(places)
        if (isinstance(holder, dict) and key not in holder) or (isinstance(holder, list) and key >= len(holder)):
            continue
        match chance.randrange(6):
            case 0 | 1:
                holder[key] = bent(holder[key], chance, values)
            case 2:
                del holder[key]
            case 3:
                holder[key] = copy.copy(chance.choice(values))
            case 4 if isinstance(holder, dict):
                holder[chance.choice(("x", "", 7, None, f"{key}x"))] = holder[key]
            case _:
                other, at = chance.choice(places)
                there = at in other if isinstance(other, dict) else at < len(other)
                if there and other is not holder:
                    holder[key] = copy.deepcopy(other[at])
    return made


def bent(value: Any, chance: random.Random, values: Sequence[Any] = VALUES) -> Any:
    """A value of the same kind, but an odd one."""
    if isinstance(value, torch.Tensor):
        return bent_tensor(value, chance)
    if isinstance(value, bool) or value is None:
        return chance.choice((not value, 2, "true", None))
    if isinstance(value, int):
        return chance.choice((*BOUNDARY, value + 1, value - 1, -value, float(value), str(value)))
    if isinstance(value, float):
        return chance.choice((0.0, -0.0, -value, math.nan, math.inf, -math.inf, 1e300, 5e-324, value * 2, str(value)))
    if isinstance(value, str):
        return chance.choice((value[:-1], value + "x", value.upper(), "", value * 3, "\x1b[2J", "a/../../b", 3))
    if isinstance(value, list):
        return chance.choice((value[:-1], value + value[-1:], value[::-1], value * 2, [], value[0] if value else 0))
    return chance.choice(values)


def bent_tensor(value: torch.Tensor, chance: random.Random) -> Any:
    """A tensor of another shape, type or content."""
    flat = value.reshape(-1)
    odd: list[Callable[[], Any]] = [
        lambda: flat,
        lambda: value[None],
        lambda: value[:-1] if value.dim() else value[None],
        lambda: torch.cat([value, value]) if value.dim() else value.repeat(3),
        lambda: value.double() if value.is_floating_point() else value.float(),
        lambda: value.half() if value.is_floating_point() else value.to(torch.int32),
        lambda: value.to(torch.complex64),
        lambda: torch.full_like(value, math.nan) if value.is_floating_point() else value - 2**31,
        lambda: torch.full_like(value, math.inf) if value.is_floating_point() else torch.zeros_like(value),
        lambda: torch.full_like(value, 3e38) if value.is_floating_point() else value + 2**40,
        lambda: value.new_empty(0),
        lambda: value.to(torch.bool),
        lambda: value.tolist(),
        lambda: value.new_zeros(1).expand(1 << 40) if chance.random() < 0.3 else value.new_zeros(1).expand(1 << 20),
        lambda: value.to_sparse() if value.dim() else value,
        lambda: torch.quantize_per_tensor(value.float(), 0.1, 0, torch.qint8),
        lambda: value.to("meta"),
        lambda: torch.nn.Parameter(value) if value.is_floating_point() else value,
        lambda: -value if value.is_floating_point() else ~value,
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return chance.choice(odd)()
        except (RuntimeError, TypeError):
            return flat


def tensors(write: Callable[[Any], bytes] | None = None) -> Mutate:
    """Another content of a file of torch; ``write`` makes the bytes, with whatever seals them."""

    def mutate(data: bytes, chance: random.Random) -> bytes:
        content = torch.load(io.BytesIO(data), weights_only=True)
        changed = change(content, chance)
        if write is not None and isinstance(changed, dict):
            try:
                return write(changed)
            except Exception:  # what the writer refuses is written plainly
                pass
        buffer = io.BytesIO()
        try:
            torch.save(changed, buffer)
        except (RuntimeError, NotImplementedError, TypeError):
            return flip(data, chance)
        return buffer.getvalue()

    return mutate


def members(data: bytes, chance: random.Random) -> bytes:
    """Damage one member of a zip, and pack it again with the right checksums."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
        contents = {name: archive.read(name) for name in names}
    chosen = chance.choice(names)
    match chance.randrange(8):
        case 0:
            del contents[chosen]
        case 1:
            contents[chance.choice((f"{chosen}x", f"../{chosen}", "/x", ""))] = contents.pop(chosen)
        case 2:
            contents[chosen] = contents[chance.choice(names)]
        case _:
            if contents[chosen]:
                contents[chosen] = chance.choice(BYTES)(contents[chosen], chance)
    buffer = io.BytesIO()
    packing = chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two members of one name
        with zipfile.ZipFile(buffer, "w", packing) as archive:
            for name, inner in contents.items():
                archive.writestr(name or "_", inner)
    return buffer.getvalue()


def arrays(data: bytes, chance: random.Random) -> bytes:
    """Another content of an npz file."""
    with np.load(io.BytesIO(data)) as content:
        found = {name: content[name] for name in content.files}
    chosen = chance.choice(list(found))
    if chance.random() < 0.15:
        del found[chosen]
    else:
        found[chosen] = bent_array(found[chosen], chance)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.savez_compressed(buffer, **found)
    return buffer.getvalue()


def bent_array(value: np.ndarray, chance: random.Random) -> np.ndarray:
    """An array of another shape, type or content."""
    number = value.dtype.kind in "iufb"
    odd: list[Callable[[], Any]] = [
        lambda: value.reshape(-1),
        lambda: value[None],
        lambda: value[:-1] if value.ndim else value[None],
        lambda: np.concatenate([value, value]) if value.ndim else np.repeat(value, 3),
        lambda: value.astype("f8") if number else value,
        lambda: value.astype("c8") if number else value,
        lambda: value.astype("U5"),
        lambda: value.astype("S5") if number else value,
        lambda: np.full(value.shape, np.nan),
        lambda: np.full(value.shape, -1, "i8"),
        lambda: np.full(value.shape, 2**62, "i8"),
        lambda: np.full(value.shape, 2**64 - 1, "u8"),
        lambda: value[:0] if value.ndim else value,
        lambda: np.zeros(value.shape, [("a", "f4"), ("b", "i2")]),
        lambda: value.astype("M8[s]") if number and value.dtype.kind != "b" else value,
        lambda: value.astype(value.dtype.newbyteorder()) if number else value,
        lambda: np.array(5),
        lambda: value[::-1] if value.ndim else value,
    ]
    try:
        return np.asarray(chance.choice(odd)())
    except (TypeError, ValueError, OverflowError):
        return np.zeros(3)


def yaml_values(data: bytes, chance: random.Random) -> bytes:
    """Other values in a YAML file."""
    changed = change(yaml.safe_load(data), chance, [each for each in VALUES if not isinstance(each, tuple)])
    return yaml.safe_dump(changed, sort_keys=False, allow_unicode=True).encode("utf-8", "surrogatepass")


def json_values(data: bytes, chance: random.Random) -> bytes:
    """Other values in a JSON file."""
    values = [each for each in VALUES if not isinstance(each, (bytes, tuple))]
    return json.dumps(change(json.loads(data), chance, values), default=str).encode()


def hdf5(data: bytes, chance: random.Random) -> bytes:
    """Another content of an HDF5 file: data sets of another shape, type or layout, links, groups, gigantic fills."""
    buffer = io.BytesIO(data)
    with h5py.File(buffer, "r+") as file:
        names: list[str] = []
        file.visit(lambda name: names.append(name))
        for _ in range(chance.choice((1, 1, 2))):
            name = chance.choice(names)
            if name not in file:
                continue
            value = file[name][()] if isinstance(file[name], h5py.Dataset) else None
            del file[name]
            _put_odd(file, name, value, names, chance)
    return buffer.getvalue()


def _put_odd(file: h5py.File, name: str, value: Any, names: list[str], chance: random.Random) -> None:
    """Something odd in the place of what was at ``name``."""
    match chance.randrange(12):
        case 0:
            return
        case 1:
            file.create_group(name)
        case 2:
            file.create_dataset(name, (1 << chance.choice((20, 34, 40)),), "f4", chunks=(1 << 16,), fillvalue=1.0)
        case 3:
            file[name] = h5py.SoftLink("/" + chance.choice(names))
        case 4:
            file[name] = h5py.ExternalLink("other.h5", "/x")
        case 5:
            file[name] = chance.choice(("text", 3, -1.5, np.nan, [], [[1, 2], [3, 4]], b"\xff\xfe", True))
        case 6:
            file.create_dataset(name, data=h5py.Empty("f4"))
        case 7:
            kind = np.dtype([("x", "f4"), ("y", "i2")])
            file.create_dataset(name, data=np.zeros(3, kind))
        case 8:
            file.create_dataset(name, (3,), h5py.vlen_dtype(np.dtype("i4")))
        case _ if isinstance(value, (np.ndarray, np.generic)) and np.asarray(value).dtype.kind in "iufb":
            file.create_dataset(name, data=_storable(bent_array(np.asarray(value), chance)))
        case _:
            file[name] = chance.choice(WORDS[:20])


def _storable(value: np.ndarray) -> np.ndarray:
    return (
        np.char.encode(value, "ascii", "replace")
        if value.dtype.kind == "U"
        else value.astype("i8")
        if value.dtype.kind == "M"
        else value
    )


def _listed(value: Any) -> Any:
    """A deep copy whose tuples are lists, so that they can be changed."""
    if isinstance(value, dict):
        return {key: _listed(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_listed(each) for each in value]
    return value
