"""Random generators that are a function of a key, apart from torch's global one."""

from __future__ import annotations

import hashlib

import torch


def generator(*key: int | str) -> torch.Generator:
    """A CPU generator whose stream depends on every part of ``key`` and on their order.

    The key is hashed, because sums and products of seeds collide: ``(seed=0, epoch=1)`` and ``(1, 0)`` must
    not give the same order. The same key gives the same stream in every process and Python version.
    """
    parts = [part if isinstance(part, str) else int(part) for part in key]  # numpy integers print otherwise
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))
