"""Constants of neurons, one number or one for each: against the slow neuron, and in everything that keeps them."""

import copy

import pytest
import torch
from reference import DENOMINATORS, RESETS, lif_reward, lif_run, surviving

from spikelfp import kernels, nn, propagate, rules
from spikelfp.errors import CheckpointError, ShapeError, UserError
from spikelfp.functional.lif import FLOOR, MARGIN, PAPER_FLOOR, PAPER_MARGIN, LIFParameters
from spikelfp.kernels import numba_scan, torch_scan
from spikelfp.training import checkpoint

EPS = 1e-6
BETA = torch.tensor([0.4, 0.81, 0.95, 1.0], dtype=torch.float64)
THETA = torch.tensor([0.3, 1.0, 0.7, 1.4], dtype=torch.float64)


def currents(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)), dtype=torch.float64)


@pytest.mark.parametrize("name", ["torch", "numba"])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("denominator", DENOMINATORS)
@pytest.mark.parametrize("floor", [0.0, 1.0])
def test_each_neuron_has_its_own_constants(floor, reset, denominator, name, monkeypatch):
    monkeypatch.setenv(kernels.KERNELS, name)
    x, rewards = currents(9, 3, 4).requires_grad_(), currents(9, 3, 4) + 1
    layer = nn.LIF(BETA, THETA, reset, denominator, learn_beta=True, floor=floor, rule=rules.Epsilon(EPS))
    spikes = layer(x)
    propagate(spikes, rewards)
    steps = torch.zeros(4, dtype=torch.float64)
    for b in range(3):
        for j in range(4):
            own, beta, theta = x[:, b, j].tolist(), float(BETA[j]), float(THETA[j])
            fired, membranes = lif_run(own, beta, theta, reset)
            assert spikes[:, b, j].tolist() == fired
            n = lif_reward(rewards[:, b, j].tolist(), own, beta, theta, reset, denominator, EPS, floor=floor)
            torch.testing.assert_close(x.grad[:, b, j], torch.tensor(n, dtype=torch.float64))
            steps[j] += sum(beta * surviving(membranes[t - 1], theta, reset) * n[t] for t in range(1, 9))
    torch.testing.assert_close(-layer.decay.grad, steps)


@pytest.mark.parametrize("rule", [rules.Epsilon(), rules.Surrogate(), rules.Gradient()], ids=repr)
@pytest.mark.parametrize(
    "make",
    [
        lambda beta, theta: nn.LIF(beta, theta, learn_beta=True),
        lambda beta, theta: nn.Synaptic(beta * 0.9, beta, theta, "zero", learn_beta=True),
        lambda beta, theta: nn.RecurrentLIF(nn.Identity(), beta, theta, "immediate"),
        lambda beta, theta: nn.LI(beta),
    ],
    ids=["LIF", "Synaptic", "RecurrentLIF", "LI"],
)
def test_a_layer_of_channels_is_its_channels_side_by_side(make, rule):
    """Vectors ``[C, 1, 1]`` in one layer against ``C`` layers of one number, in outputs, messages and steps of β."""
    x = currents(7, 2, 3, 4, 5).requires_grad_()
    numbers = BETA.float().double(), THETA
    beta, theta = (each[:3].view(3, 1, 1) for each in numbers)
    whole = make(beta, theta)
    parts = [make(float(b), float(t)) for b, t in zip(*numbers, strict=True)][:3]
    for layer in (whole, *parts):
        rules.attach(layer.double(), rule)
    message = currents(7, 2, 3, 4, 5)
    outputs = whole(x)
    apart = [part(x[:, :, c : c + 1]) for c, part in enumerate(parts)]
    torch.testing.assert_close(outputs, torch.cat(apart, 2))
    send = propagate if isinstance(rule, rules.Epsilon) else (lambda out, own: out.backward(own))
    send(outputs, message)
    found, x.grad = x.grad, None
    for c, out in enumerate(apart):
        send(out, message[:, :, c : c + 1])
    torch.testing.assert_close(found, x.grad, rtol=1e-5, atol=1e-8)
    if getattr(whole, "decay", None) is not None:
        steps = torch.stack([part.decay.grad for part in parts]).view(3, 1, 1)
        torch.testing.assert_close(whole.decay.grad, steps.to(whole.decay.grad.dtype), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("constant", [False, True])
def test_a_number_and_a_tensor_of_it_are_the_same_to_the_last_bit(reset, constant):
    current = currents(12, 3, 4).float()
    current = current[:1].expand(12, -1, -1) if constant else current
    start, message = torch.randn(3, 4), torch.randn(12, 3, 4)
    one = LIFParameters(0.9, 0.3, reset)
    many = LIFParameters(torch.full((4,), 0.9), torch.full((1,), 0.3), reset)
    for scan in (numba_scan, torch_scan):
        runs = [scan.forward(current, start, p) for p in (one, many)]
        for a, b in zip(*runs, strict=True):
            assert torch.equal(a, b)
        backs = [scan.reverse(message, None, start, None, start, p, EPS, constant, current) for p in (one, many)]
        for a, b in zip(*backs, strict=True):
            assert torch.equal(a, b)
    values = [numba_scan.integrate(current, start, p.beta, False) for p in (one, many)]
    assert torch.equal(*values)
    torch.testing.assert_close(torch_scan.integrate(current, start, many.beta, True),
                               numba_scan.integrate(current, start, many.beta, True), rtol=0, atol=0)  # fmt: skip


BAD = {
    "above 1": (lambda: nn.LIF(torch.tensor([0.5, 1.25])), UserError, r"beta must lie in \(0, 1\], got 1.25 at \[1\]"),
    "nan": (lambda: nn.LIF(threshold=torch.tensor([[1.0, torch.nan]])), UserError, r"got nan at \[0, 1\]"),
    "infinite": (lambda: nn.LIF(threshold=torch.tensor([torch.inf])), UserError, r"finite.*got inf at \[0\]"),
    "zero": (lambda: nn.Synaptic(torch.zeros(2)), UserError, r"alpha.*got 0.0 at \[0\]"),
    "list": (lambda: nn.LIF([0.5, 0.6]), UserError, "torch.as_tensor"),
    "empty": (lambda: nn.LIF(torch.zeros(0)), UserError, "dense tensor"),
    "booleans": (lambda: nn.LIF(torch.ones(2, dtype=torch.bool)), UserError, "real numbers"),
    "learns elsewhere": (lambda: nn.LIF(torch.nn.Parameter(torch.rand(2))), UserError, "learn_beta=True"),
    "another shape": (lambda: nn.LIF(torch.ones(3))(torch.ones(2, 1, 4)), ShapeError, r"shape \[4\]"),
    "channels": (
        lambda: nn.LIF(threshold=torch.ones(3))(torch.ones(2, 1, 3, 5, 5)),
        ShapeError,
        r"threshold has shape \[3\].*\[3, 1, 1\].*threshold.view\(3, 1, 1\)",
    ),
    "alpha": (lambda: nn.Synaptic(torch.ones(3))(torch.ones(2, 1, 4)), ShapeError, r"alpha has shape \[3\]"),
    "integrator": (lambda: nn.LI(torch.ones(3))(torch.ones(2, 1, 4)), ShapeError, r"beta has shape \[3\]"),
    "counts": (lambda: nn.MultiSpikeLIF(torch.ones(3))(torch.ones(2, 1, 4)), ShapeError, r"beta has shape \[3\]"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_refused(case):
    make, error, words = BAD[case]
    with pytest.raises(error, match=words):
        make()


def test_a_vector_is_a_buffer_and_a_number_is_none():
    defaults = {"floor": FLOOR, "margin": MARGIN}
    assert list(nn.Synaptic().state_dict()) == []
    layer = nn.Synaptic(BETA, BETA, THETA)
    assert set(layer.state_dict()) == {"alphas", "betas", "thresholds"}
    assert layer.beta is layer.betas
    other = nn.Synaptic(*(torch.full((4,), 0.5, dtype=torch.float64) for _ in range(3)))
    other.load_state_dict(layer.state_dict())
    assert other.constants == layer.constants
    assert torch.equal(other.alpha, BETA)
    layer.beta = 0.5
    assert set(layer.state_dict()) == {"alphas", "thresholds"}
    assert layer.constants == LIFParameters(0.5, THETA, **defaults)
    layer.constants = LIFParameters(BETA, 0.5)
    assert (layer.floor, layer.margin) == (PAPER_FLOOR, PAPER_MARGIN)
    assert set(layer.state_dict()) == {"alphas", "betas"}


def test_the_layer_holds_its_own_values_and_looks_at_them_again_when_they_change():
    given = BETA.clone()
    layer = nn.LIF(given)
    given[0] = 7.0
    x = currents(3, 1, 4)
    before = layer(x)
    assert torch.equal(before, nn.LIF(BETA)(x))
    layer.betas[0] = 0.9
    assert torch.equal(layer(x), nn.LIF(torch.cat([BETA.new_tensor([0.9]), BETA[1:]]))(x))
    layer.betas[2] = 1.5
    with pytest.raises(UserError, match=r"got 1.5 at \[2\]"):
        layer(x)
    with torch.inference_mode():
        made_there = nn.LIF(BETA)
        assert torch.equal(made_there(x), before)


def test_what_was_run_forward_is_what_runs_back():
    x, layer = currents(5, 2, 4).requires_grad_(), nn.LIF(BETA, THETA)
    spikes = layer(x)
    layer.betas.fill_(0.1)
    propagate(spikes, torch.ones_like(spikes))
    found, x.grad = x.grad, None
    spikes = nn.LIF(BETA, THETA)(x)
    propagate(spikes, torch.ones_like(spikes))
    assert torch.equal(found, x.grad)


def test_kinds_of_floats():
    """Constants stay in at least float32, and a membrane keeps its own kind."""
    layer = nn.LIF(torch.full((4,), 0.999)).bfloat16()
    assert layer.betas.dtype == torch.float32
    assert nn.LIF(BETA)(torch.ones(2, 1, 4)).dtype == torch.float32
    assert nn.LIF(BETA.float())(torch.ones(2, 1, 4).double()).dtype == torch.float64
    assert layer.double().betas.dtype == torch.float64


def test_equality_hash_and_texts_are_short():
    p = LIFParameters(BETA, 1.0)
    assert p == copy.deepcopy(p)
    assert hash(p) == hash(copy.deepcopy(p))
    assert p != LIFParameters(0.9, 1.0)
    assert p != LIFParameters(BETA * 0.5, 1.0)
    assert p != LIFParameters(BETA[:3], 1.0)
    assert repr(p) == "LIFParameters(beta=0.4…1 [4], threshold=1.0, reset='subtract', denominator='inflow')"
    assert "threshold=0.3…1.4 [4]" in repr(nn.LIF(threshold=THETA))
    assert repr(nn.LI(torch.full((4, 1, 1), 0.5))) == "LI(beta=0.5 [4, 1, 1])"


def test_a_decay_of_each_neuron_that_learns_stays_in_its_range():
    layer = nn.LIF(BETA, learn_beta=True)
    assert set(layer.state_dict()) == {"decay"}
    layer.decay.data.copy_(torch.tensor([7.0, -7.0, 0.5, 0.75]))
    assert layer.constants.beta.tolist() == [1.0, 1e-3, 0.5, 0.75]
    layer.beta = 0.25
    assert layer.decay.tolist() == [0.25] * 4
    with pytest.raises(UserError, match=r"shape \[4\], got one of shape \[3\]"):
        layer.beta = torch.ones(3)


def test_checkpoints_carry_them(tmp_path):
    path = tmp_path / "checkpoint.pt"

    def network(beta, theta=1.0):
        return nn.Sequential(nn.Linear(3, 4), nn.LIF(beta, theta))

    first = network(BETA)
    checkpoint.write(path, {"weights": first.state_dict(), "network": checkpoint.constants(first)})
    other = network(torch.full_like(BETA, 0.5))
    checkpoint.load_weights(path, other)
    assert torch.equal(other[1].beta, BETA)
    with pytest.raises(CheckpointError, match="from another"):
        checkpoint.load_weights(path, network(0.9))
    with pytest.raises(CheckpointError, match="from another"):
        checkpoint.load_weights(path, network(BETA, 0.5))
    weights = {**first.state_dict(), "1.betas": BETA * 2}
    checkpoint.write(path, {"weights": weights, "network": checkpoint.constants(first)})
    with pytest.raises(CheckpointError, match=r"1.betas.*must lie in \(0, 1\], got 1.62 at \[1\]"):
        checkpoint.load_weights(path, network(BETA))


def test_a_value_written_past_the_counter_of_torch_is_seen():
    layer, x = nn.LIF(BETA), 3 * currents(5, 2, 4)
    layer(x)
    layer.betas.data[0] = 0.9
    assert torch.equal(layer(x), nn.LIF(layer.betas)(x))
    layer.betas.data[1] = 2.0
    with pytest.raises(UserError, match=r"got 2.0 at \[1\]"):
        layer(x)


def test_the_tensor_behind_a_constant_is_the_constant():
    layer = nn.LIF(0.5)
    layer.betas = BETA
    assert torch.equal(layer.beta, BETA)
    for wrong in (None, torch.full((4,), 2.0), "fast"):
        with pytest.raises(UserError, match="beta"):
            layer.betas = wrong
    assert torch.equal(layer.beta, BETA)


@pytest.mark.parametrize("beta", [0.5, BETA])
def test_a_decay_can_stop_learning_and_begin_to(beta):
    layer = nn.LIF(beta, learn_beta=True)
    layer.decay = None
    assert not layer.learn_beta
    assert layer.constants == LIFParameters(beta, floor=FLOOR, margin=MARGIN)
    layer.decay = torch.nn.Parameter(BETA.clone())
    assert set(layer.state_dict()) == {"decay"}
    assert torch.equal(layer.beta, BETA)


@pytest.mark.parametrize("make", [nn.LIF, nn.LI, nn.Synaptic, nn.ALIF, nn.Alpha])
def test_one_number_that_requires_grad_is_refused_as_a_vector_is(make):
    with pytest.raises(UserError, match="requires grad"):
        make(torch.nn.Parameter(torch.tensor(0.5)))


@pytest.mark.parametrize("kind", [nn.RecurrentLIF, nn.RecurrentSynaptic, nn.RecurrentALIF])
def test_connections_that_are_none_or_lead_elsewhere(kind):
    for wrong in (True, 0, -1, 4.0, None, torch.eye(4)):
        with pytest.raises(UserError, match="recurrent is a layer"):
            kind(wrong)
    for trace in (False, True):
        with pytest.raises(ShapeError, match=r"returns \[1, 2, 1\] for spikes of shape \[1, 2, 4\]"):
            kind(nn.Linear(4, 1)).run(torch.rand(3, 2, 4), trace=trace)
    for state in (torch.zeros(2, 4), (torch.zeros(2, 4),), "rest", 0):
        with pytest.raises(ShapeError, match="a tuple of spikes"):
            kind(4).run(torch.rand(3, 2, 4), state)


class Plain(nn.Neurons):
    gain = 2

    def __init__(self, kappa=0.1, mode="soft"):
        super().__init__()
        self.kappa, self.mode, self._calls, self.act = kappa, mode, 0, torch.tanh


@pytest.mark.parametrize(("change", "said"), [
    ({"kappa": 0.2}, "kappa of layer 1 is 0.1 in the checkpoint, 0.2 here"),
    ({"mode": "hard"}, "mode of layer 1 is 'soft' in the checkpoint, 'hard' here"),
])  # fmt: skip
def test_plain_attributes_of_own_layers_are_compared(change, said, tmp_path):
    path, first = tmp_path / "checkpoint.pt", nn.Sequential(nn.Linear(3, 4), Plain())
    assert checkpoint.attributes(first) == {"1.gain": "2", "1.kappa": "0.1", "1.mode": "'soft'"}
    assert "kappa=0.1, mode='soft', beta=0.9" in repr(first)
    checkpoint.write(path, {"weights": first.state_dict(), **checkpoint.network_description(first)})
    first[1]._calls = 7
    checkpoint.load_weights(path, first)
    with pytest.raises(CheckpointError, match=said):
        checkpoint.load_weights(path, nn.Sequential(nn.Linear(3, 4), Plain(**change)))


def test_numbers_beyond_floats_are_refused():
    with pytest.raises(UserError, match="threshold is one number"):
        nn.LIF(threshold=10**400)
