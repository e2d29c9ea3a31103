"""Sparse sequences through layers and networks: the same as dense ones, and never made dense on the way."""

import tracemalloc

import pytest
import torch
from plain_run import assert_same
from sparse_networks import NETWORKS, convolutional, dense, events, exact, pooled

from spikelfp import analysis, nn, propagate, rewards, rules
from spikelfp.analysis import HeldMemory
from spikelfp.functional.credit import backward_pass
from spikelfp.functional.sequence import is_constant
from spikelfp.kernels import choice
from spikelfp.machine import pool
from spikelfp.quantized import Quantization, WeightGrids
from spikelfp.training.update import check_gradients, wake_silent_layers


@pytest.fixture(autouse=True)
def _compiled(monkeypatch):
    """Event-driven products are compiled, whatever kernels the other tests are told to use."""
    monkeypatch.setenv("SPIKELFP_KERNELS", "auto")


@pytest.fixture
def never_dense(monkeypatch):
    """Nothing sparse may be made dense."""

    def refuse(*arguments, **options):
        raise AssertionError("a sparse tensor was made dense")

    monkeypatch.setattr(torch.Tensor, "to_dense", refuse)


RULES = [
    rules.Epsilon(), rules.Epsilon(normalize=True), rules.Zero(), rules.AlphaBeta(), rules.ZPlusMinus(),
    rules.Gamma(), rules.Gradient(), rules.Surrogate(slope=5),
]  # fmt: skip


def update(net, x, rule, seed=0):
    """Output and updates of the parameters."""
    torch.manual_seed(seed)
    net.zero_grad()
    with rules.using(net, rule):
        out = net(x)
    message = torch.randn_like(out)
    if isinstance(rule, rules.Feedback):
        propagate(out, message)
    else:
        out.backward(message)
    return [out.detach(), *(p.grad.clone() for p in net.parameters())]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("kind", NETWORKS)
def test_the_same_bits_under_every_rule(monkeypatch, kind, rule):
    """Where the dense input goes by events too, and nothing but the way to them differs."""
    monkeypatch.setenv(choice.EVENTS, "always")
    net, shape = NETWORKS[kind]()
    x = events(7, 4, *shape, levels=4)
    if isinstance(rule, rules.AlphaBeta):
        x = x - 2 * events(7, 4, *shape, density=0.02)  # contributions of either sign
    results = [update(net, given, rule) for given in (x, x.to_sparse())]
    assert results[0][0].any()
    if not isinstance(rule, rules.AlphaBeta):
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    for a, b in zip(*results, strict=True):  # halves of either sign are dense with many zeros, or sparse without
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", NETWORKS)
def test_nothing_is_made_dense(never_dense, kind):
    net, shape = NETWORKS[kind]()
    x = events(7, 4, *shape).to_sparse()
    for rule in RULES:
        assert len(update(net, x, rule)) == len(list(net.parameters())) + 1


@pytest.mark.parametrize("kind", NETWORKS)
def test_equal_to_dense_products_up_to_rounding(monkeypatch, kind):
    net, shape = NETWORKS[kind]()
    exact(net)
    x = events(7, 4, *shape, levels=2)
    sparse = update(net, x.to_sparse(), rules.Gradient())
    monkeypatch.setenv(choice.EVENTS, "never")
    for a, b in zip(update(net, x, rules.Gradient()), sparse, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layers", ["dense", "pooled", "convolved"])
def test_memory_is_that_of_the_events(layers):
    make = {
        "dense": lambda: nn.Sequential(nn.Flatten(), nn.Linear(8192, 4)),
        "pooled": lambda: nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(128, 4)),
        "convolved": lambda: nn.Sequential(nn.Conv2d(8, 4, 8, stride=8), nn.Flatten(), nn.Linear(64, 4)),
    }
    net, shape = make[layers](), (100, 4, 8, 32, 32)
    places = torch.stack([torch.randint(size, (9000,)) for size in shape])
    x = torch.sparse_coo_tensor(places, torch.ones(9000), shape, check_invariants=True).coalesce()
    with HeldMemory(), backward_pass():  # what is compiled and imported at first use is not counted
        net(x).sum().backward()
    pool.release()
    tracemalloc.start()
    try:
        with HeldMemory() as held, backward_pass():
            net(x).sum().backward()
        most = held.peak + tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    dense = 4 * x.numel()
    assert most < (0.5 if layers == "convolved" else 0.2) * dense  # for a convolution all positions have an entry


def test_order_and_zeros_do_not_matter():
    layer = nn.Linear(20, 5)
    x = events(4, 3, 20, density=0.3)
    sparse = x.to_sparse()
    order = torch.randperm(sparse._nnz())
    indices = torch.cat([sparse.indices()[:, order]] * 2 + [torch.zeros(3, 1, dtype=torch.int64)], 1)
    values = torch.cat([sparse.values()[order] * 0.25, sparse.values()[order] * 0.75, torch.zeros(1)])
    scrambled = torch.sparse_coo_tensor(indices, values, x.shape, check_invariants=True)
    assert not scrambled.is_coalesced()
    assert torch.equal(layer(scrambled), layer(sparse))


def test_tokens_and_empty_sequences():
    tokens = events(3, 2, 6, 20)
    layer = nn.Linear(20, 4)
    torch.testing.assert_close(layer(tokens.to_sparse()), layer(tokens))
    torch.testing.assert_close(nn.SelfAttention(20, 2)(tokens.to_sparse()).shape, torch.Size([3, 2, 6, 20]))
    for net, shape in (convolutional(), dense(), pooled()):
        silent = torch.zeros(3, 2, *shape)
        assert torch.equal(net(silent.to_sparse()), net(silent))
        assert net(torch.zeros(3, 0, *shape).to_sparse()).shape == (3, 0, 10)


@pytest.mark.parametrize("training", [True, False])
def test_layers_that_keep_it_sparse(never_dense, training):
    x = events(5, 3, 2, 9, 8, density=0.3, levels=3)
    for layer in (nn.Flatten(), nn.FlattenAxes(1, 2), nn.Dropout(0.5), nn.Identity(), nn.AvgPool2d(3), nn.Noise(0.0)):
        layer.train(training)
        torch.manual_seed(5)
        sparse = layer(x.to_sparse())
        torch.manual_seed(5)
        expected = layer(x)
        assert sparse.is_sparse, layer
        assert sparse.shape == expected.shape
        assert sparse._nnz() == int(expected.count_nonzero())
        filled = torch.zeros(sparse.shape).index_put(tuple(sparse.indices()), sparse.values())
        assert torch.equal(filled, expected), layer


def test_pooling_runs_as_one_with_the_convolution():
    net, x = nn.Sequential(nn.Conv2d(2, 6, 5), nn.MaxPool2d(2)), events(5, 3, 2, 20, 20)
    out = net(x.to_sparse())
    assert type(out.grad_fn.next_functions[0][0]).__name__ == "EventConvolutionBackward"
    apart = net[1](net[0](x.to_sparse()))
    torch.testing.assert_close(out, apart)


@pytest.mark.parametrize("way", ["masters", "stochastic"])
def test_quantised_weights(monkeypatch, way):
    monkeypatch.setenv(choice.EVENTS, "always")
    net, shape = convolutional()
    WeightGrids(net, Quantization(bits=4, update=way), seed=0)
    x = events(5, 3, *shape)
    dense, sparse = (update(net, given, rules.Epsilon()) for given in (x, x.to_sparse()))
    assert dense[0].any()
    assert all(torch.equal(a, b) for a, b in zip(dense, sparse, strict=True))


def test_state_is_carried_over_slices_of_time(monkeypatch):
    monkeypatch.setenv(choice.EVENTS, "always")
    net, shape = convolutional()
    x = events(9, 3, *shape)
    whole, last = net.run(x)
    state, parts = None, []
    for low in range(0, 9, 4):
        part, state = net.run(nn.time_slice(x.to_sparse(), low, low + 4), state)
        parts.append(part)
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(state[-1], last[-1])
    assert torch.equal(net(nn.sample_slice(x.to_sparse(), 1, 3)), net(x[:, 1:3]))


@pytest.mark.parametrize("kind", ["conv", "dense", "recurrent", "pooled"])
def test_recomputed_in_parts(never_dense, kind):
    net, shape = NETWORKS[kind]()
    exact(net)
    x = events(11, 3, *shape).to_sparse()
    plain, again = (update(given, x, rules.Epsilon()) for given in (net, nn.Recomputed(net, 4)))
    assert plain[0].any()
    assert torch.equal(again[0], plain[0])
    assert_same(again[1:], plain[1:], 1e-5)  # of the largest one: the sums over the parts have another order


def test_it_is_not_constant():
    assert not is_constant(events(3, 2, 4).to_sparse())


def test_spikes_are_recorded_and_silent_layers_woken(never_dense):
    net, shape = convolutional()
    x = events(5, 3, *shape).to_sparse()
    seen = analysis.record(net, x)
    assert [tuple(spikes.shape) for spikes in seen.values()] == [(5, 3, 6, 8, 8), (5, 3, 8, 3, 3), (5, 3, 10)]
    for layer in net:
        layer.register_forward_hook(lambda module, inputs, output: None)
    assert torch.equal(analysis.record(net, x)["2"], seen["2"])
    with torch.no_grad():
        net[0].weight.mul_(1e-3)
        net[0].bias.zero_()
    assert set(wake_silent_layers(net, x)) == {"0"}


def test_a_training_step():
    net, shape = convolutional()
    x, labels = events(5, 8, *shape).to_sparse(), torch.randint(10, (8,))
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    reward, earned = rewards.SpikeSequence(), []
    for step in range(30):
        optimizer.zero_grad()
        out = net(x)
        earned.append(float(reward(out, labels).abs().mean()))
        propagate(out, reward(out, labels) / 8)
        check_gradients(net, x, step)
        optimizer.step()
    assert earned[-1] < 0.5 * earned[0]  # less and less is wrong


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dense", "pooled"])
@pytest.mark.filterwarnings("ignore::UserWarning")  # of the compiler, that it does not know what it leaves alone
def test_the_compiler_leaves_it_alone(kind):
    net, shape = NETWORKS[kind]()
    for steps in (3, 4):
        x = events(steps, 3, *shape).to_sparse()
        expected = net(x)
        assert torch.equal(torch.compile(net, backend="eager")(x), expected)
