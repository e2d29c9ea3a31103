"""Files of ``torch.save`` from before torch 1.6, as most weights of torchvision are: pickles, then the storages.

The file is five pickles (a magic number, the version of the format, the machine, the content, the keys of the
storages), then the storages in the order of the keys, each behind its number of elements. They are checked as those of
:mod:`spikelfp.untrusted.tensors` are, before torch reads them with ``weights_only=True``.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any, BinaryIO

from spikelfp.errors import DataError
from spikelfp.untrusted.bounds import check_size
from spikelfp.untrusted.tensors import LONGEST_PICKLE, _Kind, _SizeReader, _Storage, _taken, _tensor, load_checked

MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
"""First bytes of such a file."""

_VERSION = 1001
_COUNT = 8  # bytes of the number of elements in front of a storage


def load_old_tensors(path: str | Path) -> Any:
    """Load plain data and tensors from a file of torch before 1.6, to the CPU.

    Args:
        path: the file.

    Raises:
        DataError: for a file that cannot be read, is of another format, truncated or damaged; one that holds anything
            but plain data and dense tensors, or tensors larger than their storage.
    """
    return load_checked(path, _check)


def _check(file: BinaryIO, size: int, where: str) -> None:
    head = io.BytesIO(file.read(LONGEST_PICKLE))
    if head.read(len(MAGIC)) != MAGIC:
        raise DataError(f"{where} is not readable by torch: it does not begin as its files do")
    sizes: dict[str, _Storage] = {}
    version, machine = (_OldReader(head, sizes).load() for _ in range(2))
    if version != _VERSION or not isinstance(machine, dict) or machine.get("little_endian", True) is not True:
        raise DataError(f"{where} is of another version of torch's old format, or of a machine with big-endian numbers")
    content, keys = (_OldReader(head, sizes).load() for _ in range(2))
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(sizes):
        raise DataError(f"{where} is damaged: its storages are not those that its tensors lie in")
    at = head.tell()
    for key in keys:
        file.seek(at)
        count = int.from_bytes(file.read(_COUNT), "little")
        if count * sizes[key].itemsize != sizes[key].size:
            raise DataError(f"{where} is truncated or damaged: the storage {str(key)[:20]!r} has another size")
        at += _COUNT + sizes[key].size
    if at != size:
        raise DataError(f"{where} is truncated or damaged: it has {size} bytes, and its content takes {at}")
    check_size(_taken(content, where), size, where)


class _OldReader(_SizeReader):
    """Reads one of the pickles; the storages that tensors name are collected, as their sizes come later."""

    def __init__(self, file: io.BytesIO, storages: dict[str, _Storage]) -> None:
        super().__init__(file, {})
        self.storages = storages

    def find_class(self, module: str, name: str) -> Any:
        """Return a stand-in; nothing is imported."""
        return _tensor if (module, name) == ("torch._utils", "_rebuild_tensor") else super().find_class(module, name)

    def persistent_load(self, pid: Any) -> _Storage:
        """Return the size that a tensor declares for its storage; all must declare the same."""
        _, kind, key, _, count, view = pid
        if not isinstance(kind, _Kind) or type(key) is not str or type(count) is not int or not 0 <= count < 1 << 62:
            raise pickle.UnpicklingError(f"the storage {str(key)[:20]!r} of {str(count)[:30]} elements")
        if view is not None:
            raise pickle.UnpicklingError(f"the storage {str(key)[:20]!r} is a part of another one")
        found = _Storage(count * kind.itemsize, kind.itemsize)
        if self.storages.setdefault(key, found) != found:
            raise pickle.UnpicklingError(f"the storage {str(key)[:20]!r} has two sizes")
        return found
