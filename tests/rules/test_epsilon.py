"""LFP-ε against the slow version that sums the reward of every connection."""

from itertools import pairwise

import pytest
import reference
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import DENOMINATORS, RESETS

from spikelfp import nn, propagate, rewards, rules
from spikelfp.errors import NonFiniteError, ShapeError, UserError

EPS = 1e-6


def layers_of(net):
    return [(m.weight.tolist(), m.bias.tolist()) for m in net if isinstance(m, nn.Linear)]


def grads_of(net):
    return [(m.weight.grad, m.bias.grad) for m in net if isinstance(m, nn.Linear)]


def assert_updates(net, slow, tolerance=1e-10):
    """``.grad`` is −d_w of the slow version, summed over samples."""
    for (grad_w, grad_b), parts in zip(grads_of(net), zip(*slow, strict=True), strict=True):
        dw = sum(torch.tensor(w, dtype=torch.float64) for w, _ in parts)
        db = sum(torch.tensor(b, dtype=torch.float64) for _, b in parts)
        torch.testing.assert_close(-grad_w, dw, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(-grad_b, db, rtol=tolerance, atol=tolerance)


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=2, max_size=4),
    steps=st.integers(1, 8),
    batch=st.integers(1, 3),
    beta=st.floats(0.1, 1.0),
    reset=st.sampled_from(RESETS),
    denominator=st.sampled_from(DENOMINATORS),
    seed=st.integers(0, 1000),
)
def test_lif_networks_of_any_shape(sizes, steps, batch, beta, reset, denominator, seed):
    torch.manual_seed(seed)
    net = nn.Sequential()
    for a, b in pairwise(sizes):
        net.extend([nn.Linear(a, b), nn.LIF(beta, 0.4, reset, denominator)])
    net.double()
    x = torch.randn(steps, batch, sizes[0], dtype=torch.float64) * 2
    spikes = net(x)
    reward = torch.randn_like(spikes)
    propagate(spikes, reward)
    layers = layers_of(net)
    slow = [
        reference.lif_network_updates(
            x[:, b].tolist(),
            layers,
            reward[:, b].tolist(),
            beta,
            0.4,
            reset,
            denominator,
            EPS,
            net[1].floor,
            net[1].margin,
        )
        for b in range(batch)
    ]
    assert_updates(net, slow, 1e-8)


def test_constant_input_gives_the_updates_of_the_written_out_sequence():
    nets = [nn.Sequential(nn.Linear(6, 20), nn.LIF(), nn.Linear(20, 4), nn.LIF()).double() for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    images = torch.rand(5, 6, dtype=torch.float64) * 3
    inputs = (nn.constant(images, 11), nn.constant(images, 11).clone())
    for net, x in zip(nets, inputs, strict=True):
        spikes = net(x)
        assert spikes.mean() > 0
        propagate(spikes, torch.linspace(-1, 1, spikes.numel(), dtype=torch.float64).view_as(spikes))
    for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("layer", "phi"), [(nn.ReLU, lambda z: max(z, 0.0)), (nn.Heaviside, lambda z: float(z > 0))])
def test_static_networks(layer, phi):
    net = nn.Sequential(nn.Linear(5, 8), layer(), nn.Linear(8, 7), layer(), nn.Linear(7, 3)).double()
    x = torch.randn(1, 4, 5, dtype=torch.float64)
    out = net(x)
    reward = torch.randn_like(out)
    propagate(out, reward)
    phis = [phi, phi, lambda z: z]
    slow = [
        reference.static_updates(x[0, b].tolist(), layers_of(net), phis, reward[0, b].tolist(), EPS) for b in range(4)
    ]
    assert_updates(net, slow)


def test_heaviside_outputs_are_rewarded_for_silence_too():
    net = nn.Sequential(nn.Linear(5, 4), nn.Heaviside()).double()
    x = torch.randn(1, 3, 5, dtype=torch.float64)
    out = net(x)
    assert 0 < out.mean() < 1
    reward = torch.randn_like(out)
    propagate(out, reward)
    slow = [
        reference.static_updates(x[0, b].tolist(), layers_of(net), [lambda z: float(z > 0)], reward[0, b].tolist(), EPS)
        for b in range(3)
    ]
    assert_updates(net, slow)


@pytest.mark.parametrize("outputs", ["softmax", "sigmoid", "mse"])
def test_theorem_1(outputs):
    """With r_c = o_c (−dL/do_c) the update of a ReLU net is |w| times that of gradient descent."""
    net = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(3, 4, 3, padding=1), nn.AvgPool2d(2), nn.ReLU(),
        nn.Flatten(), nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, 3),
    ).double()  # fmt: skip
    x = torch.randn(1, 5, 2, 10, 10, dtype=torch.float64)
    y = torch.tensor([0, 2, 1, 1, 0])
    target = F.one_hot(y, 3).double()
    with rules.using(net, rules.Gradient()):
        out = net(x)[0]
    loss = {
        "softmax": lambda: F.cross_entropy(out, y, reduction="sum"),
        "sigmoid": lambda: F.binary_cross_entropy_with_logits(out, target, reduction="sum"),
        "mse": lambda: ((out - target) ** 2).sum() / 2,
    }[outputs]()
    (slope,) = torch.autograd.grad(loss, out, retain_graph=True)
    loss.backward()
    gradient = {name: p.grad.clone() for name, p in net.named_parameters()}
    net.zero_grad()
    out = net(x)
    reward = {"softmax": rewards.Softmax(), "sigmoid": rewards.Sigmoid()}.get(outputs)
    r = reward(out, y) if reward else out.detach() * -slope
    torch.testing.assert_close(r.view_as(slope), out[0].detach() * -slope)
    for layer in net:
        if isinstance(layer, (nn.ReLU, nn.Linear, nn.Conv2d)):
            layer.rule = rules.Epsilon(eps=1e-14)
    net.zero_grad()
    propagate(net(x), r, eps=1e-14)
    for name, p in net.named_parameters():
        torch.testing.assert_close(p.grad, p.detach().abs() * gradient[name], rtol=1e-8, atol=1e-10)


def test_reward_is_conserved_between_layers_without_bias():
    """Σ r of a layer equals Σ r of the next (eq. 3), ε → 0."""
    lower, upper = nn.Linear(6, 9, bias=False), nn.Linear(9, 4, bias=False)
    x = torch.randn(1, 3, 6, dtype=torch.float64)
    hidden = nn.ReLU()(lower.double()(x))
    hidden.retain_grad()
    out = upper.double()(hidden)
    reward = torch.randn_like(out)
    propagate(out, reward, eps=1e-12)
    torch.testing.assert_close((hidden * hidden.grad).sum(), reward.sum(), rtol=1e-6, atol=1e-6)


def test_calls_accumulate_like_backward():
    net = nn.Sequential(nn.Linear(4, 5), nn.LIF(), nn.Linear(5, 3), nn.LIF()).double()
    x = torch.randn(6, 8, 4, dtype=torch.float64) * 3
    reward = torch.randn(6, 8, 3, dtype=torch.float64)
    propagate(net(x), reward)
    whole = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    for part in (slice(0, 3), slice(3, 8)):
        propagate(net(x[:, part]), reward[:, part])
    for p, grad in zip(net.parameters(), whole, strict=True):
        torch.testing.assert_close(p.grad, grad, rtol=1e-10, atol=1e-12)


def test_reward_behind_a_view_of_the_spikes():
    net = nn.Sequential(nn.Linear(4, 6), nn.LIF()).double()
    x = torch.randn(5, 2, 4, dtype=torch.float64) * 3
    reward = torch.randn(5, 2, 6, dtype=torch.float64)
    propagate(net(x), reward)
    direct = net[0].weight.grad.clone()
    net.zero_grad()
    propagate(net(x).permute(1, 0, 2).reshape(2, 30), reward.permute(1, 0, 2).reshape(2, 30))
    torch.testing.assert_close(net[0].weight.grad, direct)


def test_a_reward_of_spike_counts_is_one_of_every_step():
    """A sum over time is linear: each step, spike or no spike, gets the reward of the count."""
    reward = torch.randn(2, 3, dtype=torch.float64)
    found = []
    for rewarded in (lambda s: (s.sum(0), reward), lambda s: (s, reward.expand_as(s))):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 3), nn.LIF(0.9, 0.5)).double()
        spikes = net(torch.randn(6, 2, 4, dtype=torch.float64) * 2)
        assert 0 < spikes.mean() < 1
        propagate(*rewarded(spikes))
        found.append(net[0].weight.grad)
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("how", ["sample", "step"])
def test_the_largest_normalised_reward_of_each_sample_is_one(how):
    net = nn.Sequential(nn.Linear(8, 30), nn.LIF(), nn.Linear(30, 4), nn.LIF()).double()
    with rules.using(net, rules.Epsilon(normalize=how)):
        current = net[0](torch.rand(9, 5, 8, dtype=torch.float64) * 4)
        hidden = net[1](current)
        hidden.retain_grad()
        out = net[2:](hidden)
    propagate(out, torch.randn_like(out) * 1e4, weight=0.25)
    heard = net[1].run(current, trace=True)[0].membrane > net[1].margin * net[1].threshold
    largest = (heard * hidden.grad).abs().amax((0, 2) if how == "sample" else 2)
    assert largest.any()
    torch.testing.assert_close(largest[largest > 0], torch.full_like(largest[largest > 0], 0.25))


END = {
    "spikes": lambda: [nn.LIF(0.9, 0.4)],
    "linear": list,
    "readout": lambda: [nn.LI(0.8)],
    "norm": lambda: [nn.BatchNorm1d(4)],
    "tanh": lambda: [nn.Tanh()],
    "recurrent": lambda: [nn.RecurrentLIF(4, 0.9, 0.4)],
}


@pytest.mark.parametrize("how", ["sample", "step"])
@pytest.mark.parametrize("end", END)
def test_normalised_updates_do_not_depend_on_the_batch_they_come_in(end, how):
    """A.6.4 per sample: the output too, and the size of the initial reward does not matter."""
    net = nn.Sequential(nn.Linear(8, 12), nn.LIF(0.9, 0.4), nn.Linear(12, 4), *END[end]()).double().eval()
    rules.attach(net, rules.Epsilon(normalize=how))
    x, reward = torch.randn(9, 6, 8, dtype=torch.float64) * 2, torch.randn(9, 6, 4, dtype=torch.float64)

    def update(*parts, size=1.0):
        net.zero_grad()
        for part in parts:
            propagate(net(x[:, part]), reward[:, part] * size, weight=1 / 6)
        return [p.grad.clone() for p in net.parameters() if p.grad is not None]

    whole = update(slice(0, 6))
    assert whole[0].any()
    assert whole[2].any()
    for other in (update(slice(0, 1), slice(1, 4), slice(4, 6)), update(slice(0, 6), size=1e3)):
        for a, b in zip(whole, other, strict=True):
            torch.testing.assert_close(b, a, rtol=1e-8, atol=1e-10 if end != "linear" else 1e-6)


def test_unusual_calls_are_refused():
    net = nn.Sequential(nn.Linear(4, 3), nn.LIF())
    x = torch.rand(2, 1, 4)
    with torch.no_grad():
        spikes = net(x)
    with pytest.raises(UserError, match="no graph"):
        propagate(spikes, torch.zeros(2, 1, 3))
    with pytest.raises(ShapeError, match=r"\(2, 1, 4\)"):
        propagate(net(x), torch.zeros(2, 1, 4))
    with pytest.raises(NonFiniteError):
        propagate(net(x), torch.full((2, 1, 3), float("nan")))
    with pytest.raises(UserError, match="eps"):
        rules.Epsilon(eps=0.0)


@pytest.mark.parametrize("how", ["sample", "step"])
@pytest.mark.parametrize("tiny", [1e-45, 1e-42, 1.1e-38])
def test_a_reward_whose_inverse_is_not_finite_counts_as_none(how, tiny):
    """A softmax that is all but certain of a sample leaves such rewards."""
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    rules.attach(net, rules.Epsilon(normalize=how))
    x = torch.rand(2, 3, 3)

    def update(first):
        net.zero_grad()
        outputs = net(x)
        reward = torch.full_like(outputs, 0.5)
        reward[:, 0] = 0.0
        reward[0, 0, 0] = first
        propagate(outputs, reward)
        return [p.grad.clone() for p in net.parameters()]

    none = update(0.0)
    assert none[0].any()
    for a, b in zip(update(tiny), none, strict=True):
        torch.testing.assert_close(a, b)
