"""The changes that a process makes to files, counted, and stopped at the one that is wanted.

What counts as a change: opening for writing, writing, cutting, bringing to disk, renaming, removing, and making files,
folders and links, below one folder. All of the product's files are written through Python's own functions;
:attr:`Writes.places` has the paths, by which the suite sees that none was written around them.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

Moment = Literal["before", "half", "after"]

CHANGING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

Action = Callable[[], object]


def kill() -> None:
    """End this process as a power switch would."""
    os.kill(os.getpid(), signal.SIGKILL)


def terminate() -> None:
    """Ask this process to end, as a scheduler does."""
    os.kill(os.getpid(), signal.SIGTERM)


def fails(number: int) -> Action:
    """An action that fails as the system would with error ``number``: ``ENOSPC``, ``EROFS``, …"""

    def fail() -> None:
        raise OSError(number, os.strerror(number))

    return fail


@dataclass
class Writes:
    """Counts the changes below ``root``, and acts at one of them.

    Attributes:
        root: folder whose content is watched.
        at: number of the change, from 1 on; 0 for none.
        moment: before it, in the middle (of a write: half of its bytes are there), or after it.
        action: what happens then.
        onwards: the action also happens at every change behind it, as on a disk that stays full.
        names: kind and path of each change.
        places: paths that something was written or moved to.
        spared: kinds of changes at which nothing happens.
    """

    root: Path
    at: int = 0
    moment: Moment = "before"
    action: Action = kill
    onwards: bool = False
    names: list[tuple[str, str]] = field(default_factory=list)
    places: set[str] = field(default_factory=set)
    spared: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.prefix, self.process, self.open_files = str(self.root.resolve()), 0, dict[int, str]()

    def install(self) -> Writes:
        """Wrap the functions of this process for good: it is a child that ends soon."""
        self.process = os.getpid()
        for name in ("replace", "rename", "link", "symlink"):
            self._wrap(name, paths=2)
        for name in ("unlink", "remove", "rmdir", "mkdir", "truncate", "mkfifo", "mknod"):
            self._wrap(name, paths=1)
        for name in ("fsync", "fdatasync", "ftruncate"):
            self._wrap_handle(name)
        self._wrap_open()
        self._wrap_write()
        builtins.open = io.open = self._opener(io.open)  # type: ignore[assignment]
        # numpy would write into such a file with C's own functions.
        np.lib.format.write_array.__globals__["isfileobj"] = lambda file: False
        return self

    def change(self, kind: str, path: str, do: Callable[[], Any], half: Callable[[], object] | None = None) -> Any:
        """Make a change, or what is to happen instead.

        Args:
            kind: such as ``write``.
            path: that it is made to.
            do: makes it.
            half: makes a part of it.
        """
        if os.getpid() != self.process:  # a worker that this process has forked
            return do()
        self.names.append((kind, path))
        self.places.add(path)
        number = len(self.names)
        due = self.at and (number == self.at or (self.onwards and number > self.at)) and kind not in self.spared
        if due and self.moment == "before":
            self.action()
        elif due and self.moment == "half" and half is not None:
            half()
            self.action()
        result = do()
        if due and self.moment == "after":
            self.action()
        return result

    def within(self, path: Any) -> str | None:
        """The absolute path if it is watched."""
        if isinstance(path, int):
            return self.open_files.get(path)
        text = os.path.abspath(os.fsdecode(path))
        return text if text.startswith(self.prefix) or os.path.realpath(text).startswith(self.prefix) else None

    def _wrap(self, name: str, paths: int) -> None:
        if not hasattr(os, name):
            return
        original = getattr(os, name)

        def wrapped(*arguments: Any, **options: Any) -> Any:
            if options.get("dir_fd") is not None or options.get("src_dir_fd") is not None:  # shutil.rmtree
                path: str | None = os.fsdecode(arguments[0])
            else:
                path = next((found for each in arguments[:paths] if (found := self.within(each))), None)
            if path is None:
                return original(*arguments, **options)
            if paths == 2 and (to := self.within(arguments[1])):
                self.places.add(to)
            return self.change(name, path, lambda: original(*arguments, **options))

        setattr(os, name, wrapped)

    def _wrap_handle(self, name: str) -> None:
        original = getattr(os, name, None)
        if original is None:
            return

        def wrapped(handle: Any, *arguments: Any) -> Any:
            number = handle if isinstance(handle, int) else handle.fileno()
            return self.change(name, self.open_files.get(number, f"#{number}"), lambda: original(handle, *arguments))

        setattr(os, name, wrapped)

    def _wrap_open(self) -> None:
        original = os.open

        def wrapped(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
            found = None if options.get("dir_fd") is not None else self.within(path)
            if found is None or not flags & CHANGING:
                return original(path, flags, *arguments, **options)
            handle = self.change("open", found, lambda: original(path, flags, *arguments, **options))
            self.open_files[handle] = found
            return handle

        os.open = wrapped

    def _wrap_write(self) -> None:
        original = os.write

        def wrapped(handle: int, data: Any) -> int:
            if handle not in self.open_files:
                return original(handle, data)
            part = memoryview(data).cast("B")
            return self.change(
                "write",
                self.open_files[handle],
                lambda: original(handle, data),
                lambda: original(handle, part[: len(part) // 2]),
            )

        os.write = wrapped

    def _opener(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def opened(
            file: Any,
            mode: str = "r",
            buffering: int = -1,
            encoding: str | None = None,
            errors: str | None = None,
            newline: str | None = None,
            closefd: bool = True,
            opener: Any = None,
        ) -> Any:
            path = self.within(file) if set(mode) & set("wax+") else None
            if path is None:
                return original(file, mode, buffering, encoding, errors, newline, closefd, opener)
            plain = mode.replace("b", "").replace("t", "").replace("U", "")
            raw = self.change("open", path, lambda: _Counted(file, plain, closefd, opener))
            raw.writes, raw.path = self, path
            self.open_files[raw.fileno()] = path
            if buffering == 0:
                return raw
            buffered = io.BufferedRandom(raw) if "+" in plain else io.BufferedWriter(raw)
            if "b" in mode:
                return buffered
            return io.TextIOWrapper(buffered, encoding, errors, newline, buffering == 1)

        return opened


class _Counted(io.FileIO):
    """A file whose writes are changes."""

    writes: Writes
    path: str

    def write(self, data: Any, /) -> int:
        part = memoryview(data).cast("B")
        write = super().write
        return self.writes.change("write", self.path, lambda: write(data), lambda: write(part[: len(part) // 2]))

    def truncate(self, size: int | None = None, /) -> int:
        cut = super().truncate
        return self.writes.change("truncate", self.path, lambda: cut(size))


FULL = fails(errno.ENOSPC)
READ_ONLY = fails(errno.EROFS)
FORBIDDEN = fails(errno.EACCES)
