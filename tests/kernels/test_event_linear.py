"""Products made event by event against the dense ones, and the choice between them."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import PAPER

from spikelfp import models, nn, rewards, rules
from spikelfp.errors import UserError
from spikelfp.functional.credit import backward_pass
from spikelfp.functional.propagation import propagate
from spikelfp.functional.sequence import constant
from spikelfp.kernels import choice as choices
from spikelfp.kernels.choice import EventChoice
from spikelfp.kernels.events import linear
from spikelfp.kernels.events import linear as products
from spikelfp.kernels.events.linear import events_of


@pytest.fixture(autouse=True)
def _compiled(monkeypatch):
    """Event-driven products are compiled, whatever kernels the other tests are told to use."""
    monkeypatch.setenv("SPIKELFP_KERNELS", "auto")


RULES = [
    rules.Epsilon(), rules.Epsilon(normalize=True), rules.Zero(), rules.AlphaBeta(), rules.ZPlusMinus(),
    rules.Gamma(), rules.Gradient(), rules.Surrogate(),
]  # fmt: skip


@pytest.fixture
def always(monkeypatch):
    monkeypatch.setenv(choices.EVENTS, "always")


def sparse(*shape, density=0.1, dtype=torch.float64):
    return torch.randn(shape, dtype=dtype) * (torch.rand(shape) < density)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(0, 200), columns=st.integers(1, 40), density=st.floats(0, 1), double=st.booleans(),
    seed=st.integers(0, 2**31),
)  # fmt: skip
def test_events_are_the_entries_that_are_not_zero(rows, columns, density, double, seed):
    torch.manual_seed(seed)
    matrix = sparse(rows, columns, density=density, dtype=torch.float64 if double else torch.float32)
    matrix[matrix < -2] = -0.0
    events = events_of(matrix, 1.0)
    rebuilt = torch.zeros_like(matrix)
    for r in range(rows):
        own = slice(int(events.begin[r]), int(events.end[r]))
        assert events.column[own].tolist() == matrix[r].nonzero().flatten().tolist()
        rebuilt[r, events.column[own].long()] = events.value[own]
    assert torch.equal(rebuilt, matrix)
    assert events.total == int(matrix.count_nonzero())


def test_events_give_up_above_the_limit():
    matrix = torch.zeros(1000, 100)
    matrix[:, :30] = 1
    assert events_of(matrix, 0.2) is None
    assert events_of(matrix, 0.3).total == 30_000
    assert events_of(matrix, -1.0) is None


def test_values_that_are_not_finite_are_events():
    matrix = torch.tensor([[float("nan"), 0.0, float("inf")]])
    assert events_of(matrix, 1.0).column[:2].tolist() == [0, 2]


@pytest.mark.parametrize("density", [0.0, 0.02, 0.3, 1.0])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 1, 1), (130, 9, 10), (700, 33, 520), (65, 300, 257)])
def test_the_same_as_dense(always, shape, bias, density):
    rows, inputs, outputs = shape
    x = sparse(rows, inputs, density=density).requires_grad_()
    weight = torch.randn(outputs, inputs, dtype=torch.float64, requires_grad=True)
    offsets = torch.randn(outputs, dtype=torch.float64, requires_grad=True) if bias else None
    wanted = (x, weight, offsets) if bias else (x, weight)
    message = torch.randn(rows, outputs, dtype=torch.float64)
    choice = products.linear_choice()
    results = []
    for y in (F.linear(x, weight, offsets), products.linear(x, weight, offsets, choice)):
        results.append((y, *torch.autograd.grad(y, wanted, message)))
    assert choice.events
    for dense, fast in zip(*results, strict=True):
        torch.testing.assert_close(fast, dense, rtol=1e-12, atol=1e-12)


def test_messages_to_active_inputs_only(always):
    x = sparse(300, 50).requires_grad_()
    weight = torch.randn(20, 50, dtype=torch.float64, requires_grad=True)
    message = torch.randn(300, 20, dtype=torch.float64)
    y = products.linear(x, weight, None, products.linear_choice(), active_only=True)
    (to_x,) = torch.autograd.grad(y, x, message)
    torch.testing.assert_close(to_x, (message @ weight) * (x != 0), rtol=1e-12, atol=1e-12)


def test_float32_sequences(always):
    x = sparse(5, 30, 100, dtype=torch.float32)
    weight, offsets = torch.randn(40, 100), torch.randn(40)
    y = products.linear(x, weight, offsets, products.linear_choice())
    assert y.shape == (5, 30, 40)
    torch.testing.assert_close(y, F.linear(x, weight, offsets), rtol=1e-5, atol=1e-5)


def test_chosen_by_density_with_hysteresis():
    choice = EventChoice(0.1, 0.2)
    assert choice.limit() == 0.1
    choice.events = True
    assert choice.limit() == 0.2


@pytest.mark.parametrize(("density", "events"), [(0.02, True), (0.5, False)])
def test_a_layer_takes_to_events_when_its_input_is_sparse(density, events):
    layer = nn.Linear(200, 100)
    layer(sparse(20, 50, 200, density=density, dtype=torch.float32))
    assert layer.choice.events is events


def test_small_products_stay_dense():
    layer = nn.Linear(20, 10)
    layer(sparse(2, 3, 20, dtype=torch.float32))
    assert not layer.choice.events


def test_the_environment_decides(monkeypatch):
    x, layer = sparse(20, 50, 200, dtype=torch.float32), nn.Linear(200, 100)
    monkeypatch.setenv(choices.EVENTS, "never")
    layer(x)
    assert not layer.choice.events
    monkeypatch.setenv(choices.EVENTS, "allways")
    with pytest.raises(UserError, match="did you mean 'always'"):
        layer(x)
    monkeypatch.setenv(choices.EVENTS, "always")
    monkeypatch.setenv("SPIKELFP_KERNELS", "torch")
    layer(x)
    assert not layer.choice.events


def updates(net, images, labels, rule, steps):
    net.zero_grad()
    with rules.using(net, rule):
        outputs = net(constant(images, steps))
    if isinstance(rule, rules.Feedback):
        propagate(outputs, rewards.SpikeSequence()(outputs, labels), eps=rule.eps)
    else:
        outputs.sum(0).log_softmax(-1).gather(1, labels[:, None]).sum().backward()
    return outputs, [p.grad.clone() for p in net.parameters()]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_training_is_the_same_under_every_rule(monkeypatch, rule):
    dtype, tolerance = torch.float64, 1e-9
    net = models.lif_mlp([30, 80, 70, 10]).to(dtype)
    for p in net.parameters():
        p.data *= 3
    images, labels = torch.rand(40, 30, dtype=dtype), torch.randint(10, (40,))
    results = []
    for value in ("never", "always"):
        monkeypatch.setenv(choices.EVENTS, value)
        results.append(updates(net, images, labels, rule, 9))
    (spikes, dense), (same_spikes, fast) = results
    assert torch.equal(spikes, same_spikes)
    assert spikes.any()
    assert any(layer.choice.events for layer in net if isinstance(layer, nn.Linear))
    for a, b in zip(dense, fast, strict=True):
        torch.testing.assert_close(b, a, rtol=tolerance, atol=tolerance)
        assert a.any() or type(rule) is rules.Gradient


def test_a_surrogate_needs_the_message_at_silent_neurons(monkeypatch):
    monkeypatch.setenv(choices.EVENTS, "always")
    layer, neurons = nn.Linear(30, 20), nn.LIF(**PAPER)
    spikes = neurons(torch.randn(5, 8, 30).requires_grad_())
    for rule, silent in ((rules.Epsilon(), False), (rules.Surrogate(), True), (rules.Gamma(), True)):
        with rules.using(layer, rule):
            out = layer(spikes)
        with backward_pass():
            (message,) = torch.autograd.grad(out, spikes, torch.randn_like(out))
        assert bool(message[spikes == 0].any()) is silent
        assert message[spikes != 0].any()


def test_an_input_that_is_no_neuron_gets_all_messages(monkeypatch):
    monkeypatch.setenv(choices.EVENTS, "always")
    x = sparse(3, 40, 30, dtype=torch.float32).requires_grad_()
    layer = nn.Linear(30, 20)
    with backward_pass():
        (message,) = torch.autograd.grad(layer(x).sum(), x)
    assert (message != 0).all()


def test_only_the_events_are_kept():
    layer, kept = nn.Linear(1000, 100), []
    x = sparse(50, 40, 1000, density=0.02, dtype=torch.float32)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.nbytes) or t, lambda t: t):
        layer(x)
    assert layer.choice.events
    assert sum(kept) - 2 * layer.weight.nbytes < 0.7 * x.nbytes


def test_dense_products_in_memory_that_is_used_again():
    x = torch.randn(4, 100, 90, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(70, 90, dtype=torch.float64, requires_grad=True)
    for offsets in (torch.randn(70, dtype=torch.float64, requires_grad=True), None):
        wanted = (x, weight) if offsets is None else (x, weight, offsets)
        message, choice = torch.randn(4, 100, 70, dtype=torch.float64), products.linear_choice()
        results = [products.linear(x, weight, offsets, choice), F.linear(x, weight, offsets)]
        assert "DenseLinear" in type(results[0].grad_fn).__name__
        torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)
        for a, b in zip(*(torch.autograd.grad(y, wanted, message) for y in results), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("density", [0.004, 0.05, 0.4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("outputs", [256, 333])
def test_updates_of_many_weights_in_any_number_of_threads(outputs, dtype, density):
    x = (torch.rand(1100, 300) < density).to(dtype) * torch.randint(1, 4, (1100, 300))
    whole = torch.randint(-8, 9, (1100, outputs)).to(dtype)  # sums are exact in any order
    messages = torch.randn(1100, outputs, dtype=dtype)
    events, before, found = events_of(x, 1.0).numpy(), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            exact, out = torch.empty(2, outputs, 300, dtype=dtype)
            linear.event_update(events, whole.numpy(), exact.numpy())
            linear.event_update(events, messages.numpy(), out.numpy())
            assert torch.equal(exact, whole.t() @ x)
            found.append(out)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(found[0], other) for other in found[1:])
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(found[0], messages.t() @ x, rtol=tolerance, atol=30 * tolerance)


@pytest.mark.parametrize("shape", [(0, 5), (1, 1), (7, 33), (300, 1000)])
def test_marked_entries_are_listed_in_order(shape):
    mask = torch.rand(shape) < 0.2
    begin, end, column, _ = products.marked_rows(mask, 1.0)
    assert len(begin) == len(end) == shape[0]
    for r, row in enumerate(mask):
        assert column[begin[r] : end[r]].tolist() == row.nonzero().flatten().tolist()
    if mask.any():
        assert products.marked_rows(mask, 0.99 * mask.float().mean().item()) is None
