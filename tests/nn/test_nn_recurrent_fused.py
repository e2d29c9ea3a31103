"""Recurrent neurons fused over time against the loop over steps: spikes equal to the last one, updates to rounding.

Recurrent weights are multiples of 2⁻¹², so that their sums are exact in any order and no spike hangs on rounding.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikelfp import data, nn, propagate, rules
from spikelfp.errors import UserError
from spikelfp.functional import recurrent as fused
from spikelfp.kernels import KERNELS, choice, recurrent_numba
from spikelfp.training import TemporalTrainer

RESETS = ("subtract", "immediate", "zero")
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}
FIND = fused.kernel_for


def exact(layer):
    """The layer with recurrent weights whose sums are exact."""
    for parameter in layer.recurrent.parameters():
        parameter.data = (parameter.data * 4096).round() / 4096
    return layer


def layer_of(kind, n, dtype, bias=True, **options):
    recurrent = nn.Linear(n, n, bias)
    make = nn.RecurrentLIF if kind == "lif" else lambda v, **o: nn.RecurrentSynaptic(v, 0.7, **o)
    return exact(make(recurrent, **options).to(dtype))


@pytest.fixture
def ways(monkeypatch):
    """Run something by the loop and fused; the fused run must have been fused."""

    def both(run):
        found = []
        taken = []

        def find(*arguments):
            taken.append(FIND(*arguments))
            return taken[-1]

        for kernel_for in (lambda *_: None, find):
            monkeypatch.setattr(fused, "kernel_for", kernel_for)
            found.append(run())
        assert taken
        assert None not in taken
        return found

    return both


def credit_of(layer, x, reward, states=None, message=False, ends=False):
    """Spikes, then messages to input and states, and updates; states and their ends with messages of their own."""
    torch.manual_seed(3)
    layer.zero_grad()
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    state = None if states is None else tuple(s.clone().requires_grad_() for s in states)
    out, after = layer.run(x, state)
    if message:  # a hidden layer
        outputs, reward = nn.Linear(out.shape[-1], 3).to(out.dtype)(out), reward[..., :3]
    else:
        outputs = out
    if ends:
        outputs, reward = [outputs, after[-1]], [reward, torch.randn_like(after[-1])]
    propagate(outputs, reward)
    found = [x.grad, *([] if state is None else [s.grad for s in state]), *(p.grad for p in layer.parameters())]
    return out.detach(), [None if g is None else g.clone() for g in found]


def same(found, dtype, factor=1.0):
    (spikes, slow), (again, fast) = found
    assert torch.equal(spikes, again)
    for a, b in zip(slow, fast, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            scale = max(float(a.abs().max()), 1e-30)
            torch.testing.assert_close(b, a, rtol=0, atol=factor * TOLERANCE[dtype] * scale)
    assert any(a is not None and a.any() for a in slow)


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("message", [False, True])
@pytest.mark.parametrize("denominator", ["inflow", "increment"])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("kind", ["lif", "synaptic"])
def test_spikes_and_updates_are_those_of_the_loop(kind, reset, denominator, message, dtype, ways):
    # One β of all neurons has an update that is a small difference of large terms: in float32 each has its own.
    beta = torch.full((19,), 0.9) if dtype == torch.float32 else 0.9
    options = {"reset": reset, "denominator": denominator, "learn_beta": True, "beta": beta, "threshold": 0.5}
    layer = layer_of(kind, 19, dtype, **options)
    x, reward = torch.randn(2, 21, 4, 19, dtype=dtype) * 0.7
    found = ways(lambda: credit_of(layer, x, reward, message=message))
    assert 0.03 < found[0][0].mean() < 0.6
    same(found, dtype, 2 if dtype == torch.float32 else 10)


@pytest.mark.parametrize("events", ["always", "never", "auto"])
@pytest.mark.parametrize("message", [False, True])
@pytest.mark.parametrize("credit", ["scan", "step"])
@pytest.mark.parametrize(("floor", "margin"), [(1.0, 0.5), (0.0, 0.8), (2.0, 1.0)])
@pytest.mark.parametrize("kind", ["lif", "synaptic"])
def test_floor_and_margin(kind, floor, margin, credit, message, events, ways, monkeypatch):
    monkeypatch.setenv(choice.EVENTS, events)
    options = {"reset": "zero", "learn_beta": True, "threshold": torch.linspace(0.3, 0.8, 19)}
    rule = rules.Epsilon(credit=credit)
    layer = layer_of(kind, 19, torch.float64, floor=floor, margin=margin, rule=rule, **options)
    layer.recurrent.rule = rule
    x, reward = torch.randn(2, 15, 3, 19).double() * 0.7
    found = ways(lambda: credit_of(layer, x, reward, message=message))
    same(found, torch.float64, 10)
    layer.floor, layer.margin = 0, 1
    plain = ways(lambda: credit_of(layer, x, reward, message=message))
    assert torch.equal(plain[0][0], found[0][0])
    changed = bool(floor) or message or credit == "scan"  # else the only reward is the outputs' own
    assert torch.allclose(plain[0][1][0], found[0][1][0]) != changed


@pytest.mark.parametrize("events", ["always", "never", "auto"])
@pytest.mark.parametrize("drive", [0.0, 0.3, 1.0, 3.0])
@pytest.mark.parametrize("kind", ["lif", "synaptic"])
def test_at_any_density_by_events_and_dense(kind, drive, events, ways, monkeypatch):
    monkeypatch.setenv(choice.EVENTS, events)
    layer = layer_of(kind, 37, torch.float64, bias=drive > 0)
    x, reward = torch.randn(2, 29, 5, 37).double()
    found = ways(lambda: credit_of(layer, x * drive + drive / 3, reward))
    assert found[0][0].mean() == 0 if drive == 0 else found[0][0].any()
    assert drive < 3 or found[0][0].mean() > 0.4
    same(found, torch.float64, 20)


@pytest.mark.parametrize("kind", ["lif", "synaptic"])
@pytest.mark.parametrize("ends", [False, True])
def test_states_in_and_out_take_and_give_messages(kind, ends, ways):
    layer = layer_of(kind, 11, torch.float64, learn_beta=True, threshold=0.4)
    fired = (torch.rand(3, 11) < 0.3).double()
    states = [fired, *torch.randn(2 if kind == "synaptic" else 1, 3, 11).double()]
    x, reward = torch.randn(2, 13, 3, 11).double()
    same(ways(lambda: credit_of(layer, x, reward, states, ends=ends)), torch.float64, 10)


def test_a_start_need_not_be_spikes(ways):
    layer, states = layer_of("lif", 6, torch.float64), torch.randn(2, 4, 6).double()
    x, reward = torch.randn(2, 5, 4, 6).double()
    same(ways(lambda: credit_of(layer, x, reward, states)), torch.float64, 10)


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("learn_beta", [False, True])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("kind", ["lif", "synaptic"])
def test_constants_of_each_neuron(kind, reset, learn_beta, dtype, ways):
    beta, threshold = torch.rand(13) * 0.5 + 0.4, torch.rand(13) * 0.5 + 0.2
    layer = layer_of(kind, 13, dtype, beta=beta, threshold=threshold, reset=reset, learn_beta=learn_beta)
    if kind == "synaptic":
        layer.alpha = torch.rand(13) * 0.8 + 0.1
    layer = layer.to(dtype)
    x, reward = torch.randn(2, 15, 3, 13, dtype=dtype)
    same(ways(lambda: credit_of(layer, x, reward)), dtype, 4 if dtype == torch.float32 else 20)


def test_constants_of_another_shape_are_refused():
    with pytest.raises(UserError, match="beta"):
        nn.RecurrentLIF(6, beta=torch.full((5,), 0.9))(torch.zeros(3, 2, 6))
    with pytest.raises(UserError, match="threshold"):
        nn.RecurrentSynaptic(6, threshold=torch.ones(1, 6))(torch.zeros(3, 2, 6))


@pytest.mark.parametrize("kind", ["lif", "synaptic"])
def test_a_constant_input(kind, ways):
    layer = layer_of(kind, 8, torch.float64, threshold=0.3)
    images = torch.rand(5, 8).double()

    def run():
        layer.zero_grad()
        given = images.clone().requires_grad_()
        out = layer(nn.constant(given, 12))
        propagate(out, torch.ones_like(out) - out)
        return out.detach(), [given.grad, *(p.grad.clone() for p in layer.parameters())]

    same(ways(run), torch.float64, 10)


def test_more_axes_than_one_of_neurons(ways):
    layer = layer_of("lif", 7, torch.float64, threshold=0.4)
    x, reward = torch.randn(2, 9, 3, 4, 7).double()
    same(ways(lambda: credit_of(layer, x, reward)), torch.float64, 10)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 20), st.integers(1, 5), st.integers(1, 40), st.sampled_from(RESETS), st.booleans(), st.booleans(),
    st.floats(0.1, 2.0), st.integers(0, 10_000),
)  # fmt: skip
def test_any_shape(steps, batch, n, reset, synaptic, bias, drive, seed):
    torch.manual_seed(seed)
    layer = layer_of("synaptic" if synaptic else "lif", n, torch.float64, bias, reset=reset, threshold=0.4)
    x, reward = torch.randn(2, steps, batch, n).double() * drive
    found = []
    with pytest.MonkeyPatch.context() as patch:
        for kernel_for in (lambda *_: None, FIND):
            patch.setattr(fused, "kernel_for", kernel_for)
            found.append(credit_of(layer, x, reward))
    same(found, torch.float64, 100)


def test_numbers_do_not_depend_on_the_threads(monkeypatch):
    monkeypatch.setenv(choice.EVENTS, "always")
    monkeypatch.setattr(recurrent_numba, "_WORK", 64)  # so that threads get parts of this little work
    layer = layer_of("synaptic", 70, torch.float32, learn_beta=True, threshold=0.4)
    x, reward = torch.randn(2, 30, 13, 70) * 0.5
    found, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(credit_of(layer, x, reward))
    finally:
        torch.set_num_threads(before)
    for a, b in pairwise(found):
        assert torch.equal(a[0], b[0])
        for own, other in zip(a[1], b[1], strict=True):
            assert torch.equal(own, other)


@pytest.mark.parametrize("rule", [rules.Gradient(), rules.Surrogate(), rules.Surrogate("atan", 3.0)])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("kind", ["lif", "synaptic"])
def test_gradients_are_those_of_the_loop(kind, reset, rule, ways):
    layer = layer_of(kind, 9, torch.float64, reset=reset, learn_beta=True, threshold=0.4)
    rules.attach(layer, rule)
    x, weights = torch.randn(2, 14, 4, 9).double()
    states = [(torch.rand(4, 9) < 0.3).double(), *torch.randn(2 if kind == "synaptic" else 1, 4, 9).double()]

    def run():
        layer.zero_grad()
        given = x.clone().requires_grad_()
        start = [s.clone().requires_grad_() for s in states]
        out, after = layer.run(given, tuple(start))
        (sum((end * end).sum() for end in after[1:]) + (out * weights).sum()).backward()
        found = [given.grad, *(s.grad for s in start), *(p.grad for p in layer.parameters())]
        return out.detach(), [None if g is None else g.clone() for g in found]

    found = ways(run)
    for _, credit in found:  # no way for a gradient, or a gradient of zero: the same
        credit[1] = torch.zeros(4, 9).double() if credit[1] is None else credit[1]
        credit[-2:] = [torch.zeros(()).double() if g is None else g for g in credit[-2:]]
    same(found, torch.float64, 10)


def test_what_cannot_be_fused_takes_its_steps_one_by_one(monkeypatch):
    x, layer = torch.randn(4, 2, 6), nn.RecurrentLIF(6)
    fits = FIND(x, layer.recurrent, layer.rule, None)
    assert fits is recurrent_numba

    def found(own=layer, sequence=x, fired=None):
        return FIND(sequence, own.recurrent, own.rule, fired)

    assert found(nn.RecurrentLIF(nn.Identity())) is None
    assert found(sequence=x.double()) is None
    assert found(fired=torch.zeros(2, 5)) is None
    for rule in (rules.Gamma(), rules.AlphaBeta(), rules.ZPlusMinus(), rules.Epsilon(normalize=True)):
        assert found(nn.RecurrentLIF(nn.Linear(6, 6, rule=rule))) is None
        assert found(nn.RecurrentLIF(6, rule=rule)) is None
    assert found(nn.RecurrentLIF(nn.Linear(6, 6, rule=rules.Zero()))) is fits
    assert found(nn.RecurrentLIF(6, rule=rules.Surrogate())) is None  # rewards and losses do not mix
    hooked = nn.RecurrentLIF(6)
    handle = hooked.recurrent.register_forward_hook(lambda *_: None)
    assert found(hooked) is None
    handle.remove()
    assert found(hooked) is fits
    torch.nn.utils.parametrizations.weight_norm(hooked.recurrent)
    assert found(hooked) is None
    with torch.autocast("cpu", torch.bfloat16):
        assert found() is None
    monkeypatch.setenv(KERNELS, "torch")
    assert found() is None


def test_the_layer_behind_is_told_which_neurons_fired():
    layer, readout = nn.RecurrentLIF(200, threshold=0.4), nn.Linear(200, 64)
    with torch.no_grad():
        spikes = layer(torch.randn(20, 16, 200) * 0.2)
        assert 0 < spikes.mean() < 0.2
        version, events = spikes._listed_events
        assert events.total == spikes.sum()
        expected = readout(spikes.clone())
        torch.testing.assert_close(readout(spikes), expected)
        assert version == spikes._version
        spikes.mul_(2.0)  # the list is out of date
        torch.testing.assert_close(readout(spikes), readout(spikes.clone()))


def test_training_goes_on_from_a_checkpoint_as_if_never_stopped(tmp_path):
    train = data.load("digits").train.subset(range(200))

    def make():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(64, 40), nn.RecurrentLIF(40), nn.Linear(40, 10), nn.LIF())
        return TemporalTrainer(net, steps=10, batch_size=50, seed=0, device="cpu")

    whole = make()
    whole.fit(train, 2)
    first = make()
    first.fit(train, 2, after_epoch=lambda row: first.save(tmp_path / "c.pt") if row["epoch"] == 1 else None)
    other = make()
    other.load(tmp_path / "c.pt")
    other.fit(train, 2)
    for a, b in zip(whole.net.parameters(), other.net.parameters(), strict=True):
        assert torch.equal(a, b)
