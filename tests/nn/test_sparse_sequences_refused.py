"""Sparse sequences where there is no event-driven way: refused by name, or made dense where only dense products run."""

import pytest
import torch
from sparse_networks import events

from spikelfp import nn
from spikelfp.errors import ShapeError, UserError
from spikelfp.kernels import choice


@pytest.fixture(autouse=True)
def _compiled(monkeypatch):
    """Event-driven products are compiled, whatever kernels the other tests are told to use."""
    monkeypatch.setenv("SPIKELFP_KERNELS", "auto")


WITHOUT_EVENTS = [
    lambda: nn.LIF(), lambda: nn.Synaptic(), lambda: nn.RecurrentLIF(6), lambda: nn.RecurrentSynaptic(6),
    lambda: nn.RecurrentALIF(6),
    lambda: nn.LI(), lambda: nn.MultiSpikeLIF(), lambda: nn.ReLU(), lambda: nn.Tanh(), lambda: nn.Sigmoid(),
    lambda: nn.Heaviside(), lambda: nn.LeakyReLU(), lambda: nn.BatchNorm1d(6), lambda: nn.LayerNorm(6),
    lambda: nn.Scale(2.0), lambda: nn.Noise(0.1), lambda: nn.PositionEmbedding(4, 6), lambda: nn.ClassToken(6),
    lambda: nn.FirstToken(), lambda: nn.MeanToken(), lambda: nn.Sum(nn.Identity(), nn.Identity()),
    lambda: nn.Concat(nn.Linear(6, 6), nn.Identity()), lambda: nn.TokenNorm(6), lambda: nn.BatchNorm2d(2),
    lambda: nn.MaxPool2d(2), lambda: nn.AdaptiveAvgPool2d(2), lambda: nn.ToTokens(), lambda: nn.ELU(),
    lambda: nn.GELU(), lambda: nn.SiLU(), lambda: nn.Alpha(), lambda: nn.Lapicque(0.9), lambda: nn.ALIF(),
]  # fmt: skip
WITH_EVENTS = {
    nn.Linear, nn.Conv2d, nn.Flatten, nn.FlattenAxes, nn.AvgPool2d, nn.Dropout, nn.Identity, nn.SelfAttention,
    nn.SpikingSelfAttention, nn.Delay, nn.Taps, nn.TapLinear, nn.DelayLinear,
}  # fmt: skip
NO_LAYERS_OF_THEIR_OWN = {nn.Layer, nn.Activation, nn.Neurons, nn.Sequential, nn.Block, nn.Recomputed}


def test_every_layer_is_told_about():
    every = {kind for kind in vars(nn).values() if isinstance(kind, type) and issubclass(kind, nn.Layer)}
    refusing = {type(make()) for make in WITHOUT_EVENTS}
    assert every == refusing | WITH_EVENTS | NO_LAYERS_OF_THEIR_OWN


@pytest.mark.parametrize("make", WITHOUT_EVENTS, ids=lambda make: type(make()).__name__)
@pytest.mark.parametrize("training", [True, False])
def test_other_layers_say_so(make, training):
    layer = make()
    layer.train(training or isinstance(layer, nn.Noise))  # which does nothing in evaluation
    for x in (events(3, 2, 6), events(3, 2, 4, 6), events(3, 2, 2, 6, 6)):
        for way in (layer, layer.run):
            with pytest.raises(ShapeError, match=rf"{type(layer).__name__} has no event-driven way.*x\.to_dense\(\)"):
                way(x.to_sparse())


BAD = {
    "requires grad": (lambda x: x.to_sparse().requires_grad_(), UserError, r"requires grad.*x\.detach\(\)"),
    "rows": (lambda x: torch.ones_like(x).to_sparse_csr(), ShapeError, "sparse_csr"),
    "dense dimensions": (lambda x: x.to_sparse(2), ShapeError, "with 1 of them"),
    "integers": (lambda x: x.int().to_sparse(), ShapeError, r"torch.int32: spikes are 0.0 and 1.0, x.float\(\)"),
    "outside": (
        lambda x: torch.sparse_coo_tensor(
            [[0, 5], [1, 0], [2, 3]], torch.ones(2), x.shape, is_coalesced=True, check_invariants=False
        ),
        ShapeError, "outside of it: its indices of axis 0 run from 0 to 5",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_sparse_sequence(kind):
    make, error, message = BAD[kind]
    x = make((torch.rand(3, 2, 6) < 0.5).float())
    for layer in (nn.Linear(6, 4), nn.Flatten(), nn.FlattenAxes(0, 0)):
        with pytest.raises(error, match=message):
            layer(x)


def test_shapes_that_do_not_fit():
    x = events(3, 2, 2, 6, 6).to_sparse()
    for layer in (nn.Linear(7, 2), nn.Conv2d(3, 4, 3), nn.AvgPool2d(7), nn.FlattenAxes(1, 3)):
        with pytest.raises(ShapeError):
            layer(x)
    with pytest.raises(ShapeError):
        nn.Flatten()(events(3, 2).to_sparse())
    for layer in (nn.AvgPool2d(3, 2), nn.AvgPool2d(2, padding=1), nn.AvgPool2d(2, ceil_mode=True)):
        with pytest.raises(ShapeError, match=r"touch.*x\.to_dense\(\)"):
            layer(x)
    torch.testing.assert_close(
        nn.AvgPool2d(2, divisor_override=3)(x).to_dense(), nn.AvgPool2d(2, divisor_override=3)(x.to_dense())
    )


def without_kernels(kind, net, x):
    """Run where there is no event-driven kernel."""
    if kind == "half":
        with torch.no_grad():
            return net.half()(x.half())
    with torch.autocast("cpu", torch.bfloat16, enabled=kind == "autocast"):
        return net(x)


@pytest.mark.parametrize("kind", ["never", "autocast", "half"])
def test_where_no_event_driven_product_runs(monkeypatch, kind):
    if kind == "never":
        monkeypatch.setenv(choice.EVENTS, "never")
    net = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(2, 4, 3, padding=1), nn.Flatten(), nn.Linear(100, 5))
    x = events(4, 3, 2, 10, 10)
    a, b = (without_kernels(kind, net, given) for given in (x, x.to_sparse()))
    assert a.dtype == b.dtype
    assert torch.equal(a, b)


@pytest.mark.parametrize("side", [1, 2])
def test_borders_that_are_not_zeros(side):
    layer = nn.Conv2d(2, 4, 3, padding=1, padding_mode="circular")
    x = events(4, 3, 2, 10, 10)
    assert torch.equal(layer.pooled(x, side), layer.pooled(x.to_sparse(), side))
