"""Strict reader of idx-ubyte files, the format of MNIST, compressed with gzip or not.

Layout: two zero bytes, the element type (0x08 is unsigned byte), the number of dimensions, then each size as
a big-endian 32-bit integer, then the elements (http://yann.lecun.com/exdb/mnist/).
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import torch
from torch import Tensor

from spikelfp.errors import DataError
from spikelfp.untrusted import open_regular

_UBYTE = 0x08
_GZIP_MAGIC = b"\x1f\x8b"
_DEFLATE_MAX_RATIO = 1032  # zlib manual, "Maximum Expansion Factor"
_CHUNK = 1 << 20


def read_idx(path: str | Path, ndim: int) -> Tensor:
    """The elements of an idx-ubyte file with ``ndim`` dimensions, uint8 ``[size_0, ..., size_{ndim-1}]``.

    gzip is recognised by the content, not by the file's name. Memory stays bounded by what the file really
    holds: nothing of the declared size is allocated in advance, and at most one byte more than declared is
    asked of the decompressor.

    Raises:
        DataError: for a file that is missing, unreadable, empty, foreign, truncated, damaged or too long; it
            names the file, what was expected and what was found.
    """
    path = Path(path)
    try:
        with open_regular(path) as raw:
            size = os.fstat(raw.fileno()).st_size
            if size == 0:
                raise DataError(f"{path}: expected an idx-ubyte file, found an empty file")
            packed = raw.read(2) == _GZIP_MAGIC
            raw.seek(0)
            if not packed:
                return _read(path, raw, ndim, size)
            with gzip.GzipFile(fileobj=raw) as stream:
                return _read(path, cast(BinaryIO, stream), ndim, size, packed=True)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: expected gzip data, found it truncated or damaged ({error})") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def _read(path: Path, stream: BinaryIO, ndim: int, size: int, packed: bool = False) -> Tensor:
    """Parse ``stream``, which comes from ``size`` bytes on the disk."""
    sizes = _read_header(path, stream, ndim)
    count = math.prod(sizes)
    expected = f"{path}: expected {' x '.join(map(str, sizes))} = {count} bytes of data as its header says"
    room = (size * _DEFLATE_MAX_RATIO if packed else size) - 4 - 4 * ndim
    if count > room:
        found = f"{size} bytes of gzip, which cannot hold them" if packed else f"{room}: truncated"
        raise DataError(f"{expected}, found {found}")
    content = _read_at_most(stream, count + 1)
    if len(content) < count:
        raise DataError(f"{expected}, found {len(content)}: truncated")
    if len(content) > count:
        raise DataError(f"{expected}, found trailing bytes after them")
    # a bytearray is writable, so torch can use its memory as it is
    return torch.frombuffer(content, dtype=torch.uint8).reshape(sizes)


def _read_header(path: Path, stream: BinaryIO, ndim: int) -> list[int]:
    expected = f"an idx-ubyte file of {ndim} dimensions (magic 0000{_UBYTE:02x}{ndim:02x})"
    magic = bytes(_read_at_most(stream, 4))
    if len(magic) < 4 or magic[:2] != b"\0\0":
        raise DataError(f"{path}: expected {expected}, found a file that starts with {magic!r}")
    if magic[2] != _UBYTE:
        raise DataError(f"{path}: expected {expected}, found element type 0x{magic[2]:02x} (magic {magic.hex()})")
    if magic[3] != ndim:
        raise DataError(f"{path}: expected {expected}, found {magic[3]} dimensions (magic {magic.hex()})")
    header = bytes(_read_at_most(stream, 4 * ndim))
    if len(header) < 4 * ndim:
        raise DataError(f"{path}: expected {4 + 4 * ndim} bytes of header, found {4 + len(header)}: truncated")
    sizes = [int.from_bytes(header[i : i + 4], "big") for i in range(0, 4 * ndim, 4)]
    if 0 in sizes:
        raise DataError(f"{path}: expected at least one element, found sizes {sizes} in its header")
    return sizes


def _read_at_most(stream: BinaryIO, limit: int) -> bytearray:
    """The next ``limit`` bytes, fewer at the end; grows with what is there, not with what was asked for."""
    content = bytearray()
    while len(content) < limit and (chunk := stream.read(min(_CHUNK, limit - len(content)))):
        content += chunk
    return content
