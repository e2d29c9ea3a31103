"""Copies, files, dtypes and torch's compiler: the same spikes and updates."""

import copy
import io
import pickle

import pytest
import torch
from nn_networks import NETWORKS, network
from references.cases import RULES, build

from spikelfp import kernels, nn, propagate, rules


def passed(net, x, run=None):
    """Outputs and updates of a network, for a reward that depends on nothing."""
    net.zero_grad()
    out = (net if run is None else run)(x)
    propagate(out, torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out))
    return out.detach(), [p.grad.clone() for p in net.parameters()]


def assert_same(first, second, tolerance=1e-9):
    torch.testing.assert_close(first[0], second[0], rtol=tolerance, atol=tolerance)
    for a, b in zip(first[1], second[1], strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance * max(1.0, a.abs().max().item()))


@pytest.mark.parametrize("rule", ["epsilon", "alpha2beta1", "zplusminus", "gamma"])
@pytest.mark.parametrize("name", NETWORKS)
def test_copies_and_pickles_behave_alike(name, rule):
    net, x = network(name)
    rules.attach(net, RULES[rule])
    expected = passed(net, x)
    assert any(grad.any() for grad in expected[1])
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert_same(passed(other, x), expected, 0.0)
        assert all(p.data_ptr() != q.data_ptr() for p, q in zip(net.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_move_to_another_network_by_file(name):
    net, x = network(name)
    net.train()(x)  # running statistics that are not the initial ones
    net.eval()
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    file.seek(0)
    other = network(name)[0]
    assert any(not torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))
    other.load_state_dict(torch.load(file, weights_only=True))
    assert_same(passed(other, x), passed(net, x), 0.0)


@pytest.mark.parametrize("name", NETWORKS)
def test_float32_and_float64_agree(name):
    net, x = network(name, steps=3)
    wide = passed(net, x)
    narrow = passed(net.float(), x.float())
    assert narrow[0].dtype == torch.float32
    assert all(grad.dtype == torch.float32 for grad in narrow[1])
    assert_same((narrow[0].double(), [grad.double() for grad in narrow[1]]), wide, 1e-3)


def alike(grads, expected):
    """Cosine of the angle between two updates of all parameters."""
    return torch.cosine_similarity(*(torch.cat([g.flatten() for g in own]) for own in (grads, expected)), 0).item()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", NETWORKS)
def test_bfloat16_autocast_gives_updates_of_the_same_kind(name, rule):
    """Products run in bfloat16; membranes, statistics and updates stay in float32, near those of rounded operands.

    The other network has inputs and weights as bfloat16 rounds them, and runs in float32: rounding alone moves a
    membrane over the threshold or the margin now and then, and one spike more may turn an update around.
    """
    net, x = network(name, steps=2)
    net, x = net.float().train(), x.float()
    rules.attach(net, RULES[rule])
    rounded = copy.deepcopy(net)
    with torch.no_grad():
        for p in rounded.parameters():
            if p.dim() > 1:  # weights of products, not offsets and decays
                p.copy_(p.bfloat16())
    _, expected = passed(rounded, x.bfloat16().float())
    _, grads = passed(net, x, torch.autocast("cpu", torch.bfloat16)(net))
    assert all(grad.dtype == torch.float32 and torch.isfinite(grad).all() for grad in grads)
    assert alike(grads, expected) > 0.95  # 0.995 and more here; other processors round in another order


@pytest.mark.parametrize("rule", RULES)
def test_bfloat16_autocast_between_layers_without_memory(rule):
    """Activations arrive in bfloat16 at weights in float32, in the backward pass too."""
    layers = [
        nn.Conv2d(1, 2, 3),
        nn.BatchNorm2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8, 4),
        nn.Tanh(),
        nn.Linear(4, 3),
    ]
    net, x = build(RULES[rule], *layers).float(), torch.randn(1, 16, 1, 4, 4)
    _, expected = passed(net, x)
    out, grads = passed(net, x, torch.autocast("cpu", torch.bfloat16)(net))
    assert out.dtype == torch.bfloat16
    assert all(grad.dtype == torch.float32 for grad in grads)
    assert alike(grads, expected) > 0.95


ENDS = {
    "linear": lambda: nn.Linear(5, 3), "relu": nn.ReLU, "heaviside": nn.Heaviside, "lif": lambda: nn.LIF(0.9, 0.3),
    "recurrent": lambda: nn.RecurrentLIF(nn.Linear(5, 5), 0.9, 0.3),
}  # fmt: skip


@pytest.mark.parametrize("end", ENDS)
def test_compiled_networks_give_the_same_updates(end, monkeypatch):
    """The compiler must not swallow the neurons at the output, which take the reward as it is.

    With the kernels that a GPU uses: nothing in them keeps the compiler out.
    """
    monkeypatch.setenv(kernels.KERNELS, "torch")
    torch.compiler.reset()
    net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 5), ENDS[end]())
    rules.attach(net, rules.Composite([(0, rules.AlphaBeta()), (2, rules.ZPlusMinus())]))
    x = torch.randn(2, 3, 4) * 2
    compiled = torch.compile(net, backend="eager")
    assert_same(passed(net, x, compiled), passed(net, x), 1e-5)
