"""Neurons with more memory than a membrane, and decays that learn: against snnTorch and formulas written out."""

import pytest
import snntorch
import torch
from reference import DENOMINATORS, RESETS, SNNTORCH_RESETS
from references.cases import build
from references.compare import assert_equals_slow
from references.weighted import connections

from spikelfp import kernels, nn, propagate, rules
from spikelfp.errors import ShapeError, UserError
from spikelfp.functional.credit import backward_pass
from spikelfp.nn.neurons.base import LEAST_DECAY


def reset_of(name):
    """The same reset in snnTorch, whose delayed reset to zero would also drop the current of the step after."""
    return {"reset_mechanism": name, "reset_delay": name == "subtract"}


@pytest.mark.parametrize("kernel", ["numba", "torch"])
@pytest.mark.parametrize("reset", SNNTORCH_RESETS)
def test_synaptic_gives_snntorchs_spikes(reset, kernel, monkeypatch):
    monkeypatch.setenv(kernels.KERNELS, kernel)
    layer = nn.Synaptic(0.75, 0.9, 1.0, reset)
    theirs = snntorch.Synaptic(alpha=0.75, beta=0.9, threshold=1.0, **reset_of(reset))
    x = torch.rand(25, 4, 50) * 0.6
    syn, mem = (torch.zeros(4, 50) for _ in range(2))
    record = []
    for step in x:
        spikes, syn, mem = theirs(step, syn, mem)
        record.append(spikes)
    ours, (current, membrane) = layer.run(x)
    assert torch.equal(ours, torch.stack(record))
    assert 0.05 < ours.mean() < 0.95
    torch.testing.assert_close(current, syn)
    if reset == "subtract":  # with zero, snnTorch's membrane is already reset when it is handed out
        torch.testing.assert_close(membrane, mem)


@pytest.mark.parametrize("reset", SNNTORCH_RESETS)
def test_recurrent_gives_snntorchs_spikes(reset):
    layer = nn.RecurrentLIF(nn.Linear(20, 20), 0.9, 1.0, reset)
    theirs = snntorch.RLeaky(beta=0.9, threshold=1.0, linear_features=20, **reset_of(reset))
    theirs.recurrent.load_state_dict(layer.recurrent.state_dict())
    x = torch.rand(25, 4, 20)
    spikes, mem = (torch.zeros(4, 20) for _ in range(2))
    record = []
    for step in x:
        spikes, mem = theirs(step, spikes, mem)
        record.append(spikes)
    ours, (last, membrane) = layer.run(x)
    assert torch.equal(ours, torch.stack(record))
    assert 0.05 < ours.mean() < 0.95
    assert torch.equal(last, spikes)
    if reset == "subtract":
        torch.testing.assert_close(membrane, mem)


@pytest.mark.parametrize("place", ["hidden", "output"])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("denominator", DENOMINATORS)
@pytest.mark.parametrize("kind", ["synaptic", "recurrent"])
def test_rewards_through_time(kind, denominator, reset, place):
    options = {"threshold": 0.3, "reset": reset, "denominator": denominator, "learn_beta": True}
    neurons = (
        nn.Synaptic(0.6, 0.8, **options) if kind == "synaptic" else nn.RecurrentLIF(nn.Linear(5, 5), 0.8, **options)
    )
    behind = [nn.Linear(5, 3)] if place == "hidden" else []
    net = build(rules.Epsilon(), nn.Linear(4, 5), neurons, *behind)
    out = assert_equals_slow(net, torch.randn(9, 2, 4).double() * 2, linear=place == "hidden", tolerance=1e-9)
    assert out.any()


def test_rewards_run_back_through_the_recurrent_connections():
    """Neuron 0 fires at step 1 only and drives neuron 1 at step 2 through V: the reward of 1 reaches it."""
    layer = nn.RecurrentLIF(nn.Linear(2, 2, bias=False), 0.5, 1.0).double()
    layer.recurrent.weight.data = torch.tensor([[0.0, 0.0], [3.0, 0.0]]).double()
    x = torch.tensor([[[1.5, 0.0]], [[0.0, 0.0]]]).double().requires_grad_()
    spikes = layer(x)
    assert spikes.tolist() == [[[1.0, 0.0]], [[0.0, 1.0]]]
    reward = torch.zeros(2, 1, 2).double()
    reward[1, 0, 1] = 1.0
    propagate(spikes, reward, eps=1e-6)
    # All of the membrane of neuron 1 came through V, from the spike of neuron 0, whose membrane came from x.
    torch.testing.assert_close(x.grad[0, 0, 0].item(), 1 / 1.5, rtol=1e-5, atol=0)
    torch.testing.assert_close(
        -layer.recurrent.weight.grad, torch.tensor([[0.0, 0], [1, 0]]).double(), rtol=1e-5, atol=0
    )


def test_recurrent_convolution_is_the_dense_layer_it_stands_for():
    conv = nn.Conv2d(2, 2, 3, padding=1, bias=False).double()
    number = connections(conv, (2, 3, 3))
    dense = nn.Linear(18, 18, bias=False).double()
    dense.weight.data = torch.cat([torch.zeros(1).double(), conv.weight.detach().flatten()])[number]
    results = []
    for recurrent, shape in ((conv, (2, 3, 3)), (dense, (18,))):
        x = (torch.arange(5 * 3 * 18).double().sin() * 2).view(5, 3, *shape).requires_grad_()
        spikes = nn.RecurrentLIF(recurrent, 0.9, 0.5)(x)
        reward = (torch.arange(5 * 3 * 18).double().cos()).view(5, 3, *shape)
        propagate(spikes, reward)
        results.append((spikes.detach().flatten(2), x.grad.flatten(2)))
    assert torch.equal(results[0][0], results[1][0])
    assert results[0][0].any()
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-10, atol=1e-10)


def test_without_recurrent_weights_it_is_a_lif_layer():
    layer = nn.RecurrentLIF(nn.Linear(4, 4), 0.9, 0.5).double()
    torch.nn.init.zeros_(layer.recurrent.weight), torch.nn.init.zeros_(layer.recurrent.bias)
    x, reward, results = torch.randn(7, 3, 4).double(), torch.randn(7, 3, 4).double(), []
    for neurons in (layer, nn.LIF(0.9, 0.5)):
        own = x.clone().requires_grad_()
        spikes = neurons(own)
        propagate(spikes, reward)
        results.append((spikes, own.grad))
    assert torch.equal(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-10, atol=1e-10)


def test_leaky_integrators_sum_their_past():
    x = torch.randn(12, 3, 4).double().requires_grad_()
    out, state = nn.LI(0.8).run(x)
    expected = torch.stack([sum(0.8 ** (t - s) * x[s] for s in range(t + 1)) for t in range(12)])
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(state, out[-1])
    message = torch.randn_like(out)
    with backward_pass():
        out.backward(message)
    back = torch.stack([sum(0.8 ** (t - s) * message[t] for t in range(s, 12)) for s in range(12)])
    torch.testing.assert_close(x.grad, back, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("denominator", DENOMINATORS)
def test_a_decay_earns_what_it_carried(denominator, reset, constant):
    """``d_β = |β| Σ_t V[t] n[t]``, eq. 7 for the connection of a membrane to itself."""
    layer = nn.LIF(0.8, 0.4, reset, denominator, learn_beta=True).double()
    assert [name for name, _ in layer.named_parameters()] == ["decay"]
    x = nn.constant(torch.randn(3, 5).double(), 10) if constant else torch.randn(10, 3, 5).double()
    current = x.clone().requires_grad_()
    start = torch.randn(3, 5).double()
    spikes, _ = layer.run(current, start)
    reward = torch.randn_like(spikes)
    propagate(spikes, reward)
    slow, membrane, beta = 0.0, start, layer.beta
    for t in range(10):
        fired = (membrane > 0.4).double()
        kept = {"subtract": membrane, "immediate": membrane - 0.4 * fired, "zero": membrane * (1 - fired)}[reset]
        slow += (beta * kept * current.grad[t]).sum().item()
        membrane = beta * kept + x[t] - (0.4 * fired if reset == "subtract" else 0)
    torch.testing.assert_close(-layer.decay.grad.item(), slow, rtol=1e-9, atol=1e-9)
    layer.decay.grad = None
    propagate(layer.run(x, start)[0], reward)
    torch.testing.assert_close(-layer.decay.grad.item(), slow, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("make", [nn.LIF, nn.Synaptic, lambda **o: nn.RecurrentLIF(nn.Linear(5, 5), **o)])
def test_a_learned_decay_changes_the_forward_pass_and_stays_in_range(make):
    layer = make(threshold=0.4, learn_beta=True)
    x = torch.randn(9, 3, 5)
    before = layer(x)
    optimizer = torch.optim.SGD(layer.parameters(), lr=100.0)
    propagate(before, torch.ones_like(before))
    optimizer.step()
    assert LEAST_DECAY <= layer.beta <= 1.0
    assert abs(layer.beta - 0.9) > 0.05
    assert not torch.equal(layer(x), before)
    layer.decay.data.fill_(7.0)
    assert layer.beta == 1.0
    layer.decay.data.fill_(-7.0)
    assert layer.beta == LEAST_DECAY
    assert torch.isfinite(layer(x)).all()


def test_impossible_neurons_are_named():
    for make in (nn.LIF, nn.Synaptic, lambda **o: nn.RecurrentLIF(nn.Linear(5, 5), **o)):
        with pytest.raises(UserError, match="threshold cannot learn"):
            make(learn_threshold=True)
        with pytest.raises(UserError, match="beta"):
            make(beta=0.0)
    with pytest.raises(UserError, match="alpha"):
        nn.Synaptic(alpha=1.5)
    with pytest.raises(UserError, match="beta"):
        nn.LI(beta=0.0)
    with pytest.raises(ShapeError, match=r"\(9,\)"):
        nn.LI().run(torch.zeros(2, 3, 4), torch.zeros(9))
    with pytest.raises(ShapeError, match=r"\(9,\)"):
        nn.Synaptic().run(torch.zeros(2, 3, 4), (torch.zeros(3, 4), torch.zeros(9)))
    with pytest.raises(ShapeError, match="RecurrentLIF takes"):
        nn.RecurrentLIF(nn.Linear(4, 4))(torch.zeros(4))
