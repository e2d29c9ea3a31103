"""Sums of whole numbers: by events or dense, in whichever dtype, they are those of Python's own numbers."""

from __future__ import annotations

import pytest
import torch
from references import integer_chip
from references.integer_nets import dense, inputs, weights

from hw_export.integer import Arithmetic, IntegerSimulator
from hw_export.integer import numba_kernels as numba_rows
from hw_export.integer import stage as exact
from hw_export.integer.network import IntegerConv, IntegerDense, IntegerPool
from hw_export.integer.stage import Product, totals
from spikelfp.errors import UserError

CPU = torch.device("cpu")
DTYPES = (torch.float32, torch.float64, torch.int64)


@pytest.fixture(params=["torch", "numba"])
def kernels(request, monkeypatch):
    monkeypatch.setenv("SPIKELFP_KERNELS", request.param)
    return request.param


def drawn(*shape: int, low: int, high: int, density: float, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    values = torch.randint(low, high + 1, shape, generator=g)
    return values * (torch.rand(shape, generator=g) < density)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("density", [0.0, 0.05, 0.29, 1.0])
@pytest.mark.parametrize(("outputs", "inputs"), [(1, 1), (3, 70), (16, 64), (70, 129), (200, 33)])
@pytest.mark.parametrize("dtype", [torch.int8, torch.int32, torch.int64])
def test_dense_sums(density, outputs, inputs, dtype):
    g = torch.Generator().manual_seed(1)
    weight = weights(outputs, inputs, largest=127, generator=g)
    layer = IntegerDense("w", weight, torch.zeros(outputs, dtype=torch.int64))
    product = Product(layer, (inputs,), (outputs,), 8, CPU)
    x = drawn(37, inputs, low=-3, high=9, density=density)
    expected = x @ weight.long().t()
    for sums in DTYPES:
        found = product.sums(x.to(dtype), sums)
        assert found.dtype == sums
        assert torch.equal(found.long(), expected)


def test_events_of_many_rows_go_by_blocks():
    g = torch.Generator().manual_seed(1)
    weight = weights(80, 3000, largest=3, generator=g)
    x = drawn(150, 3000, low=0, high=1, density=0.2)
    found = numba_rows.sums(x.to(torch.int8), numba_rows.ByInput.of(weight))
    assert torch.equal(found.long(), x @ weight.long().t())


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("density", [0.05, 0.9])
@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "groups"),
    [
        ((1, 1), (0, 0), (1, 1), 1),
        ((2, 1), (1, 2), (1, 1), 1),
        ((1, 2), (2, 0), (2, 1), 1),
        ((1, 1), (1, 1), (1, 1), 2),
    ],
)
def test_convolutions(density, stride, padding, dilation, groups):
    g = torch.Generator().manual_seed(2)
    weight = weights(18, 4 // groups, 3, 2, largest=31, generator=g)
    layer = IntegerConv("c", weight, torch.zeros(18, dtype=torch.int64), stride, padding, dilation, groups)
    x = drawn(3, 4, 9, 8, low=-2, high=3, density=density)
    sizes = torch.nn.functional.conv2d(x.float(), weight.float(), None, stride, padding, dilation, groups).shape[2:]
    to = (18, *sizes)
    expected = [integer_chip.summed(layer, row, (4, 9, 8), to) for row in x.flatten(1).tolist()]
    product = Product(layer, (4, 9, 8), to, 8, CPU)
    for dtype in DTYPES:
        found = product.sums(x.to(torch.int8), dtype)
        assert found.shape == (3, *to)
        assert found.flatten(1).long().tolist() == expected
    operations = [integer_chip.reached(layer, row, (4, 9, 8), to) for row in x.flatten(1).tolist()]
    assert int((totals(x.to(torch.int8)) * product.reached()).sum()) == sum(operations)


@pytest.mark.parametrize("kind", ["sum", "max"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_pools(kind, dtype):
    layer = IntegerPool("p", kind, (2, 3), (1, 2))
    x = drawn(2, 3, 6, 8, low=-5, high=5, density=0.7)
    expected = [integer_chip.summed(layer, row, (3, 6, 8), (3, 5, 3)) for row in x.flatten(1).tolist()]
    assert exact.pooled(x.to(dtype), layer).flatten(1).long().tolist() == expected


@pytest.mark.parametrize(
    ("bound", "dtype"),
    [
        (2**24 - 1, torch.float32), (2**24, torch.float64), (2**53 - 1, torch.float64), (2**53, torch.int64),
        (2**62 - 1, torch.int64),
    ],
)  # fmt: skip
def test_the_cheapest_dtype_that_is_exact(bound, dtype):
    assert exact.dtype_for(bound, "w") == dtype
    with pytest.raises(UserError, match="'w' could reach"):
        exact.dtype_for(2**62, "w")


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("largest", [2**10, 2**23, 2**40, 2**52])
def test_inputs_of_any_size(largest):
    """Odd numbers whose sums need every bit that float32, or float64, does not have."""
    network = dense("immediate", 1.0)
    x = (drawn(3, 2, 9, low=-largest // 2, high=largest // 2, density=1.0) * 2 + 1).double()
    a = Arithmetic(48, decay="none", resets=frozenset({"immediate"}))
    run = IntegerSimulator(network, a).run(x)
    weight, bias = network.products[0].weight.tolist(), network.products[0].bias.tolist()
    for b in range(2):
        for n, (row, offset) in enumerate(zip(weight, bias, strict=True)):
            neuron = integer_chip.Neuron(a, "immediate", 1.0, 7, 1)
            for t in range(3):
                neuron.step(sum(w * int(v) for w, v in zip(row, x[t, b].tolist(), strict=True)), offset)
            assert run.states["n0"][b, n] == neuron.v


def test_sums_too_large_for_64_bits_are_refused():
    network = dense("zero", 0.9).with_parameters({"w0.weight": torch.full((11, 9), 2**30, dtype=torch.int32)})
    with pytest.raises(UserError, match="'w0' could reach"):
        IntegerSimulator(network).run(torch.full((1, 1, 9), 2**40))
    with pytest.raises(UserError, match="'n0' could reach"):  # in the state, shifted by 16 bits
        IntegerSimulator(network, Arithmetic(48, shift=16)).run(torch.full((1, 1, 9), 2**20))


def test_lower_precision_asked_for_elsewhere_does_not_matter():
    network, x = dense("zero", 0.9), inputs(6, (9,), 3, high=127)
    expected = IntegerSimulator(network).run(x)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with torch.autocast("cpu", torch.bfloat16):
            found = IntegerSimulator(network).run(x)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    for name, state in found.states.items():
        assert torch.equal(state, expected.states[name])


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("dtype", [torch.int8, torch.int32, torch.int64, torch.float32])
def test_totals(dtype):
    x = drawn(11, 4, 5, low=-128, high=127, density=0.5)
    assert torch.equal(totals(x.to(dtype)), x.abs().sum(0))
