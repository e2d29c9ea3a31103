"""Events taken from sparse tensors against those found in dense ones, and the products made of them."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from spikelfp.errors import ShapeError
from spikelfp.functional.sequence import chosen, compact, merged, sample_slice, time_slice
from spikelfp.kernels import choice
from spikelfp.kernels.events import linear as products
from spikelfp.kernels.events.conv import conv_choice, convolve
from spikelfp.kernels.events.conv_kernels import Steps, image_events
from spikelfp.kernels.events.linear import events_of
from spikelfp.kernels.events.sparse import merge, sparse_average, sparse_images, sparse_rows


@pytest.fixture(autouse=True)
def _compiled(monkeypatch):
    """Event-driven products are compiled, whatever kernels the other tests are told to use."""
    monkeypatch.setenv("SPIKELFP_KERNELS", "auto")


def random(shape, density=0.1, dtype=torch.float64):
    return torch.randn(shape, dtype=dtype) * (torch.rand(shape) < density)


def never_dense(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("a sparse tensor was made dense")

    monkeypatch.setattr(torch.Tensor, "to_dense", refuse)


def assert_same_sparse(found, expected):
    assert found.is_coalesced()
    assert (found.values() != 0).all()
    torch._validate_sparse_coo_tensor_args(found.indices(), found.values(), found.shape, True)
    assert torch.equal(found.to_dense(), expected)


SHAPES = st.lists(st.integers(0, 5), min_size=3, max_size=5)


@settings(max_examples=60, deadline=None)
@given(shape=SHAPES, density=st.floats(0, 1), data=st.data())
def test_index_arithmetic_is_that_of_dense_tensors(shape, density, data):
    x = random(shape, density)
    sparse = x.to_sparse()
    start = data.draw(st.integers(0, len(shape) - 1))
    end = data.draw(st.integers(start, len(shape) - 1))
    for way in (merge, merged):
        assert_same_sparse(way(sparse, start, end), x.flatten(start, end))
    low, high = (data.draw(st.none() | st.integers(-7, 7)) for _ in range(2))
    for part in (time_slice, sample_slice):
        assert_same_sparse(part(sparse, low, high), part(x, low, high))
    assert torch.equal(time_slice(x, low, high), x[low:high])
    assert torch.equal(sample_slice(x, low, high), x[:, low:high])


def test_slices_of_what_is_not_coalesced():
    indices = torch.tensor([[2, 0, 2], [1, 0, 1], [3, 2, 3]])
    x = torch.sparse_coo_tensor(indices, torch.tensor([1.0, 2.0, 4.0]), (3, 2, 5), check_invariants=True)
    for part in (time_slice, sample_slice):
        assert_same_sparse(part(x, 1, None), part(x.to_dense(), 1, None))


def test_entries_of_zero_are_dropped():
    x = random((4, 3, 6), 0.5).to_sparse()
    assert compact(x) is x
    some = torch.arange(x._nnz()) % 2 == 0
    holed = torch.sparse_coo_tensor(x.indices(), x.values() * some, x.shape, check_invariants=True)
    assert_same_sparse(compact(holed), chosen(x, some).to_dense())


@settings(max_examples=40, deadline=None)
@given(shape=SHAPES, density=st.floats(0, 1), double=st.booleans())
def test_rows_are_those_of_the_dense_matrix(shape, density, double):
    x = random((*shape[:-1], shape[-1] + 1), density, torch.float64 if double else torch.float32)
    events = sparse_rows(x.to_sparse())
    expected = events_of(x.flatten(0, -2), 1.0)
    assert [part.dtype for part in events] == [part.dtype for part in expected]
    assert events.total == expected.total == int(x.count_nonzero())
    for r in range(len(expected.begin)):
        own, other = (slice(int(e.begin[r]), int(e.end[r])) for e in (events, expected))
        assert torch.equal(events.column[own], expected.column[other])
        assert torch.equal(events.value[own], expected.value[other])


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(0, 5), channels=st.integers(1, 5), height=st.integers(1, 9), width=st.integers(1, 9),
    density=st.floats(0, 1), double=st.booleans(),
)  # fmt: skip
def test_images_are_those_of_the_dense_ones(count, channels, height, width, density, double):
    x = random((count, channels, height, width), density, torch.float64 if double else torch.float32)
    for found, expected in zip(sparse_images(x.to_sparse()), image_events(x, 1.0), strict=True):
        assert found.dtype == expected.dtype
        assert torch.equal(found.view(expected.shape), expected)


@pytest.mark.parametrize("threads", [1, 3])
def test_images_by_any_number_of_threads(threads):
    x = random((300, 2, 34, 34), 0.05, torch.float32)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = sparse_images(x.to_sparse())
    finally:
        torch.set_num_threads(before)
    for part, expected in zip(found, image_events(x, 1.0), strict=True):
        assert torch.equal(part, expected)


def test_indices_may_lie_in_memory_in_any_way():
    x = random((3, 2, 4, 5), 0.4)
    indices = x.to_sparse().indices().t().contiguous().t()
    assert not indices.is_contiguous()
    sparse = torch.sparse_coo_tensor(indices, x.to_sparse().values(), x.shape, is_coalesced=True, check_invariants=True)
    for found, expected in zip(sparse_images(sparse), image_events(x, 1.0), strict=True):
        assert torch.equal(found, expected)
    rows = sparse_rows(sparse)
    assert torch.equal(rows.column, events_of(x.flatten(0, 2), 1.0).column[: rows.total])
    assert_same_sparse(sparse_average(sparse, (2, 2), 4), F.avg_pool2d(x, 2))
    assert_same_sparse(time_slice(sparse, 1, 3), x[1:3])
    assert_same_sparse(merge(sparse, 1, 2), x.flatten(1, 2))


@pytest.mark.parametrize("places", [[0, 5, 2], [0, -1, 2]])
@pytest.mark.parametrize("axis", [0, 1, 2, 3])
def test_indices_outside_of_the_shape_are_refused(axis, places):
    """Far behind the first ones: indices are looked at in blocks."""
    indices = torch.zeros(4, 5000, dtype=torch.int64)
    indices[axis, 3000:3003] = torch.tensor(places)
    x = torch.sparse_coo_tensor(
        indices, torch.ones(5000), (5, 5, 5, 5), is_coalesced=True, check_invariants=False
    )  # not sorted either, which must do no harm
    bounds = (0, 5) if max(places) == 5 else (-1, 2)
    for way in (
        lambda: merge(x, 0, 1), lambda: merge(x, 1, 3), lambda: sparse_rows(x), lambda: sparse_average(x, (2, 2), 4),
    ):  # fmt: skip
        with pytest.raises(ShapeError, match=f"axis {axis} run from {bounds[0]} to {bounds[1]}"):
            way()


def test_many_entries_are_worked_on_in_blocks():
    x = random((10, 7, 30, 40), 0.5, torch.float32)
    sparse = x.to_sparse()
    assert sparse._nnz() > 4 * 2048
    for start, end in ((0, 0), (0, 1), (1, 2), (2, 3), (0, 3)):
        assert_same_sparse(merge(sparse, start, end), x.flatten(start, end))
    events, expected = sparse_rows(sparse), events_of(x.flatten(0, 2), 1.0)
    assert torch.equal(events.end - events.begin, expected.end - expected.begin)
    found = torch.zeros_like(x).flatten(0, 2)
    rows = torch.arange(len(found)).repeat_interleave(events.end - events.begin)
    found[rows, events.column.long()] = events.value
    assert torch.equal(found, x.flatten(0, 2))


def test_values_that_are_not_finite_are_events():
    x = torch.zeros(2, 1, 3, 3)
    x[0, 0, 1, 1], x[1, 0, 2, 2] = float("nan"), float("inf")
    events = sparse_images(compact(x.to_sparse()))
    assert events.keys.tolist() == [1, 2]
    assert events.values[0].isnan()
    assert events.values[1] == float("inf")


def both_ways(product, x, leaves, message):
    """Output and gradients of the ``leaves``, from the dense and from the sparse input."""
    results = []
    for given_ in (x, x.to_sparse()):
        y = product(given_)
        results.append((y.detach(), *torch.autograd.grad(y, leaves, message[: y.numel()].view_as(y))))
    return results


@pytest.mark.parametrize("density", [0.0, 0.05, 1.0])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (13, 10, 9, 10), (7, 100, 33, 520), (5, 13, 300, 257)])
def test_dense_layers_give_the_same_bits(monkeypatch, shape, bias, density):
    monkeypatch.setenv(choice.EVENTS, "always")
    steps, batch, inputs, outputs = shape
    x = random((steps, batch, inputs), density, torch.float32)
    weight, offsets = torch.randn(outputs, inputs, requires_grad=True), torch.randn(outputs, requires_grad=True)
    used = products.linear_choice()
    leaves = (weight, offsets) if bias else (weight,)
    message = torch.randn(steps * batch * outputs)
    found = both_ways(lambda x: products.linear(x, weight, offsets if bias else None, used), x, leaves, message)
    assert used.events
    for dense, sparse in zip(*found, strict=True):
        assert torch.equal(sparse, dense)
    slow = F.linear(x, weight, offsets if bias else None)
    torch.testing.assert_close(found[1][0], slow, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("density", [0.0, 0.05, 1.0])
@pytest.mark.parametrize(
    ("shape", "kernel", "outputs", "steps", "pool"),
    [
        ((40, 2, 34, 34), (5, 5), 12, Steps(), 2),
        ((5, 3, 9, 11), (3, 2), 70, Steps(padding=(1, 0)), 1),
        ((4, 5, 13, 11), (3, 5), 35, Steps((2, 1), (2, 3)), 3),
    ],
)
def test_convolutions_give_the_same_bits(monkeypatch, shape, kernel, outputs, steps, pool, density):
    monkeypatch.setenv(choice.EVENTS, "always")
    x = random(shape, density, torch.float32)
    weight = torch.randn(outputs, shape[1], *kernel, requires_grad=True)
    bias = torch.randn(outputs, requires_grad=True)
    used = conv_choice()
    message = torch.randn(shape[0] * outputs * 60 * 60)
    found = both_ways(lambda x: convolve(x, weight, bias, used, steps, pool), x, (weight, bias), message)
    assert used.events
    for dense, sparse in zip(*found, strict=True):
        assert torch.equal(sparse, dense)
    slow = F.conv2d(x, weight, bias, *steps)
    slow = F.max_pool2d(slow, pool) if pool > 1 else slow
    torch.testing.assert_close(found[1][0], slow, rtol=1e-4, atol=1e-4)


def test_small_and_dense_inputs_are_not_made_dense_either(monkeypatch):
    never_dense(monkeypatch)
    x, weight = torch.rand(2, 1, 6).to_sparse(), torch.randn(3, 6, requires_grad=True)
    products.linear(x, weight, None, products.linear_choice()).sum().backward()
    images, kernel = torch.rand(2, 1, 6, 6).to_sparse(), torch.randn(3, 1, 2, 2, requires_grad=True)
    convolve(images, kernel, None, conv_choice()).sum().backward()
    assert weight.grad.any()
    assert kernel.grad.any()


WITHOUT_EVENTS = {
    "never": ((choice.EVENTS, "never"), Steps(), 1),
    "never, pooled": ((choice.EVENTS, "never"), Steps(), 2),
    "torch": (("SPIKELFP_KERNELS", "torch"), Steps(), 2),
    "dilated": ((choice.EVENTS, "auto"), Steps(dilation=(2, 2)), 1),
    "grouped": ((choice.EVENTS, "auto"), Steps(groups=2), 2),
}


@pytest.mark.parametrize("why", WITHOUT_EVENTS)
def test_without_event_driven_products_it_is_made_dense(monkeypatch, why):
    variable, steps, pool = WITHOUT_EVENTS[why]
    monkeypatch.setenv(*variable)
    x = random((30, 4, 20, 20), 0.1)
    weight = torch.randn(6, 4 // steps.groups, 3, 3, dtype=torch.float64, requires_grad=True)
    used = conv_choice()
    dense, sparse = both_ways(
        lambda x: convolve(x, weight, None, used, steps, pool), x, (weight,), torch.randn(99999).double()
    )
    assert not used.events
    for a, b in zip(dense, sparse, strict=True):
        assert torch.equal(a, b)
    if variable[1] != "auto":
        used = products.linear_choice()
        matrix = torch.randn(7, 400, dtype=torch.float64, requires_grad=True)
        flat = x.flatten(2)
        dense, sparse = both_ways(
            lambda x: products.linear(x, matrix, None, used), flat, (matrix,), torch.randn(9999).double()
        )
        assert not used.events
        for a, b in zip(dense, sparse, strict=True):
            assert torch.equal(a, b)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), density=st.floats(0, 1))
def test_average_pooling(data, density):
    windows = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))
    size = [window + data.draw(st.integers(0, 9)) for window in windows]
    x = random((3, 2, 2, *size), density)
    divisor = data.draw(st.sampled_from([windows[0] * windows[1], 1]))
    found = sparse_average(x.to_sparse(), windows, divisor)
    expected = F.avg_pool2d(x.flatten(0, 1), windows, divisor_override=divisor).unflatten(0, (3, 2))
    assert_same_sparse(found, found.to_dense())
    torch.testing.assert_close(found.to_dense(), expected, rtol=1e-12, atol=1e-12)


def test_average_pooling_drops_what_cancels_out():
    x = torch.tensor([[[[1.0, -1.0, 5.0], [0.0, 0.0, 5.0]]]]).to_sparse()
    assert sparse_average(x, (2, 2), 4)._nnz() == 0
