"""The files of a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from spikelfp.errors import DataError
from spikelfp.untrusted import read_regular


class Found(NamedTuple):
    """What lies in a folder, by path within it with ``/`` between names, sorted; nothing whose name begins with a dot.

    files: regular files, also behind symbolic links. folders: those right in it. broken: what is neither a file nor a
    folder, such as a link to nothing.
    """

    files: list[str]
    folders: list[str]
    broken: list[str]


def walk(folder: str | Path, deep: bool = True) -> Found:
    """What lies in ``folder`` and, ``deep``, in the folders below it, through symbolic links.

    Raises:
        DataError: for a folder that cannot be listed, and for links that lead back to a folder they lie in.
    """
    found = Found([], [], [])
    for name, entry in _walk(str(folder), "", deep, ()):
        kind = _kind(entry)
        if kind == "file":
            found.files.append(name)
        elif kind != "folder":
            found.broken.append(name)
        elif "/" not in name:
            found.folders.append(name)
    for names in found:
        names.sort()
    return found


def read_file(path: str) -> bytes:
    """The content of a file.

    Raises:
        DataError: where it cannot be read.
    """
    return read_regular(path)


def _walk(
    folder: str, inside: str, deep: bool, above: tuple[tuple[int, int], ...]
) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """(path within the first folder, entry) of all; ``above``: the folders one is in, to notice links back to them."""
    try:
        status = os.stat(folder)
        with os.scandir(folder) as entries:
            listed = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror or error})") from error
    here = (status.st_dev, status.st_ino)
    if here in above:
        raise DataError(f"{folder}: is a link back to a folder that it lies in")
    for entry in listed:
        yield inside + entry.name, entry
        if deep and _kind(entry) == "folder":
            yield from _walk(entry.path, f"{inside}{entry.name}/", deep, (*above, here))


def _kind(entry: os.DirEntry[str]) -> str:
    """Of what a link leads to."""
    try:
        return "folder" if entry.is_dir() else "file" if entry.is_file() else "neither"
    except OSError:  # a link to itself
        return "neither"
