"""Sequences ``[T, B, …]``, time first: constant ones, sparse ones, and maps of every step.

A static image shown ``T`` times is an *expanded* tensor: stride 0 in time, no copy. Layers keep it so, and a
map of a constant sequence is computed once, not ``T`` times.

A *sparse* sequence, such as a recording of events, is a COO tensor of which only what is not zero is held. A torch
tensor of layout ``torch.sparse_coo`` without dense dimensions holds ``indices [D, M]``, int64, a column for each of
``M`` entries, and ``values [M]``. A *coalesced* one holds each entry once, in the order of a dense tensor in memory, so
that steps, samples and images are ranges of entries. The functions here compute with indices and make no dense tensor.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from spikelfp.errors import ShapeError, UserError
from spikelfp.scalars import as_whole
from spikelfp.terminal import brief


def is_sparse(x: Tensor) -> bool:
    """Whether ``x`` has any layout but the dense one."""
    return x.layout is not torch.strided


def replaced(
    x: Tensor, *, indices: Tensor | None = None, values: Tensor | None = None, shape: tuple[int, ...] | None = None
) -> Tensor:
    """Return a coalesced ``x`` with other indices (coalesced ones), other values or another shape."""
    return torch.sparse_coo_tensor(
        x.indices() if indices is None else indices,
        x.values() if values is None else values,
        x.shape if shape is None else shape,
        is_coalesced=True,
        check_invariants=False,
    )


def compact(x: Tensor) -> Tensor:
    """Return ``x`` coalesced and without entries of 0."""
    x = x.coalesce()
    return x if x.values().all() else chosen(x, x.values() != 0)


def chosen(x: Tensor, which: Tensor) -> Tensor:
    """Return the entries of a coalesced ``x`` for which the boolean ``which [M]`` is true."""
    return replaced(x, indices=x.indices()[:, which], values=x.values()[which])


def merged(x: Tensor, start: int, end: int) -> Tensor:
    """Flatten the axes ``start`` to ``end`` of a coalesced ``x``, as ``x.flatten(start, end)`` does for a dense one."""
    indices, shape = x.indices(), x.shape
    one = indices[start]
    for axis in range(start + 1, end + 1):
        one = one * shape[axis] + indices[axis]
    joined = torch.cat([indices[:start], one.unsqueeze(0), indices[end + 1 :]])
    return replaced(x, indices=joined, shape=(*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :]))


def check_places(x: Tensor) -> None:
    """Raise :class:`~spikelfp.errors.ShapeError` if an entry of a coalesced ``x`` lies outside of its shape."""
    for axis, places in enumerate(x.indices() if x._nnz() else ()):
        low, high = (int(bound) for bound in torch.aminmax(places))
        if low < 0 or high >= x.shape[axis]:
            raise ShapeError(
                f"a sparse tensor of shape {tuple(x.shape)} has an entry outside of it: its indices of axis {axis} run "
                f"from {low} to {high}"
            )


def time_slice(x: Tensor, start: int | None, stop: int | None) -> Tensor:
    """Return steps ``start … stop`` of a dense or sparse ``x [T, B, …]``, as ``x[start:stop]``.

    A coalesced sequence takes two look-ups and a copy of the entries between them.
    """
    if not x.is_sparse:
        return x[start:stop]
    first, last = _bounds(x, 0, start, stop)
    x = x.coalesce()
    indices = x.indices()
    low, high = torch.searchsorted(indices[0].contiguous(), torch.tensor([first, last], device=x.device)).tolist()
    part = indices[:, low:high].clone()
    part[0] -= first
    return replaced(x, indices=part, values=x.values()[low:high].clone(), shape=(last - first, *x.shape[1:]))


def sample_slice(x: Tensor, start: int | None, stop: int | None) -> Tensor:
    """Return samples ``start … stop`` of a dense or sparse ``x [T, B, …]``, as ``x[:, start:stop]``."""
    if not x.is_sparse:
        return x[:, start:stop]
    first, last = _bounds(x, 1, start, stop)
    x = x.coalesce()
    sample = x.indices()[1]
    part = chosen(x, (sample >= first) & (sample < last))
    indices = part.indices().clone()
    indices[1] -= first
    return replaced(part, indices=indices, shape=(len(x), last - first, *x.shape[2:]))


def _bounds(x: Tensor, axis: int, start: int | None, stop: int | None) -> tuple[int, int]:
    first, last, _ = slice(start, stop).indices(x.shape[axis])
    return first, max(first, last)


def constant(images: Tensor, steps: int) -> Tensor:
    """Show a static input for ``steps`` equal steps (A.6.4, constant encoding).

    Args:
        images: ``[B, …]``.
        steps: number of steps, at least 1.

    Returns:
        The sequence ``[T, B, …]``, with stride 0 over time: nothing is copied, so do not write into it.

    Raises:
        UserError: for anything but a tensor, and for steps that are no whole number of at least 1.
    """
    if not isinstance(images, Tensor):
        raise UserError(
            f"constant takes a tensor [B, …] and steps, got {type(images).__name__}: torch.as_tensor(images)"
        )
    if is_sparse(images):
        raise UserError(f"constant takes a dense tensor [B, …], got one of layout {images.layout}: images.to_dense()")
    number = as_whole(steps)
    if number is None:
        raise UserError(f"steps is a whole number, got {steps!r}")
    if number < 1:
        raise UserError(f"a sequence needs at least one step, got steps={number}")
    return repeat(images, number)


def direct_current(images: Tensor, steps: int) -> Tensor:
    """Encode images as a direct current, ``x[t] = images`` at every step.

    Args:
        images: ``[B, …]``, floating-point and finite.
        steps: number of steps, at least 1.

    Returns:
        ``[T, B, …]`` in the dtype of the images, with stride 0 over time: nothing is copied, so do not write into it.

    Raises:
        UserError: for the steps.
        ShapeError: for the images.
    """
    check_images(images, steps)
    return repeat(images, int(steps))


def check_images(images: Tensor, steps: int, unit_range: bool = False) -> None:
    """Refuse static images that cannot be shown for ``steps`` steps.

    Args:
        images: ``[B, …]``, floating-point and finite.
        steps: how many, a whole number of at least 1.
        unit_range: the values must lie in [0, 1] too.

    Raises:
        UserError: for the steps, and for what is no dense tensor.
        ShapeError: for the images, with the first value that is out of range.
    """
    number = as_whole(steps)
    if number is None or number < 1:
        raise UserError(f"steps must be a whole number of at least 1, got {brief(steps)}")
    if not isinstance(images, Tensor) or is_sparse(images):
        got = f"layout {images.layout}" if isinstance(images, Tensor) else type(images).__name__
        raise ShapeError(
            f"images to encode are a dense tensor [B, …], got {got}: torch.as_tensor(images) or images.to_dense()"
        )
    if not images.is_floating_point():
        raise ShapeError(f"images to encode must be floating point, got {images.dtype}: scale them to [0, 1] first")
    if not unit_range and torch.isfinite(images.sum()):
        return  # a single pass in the usual case: NaN and infinity stay in a sum
    bad = ~torch.isfinite(images)
    if unit_range:
        bad |= (images < 0) | (images > 1)
    if bad.any():
        where = tuple(bad.nonzero()[0].tolist())
        wanted = "in [0, 1]" if unit_range else "finite"
        raise ShapeError(f"images to encode must be {wanted}: the value at {list(where)} is {float(images[where])}")


def repeat(step: Tensor, steps: int) -> Tensor:
    """Repeat ``step`` for ``steps`` steps, as one expanded tensor."""
    return _Repeat.apply(step, steps)


def is_constant(sequence: Tensor) -> bool:
    """Whether all steps of ``[T, …]`` are the same memory; those of a sparse sequence are not."""
    return not is_sparse(sequence) and len(sequence) > 1 and sequence.stride(0) == 0


def over_time(fn: Callable[[Tensor], Tensor], sequence: Tensor) -> Tensor:
    """Apply ``fn``, a map of a batch ``[N, …]``, to every step of ``[T, B, …]``: folded into the batch, or once."""
    if is_constant(sequence):
        return repeat(fn(sequence[0]), len(sequence))
    return fn(sequence.flatten(0, 1)).unflatten(0, sequence.shape[:2])


class _Repeat(Function):
    """``expand`` over a new first axis; its backward pass does not read a constant gradient ``T`` times."""

    spreads_over_time = True

    @staticmethod
    def forward(ctx: Any, step: Tensor, steps: int) -> Tensor:
        return step.unsqueeze(0).expand(steps, *step.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return (grad[0] * len(grad) if is_constant(grad) else grad.sum(0)), None


class Trace(tuple[Tensor, ...]):
    """Named tuple of outputs and states of a run over time, each ``[T, …]``: ``spikes`` (0/1), ``membrane``, …

    Membranes are those before the reset.

    The names are its keyword arguments, ``Trace(spikes=…, membrane=…)``, in their order.
    """

    _fields: tuple[str, ...]

    def __new__(cls, **fields: Tensor) -> Trace:
        made = super().__new__(cls, fields.values())
        made._fields = tuple(fields)
        return made

    def __getattr__(self, name: str) -> Tensor:
        names = self.__dict__.get("_fields", ())
        if name not in names:
            raise AttributeError(f"a trace of {', '.join(names)} has no {name!r}")
        return self[names.index(name)]

    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, Tensor]]:
        return (), self._asdict()

    def _asdict(self) -> dict[str, Tensor]:
        return dict(zip(self._fields, self, strict=True))

    def __repr__(self) -> str:
        return f"Trace({', '.join(f'{name}={list(each.shape)}' for name, each in self._asdict().items())})"
