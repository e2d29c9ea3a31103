"""Plain content of torch's files: numbers, texts, tensors and containers of them, in one form, and read whole."""

from __future__ import annotations

import math
import os
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikelfp.errors import UserError
from spikelfp.terminal import brief, first_line, plain
from spikelfp.untrusted.bounds import most
from spikelfp.untrusted.tensors import load_tensors

DEEPEST = 24
"""Containers within each other, at most."""

LARGEST = 1 << 22
"""Values in all, at most: containers that hold each other many times would have no end."""

_BITS = 4096  # of a whole number
_CHUNK = 1 << 20  # bytes that are read at once


class NotPlainError(UserError):
    """A value that a file of plain content does not hold; the text names its place and the reason."""


def canonical(content: Any, room: float = math.inf) -> Any:
    """Rebuild ``content`` of exact built-in types, so that equal content gives equal bytes when it is written.

    No two containers are one object then, equal texts are one, and tensors are dense, on the CPU and without a graph.
    Versions of modules, which :meth:`torch.nn.Module.state_dict` keeps beside the weights, stay.

    Args:
        content: what is written, or was read.
        room: bytes that may be allocated for tensors that are views of other ones, or hold a number many times. A
            limit also gives each tensor memory of its own, which what is written may share.

    Raises:
        NotPlainError: for other objects, tensors that are sparse, quantised or without memory, and containers that hold
            themselves.
    """
    return _Builder(room).built(content, "", 0)


def load_plain(path: str | Path) -> Any:
    """Load the canonical content of a file that torch has written.

    Every record in it has a checksum, which torch writes and does not look at: here all are checked, so that no flipped
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
                _read_through(archive, each)
    except UserError:
        raise
    except OSError as error:
        raise UserError(error.strerror or type(error).__name__) from None
    except Exception as error:  # zipfile raises many kinds for a damaged archive
        raise UserError(first_line(error)) from None


def _read_through(archive: zipfile.ZipFile, record: zipfile.ZipInfo) -> None:
    with archive.open(record) as file:
        while file.read(_CHUNK):  # raises at the end, if the checksum differs
            pass


class _Builder:
    """Rebuilds content, and counts its values and the bytes it allocates."""

    def __init__(self, room: float) -> None:
        self.count, self.room, self.apart = 0, room, room < math.inf
        self.storages: set[int] = set()
        self.texts: dict[str, str] = {}

    def built(self, value: Any, where: str, depth: int) -> Any:
        self.count += 1
        if self.count > LARGEST or depth > DEEPEST:
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
        self.room -= size
        if self.room < 0:
            raise NotPlainError(f"{where} is a tensor of {size} bytes, far more than the file")
        return known.clone()
