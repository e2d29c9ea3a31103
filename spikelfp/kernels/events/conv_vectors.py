"""Loops over rows of weights, written in LLVM's own vectors.

A row is taken as a few vectors of 64 bytes that stay in registers while a range of events goes by. From a scalar loop
compilers do not find that: they read and write the sum in memory once for every few events. LLVM lowers the vectors
to whatever the processor has.

In each, event ``i`` of ``first … last`` has the row of ``rows`` that begins at ``rows_at + keys[i] · pitch``. Arrays
are flat, offsets count elements. The ``_narrow`` ones take rows of one vector, the others of :data:`WIDE`.
"""

from __future__ import annotations

from typing import Any

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
    """The code of one loop in the making: its arguments, arrays as pointers to their data, and what it does to them."""

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
        """A vector of ``scalar``."""
        number, nothing = ir.IntType(32), ir.Constant(vector or self.vector, ir.Undefined)
        one = self.builder.insert_element(nothing, scalar, ir.Constant(number, 0))
        return self.builder.shuffle_vector(one, nothing, ir.Constant(ir.VectorType(number, self.lanes), None))

    def plus_product(self, total: Any, a: Any, b: Any) -> Any:
        """``total + a b``, rounded once where the processor can."""
        once = ("contract",)
        return self.builder.fadd(total, self.builder.fmul(a, b, flags=once), flags=once)

    def row_of(self, keys: Any, event: Any, rows_at: Any, pitch: Any) -> Any:
        key = self.builder.zext(self.element(keys, event), self.index)
        return self.builder.add(rows_at, self.builder.mul(key, pitch))

    def events(self, first: Any, last: Any) -> Any:
        return cgutils.for_range_slice(self.builder, first, last, ir.Constant(self.index, 1), inc=True)


def _add_rows(parts: int) -> Any:
    @intrinsic
    def add_rows(typing, total, total_at, rows, rows_at, pitch, keys, values, first, last):
        """``total += Σ value · row``."""

        def generate(context, builder, signature, arguments):
            body = Body(context, builder, signature, arguments)
            total, total_at, rows, rows_at, pitch, keys, values, first, last = body.arguments
            sums = [cgutils.alloca_once_value(builder, body.load(total, total_at, part)) for part in range(parts)]
            with body.events(first, last) as (event, _):
                at = body.row_of(keys, event, rows_at, pitch)
                value = body.everywhere(body.element(values, event))
                for part, held in enumerate(sums):
                    builder.store(body.plus_product(builder.load(held), value, body.load(rows, at, part)), held)
            for part, held in enumerate(sums):
                body.store(builder.load(held), total, total_at, part)
            return context.get_dummy_value()

        return types.void(total, total_at, rows, rows_at, pitch, keys, values, first, last), generate

    return add_rows


def _spread_row(parts: int) -> Any:
    @intrinsic
    def spread_row(typing, source, source_at, rows, rows_at, pitch, keys, values, first, last):
        """``row += value · source`` for each event."""

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
        """``sums[event − origin] += row · source``, each sum a vector whose lanes are still to be added up."""

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


add_rows, add_rows_narrow = _add_rows(WIDE), _add_rows(1)
spread_row, spread_row_narrow = _spread_row(WIDE), _spread_row(1)
dot_rows, dot_rows_narrow = _dot_rows(WIDE), _dot_rows(1)
