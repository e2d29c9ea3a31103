"""Zip archives, whose directory is checked before an entry is read, and streams of gzip, bzip2 and xz."""

from __future__ import annotations

import bz2
import gzip
import zipfile
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO

from spikelfp.errors import DataError
from spikelfp.terminal import first_line
from spikelfp.untrusted.bounds import check_size, most

MOST_ENTRIES = 1 << 20
"""Entries of an archive, each of which takes about 1 kB in memory."""

_HEADER = 30  # bytes of the header before each entry, which its name follows
_ENCRYPTED = 1


def check_zip(archive: zipfile.ZipFile, packed: int, where: str, *, together: bool = True) -> None:
    """Check the directory of a zip archive.

    Args:
        archive: opened, nothing of it read yet.
        packed: bytes of the file.
        where: name that the message begins with.
        together: its entries are held in memory at once, else one at a time.

    Raises:
        DataError: for entries that overlap, lie after the end or have one name twice, are encrypted, packed in another
            way than by deflate, or unpack to too much; and for too many entries.
    """
    entries = archive.infolist()
    if len(entries) > MOST_ENTRIES:
        raise DataError(f"{where}: has {len(entries)} entries, more than the {MOST_ENTRIES} that are read")
    names: set[str] = set()
    end = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        name = repr(entry.filename[:60])
        if entry.filename in names:
            raise DataError(f"{where}: {name} stands in it twice")
        names.add(entry.filename)
        if entry.flag_bits & _ENCRYPTED:
            raise DataError(f"{where}: {name} is encrypted: unpack it first")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataError(
                f"{where}: {name} is packed by method {entry.compress_type}, only deflate is read: unpack it"
            )
        stored = entry.compress_type == zipfile.ZIP_STORED
        if entry.header_offset < end or (stored and entry.compress_size != entry.file_size):
            raise DataError(f"{where}: {name} overlaps the entry before it: damaged, or made to fill the memory")
        end = entry.header_offset + _HEADER + entry.compress_size
        if end > packed:
            raise DataError(f"{where}: {name} ends after the end of the file: truncated or damaged")
        if not together:
            check_size(entry.file_size, packed, f"{where}: {name}")
    if together:
        check_size(sum(entry.file_size for entry in entries), packed, where)


def read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, where: str) -> bytes:
    """Read an entry of an archive that :func:`check_zip` has passed.

    Only the bytes that it declares are asked for: asked for all, Python unpacks whatever is there, then cuts it.

    Raises:
        DataError: for damage, also if it unpacks to another number of bytes than declared.
    """
    try:
        with archive.open(entry) as stream:
            content = stream.read(entry.file_size)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, ValueError) as error:
        raise DataError(f"{where}: {entry.filename[:60]!r} is damaged ({first_line(error)})") from None
    if len(content) != entry.file_size:
        raise DataError(
            f"{where}: {entry.filename[:60]!r} is damaged: {len(content)} bytes of the {entry.file_size} it declares"
        )
    return content


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
        """Return the next bytes, at least one until the end."""
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
    """Unpack a stream of gzip, bzip2 or xz, recognised by its content; other content is returned as it is.

    Args:
        raw: the packed bytes, at their beginning.
        packed: their number.
        where: name that the message begins with.
        limit: bytes that it may unpack to, where they are fewer than those of :func:`~.bounds.most`.

    Raises:
        DataError: for a damaged or truncated stream, one that unpacks to more, and an xz stream whose decoder would
            take more than :data:`DECODER` bytes.
    """
    bound = most(packed) if limit is None else min(limit, most(packed))
    start = raw.read(2)
    raw.seek(-len(start), 1)
    content = bytearray()
    kind, unpack = _OPEN.get(start, ("whole", lambda raw: raw))
    try:
        stream = unpack(raw)
        while chunk := stream.read(_CHUNK):
            content += chunk
            if len(content) > bound:
                raise DataError(
                    f"{where}: holds more than {bound} bytes in a file of {packed}: damaged, made to fill the memory, "
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
