"""What an attack is, and what is watched while it runs."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

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
    """Files that somebody would rather keep, a folder of them, and one that looks like a left-over."""
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
