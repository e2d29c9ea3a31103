"""Files that torch has written: plain data and tensors, checked before torch allocates anything of them.

torch loads them with ``weights_only=True``, which runs no code; it trusts the sizes in them, though: a storage that
declares more than is there is read beyond its end, and a few bytes can ask for an array of any size.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import torch

from spikelfp.errors import DataError
from spikelfp.terminal import first_line
from spikelfp.untrusted.archives import check_zip, read_entry
from spikelfp.untrusted.bounds import check_size, open_regular

LONGEST_PICKLE = 1 << 22
"""Bytes of what stands around the tensors; checkpoints have some thousands."""

MOST_VALUES = 1 << 20
"""Values in it; the same list may stand in many others, and each time counts."""

DEEPEST = 64
"""Lists and mappings within each other."""

_END = 22  # bytes of the record that ends a zip archive without a comment
_FOLDER = 0x10  # attribute of an entry that torch takes for a folder: it leaves the memory for it as it was


class _Kind(NamedTuple):
    """The type of a storage: bytes of an element."""

    itemsize: int


class _Storage(NamedTuple):
    size: int
    itemsize: int


class _Tensor(NamedTuple):
    size: int


def load_tensors(path: str | Path) -> Any:
    """Load plain data and tensors that torch has written, to the CPU.

    Args:
        path: the file, in torch's format since 1.6: a zip archive that is not packed.

    Raises:
        DataError: for a file that cannot be read, is of another format, truncated or damaged; one that holds anything
            but plain data and dense tensors, or tensors larger than what is stored of them.
    """
    where = str(path)
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            _check(file, size, where)
            file.seek(0)
            return torch.load(file, weights_only=True, map_location="cpu")
        except DataError:
            raise
        except Exception as error:  # torch and zipfile raise many kinds for a damaged file
            raise DataError(f"{where} is not readable by torch, truncated or damaged ({first_line(error)})") from None


def _check(file: Any, size: int, where: str) -> None:
    file.seek(max(0, size - _END))
    if not file.read(_END).startswith(b"PK\5\6"):
        raise DataError(f"{where} is not readable by torch: it does not end as its files do, truncated or damaged")
    archive = zipfile.ZipFile(file)
    check_zip(archive, size, where)
    entries = {entry.filename: entry for entry in archive.infolist()}
    packed = [
        name
        for name, entry in entries.items()
        if entry.compress_type != zipfile.ZIP_STORED or entry.external_attr & _FOLDER or name.endswith("/")
    ]
    inside = [name for name in entries if name.endswith("/data.pkl") and name.count("/") == 1]
    if packed or len(inside) != 1 or any(name.endswith("/constants.pkl") for name in entries):
        raise DataError(f"{where} is no file of torch.save: packed, or without its data.pkl")
    if entries[inside[0]].file_size > LONGEST_PICKLE:
        raise DataError(f"{where}: holds more than {LONGEST_PICKLE} bytes beside its tensors: no plain checkpoint")
    folder = inside[0].removesuffix("data.pkl")
    sizes = {
        name.removeprefix(f"{folder}data/"): entry.file_size
        for name, entry in entries.items()
        if name.startswith(f"{folder}data/")
    }
    try:
        content = _Look(io.BytesIO(read_entry(archive, entries[inside[0]], where)), sizes).load()
    except KeyError as error:
        raise DataError(
            f"{where} is not readable by torch: its pickle has the instruction {error.args[0]!r:.20}, which torch.save "
            "writes only with another pickle_protocol than its own"
        ) from None
    check_size(_taken(content, where), size, where)


def _taken(content: Any, where: str) -> int:
    """Return the bytes of all tensors, as often as they stand in it."""
    total = values = 0
    waiting = [(content, 0)]
    while waiting:
        value, depth = waiting.pop()
        values += 1
        if values + len(waiting) > MOST_VALUES or depth > DEEPEST:
            raise DataError(
                f"{where}: more than {MOST_VALUES} values, or {DEEPEST} lists within each other: made to fill memory"
            )
        if isinstance(value, _Tensor):
            total += value.size
        elif isinstance(value, dict):
            waiting += [(each, depth + 1) for pair in value.items() for each in pair]
        elif isinstance(value, list | tuple):
            waiting += [(each, depth + 1) for each in value]
    return total


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> _Tensor:
    numbers = (offset, *shape, *strides)
    if not isinstance(storage, _Storage) or not all(type(each) is int and each >= 0 for each in numbers):
        raise pickle.UnpicklingError(f"a tensor of shape {tuple(shape)[:8]} and strides {tuple(strides)[:8]}")
    if len(shape) != len(strides) or len(shape) > DEEPEST:
        raise pickle.UnpicklingError(f"a tensor of {len(shape)} axes and {len(strides)} strides")
    count = math.prod(shape)
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True)) + 1 if count else 0
    if max(last, count) * storage.itemsize > storage.size:
        raise pickle.UnpicklingError(f"a tensor of shape {tuple(shape)[:8]} in a storage of {storage.size} bytes")
    return _Tensor(count * storage.itemsize)


def _tensor_of(storage: Any, offset: Any, shape: Any, strides: Any, grad: Any, hooks: Any, dtype: Any) -> _Tensor:
    """Look at a tensor whose storage is bytes: torch writes dtypes so that came after its typed storages."""
    if not isinstance(storage, _Storage) or not isinstance(dtype, torch.dtype):
        raise pickle.UnpicklingError(f"a tensor of the type {str(dtype)[:20]!r}")
    return _tensor(_Storage(storage.size, dtype.itemsize), offset, shape, strides)


def _parameter(data: Any, *rest: Any) -> Any:
    return data


def _size(numbers: Any) -> tuple[Any, ...]:
    return tuple(numbers)


def _encoded(text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in the encoding {str(encoding)[:20]!r}")
    return text.encode("latin1")


_KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("collections", "Counter"): Counter,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _tensor_of,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch.nn.parameter", "Parameter"): _parameter,
    ("torch", "Size"): _size,
    ("_codecs", "encode"): _encoded,
    ("torch.storage", "UntypedStorage"): _Kind(1),
}

_ITEM_SIZES = {
    **{f"{kind}Storage": 1 for kind in ("Byte", "Char", "Bool")},
    **{f"{kind}Storage": 2 for kind in ("Half", "BFloat16", "Short")},
    **{f"{kind}Storage": 4 for kind in ("Float", "Int")},
    **{f"{kind}Storage": 8 for kind in ("Double", "Long", "ComplexFloat")},
    "ComplexDoubleStorage": 16,
}

_OPCODES = (
    pickle.APPEND, pickle.APPENDS, pickle.BINFLOAT, pickle.BINGET, pickle.BININT, pickle.BININT1, pickle.BININT2,
    pickle.BINPERSID, pickle.BINPUT, pickle.BINUNICODE, pickle.BUILD, pickle.EMPTY_DICT, pickle.EMPTY_LIST,
    pickle.EMPTY_SET, pickle.EMPTY_TUPLE, pickle.GLOBAL, pickle.LONG1, pickle.LONG_BINGET, pickle.LONG_BINPUT,
    pickle.MARK, pickle.NEWFALSE, pickle.NEWOBJ, pickle.NEWTRUE, pickle.NONE, pickle.PROTO, pickle.REDUCE,
    pickle.SETITEM, pickle.SETITEMS, pickle.SHORT_BINSTRING, pickle.STOP, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2,
    pickle.TUPLE3,
)  # fmt: skip
"""Instructions that torch's own reader knows."""


class _Look(pickle._Unpickler):
    """Reads the pickle of a file of torch without making a tensor: stand-ins with their sizes take their places.

    It is Python's own machine, whose memory is a dictionary: the compiled one takes an array as long as the largest
    number in the file.
    """

    dispatch = {code[0]: pickle._Unpickler.dispatch[code[0]] for code in _OPCODES}  # noqa: RUF012

    def __init__(self, file: io.BytesIO, sizes: dict[str, int]) -> None:
        super().__init__(file)
        self.sizes = sizes

    def find_class(self, module: str, name: str) -> Any:
        """Return a stand-in; nothing is imported."""
        if (module, name) in _KNOWN:
            return _KNOWN[module, name]
        if module == "torch" and name in _ITEM_SIZES:
            return _Kind(_ITEM_SIZES[name])
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        raise pickle.UnpicklingError(f"it holds {module}.{name}"[:100] + ", which is neither plain data nor a tensor")

    def persistent_load(self, pid: Any) -> _Storage:
        """Return the size of a storage, which must be that of its entry in the archive."""
        kind, key, count = pid[1], pid[2], pid[4]
        if not isinstance(kind, _Kind) or type(count) is not int or self.sizes.get(key) != count * kind.itemsize:
            raise pickle.UnpicklingError(
                f"the storage {str(key)[:20]!r} declares {str(count)[:30]} elements, and {self.sizes.get(key)} bytes "
                "are there"
            )
        return _Storage(count * kind.itemsize, kind.itemsize)
