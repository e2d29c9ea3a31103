"""Convolutions by events and in blocks, with the pooling behind them, against torch's own and autograd."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from spikelfp.kernels import choice
from spikelfp.kernels.events import conv as conv_dense
from spikelfp.kernels.events import conv as convolve
from spikelfp.kernels.events import conv_kernels as conv_shape
from spikelfp.kernels.events.conv import conv_choice
from spikelfp.kernels.events.conv_kernels import Steps, image_events


@pytest.fixture(autouse=True)
def _compiled(monkeypatch):
    """Event-driven products are compiled, whatever kernels the other tests are told to use."""
    monkeypatch.setenv("SPIKELFP_KERNELS", "auto")


WAYS = {"always": "EventConvolutionBackward", "never": "BlockedConvolutionBackward"}


@pytest.fixture(autouse=True)
def _nothing_is_small(monkeypatch):
    monkeypatch.setattr(convolve, "_SMALLEST", 0)


def sparse(shape, density, dtype=torch.float64):
    return torch.randn(shape, dtype=dtype) * (torch.rand(shape) < density)


def slow(x, weight, bias, steps, pool):
    out = F.conv2d(x, weight, bias, *steps)
    return F.max_pool2d(out, pool) if pool > 1 else out


def check(x, kernel, outputs, steps=Steps(), pool=1, active_only=False, node=None, tolerance=1e-12, bias=True):  # noqa: B008
    """The output and all gradients of one convolution, computed both ways."""
    weight = torch.randn(outputs, x.shape[1] // steps.groups, *kernel, dtype=x.dtype)
    leaves = [x, weight] + [torch.randn(outputs, dtype=x.dtype)] * bias
    for leaf in leaves:
        leaf.requires_grad_()
    arguments = (*leaves, *[None] * (not bias))
    expected = slow(*arguments, steps, pool)
    used = conv_choice()
    out = convolve.convolve(*arguments, used, steps, pool, active_only)
    if node is not None:
        assert type(out.grad_fn).__name__ == node
    scale = max(1.0, expected.abs().max().item()) if expected.numel() else 1.0
    torch.testing.assert_close(out, expected, rtol=tolerance, atol=tolerance * scale)
    message = torch.randn_like(expected)
    wanted, got = (torch.autograd.grad(result, leaves, message) for result in (expected, out))
    if active_only and used.events:
        wanted = (wanted[0] * (x != 0), *wanted[1:])
    for a, b in zip(got, wanted, strict=True):
        assert a.shape == b.shape
        scale = max(1.0, b.abs().max().item())
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance * scale)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("active_only", [False, True])
@pytest.mark.parametrize("density", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("shape", "kernel", "outputs", "steps", "pool"),
    [
        ((40, 12, 12, 12), (5, 5), 64, Steps(), 2),
        ((3, 1, 28, 28), (5, 5), 12, Steps(), 2),
        ((5, 3, 9, 11), (3, 2), 70, Steps(padding=(1, 0)), 2),
        ((4, 5, 13, 11), (3, 5), 35, Steps((2, 1), (2, 3)), 3),
        ((2, 2, 44, 45), (4, 4), 33, Steps(padding=(3, 3)), 4),  # several bands of rows
    ],
)
def test_with_pooling(monkeypatch, shape, kernel, outputs, steps, pool, layout, density, active_only, way):
    monkeypatch.setenv(choice.EVENTS, way)
    x = sparse(shape, density).contiguous(memory_format=layout)
    check(x, kernel, outputs, steps, pool, active_only, WAYS[way])


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_by_events_of_any_shape(data):
    def number(low, high):
        return data.draw(st.integers(low, high))

    kernel = (number(1, 5), number(1, 5))
    shape = (number(1, 4), number(1, 6), number(kernel[0], 14), number(kernel[1], 14))
    steps = Steps((number(1, 3), number(1, 3)), (number(0, 2), number(0, 2)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(choice.EVENTS, "always")
        patch.setattr(convolve, "_SMALLEST", 0)
        x = sparse(shape, data.draw(st.floats(0, 1)))
        fits = min(F.conv2d(x, x.new_zeros(1, shape[1], *kernel), None, *steps).shape[2:])
        check(
            x, kernel, number(1, 40), steps, number(1, min(fits, 3)), data.draw(st.booleans()),
            "EventConvolutionBackward", bias=data.draw(st.booleans()),
        )  # fmt: skip


@pytest.mark.parametrize("active_only", [False, True])
@pytest.mark.parametrize("density", [0.0, 0.05, 1.0])
def test_without_pooling(monkeypatch, density, active_only):
    monkeypatch.setenv(choice.EVENTS, "always")
    x = sparse((6, 7, 10, 9), density)
    check(x, (3, 3), 80, Steps(padding=(1, 1)), 1, active_only, "EventConvolutionBackward")


@pytest.mark.parametrize("way", WAYS)
def test_in_float32(monkeypatch, way):
    monkeypatch.setenv(choice.EVENTS, way)
    x = sparse((70, 12, 12, 12), 0.1, torch.float32)
    check(x, (5, 5), 50, Steps(), 2, True, WAYS[way], tolerance=1e-5)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_any_number_of_threads(monkeypatch, threads):
    monkeypatch.setenv(choice.EVENTS, "always")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        check(sparse((200, 4, 12, 12), 0.2), (3, 3), 64, Steps(), 2, True, "EventConvolutionBackward")
    finally:
        torch.set_num_threads(before)


def test_the_same_threads_give_the_same_to_the_last_bit(monkeypatch):
    monkeypatch.setenv(choice.EVENTS, "always")
    x = sparse((300, 4, 12, 12), 0.2, torch.float32).requires_grad_()
    weight = torch.randn(20, 4, 3, 3, requires_grad=True)

    def run():
        out = convolve.convolve(x, weight, None, conv_choice(), Steps(), 2, True)
        return [out, *torch.autograd.grad(out, (x, weight), torch.linspace(-1, 1, out.numel()).view_as(out))]

    assert all(torch.equal(a, b) for a, b in zip(run(), run(), strict=True))


def test_the_dense_blocks_take_groups_and_dilation(monkeypatch):
    monkeypatch.setenv(choice.EVENTS, "always")
    monkeypatch.setattr(conv_dense, "_BLOCK", 10_000)
    x = sparse((9, 4, 15, 14), 0.5)
    check(x, (3, 3), 16, Steps((1, 2), (2, 1), (2, 1), 2), 2, False, "BlockedConvolutionBackward")
    check(x, (3, 3), 14, Steps(groups=2), 2, False, "MaxPool2DWithIndicesBackward0")  # groups of a part of a vector


def test_only_what_is_asked_for(monkeypatch):
    """Gradients to the input alone, to the weights alone, and none."""
    x, weight = sparse((5, 3, 8, 8), 0.3), torch.randn(6, 3, 3, 3).double()
    for way in WAYS:
        monkeypatch.setenv(choice.EVENTS, way)
        for wanted in ([True, False], [False, True]):
            leaves = [leaf.clone().requires_grad_(on) for leaf, on in zip((x, weight), wanted, strict=True)]
            asked = [leaf for leaf in leaves if leaf.requires_grad]
            out = convolve.convolve(*leaves, None, conv_choice(), Steps(), 2)
            message = torch.randn_like(out)
            expected = torch.autograd.grad(slow(*leaves, None, Steps(), 2), asked, message)
            torch.testing.assert_close(torch.autograd.grad(out, asked, message), expected, rtol=1e-12, atol=1e-12)
        assert convolve.convolve(x, weight, None, conv_choice(), Steps(), 2).grad_fn is None


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("special", [0.0, float("nan"), float("-inf"), float("inf")])
def test_the_winner_is_torchs(monkeypatch, special, way):
    """Ties, which spikes make all the time, go to the first; NaN wins."""
    monkeypatch.setenv(choice.EVENTS, way)
    x = torch.randint(0, 2, (30, 1, 8, 8)).double()
    x[:, :, ::3, ::2] = special
    weight = torch.ones(3, 1, 1, 1).double() if special else torch.randint(-1, 2, (3, 1, 2, 2)).double()
    x.requires_grad_()
    expected, out = slow(x, weight, None, Steps(), 2), convolve.convolve(x, weight, None, conv_choice(), Steps(), 2)
    assert type(out.grad_fn).__name__ == WAYS[way]
    torch.testing.assert_close(out, expected, equal_nan=True)
    message = torch.randn_like(out)
    wanted, got = (torch.autograd.grad(result, x, message)[0] for result in (expected, out))
    torch.testing.assert_close(got, wanted)


def test_messages_of_zero_are_passed_over_rightly(monkeypatch):
    """Positions without a message are skipped, also where the one before had some."""
    monkeypatch.setenv(choice.EVENTS, "always")
    x, weight = sparse((20, 4, 10, 10), 0.4).requires_grad_(), torch.randn(20, 4, 3, 3).double().requires_grad_()
    for pool in (1, 2):
        expected = slow(x, weight, None, Steps(), pool)
        out = convolve.convolve(x, weight, None, conv_choice(), Steps(), pool, True)
        message = torch.randn_like(expected) * (torch.rand(20, 1, *expected.shape[2:]) < 0.3)
        wanted, got = (torch.autograd.grad(result, (x, weight), message) for result in (expected, out))
        torch.testing.assert_close(got[0], wanted[0] * (x != 0), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(got[1], wanted[1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 5, 4, 6), (7, 20, 9, 3), (0, 2, 3, 3)])
def test_events_are_the_entries_in_order(shape, layout):
    x = sparse(shape, 0.4).contiguous(memory_format=layout)
    events = image_events(x, 1.0)
    images, rows, columns, channels = x.permute(0, 2, 3, 1).nonzero(as_tuple=True)
    assert torch.equal(events.keys.to(torch.int64), columns * shape[1] + channels)
    assert torch.equal(events.values, x[images, channels, rows, columns])
    positions = (images * shape[2] + rows) * shape[3] + columns
    grid = torch.arange(shape[0] * shape[2] * shape[3]).view(shape[0], shape[2] * shape[3])
    before = torch.searchsorted(positions, grid)
    assert torch.equal(events.columns[:, :-1].to(torch.int64), before)
    assert torch.equal(events.columns[:, 1:-1].to(torch.int64), before[:, 1:])
    if len(x):
        assert int(events.columns[-1, -1]) == len(positions)


def test_density_decides_with_hysteresis(monkeypatch):
    monkeypatch.setenv(choice.EVENTS, "auto")
    used, weight = choice.EventChoice(enter=0.2, leave=0.4), torch.randn(8, 4, 3, 3)

    def by_events(count):
        x = torch.zeros(10, 4, 10, 10)
        x.view(-1)[torch.randperm(x.numel())[:count]] = 1.0
        convolve.convolve(x, weight, None, used, Steps(), 2)
        return used.events

    assert [by_events(count) for count in (1200, 801, 800, 1200, 1600, 1601, 1200)] == [
        False, False, True, True, True, False, False,
    ]  # fmt: skip
    assert image_events(torch.ones(2, 1, 3, 3), 0.99) is None


def test_what_it_does_not_run_is_left_to_torch(monkeypatch):
    monkeypatch.setenv(choice.EVENTS, "always")
    weight = torch.randn(4, 3, 3, 3, requires_grad=True)
    for x in (torch.zeros(0, 3, 8, 8), torch.randn(2, 3, 2, 8, requires_grad=True)):
        used = conv_choice()
        steps = Steps(padding=(1, 1))
        out = convolve.convolve(x, weight, None, used, steps)
        assert out.shape == F.conv2d(x, weight, None, *steps).shape
        assert used.events == (len(x) > 0)
    for x in (torch.randn(2, 3, 8, 8).bfloat16(), torch.randn(2, 3, 8, 8)):
        with torch.autocast("cpu"):
            out = convolve.convolve(x, weight, None, used := conv_choice(), Steps(), 2)
        assert out.dtype == torch.bfloat16
        assert not used.events
    with pytest.raises(RuntimeError, match=r"[Kk]ernel size"):
        convolve.convolve(torch.randn(2, 3, 2, 2), weight, None, conv_choice())
    with pytest.raises(RuntimeError, match="too small"):
        convolve.convolve(torch.randn(2, 3, 3, 3), weight, None, conv_choice(), Steps(), 2)
    wide = torch.randn(1, 3, 3, 22_000)  # more entries in a row than a key can tell apart
    convolve.convolve(wide, weight, None, used := conv_choice())
    assert not used.events


def test_neither_the_input_nor_an_unpooled_output_is_kept(monkeypatch):
    monkeypatch.setenv(choice.EVENTS, "always")
    x, weight = sparse((50, 8, 12, 12), 0.02), torch.randn(16, 8, 3, 3).double().requires_grad_()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        out = convolve.convolve(x.requires_grad_(), weight, None, conv_choice(), Steps(), 2, True)
    size = sum(t.numel() * t.element_size() for t in kept if t is not weight)
    assert size < 0.3 * x.numel() * x.element_size()
    assert {t.data_ptr() for t in kept}.isdisjoint({x.data_ptr(), out.data_ptr()})


def test_geometry_counts_as_torch_does():
    for steps in (Steps(), Steps((2, 3), (1, 2), (2, 1))):
        x, weight = torch.zeros(1, 2, 17, 19), torch.zeros(5, 2, 3, 4)
        g = conv_shape.geometry(x, weight, steps, 3)
        height, width = F.conv2d(x, weight, None, *steps).shape[2:]
        assert (g.out_height, g.out_width, g.pooled) == (height, width, (height // 3, width // 3))
        assert g.band % 3 == 0
