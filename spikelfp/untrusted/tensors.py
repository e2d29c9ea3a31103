"""Files of ``torch.save``: plain data and tensors, checked before torch allocates memory, and their canonical form.

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
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from torch import Tensor

from spikelfp.errors import DataError, UserError
from spikelfp.terminal import brief, first_line, plain
from spikelfp.untrusted.archives import check_zip, read_entry
from spikelfp.untrusted.bounds import check_size, most, open_regular

LONGEST_PICKLE = 1 << 22
"""Most bytes of a file beside its tensors; checkpoints have some thousands."""

MOST_VALUES = 1 << 20
"""Most values in it; a list that stands in many others counts each time."""

DEEPEST = 64
"""Most lists and mappings within each other."""

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
            but plain data and dense tensors, or tensors larger than their storage.
    """
    return load_checked(path, _check)


def load_checked(path: str | Path, check: Callable[[BinaryIO, int, str], object]) -> Any:
    """Let torch load a file that was checked.

    Args:
        path: the file.
        check: function of the open file, its bytes and its name that refuses what torch should not see.

    Raises:
        DataError: of ``check``, and for a file that cannot be read, or that torch refuses.
    """
    where = str(path)
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            check(file, size, where)
            file.seek(0)
            return torch.load(file, weights_only=True, map_location="cpu")
        except DataError:
            raise
        except Exception as error:  # torch, pickle and zipfile raise many kinds for a damaged file
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
        content = _SizeReader(io.BytesIO(read_entry(archive, entries[inside[0]], where)), sizes).load()
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
    """The size of a tensor whose storage is bytes: torch writes in this way dtypes that came after typed storages."""
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


class _SizeReader(pickle._Unpickler):
    """Reads the pickle of a torch file with stand-ins that hold the sizes of tensors, in place of tensors.

    It is built on Python's own unpickler, whose memo is a dictionary: the compiled one allocates an array as long as
    the largest number in the file.
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


DEEPEST_PLAIN = 24
"""Most containers within each other in plain content."""

LARGEST = 1 << 22
"""Most values in plain content: containers that hold each other many times would have no end."""

_BITS = 4096  # of a whole number
_CHUNK = 1 << 20  # bytes that are read at once


class NotPlainError(UserError):
    """Raised for a value that plain content cannot hold; the text names its place and the reason."""


def canonical(content: Any, limit: float = math.inf) -> Any:
    """Rebuild ``content`` of exact built-in types, so that equal content gives equal bytes when it is written.

    No two containers are one object then, equal texts are one, and tensors are dense, on the CPU and without a graph.
    Versions of modules, which :meth:`torch.nn.Module.state_dict` keeps beside the weights, stay.

    Args:
        content: to be written, or just read.
        limit: bytes that may be allocated for tensors that are views of others, or hold a number many times. A finite
            limit also gives each tensor memory of its own, which tensors that are written may share.

    Raises:
        NotPlainError: for other objects, tensors that are sparse, quantised or without memory, and containers that hold
            themselves.
    """
    return _Builder(limit).built(content, "", 0)


def load_plain(path: str | Path) -> Any:
    """Load the canonical content of a file that torch has written.

    Every record in it has a checksum, which torch writes and does not compare: here all are checked, so that no flipped
    bit passes for a weight. (Reading 100 MB takes about 0.05 s more.)

    Raises:
        UserError: for a file that is missing, damaged, or holds anything but plain content.
    """
    check_records(path)
    return canonical(load_tensors(path), most(os.path.getsize(path)))


def check_records(path: str | Path) -> None:
    """Compare each record of a torch file with the checksum (CRC-32) that was written with it.

    Raises:
        UserError: naming the record, or saying that the file is no whole archive of records.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
            stored = all(each.compress_type == zipfile.ZIP_STORED for each in records)
            if not stored or sum(each.file_size for each in records) > os.path.getsize(path):
                raise UserError("its records are packed, and torch packs none")
            for each in records:
                with archive.open(each) as file:
                    while file.read(_CHUNK):  # raises at the end, if the checksum differs
                        pass
    except UserError:
        raise
    except OSError as error:
        raise UserError(error.strerror or type(error).__name__) from None
    except Exception as error:  # zipfile raises many kinds for a damaged archive
        raise UserError(first_line(error)) from None


class _Builder:
    """Rebuilds content, and counts its values and the bytes it allocates."""

    def __init__(self, limit: float) -> None:
        self.count, self.left, self.apart = 0, limit, limit < math.inf
        self.storages: set[int] = set()
        self.texts: dict[str, str] = {}

    def built(self, value: Any, where: str, depth: int) -> Any:
        self.count += 1
        if self.count > LARGEST or depth > DEEPEST_PLAIN:
            raise NotPlainError(f"{where or 'the content'} holds too many values, or holds itself")
        if value is None or isinstance(value, bool | torch.dtype):
            return value
        if isinstance(value, str):
            text = str.__str__(value)
            return self.texts.setdefault(text, text)
        if isinstance(value, np.generic):
            return self.built(value.item(), where, depth)
        if isinstance(value, int):
            if value.bit_length() > _BITS:
                raise NotPlainError(f"{where} is {brief(value)}")
            return int(value)
        if isinstance(value, float):
            return float(value)
        if isinstance(value, Tensor):
            return self._tensor(value, where)
        if isinstance(value, dict):
            return self._mapping(value, where, depth)
        if isinstance(value, list | tuple):
            inside = [self.built(each, f"{where}[{i}]", depth + 1) for i, each in enumerate(value)]
            return inside if isinstance(value, list) else tuple(inside)
        raise NotPlainError(f"{where or 'the content'} is a {type(value).__name__}")

    def _mapping(self, value: dict[Any, Any], where: str, depth: int) -> dict[Any, Any]:
        known: dict[Any, Any] = {}
        for key, each in value.items():
            if not isinstance(key, str | int | float | type(None)):
                raise NotPlainError(f"{where or 'the content'} has the key {brief(key)}")
            name = key if isinstance(key, str) else brief(key)
            inside = f"{where}.{plain(name)[:120]}" if where else plain(name)[:120]
            known[self.built(key, where, depth)] = self.built(each, inside, depth + 1)
        if isinstance(value, Counter):
            return Counter(known)
        if isinstance(value, OrderedDict):
            own: Any = OrderedDict(known)
            extra = vars(value)
            if not extra.keys() <= {"_metadata"}:
                raise NotPlainError(f"{where or 'the content'} has attributes of another program")
            if extra:
                own._metadata = self.built(extra["_metadata"], f"{where}._metadata", depth + 1)
            return own
        return known

    def _tensor(self, value: Tensor, where: str) -> Tensor:
        """Bring a tensor to the CPU, without a graph and in memory of its own size."""
        kind = (
            "without memory" if value.is_meta else
            "nested" if value.is_nested else
            "sparse" if value.layout is not torch.strided else
            "quantised" if value.is_quantized else ""
        )  # fmt: skip
        if kind:
            raise NotPlainError(f"{where} is a tensor that is {kind}")
        known = value.detach().resolve_conj().resolve_neg().cpu()
        if type(known) is not Tensor:
            known = known.as_subclass(Tensor)
        size, storage = known.numel() * known.element_size(), known.untyped_storage()
        shared = self.apart and storage.data_ptr() in self.storages
        self.storages.add(storage.data_ptr())
        if storage.nbytes() == size and not shared:
            return known
        self.left -= size
        if self.left < 0:
            raise NotPlainError(f"{where} is a tensor of {size} bytes, far more than the file")
        return known.clone()
