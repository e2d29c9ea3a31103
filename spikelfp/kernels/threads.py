"""Threads for kernels that let go of Python's lock.

A plain pool that sleeps between calls: compilers' own thread pools spin, and two that spin on the same cores
(torch's and another) slow each other down manyfold as soon as the machine is shared.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import torch

_pool: ThreadPoolExecutor | None = None


def _forget() -> None:
    """A forked child has the pool but not its threads."""
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def split(run: Callable[[int, int], None], count: int, grain: int) -> None:
    """Call ``run(low, high)`` over ``0…count``, in as many parts as torch has threads, none below ``grain``."""
    global _pool
    parts = min(torch.get_num_threads(), count // grain)
    if parts <= 1:
        run(0, count)
        return
    if _pool is None:
        _pool = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="spikelfp")
    edges = [count * part // parts for part in range(parts + 1)]
    rest = [_pool.submit(run, low, high) for low, high in pairwise(edges[1:])]
    run(edges[0], edges[1])
    for part in rest:
        part.result()
