"""Files in the format of safetensors: a JSON header with name, dtype, shape and place of each tensor, then the bytes.

Nothing in it can run. The places must lie one behind the other and fill the file, so that no byte is read twice.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spikelfp.errors import DataError
from spikelfp.untrusted.bounds import read_regular
from spikelfp.untrusted.text import plain_json

LONGEST_HEADER = 1 << 24
"""Bytes of a header; that of a network of thousands of layers has some hundred thousand."""

_SIZE = 8  # bytes that hold the length of the header
_MOST_AXES = 64
_KINDS = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
}  # fmt: skip


def load_safe_tensors(path: str | Path) -> dict[str, Tensor]:
    """Load the tensors of a safetensors file, to the CPU.

    Args:
        path: the file.

    Returns:
        The tensors by name, in the order of the file; each has memory of its own.

    Raises:
        DataError: for a file that cannot be read, is truncated or damaged, has a dtype of another kind, or tensors that
            overlap or leave gaps.
    """
    content = read_regular(path)
    length = int.from_bytes(content[:_SIZE], "little")
    if len(content) < _SIZE or not 2 <= length <= min(LONGEST_HEADER, len(content) - _SIZE):
        raise DataError(f"{path} is no safetensors file, or truncated: a header of {length} bytes, and {len(content)}")
    header = plain_json(content[_SIZE : _SIZE + length], path)
    if not isinstance(header, dict):
        raise DataError(f"{path} is damaged: its header is no mapping")
    header.pop("__metadata__", None)
    data = memoryview(content)[_SIZE + length :]
    places = {name: _place(path, name, each) for name, each in header.items()}
    at, found = 0, dict[str, Tensor]()
    for name, (kind, shape, begin, end) in sorted(places.items(), key=lambda each: each[1][2:]):
        if begin != at or end - begin != math.prod(shape) * kind.itemsize or end > len(data):
            raise DataError(f"{path} is damaged: bytes {begin} to {end} are not those of the tensor {name[:60]!r}")
        raw = bytearray(data[begin:end])
        found[name] = torch.frombuffer(raw, dtype=kind).reshape(shape) if raw else torch.empty(shape, dtype=kind)
        at = end
    if at != len(data):
        raise DataError(f"{path} is truncated or damaged: its tensors take {at} bytes, and {len(data)} are there")
    return found


def _place(path: str | Path, name: str, about: Any) -> tuple[torch.dtype, tuple[int, ...], int, int]:
    """Read dtype, shape, and first and last byte of a tensor from the header."""
    about = about if isinstance(about, dict) else {}
    kind, shape, place = (about.get(each) for each in ("dtype", "shape", "data_offsets"))
    if not isinstance(kind, str) or kind not in _KINDS:
        raise DataError(f"{path}: the tensor {name[:60]!r} has the type {str(kind)[:20]!r}, which is not read")
    numbers = [*shape, *place] if isinstance(shape, list) and isinstance(place, list) and len(place) == 2 else [-1]
    if len(numbers) > _MOST_AXES or not all(type(each) is int and each >= 0 for each in numbers):
        raise DataError(f"{path} is damaged: the tensor {name[:60]!r} has no shape, or no place")
    return _KINDS[kind], tuple(numbers[:-2]), numbers[-2], numbers[-1]
