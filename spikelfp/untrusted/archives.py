"""Zip archives: what their directory claims holds for their content, or they are refused before anything is read."""

from __future__ import annotations

import zipfile
import zlib

from spikelfp.errors import DataError
from spikelfp.terminal import first_line
from spikelfp.untrusted.bounds import check_size

MOST_ENTRIES = 1 << 20
"""Entries of an archive, each of which takes about 1 kB in memory."""

_HEADER = 30  # bytes of the header in front of each entry, with its name and more behind
_ENCRYPTED = 1


def check_zip(archive: zipfile.ZipFile, packed: int, where: str, *, together: bool = True) -> None:
    """Check the directory of a zip archive.

    Args:
        archive: opened, nothing of it read yet.
        packed: bytes of the file.
        where: the name that opens the message.
        together: its entries are held in memory at once, else one at a time.

    Raises:
        DataError: for entries that overlap, lie behind the end or stand in it twice, are encrypted, packed in another
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
            raise DataError(f"{where}: {name} overlaps what is in front of it: damaged, or made to fill the memory")
        end = entry.header_offset + _HEADER + entry.compress_size
        if end > packed:
            raise DataError(f"{where}: {name} ends behind the end of the file: truncated or damaged")
        if not together:
            check_size(entry.file_size, packed, f"{where}: {name}")
    if together:
        check_size(sum(entry.file_size for entry in entries), packed, where)


def read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, where: str) -> bytes:
    """Read an entry of an archive that :func:`check_zip` has passed.

    It is asked for the bytes that it declares: asked for all of them, Python unpacks what is there, then cuts it.

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
