"""Sums of a dense layer over the inputs that are not zero, on the CPU, compiled; and totals of events.

The sums are made in float32, which is exact for whole numbers as long as none reaches 2^24.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from torch import Tensor

from spikelfp.kernels.events.conv_lanes import lowest_bit
from spikelfp.kernels.events.conv_vectors import VECTOR, WIDE, Body, add_rows, add_rows_narrow
from spikelfp.kernels.threads import split

_LANES = VECTOR // 4  # of float32
_TILE = WIDE * _LANES  # outputs whose sums are made together: the weights of a tile stay in the L2 cache
_KEPT = 131_072  # inputs whose events are kept while tile after tile goes over them
_GRAIN = 64  # rows below which another thread costs more than it saves
_COLUMNS = 4_096  # the same for columns of which totals are made


class ByInput(NamedTuple):
    """Weights ``[N, K]`` in the order in which :func:`sums` reads them: tiles of outputs, in each input after input.

    rows: flat float32, ``[K, 64]`` for each whole tile, then ``[K, 16]`` for what is left, filled up with zeros.
    """

    rows: Tensor
    inputs: int
    outputs: int

    @staticmethod
    def of(weight: Tensor) -> ByInput:
        """Those of ``weight [N, K]`` of whole numbers."""
        outputs, inputs = weight.shape
        padded = -(-outputs // _LANES) * _LANES
        by_input = torch.zeros(inputs, padded)
        by_input[:, :outputs] = weight.t()
        whole = padded // _TILE * _TILE
        widths = [_TILE] * (whole // _TILE) + [_LANES] * ((padded - whole) // _LANES)
        return ByInput(torch.cat([part.reshape(-1) for part in by_input.split(widths, 1)]), inputs, outputs)


@intrinsic
def _active_bits(typing, x, at):
    """Which of the whole numbers of a vector from ``at`` on are not zero, as bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        body = Body(context, builder, signature, arguments)
        unequal = builder.icmp_unsigned("!=", body.load(*body.arguments), ir.Constant(body.vector, None))
        return builder.zext(builder.bitcast(unequal, ir.IntType(body.lanes)), ir.IntType(64))

    return types.uint64(x, at), generate


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _find(x, begin, end, index, value, e):
    """Append places and values of all that is not zero in ``begin … end``; returns how many there are now."""
    lanes = VECTOR // x.itemsize
    at = begin
    while at + lanes <= end:
        bits = _active_bits(x, at)
        while bits:
            place = at + lowest_bit(bits)
            index[e] = place - begin
            value[e] = x[place]
            e += 1
            bits &= bits - np.uint64(1)
        at += lanes
    while at < end:
        if x[at] != 0:
            index[e] = at - begin
            value[e] = x[at]
            e += 1
        at += 1
    return e


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _sums(x, inputs, rows, out, first, last):
    outputs = out.shape[1]
    block = max(1, _KEPT // max(inputs, 1))
    index, value = np.empty(block * inputs, np.uint32), np.empty(block * inputs, np.float32)
    begin, total = np.empty(block + 1, np.int64), np.empty(_TILE, np.float32)
    for top in range(first, last, block):
        bottom = min(top + block, last)
        begin[0] = 0
        for r in range(top, bottom):
            begin[r - top + 1] = _find(x, r * inputs, (r + 1) * inputs, index, value, begin[r - top])
        low, at = 0, 0
        while low < outputs:
            width = _TILE if low + _TILE <= -(-outputs // _LANES) * _LANES else _LANES
            held = min(width, outputs - low)
            for r in range(top, bottom):
                total[:width] = 0
                if width == _TILE:
                    add_rows(total, 0, rows, at, width, index, value, begin[r - top], begin[r - top + 1])
                else:
                    add_rows_narrow(total, 0, rows, at, width, index, value, begin[r - top], begin[r - top + 1])
                for j in range(held):
                    out[r, low + j] = total[j]
            at += inputs * width
            low += width


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _totals(x, out, first, last):
    """``out += Σ_r |x[r]|`` over columns ``first … last``."""
    for r in range(x.shape[0]):
        row, total = x[r, first:last], out[first:last]
        for j in range(len(row)):
            total[j] += abs(np.int64(row[j]))


def sums(x: Tensor, weight: ByInput) -> Tensor:
    """``X Wᵀ``, float32 ``[R, N]``, of contiguous whole numbers ``x [R, K]`` on the CPU, of any whole dtype."""
    out = torch.empty(len(x), weight.outputs)
    arrays = x.numpy().reshape(-1), weight.inputs, weight.rows.numpy(), out.numpy()
    split(lambda first, last: _sums(*arrays, first, last), len(x), _GRAIN)
    return out


def totals(x: Tensor) -> Tensor:
    """``Σ_r |x[r, :]|``, int64 ``[K]``, of contiguous whole numbers ``x [R, K]`` on the CPU."""
    out = torch.zeros(x.shape[1], dtype=torch.int64)
    arrays = x.numpy(), out.numpy()
    split(lambda first, last: _totals(*arrays, first, last), x.shape[1], _COLUMNS)
    return out
