"""Loops over rows of weights, and operations on single vectors, written in LLVM's vector types.

A row is taken as a few vectors of 64 bytes, which stay in registers during the loop over events. Compilers do not do
this with a scalar loop: they read and write the sum in memory again every few events. LLVM translates the vectors to
those of the processor.

In the loops over events, event ``i`` of ``first … last`` has the row of ``rows`` that begins at
``rows_at + keys[i] · pitch``. Arrays are flat, and offsets count elements. Functions named ``_narrow`` take rows of
one vector, the others rows of :data:`WIDE` vectors.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

VECTOR = 64
"""Bytes of a vector."""
WIDE = 4
"""Vectors of a row taken at once: enough to hide the latency of a sum, few enough for the registers."""


class Body:
    """Code of one loop under construction: its arguments (arrays as pointers to their data) and operations on them."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Any) -> None:
        self.builder = builder
        self.arguments = [
            make_array(kind)(context, builder, value).data if isinstance(kind, types.Array) else value
            for kind, value in zip(signature.args, arguments, strict=True)
        ]
        element = signature.args[0].dtype
        self.size = element.bitwidth // 8
        self.lanes = VECTOR // self.size
        self.vector = ir.VectorType(context.get_value_type(element), self.lanes)
        self.index = context.get_value_type(types.intp)

    def _address(self, array: Any, at: Any, part: int) -> Any:
        at = self.builder.add(at, ir.Constant(self.index, part * self.lanes))
        return self.builder.bitcast(self.builder.gep(array, [at]), self.vector.as_pointer())

    def load(self, array: Any, at: Any, part: int = 0) -> Any:
        return self.builder.load(self._address(array, at, part), align=self.size)

    def store(self, value: Any, array: Any, at: Any, part: int = 0) -> None:
        self.builder.store(value, self._address(array, at, part), align=self.size)

    def element(self, array: Any, at: Any) -> Any:
        return self.builder.load(self.builder.gep(array, [at]))

    def everywhere(self, scalar: Any, vector: Any = None) -> Any:
        """Make a vector of ``scalar``."""
        number, nothing = ir.IntType(32), ir.Constant(vector or self.vector, ir.Undefined)
        one = self.builder.insert_element(nothing, scalar, ir.Constant(number, 0))
        return self.builder.shuffle_vector(one, nothing, ir.Constant(ir.VectorType(number, self.lanes), None))

    def plus_product(self, total: Any, a: Any, b: Any) -> Any:
        """Compute ``total + a b``, rounded once where the processor can."""
        fused = ("contract",)
        return self.builder.fadd(total, self.builder.fmul(a, b, flags=fused), flags=fused)

    def row_of(self, keys: Any, event: Any, rows_at: Any, pitch: Any) -> Any:
        key = self.builder.zext(self.element(keys, event), self.index)
        return self.builder.add(rows_at, self.builder.mul(key, pitch))

    def events(self, first: Any, last: Any) -> Any:
        return cgutils.for_range_slice(self.builder, first, last, ir.Constant(self.index, 1), inc=True)


def _weighted_rows(parts: int) -> Any:
    @intrinsic
    def weighted_rows(typing, source, source_at, total, total_at, rows, rows_at, pitch, keys, values, first, last):
        """Set ``total = source + Σ value · row``; both may be the same memory."""

        def generate(context, builder, signature, arguments):
            body = Body(context, builder, signature, arguments)
            source, source_at, total, total_at, rows, rows_at, pitch, keys, values, first, last = body.arguments
            sums = [cgutils.alloca_once_value(builder, body.load(source, source_at, part)) for part in range(parts)]
            with body.events(first, last) as (event, _):
                at = body.row_of(keys, event, rows_at, pitch)
                value = body.everywhere(body.element(values, event))
                for part, held in enumerate(sums):
                    builder.store(body.plus_product(builder.load(held), value, body.load(rows, at, part)), held)
            for part, held in enumerate(sums):
                body.store(builder.load(held), total, total_at, part)
            return context.get_dummy_value()

        arrays = (source, source_at, total, total_at, rows, rows_at, pitch, keys, values, first, last)
        return types.void(*arrays), generate

    return weighted_rows


def _spread_row(parts: int) -> Any:
    @intrinsic
    def spread_row(typing, source, source_at, rows, rows_at, pitch, keys, values, first, last):
        """Add ``value · source`` to the row of each event."""

        def generate(context, builder, signature, arguments):
            body = Body(context, builder, signature, arguments)
            source, source_at, rows, rows_at, pitch, keys, values, first, last = body.arguments
            held = [body.load(source, source_at, part) for part in range(parts)]
            with body.events(first, last) as (event, _):
                at = body.row_of(keys, event, rows_at, pitch)
                value = body.everywhere(body.element(values, event))
                for part, vector in enumerate(held):
                    body.store(body.plus_product(body.load(rows, at, part), value, vector), rows, at, part)
            return context.get_dummy_value()

        return types.void(source, source_at, rows, rows_at, pitch, keys, values, first, last), generate

    return spread_row


def _dot_rows(parts: int) -> Any:
    @intrinsic
    def dot_rows(typing, source, source_at, rows, rows_at, pitch, keys, sums, origin, first, last):
        """Add ``row · source`` to ``sums[event − origin]``; the lanes of each sum are still to be added up."""

        def generate(context, builder, signature, arguments):
            body = Body(context, builder, signature, arguments)
            source, source_at, rows, rows_at, pitch, keys, sums, origin, first, last = body.arguments
            held = [body.load(source, source_at, part) for part in range(parts)]
            with body.events(first, last) as (event, _):
                at = body.row_of(keys, event, rows_at, pitch)
                own = builder.mul(builder.sub(event, origin), ir.Constant(body.index, body.lanes))
                product = ir.Constant(body.vector, None)
                for part, vector in enumerate(held):
                    product = body.plus_product(product, vector, body.load(rows, at, part))
                total = builder.fadd(body.load(sums, own), product)  # last: the sum may just have been stored
                body.store(total, sums, own)
            return context.get_dummy_value()

        return types.void(source, source_at, rows, rows_at, pitch, keys, sums, origin, first, last), generate

    return dot_rows


weighted_rows, weighted_rows_narrow = _weighted_rows(WIDE), _weighted_rows(1)
spread_row, spread_row_narrow = _spread_row(WIDE), _spread_row(1)
dot_rows, dot_rows_narrow = _dot_rows(WIDE), _dot_rows(1)


def _bits(body: Body, at: Any) -> Any:
    """Return the lanes of the vector at ``at`` of the first argument that are not zero, as bits of an integer."""
    unequal = body.builder.fcmp_unordered("!=", body.load(body.arguments[0], at), ir.Constant(body.vector, None))
    return body.builder.zext(body.builder.bitcast(unequal, ir.IntType(body.lanes)), ir.IntType(64))


@intrinsic
def nonzero_bits(typing, x, at):
    """Return the elements of the vector from ``at`` on that are not zero (NaN is not), as bits."""

    def generate(context, builder, signature, arguments):
        body = Body(context, builder, signature, arguments)
        return _bits(body, body.arguments[1])

    return types.uint64(x, at), generate


@intrinsic
def nonzero_count(typing, x, at):
    """Count the elements of the vector from ``at`` on that are not zero."""

    def generate(context, builder, signature, arguments):
        body = Body(context, builder, signature, arguments)
        return builder.ctpop(_bits(body, body.arguments[1]))

    return types.intp(x, at), generate


@intrinsic
def lowest_bit(typing, bits):
    """Return the index of the lowest bit that is set."""

    def generate(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.intp(types.uint64), generate


@intrinsic
def move(typing, source, at, target, target_at):
    """Copy a vector."""

    def generate(context, builder, signature, arguments):
        body = Body(context, builder, signature, arguments)
        source, at, target, target_at = body.arguments
        body.store(body.load(source, at), target, target_at)
        return context.get_dummy_value()

    return types.void(source, at, target, target_at), generate


@intrinsic
def blank(typing, target, at):
    """Set a vector to 0."""

    def generate(context, builder, signature, arguments):
        body = Body(context, builder, signature, arguments)
        body.store(ir.Constant(body.vector, None), *body.arguments)
        return context.get_dummy_value()

    return types.void(target, at), generate


@intrinsic
def lane_sum(typing, x, at):
    """Sum the elements of the vector from ``at`` on, in pairs."""

    def generate(context, builder, signature, arguments):
        body = Body(context, builder, signature, arguments)
        total, half = body.load(*body.arguments), body.lanes // 2
        while half:
            number = ir.VectorType(ir.IntType(32), half)
            low, high = (ir.Constant(number, list(range(start, start + half))) for start in (0, half))
            total = builder.fadd(builder.shuffle_vector(total, total, low), builder.shuffle_vector(total, total, high))
            half //= 2
        return builder.extract_element(total, ir.Constant(ir.IntType(32), 0))

    return x.dtype(x, at), generate


@intrinsic
def transpose_square(typing, source, at, pitch, target, target_at, target_pitch):
    """Set ``target[j, i] = source[i, j]`` for a square of as many vectors as lanes; a pitch leads from row to row."""

    def generate(context, builder, signature, arguments):
        body = Body(context, builder, signature, arguments)
        source, at, pitch, target, target_at, target_pitch = body.arguments
        lanes = range(body.lanes)
        row = [body.load(source, builder.add(at, builder.mul(pitch, ir.Constant(body.index, i)))) for i in lanes]
        number, step = ir.VectorType(ir.IntType(32), body.lanes), 1
        while step < body.lanes:  # swap the two off-diagonal blocks of every square of 2 step × 2 step
            low = ir.Constant(number, [lane if not lane & step else lane - step + body.lanes for lane in lanes])
            high = ir.Constant(number, [lane + step if not lane & step else lane + body.lanes for lane in lanes])
            for i in lanes:
                if not i & step:
                    a, b = row[i], row[i + step]
                    row[i], row[i + step] = builder.shuffle_vector(a, b, low), builder.shuffle_vector(a, b, high)
            step *= 2
        for j in lanes:
            body.store(row[j], target, builder.add(target_at, builder.mul(target_pitch, ir.Constant(body.index, j))))
        return context.get_dummy_value()

    return types.void(source, at, pitch, target, target_at, target_pitch), generate


class _Window:
    """A square of positions: ``side`` by ``side``, ``pitch`` elements apart in a row, ``line`` from row to row."""

    def __init__(self, body: Body, corner: Any, pitch: Any, line: Any, side: Any) -> None:
        self.body, self.corner, self.pitch, self.line, self.side = body, corner, pitch, line, side
        self.whole = ir.VectorType(ir.IntType(8 * body.size), body.lanes)

    @contextmanager
    def places(self) -> Iterator[tuple[Any, Any]]:
        """Loop over the positions, row by row: the place of each, and its number in all lanes of a vector."""
        builder, element = self.body.builder, self.whole.element
        number = cgutils.alloca_once_value(builder, ir.Constant(element, 0))
        with cgutils.for_range(builder, self.side) as row:
            begin = builder.add(self.corner, builder.mul(row.index, self.line))
            with cgutils.for_range(builder, self.side) as column:
                place = builder.add(begin, builder.mul(column.index, self.pitch))
                yield place, self.body.everywhere(builder.load(number), self.whole)
                builder.store(builder.add(builder.load(number), ir.Constant(element, 1)), number)

    def winners(self, array: Any, at: Any) -> Any:
        """Return the address of a vector of bytes."""
        small = ir.VectorType(ir.IntType(8), self.body.lanes)
        return self.body.builder.bitcast(self.body.builder.gep(array, [at]), small.as_pointer())


@intrinsic
def pool_window(typing, source, corner, pitch, line, side, best, best_at, winners, winners_at):
    """Write the largest value of a window to ``best``, its offset to ``winners``; the first of equals, NaN over all."""

    def generate(context, builder, signature, arguments):
        body = Body(context, builder, signature, arguments)
        source, corner, pitch, line, side, best, best_at, winners, winners_at = body.arguments
        window = _Window(body, corner, pitch, line, side)
        largest = cgutils.alloca_once_value(builder, body.load(source, corner))
        which = cgutils.alloca_once_value(builder, ir.Constant(window.whole, None))
        with window.places() as (place, number):
            value, before = body.load(source, place), builder.load(largest)
            better = builder.or_(builder.fcmp_ordered(">", value, before), builder.fcmp_unordered("uno", value, value))
            builder.store(builder.select(better, value, before), largest)
            builder.store(builder.select(better, number, builder.load(which)), which)
        body.store(builder.load(largest), best, best_at)
        address = window.winners(winners, winners_at)
        builder.store(builder.trunc(builder.load(which), address.type.pointee), address, align=1)
        return context.get_dummy_value()

    signature = types.void(source, corner, pitch, line, side, best, best_at, winners, winners_at)
    return signature, generate


@intrinsic
def unpool_window(typing, target, corner, pitch, line, side, values, values_at, winners, winners_at):
    """Write each of ``values`` to its winner in a window of ``target``, 0 to the other places."""

    def generate(context, builder, signature, arguments):
        body = Body(context, builder, signature, arguments)
        target, corner, pitch, line, side, values, values_at, winners, winners_at = body.arguments
        window = _Window(body, corner, pitch, line, side)
        value = body.load(values, values_at)
        which = builder.zext(builder.load(window.winners(winners, winners_at), align=1), window.whole)
        with window.places() as (place, number):
            won = builder.icmp_unsigned("==", which, number)
            body.store(builder.select(won, value, ir.Constant(body.vector, None)), target, place)
        return context.get_dummy_value()

    signature = types.void(target, corner, pitch, line, side, values, values_at, winners, winners_at)
    return signature, generate


@numba.njit(nogil=True, cache=True, error_model="numpy")
def clear(target, begin, end):
    """Set ``begin … end`` to 0."""
    lanes = VECTOR // target.itemsize
    while begin + lanes <= end:
        blank(target, begin)
        begin += lanes
    for i in range(begin, end):
        target[i] = 0


@numba.njit(nogil=True, cache=True, error_model="numpy")
def aligned(like, size):
    """Allocate a flat array of ``size`` elements that begins at a cache line, so that a vector needs one load."""
    memory = np.empty(size + VECTOR // like.itemsize, like.dtype)
    at = -memory.ctypes.data % VECTOR // like.itemsize
    return memory[at : at + size]


@numba.njit(nogil=True, cache=True, error_model="numpy", forceinline=True)
def row_sum(source, source_at, total, total_at, width, rows, rows_at, pitch, keys, values, first, last, scratch):
    """Set ``total = source + Σ value · row``, of ``width`` elements, in the order of the events ``first … last``.

    Arrays are flat. The last vector of ``source`` and ``rows`` is read whole; only ``width`` elements of ``total`` are
    written. ``scratch`` is memory for one vector.
    """
    lanes = VECTOR // total.itemsize
    part = 0
    while part + WIDE * lanes <= width:
        weighted_rows(
            source, source_at + part, total, total_at + part, rows, rows_at + part, pitch, keys, values, first, last
        )
        part += WIDE * lanes
    while part + lanes <= width:
        weighted_rows_narrow(
            source, source_at + part, total, total_at + part, rows, rows_at + part, pitch, keys, values, first, last
        )
        part += lanes
    if part < width:
        weighted_rows_narrow(
            source, source_at + part, scratch, 0, rows, rows_at + part, pitch, keys, values, first, last
        )
        for j in range(width - part):
            total[total_at + part + j] = scratch[j]


def padded(width: int, itemsize: int) -> int:
    """Round ``width`` up to whole vectors."""
    lanes = VECTOR // itemsize
    return -(-width // lanes) * lanes
