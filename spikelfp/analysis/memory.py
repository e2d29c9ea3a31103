"""Memory that tensors hold at most, counted exactly: every storage, from when it is made until it is gone."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class HeldMemory(TorchDispatchMode):
    """Counts the memory of tensors within a block of ``with``, on the CPU; the same code gives the same counts.

    ::

        with HeldMemory(net, x) as held:
            loss(net(x), labels).backward()
        held.peak, held.saved

    A storage that several tensors share counts once, from the first operation of torch that returns it.

    Args:
        *given: modules and tensors that were there before and are not counted, such as the network and its inputs.

    Attributes:
        peak: bytes that tensors held at most at a time.
        saved: bytes that autograd kept at most at a time for backward passes.
    """

    def __init__(self, *given: torch.nn.Module | Tensor) -> None:
        super().__init__()
        self.peak = self.saved = 0
        self._now = self._saved_now = 0
        self._made: set[int] = set()
        self._kept: dict[int, int] = {}
        self._given = {storage._cdata: storage for each in given for storage in _all_storages(each)}
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, _tensor_of)

    def __enter__(self) -> Any:
        self._hooks.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._hooks.__exit__(*error)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        for storage in _dense_storages(out):
            if storage._cdata not in self._made and storage._cdata not in self._given:
                self._made.add(storage._cdata)
                self._now += storage.nbytes()
                self.peak = max(self.peak, self._now)
                weakref.finalize(storage, self._gone, storage._cdata, storage.nbytes())
        return out

    def _gone(self, number: int, size: int) -> None:
        self._made.discard(number)
        self._now -= size

    def _pack(self, tensor: Tensor) -> _Saved:
        return _Saved(self, tensor.detach())

    def _keep(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata in self._given:
            return
        uses = self._kept.get(storage._cdata, 0)
        self._kept[storage._cdata] = uses + 1
        if not uses:
            self._saved_now += storage.nbytes()
            self.saved = max(self.saved, self._saved_now)

    def _free(self, storage: torch.UntypedStorage) -> None:
        uses = self._kept.pop(storage._cdata, 0)
        if uses > 1:
            self._kept[storage._cdata] = uses - 1
        elif uses:
            self._saved_now -= storage.nbytes()


class _Saved:
    """A tensor that autograd keeps; it is gone when the node that kept it is."""

    def __init__(self, memory: HeldMemory, tensor: Tensor) -> None:
        self.tensor, self._memory = tensor, memory
        for storage in storages(tensor):
            memory._keep(storage)

    def __del__(self) -> None:
        for storage in storages(self.tensor):
            self._memory._free(storage)


def _tensor_of(saved: _Saved) -> Tensor:
    return saved.tensor


def storages(tensor: Tensor) -> list[torch.UntypedStorage]:
    """List the storages of a tensor; a sparse tensor has one for its indices and one for its values.

    Args:
        tensor: dense, or sparse in COO form.
    """
    parts = (tensor._indices(), tensor._values()) if tensor.is_sparse else (tensor,)
    return [part.untyped_storage() for part in parts]


def _dense_storages(values: Any) -> list[torch.UntypedStorage]:
    """List the storages of the tensors in ``values``; what is sparse is made of tensors, which operations made."""
    return [
        each.untyped_storage()
        for each in tree_leaves(values)
        if isinstance(each, Tensor) and each.layout == torch.strided
    ]


def _all_storages(given: torch.nn.Module | Tensor) -> list[torch.UntypedStorage]:
    tensors = [given] if isinstance(given, Tensor) else [*given.parameters(), *given.buffers()]
    return [storage for tensor in tensors for storage in storages(tensor)]
