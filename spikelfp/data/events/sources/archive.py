"""The files within a zip or tar archive, read without unpacking it anywhere."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from spikelfp.data.events.sources.once import Version, once, version_of
from spikelfp.data.events.sources.remember import facts_of_files
from spikelfp.errors import DataError

TAR = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
ZIP = (".zip", ".npz")

_COMPRESSED: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".tgz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
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
            with _damage(path):
                archive = _zip(version_of(path), os.getpid())
                if archive.getinfo(name).file_size > _MOST:
                    raise _too_large(path)
                return archive.read(name)
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
    unpack = next((each for suffix, each in _COMPRESSED.items() if path.lower().endswith(suffix)), open)
    with _damage(path):
        with unpack(path, "rb") as file:
            content = file.read(_MOST + 1)
        if len(content) > _MOST:
            raise _too_large(path)
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as opened:
            places = {info.name: (info.offset_data, info.offset_data + info.size) for info in opened if info.isreg()}
            end = opened.offset
    # tarfile stops without a word where a file is cut off; the last entry is followed by a block of zeros
    if content[end : end + tarfile.BLOCKSIZE] != bytes(tarfile.BLOCKSIZE):
        raise DataError(f"{path}: damaged, nothing to be read from byte {end} of its content on")
    return _Tar(content, places)


@once(most=8)
def _zip(archive: Version, process: int) -> zipfile.ZipFile:
    """Open, in this ``process``: children share the place in the file with a handle that they inherit."""
    with _damage(archive.path):
        return zipfile.ZipFile(archive.path)


@contextmanager
def _damage(path: str | Path) -> Iterator[None]:
    """Whatever goes wrong with an archive as one line."""
    try:
        yield
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        gzip.BadGzipFile,
        lzma.LZMAError,
        zlib.error,
        EOFError,
        NotImplementedError,
    ) as error:
        raise DataError(f"{path}: damaged or no archive of its kind ({error})") from error
    except (OSError, RuntimeError) as error:  # RuntimeError: a zip archive with a password
        raise DataError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
