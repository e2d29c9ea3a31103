"""Streams that are packed by gzip, bzip2 or xz, unpacked step by step up to a bound."""

from __future__ import annotations

import bz2
import gzip
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO

from spikelfp.errors import DataError
from spikelfp.terminal import first_line
from spikelfp.untrusted.bounds import most

DECODER = 1 << 27
"""Bytes that the decoder of xz may take for itself: `xz -9` needs 65 MiB, a file can ask for 4 GiB."""

_CHUNK = 1 << 20


class _Xz:
    """Reads an xz stream as the files of :mod:`gzip` and :mod:`bz2` do, with a bound on the decoder's memory."""

    def __init__(self, raw: BinaryIO) -> None:
        import lzma  # a Python can be built without it

        self.raw, self.rest = raw, b""
        self._decoder = lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=DECODER)
        self.damage, self.decoder = lzma.LZMAError, self._decoder()

    def read(self, size: int) -> bytes:
        """The next bytes, at least one until the end."""
        while True:
            if self.decoder.eof:
                rest = (self.decoder.unused_data or self.raw.read(_CHUNK)).lstrip(b"\0")  # padding between streams
                if not rest:
                    rest = self.raw.read(_CHUNK).lstrip(b"\0")
                if not rest:
                    return b""
                self.decoder, self.rest = self._decoder(), rest
            elif self.decoder.needs_input and not self.rest:
                self.rest = self.raw.read(_CHUNK)
                if not self.rest:
                    raise EOFError("Compressed file ended before the end-of-stream marker was reached")
            try:
                found = self.decoder.decompress(self.rest, size)
            except self.damage as error:
                raise zlib.error(first_line(error)) from None
            self.rest = b""
            if found:
                return found


_OPEN: dict[bytes, tuple[str, Callable[[Any], Any]]] = {
    b"\x1f\x8b": ("gzip", lambda raw: gzip.GzipFile(fileobj=raw)),
    b"BZ": ("bzip2", bz2.BZ2File),
    b"\xfd7": ("xz", _Xz),
}


def unpack_stream(raw: BinaryIO, packed: int, where: str, limit: int | None = None) -> bytearray:
    """Unpack a stream, recognised by its content, not by a name; what is not packed is read as it is.

    Args:
        raw: the packed bytes, at their beginning.
        packed: their number.
        where: the name that opens the message.
        limit: bytes that it may unpack to, where they are fewer than those of :func:`~.size.most`.

    Raises:
        DataError: for a damaged or truncated stream, one that unpacks to more, and an xz stream whose decoder would
            take more than :data:`DECODER` bytes.
    """
    room = most(packed) if limit is None else min(limit, most(packed))
    start = raw.read(2)
    raw.seek(-len(start), 1)
    content = bytearray()
    kind, unpack = _OPEN.get(start, ("whole", lambda raw: raw))
    try:
        stream = unpack(raw)
        while chunk := stream.read(_CHUNK):
            content += chunk
            if len(content) > room:
                raise DataError(
                    f"{where}: holds more than {room} bytes in a file of {packed}: damaged, made to fill the memory, "
                    "or too large to be held at once: unpack it"
                )
    except ImportError:
        raise DataError(f"{where}: this Python cannot read xz; unpack the file with `xz -d`") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{where}: expected {kind} data, found it truncated or damaged ({first_line(error)})") from None
    except OSError as error:  # bz2 answers damage with one that has no number
        if error.errno is None:
            raise DataError(f"{where}: expected {kind} data, found it damaged ({first_line(error)})") from None
        raise DataError(f"{where}: cannot be read ({error.strerror or first_line(error)})") from None
    return content
