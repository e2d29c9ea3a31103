"""Surrogate gradients of the same network equal snnTorch's; plain gradients of spikes are zero."""

import contextlib
import math

import pytest
import snntorch
import torch
from reference import SNNTORCH_RESETS
from snntorch import functional as sf
from snntorch import surrogate

from spikelfp import methods, nn, rules
from spikelfp.errors import UserError


@pytest.mark.parametrize("reset", SNNTORCH_RESETS)
def test_gradients_equal_snntorch_bptt(reset):
    net = nn.Sequential(nn.Linear(12, 30), nn.LIF(0.9, 1.0, reset), nn.Linear(30, 5), nn.LIF(0.9, 1.0, reset))
    x, y = torch.rand(10, 6, 12) * 2, torch.randint(5, (6,))
    with rules.using(net, rules.Surrogate(slope=25)):
        outputs = net(x)
    methods.rate_cross_entropy(outputs, y).backward()
    ours = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()

    leaky = [
        snntorch.Leaky(beta=0.9, reset_mechanism=reset, spike_grad=surrogate.fast_sigmoid(slope=25)) for _ in range(2)
    ]
    mems = [layer.init_leaky() for layer in leaky]
    record = []
    for step in x:
        hidden, mems[0] = leaky[0](torch.nn.functional.linear(step, net[0].weight, net[0].bias), mems[0])
        out, mems[1] = leaky[1](torch.nn.functional.linear(hidden, net[2].weight, net[2].bias), mems[1])
        record.append(out)
    record = torch.stack(record)
    assert torch.equal(record, outputs.detach())
    sf.ce_rate_loss()(record, y).backward()
    if reset == "zero":
        # snnTorch differentiates the membrane it has just reset, we the one that fired; the direction is the same.
        for mine, p in zip(ours, net.parameters(), strict=True):
            assert torch.cosine_similarity(mine.flatten(), p.grad.flatten(), 0) > 0.9
        return
    for mine, p in zip(ours, net.parameters(), strict=True):
        torch.testing.assert_close(mine, p.grad, rtol=1e-4, atol=1e-7)


def test_gradients_of_a_reset_at_once_are_those_of_autograd():
    """The reset, ``θ S`` before the decay, is detached as in snnTorch's other resets."""
    layer = nn.LIF(0.8, 0.5, "immediate", learn_beta=True)
    x, start, weights = torch.randn(10, 6, 7), torch.randn(6, 7), torch.randn(10, 6, 7)
    slope = surrogate.fast_sigmoid(slope=5)
    grads = []
    for written_out in (True, False):
        current, first = x.clone().requires_grad_(), start.clone().requires_grad_()
        beta = torch.tensor(0.8, requires_grad=True)
        if written_out:
            membrane, record = first, []
            for step in current:
                membrane = beta * (membrane - 0.5 * (membrane > 0.5).float()) + step
                record.append(slope(membrane - 0.5))
            spikes = torch.stack(record)
        else:
            with rules.using(layer, rules.Surrogate(slope=5)):
                spikes = layer.run(current, first)[0]
        assert 0.1 < spikes.mean() < 0.9
        (spikes * weights).sum().backward()
        grads.append((spikes.detach(), current.grad, first.grad, beta.grad if written_out else layer.decay.grad))
    assert torch.equal(grads[0][0], grads[1][0])
    for expected, found in zip(*grads, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_plain_gradients_of_spikes_are_zero():
    net = nn.Sequential(nn.Linear(4, 8), nn.LIF(), nn.Linear(8, 3), nn.Heaviside())
    with rules.using(net, rules.Gradient()):
        net(torch.rand(5, 2, 4) * 3).sum().backward()
    assert all(not p.grad.any() for p in net.parameters())


def test_using_gives_the_rules_back_even_after_an_error():
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
    before = [layer.rule for layer in net]
    with contextlib.suppress(ZeroDivisionError), rules.using(net, rules.Gradient()):
        assert all(isinstance(layer.rule, rules.Gradient) for layer in net)
        raise ZeroDivisionError
    assert [layer.rule for layer in net] == before


def test_unknown_surrogates_are_named():
    with pytest.raises(UserError, match="did you mean 'fast-sigmoid'"):
        rules.Surrogate("fast_sigmoid")
    with pytest.raises(UserError, match="slope"):
        rules.Surrogate(slope=-1)


SNNTORCH = {
    "fast-sigmoid": lambda slope: surrogate.fast_sigmoid(slope=slope),
    "atan": lambda slope: surrogate.atan(alpha=slope),
    "sigmoid": lambda slope: surrogate.sigmoid(slope=slope),
}
EXACT = {
    "fast-sigmoid": lambda z, k: 1 / (1 + k * abs(z)) ** 2,
    "atan": lambda z, k: k / 2 / (1 + (math.pi / 2 * k * z) ** 2),
    "sigmoid": lambda z, k: k * math.exp(-k * abs(z)) / (1 + math.exp(-k * abs(z))) ** 2,
}


def spike(shape, slope, z):
    """Spikes and their derivatives."""
    z = z.clone().requires_grad_()
    out = rules.Surrogate(shape, slope).spike(z)
    out.sum().backward()
    return out.detach(), z.grad


@pytest.mark.parametrize("slope", [0.5, 2.0, 25.0])
@pytest.mark.parametrize("shape", SNNTORCH)
def test_near_the_threshold_shapes_are_those_of_snntorch(shape, slope):
    z = torch.linspace(-3, 3, 101)
    theirs = z.clone().requires_grad_()
    SNNTORCH[shape](slope)(theirs).sum().backward()
    out, grad = spike(shape, slope, z)
    assert torch.equal(out, (z > 0).float())
    known = slope * z.abs() < 40  # beyond, an exponential in its sigmoid overflows, to 0 and then to NaN
    assert known.sum() > 50
    torch.testing.assert_close(grad[known], theirs.grad[known], rtol=2e-5, atol=1e-30)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("slope", [1e-3, 1.0, 25.0, 1e4])
@pytest.mark.parametrize("shape", list(rules.surrogates))
def test_derivatives_are_right_at_every_membrane(shape, slope, dtype):
    far = torch.logspace(-6, 4, 200, dtype=torch.float64)
    z = torch.cat([-far, torch.zeros(1), far]).to(dtype)
    out, grad = spike(shape, slope, z)
    assert out.dtype == grad.dtype == dtype
    assert torch.equal(out, (z > 0).to(dtype))
    expected = torch.tensor([EXACT[shape](float(each), slope) for each in z], dtype=torch.float64).to(dtype)
    # the slope times z is rounded before the exponential of it is taken
    rounding = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 0.01, torch.float16: 2e-3}[dtype]
    torch.testing.assert_close(grad, expected, rtol=rounding, atol=max(slope, 1) * torch.finfo(dtype).tiny)
    out, grad = spike(shape, slope, torch.tensor([-math.inf, math.inf], dtype=dtype))
    assert out.tolist() == [0, 1]
    assert grad.tolist() == [0, 0]


@pytest.mark.parametrize("shape", list(rules.surrogates))
def test_a_network_of_doubles_learns_by_surrogates(shape):
    """Membranes far below the threshold, which were NaN for the sigmoid from 3.5 below it on."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(12, 30), nn.LIF(), nn.Linear(30, 5), nn.LIF()).double()
    x, y = 40 * torch.randn(10, 6, 12, dtype=torch.float64), torch.randint(5, (6,))
    with rules.using(net, rules.Surrogate(shape)):
        methods.rate_cross_entropy(net(x), y).backward()
    assert all(p.grad.dtype == torch.float64 and p.grad.isfinite().all() and p.grad.any() for p in net.parameters())


@pytest.mark.parametrize("slope", [0, math.inf, math.nan, True, "25", None])
def test_a_slope_is_a_finite_number_above_0(slope):
    with pytest.raises(UserError, match="slope"):
        rules.Surrogate(slope=slope)


def penalised(net, x, weight):
    """Gradients of a loss with a penalty on the slopes of the outputs, which have no graph of their own."""
    x = x.clone().requires_grad_()
    outputs = net(x)
    (slopes,) = torch.autograd.grad(outputs.sum(), x, create_graph=True)
    net.zero_grad()
    (outputs.square().mean() + weight * slopes.square().sum()).backward()
    return [p.grad for p in net.parameters()]


@pytest.mark.parametrize("size", [3, 700])
def test_a_penalty_on_gradients_equals_torchs(size):
    """Also in the products of large inputs, which have a function of their own."""
    net = nn.Sequential(nn.Linear(40, size), nn.Tanh(), nn.Linear(size, 5)).double()
    rules.attach(net, rules.Gradient())
    plain = torch.nn.Sequential(torch.nn.Linear(40, size), torch.nn.Tanh(), torch.nn.Linear(size, 5)).double()
    plain.load_state_dict(net.state_dict())
    x = torch.randn(8, 6, 40, dtype=torch.float64)
    assert ("DenseLinear" in type(net[0](x).grad_fn).__name__) == (size == 700)
    for ours, theirs in zip(penalised(net, x, 0.3), penalised(plain, x, 0.3), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("layer", [nn.LIF, nn.LI, lambda: nn.RecurrentLIF(5)], ids=["LIF", "LI", "RecurrentLIF"])
def test_second_derivatives_through_membranes_are_refused(layer):
    """Left out in silence, a penalty would have no effect on the membranes."""
    net = nn.Sequential(nn.Linear(7, 5), layer())
    rules.attach(net, rules.Surrogate())
    with pytest.raises(UserError, match="create_graph=True asks for second derivatives"):
        penalised(net, torch.rand(4, 3, 7), 1.0)


def test_second_derivatives_of_events_are_refused(monkeypatch):
    monkeypatch.setenv("SPIKELFP_EVENTS", "always")
    net = nn.Sequential(nn.Linear(40, 5))
    rules.attach(net, rules.Gradient())
    x = (torch.rand(8, 6, 40) < 0.05).float()
    with pytest.raises(UserError, match="EventLinear of this package has none: set SPIKELFP_EVENTS=never"):
        penalised(net, x, 1.0)
