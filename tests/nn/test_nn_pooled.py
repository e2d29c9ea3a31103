"""Convolution and pooling in one go: the same outputs, updates and messages as one after the other."""

import pytest
import torch
from references.cases import RULES, build, plant
from torch.nn.modules.module import register_module_forward_hook

from spikelfp import models, nn, propagate, rules
from spikelfp.functional.credit import backward_pass
from spikelfp.kernels import choice
from spikelfp.kernels.events import conv as convolve


@pytest.fixture(autouse=True)
def _compiled(monkeypatch):
    """Event-driven products are compiled, whatever kernels the other tests are told to use."""
    monkeypatch.setenv("SPIKELFP_KERNELS", "auto")


@pytest.fixture(autouse=True)
def _nothing_is_small(monkeypatch):
    monkeypatch.setattr(convolve, "_SMALLEST", 0)


def passed(net, x):
    """Spikes, updates and the message to the input, for a reward that depends on nothing."""
    net.zero_grad()
    x = x.detach().clone().requires_grad_()
    out = net(x)
    start = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
    if isinstance(net[0].rule, rules.Gradient):
        out.backward(start)
    else:
        propagate(out, start)
    return [out.detach(), x.grad, *(p.grad.clone() for p in net.parameters())]


def assert_same(first, second, tolerance=1e-10):
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance * max(1.0, b.abs().max().item()))


def network(rule):
    net = build(
        rule,
        nn.Conv2d(2, 5, 3), nn.MaxPool2d(2), nn.LIF(0.9, 0.3),
        nn.Conv2d(5, 7, 3, padding=1), nn.MaxPool2d(2), nn.LIF(0.8, 0.3),
        nn.Conv2d(7, 4, 3, padding="same"), nn.LIF(0.8, 0.3),
        nn.Flatten(), nn.Linear(36, 4), nn.LIF(0.9, 0.3),
    )  # fmt: skip
    plant(net)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(16).round_().div_(16)  # sums of a few of them are exact, in whichever order
    return net.float() if isinstance(rule, rules.Surrogate) else net  # snnTorch's spikes are float32


def images(net, steps=6):
    x = torch.randn(steps, 3, 2, 14, 14).mul_(4).round_().div_(2)
    return x.to(net[0].weight.dtype)


def one_by_one(net, x):
    """``net`` with the layers called by hand."""
    chain = torch.nn.Sequential(*net)
    assert type(chain).forward is torch.nn.Sequential.forward
    return passed(chain, x)


ALL_RULES = {**RULES, "gradient": rules.Gradient(), "surrogate": rules.Surrogate(slope=2.0)}


@pytest.mark.parametrize("way", ["always", "auto", "never"])
@pytest.mark.parametrize("rule", ALL_RULES)
def test_every_rule_gives_the_same(monkeypatch, rule, way):
    net = network(ALL_RULES[rule])
    x, tolerance = images(net), 1e-4 if rule == "surrogate" else 1e-10
    monkeypatch.setenv(choice.EVENTS, "never")
    monkeypatch.setattr(convolve, "_SMALLEST", 10**9)  # all torch's own
    expected = one_by_one(net, x)
    assert expected[0].any()
    assert rule == "gradient" or all(update.any() for update in expected[2:])
    monkeypatch.setenv(choice.EVENTS, way)
    monkeypatch.setattr(convolve, "_SMALLEST", 0)
    assert_same(passed(net, x), expected, tolerance)
    assert_same(one_by_one(net, x), expected, tolerance)


def ran_as_one(monkeypatch, net, x, call=lambda net, x: net(x)):
    """The sides with which the convolutions of ``net`` were pooled."""
    sides = []
    whole = nn.Conv2d.pooled
    monkeypatch.setattr(nn.Conv2d, "pooled", lambda self, x, side: sides.append(side) or whole(self, x, side))
    try:
        call(net, x)
    finally:
        monkeypatch.setattr(nn.Conv2d, "pooled", whole)
    return sides


def test_which_pairs_run_as_one(monkeypatch):
    x = torch.randn(2, 2, 2, 14, 14).double()
    assert ran_as_one(monkeypatch, network(rules.Epsilon()), x) == [2, 2, 1]
    assert ran_as_one(monkeypatch, network(rules.Epsilon()), x, lambda net, x: net.run(x)) == [2, 2, 1]
    assert ran_as_one(monkeypatch, network(rules.Gradient()), x) == [2, 2, 1]
    assert ran_as_one(monkeypatch, network(rules.AlphaBeta()), x) == [1, 1, 1]
    composite = rules.Composite([(0, rules.Gamma())])
    assert ran_as_one(monkeypatch, network(composite), x) == [1, 2, 1]


@pytest.mark.parametrize(
    "pooling",
    [
        nn.MaxPool2d(2, 1),
        nn.MaxPool2d(2, padding=1),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.MaxPool2d((2, 3)),
        nn.MaxPool2d(2, dilation=2),
        nn.AvgPool2d(2),
        torch.nn.Identity(),
    ],
    ids=repr,
)
def test_other_poolings_run_by_themselves(monkeypatch, pooling):
    net, x = nn.Sequential(nn.Conv2d(2, 3, 3), pooling).double(), torch.randn(2, 2, 2, 9, 9).double()
    assert ran_as_one(monkeypatch, net, x) == [1]
    torch.testing.assert_close(net(x), torch.nn.Sequential(*net)(x))


@pytest.mark.parametrize("side", [2, 3, (2, 2)])
def test_squares_that_touch(side):
    assert nn.MaxPool2d(side).side == (side if isinstance(side, int) else 2)
    assert nn.MaxPool2d(side, side).side is not None


def test_hooks_see_every_layer(monkeypatch):
    net, x = network(rules.Epsilon()), torch.randn(2, 2, 2, 14, 14).double()
    expected, seen = passed(net, x), []
    handles = [net[1].register_forward_hook(lambda layer, given, out: seen.append((given[0].shape, out.shape)))]
    handles.append(net[3].register_full_backward_hook(lambda layer, to_x, message: seen.append(message[0].shape)))
    assert ran_as_one(monkeypatch, net, x) == [1, 1, 1]
    seen.clear()
    assert_same(passed(net, x), expected)
    assert seen == [((2, 2, 5, 12, 12), (2, 2, 5, 6, 6)), (2, 2, 7, 6, 6)]
    for handle in handles:
        handle.remove()
    assert ran_as_one(monkeypatch, net, x) == [2, 2, 1]
    layers = []
    handle = register_module_forward_hook(lambda layer, given, out: layers.append(layer))
    try:
        assert_same(passed(net, x), expected)
    finally:
        handle.remove()
    assert all(layer in layers for layer in net)


def test_subclasses_run_their_own_forward():
    class Doubled(nn.MaxPool2d):
        def forward(self, x):
            return 2 * super().forward(x)

    class Shifted(nn.Conv2d):
        def forward(self, x):
            return super().forward(x) + 1

    x = torch.randn(2, 3, 1, 8, 8)
    for net in (nn.Sequential(nn.Conv2d(1, 2, 3), Doubled(2)), nn.Sequential(Shifted(1, 2, 3), nn.MaxPool2d(2))):
        torch.testing.assert_close(net(x), net[1](net[0](x)))


def test_a_constant_sequence_stays_one():
    net, images = nn.Sequential(nn.Conv2d(1, 4, 3), nn.MaxPool2d(2)), torch.randn(3, 1, 8, 8)
    out = net(nn.constant(images, 5))
    assert out.stride(0) == 0
    torch.testing.assert_close(
        out[2], torch.nn.functional.max_pool2d(net[0]._conv_forward(images, *net[0].parameters()), 2)
    )


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("options", [{"padding_mode": "reflect", "padding": 1}, {"padding": "same"}])
def test_borders_that_are_not_as_many_zeros_on_either_side(options):
    net, x = nn.Sequential(nn.Conv2d(2, 3, 4, **options), nn.MaxPool2d(2)).double(), torch.randn(2, 2, 2, 9, 9).double()
    assert net[0]._steps() is None
    torch.testing.assert_close(net(x), torch.nn.Sequential(*net)(x))


@pytest.mark.parametrize("margin", [1.0, 0.6])
def test_messages_to_silent_neurons_are_left_out_where_they_earn_nothing(margin, monkeypatch):
    """Only of neurons under an LFP rule; an input of the network, or a surrogate's spike, gets all of them.

    Neurons above the margin get theirs.
    """
    monkeypatch.setenv(choice.EVENTS, "always")
    net = network(rules.Epsilon())
    net[2].margin = margin
    first, rest = net[:3], net[3:]

    def message(inputs):
        spikes = inputs()
        spikes.retain_grad()
        out = rest(spikes)
        propagate(out, torch.linspace(-1, 1, out.numel()).double().view_as(out))
        return spikes.detach(), spikes.grad

    x = images(net)
    spikes, told = message(lambda: first(x))
    _, full = message(lambda: first(x).detach().requires_grad_())
    heard = net[2].run(net[:2](x), trace=True)[0].membrane > margin * net[2].threshold
    assert torch.equal(heard, spikes != 0) == (margin == 1)
    assert full[~heard].any()
    torch.testing.assert_close(told, full * heard, rtol=1e-10, atol=1e-10)
    rules.attach(net.float(), rules.Surrogate(slope=2.0))
    spikes = first(x.float())
    spikes.retain_grad()
    with backward_pass():
        rest(spikes).sum().backward()
    assert spikes.grad[spikes == 0].any()


def test_a_spiking_lenet_learns_the_same_with_and_without_events(monkeypatch):
    x = nn.constant(torch.rand(3, 1, 28, 28, dtype=torch.float64), 5)

    def trained(way):
        monkeypatch.setenv(choice.EVENTS, way)
        torch.manual_seed(1)
        net = models.lif_lenet(threshold=0.4).double()
        optimiser = torch.optim.SGD(net.parameters(), 0.05)
        for _ in range(3):
            optimiser.zero_grad()
            out = net(x)
            propagate(out, torch.linspace(-1, 1, out.numel()).double().view_as(out))
            optimiser.step()
        return [out.detach(), *(p.detach() for p in net.parameters())], [net[0].choice.events, net[3].choice.events]

    (plain, without), (events, with_them), (auto, _) = (trained(way) for way in ("never", "always", "auto"))
    assert without == [False, False]
    assert with_them == [True, True]
    assert plain[0].any()
    assert_same(events, plain, 1e-9)
    assert_same(auto, plain, 1e-9)
