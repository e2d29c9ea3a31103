"""The files within a zip or tar archive, read without unpacking it anywhere."""

from __future__ import annotations

import io
import json
import os
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from spikelfp.data.events.sources.once import Version, once, version_of
from spikelfp.data.events.sources.remember import facts_of_files
from spikelfp.errors import DataError
from spikelfp.terminal import first_line
from spikelfp.untrusted import check_zip, open_regular, read_entry, unpack_stream

TAR = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
ZIP = (".zip", ".npz")

_MOST_FILES = 1 << 20  # of a tar archive
_MOST = 2 << 30  # bytes of a tar archive, or of a file in a zip archive, that are held in memory


def is_archive(path: str | Path) -> bool:
    """Whether the name of ``path`` is that of an archive of files."""
    return str(path).lower().endswith((*TAR, ".zip"))


def members(path: str | Path) -> list[str]:
    """The names of the files of an archive, in its order. Those of a tar archive, which is to be read whole for them,
    are remembered: see :func:`~spikelfp.data.events.sources.remember.facts_of_files`.

    Raises:
        DataError: for a damaged archive, or a tar archive that holds more than 2 GiB.
    """
    if _is_zip(path):
        return [info.filename for info in _zip(version_of(path), os.getpid()).infolist() if not info.is_dir()]
    (names,) = facts_of_files([path], "members", lambda path: json.dumps(list(_tar(version_of(path)).places)))
    return json.loads(names)


def read_member(path: str | Path, name: str) -> bytes:
    """The content of the file ``name`` of an archive: out of a zip archive as it is asked for, out of the memory of
    this process for a tar archive, which can only be read from its beginning.

    Raises:
        DataError: for a damaged archive, and a name that is not in it.
    """
    try:
        if _is_zip(path):
            archive = _zip(version_of(path), os.getpid())
            entry = archive.getinfo(name)
            if entry.file_size > _MOST:
                raise _too_large(path)
            return read_entry(archive, entry, str(path))
        content, places = _tar(version_of(path))
        return content[slice(*places[name])]
    except KeyError:
        raise DataError(f"{path}: holds no file {name}") from None


def _too_large(path: str | Path) -> DataError:
    return DataError(f"{path}: holds more than {_MOST >> 30} GiB, too much for memory: unpack it")


def _is_zip(path: str | Path) -> bool:
    return str(path).lower().endswith(ZIP)


class _Tar(NamedTuple):
    """The content of a tar archive, and where in it each file begins and ends."""

    content: bytes
    places: dict[str, tuple[int, int]]


@once(most=2)
def _tar(archive: Version) -> _Tar:
    path = archive.path
    with open_regular(path) as file:
        content = bytes(unpack_stream(file, archive.size, path, _MOST))
    places: dict[str, tuple[int, int]] = {}
    with _damage(path), tarfile.open(fileobj=io.BytesIO(content), mode="r:") as opened:
        for number, info in enumerate(opened):
            opened.members = []  # type: ignore[attr-defined]  # it keeps a record of each, which takes more than a small file itself
            if number > _MOST_FILES:
                raise DataError(f"{path}: holds more than {_MOST_FILES} files: unpack it")
            if info.sparse is not None or info.size < 0:
                raise DataError(f"{path}: {info.name[:60]!r} is stored with holes, which is not read: unpack it")
            if info.isreg():
                places[info.name] = (info.offset_data, info.offset_data + info.size)
        end = opened.offset
    # tarfile stops without a word where a file is cut off; the last entry is followed by a block of zeros
    if content[end : end + tarfile.BLOCKSIZE] != bytes(tarfile.BLOCKSIZE):
        raise DataError(f"{path}: damaged, nothing to be read from byte {end} of its content on")
    return _Tar(content, places)


@once(most=8)
def _zip(archive: Version, process: int) -> zipfile.ZipFile:
    """Open, in this ``process``: children share the place in the file with a handle that they inherit."""
    with _damage(archive.path):
        opened = zipfile.ZipFile(open_regular(archive.path))
    check_zip(opened, archive.size, archive.path, together=False)
    return opened


@contextmanager
def _damage(path: str | Path) -> Iterator[None]:
    """Whatever goes wrong with an archive as one line."""
    try:
        yield
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        EOFError,
        NotImplementedError,
        OverflowError,
        UnicodeDecodeError,
    ) as error:
        raise DataError(f"{path}: damaged or no archive of its kind ({first_line(error)})") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
