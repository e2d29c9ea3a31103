"""Attacks made by hand: files that a stranger hands over, folders with traps in them, and odd things to type.

Each runs in a folder of its own. Beside it lies ``outside``, which no command is told of: whatever happens, it stays as
it is and is not opened. A payload that runs would leave the file ``pwned`` there.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import gzip
import io
import json
import lzma
import os
import pickle
import shutil
import socket
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from .inputs import EVAL, bases, bodies_of
from .kills import Found
from .process import environment, most_memory, run
from .scenarios import TRAIN, copy

MOST_MEMORY = 2 << 30
MOST_SECONDS = 10.0

Make = Callable[[Path, Path], object]
"""Gets the folder that the command runs in, and the one outside."""


@dataclass(frozen=True)
class Attack:
    """An attack.

    Attributes:
        name: what it tries.
        base: the folder it starts from.
        make: lays the trap.
        command: what the victim types.
        expect: ``refused`` in one line, ``fine`` (it succeeds), or ``any`` of the two.
        reads: may read outside: the victim has named the place.
        keeps: paths within the folder that must stay as they are.
        family: of the row in the table.
    """

    name: str
    base: str
    make: Make
    command: Sequence[str]
    expect: str = "any"
    reads: bool = False
    keeps: tuple[str, ...] = ()
    family: str = ""


class Payload:
    """Creates the file ``pwned`` outside when it is unpickled."""

    def __init__(self, outside: Path) -> None:
        self.path = str(outside / "pwned")

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (self.path,))


class Watch:
    """Tells what was opened or changed in a folder, by inotify where there is one."""

    OPENED, CHANGED = 0x20, 0x2 | 0x4 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x800

    def __init__(self, folder: Path) -> None:
        self.libc = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)
        self.handle = self.libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self.places: dict[int, Path] = {}
        for each in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
            number = self.libc.inotify_add_watch(self.handle, os.fsencode(each), self.OPENED | self.CHANGED)
            self.places[number] = each

    def seen(self) -> tuple[set[str], set[str]]:
        """Names that were opened, and names that were changed."""
        opened, changed = set(), set()
        try:
            data = os.read(self.handle, 1 << 20)
        except BlockingIOError:
            data = b""
        at = 0
        while at < len(data):
            place, mask, _, length = struct.unpack_from("iIII", data, at)
            name = data[at + 16 : at + 16 + length].rstrip(b"\0").decode("utf-8", "replace")
            path = str(self.places.get(place, Path()) / name)
            if mask & self.OPENED:
                opened.add(path)
            if mask & self.CHANGED:
                changed.add(path)
            at += 16 + length
        return opened, changed

    def close(self) -> None:
        """Stop watching."""
        os.close(self.handle)


def fill_outside(outside: Path) -> None:
    """What somebody would rather keep: files of every kind, a folder with files, and one that looks like a left-over."""
    outside.mkdir()
    (outside / "secret.txt").write_text("TOP-SECRET\n")
    (outside / "secret.yaml").write_text("token: TOP-SECRET\n")
    (outside / "secret.json").write_text('{"token": "TOP-SECRET"}')
    np.save(outside / "secret.npy", np.arange(12.0))
    with h5py.File(outside / "secret.h5", "w") as file:
        file["x"] = np.arange(12.0)
        file["weight"] = np.ones((8, 12), "f4")
    torch.save({"secret": torch.ones(3)}, outside / "secret.pt")
    (outside / "raw.bin").write_bytes(bytes(range(256)) * 400)
    for name in ("folder", ".left.part", "folder/checkpoints"):
        (outside / name).mkdir()
        (outside / name / "precious.txt").write_text("keep me\n")
    (outside / "folder" / "config.yaml").write_text("precious: settings of another program\n")


def state(folder: Path) -> dict[str, tuple[Any, ...]]:
    """Content, size and time of everything below a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        found[str(path.relative_to(folder))] = (status.st_mode, status.st_size, status.st_mtime_ns, content)
    return found


# Traps ---------------------------------------------------------------------------------------------------------------


def put(path: str, content: bytes | Callable[[Path], bytes]) -> Make:
    """A file with this content, in the place of what is there."""

    def make(folder: Path, outside: Path) -> None:
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        _remove(place)
        place.write_bytes(content(outside) if callable(content) else content)

    return make


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink()


def _odd_files() -> dict[str, Callable[[Path, Path], object]]:
    """Things that are no files, or files without end, put at a path; the second argument is the folder outside."""

    def listening(path: Path, outside: Path) -> None:
        here = os.getcwd()
        os.chdir(path.parent)  # the names of sockets are short
        try:
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(path.name)
        finally:
            os.chdir(here)

    def sparse(path: Path, outside: Path) -> None:
        with open(path, "wb") as file:
            file.truncate(1 << 36)

    return {
        "a FIFO": lambda path, outside: os.mkfifo(path),
        "a folder": lambda path, outside: path.mkdir(),
        "an endless device": lambda path, outside: path.symlink_to("/dev/zero"),
        "a link to itself": lambda path, outside: path.symlink_to(path.name),
        "a link to nothing": lambda path, outside: path.symlink_to("nowhere/at/all"),
        "a socket": listening,
        "nothing": lambda path, outside: path.write_bytes(b""),
        "a hole of 64 GiB": sparse,
        "a pickle that runs": lambda path, outside: path.write_bytes(pickle.dumps(Payload(outside))),
    }


def _odd(path: str, way: Callable[[Path, Path], object]) -> Make:
    def make(folder: Path, outside: Path) -> None:
        place = folder / path
        if path.startswith("cache/train/"):
            place = folder / "cache" / (folder / "train-is").read_text() / path.removeprefix("cache/train/")
        _remove(place)
        way(place, outside)

    return make


def _targets() -> dict[str, Callable[[Path, Path], object]]:
    """Traps at the place that something is written to."""

    def foreign(path: Path, outside: Path) -> None:
        path.mkdir()
        (path / "config.yaml").write_text("name: another program\n")
        (path / "manifest.yaml").write_text("name: another program\n")
        (path / "thesis.tex").write_text("keep me")

    def full(path: Path, outside: Path) -> None:
        path.mkdir()
        (path / "thesis.tex").write_text("keep me")

    return {
        "a folder of another program": foreign,
        "a folder with a thesis": full,
        "a file": lambda path, outside: path.write_text("keep me"),
        "a link to a folder outside": lambda path, outside: path.symlink_to(outside / "folder"),
        "a link to a file outside": lambda path, outside: path.symlink_to(outside / "secret.txt"),
        "a link to a new name outside": lambda path, outside: path.symlink_to(outside / "new"),
        "a hard link": lambda path, outside: os.link(outside / "secret.txt", path),
        "a FIFO": lambda path, outside: os.mkfifo(path),
        "a device": lambda path, outside: path.symlink_to("/dev/full"),
        "a link to itself": lambda path, outside: path.symlink_to(path.name),
    }


WRITERS: dict[str, tuple[str, list[str]]] = {
    "train": ("run", [*TRAIN[:-1], "there"]),
    "train --overwrite": ("run", [*TRAIN[:-1], "there", "--overwrite"]),
    "train --resume": ("run", [*TRAIN[:-1], "there", "--resume"]),
    "build": ("run", ["hw-export", "build", "run", "--samples", "4", "--out", "there"]),
    "build --overwrite": ("run", ["hw-export", "build", "run", "--samples", "4", "--out", "there", "--overwrite"]),
    "record --overwrite": (
        "run", ["hw-export", "updates", "record", "run", "--steps", "2", "--out", "there", "--overwrite"],
    ),
    "replay --overwrite": (
        "stream", ["hw-export", "updates", "replay", "stream.cbor", "--out", "there", "--overwrite"],
    ),
}  # fmt: skip
"""Commands that write to ``there``, each with the folder it starts from."""


def _writing() -> list[Attack]:
    found = []
    for command, (base, arguments) in WRITERS.items():
        for trap, way in _targets().items():
            keeps = ("there",) if trap.startswith(("a folder", "a file")) else ()
            found.append(Attack(f"{command}: there is {trap}", base, _odd("there", way), arguments, reads="link" in trap, keeps=keeps))
    inside = {
        "train --overwrite: the run holds a thesis": put("run/thesis.tex", b"keep me"),
        "train --overwrite: its checkpoints are a link outside": lambda folder, outside: _linked(folder / "run/checkpoints", outside / "folder"),
        "train --overwrite: last.pt is a link outside": lambda folder, outside: _linked(folder / "run/checkpoints/last.pt", outside / "secret.pt"),
        "train --overwrite: metrics.csv is a link outside": lambda folder, outside: _linked(folder / "run/metrics.csv", outside / "secret.txt"),
        "train --overwrite: config.yaml is a hard link": lambda folder, outside: _hard(folder / "run/config.yaml", outside / "same.yaml"),
        "train --overwrite: a folder of one's own in it": lambda folder, outside: ((folder / "run/notes").mkdir(), (folder / "run/notes/a.txt").write_text("keep me")),
    }  # fmt: skip
    overwrite = [*TRAIN, "--overwrite"]
    for name, make in inside.items():
        keeps = tuple(each for each in ("run/thesis.tex", "run/notes/a.txt") if each.split("/")[1] in name or "thesis" in name and "thesis" in each or "folder of one's own" in name and "notes" in each)
        found.append(Attack(name, "run", make, overwrite, reads="link" in name, keeps=keeps))
    links = {
        "checkpoints are a link outside": ("run/checkpoints", "folder"),
        "last.pt is a link outside": ("run/checkpoints/last.pt", "secret.pt"),
        "metrics.csv is a link outside": ("run/metrics.csv", "secret.txt"),
        "summary.json is a link outside": ("run/summary.json", "secret.json"),
        "report.html is a link outside": ("run/report.html", "secret.txt"),
    }
    for name, (path, target) in links.items():
        def make(folder: Path, outside: Path, path: str = path, target: str = target) -> None:
            _linked(folder / path, outside / target)

        for word, command in (
            ("train --resume", [*TRAIN[:-3], "3", "--out", "run", "--resume"]),
            ("report", ["spikelfp", "report", "run"]),
        ):
            found.append(Attack(f"{word}: {name}", "run", make, command, reads=True))
    for name in ("network.nir", "model.pt", "manifest.yaml", "verify.json", "samples.npz"):
        def trap(folder: Path, outside: Path, name: str = name) -> None:
            _linked(folder / "export" / name, outside / "secret.txt")

        found.append(
            Attack(f"build --overwrite: {name} is a link outside", "nir", trap,
                   ["hw-export", "build", "run", "--samples", "4", "--out", "export", "--overwrite"], reads=True)
        )  # fmt: skip
        found.append(
            Attack(f"verify: {name} is a link outside", "nir", trap,
                   ["hw-export", "verify", "export", "--in", "snntorch"], reads=True)
        )  # fmt: skip
    return found


def _linked(path: Path, target: Path) -> None:
    _remove(path)
    path.symlink_to(target)


def _hard(path: Path, target: Path) -> None:
    shutil.copy(path, target)
    _remove(path)
    os.link(target, path)


READERS: dict[str, tuple[str, str, list[str]]] = {
    "checkpoint": ("run", "run/checkpoints/last.pt", EVAL),
    "config.yaml": ("run", "run/config.yaml", EVAL),
    "--config": ("run", "options.yaml", ["spikelfp", "train", "--config", "options.yaml", "--out", "new"]),
    "metrics.csv": ("run", "run/metrics.csv", ["spikelfp", "report", "run"]),
    "summary.json": ("run", "run/summary.json", ["spikelfp", "report", "run"]),
    "manifest.yaml": ("nir", "export/manifest.yaml", ["hw-export", "verify", "export", "--in", "snntorch"]),
    "model.pt": ("nir", "export/model.pt", ["hw-export", "verify", "export", "--in", "snntorch"]),
    "samples.npz": ("nir", "export/samples.npz", ["hw-export", "verify", "export", "--in", "snntorch"]),
    "network.nir": ("nir", "export/network.nir", ["hw-export", "verify", "export", "--in", "snntorch"]),
    "tinyodin.spi": ("tinyodin", "export/tinyodin.spi", ["hw-export", "verify", "export"]),
    "spikes.npz": ("tinyodin", "export/spikes.npz", ["hw-export", "verify", "export"]),
    "netx": ("loihi", "export/network.net", ["hw-export", "verify", "export"]),
    "stream": ("stream", "stream.cbor", ["hw-export", "updates", "inspect", "stream.cbor"]),
    "base image": (
        "stream", "image.cbor",
        ["hw-export", "updates", "replay", "bare.cbor", "--base", "image.cbor", "--out", "new.cbor"],
    ),
    "recording .npy": ("events.npy0", "recordings/a/0.npy", ["spikelfp", "data", "info", "recordings"]),
    "recording .h5": ("events.h50", "recordings/a/0.h5", ["spikelfp", "data", "info", "recordings"]),
    "recording .aedat4": ("events.aedat40", "recordings/a/0.aedat4", ["spikelfp", "data", "info", "recordings"]),
    "recording .csv": ("events.csv0", "recordings/a/0.csv", ["spikelfp", "data", "info", "recordings"]),
    "recording .raw": ("events.raw0", "recordings/a/0.raw", ["spikelfp", "data", "info", "recordings"]),
    "recording .mat": ("events.mat0", "recordings/a/0.mat", ["spikelfp", "data", "info", "recordings"]),
    "cache meta.json": ("cache", "cache/train/meta.json", ["spikelfp", "eval", "run", "--cache-dir", "cache"]),
    "cache offsets.bin": ("cache", "cache/train/offsets.bin", ["spikelfp", "eval", "run", "--cache-dir", "cache"]),
}  # fmt: skip
"""Files that commands read: the folder, the path, and the command."""


def _reading() -> list[Attack]:
    found = []
    for name, (base, path, command) in READERS.items():
        for trap, way in _odd_files().items():
            found.append(Attack(f"{name} is {trap}", base, _odd(path, way), command))
    return found


# Payloads ------------------------------------------------------------------------------------------------------------


def torch_pickle(outside: Path) -> bytes:
    """A file of torch whose pickle runs code."""
    buffer = io.BytesIO()
    torch.save({"format": 1, "weights": Payload(outside)}, buffer)
    return buffer.getvalue()


def torch_legacy(outside: Path) -> bytes:
    """The same in torch's old format."""
    buffer = io.BytesIO()
    torch.save({"format": 1, "weights": Payload(outside)}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def numpy_pickle(outside: Path) -> bytes:
    """An array of objects that run code."""
    buffer = io.BytesIO()
    np.save(buffer, np.array([Payload(outside)], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def npz_pickle(outside: Path) -> bytes:
    """An archive of such arrays, under every name that is read."""
    buffer = io.BytesIO()
    names = ("inputs", "labels", "steps", "static", "mask", "events", "t", "x", "y", "p", "weight", "spikes")
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(f"{name}.npy", numpy_pickle(outside))
    return buffer.getvalue()


def yaml_tags(outside: Path) -> dict[str, bytes]:
    """YAML that runs code where tags are obeyed."""
    place = json.dumps(str(outside / "pwned"))
    return {
        "!!python/object/apply": f"a: !!python/object/apply:os.mkdir [{place}]\n".encode(),
        "!!python/object/new": f"a: !!python/object/new:os.mkdir [{place}]\n".encode(),
        "!!python/name": b"a: !!python/name:os.system\n",
        "!!python/module": b"a: !!python/module:antigravity\n",
    }


def _payloads() -> list[Attack]:
    found = []
    for name, make in (("torch pickle", torch_pickle), ("torch pickle of old", torch_legacy)):
        for base, path, command in (
            ("run", "run/checkpoints/last.pt", EVAL),
            ("run", "run/checkpoints/last.pt", [*TRAIN[:-3], "3", "--out", "run", "--resume"]),
            ("run", "run/checkpoints/best.pt", [*EVAL, "--weights", "best"]),
            ("run", "run/checkpoints/last.pt", ["hw-export", "build", "run", "--out", "new"]),
            ("run", "run/checkpoints/initial.pt", ["hw-export", "updates", "record", "run", "--weights", "initial", "--steps", "1", "--out", "new"]),
            ("nir", "export/model.pt", ["hw-export", "verify", "export", "--in", "snntorch"]),
        ):  # fmt: skip
            found.append(Attack(f"{name} in {Path(path).name}: {' '.join(command[:3])}", base, put(path, make), command, "refused"))
    for name, make in (("pickled array", numpy_pickle), ("archive of pickled arrays", npz_pickle)):
        for base, path, command in (
            ("nir", "export/samples.npz", READERS["samples.npz"][2]),
            ("tinyodin", "export/spikes.npz", READERS["spikes.npz"][2]),
            ("generic", "export/network.npz", ["hw-export", "verify", "export"]),
            ("events.npz0", "recordings/a/0.npz", ["spikelfp", "data", "info", "recordings"]),
            ("events.npy0", "recordings/a/0.npy", ["spikelfp", "data", "info", "recordings"]),
            ("run", "run/checkpoints/last.pt", EVAL),
        ):
            found.append(Attack(f"{name} in {Path(path).name}", base, put(path, make), command, "refused"))
    for tag in yaml_tags(Path("/")):
        for base, path, command in (
            ("run", "run/config.yaml", EVAL),
            ("run", "options.yaml", READERS["--config"][2]),
            ("nir", "export/manifest.yaml", READERS["manifest.yaml"][2]),
            ("tinyodin", "export/network.yaml", READERS["tinyodin.spi"][2]),
        ):
            make = put(path, lambda outside, tag=tag: yaml_tags(outside)[tag])
            found.append(Attack(f"{tag} in {Path(path).name}", base, make, command, "refused"))
    return found


# Bombs ---------------------------------------------------------------------------------------------------------------


def yaml_bomb() -> bytes:
    """A few hundred bytes that unfold to 9⁹ entries."""
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{new}: &{new} [{', '.join(f'*{old}' for _ in range(9))}]" for old, new in zip("abcdefgh", "bcdefghi", strict=True)]
    return "\n".join(lines).encode()


def zip_bomb(name: str, size: int = 8 << 30) -> bytes:
    """A zip whose one member unpacks to ``size`` zeros."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive, archive.open(name, "w", force_zip64=True) as member:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (size,)})
        member.write(header.getvalue())
        block = bytes(1 << 24)
        for _ in range(size >> 24):
            member.write(block)
    return buffer.getvalue()


def npy_claims(shape: tuple[int, ...], kind: str = "<f8") -> bytes:
    """An array that claims a shape and holds nothing."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": kind, "fortran_order": False, "shape": shape})
    return buffer.getvalue() + bytes(64)


def npz_claims(*names: str) -> bytes:
    """An archive of arrays that claim 8 TB each."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(f"{name}.npy", npy_claims((1 << 40,)))
    return buffer.getvalue()


def hdf5_fill(*names: str) -> bytes:
    """Data sets of 64 GiB that take no room in the file."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name in names:
            file.create_dataset(name, (1 << 34,), "f4", chunks=(1 << 20,), fillvalue=1.0)
    return buffer.getvalue()


def tensor_wide(outside: Path) -> bytes:
    """A checkpoint with a tensor of 4 TiB made of one number."""
    buffer = io.BytesIO()
    torch.save({"format": 1, "weights": {"1.weight": torch.zeros(1).expand(1 << 40)}}, buffer)
    return buffer.getvalue()


def torch_bomb(outside: Path) -> bytes:
    """A file of torch, deflated, whose storage unpacks to 4 GiB."""
    plain = io.BytesIO()
    torch.save({"format": 1, "weights": {"1.weight": torch.zeros(8)}}, plain)
    buffer = io.BytesIO()
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name in source.namelist():
            if "/data/" in name:
                with archive.open(name, "w", force_zip64=True) as member:
                    for _ in range(256):
                        member.write(bytes(1 << 24))
            else:
                archive.writestr(name, source.read(name))
    return buffer.getvalue()


def _zeros(pack: str, size: int) -> bytes:
    """``size`` zeros, packed by gzip or xz; several streams behind each other, which both formats allow."""
    block = {"gz": lambda data: gzip.compress(data, 1), "xz": lambda data: lzma.compress(data, preset=0)}[pack](bytes(1 << 26))
    return block * (size >> 26)


def tar_bomb(outside: Path) -> bytes:
    """A tar.gz whose member is 8 GiB of zeros."""
    info = tarfile.TarInfo("cifar-10-batches-bin/data_batch_1.bin")
    info.size = 8 << 30
    return gzip.compress(info.tobuf(), 1) + _zeros("gz", 8 << 30)


def idx_claims(outside: Path) -> bytes:
    """An idx file that claims 2⁹⁶ elements."""
    return b"\0\0\x08\x03" + b"\xff" * 12 + bytes(100)


def _far_apart(folder: Path, outside: Path) -> None:
    kinds = [("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "u1")]
    np.save(folder / "recordings/a/0.npy", np.array([(0, 1, 1, 1), (50 * 60 * 10**6, 2, 2, 1)], kinds))


def _wide(folder: Path, outside: Path) -> None:
    kinds = [("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "u1")]
    np.save(folder / "recordings/a/0.npy", np.array([(0, 1, 1, 1), (40_000, 65535, 65535, 1)], kinds))


BINNED = [
    "spikelfp", "train", "--data", "folder:recordings", "--window", "1", "--hidden", "4", "--epochs", "1",
    "--no-report", "--quiet", "--out", "new",
]  # fmt: skip


def _bombs() -> list[Attack]:
    info = ["spikelfp", "data", "info", "recordings"]
    verify, chip = READERS["samples.npz"][2], READERS["spikes.npz"][2]
    eight = partial(zip_bomb, size=4 << 30)
    deep = b"[" * 200_000
    wide_yaml = b"a: " + b"{x: " * 50_000
    nir = ("node/type", "node/nodes/0/weight", "node/edges", "version")
    table: list[tuple[str, str, str, bytes | Callable[[Path], bytes], list[str]]] = [
        ("aliases of YAML", "run", "run/config.yaml", yaml_bomb(), EVAL),
        ("aliases of YAML", "run", "options.yaml", yaml_bomb(), READERS["--config"][2]),
        ("aliases of YAML", "nir", "export/manifest.yaml", yaml_bomb(), verify),
        ("aliases of YAML", "tinyodin", "export/network.yaml", yaml_bomb(), chip),
        ("a million brackets", "run", "run/config.yaml", deep, EVAL),
        ("a million brackets", "run", "options.yaml", deep, READERS["--config"][2]),
        ("nested YAML", "run", "options.yaml", wide_yaml, READERS["--config"][2]),
        ("nested YAML", "nir", "export/manifest.yaml", wide_yaml, verify),
        ("a million brackets", "run", "run/summary.json", deep, ["spikelfp", "report", "run"]),
        ("a million brackets", "cache", "cache/train/meta.json", deep, READERS["cache meta.json"][2]),
        ("an endless number", "run", "run/summary.json", b'{"epochs": ' + b"9" * 100_000 + b"}", ["spikelfp", "report", "run"]),
        ("an endless number", "run", "options.yaml", b"steps: " + b"9" * 100_000, READERS["--config"][2]),
        ("an endless row", "run", "run/metrics.csv", b"epoch," + b"x" * 300_000 + b"\n1,2\n", ["spikelfp", "report", "run"]),
        ("a zip bomb", "nir", "export/samples.npz", lambda outside: eight("inputs.npy"), verify),
        ("a zip bomb", "tinyodin", "export/spikes.npz", lambda outside: eight("0.npy"), chip),
        ("a zip bomb", "events.npz0", "recordings/a/0.npz", lambda outside: eight("t.npy"), info),
        ("arrays that claim terabytes", "nir", "export/samples.npz", npz_claims("inputs", "labels"), verify),
        ("arrays that claim terabytes", "generic", "export/network.npz", npz_claims("weight"), ["hw-export", "verify", "export"]),
        ("arrays that claim terabytes", "events.npz0", "recordings/a/0.npz", npz_claims("t", "x", "y", "p"), info),
        ("an array that claims terabytes", "events.npy0", "recordings/a/0.npy", npy_claims((1 << 40, 4)), info),
        ("an array of no width", "events.npy0", "recordings/a/0.npy", npy_claims((1 << 40, 4), "|S0"), info),
        ("fill values", "nir", "export/network.nir", hdf5_fill(*nir), verify),
        ("fill values", "loihi", "export/network.net", hdf5_fill("layer/0/weight", "layer/0/type"), READERS["netx"][2]),
        ("fill values", "events.h50", "recordings/a/0.h5", hdf5_fill("events/t", "events/x", "events/y", "events/p"), info),
        ("a tensor of one number", "run", "run/checkpoints/last.pt", tensor_wide, EVAL),
        ("a tensor of one number", "nir", "export/model.pt", tensor_wide, verify),
        ("a deflated storage", "run", "run/checkpoints/last.pt", torch_bomb, EVAL),
        ("a deflated storage", "nir", "export/model.pt", torch_bomb, verify),
        ("two events 50 minutes apart", "events.npy0", "", b"", BINNED),
        ("a sensor of 65,536 x 65,536", "events.npy0", "", b"", BINNED),
        ("a sensor of 65,536 x 65,536", "events.npy0", "", b"", info),
        ("hidden: [30000, 30000]", "run", "options.yaml", b"data: few-digits\nhidden: [300000, 300000]\nsteps: 3\n", READERS["--config"][2]),
        ("a length of 2^31", "stream", "stream.cbor", lambda outside: _long_stream(), READERS["stream"][2]),
        ("a declared table", "events.mat0", "recordings/a/0.mat", lambda outside: _mat_bomb(), info),
        ("a width of 65,535", "events.es0", "recordings/a/0.es", b"Event Stream\x02\x00\x00" + struct.pack("<BHH", 1, 65535, 65535) + b"\xfe" * 50_000, info),
        ("a line without end", "events.csv0", "recordings/a/0.csv", b"t,x,y,p\n" + b"1" * (1 << 24), info),
    ]  # fmt: skip
    found = []
    for name, base, path, content, command in table:
        make: Make = put(path, content) if path else (_far_apart if "apart" in name else _wide)
        if path.startswith("cache/train/"):
            assert isinstance(content, bytes)
            make = _odd(path, lambda place, outside, content=content: place.write_bytes(content))
        expect = "any" if not path or path.startswith("cache") else "refused"
        found.append(Attack(f"{name}: {Path(path).name or 'recording'}, {command[1]}", base, make, command, expect))
    for name, path, data, kind in (
        ("gzip bomb", "mnist/train-images-idx3-ubyte.gz", lambda outside: gzip.compress(b"\0\0\x08\x03" + struct.pack(">III", 1 << 24, 28, 28), 1) + _zeros("gz", 8 << 30), "mnist"),
        ("claims 2^96 elements", "mnist/train-images-idx3-ubyte", idx_claims, "mnist"),
        ("gzip bomb", "cifar10_subset/data_batch_1.bin.gz", lambda outside: _zeros("gz", 8 << 30), "cifar10-subset"),
        ("xz bomb", "cifar10_subset/data_batch_1.bin.xz", lambda outside: _zeros("xz", 8 << 30), "cifar10-subset"),
        ("tar bomb", "cifar10/cifar-10-binary.tar.gz", tar_bomb, "cifar10"),
    ):  # fmt: skip
        base = {"mnist": "mnist-gz" if path.endswith("gz") else "mnist", "cifar10": "cifar-tar"}.get(kind, f"cifar-{path.rsplit('.', 1)[-1]}")
        command = ["spikelfp", "train", "--data", kind, "--data-dir", ".", "--epochs", "1", "--hidden", "4", "--out", "new"]
        found.append(Attack(f"{name}: {Path(path).name}", base, put(path, data), command, "refused"))
    return found


def _long_stream() -> bytes:
    import zlib

    from hw_export.updates.framing import MAGIC, PREFIX

    begin = struct.pack("<III", (1 << 32) - 1, 0, 0)
    return MAGIC + PREFIX + begin + struct.pack("<I", zlib.crc32(begin)) + b"\xbf" * 1000


def _mat_bomb() -> bytes:
    import zlib

    import scipy.io

    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"t": np.zeros(8)})
    header = buffer.getvalue()[:128]
    body = zlib.compress(bytes(1 << 28) , 1) * 1
    return header + struct.pack("<II", 15, len(body)) + body


# Ways out ------------------------------------------------------------------------------------------------------------


def hdf5_out(way: str, *names: str) -> Callable[[Path], bytes]:
    """A file of HDF5 whose data sets lie in a file outside."""

    def make(outside: Path) -> bytes:
        with tempfile.TemporaryDirectory() as place:
            path = Path(place) / "x.h5"
            with h5py.File(path, "w") as file:
                for name in names:
                    match way:
                        case "an external link":
                            file[name] = h5py.ExternalLink(str(outside / "secret.h5"), "/x")
                        case "external storage":
                            file.create_dataset(name, (1000,), "u1", external=[(str(outside / "raw.bin"), 0, 1000)])
                        case "a virtual data set":
                            layout = h5py.VirtualLayout((12,), "f8")
                            layout[:] = h5py.VirtualSource(str(outside / "secret.h5"), "x", (12,))
                            file.create_virtual_dataset(name, layout)
                        case "a soft link in a circle":
                            file[name] = h5py.SoftLink(f"/{name}")
            return path.read_bytes()

    return make


def _out() -> list[Attack]:
    info = ["spikelfp", "data", "info", "recordings"]
    found = []
    for way in ("an external link", "external storage", "a virtual data set", "a soft link in a circle"):
        for base, path, names, command in (
            ("nir", "export/network.nir", ("node", "version"), READERS["network.nir"][2]),
            ("nir", "export/network.nir", ("node/type", "node/edges", "node/nodes/0/weight", "version"), READERS["network.nir"][2]),
            ("loihi", "export/network.net", ("layer/0/weight", "layer/0/type", "layer/0/shape"), READERS["netx"][2]),
            ("events.h50", "recordings/a/0.h5", ("events/t", "events/x", "events/y", "events/p"), info),
            ("events.h50", "recordings/a/0.h5", ("events",), info),
        ):  # fmt: skip
            make = put(path, hdf5_out(way, *names))
            found.append(Attack(f"{way}: {Path(path).name}, {names[0]}", base, make, command, "refused"))
        found.append(
            Attack(f"{way}: .mat of MATLAB 7.3", "events.mat0", put("recordings/a/0.mat", hdf5_out(way, "t", "x", "y", "p")), info, "refused")
        )  # fmt: skip
    found += [
        Attack("a tar whose members lie above", "cifar-tar", put("cifar10/cifar-10-binary.tar.gz", _tar_out("../../outside/pwned")), _cifar(), "refused"),
        Attack("a tar with an absolute name", "cifar-tar", put("cifar10/cifar-10-binary.tar.gz", _tar_out(None)), _cifar(), "refused"),
        Attack("a tar of links outside", "cifar-tar", put("cifar10/cifar-10-binary.tar.gz", _tar_links), _cifar(), "refused"),
        Attack("a tar of devices", "cifar-tar", put("cifar10/cifar-10-binary.tar.gz", _tar_devices), _cifar(), "refused"),
        Attack("config.yaml keeps its cache outside", "cache", _config_line("cache_dir", "made"), ["spikelfp", "eval", "run"], "any"),
        Attack("config.yaml keeps its cache where a left-over lies", "cache", _config_line("cache_dir", ""), ["spikelfp", "eval", "run"], "any"),
        Attack("config.yaml names data above", "run", _config_line("data", "folder:../outside/folder", plain=True), EVAL, "refused", reads=True),
        Attack("config.yaml names a data folder that is a file", "run", _config_line("data_dir", "secret.txt"), EVAL, "refused", reads=True),
        Attack("a name of a checksum that leads outside", "nir", _manifest_out, READERS["manifest.yaml"][2], "any"),
        Attack("a cache entry that is a link outside", "cache", _cache_link, ["spikelfp", "data", "cache", "--cache-dir", "cache", "--clear"], "any", reads=True),
        Attack("an entry with a folder behind a link", "cache", _cache_inner, ["spikelfp", "data", "cache", "--cache-dir", "cache", "--clear"], "any", reads=True),
        Attack("a left-over that is a link outside", "cache", _cache_part, ["spikelfp", "data", "cache", "--cache-dir", "cache", "--clear"], "any", reads=True),
        Attack("recordings behind a link to above", "events.npy0", lambda folder, outside: (folder / "recordings/c").symlink_to(".."), ["spikelfp", "data", "info", "recordings"], "refused"),
        Attack("recordings behind a link in a circle", "events.npy0", lambda folder, outside: (folder / "recordings/a/c").symlink_to("../a"), ["spikelfp", "data", "info", "recordings"], "refused"),
    ]  # fmt: skip
    return found


def _cifar() -> list[str]:
    return ["spikelfp", "train", "--data", "cifar10", "--data-dir", ".", "--epochs", "1", "--hidden", "4", "--out", "new"]


def _tar_out(name: str | None) -> Callable[[Path], bytes]:
    def make(outside: Path) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            info = tarfile.TarInfo(name or str(outside / "pwned"))
            info.size = 4
            archive.addfile(info, io.BytesIO(b"evil"))
        return buffer.getvalue()

    return make


def _tar_links(outside: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for number, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE)):
            info = tarfile.TarInfo(f"cifar-10-batches-bin/data_batch_{number + 1}.bin")
            info.type, info.linkname = kind, str(outside / "raw.bin")
            archive.addfile(info)
    return buffer.getvalue()


def _tar_devices(outside: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for number, kind in enumerate((tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.BLKTYPE)):
            info = tarfile.TarInfo(f"cifar-10-batches-bin/data_batch_{number + 1}.bin")
            info.type, info.devmajor, info.devminor = kind, 1, 5
            archive.addfile(info)
    return buffer.getvalue()


def _config_line(name: str, value: str, plain: bool = False) -> Make:
    """A line of the run's ``config.yaml`` with another value, by default a path outside."""

    def make(folder: Path, outside: Path) -> None:
        path = folder / "run" / "config.yaml"
        lines = [line for line in path.read_text().splitlines() if not line.startswith(f"{name}:")]
        path.write_text("\n".join([*lines, f"{name}: {json.dumps(value if plain else str(outside / value))}"]) + "\n")

    return make


def _manifest_out(folder: Path, outside: Path) -> None:
    path = folder / "export" / "manifest.yaml"
    path.write_text(path.read_text().replace("sha256:\n", f"sha256:\n  {outside / 'secret.txt'}: abc\n  ../../outside/secret.txt: abc\n"))


def _cache_link(folder: Path, outside: Path) -> None:
    (folder / "cache" / f"evil-{'0' * 32}").symlink_to(outside / "folder")


def _cache_inner(folder: Path, outside: Path) -> None:
    entry = folder / "cache" / f"evil-{'0' * 32}"
    entry.mkdir()
    (entry / "inner").symlink_to(outside / "folder")


def _cache_part(folder: Path, outside: Path) -> None:
    (folder / "cache" / ".evil.part").symlink_to(outside / ".left.part")


# Text and options ----------------------------------------------------------------------------------------------------

HOSTILE = {
    "ANSI codes": "\x1b[2J\x1b]0;owned\x07x",
    "markup": "[red]x[/red][/x]",
    "a line break": "x\nspikelfp: all is well",
    "mathematics": r"$\frac{1}{0}$ \input{x}",
    "HTML": "<script>alert(1)</script>",
    "turned around": "\u202etxt.exe",
    "a lone surrogate": "\udc80\udcff",
    "nothing": "",
    "a dot": ".",
    "300 letters": "x" * 300,
}  # fmt: skip


def _texts() -> list[Attack]:
    found = []
    for name, text in HOSTILE.items():
        def class_folder(folder: Path, outside: Path, text: str = text) -> None:
            try:
                (folder / "recordings" / "a").rename(folder / "recordings" / (text or " "))
            except OSError:  # no name of a folder
                pass

        def class_names(folder: Path, outside: Path, text: str = text) -> None:
            path = folder / "run" / "config.yaml"
            lines = path.read_text().split("class_names:")[0]
            names = [text, *map(str, range(7))]
            path.write_text(f"{lines}class_names: {json.dumps(names)}\n", encoding="utf-8", errors="surrogatepass")

        def layer(folder: Path, outside: Path, text: str = text) -> None:
            content = torch.load(folder / "run/checkpoints/last.pt", weights_only=True)
            content["weights"] = {f"{text}{key}": value for key, value in content["weights"].items()}
            torch.save(content, folder / "run/checkpoints/last.pt")

        def about(folder: Path, outside: Path, text: str = text) -> None:
            import cbor2

            from hw_export.updates.framing import Link, write_record

            made, link = b"", Link()
            for body in bodies_of((folder / "stream.cbor").read_bytes()):
                try:
                    body = cbor2.dumps(_renamed(cbor2.loads(body), text))
                except (UnicodeEncodeError, cbor2.CBOREncodeError):
                    pass
                record, link = write_record(body, link)
                made += record
            (folder / "stream.cbor").write_bytes(made)

        info = ["spikelfp", "data", "info", "recordings"]
        found += [
            Attack(f"{name}: a class", "events.npy0", class_folder, info),
            Attack(f"{name}: a class of a run", "run", class_names, ["spikelfp", "report", "run"]),
            Attack(f"{name}: a parameter of a checkpoint", "run", layer, EVAL, "refused" if text else "any"),
            Attack(f"{name}: a parameter of a stream", "stream", about, READERS["stream"][2]),
            Attack(f"{name}: --out", "run", _no_trap, [*TRAIN[:-1], text]),
            Attack(f"{name}: --data", "run", _no_trap, ["spikelfp", "train", "--data", text, "--out", "new"], "refused"),
            Attack(f"{name}: the run to evaluate", "run", _no_trap, ["spikelfp", "eval", text], "refused"),
        ]  # fmt: skip
    return found


def _renamed(value: Any, text: str) -> Any:
    """Every text in plain data, replaced."""
    if isinstance(value, dict):
        return {key: _renamed(inner, text) for key, inner in value.items()}
    if isinstance(value, list):
        return [_renamed(each, text) for each in value]
    return text if isinstance(value, str) and "weight" in value else value


def _no_trap(folder: Path, outside: Path) -> None:
    pass


def _options() -> list[Attack]:
    typed = [
        ["--hidden", "0"], ["--hidden", "-3"], ["--hidden", "300000,300000"], ["--hidden", "9" * 400], ["--hidden", "1e3"],
        ["--hidden", ""], ["--steps", "0"], ["--steps", "9" * 30], ["--steps", "nan"], ["--batch-size", "0"],
        ["--batch-size", "-1"], ["--lr", "nan"], ["--lr", "inf"], ["--lr", "-1"], ["--lr", "1e-400"], ["--seed", "-1"],
        ["--seed", str(2**64)], ["--workers", "-1"], ["--accumulate", "0"], ["--epochs", "0"], ["--validation", "1"],
        ["--validation", "nan"], ["--threshold", "nan"], ["--beta", "inf"], ["--device", "cuda:99"], ["--device", "x"],
        ["--data", "folder:"], ["--data", "folder:/dev/null"], ["--data", "folder:run"], ["--data", "../run"],
        ["--data-dir", "/dev/null"], ["--data-dir", "nowhere"], ["--config", "nowhere.yaml"], ["--config", "run"],
        ["--config", "/dev/zero"], ["--out", "/"], ["--out", ".."], ["--out", "run/config.yaml"], ["--out", "run/config.yaml/x"],
        ["--out", "/proc/x"], ["--out", "/dev/null"], ["--out", "/dev/null/x"], ["--cache-dir", "x"],
        ["--clip", "-1"], ["--eps", "0"], ["--gamma", "1"], ["--weight-bits", "1"], ["--checkpoint-every", "-1"],
    ]  # fmt: skip
    start = ["spikelfp", "train", "--data", "few-digits", "--hidden", "4", "--steps", "2", "--epochs", "1", "--no-report"]
    found = []
    for given in typed:
        command = [each for each in start]
        if given[0] in command:
            at = command.index(given[0])
            del command[at : at + 2]
        more = [] if given[0] == "--out" else ["--out", "new"]
        found.append(Attack(f"train {' '.join(given)[:40]}", "run", _no_trap, [*command, *given, *more], "refused", reads=given == ["--out", ".."]))
    found += [
        Attack("train --out . inside a run, --overwrite", "run", _no_trap, [*start, "--out", ".", "--overwrite"], "refused", keeps=("run", "options.yaml")),
        Attack("train --out .. inside a run, --overwrite", "run", _no_trap, [*start, "--out", "run/..", "--overwrite"], "refused", keeps=("run", "options.yaml")),
        Attack("build --out run --overwrite", "run", _no_trap, ["hw-export", "build", "run", "--out", "run", "--overwrite"], "refused", keeps=("run",)),
        Attack("build --out . --overwrite", "run", _no_trap, ["hw-export", "build", "run", "--out", ".", "--overwrite"], "refused", keeps=("run",)),
        Attack("build --samples 10^18", "run", _no_trap, ["hw-export", "build", "run", "--out", "new", "--samples", "1" + "0" * 18]),
        Attack("build --bits -1", "run", _no_trap, ["hw-export", "build", "run", "--out", "new", "--bits", "-1"], "refused"),
        Attack("record over the run", "run", _no_trap, ["hw-export", "updates", "record", "run", "--steps", "1", "--out", "run", "--overwrite"], "refused", keeps=("run",)),
        Attack("record over a checkpoint", "run", _no_trap, ["hw-export", "updates", "record", "run", "--steps", "1", "--out", "run/checkpoints/last.pt", "--overwrite"], "refused", keeps=("run",)),
        Attack("replay over its own stream", "stream", _no_trap, ["hw-export", "updates", "replay", "stream.cbor", "--out", "stream.cbor", "--overwrite"], "refused", keeps=("stream.cbor",)),
        Attack("plot over the stream", "stream", _no_trap, ["hw-export", "updates", "inspect", "stream.cbor", "--plot", "stream.cbor"], "refused", keeps=("stream.cbor",)),
        Attack("show over a recording", "events.npy0", _no_trap, ["spikelfp", "data", "show", "recordings", "--out", "recordings/a/0.npy"], "refused", keeps=("recordings",)),
        Attack("clear a cache by a pattern", "cache", _no_trap, ["spikelfp", "data", "cache", "--cache-dir", "cache", "--clear", "*"], "refused", keeps=("cache",)),
        Attack("clear a cache by a path", "cache", _no_trap, ["spikelfp", "data", "cache", "--cache-dir", "cache", "--clear", "../run"], "refused", keeps=("cache", "run")),
        Attack("clear a folder that is no cache", "cache", _no_trap, ["spikelfp", "data", "cache", "--cache-dir", ".", "--clear"], "any", keeps=("run", "cache", "events")),
    ]  # fmt: skip
    return found


def attacks() -> list[Attack]:
    """All of them."""
    families = {
        "traps where something is written": _writing,
        "traps where something is read": _reading,
        "code in files": _payloads,
        "files that fill the memory": _bombs,
        "ways out of a folder": _out,
        "hostile text": _texts,
        "odd options": _options,
    }
    return [replace(attack, family=family) for family, made in families.items() for attack in made()]


# Running them --------------------------------------------------------------------------------------------------------


def set_up(where: Path) -> dict[str, Path]:
    """Fill the folders that attacks start from."""
    fill = bases()
    wanted = {attack.base for attack in attacks()}
    made = {}
    for name in sorted(wanted):
        made[name] = where / "bases" / name.strip(".")
        made[name].mkdir(parents=True)
        fill[name](made[name])
    return made


def attempt(made: dict[str, Path], where: Path, attack: Attack) -> Found:
    """Carry out an attack, and say what it achieved; an empty problem for nothing."""
    place = where / f"{os.getpid()}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    outside, folder = place / "outside", copy(made[attack.base], place / "work")
    fill_outside(outside)
    tell = partial(Found, "attack", attack.name, "attack", 1)
    try:
        attack.make(folder, outside)
    except OSError as error:
        return tell(f"the trap cannot be laid here: {error}")
    before = state(outside)
    kept = {path: _kept(folder / path) for path in attack.keeps}
    (folder / "home").mkdir()
    watch = Watch(outside)

    def limited() -> None:
        most_memory(MOST_MEMORY)

    variables = {"SPIKELFP_CACHE": str(folder / "home/cache"), "SPIKELFP_DATA": str(folder), "HOME": str(folder / "home")}
    with environment(**variables):
        ended = run(attack.command, folder, before=limited, timeout=4 * MOST_SECONDS)
    opened, changed = watch.seen()
    watch.close()
    if changed or state(outside) != before:
        return tell(f"changed outside: {', '.join(sorted(changed)) or 'content'}: {ended}")
    if opened and not attack.reads:
        return tell(f"read outside: {', '.join(sorted(opened))}: {ended}")
    if any(_kept(folder / path) != content for path, content in kept.items()):
        return tell(f"{', '.join(kept)} was changed: {ended}")
    return tell(_wrong(attack, ended))


def _wrong(attack: Attack, ended: Any) -> str:
    """What is wrong with how the command ended."""
    if ended.raw:
        return f"raw: {ended} {ended.err[-500:] if ended.code is not None else ''}"
    if "MemoryError" in ended.err:
        return f"the memory was full: {ended}"
    if ended.seconds > MOST_SECONDS:
        return f"{ended.seconds:.0f} s: {ended}"
    if attack.expect == "refused" and ended.code == 0:
        return f"accepted: {ended.out[-200:]!r}"
    if attack.expect == "fine" and ended.code != 0:
        return f"refused: {ended}"
    lines = [line for line in ended.err.splitlines() if line.strip()]
    checked = attack.command[:2] == ["hw-export", "verify"]
    if ended.code and len(lines) != 1 and not (checked and ended.code == 1):
        return f"{len(lines)} lines: {ended.err[:300]!r}"
    for text in (ended.out, ended.err):
        if "\x1b" in text or "\x07" in text:
            return f"control characters reach the terminal: {text[:200]!r}"
    return ""


def _kept(path: Path) -> Any:
    if path.is_symlink():
        return os.readlink(path)
    if path.is_file():
        return path.read_bytes()
    return state(path) if path.is_dir() else None
