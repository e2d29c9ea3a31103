"""HDF5 files: content in other files, content that was never stored, or that grows when unpacked, is refused unread."""

from __future__ import annotations

import io
import math
import mmap
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from spikelfp.errors import DataError, UserError
from spikelfp.terminal import first_line
from spikelfp.untrusted.bounds import ALWAYS, check_size, most, open_regular, read_regular

DEEPEST = 32
"""Groups within each other."""

MOST_OBJECTS = 50_000
"""Groups, data sets and attributes of a file that is read whole."""

MOST_LINKS = 16
"""Links within a file that are followed on the way to one object."""

UNSTORED = 1 << 20
"""Bytes of a data set that need not be stored: HDF5 makes them up of a fill value."""

_DEFLATE, _SHUFFLE, _CHECKSUM, _LZF = 1, 2, 3, 32000
_SIZED_BY_CONTENT = {4: "szip", 5: "nbit", 6: "scaleoffset"}  # these take as much memory as their content claims
_DEFLATE_RATIO = 1032  # zlib manual, "Maximum Expansion Factor"
_MOST_CHUNKS = 1 << 16
_HEAP = b"GCOL\x01\0\0\0"  # opens a global heap, version 1


@contextmanager
def open_hdf5(source: str | Path | io.BytesIO, where: str | None = None, *, whole: bool = True) -> Iterator[h5py.File]:
    """Open an HDF5 file to read. Errors of HDF5 in the block are raised as one line.

    Args:
        source: the file, or its content.
        where: name that messages begin with; by default that of the file.
        whole: everything in it is going to be read, and is checked now by :func:`check_datasets`. Without it, the
            caller takes objects out of the file by :func:`member` and checks them by :func:`check_dataset`.

    Raises:
        DataError: for a file that cannot be read, is no HDF5, or is damaged.
    """
    name = where or (str(source) if isinstance(source, str | Path) else "the file")
    if isinstance(source, str | Path):
        with open_regular(source) as opened:
            size = os.fstat(opened.fileno()).st_size
    else:
        size = source.getbuffer().nbytes
    try:
        with _opened(source) as file:
            if whole:
                _check_heaps(source, file, name)
                check_datasets(file, size, name)
            yield file
    except UserError:
        raise
    except (OSError, EOFError, KeyError, ValueError, TypeError, RuntimeError, MemoryError, OverflowError) as error:
        raise DataError(
            f"{name}: expected HDF5, found it mislabelled, truncated or damaged ({first_line(error)})"
        ) from error


def _opened(source: str | Path | io.BytesIO) -> h5py.File:
    """Open it without a lock, which some network folders and read-only ones refuse.

    A file that this process has open already, with one, is opened as it is there.
    """
    try:
        return h5py.File(source, "r", locking=False)
    except OSError as error:
        if "locking flag" not in str(error):
            raise
    return h5py.File(source, "r")


def member(group: Any, path: str, where: str) -> Any:
    """Return the object of a group by its path; ``None`` where there is none.

    Links within the file are followed, at most :data:`MOST_LINKS` of them.

    Raises:
        DataError: for a link to another file on the way, or too many links.
    """
    parts, links = [part.encode("utf-8", "surrogateescape") for part in path.split("/") if part], 0
    while parts:
        part = parts.pop(0)
        if not isinstance(group, h5py.Group) or not group.id.links.exists(part):
            return None
        if group.id.links.get_info(part).type == h5py.h5l.TYPE_SOFT:
            links += 1
            if links > MOST_LINKS:
                raise DataError(f"{where}: {path[:60]!r} leads through more than {MOST_LINKS} links")
            target = group.id.links.get_val(part)
            group = group.file if target.startswith(b"/") else group
            parts = [each for each in target.split(b"/") if each not in (b"", b".")] + parts
            continue
        _check_link(group, part, where)
        group = group[part]
    return group


def check_datasets(file: Any, size: int, where: str) -> None:
    """Check everything that a reader of the whole file would read.

    Args:
        file: the file, open.
        size: its bytes.
        where: name that the message begins with.

    Raises:
        DataError: for links, groups that are deep or contain themselves, too many objects, and as
            :func:`check_dataset`, also for all of them together.
    """
    total = objects = 0
    waiting = [(file, 0)]
    while waiting:
        node, depth = waiting.pop()
        total += check_attributes(node, size, where)
        objects += 1 + len(node.attrs)
        if isinstance(node, h5py.Dataset):
            total += check_dataset(node, size, where)
        elif isinstance(node, h5py.Group):
            if depth > DEEPEST:
                raise DataError(f"{where}: groups lie more than {DEEPEST} deep: damaged, or one contains itself")
            for name in node:
                _check_link(node, name.encode("utf-8", "surrogateescape"), where)
                waiting.append((node[name], depth + 1))
                if objects + len(waiting) > MOST_OBJECTS:
                    raise DataError(f"{where}: holds more than {MOST_OBJECTS} objects: made to fill the memory")
        check_size(total, size, where)


def check_dataset(dataset: Any, size: int, where: str, *, plugins: bool = False, lengths: bool = True) -> int:
    """Check a data set that is going to be read.

    Args:
        dataset: of an open file.
        size: bytes of the file.
        where: name that the message begins with.
        plugins: whether the filters that the user has installed for HDF5 may unpack it.
        lengths: whether texts and lists of different lengths are measured, for which they are read once. Without it,
            the caller reads few of them at a time, each of which :func:`check_lengths` bounds.

    Returns:
        The bytes that it will take.

    Raises:
        DataError: for one that keeps its content in other files or refers to other objects, declares more than
            :func:`~.bounds.most` or than its stored bytes can hold, or is packed in a way that cannot be bounded.
    """
    name = f"{where}: {str(dataset.name)[:80]}"
    settings = dataset.id.get_create_plist()
    if settings.get_layout() == h5py.h5d.VIRTUAL or settings.get_external_count():
        raise DataError(f"{name} keeps its content in other files, which are not read")
    shape = dataset.shape or ()
    elements = math.prod(shape)
    _check_type(dataset.id.get_type(), name)
    declared = elements * dataset.id.get_type().get_size()
    check_size(declared, size, name)
    kind = dataset.dtype
    item = max(1, declared // elements if elements else kind.itemsize)
    stored = dataset.id.get_storage_size()
    chunks = dataset.chunks
    if chunks is None:
        possible = UNSTORED if stored == 0 else size
    else:
        possible = UNSTORED + stored * _DEFLATE_RATIO
        check_size(math.prod(chunks) * item, size, f"{name}, a chunk")
        count = math.prod(-(-length // chunk) for length, chunk in zip(shape, chunks, strict=True))
        if count > _MOST_CHUNKS + size // 8:
            raise DataError(f"{name}: claims {count} chunks in a file of {size} bytes: made to take for ever")
    if declared > possible and not (plugins and stored):
        raise DataError(
            f"{name}: declares {declared} bytes, and {min(stored, size)} are stored: damaged, or made to fill memory"
        )
    _check_filters(dataset, settings, size, name, plugins)
    if not kind.hasobject or not lengths:
        return declared
    return declared + _variable_lengths(dataset, kind, elements, size, where)


def _check_heaps(source: str | Path | io.BytesIO, file: Any, where: str) -> None:
    """Refuse damaged heaps of texts: HDF5 goes from object to object by their sizes, at a size of 0 for ever."""
    if file.id.get_create_plist().get_sizes()[1] != 8:
        raise DataError(f"{where}: has lengths of other than 8 bytes, which are not read")
    content = read_regular(source) if isinstance(source, str | Path) else source.getvalue()
    at = -1
    while (at := content.find(_HEAP, at + 1)) >= 0 and at + 16 <= len(content):
        end = at + int.from_bytes(content[at + 8 : at + 16], "little")
        place = at + 16
        while place + 16 <= min(end, len(content)):
            index = int.from_bytes(content[place : place + 2], "little")
            taken = int.from_bytes(content[place + 8 : place + 16], "little")
            taken = taken if index == 0 else 16 + (taken + 7) // 8 * 8
            if not 16 <= taken <= end - place:
                raise DataError(f"{where}: the texts in it are damaged (an object of {taken} bytes at byte {place})")
            place += taken


def _check_link(group: Any, name: bytes, where: str) -> None:
    found = group.id.links.get_info(name).type
    if found != h5py.h5l.TYPE_HARD:
        target = "another object" if found == h5py.h5l.TYPE_SOFT else "another file"
        raise DataError(
            f"{where}: {name.decode('utf-8', 'replace')[:60]!r} is a link to {target}, which is not followed"
        )


def check_attributes(node: Any, size: int, where: str) -> int:
    """Return the bytes that the attributes of an object take.

    Raises:
        DataError: for those that refer to other objects, or would take more than :func:`~.bounds.most`.
    """
    total, texts = 0, False
    for name in node.attrs:
        attribute = node.attrs.get_id(name)
        elements = math.prod(attribute.shape or ())
        _check_type(attribute.get_type(), f"{where}: the attribute {name[:60]!r}")
        kind = attribute.dtype
        longest = size if kind.hasobject else attribute.get_type().get_size()
        if h5py.check_ref_dtype(kind) is not None or (kind.names and kind.hasobject):
            raise DataError(f"{where}: the attribute {name[:60]!r} refers to other objects, which is not read")
        check_size(elements * longest, size, f"{where}: the attribute {name[:60]!r}")
        total += elements * attribute.get_type().get_size()
        texts |= kind.hasobject
    if texts:
        _check_attribute_lengths(node, size, where)
    return total


def _check_type(kind: Any, name: str) -> None:
    """Refuse lists that are neither sequences nor texts: HDF5 (2.0.0) ends the process when it reads them.

    The encoded type has its class in the third byte and, of lists, sequence (0) or text (1) in the fourth.
    """
    family = kind.get_class()
    if family == h5py.h5t.VLEN and (code := kind.encode()[3] & 0xF) > 1:
        raise DataError(f"{name} holds lists of a kind that HDF5 does not have ({code}): damaged")
    if family in (h5py.h5t.VLEN, h5py.h5t.ARRAY):
        _check_type(kind.get_super(), name)
    elif family == h5py.h5t.COMPOUND:
        for index in range(kind.get_nmembers()):
            _check_type(kind.get_member_type(index), name)


def _check_filters(dataset: Any, settings: Any, size: int, name: str, plugins: bool) -> None:
    codes = [settings.get_filter(index)[0] for index in range(settings.get_nfilters())]
    for code in codes:
        if code in _SIZED_BY_CONTENT or (code not in (_DEFLATE, _SHUFFLE, _CHECKSUM, _LZF) and not plugins):
            kind = _SIZED_BY_CONTENT.get(code, f"the filter {code}")
            raise DataError(
                f"{name} is packed by {kind}, which is not read: h5repack -f GZIP=4 packs it in another way"
            )
    packing = [code for code in codes if code not in (_SHUFFLE, _CHECKSUM)]
    if len(packing) > 1 or len(set(codes)) < len(codes):
        raise DataError(f"{name} is packed more than once (filters {codes[:8]}): made to fill the memory")
    if _DEFLATE in codes:
        _check_deflate(dataset, codes.index(_DEFLATE), size, name)


def _check_deflate(dataset: Any, index: int, size: int, name: str) -> None:
    """Refuse chunks that unpack to more than a chunk: HDF5 unpacks all of the content before it checks the size.

    Only chunks that could unpack to too much are checked, and they are few: each is a tenth of the file.
    """
    suspicious = most(size) // (2 * _DEFLATE_RATIO)
    if dataset.id.get_storage_size() <= suspicious:
        return
    found: list[Any] = []

    def collect(chunk: Any) -> None:
        if chunk.size > suspicious and not chunk.filter_mask & (1 << index):
            found.append(chunk.chunk_offset)

    dataset.id.chunk_iter(collect)
    size_of_chunk = math.prod(dataset.chunks) * dataset.id.get_type().get_size()
    for place in found:
        _, packed = dataset.id.read_direct_chunk(place)
        decoder = zlib.decompressobj()
        try:
            decoder.decompress(packed, size_of_chunk + 64)
        except zlib.error as error:
            raise DataError(f"{name} is damaged ({first_line(error)})") from None
        if not decoder.eof:
            raise DataError(f"{name}: a chunk unpacks to more than its {size_of_chunk} bytes: made to fill the memory")


def _variable_lengths(dataset: Any, kind: np.dtype[Any], elements: int, size: int, where: str) -> int:
    """Return the bytes of texts and lists of different lengths, which may all be one and the same on the disk."""
    name = f"{where}: {str(dataset.name)[:80]}"
    listed = h5py.check_vlen_dtype(kind)
    if h5py.check_string_dtype(kind) is None and (listed is None or np.dtype(listed).hasobject):
        raise DataError(f"{name} refers to other objects, or holds lists of lists, which are not read")
    if not elements:
        return 0
    check_lengths(dataset, size, where)
    if not dataset.shape:
        return _length(dataset[()])
    row = elements // dataset.shape[0]
    check_size(row * size, size, name)
    together, total = max(1, ALWAYS // (size * row)), 0
    for first in range(0, dataset.shape[0], together):
        total += sum(_length(each) for each in np.ravel(dataset[first : first + together]))
        check_size(total, size, name)
    return total


def check_lengths(dataset: Any, size: int, where: str, rows: slice = slice(None)) -> None:
    """Refuse texts and lists that claim to be longer than the file: HDF5 allocates memory for each as it claims.

    A text or list is kept as 16 bytes: its length (32 bits), the address of the heap that holds it, its number there.

    Args:
        dataset: of texts or lists.
        size: bytes of the file.
        where: name that the message begins with.
        rows: that are going to be read.

    Raises:
        DataError: for a claim of more bytes than the file has, and for content that cannot be checked.
    """
    name = f"{where}: {str(dataset.name)[:80]}"
    text = h5py.check_string_dtype(dataset.dtype) is not None
    item = 1 if text else np.dtype(h5py.check_vlen_dtype(dataset.dtype)).itemsize
    for raw in _raw_rows(dataset, *rows.indices(dataset.shape[0] if dataset.shape else 1)[:2], name):
        claims = raw[: len(raw) // _PLACE * _PLACE].reshape(-1, _PLACE)[:, :4].copy().view("<u4")
        longest = item * int(claims.max(initial=0))
        if longest > size:
            raise DataError(f"{name} claims {longest} bytes in one place, in a file of {size}: damaged")


_PLACE = 16
"""Bytes that stand for a text or list in a data set or attribute."""


def _raw_rows(dataset: Any, first: int, last: int, name: str) -> Iterator[NDArray[np.uint8]]:
    """The stored bytes of some rows, unpacked, piece by piece; perhaps of rows around them too."""
    place, shape = dataset.id.get_offset(), dataset.shape or (1,)
    row = _PLACE * math.prod(shape[1:])
    if dataset.chunks is None:
        if place is not None:
            yield np.frombuffer(_bytes_at(dataset, place + first * row, (last - first) * row), np.uint8)
        elif dataset.id.get_storage_size():
            raise DataError(f"{name} is stored in a way that is not read: h5repack writes it in another")
        return
    settings, most_bytes = dataset.id.get_create_plist(), _PLACE * math.prod(dataset.chunks)
    codes = [settings.get_filter(index)[0] for index in range(settings.get_nfilters())]
    found: list[Any] = []
    if len(shape) == 1:  # those of the rows alone: there may be very many
        step = dataset.chunks[0]
        starts = range(first // step * step, last, step)
        found = [
            each.chunk_offset for each in map(dataset.id.get_chunk_info_by_coord, ((at,) for at in starts)) if each.size
        ]
    else:
        dataset.id.chunk_iter(lambda chunk: found.append(chunk.chunk_offset))
    for offset in found:
        mask, raw = dataset.id.read_direct_chunk(offset)
        yield _unfiltered(raw, codes, mask, most_bytes, name)


def _unfiltered(raw: bytes, codes: list[int], mask: int, most_bytes: int, name: str) -> NDArray[np.uint8]:
    """The content of a chunk of 16 bytes each, as it was before its filters."""
    for index, code in reversed(list(enumerate(codes))):
        if mask & (1 << index):
            continue
        if code == _CHECKSUM:
            raw = raw[:-4]
        elif code == _DEFLATE:
            try:
                raw = zlib.decompressobj().decompress(raw, most_bytes + 64)
            except zlib.error as error:
                raise DataError(f"{name} is damaged ({first_line(error)})") from None
        elif code == _SHUFFLE:
            whole = len(raw) // _PLACE
            raw = np.frombuffer(raw, np.uint8)[: whole * _PLACE].reshape(_PLACE, whole).T.tobytes()
        else:
            raise DataError(f"{name}: texts or lists packed by the filter {code} are not read: h5repack -f GZIP=4")
    return np.frombuffer(raw, np.uint8)


def _bytes_at(node: Any, place: int, count: int) -> bytes:
    if os.path.isfile(node.file.filename):
        with open_regular(node.file.filename) as file:
            file.seek(place)
            return file.read(count)
    return bytes(node.file.id.get_file_image()[place : place + count])


_MOST_SEARCHED = 1 << 36
"""Bytes that are searched for the places of texts of attributes, over all heaps."""


def _check_attribute_lengths(node: Any, size: int, where: str) -> None:
    """Refuse texts of attributes that claim to be longer than the file.

    The places of attributes lie anywhere in the file, so that the whole of it is searched for the addresses of heaps.
    """
    path, base = node.file.filename, node.file.userblock_size
    if not os.path.isfile(path):
        _search_claims(node.file.id.get_file_image(), base, size, where)
        return
    with open_regular(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        _search_claims(content, base, size, where)


def _search_claims(content: bytes | mmap.mmap, base: int, size: int, where: str) -> None:
    """Look for places of texts in a file whose addresses count from ``base``."""
    heaps, at = [], content.find(_HEAP, base)
    while at >= 0:
        heaps.append(at)
        if len(heaps) * len(content) > _MOST_SEARCHED:
            raise DataError(f"{where}: its attributes are texts, and {len(heaps)} heaps or more hold texts: not read")
        at = content.find(_HEAP, at + 8)
    for heap in heaps:
        address = (heap - base).to_bytes(8, "little")
        at = content.find(address, 4)
        while at >= 0:
            claim, index = (int.from_bytes(content[place : place + 4], "little") for place in (at - 4, at + 8))
            if claim > size and 0 < index < 1 << 16:  # objects of a heap
                raise DataError(
                    f"{where}: an attribute claims {claim} bytes in one place, in a file of {size}: damaged"
                )
            at = content.find(address, at + 1)


def _length(value: Any) -> int:
    return int(value.nbytes) if isinstance(value, np.ndarray) else len(value)
