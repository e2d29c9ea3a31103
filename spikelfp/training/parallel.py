"""Data-parallel training: the processes that ``torchrun`` starts, brought together by ``torch.distributed``.

Each worker computes its slice of every batch; ``DistributedDataParallel`` averages what reached ``p.grad``. All the
rest of training asks a :class:`World` what is specific to several workers; with one worker its answers cost nothing.
"""

from __future__ import annotations

import importlib
import os
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import Module
from torch.nn.parallel import DistributedDataParallel

from spikelfp.data.loader import generator
from spikelfp.errors import NonFiniteError, UserError
from spikelfp.machine import ended_by_sigterm
from spikelfp.terminal import one_line, say

T = TypeVar("T")

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""Environment variables that ``torchrun`` sets for each worker."""


def choose_device(device: str | torch.device, local_rank: int | None = None) -> torch.device:
    """Return the device of a name; ``auto`` is CUDA where there is one.

    Args:
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, …
        local_rank: number of this worker among those of its machine, when several train together: it takes the GPU of
            that number.

    Raises:
        UserError: for a device that cannot be used here.
    """
    if str(device) == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise UserError(f"device {device!r} cannot be used here: {str(error).splitlines()[0]}") from None
    if local_rank is None or chosen.type != "cuda":
        return chosen
    if chosen.index not in (None, local_rank):
        raise UserError(f"each of several workers takes the GPU of its own number: --device cuda, not {device}")
    if local_rank >= torch.cuda.device_count():
        raise UserError(
            f"worker {local_rank} of this machine has no GPU of its own, there are {torch.cuda.device_count()}: "
            "start as many workers as GPUs, or train on --device cpu"
        )
    return torch.device("cuda", local_rank)


_replicas: weakref.WeakSet[DistributedDataParallel] = weakref.WeakSet()
"""Replicas of the process group that this process is in."""


class WorkerLost(RuntimeError):
    """Raised when another worker has ended, so that training cannot go on; the last checkpoint is whole."""


@dataclass(frozen=True)
class World:
    """Workers that train together, and which of them this is.

    With one worker (rank 0 of 1) its methods return their arguments. With several, each method that says "all" is a
    collective: every worker must call it. A world of several needs torch's default process group, which :func:`joined`
    makes.

    Args:
        rank: number of this worker among all.
        size: number of workers.
        local_rank: number of this worker among those of its machine.

    Raises:
        UserError: for a rank outside the world.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.size:
            raise UserError(f"a rank lies between 0 and {self.size - 1} for {self.size} workers, got {self.rank}")

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> World:
        """Read the world that ``torchrun`` set in the environment; one worker without ``RANK`` and ``WORLD_SIZE``.

        Raises:
            UserError: for variables that are missing, or no whole numbers.
        """
        if "RANK" not in environment or "WORLD_SIZE" not in environment:
            return cls()
        missing = [name for name in VARIABLES if name not in environment]
        if missing:
            raise UserError(f"RANK and WORLD_SIZE are set, but not {', '.join(missing)}: start the workers by torchrun")
        try:
            rank, size, local_rank = (int(environment[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
        except ValueError as error:
            raise UserError(f"RANK, WORLD_SIZE and LOCAL_RANK are whole numbers: {error}") from None
        return cls(rank, size, local_rank)

    @property
    def leads(self) -> bool:
        """Whether this worker writes the files and prints for all."""
        return self.rank == 0

    def replica(self, net: Module, device: torch.device) -> Module:
        """Wrap ``net``, with the leader's weights, so that each backward pass averages gradients over all workers."""
        if self.size == 1:
            return net
        replica = DistributedDataParallel(net, device_ids=[device.index] if device.type == "cuda" else None)
        _replicas.add(replica)
        return replica

    def unwrapped(self, replica: Module) -> Module:
        """Return the module that :meth:`replica` was made of."""
        return replica.module if isinstance(replica, DistributedDataParallel) else replica

    def average(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Average ``p.grad`` over all workers, where any of them has one."""
        own = list(parameters)
        if self.size == 1 or not own:
            return
        there = self.sum([p.grad is not None for p in own], own[0].device)
        filled = [p for p, count in zip(own, there, strict=True) if count > 0]
        for p in filled:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        for dtype in dict.fromkeys(p.dtype for p in filled):
            grads = [p.grad for p in filled if p.dtype == dtype and p.grad is not None]
            together = torch.cat([grad.flatten() for grad in grads]) / self.size
            dist.all_reduce(together)
            for grad, mean in zip(grads, together.split([grad.numel() for grad in grads]), strict=True):
                grad.copy_(mean.view_as(grad))

    def sum(self, values: list[Any], device: torch.device) -> list[Any]:
        """Add each of the numbers, which may be tensors on ``device``, over all workers in float64."""
        if self.size == 1:
            return values
        together = torch.stack([torch.as_tensor(value, dtype=torch.float64, device=device) for value in values])
        dist.all_reduce(together)
        return list(together.unbind())

    def gather(self, value: T) -> list[T]:
        """Return the values of all workers, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def copy(self, tensors: Iterable[Tensor]) -> None:
        """Copy the leader's values into the tensors of all workers."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def wait(self) -> None:
        """Wait until all workers are here."""
        self.gather(None)

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """Let the first worker of each machine go through the block before its others, which find its downloads."""
        if self.local_rank != 0:
            self.wait()
        try:
            yield
        finally:
            if self.local_rank == 0:
                self.wait()

    @contextmanager
    def agreed(self) -> Iterator[None]:
        """Raise in all workers a user's mistake that any worker finds in the block."""
        own: UserError | None = None
        try:
            yield
        except UserError as error:
            own = error
        text = next((text for text in self.gather(own and str(own)) if text), None)
        if text is not None:
            raise own or UserError(text)

    def reseed(self, *key: int) -> None:
        """Seed random numbers by ``key`` and the rank, so that each worker has its own; with one worker do nothing."""
        if self.size > 1:
            torch.manual_seed(generator("worker", *key, self.rank).initial_seed())


SINGLE_WORKER = World()


def unsynchronised(net: Module) -> AbstractContextManager[None]:
    """Keep the gradients of a replica local within the block; the next backward pass outside it brings the sum."""
    return net.no_sync() if isinstance(net, DistributedDataParallel) else nullcontext()


@contextmanager
def joined(device: str = "auto") -> Iterator[World]:
    """Join the other workers that ``torchrun`` started, and yield the world; else yield the world of one worker.

    Uses gloo on the CPU and NCCL on GPUs, where each worker takes the GPU of its local rank. An error that several
    workers meet is raised by the first; the others exit in silence (status 2 for a user's mistake, else 1). Replicas
    made in the block cannot train after it.

    Args:
        device: as in :func:`choose_device`.

    Raises:
        WorkerLost: when another worker has ended.
        UserError: for a device that cannot be used, and an environment that is not ``torchrun``'s.
    """
    world = World.of_environment()
    if world.size == 1:
        yield world
        return
    chosen = choose_device(device, world.local_rank)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    # DistributedDataParallel imports it, and then functions take the group there is as a default, for ever.
    importlib.import_module("torch._dynamo")
    try:
        store, _, _ = next(dist.rendezvous("env://"))
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo",
            store=dist.PrefixStore("workers", store),
            rank=world.rank,
            world_size=world.size,
        )
    except (RuntimeError, ValueError) as error:
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise WorkerLost(f"the workers did not find each other at {where}: {str(error).splitlines()[0]}") from None
    printed = _ErrorLog(store)
    with ended_by_sigterm(printed.before_sigterm):  # leaving the group may have to wait for a worker that is gone
        try:
            yield world
            dist.barrier()  # the first worker keeps the store, so all leave together
        except (UserError, NonFiniteError, RuntimeError) as error:
            lost = isinstance(error, dist.DistError) or "gloo/transport/" in str(error)
            if lost and printed.anything():  # the worker that has ended told why
                raise SystemExit(1) from None
            told = WorkerLost("another worker has ended, and training cannot go on without it") if lost else error
            if not printed.first(str(told), alone=lost):
                raise SystemExit(2 if isinstance(told, UserError) else 1) from None
            raise told from None
        finally:
            _leave_group()


def _leave_group() -> None:
    """Destroy the process group and end its threads.

    They end with the last reference to the group. A thread that still ran at the end of the interpreter might ask for
    it, and the process would be aborted ("terminate called without an active exception") although its work is done. So
    the replicas, which cannot train without the group, drop it.
    """
    for replica in _replicas:
        for name in ("reducer", "logger", "process_group"):
            replica.__dict__.pop(name, None)
    _replicas.clear()
    dist.destroy_process_group()


class _ErrorLog:
    """Errors that were printed, so that several workers do not print one more than once.

    It is kept in the store through which the workers found each other, and works when they can no longer reach each
    other.
    """

    def __init__(self, store: dist.Store) -> None:
        self._store = dist.PrefixStore("said", store)
        self._own = ""

    def first(self, text: str, alone: bool) -> bool:
        """Whether no worker has printed ``text`` before; then it counts as printed. ``alone``, if it cannot be told."""
        try:
            self._store.add("anything", 1)
            first = self._store.add(text, 1) == 1
        except RuntimeError:  # the store went with the worker that kept it
            first = alone
        self._own = text if first else ""
        return first

    def anything(self) -> bool:
        """Whether any worker has printed why it ends."""
        try:
            return self._store.add("anything", 0) > 0
        except RuntimeError:
            return False

    def before_sigterm(self) -> None:
        """Print why a worker is ended from outside."""
        ended = "ended by SIGTERM, which torchrun sends the workers that are left when one has failed"
        if self._own or (not self.anything() and self.first(ended, alone=True)):
            say(f"spikelfp: {one_line(self._own)}", error=True)
