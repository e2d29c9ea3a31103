"""Work on single vectors that compilers do not find in scalar loops: bits, sums, transposes, windows of max-pooling."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from spikelfp.kernels.events.conv_vectors import VECTOR, Body


def _bits(body: Body, at: Any) -> Any:
    """Which lanes of the vector at ``at`` of the first argument are not zero, as an integer of 64 bits."""
    unequal = body.builder.fcmp_unordered("!=", body.load(body.arguments[0], at), ir.Constant(body.vector, None))
    return body.builder.zext(body.builder.bitcast(unequal, ir.IntType(body.lanes)), ir.IntType(64))


@intrinsic
def nonzero_bits(typing, x, at):
    """Which of the elements of a vector from ``at`` on are not zero (NaN is not), as bits."""

    def generate(context, builder, signature, arguments):
        body = Body(context, builder, signature, arguments)
        return _bits(body, body.arguments[1])

    return types.uint64(x, at), generate


@intrinsic
def nonzero_count(typing, x, at):
    """How many of the elements of a vector from ``at`` on are not zero."""

    def generate(context, builder, signature, arguments):
        body = Body(context, builder, signature, arguments)
        return builder.ctpop(_bits(body, body.arguments[1]))

    return types.intp(x, at), generate


@intrinsic
def lowest_bit(typing, bits):
    """Index of the lowest bit that is set."""

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
    """Sum of the elements of a vector from ``at`` on, in pairs."""

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
    """``target[j, i] = source[i, j]`` for a square of a vector of vectors; pitch: from row to row."""

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
        """Loops over the positions, row by row: where each begins, and its number in all lanes of a vector."""
        builder, element = self.body.builder, self.whole.element
        number = cgutils.alloca_once_value(builder, ir.Constant(element, 0))
        with cgutils.for_range(builder, self.side) as row:
            begin = builder.add(self.corner, builder.mul(row.index, self.line))
            with cgutils.for_range(builder, self.side) as column:
                place = builder.add(begin, builder.mul(column.index, self.pitch))
                yield place, self.body.everywhere(builder.load(number), self.whole)
                builder.store(builder.add(builder.load(number), ir.Constant(element, 1)), number)

    def winners(self, array: Any, at: Any) -> Any:
        """Address of a vector of bytes."""
        small = ir.VectorType(ir.IntType(8), self.body.lanes)
        return self.body.builder.bitcast(self.body.builder.gep(array, [at]), small.as_pointer())


@intrinsic
def pool_window(typing, source, corner, pitch, line, side, best, best_at, winners, winners_at):
    """The largest of a window to ``best``, its offset to ``winners``; the first of equals, but NaN before all."""

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
    """Each of ``values`` to its winner in a window of ``target``, 0 to the other places."""

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
