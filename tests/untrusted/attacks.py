"""Small files that are made to fill the memory, to reach outside, or to mean two things; each with its reader.

Run as a program, it reads all of them in a process that may take 2 GiB more than it has at its start.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import pickle
import re
import resource
import socket
import struct
import sys
import tarfile
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from spikelfp.data.events.readers import read
from spikelfp.data.events.sources.files import members
from spikelfp.errors import UserError
from spikelfp.training.config import RunConfig
from spikelfp.training.memory import check_run_memory
from spikelfp.untrusted import (
    load_arrays,
    load_tensors,
    open_hdf5,
    open_regular,
    read_json,
    read_yaml,
    unpack_stream,
)

Attack = tuple[Callable[[Path], Any], Callable[[Path], Any]]

ATTACKS: dict[str, Attack] = {}


def _socket(path: Path) -> None:
    place = Path.cwd()
    os.chdir(path.parent)  # names of sockets are short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(place)


def _bytes(content: bytes) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(content)


def _yaml(name: str, text: str | bytes) -> None:
    ATTACKS[f"yaml {name}"] = (_bytes(text if isinstance(text, bytes) else text.encode()), read_yaml)


_LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
_yaml("aliases", _LAUGHS)
_yaml("itself", "a: &a [*a]")
_yaml("depth", "[" * 100_000)
_yaml("depth of blocks", "- " * 30_000)
_yaml("long number", "a: 1" + "0" * 5000)
_yaml("base 60", "a: " + "1:" * 5000 + "1")
_yaml("many values", "[" + "1," * 400_000 + "]")
_yaml("long", b"x" * (2 << 20))
_yaml("twice", "a: 1\nb: 2\na: 3")
_yaml("python", "!!python/object/apply:os.system [ls]")
_yaml("binary", "!!binary aGVsbG8=")
_yaml("merge", "<<: {a: 1}")
_yaml("utf-16", "a: 1".encode("utf-16"))
_yaml("control", "a: \0")


def _hdf5(name: str, make: Callable[[h5py.File], Any]) -> None:
    def write(path: Path) -> None:
        with h5py.File(path, "w") as file:
            make(file)

    def read(path: Path) -> None:
        with open_hdf5(path):
            pass

    ATTACKS[f"hdf5 {name}"] = (write, read)


def _deep(file: Any) -> None:
    for _ in range(200):
        file = file.create_group("g")


def _circle(file: Any) -> None:
    file["a/b/c"] = 1
    file["a/b/up"] = file["a"]


def _virtual(file: Any) -> None:
    layout = h5py.VirtualLayout((100,), "i4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (100,))
    file.create_virtual_dataset("x", layout)


def _long_chunk(file: Any) -> None:
    found = file.create_dataset("x", (1000,), "i4", chunks=(1000,), compression="gzip")
    found.id.write_direct_chunk((0,), zlib.compress(bytes(140 << 20), 1))


def _packed_twice(file: Any) -> None:
    settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    settings.set_chunk((1000,))
    settings.set_deflate(4)
    settings.set_deflate(4)
    h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_INT32, h5py.h5s.create_simple((1000,)), settings)


def _one_of_many(file: Any) -> None:
    file.create_dataset("x", (50_000_000,), "f4", chunks=(1,))[5] = 1


def _together(file: Any) -> None:
    for index in range(7):
        file.create_dataset(str(index), data=np.zeros(40_000_000, "i1"), compression="gzip")


_hdf5("fill value", lambda file: file.create_dataset("x", (10**12,), "f4", chunks=(10**6,)))
_hdf5("small fill value", lambda file: file.create_dataset("x", (10**7,), "f4"))
_hdf5("overflowing shape", lambda file: file.create_dataset("x", (2**32, 2**32), "f8", chunks=(8, 8)))
_hdf5("chunks", _one_of_many)
_hdf5("together", _together)
_hdf5("chunk that unpacks to more", _long_chunk)
_hdf5("packed twice", _packed_twice)
_hdf5("external link", lambda file: file.__setitem__("x", h5py.ExternalLink("/etc/passwd", "/")))
_hdf5("soft link", lambda file: file.__setitem__("x", h5py.SoftLink("/")))
_hdf5("external storage", lambda file: file.create_dataset("x", (9,), "i4", external=[("/etc/passwd", 0, 36)]))
_hdf5("virtual", _virtual)
_hdf5("circle", _circle)
_hdf5("depth", _deep)
_hdf5("reference", lambda file: file.create_dataset("x", data=[file.ref], dtype=h5py.ref_dtype))
_hdf5("scaleoffset", lambda file: file.create_dataset("x", (99,), "i4", chunks=(9,), scaleoffset=0))


def _npy(shape: str, kind: str = "<f4", content: bytes = b"") -> bytes:
    head = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\1\0" + len(head).to_bytes(2, "little") + head + content


def _zip(*entries: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return buffer.getvalue()


def _lying(content: bytes, size: int) -> bytes:
    """An archive whose only entry declares another size than it unpacks to."""
    data = bytearray(_zip(("a.npy", content)))
    directory = data.rindex(b"PK\1\2")
    data[directory + 24 : directory + 28] = size.to_bytes(4, "little")
    return bytes(data)


def _overlapping() -> bytes:
    """Two names for one entry's bytes."""
    data = bytearray(_zip(("a.npy", _npy("(2,)", content=bytes(8))), ("b.npy", _npy("(2,)", content=bytes(8)))))
    directory = data.rindex(b"PK\1\2")
    data[directory + 42 : directory + 46] = bytes(4)
    return bytes(data)


for _name, _content in {
    "declared": _zip(("a.npy", _npy("(10**12,)".replace("10**12", "1000000000000")))),
    "objects": _zip(("a.npy", _npy("(2,)", "|O", bytes(16)))),
    "empty but large": _zip(("a.npy", _npy("(0, 4611686018427387904, 4)", "<f8"))),
    "negative": _zip(("a.npy", _npy("(-2,)"))),
    "deep head": _zip(("a.npy", _npy("(" * 3000))),
    "claims": _lying(bytes(100), 1 << 31),
    "lying": _lying(bytes(40 << 20), 100),
    "overlapping": _overlapping(),
    "bzip2": _zip(("a.npy", bytes(1 << 20)), method=zipfile.ZIP_BZIP2),
    "twice": _zip(("a.npy", _npy("(1,)", content=bytes(4))), ("a", _npy("(1,)", content=bytes(4)))),
    "no archive": b"PK",
}.items():
    ATTACKS[f"npz {_name}"] = (_bytes(_content), load_arrays)


class _Global:
    def __init__(self, call: Callable[..., Any], *args: Any) -> None:
        self.call, self.args = call, args

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call, self.args


def _torch(content: Any) -> Callable[[Path], Any]:
    return lambda path: torch.save(content() if callable(content) else content, path)


def _changed(old: bytes, new: bytes) -> Callable[[Path], Any]:
    """A file of one tensor of 7 numbers, its pickle changed."""

    def write(path: Path) -> None:
        torch.save({"x": torch.zeros(7)}, path)
        with zipfile.ZipFile(path) as archive:
            entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
        assert any(old in content for _, content in entries)
        changed = [(n, c.replace(old, new) if n.endswith("data.pkl") else c) for n, c in entries]
        path.write_bytes(_zip(*changed, method=zipfile.ZIP_STORED))

    return write


def _nested() -> list[Any]:
    found: list[Any] = [1, 2]
    for _ in range(40):
        found = [found, found]
    return found


def _deep_list() -> list[Any]:
    found: list[Any] = []
    for _ in range(300):
        found = [found]
    return found


for _name, _write in {
    "storage beyond its end": _changed(b"K\x07", b"J\xff\xff\xff\x7f"),
    "array of any size": _torch({"x": _Global(bytearray, 10**12)}),
    "tensor of any size": _torch({"x": _Global(torch.Tensor, 10**6, 10**6)}),
    "one number many times": _torch({"x": torch.zeros(1).expand(10**6, 10**6)}),
    "the same list in lists": _torch(_nested),
    "depth": _torch(_deep_list),
    "sparse": _torch({"x": torch.zeros(4, 4).to_sparse()}),
    "code": _torch({"x": _Global(os.system, "true")}),
    "memo": _bytes(_zip(("a/data.pkl", b"\x80\x02N" + b"r\xff\xff\xff\x7f."), method=zipfile.ZIP_STORED)),
    "packed": _bytes(_zip(("a/data.pkl", pickle.dumps({}, 2)), ("a/data/0", bytes(1 << 20)))),
    "old format": lambda path: torch.save({"x": 1}, path, _use_new_zipfile_serialization=False),
}.items():
    ATTACKS[f"torch {_name}"] = (_write, load_tensors)


def _unpack(path: Path) -> Any:
    with open_regular(path) as file:
        return unpack_stream(file, path.stat().st_size, str(path))


_MILLION = bytes(1 << 20)
_XZ = lzma.compress(_MILLION)


def _large_decoder() -> bytes:
    """An xz stream that asks for a dictionary of 4 GiB."""
    maker = lzma.LZMACompressor(lzma.FORMAT_XZ, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 20, "preset": 0}])
    data = bytearray(maker.compress(bytes(1000)) + maker.flush())
    flags = data.index(b"\x21\x01", 12)
    data[flags + 2] = 40
    size = (data[12] + 1) * 4
    data[12 + size - 4 : 12 + size] = zlib.crc32(bytes(data[12 : 12 + size - 4])).to_bytes(4, "little")
    return bytes(data)


for _name, _content in {
    "gzip": gzip.compress(_MILLION) * 300,
    "bzip2": bz2.compress(_MILLION) * 300,
    "xz": _XZ * 300,
    "decoder of xz": _large_decoder(),
    "truncated": _XZ[:-9],
}.items():
    ATTACKS[f"stream {_name}"] = (_bytes(_content), _unpack)


def _tar(*entries: tuple[str, int]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, size in entries:
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
            if size:
                head = bytearray(buffer.getvalue()[-512:])
                head[124:136] = b"%011o\0" % size
                head[148:156] = b"        "
                head[148:156] = b"%06o\0 " % sum(head)
                buffer.seek(-512, 1)
                buffer.write(head)
    return buffer.getvalue()


ATTACKS["tar that claims"] = (lambda path: path.with_suffix(".tar").write_bytes(_tar(("a", 8 << 30))),
                              lambda path: members(path.with_suffix(".tar")))  # fmt: skip
ATTACKS["tar of zeros"] = (lambda path: path.with_suffix(".tar.gz").write_bytes(gzip.compress(_MILLION) * 300),
                           lambda path: members(path.with_suffix(".tar.gz")))  # fmt: skip


def _recording(name: str, suffix: str, content: bytes | Callable[[Path], Any]) -> None:
    def write(path: Path) -> None:
        own = path.with_suffix(suffix)
        if callable(content):
            content(own)
        else:
            own.write_bytes(content)

    ATTACKS[f"{suffix} {name}"] = (write, lambda path: read(path.with_suffix(suffix)))


def _matlab(size: int, content: bytes) -> bytes:
    """A compressed element of MATLAB 5 that declares so many bytes, an array of numbers."""
    packed = zlib.compress(struct.pack("<II", 14, size) + content)
    head = b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM"
    return head + struct.pack("<II", 15, len(packed)) + packed


def _hdf5_of(make: Callable[[h5py.File], Any]) -> Callable[[Path], Any]:
    def write(path: Path) -> None:
        with h5py.File(path, "w") as file:
            make(file)

    return write


def _one_long_text(file: Any) -> None:
    """A million references to the same text on the disk."""
    made = file.create_dataset("t", (1 << 20,), h5py.string_dtype(), chunks=(1 << 20,), compression="gzip")
    made[:] = "x"


def _text_that_claims(make: Callable[[h5py.File], Any]) -> Callable[[Path], Any]:
    """A text or list of eleven letters or numbers that claims to be 4 GB long."""

    def write(path: Path) -> None:
        _hdf5_of(make)(path)
        content = bytearray(path.read_bytes())
        places = [
            found.start() for found in re.finditer(rb"\x0b\0\0\0.{8}[\x01-\x20]\0\0\0", bytes(content), re.DOTALL)
        ]
        assert places
        for place in places:
            content[place : place + 4] = b"\xff\xff\xff\xff"
        path.write_bytes(content)

    return write


def _claiming(name: str, make: Callable[[h5py.File], Any]) -> None:
    """Read as a whole, and as an event file with its attributes."""

    def whole(path: Path) -> None:
        with open_hdf5(path):
            pass

    ATTACKS[f"hdf5 {name}"] = (_text_that_claims(make), whole)


def _list_of_lists(file: Any) -> None:
    made = file.create_dataset("t", (8,), h5py.vlen_dtype("f2"), chunks=(4,))
    for number in range(8):
        made[number] = np.ones(11, "f2")


def _with_a_note(file: Any) -> None:
    file["events/t"], file["events/x"] = np.arange(3), np.arange(3)
    file["events"].attrs["note"] = "hello world"


_ELEVEN = ["hello world"] * 8
_claiming("text", lambda file: file.create_dataset("t", data=_ELEVEN))
_claiming("text in chunks", lambda file: file.create_dataset("t", data=_ELEVEN, chunks=(4,)))
_claiming("texts in a table", lambda file: file.create_dataset("t", data=[_ELEVEN] * 2, chunks=(1, 4)))
_claiming("lists in chunks", _list_of_lists)
_claiming("text of an attribute", lambda file: file.attrs.__setitem__("geometry", "hello world"))


def _columns_of_nothing(file: Any) -> None:
    for name in "txyp":
        file.create_dataset(f"events/{name}", (10**11,), "i8", chunks=(10**6,), compression="gzip")


def _zip64(size: int) -> bytes:
    """An entry whose true size stands in a field of 64 bits, and is not true."""
    data = bytearray(_zip(("a.npy", bytes(100)), method=zipfile.ZIP_STORED))
    directory = data.rindex(b"PK\1\2")
    extra = struct.pack("<HHQQ", 1, 16, size, size)
    data[directory + 20 : directory + 28] = b"\xff" * 8
    data[directory + 30 : directory + 32] = len(extra).to_bytes(2, "little")
    name = directory + 46 + 5
    data[name:name] = extra
    end = data.rindex(b"PK\5\6")
    data[end + 12 : end + 16] = (end - directory).to_bytes(4, "little")
    return bytes(data)


def _long_header(path: Path) -> None:
    """A tar whose extended header (PAX) claims 8 GiB."""
    head = tarfile.TarInfo("a")
    head.type, head.size = tarfile.XHDTYPE, 8 << 30
    path.write_bytes(head.tobuf(tarfile.GNU_FORMAT) + bytes(1024))


_AEDAT4 = b"#!AER-DAT4.0\r\n"

for _name, _suffix, _made in (
    ("endless line", ".txt", b"1" * (4 << 20)),
    ("endless line", ".csv", b"1," * (2 << 20)),
    ("endless text", ".csv", b"t,x\n" + b"x" * (4 << 20)),
    ("long number", ".txt", b"1" + b"0" * 10**6 + b" 1 1 1\n"),
    ("great number", ".csv", b"1e308,1,1,1\n"),
    ("no number", ".txt", b"nan 1 1 1\n"),
    ("infinity", ".csv", b"1,inf,1,1\n"),
    ("NUL", ".csv", b"1,\0,1,1\n"),
    ("NUL in a number", ".csv", b"1\0,1,1,1\n"),
    ("only comments", ".txt", b"#\n" * 10**5),
    ("many columns", ".csv", b"t,x" + b",a" * 10**5 + b"\n1,1\n"),
    ("claims", ".mat", _matlab((1 << 32) - 8, bytes(64))),
    ("zeros", ".mat", _matlab(300 << 20, bytes(300 << 20))),
    ("text", ".mat", b"MATLAB 5.0 MAT-file"),
    ("fill value", ".mat", _hdf5_of(_columns_of_nothing)),
    ("fill value", ".h5", _hdf5_of(_columns_of_nothing)),
    ("one long text", ".h5", _hdf5_of(_one_long_text)),
    ("text of an attribute", ".h5", _text_that_claims(_with_a_note)),
    ("link", ".h5", _hdf5_of(lambda file: file.__setitem__("events", h5py.ExternalLink("/etc/passwd", "/")))),
    ("table that claims", ".aedat4", _AEDAT4 + struct.pack("<I", (1 << 32) - 1) + bytes(64)),
    ("offsets that claim", ".aedat4", _AEDAT4 + struct.pack("<I", 64) + b"\xff" * 64),
    ("zip64", ".npz", _zip64(1 << 50)),
    ("archive in an archive", ".npz", _zip(("a.npz", _zip(("t.npy", _npy("(2,)", content=bytes(8))))))),
    ("socket", ".bin", _socket),
    ("header without end", ".dat", b"% " + b"x" * (4 << 20)),
    ("header of lines", ".raw", b"% a\n" * 10**5),
):
    _recording(_name, _suffix, _made)
ATTACKS["tar with a long header"] = (lambda path: _long_header(path.with_suffix(".tar")),
                                     lambda path: members(path.with_suffix(".tar")))  # fmt: skip
ATTACKS["zip in 64 bits"] = (lambda path: path.with_suffix(".zip").write_bytes(_zip64(1 << 50)),
                             lambda path: members(path.with_suffix(".zip")))  # fmt: skip
ATTACKS["json depth"] = (_bytes(b"[" * 200_000), read_json)
ATTACKS["json number"] = (_bytes(b"1" * 10_000), read_json)
ATTACKS["json twice"] = (_bytes(b'{"a": 1, "a": 2}'), read_json)
ATTACKS["pipe"] = (os.mkfifo, read_yaml)
ATTACKS["device"] = (lambda path: path.symlink_to("/dev/zero"), read_yaml)
ATTACKS["folder"] = (lambda path: path.mkdir(), load_tensors)
ATTACKS["link to itself"] = (lambda path: path.symlink_to(path), load_arrays)
ATTACKS["wide network"] = (_bytes(b""), lambda path: RunConfig(hidden=(10**6, 10**6)).build((10,), 10))
ATTACKS["large inputs"] = (_bytes(b""), lambda path: RunConfig().build((10**6, 10**6), 10))
ATTACKS["sizes beyond 64 bits"] = (_bytes(b""), lambda path: RunConfig(hidden=(2**62, 2**62)).build((10,), 10))
ATTACKS["many classes"] = (_bytes(b""), lambda path: RunConfig().build((28, 28), 10**11))
ATTACKS["many layers"] = (_bytes(b""), lambda path: RunConfig(hidden=(1,) * 100_000).build((10,), 10))
ATTACKS["many steps"] = (_bytes(b""), lambda path: check_run_memory(RunConfig().spec((28, 28), 10),
                                                                     steps=10**9, samples=100))  # fmt: skip


def strike(name: str, folder: Path) -> tuple[str, float]:
    """Write a file and read it; return the error's text and the seconds of computing while it was read."""
    write, read = ATTACKS[name]
    path = folder / name.replace(" ", "-")
    write(path)
    start = time.process_time()
    try:
        read(path)
    except UserError as error:
        return str(error), time.process_time() - start
    raise AssertionError(f"{name} was read")


def _limited(folder: Path) -> None:
    write = {name: ATTACKS[name][0] for name in ATTACKS}
    for name, make in write.items():
        make(folder / name.replace(" ", "-"))
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (2 << 30),) * 2)
    for name, (_, opened) in ATTACKS.items():
        try:
            opened(folder / name.replace(" ", "-"))
        except UserError:
            continue
        sys.exit(f"{name} was read")
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        _limited(Path(made))
